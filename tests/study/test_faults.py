"""What a study survives: each fault ends with the tables of an undisturbed run, or with one clear error."""

import dataclasses
import os
import signal
import threading
import time

import jax
import numpy as np
import pandas as pd
import pytest
from etils import epath
from support.run_packs import do
from support.studies import DATA, PACKED, RESPONSE, TARGETS, run, tables

from ecg_jax.distributed.mesh import make_mesh, place_members
from ecg_jax.files.lease import LostOwnershipError, acquire
from ecg_jax.store.layout import open_store
from ecg_jax.store.metrics_log import line_key, read_metrics
from ecg_jax.study import members, sweep, trunk
from ecg_jax.study import run_study as study
from ecg_jax.study.deadline import Rates, Slot
from ecg_jax.study.options import StudyOptions
from ecg_jax.study.packing import Pack
from ecg_jax.study.run_study import run_study
from ecg_jax.terminal.command import StoppedError
from ecg_jax.train.checkpoint import Checkpoints
from experiments import mixed_vs_pure

pytestmark = pytest.mark.usefixtures("mesh")


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    """The tables of three trunks in packs of two and one."""
    root = tmp_path_factory.mktemp("undisturbed")
    with jax.set_mesh(make_mesh(jax.devices()[:1])):
        return tables(run(root, PACKED, size=2), root)


def same(store, folder, expected):
    for name, frame in expected.items():
        pd.testing.assert_frame_equal(tables(store, folder)[name], frame, check_exact=True)


def test_a_full_disk_is_named_and_nothing_is_lost(undisturbed, small_disk, tmp_path, monkeypatch):
    monkeypatch.setattr(trunk, "SHORT_SECONDS", 0)
    folder, mount = small_disk
    mount("size=64m")
    store = open_store(folder, "s", PACKED, {})
    filler, steps = folder / "filler", []

    def whole() -> list[str]:
        return [path.name for path in store.packs.glob("*/checkpoints/*") if path.name.isdigit()]

    def fill(config, step, loss):
        steps.append(step)
        if len(steps) == 25:  # the first branch point is being saved, and the next one not
            until = time.monotonic() + 60
            while not whole() and time.monotonic() < until:
                time.sleep(0.01)
            with filler.open("wb") as file, pytest.raises(OSError, match="No space left"):
                while True:
                    file.write(bytes(2**16))

    with pytest.raises(OSError, match=r"[Nn]o space left"):
        do(store, PACKED, DATA, RESPONSE, size=2, on_step=fill)
    kept = whole()
    assert kept
    filler.unlink()
    resumed = []
    do(store, PACKED, DATA, RESPONSE, size=2, on_step=lambda config, step, loss: resumed.append(step))
    assert resumed[0] == int(max(kept, key=int))
    same(store, tmp_path, undisturbed)


def test_a_read_only_store_is_refused_at_once(small_disk):
    folder, mount = small_disk
    mount("size=1m")
    open_store(folder, "s", PACKED, {})
    mount("ro")
    with pytest.raises(OSError, match=f"cannot write to {folder}: .* is not writable; choose another output folder"):
        open_store(folder, "s", PACKED, {})


def test_who_was_taken_over_in_its_midst_writes_no_more(undisturbed, tmp_path):
    """A clock that jumps makes a living owner look dead: another takes over and does it all."""
    store, steps, heard = open_store(tmp_path, "s", PACKED, {}), [], []

    def jump(config, step, loss):
        steps.append(step)
        if len(steps) == 20:
            for owner in store.packs.glob("*/owner.json"):
                os.utime(owner, (0, owner.stat().st_mtime + 1000))
            do(store, PACKED, DATA, RESPONSE, size=2, on_run=lambda config, record: heard.append(config.run_id))

    with pytest.raises(LostOwnershipError, match="has been taken over by another process"):
        do(store, PACKED, DATA, RESPONSE, size=2, on_step=jump)
    assert sorted(heard) == sorted(config.run_id for config in PACKED)
    same(store, tmp_path, undisturbed)
    for log in store.path.glob("*/*/metrics.jsonl"):
        keys = [line_key(line) for line in read_metrics(log)]
        assert len(keys) == len(set(keys)), f"{log} holds lines twice"


def test_a_clock_set_back_frees_the_folder_of_a_dead_owner(tmp_path):
    acquire(tmp_path, refresh_seconds=60)
    stamp = (tmp_path / "owner.json").stat().st_mtime + 300
    os.utime(tmp_path / "owner.json", (stamp, stamp))
    with acquire(tmp_path) as heir:
        heir.check()


def test_one_owner_where_the_file_system_knows_no_links(tmp_path, monkeypatch):
    def refused(*_):
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "link", refused)
    with acquire(tmp_path) as owner:
        owner.check()
        assert acquire(tmp_path) is None
    assert list(tmp_path.iterdir()) == []


