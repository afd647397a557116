import dataclasses
import subprocess
import sys
from collections import Counter

import numpy as np
import pandas as pd
import pytest

from ecg_jax.config import Mixing
from ecg_jax.scaling import cost
from ecg_jax.scaling.flops import parameters
from ecg_jax.store.tables import IDENTITIES
from experiments import mixed_vs_pure as study
from experiments.mixed_vs_pure import NOTHING_READ, PRESETS, Synthetic, blocks, predicted
from experiments.protocol import data_files
from experiments.protocol.data import load_standin
from experiments.protocol.dry_run import EVALUATIONS_PER_RUN

#: What the protocol allows each preset.
FLOPS = {"cpu": 3.4e14, "gpu": 7.6e16}
SMALL = dataclasses.replace(
    PRESETS["cpu"], sizes=(10_000,), budgets=(128, 256), arms=tuple(
        dataclasses.replace(arm, repeats=arm.repeats[:1], patients=arm.patients and 20) for arm in PRESETS["cpu"].arms
    )
)  # fmt: skip


@pytest.mark.parametrize("name", FLOPS)
def test_a_preset_stays_within_the_protocols_budget(name):
    runs = [run for block in blocks(PRESETS[name]) for run in block] + predicted(PRESETS[name])
    assert len({run.run_id for run in runs}) == len(runs)
    assert 0.5 < cost.flops(runs, EVALUATIONS_PER_RUN) / FLOPS[name] < 1


@pytest.mark.parametrize("name", PRESETS)
def test_any_number_of_whole_blocks_is_balanced(name):
    preset, done = PRESETS[name], Counter()
    for block in blocks(preset):
        sizes = Counter(parameters(run.model).blocks for run in block)
        assert len(sizes) == len(preset.sizes) and len(set(sizes.values())) == 1
        assert {run.budget_records for run in block} >= set(preset.budgets) or block[0].data.mixing is Mixing.ADDITIVE
        done += Counter((run.data.real_fraction, run.seed) for run in block if run.data.real_patients is None)
    first = next(iter(blocks(preset)))
    assert {run.data.real_fraction for run in first} >= {0.0, 0.5, 1.0} and {run.seed for run in first} == {0}
    assert {seed for _, seed in done} == {0, 1, 2}


def test_arms_are_what_the_protocol_asks_for():
    runs = [run for block in blocks(PRESETS["gpu"]) for run in block]
    additive = [run for run in runs if run.data.mixing is Mixing.ADDITIVE]
    pure = {run.budget_records for run in runs if run.data.real_fraction == 1}
    assert {run.budget_records * run.data.real_fraction for run in additive} == pure
    finite = [run for run in runs if run.data.synthetic_records]
    assert {run.data.synthetic_records for run in finite} == {NOTHING_READ.real_records}
    shuffles = {run.data.pool_shuffle for run in runs if run.data.real_patients == 150}
    assert shuffles == {0, 1, 2}
    assert {run.data.tier for run in runs} == {"T1d", "T-1", "NeuroKit2"}
    largest = max(parameters(run.model).blocks for run in runs)
    assert all(parameters(run.model).blocks > 2 * largest for run in predicted(PRESETS["gpu"]))


@pytest.fixture
def small(monkeypatch):
    monkeypatch.setitem(PRESETS, "cpu", SMALL)
    monkeypatch.delenv("ECG_DATA_DIR", raising=False)


def run(out, *arguments) -> int:
    return study.main(["--out", str(out), "--standin-patients", "60", *arguments])


def test_every_arm_runs_and_goes_on(small, tmp_path, capsys):
    assert run(tmp_path, "--blocks", "1") == 0
    runs = pd.read_csv(tmp_path / "runs.csv", dtype=IDENTITIES)
    assert len(runs) == 6 and set(runs.tier) == {"T1d"} and set(runs.target) == {"stand-in, not real"}
    assert run(tmp_path) == 0
    assert "6 of 16 runs are done already" in capsys.readouterr().out
    again = pd.read_csv(tmp_path / "runs.csv", dtype=IDENTITIES)
    assert len(again) == 16 and np.isfinite(again.loss).all()
    assert set(again.mixing) == {"replacement", "additive"} and set(again.tier) == {"T1d", "T-1"}
    assert again[again.mixing == "additive"].real_seen.tolist() == [128, 256]
    repeated = again[again.epochs_synthetic > 0]
    assert (repeated.epochs_synthetic == repeated.epochs_real).all() and len(repeated) == 2
    assert again[again.tier == "T-1"].real_information.str.startswith("pool ").all()


