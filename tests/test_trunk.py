import json

import numpy as np
import pandas as pd
import pytest
from pools import made_up_pool
from test_config import make_config

from ecg_jax import store as stores
from ecg_jax import sweep, trunk
from ecg_jax.config import to_json
from ecg_jax.evaluate import heldout as held
from ecg_jax.store import Store, export, open_store
from ecg_jax.study import response_of
from ecg_jax.trunk import TrainingData, run_trunk

DATA = TrainingData(real=made_up_pool(20, 2), synthetic=made_up_pool(2000, 1))
RESPONSE = response_of(held.freeze(made_up_pool(9, 5), 50, masks=2), DATA.real)
TARGETS = sweep.grid(make_config(study="s", response=RESPONSE.heldout.identity), {"budget_records": [512, 1024]})


def run(root, targets=TARGETS) -> Store:
    store = open_store(root, "s", targets, {})
    for group in sweep.trunks(targets):
        run_trunk(store, group, DATA, RESPONSE)
    return store


def tables(store, folder):
    frames = {name: pd.read_csv(path, dtype=stores.IDENTITIES) for name, path in export(store, folder).items()}
    frames["runs"] = frames["runs"].drop(columns=list(stores.MACHINE_COLUMNS))
    return frames


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    import jax

    from ecg_jax.mesh import make_mesh

    root = tmp_path_factory.mktemp("undisturbed")
    with jax.set_mesh(make_mesh(jax.devices()[:1])):
        store = run(root)
    return store, tables(store, root)


def test_every_axis_is_a_column_and_counts_are_exact(undisturbed):
    _, frames = undisturbed
    runs = frames["runs"].set_index("records_seen")
    assert list(runs.index) == [512, 1024] and runs.trunk_id.nunique() == 1
    assert runs.real_seen.tolist() == [256, 512] and runs.epochs_real.tolist() == [12.8, 25.6]
    assert runs.unique_synthetic_records.tolist() == [256, 512] and runs.unique_real_patients.tolist() == [20, 20]
    assert runs.tokens_seen.tolist() == [512 * 50, 1024 * 50] and not runs.diverged.any()
    assert frames["patients"].groupby("run_id").size().tolist() == [18, 18]
    means = frames["patients"].groupby("run_id")["loss"].mean()
    np.testing.assert_allclose(means[runs.run_id], runs.loss, rtol=1e-9)
    assert frames["curve"].records_seen.is_monotonic_increasing and len(frames["curve"]) >= 3


class Killed(BaseException):
    """Stands for the end of the process."""


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
        run_trunk(store, TARGETS, DATA, RESPONSE, on_step=kill)
    again = tables(run(tmp_path), tmp_path)
    for name, frame in expected.items():
        pd.testing.assert_frame_equal(again[name], frame, check_exact=True)


def test_a_finished_trunk_does_nothing(undisturbed, mesh, monkeypatch):
    store, _ = undisturbed
    monkeypatch.setattr(trunk, "_Trunk", None)
    run_trunk(store, TARGETS, DATA, RESPONSE)


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
    assert "2 of them diverged" in sweep.status(Store(tmp_path, "s"))


def test_status_and_export_on_the_command_line(undisturbed, capsys, tmp_path):
    store, _ = undisturbed
    assert sweep.main(["status", str(store.root)]) == 0
    assert "2 of 2 runs done" in capsys.readouterr().out
    assert sweep.main(["export", str(store.root), "--out", str(tmp_path)]) == 0
    assert (tmp_path / "s" / "runs.csv").exists()
    assert sweep.main(["status", str(tmp_path / "nowhere")]) == 2
    assert "holds no study" in capsys.readouterr().err


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
    assert stores._stack(sorted(tmp_path.glob("*.csv"))).trunk_id.tolist() == ["0123456789012345", "1234567890e12345"]


def test_a_response_of_another_run_is_refused(tmp_path, mesh):
    other = response_of(held.freeze(made_up_pool(9, 5), 25, masks=2), DATA.real)
    with pytest.raises(ValueError, match=r"in 50 patches, but was given .* in 25"):
        run_trunk(open_store(tmp_path, "s", TARGETS, {}), TARGETS, DATA, other)


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
    monkeypatch.setattr("ecg_jax.mesh.data_devices", lambda: 5)
    with pytest.raises(ValueError, match="batch_records = 32 does not divide by 5 devices: choose 30 or 35"):
        run_trunk(open_store(tmp_path, "s", TARGETS, {}), TARGETS, DATA, RESPONSE)