def test_nan_in_one_member_leaves_the_others_alone(undisturbed, tmp_path, monkeypatch):
    train = members.train

    def poisoned(program, *arguments, **options):
        def step(state, *rest):
            if int(state.step[0]) == 9:
                spoil = place_members(np.array([np.nan, 1.0]))
                params = jax.tree.map(lambda p: p * spoil.reshape(-1, *[1] * (p.ndim - 1)), state.params)
                state = dataclasses.replace(state, params=params)
            return program.train_step(state, *rest)

        return train(dataclasses.replace(program, train_step=step), *arguments, **options)

    monkeypatch.setattr(members, "train", poisoned)
    together = [config for config in PACKED if config.seed < 2]
    runs = tables(run(tmp_path, together, size=2), tmp_path)["runs"].set_index(["seed", "records_seen"])
    assert runs.loc[0].message.tolist() == ["the training loss became nan at step 9"] * 2
    expected = undisturbed["runs"].set_index(["seed", "records_seen"])
    np.testing.assert_array_equal(runs.loc[1].loss, expected.loc[1].loss)


@pytest.mark.parametrize("flips", [4, pytest.param(40, marks=pytest.mark.long)])
def test_a_flipped_bit_of_a_checkpoint_never_passes(flips, tmp_path, caplog):
    state = {"w": jax.random.normal(jax.random.key(0), (400, 50))}
    like = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=leaf.sharding), state)
    rng = np.random.default_rng(0)
    for flip in range(flips):
        folder = tmp_path / str(flip)
        with Checkpoints(folder) as checkpoints:
            checkpoints.save(1, state)
        victim = max((path for path in folder.rglob("*") if path.is_file()), key=lambda path: path.stat().st_size)
        raw = bytearray(victim.read_bytes())
        raw[rng.integers(len(raw))] ^= 1 << rng.integers(8)
        victim.write_bytes(raw)
        with Checkpoints(folder) as checkpoints:
            found = checkpoints.restore(like)
            assert found is None or np.array_equal(found["w"], state["w"]), "a changed state passed"


# ---- told to stop ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP], ids=lambda number: number.name)
def test_whatever_tells_a_study_to_stop_it_is_saved(number, undisturbed, tmp_path, monkeypatch):
    store, heard = open_store(tmp_path, "s", PACKED, {}), []

    class Told(study.StudyProgress):
        def on_step(self, config, step, loss):
            heard.append(step)
            if len(heard) == 5:
                os.kill(os.getpid(), number)

    monkeypatch.setattr(study, "StudyProgress", Told)
    before = signal.getsignal(number)
    with pytest.raises(StoppedError) as stopped:
        run_study(store, PACKED, DATA, {RESPONSE.heldout.identity: RESPONSE}, options=StudyOptions(pack_size=2))
    assert stopped.value.signal == number and signal.getsignal(number) == before and len(heard) < 10
    saved = [int(path.name) for path in store.packs.glob("*/checkpoints/[0-9]*")]
    assert saved == [heard[-1] + 1] and not list(store.packs.glob("*/owner.json"))
    monkeypatch.undo()
    assert run_study(store, PACKED, DATA, {RESPONSE.heldout.identity: RESPONSE}, options=StudyOptions(pack_size=2)) == 0
    for name, frame in undisturbed.items():  # the mesh of `run_study` spreads over all devices
        pd.testing.assert_frame_equal(tables(store, tmp_path)[name], frame, check_exact=False, rtol=2e-3)


def test_a_second_ctrl_c_stops_at_once(tmp_path, monkeypatch):
    store = open_store(tmp_path, "s", PACKED, {})

    class Twice(study.StudyProgress):
        def on_step(self, config, step, loss):
            for _ in range(2):
                os.kill(os.getpid(), signal.SIGINT)

    monkeypatch.setattr(study, "StudyProgress", Twice)
    with pytest.raises(KeyboardInterrupt):
        run_study(store, PACKED, DATA, {RESPONSE.heldout.identity: RESPONSE}, options=StudyOptions(pack_size=2))
    assert not list(store.packs.glob("*/owner.json"))


def test_it_is_told_to_stop_while_it_waits_for_another_to_plan(tmp_path):
    store = open_store(tmp_path, "s", PACKED, {})
    with acquire(store.packs):
        threading.Timer(0.3, os.kill, (os.getpid(), signal.SIGHUP)).start()
        with pytest.raises(StoppedError):
            run_study(store, PACKED, DATA, {RESPONSE.heldout.identity: RESPONSE}, options=StudyOptions(pack_size=2))


# ---- slots ----------------------------------------------------------------------------------------------------------


def test_a_slot_leaves_whole_rows_and_no_checkpoints(undisturbed, tmp_path, monkeypatch):
    store, begun = open_store(tmp_path, "s", PACKED, {}), []

    class OnePack(Slot):
        def holds(self, seconds):
            begun.append(seconds)
            return len(begun) == 1

    monkeypatch.setattr(study, "Slot", OnePack)
    monkeypatch.setattr(trunk, "SHORT_SECONDS", 0)
    responses = {RESPONSE.heldout.identity: RESPONSE}
    assert run_study(store, PACKED, DATA, responses, options=StudyOptions(pack_size=2, minutes=9)) == 2
    assert not list(store.packs.glob("*/checkpoints/[0-9]*"))
    monkeypatch.undo()
    assert run_study(store, PACKED, DATA, responses, options=StudyOptions(pack_size=2)) == 0
    for name, frame in undisturbed.items():  # the mesh of `run_study` spreads over all devices
        pd.testing.assert_frame_equal(tables(store, tmp_path)[name], frame, check_exact=False, rtol=2e-3)