def test_packed_data_give_the_same_runs(small, tmp_path, capsys):
    assert run(tmp_path / "out", "--export-data", str(tmp_path / "data")) == 0
    printed = capsys.readouterr().out.splitlines()
    assert "making 60 patients of the stand-in …" in printed
    assert printed[-1].startswith("writing 6") and printed[-1].endswith(f" records to {tmp_path / 'data'} …")
    assert not (tmp_path / "out").exists()
    data = data_files.load_data_files(tmp_path / "data")
    expected = load_standin(60)
    assert (data.identity, data.note, data.heldout.identity) == (
        expected.identity, expected.note, expected.heldout.identity,
    )  # fmt: skip
    assert run(tmp_path / "out", "--data-files", str(tmp_path / "out")) == 2
    assert "holds no exported data: it has no about.json; write them with --export-data" in capsys.readouterr().err


def test_a_changed_generator_or_data_set_is_refused_with_both_fingerprints(small, tmp_path, capsys, monkeypatch):
    assert run(tmp_path, "--blocks", "1") == 0
    monkeypatch.setattr(study, "SYNTHETIC_SEED", 1)
    assert run(tmp_path) == 2
    error = capsys.readouterr().err
    assert "was made with other settings" in error and "seed 0' -> " in error and "seed 1'" in error
    monkeypatch.undo()
    monkeypatch.setitem(PRESETS, "cpu", SMALL)
    monkeypatch.delenv("ECG_DATA_DIR", raising=False)
    assert study.main(["--out", str(tmp_path), "--standin-patients", "61"]) == 2
    assert "training data: " in capsys.readouterr().err


def test_a_dry_run_reads_and_writes_nothing(small, tmp_path, capsys):
    assert run(tmp_path / "out", "--dry-run") == 0
    printed = capsys.readouterr().out
    assert "all 5 blocks" in printed and "held out until it is predicted" in printed
    assert not (tmp_path / "out").exists()


def test_bad_numbers_are_refused(small, tmp_path, capsys):
    assert run(tmp_path / "out", "--minutes", "0.1") == 2
    assert "a slot of 0.1 minutes is none" in capsys.readouterr().err


def test_a_slot_that_ends_before_the_first_run_is_done_ends_well(small, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(study, "run_study", lambda *_, **__: 6)
    assert run(tmp_path, "--blocks", "1", "--minutes", "9") == 0
    assert "no run is done yet, so there are no tables: the same command goes on" in capsys.readouterr().out


def test_a_node_without_the_data_stack_can_run_it():
    """Neither Grain nor TFDS, WFDB, ArrayRecord or h5py are loaded by what trains from packed data."""
    script = """
import sys
for name in ("grain", "tensorflow_datasets", "wfdb", "array_record", "h5py"):
    sys.modules[name] = None
import ecg_jax.train.step, ecg_jax.train.input_pipeline, ecg_jax.train.device_input
import experiments.mixed_vs_pure, experiments.protocol.data_files
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]


@pytest.mark.parametrize("kind", Synthetic)
def test_every_kind_of_synthetic_records_is_in_some_arm(kind):
    assert any(arm.synthetic is kind for preset in PRESETS.values() for arm in preset.arms)


@pytest.mark.parametrize(
    ("before", "now"),
    [("--pack", "--export-data"), ("--packed", "--data-files"), ("--pack-size", "--runs-per-program")],
)
def test_options_of_before_are_told_their_names_of_now(before, now, capsys):
    with pytest.raises(SystemExit):
        study.main([before, "4"])
    assert f"error: {before} is {now} now" in capsys.readouterr().err
