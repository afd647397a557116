import dataclasses
import json
import threading
from concurrent.futures import ThreadPoolExecutor

import jax
import numpy as np
import pandas as pd
import pytest
from support.configs import make_config
from support.run_packs import do
from support.studies import DATA, PACKED, RESPONSE, TARGETS, Killed, run, tables
from support.synthetic_pools import made_up_pool

import ecg_jax
from ecg_jax import __main__ as cli
from ecg_jax.codec import to_json
from ecg_jax.config import Objective
from ecg_jax.data.synthetic.render.source import SyntheticSource
from ecg_jax.data.synthetic.render.tiers import Tier, recipe
from ecg_jax.distributed.mesh import make_mesh
from ecg_jax.evaluate import heldout as held
from ecg_jax.evaluate.response import response_of
from ecg_jax.files.whole_file import read_csv
from ecg_jax.monitor import status
from ecg_jax.store import layout as stores
from ecg_jax.store.layout import Store, open_store
from ecg_jax.study import run_pack, sweep, trunk
from ecg_jax.study import run_study as study
from ecg_jax.study.options import StudyOptions
from ecg_jax.study.run_study import run_study
from ecg_jax.terminal.command import StoppedError
from ecg_jax.train.input_pipeline import Placement
from ecg_jax.train.training_data import TrainingData
from scaling_fits.tables.run_table import EXPORTED


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    root = tmp_path_factory.mktemp("undisturbed")
    with jax.set_mesh(make_mesh(jax.devices()[:1])):
        store = run(root)
    return store, tables(store, root)


def test_every_axis_is_a_column_and_counts_are_exact(undisturbed):
    _, frames = undisturbed
    runs = frames["runs"].set_index("records_seen")
    assert list(runs.index) == [512, 1024] and runs.trunk_id.nunique() == 1
    assert set(frames["runs"]) >= EXPORTED  # by which fits know the table as an export
    assert runs.real_seen.tolist() == [256, 512] and runs.epochs_real.tolist() == [12.8, 25.6]
    assert runs.unique_synthetic_records.tolist() == [256, 512] and runs.unique_real_patients.tolist() == [20, 20]
    assert runs.tokens_seen.tolist() == [512 * 50, 1024 * 50] and not runs.diverged.any()
    assert frames["patients"].groupby("run_id").size().tolist() == [18, 18]
    means = frames["patients"].groupby("run_id")["loss"].mean()
    np.testing.assert_allclose(means[runs.run_id], runs.loss, rtol=1e-9)
    assert frames["curve"].records_seen.is_monotonic_increasing and len(frames["curve"]) >= 3


@pytest.mark.parametrize("at", [3, 11, 13, 20, 26, 30, 36])
def test_cut_off_and_done_again_gives_the_same_tables(undisturbed, tmp_path, mesh, at):
    """Cut off in the trunk, in a cool-down, between the two: steps 0-11 trunk, 12-15 cool-down, trunk, cool-down."""
    expected = undisturbed[1]
    store = open_store(tmp_path, "s", TARGETS, {})
    heard = []

    def kill(config, step, loss):
        heard.append(step)
        if len(heard) == at:
            raise Killed

    with pytest.raises(Killed):
        do(store, TARGETS, DATA, RESPONSE, on_step=kill)
    again = tables(run(tmp_path), tmp_path)
    for name, frame in expected.items():
        pd.testing.assert_frame_equal(again[name], frame, check_exact=True)


@pytest.mark.parametrize("kept", [0, 5, 11])
def test_a_log_behind_its_checkpoint_is_made_good(undisturbed, tmp_path, mesh, monkeypatch, caplog, kept):
    """As after a power cut, or an rsync that was broken off: the checkpoint is there, lines of the log are not."""
    monkeypatch.setattr(trunk, "SHORT_SECONDS", 0)
    store, heard = open_store(tmp_path, "s", TARGETS, {}), []

    def kill(config, step, loss):
        heard.append(step)
        if len(heard) == 14:
            raise Killed

    with pytest.raises(Killed):
        do(store, TARGETS, DATA, RESPONSE, on_step=kill)
    log = store.trunk(TARGETS[0]) / "metrics.jsonl"
    log.write_text("".join(log.read_text().splitlines(keepends=True)[:kept]))
    again = tables(run(tmp_path), tmp_path)
    assert list(store.packs.glob("*/checkpoints/12.damaged")) and f"{log} lacks a part" in caplog.text
    for name, frame in undisturbed[1].items():
        pd.testing.assert_frame_equal(again[name], frame, check_exact=True)
    assert cli.main(["replay", str(tmp_path), "--tensorboard", str(tmp_path / "tb")]) == 0  # nothing is missing