def test_a_pack_cut_off_by_its_slot_is_saved(undisturbed, tmp_path, monkeypatch):
    store = open_store(tmp_path, "s", PACKED, {})
    looks = iter(range(10**6))
    monkeypatch.setattr(Slot, "is_over", lambda self: next(looks) > 30)
    responses = {RESPONSE.heldout.identity: RESPONSE}
    assert run_study(store, PACKED, DATA, responses, options=StudyOptions(pack_size=2, minutes=9)) > 0
    assert list(store.packs.glob("*/checkpoints/[0-9]*"))
    monkeypatch.undo()
    assert run_study(store, PACKED, DATA, responses, options=StudyOptions(pack_size=2)) == 0
    for name, frame in undisturbed.items():
        pd.testing.assert_frame_equal(tables(store, tmp_path)[name], frame, check_exact=False, rtol=2e-3)


def test_what_does_not_fit_its_slot_is_not_begun(tmp_path):
    store = run(tmp_path, TARGETS)
    whole = Pack((tuple(TARGETS),))
    rates = Rates()
    assert rates.expected_seconds(whole) is None
    for run_ in TARGETS:
        rates.add(store.record(run_))
    seconds = rates.expected_seconds(whole)
    hour, short, endless = Slot(60), Slot(0.3), Slot(None)
    assert 0 < seconds < 3600 and hour.holds(seconds) and endless.holds(seconds) and hour.holds(None)
    assert short.left() < 3.1 and short.holds(seconds)  # no slot of this length would ever hold it
    short._end -= 1.0
    assert short.holds(0.5) and not short.holds(2.5)
    hour._end = 0.0
    assert hour.is_over() and not hour.holds(seconds) and not hour.holds(None)
    with pytest.raises(ValueError, match=r"a slot of 0\.1 minutes is none: 15 s of it are for leaving"):
        Slot(0.1)


def test_a_trace_and_where_the_time_went_are_written(tmp_path):
    store = open_store(tmp_path / "store", "s", TARGETS, {})
    responses = {RESPONSE.heldout.identity: RESPONSE}
    run_study(store, TARGETS, DATA, responses, options=StudyOptions(profile=tmp_path / "trace"))
    assert list((tmp_path / "trace").rglob("*.xplane.pb"))
    record = store.record(TARGETS[-1])
    assert 0 < record["utilisation"] < 1.5 and record["memory_mib"] > 10
    assert record["records_per_second"] > 0 and 0 <= record["input_wait"] < 1


def test_checkpoints_may_lie_elsewhere(undisturbed, tmp_path, monkeypatch):
    monkeypatch.setattr(trunk, "SHORT_SECONDS", 0)
    store = dataclasses.replace(open_store(tmp_path, "s", PACKED, {}), checkpoint_root=str(tmp_path / "elsewhere"))
    do(store, PACKED, DATA, RESPONSE, size=2)
    assert list((tmp_path / "elsewhere" / "s").glob("*/[0-9]*"))
    assert not list(store.packs.glob("*/checkpoints"))
    same(store, tmp_path, undisturbed)


def test_sizes_that_must_be_measured_are_asked_for_when_their_turn_comes(tmp_path, monkeypatch, capsys):
    targets = [*PACKED, *sweep.grid(PACKED[0], {"batch_records": [64], "seed": [0, 1]})]
    store = open_store(tmp_path, "s", targets, {})
    recorded = []

    def measured(config):
        recorded.append((config.batch_records, len(list(store.packs.glob("*/pack.json")))))
        return 2

    monkeypatch.setattr(study, "is_measured", lambda: True)
    monkeypatch.setattr(study, "measured_size", measured)
    assert run_study(store, targets, DATA, {RESPONSE.heldout.identity: RESPONSE}) == 0
    assert recorded == [(PACKED[0].batch_records, 0), (64, 2)]  # the first shape's packs are known, and done
    assert all(store.is_done(target) for target in targets)


def test_a_bucket_without_permission_is_refused_before_data_is_read(monkeypatch, capsys):
    class Forbidden(Exception):
        pass

    said = ["403 the account may not create objects\nlong tail"]

    def refuse(path, text):
        raise Forbidden(*said)

    monkeypatch.setattr(type(epath.Path("gs://bucket/x")), "write_text", refuse)
    assert mixed_vs_pure.main(["--checkpoints", "gs://bucket/checkpoints", "--data-files", "nowhere"]) == 2
    told = capsys.readouterr().err
    assert "error: cannot write checkpoints to gs://bucket/checkpoints: Forbidden: 403 the account may not" in told
    assert "long tail" not in told and told.count("\n") == 1
    said.clear()
    assert mixed_vs_pure.main(["--checkpoints", "gs://bucket/checkpoints", "--data-files", "nowhere"]) == 2
    assert "error: cannot write checkpoints to gs://bucket/checkpoints: Forbidden: ; does" in capsys.readouterr().err
