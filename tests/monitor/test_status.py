import io
import threading
import time

import pytest
from rich.console import Console
from support.finished_stores import finish, finished_store, targets
from support.run_packs import do
from support.studies import DATA, PACKED, RESPONSE, Killed

from ecg_jax import __main__ as cli
from ecg_jax.files.lease import acquire
from ecg_jax.monitor import status, to_trackers
from ecg_jax.scaling.flops import train_flops_per_record
from ecg_jax.store.layout import open_store
from ecg_jax.store.metrics_log import read_metrics
from ecg_jax.study.packing import plan

pytestmark = pytest.mark.usefixtures("mesh")


def printed(look) -> str:
    console = Console(record=True, width=100)
    console.print(status.shown(look))
    return console.export_text()


@pytest.fixture
def half_done(tmp_path):
    """A study of three trunks that was killed in the cool-down of its second pack."""
    store, heard = open_store(tmp_path, "s", PACKED, {}), []

    def kill(config, step, loss):
        heard.append(config.seed)
        if heard.count(2) == 30:
            raise Killed

    with pytest.raises(Killed):
        do(store, PACKED, DATA, RESPONSE, size=2, on_step=kill)
    return store


def test_a_study_is_seen_before_while_and_after_it_is_done(half_done):
    store = half_done
    look = status.status(store)
    assert len(look.done) == 5 and not look.running and [run.seed for run in look.waiting] == [2]
    assert look.seconds_left > 0 and "5 of 6 runs done" in printed(look)
    (left,) = [pack for pack in plan(store, PACKED, lambda config: 1) if pack.members[0][0].seed == 2]
    with acquire(store.pack(left.pack_id)):
        look = status.status(store)
        assert [pack.pack_id for pack in look.running] == [left.pack_id] and len(look.being_done) == 1
        assert 0 < look.running[0].step <= look.running[0].last_step
        assert "running: 1 x 9,464 parameters, step" in printed(look)
    assert not status.status(store).running
    do(store, PACKED, DATA, RESPONSE, size=2)
    assert not status.status(store).waiting and status.status(store).seconds_left == 0


def test_a_study_that_never_began_has_no_time(tmp_path):
    look = status.status(open_store(tmp_path, "s", PACKED, {}))
    assert look.seconds_left is None and len(look.waiting) == 6 and "0 of 6 runs done" in printed(look)


def test_steps_that_compile_are_no_rate(tmp_path, monkeypatch):
    store, seconds = open_store(tmp_path, "s", PACKED, {}), []
    monkeypatch.setattr(
        status, "read_metrics", lambda _: [{"step": k, "perf/step_seconds": s} for k, s in enumerate(seconds)]
    )
    rates = []
    for taken in (60.0, 5.0, 0.1, 0.1, 0.1):
        seconds.append(taken)
        rates.append(status._running(store, store.pack("p"), PACKED[:1], PACKED[:1]).flops_per_second)
    work = PACKED[0].batch_records * train_flops_per_record(PACKED[0].model)
    assert rates == [None, None, None, work / 0.1, work / 0.1]


def test_watching_ends_with_the_study(half_done, monkeypatch, capsys):
    monkeypatch.setattr(status, "LOOK_SECONDS", 0.05)
    watcher = threading.Thread(target=cli.main, args=(["status", str(half_done.root), "--watch"],))
    watcher.start()
    do(half_done, PACKED, DATA, RESPONSE, size=2)
    watcher.join(timeout=30)
    assert not watcher.is_alive()


def test_off_a_terminal_every_change_is_shown_once(tmp_path, monkeypatch):
    monkeypatch.setattr(status, "LOOK_SECONDS", 0.01)
    wanted, console = targets(), Console(file=io.StringIO(), width=100)
    store = finished_store(tmp_path, wanted, wanted[:1])
    watcher = threading.Thread(target=status.watch, args=([store], console))
    watcher.start()
    while "1 of 2 runs done" not in console.file.getvalue():
        time.sleep(0.01)
    time.sleep(0.1)  # many looks
    finish(store, wanted[1])
    watcher.join(timeout=30)
    heads = [line for line in console.file.getvalue().splitlines() if "runs done" in line]
    assert not watcher.is_alive() and "2 of 2 runs done" in heads[-1]
    assert 2 <= len(heads) == len(set(heads))


def test_logs_are_replayed_to_tensorboard(half_done, tmp_path, capsys):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    assert len({log.identity for log in to_trackers.logs(half_done)}) == len(to_trackers.logs(half_done)) == 3 + 5
    for _ in range(2):  # again, in place of the first
        assert cli.main(["replay", str(half_done.root), "--tensorboard", str(tmp_path / "tb")]) == 0
    assert "s: 8 logs; now: tensorboard --logdir" in capsys.readouterr().out
    (folder,) = (tmp_path / "tb" / "s").glob(f"*{PACKED[0].trunk_id}/trunk")
    events = EventAccumulator(str(folder))
    events.Reload()
    lines = read_metrics(half_done.trunk(PACKED[0]) / "metrics.jsonl")
    for name in ("train/loss", "eval/heldout/loss", "opt/lr"):
        found = [(event.step, event.value) for event in events.Scalars(name)]
        expected = [(line["step"], pytest.approx(line[name], rel=1e-6)) for line in lines if name in line]
        assert found == expected and found
    times = [event.wall_time for event in events.Scalars("train/loss")]
    assert times == sorted(times) and times[0] > 1.7e9
    assert len(list(folder.iterdir())) == 1


def test_a_tool_that_is_not_there_is_named_with_the_remedy(half_done, capsys, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "wandb", None)
    assert cli.main(["replay", str(half_done.root), "--wandb", "ecg"]) == 2
    assert "Weights & Biases is not installed" in capsys.readouterr().err