def test_a_finished_trunk_does_nothing(undisturbed, mesh, monkeypatch):
    store, _ = undisturbed
    monkeypatch.setattr(run_pack, "Members", None)
    do(store, TARGETS, DATA, RESPONSE)


def test_a_budget_added_later_finds_its_trunk_and_harms_no_other(undisturbed, tmp_path, mesh):
    run(tmp_path)
    more = [*TARGETS, sweep.replace(TARGETS[0], {"budget_records": 768})]
    frames = tables(run(tmp_path, more), tmp_path)
    old = frames["runs"][frames["runs"].records_seen != 768].reset_index(drop=True)
    pd.testing.assert_frame_equal(old, undisturbed[1]["runs"], check_exact=True)
    pd.testing.assert_frame_equal(frames["curve"], undisturbed[1]["curve"], check_exact=True)


def test_a_run_that_diverges_stays_in_the_table(tmp_path, mesh):
    targets = [sweep.replace(target, {"optim.learning_rate": 1e30}) for target in TARGETS]
    runs = tables(run(tmp_path, targets), tmp_path)["runs"]
    assert runs.diverged.all() and runs.loss.isna().all() and len(runs) == 2
    assert (runs.exclusion == "diverged").all() and runs.message.str.contains(
        r"training loss became (?:nan|inf) at step \d+"
    ).all()
    look = status.status(Store(tmp_path, "s"))
    assert len(look.diverged) == 2 and not look.waiting


def close(frames, expected, rtol=2e-3):
    for name in ("runs", "patients", "curve"):
        pd.testing.assert_frame_equal(frames[name], expected[name], check_exact=False, rtol=rtol)


@pytest.fixture(scope="module")
def packed(tmp_path_factory):
    """Three trunks in packs of two and one: the store and its tables."""
    root = tmp_path_factory.mktemp("packed")
    with jax.set_mesh(make_mesh(jax.devices()[:1])):
        store = run(root, PACKED, size=2)
    return store, tables(store, root)


def test_packs_are_recorded_and_give_the_rows_of_solo_runs(packed, tmp_path, mesh):
    store, frames = packed
    sizes = sorted(stores.read_json(path)["size"] for path in store.packs.glob("*/pack.json"))
    assert sizes == [1, 2] and len(frames["runs"]) == 6
    assert sorted(store.record(target)["pack_size"] for target in PACKED) == [1, 1, 2, 2, 2, 2]
    assert [c.seed for c in PACKED if store.record(c)["pack_size"] == 1] == [2, 2]
    close(frames, tables(run(tmp_path, PACKED), tmp_path))


def test_a_pack_cut_off_is_rebuilt_whatever_the_next_start_would_choose(packed, tmp_path, mesh):
    store, heard = open_store(tmp_path, "s", PACKED, {}), []

    def kill(config, step, loss):
        heard.append(step)
        if len(heard) == 40:
            raise Killed

    with pytest.raises(Killed):
        do(store, PACKED, DATA, RESPONSE, size=2, on_step=kill)
    again = tables(run(tmp_path, PACKED, size=3), tmp_path)
    for name, frame in packed[1].items():
        pd.testing.assert_frame_equal(again[name], frame, check_exact=True)


def test_a_member_that_diverges_stops_alone(packed, tmp_path, mesh):
    wild = [sweep.replace(c, {"optim.learning_rate": 1e30}) if c.seed == 0 else c for c in PACKED]
    runs = tables(run(tmp_path, wild, size=2), tmp_path)["runs"].set_index(["seed", "records_seen"])
    assert runs.loc[0].diverged.all() and not runs.loc[[1, 2]].diverged.any()
    expected = packed[1]["runs"].set_index(["seed", "records_seen"])
    np.testing.assert_array_equal(runs.loc[[1, 2]].loss, expected.loc[[1, 2]].loss)


def test_a_pack_with_checkpoints_is_one_without(packed, tmp_path, mesh, monkeypatch):
    monkeypatch.setattr(trunk, "SHORT_SECONDS", 0)
    store = open_store(tmp_path, "s", PACKED, {})
    heard = []

    def kill(config, step, loss):
        heard.append(step)
        if len(heard) in (45, 90):
            raise Killed

    for _ in range(2):
        with pytest.raises(Killed):
            do(store, PACKED, DATA, RESPONSE, size=2, on_step=kill)
    again = tables(run(tmp_path, PACKED, size=2), tmp_path)
    for name, frame in packed[1].items():
        pd.testing.assert_frame_equal(again[name], frame, check_exact=True)
    kept = {path.name for path in store.packs.glob("*/checkpoints/*")}
    assert kept == {str(max(c.branch_step for c in PACKED))}  # the others went with the last run that needed them


def test_a_stop_saves_and_the_next_start_goes_on(packed, tmp_path, mesh):
    store, steps = open_store(tmp_path, "s", PACKED, {}), []
    with pytest.raises(StoppedError):
        do(
            store,
            PACKED,
            DATA,
            RESPONSE,
            size=2,
            on_step=lambda config, step, loss: steps.append(step),
            stop=lambda: len(steps) >= 20,
        )
    saved = [int(path.name) for path in store.packs.glob("*/checkpoints/*")]
    assert saved and max(saved) <= 12
    resumed = []
    do(store, PACKED, DATA, RESPONSE, size=2, on_step=lambda config, step, loss: resumed.append(step))
    assert resumed[0] == max(saved)
    for name, frame in packed[1].items():
        pd.testing.assert_frame_equal(tables(store, tmp_path)[name], frame, check_exact=True)


def test_two_launches_do_no_run_twice(packed, tmp_path):
    store, done, lock = open_store(tmp_path, "s", PACKED, {}), [], threading.Lock()

    class Heard(study.StudyProgress):
        def on_run(self, config, record):
            with lock:
                done.append(config.run_id)

    def launch(_):
        run_study(store, PACKED, DATA, {RESPONSE.heldout.identity: RESPONSE}, options=StudyOptions(pack_size=2))

    with pytest.MonkeyPatch.context() as patch, ThreadPoolExecutor(2) as pool:
        patch.setattr(study, "StudyProgress", Heard)
        patch.setattr(study, "LOOK_SECONDS", 0.1)
        list(pool.map(launch, range(2)))
    assert sorted(done) == sorted(config.run_id for config in PACKED)
    close(tables(store, tmp_path), packed[1])


def test_device_placement_gives_the_same_rows(tmp_path, mesh):
    source = SyntheticSource(3, recipe(Tier.ANATOMY))
    target = make_config(
        study="s",
        response=RESPONSE.heldout.identity,
        budget_records=256,
        **{"data.synthetic_source": "s", "data.tier": "T1b"},
    )
    data = TrainingData(DATA.real, {"s": source})
    rows = {}
    for placement in Placement:
        store = open_store(tmp_path / placement, "s", [target], {})
        do(store, [target], data, RESPONSE, placement=placement)
        assert store.record(target)["placement"] == placement
        rows[placement] = tables(store, tmp_path / placement)
    close(rows[Placement.DEVICE], rows[Placement.HOST], rtol=1e-3)


def test_status_and_export_on_the_command_line(undisturbed, capsys, tmp_path):
    store, _ = undisturbed
    assert cli.main(["status", str(store.root)]) == 0
    assert "2 of 2 runs done" in capsys.readouterr().out
    assert cli.main(["export", str(store.root), "--out", str(tmp_path)]) == 0
    assert (tmp_path / "s" / "runs.csv").exists()
    assert cli.main(["status", str(tmp_path / "nowhere")]) == 2
    assert "holds no study" in capsys.readouterr().err


def test_a_run_is_shown_and_loaded(undisturbed, capsys):
    store, frames = undisturbed
    run_id = TARGETS[0].run_id
    assert cli.main(["show", str(store.root), run_id[:8]]) == 0
    assert json.loads(capsys.readouterr().out)["config"] == TARGETS[0].stored()
    assert cli.main(["show", str(store.root), ""]) == 2 and "2 runs of" in capsys.readouterr().err
    run = ecg_jax.load_run(store.run(TARGETS[0]))
    assert run.config == TARGETS[0] and run.record["loss"] == store.record(TARGETS[0])["loss"]
    assert list(run.metrics.step) == list(range(TARGETS[0].branch_step, TARGETS[0].budget_steps))
    assert len(run.curve) == len(frames["curve"]) and len(run.patients) == 18
    with pytest.raises(FileNotFoundError, match="no finished run"):
        ecg_jax.load_run(store.path)


def test_stores_merge_and_doubles_are_compared(undisturbed, tmp_path, mesh, capsys):
    store, expected = undisturbed
    half = open_store(tmp_path / "half", "s", TARGETS[:1], {})
    do(half, TARGETS[:1], DATA, RESPONSE)
    assert cli.main(["merge", str(store.root), str(half.root)]) == 0
    assert "1 runs copied; 1 in both, their losses at most 0.00% apart" in capsys.readouterr().out
    frames = tables(half, tmp_path)
    pd.testing.assert_frame_equal(frames["runs"], expected["runs"])
    record = half.record(TARGETS[0])
    stores.write_json(half.run(TARGETS[0]) / "record.json", record | {"loss": 1.2 * record["loss"]})
    assert cli.main(["merge", str(store.root), str(half.root)]) == 2
    assert f"run {TARGETS[0].run_id} has losses" in capsys.readouterr().err


def test_a_store_of_an_older_layout_is_refused(tmp_path):
    store = open_store(tmp_path, "s", TARGETS, {})
    tree = stores.read_json(store.path / "study.json")
    stores.write_json(store.path / "study.json", {key: tree[key] for key in ("settings", "targets")})
    with pytest.raises(ValueError, match="has format 1, this ecg-jax reads 3: export it with the version that wrote"):
        open_store(tmp_path, "s", TARGETS, {})


def test_a_store_made_with_other_settings_is_refused(tmp_path):
    open_store(tmp_path, "s", TARGETS, {"batch": 32, "data": "a"})
    with pytest.raises(ValueError, match="batch: 32 -> 64"):
        open_store(tmp_path, "s", TARGETS, {"batch": 64, "data": "a"})


def test_an_unwritable_store_is_refused(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match="is not a folder; choose another output folder"):
        open_store(tmp_path / "file", "s", TARGETS, {})


def test_identities_that_read_as_numbers_survive_the_export(tmp_path):
    for number, identity in enumerate(["0123456789012345", "1234567890e12345"]):
        (tmp_path / f"{number}.csv").write_text(f"trunk_id,loss\n{identity},0.1\n")
    assert read_csv(sorted(tmp_path.glob("*.csv")), {"trunk_id": str, "loss": float}).trunk_id.tolist() == [
        "0123456789012345",
        "1234567890e12345",
    ]


def test_a_response_of_another_run_is_refused(tmp_path, mesh):
    other = response_of(held.freeze(made_up_pool(9, 5), 25, masks=2), DATA.real)
    with pytest.raises(ValueError, match=r"in 50 patches, but was given .* in 25"):
        do(open_store(tmp_path, "s", TARGETS, {}), TARGETS, DATA, other)


def test_a_response_of_another_objective_is_refused(tmp_path, mesh):
    """The same masks under other reference lines, whose skill would mean something else."""
    other = dataclasses.replace(RESPONSE, objective=Objective.NEXT_PATCH)
    with pytest.raises(ValueError, match=r"trained for masked, but its response and reference lines are .* next_patch"):
        do(open_store(tmp_path, "s", TARGETS, {}), TARGETS, DATA, other)


def test_damaged_json_names_its_file(tmp_path):
    store = open_store(tmp_path, "s", TARGETS, {})
    (store.path / "study.json").write_text(json.dumps(to_json(TARGETS[0]))[:40])
    with pytest.raises(ValueError, match=r"study\.json is not JSON"):
        store.targets()


def test_patients_on_both_sides_are_refused():
    """Fails when the split is broken on purpose: the same pool trains and is held out."""
    with pytest.raises(ValueError, match="20 patients stand both in training and among the held-out records"):
        response_of(held.freeze(DATA.real, 50), DATA.real)


def test_an_indivisible_batch_is_refused(monkeypatch, tmp_path, mesh):
    monkeypatch.setattr("ecg_jax.distributed.mesh.data_devices", lambda: 5)
    with pytest.raises(ValueError, match="batch_records = 32 does not divide by 5 devices: choose 30 or 35"):
        do(open_store(tmp_path, "s", TARGETS, {}), TARGETS, DATA, RESPONSE)
