"""What a forecast says, and where its times come from: nothing is timed unless that is asked for."""

import dataclasses

import pytest
from rich.console import Console
from support.studies import PACKED, TARGETS

from ecg_jax.config import Precision
from ecg_jax.files.whole_file import write_json
from ecg_jax.scaling import cost, ladder
from ecg_jax.scaling.flops import parameters, training_bytes
from ecg_jax.store.layout import open_store
from ecg_jax.study import forecast
from experiments import lr_transfer, mixed_vs_pure, quickstart

CONSOLE = Console(quiet=True)
COMMANDS = {"cpu": mixed_vs_pure, "gpu": mixed_vs_pure, "tpu": mixed_vs_pure, "quickstart": quickstart}


@pytest.fixture
def timed(monkeypatch):
    """The sizes of which steps were timed; every one takes a second."""
    sizes = []
    monkeypatch.setattr(forecast, "seconds_per_member", lambda run, members: sizes.append(run.model) or 1.0)
    return sizes


@pytest.mark.parametrize("name", COMMANDS)
def test_a_dry_run_times_nothing_unless_asked(timed, tmp_path, capsys, name):
    preset = ["--preset", name] if name != "quickstart" else []
    command = [*preset, "--out", str(tmp_path / "out"), "--dry-run"]
    assert COMMANDS[name].main(command) in (0, None)
    printed = " ".join(capsys.readouterr().out.split())
    assert not timed and "stated, not measured" in printed and "30% of" in printed
    assert COMMANDS[name].main([*command, "--measure"]) in (0, None)
    printed = " ".join(capsys.readouterr().out.split())
    assert "measured" in printed and "stated" not in printed
    assert len(timed) == len(set(timed)) > 0  # each size once, though the tables name some of them twice
    assert list(tmp_path.iterdir()) == []


def test_lr_transfers_dry_run_times_nothing(timed, tmp_path, capsys):
    lr_transfer.main(["--out", str(tmp_path / "out"), "--dry-run"])
    assert not timed and "stated, not measured" in " ".join(capsys.readouterr().out.split())


def store_with(root, rates):
    """A study of two sizes whose finished runs reached these rates, by size."""
    larger = [dataclasses.replace(run, model=ladder.model_config(30_000)) for run in TARGETS]
    store = open_store(root, "s", [*TARGETS, *larger], {})
    for run in [*TARGETS, *larger]:
        if (rate := rates.get(size := parameters(run.model).blocks, 0)) is not None and size in rates:
            told = {"loss": 1.0, "diverged": False, "message": "", "pack_size": 1, "flops_per_second": rate}
            names = {"run_id": run.run_id, "trunk_id": run.trunk_id, "response": run.response, "n_params": size}
            write_json(store.run(run) / "record.json", names | told)
    return store, larger


def test_times_are_those_of_the_runs_that_are_done_of_their_size_or_the_nearest_smaller_one(tmp_path):
    small = parameters(TARGETS[0].model).blocks
    store, larger = store_with(tmp_path, {})
    assert forecast.recorded([store]) is None
    store, larger = store_with(tmp_path, {small: 1e9})
    pace = forecast.recorded([store])
    assert pace.rate(TARGETS[0]) == (1e9, True) and pace.rate(larger[0]) == (1e9, False)
    assert "2 runs that are done" in pace.note and str(store.path) in pace.note
    first, second = forecast.forecast([*larger, *TARGETS], 10, pace)
    assert (first.parameters, first.runs, first.trunks, first.own, second.own) == (small, 2, 1, True, False)
    assert first.seconds == pytest.approx(cost.flops(TARGETS, 10) / 1e9)
    assert first.memory_bytes == training_bytes(TARGETS[0].model, TARGETS[0].batch_records)
    store, _ = store_with(tmp_path, {parameters(larger[0].model).blocks: 4e9})
    assert forecast.recorded([store]).rate(larger[0]) == (4e9, True)
    for run in TARGETS:
        (store.run(run) / "record.json").unlink()
    assert forecast.recorded([store]).rate(TARGETS[0]) == (4e9, False)  # there is no smaller one


def test_a_stated_pace_is_a_share_of_the_peak_of_all_devices():
    one = forecast.stated(0.5, 1e12).rate(TARGETS[0]).flops
    assert one == 0.5e12 * forecast.jax.device_count()
    assert forecast.stated(0.25, 1e12).rate(TARGETS[0]).flops == one / 2
    for utilisation, peak in ((0, None), (1.5, None), (-1, 1e9), (float("nan"), None), (0.3, 0.0)):
        with pytest.raises(ValueError, match="is none: give a share in"):
            forecast.stated(utilisation, peak)


def test_an_unknown_device_gives_no_time_and_says_what_would(monkeypatch, capsys):
    @dataclasses.dataclass
    class Device:
        device_kind: str
        platform: str = "gpu"

    monkeypatch.setattr(forecast.jax, "devices", lambda: [Device("Abacus 9")])
    pace = forecast.stated()
    sizes = forecast.forecast(PACKED, 10, pace)
    assert [size.seconds for size in sizes] == [None]
    Console(width=200).print(forecast.table(sizes, pace.note))
    printed = " ".join(capsys.readouterr().out.split())
    assert "?" in printed and "Abacus 9 is not known; state it (--peak), or --measure" in printed
    monkeypatch.setattr(forecast.jax, "devices", lambda: [Device("NVIDIA H200")])
    low = dataclasses.replace(PACKED[0].model, precision=Precision.BFLOAT16)
    rate = forecast.stated().rate
    assert rate(dataclasses.replace(PACKED[0], model=low)).flops > rate(PACKED[0]).flops > 1e13


def test_measuring_stops_after_its_time_and_prices_the_rest_as_the_last(timed):
    larger = dataclasses.replace(TARGETS[0], model=ladder.model_config(30_000))
    pace = forecast.measured(CONSOLE, seconds=0.0)
    first, second = pace.rate(TARGETS[0]), pace.rate(larger)
    assert first.own and not second.own and first.flops == second.flops
    assert pace.rate(larger) == second and len(timed) == 1


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--measure"], "--measure says where the times of --dry-run come from"),
        (["--peak", "1e12"], "--peak says where the times"),
        (["--dry-run", "--measure", "--utilisation", "0.2"], "--measure finds out what --utilisation states"),
        (["--dry-run", "--utilisation", "2"], "a utilisation of 2 of the peak is none"),
    ],
)
def test_options_without_effect_are_refused(options, message, tmp_path, capsys):
    assert mixed_vs_pure.main(["--out", str(tmp_path / "out"), *options]) == 2
    assert message in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []
