import contextlib
import dataclasses
import hashlib
import io
import json
import re
import runpy
import shutil
import sys
import threading

import numpy as np
import pandas as pd
import pytest
from rich.console import Console
from support import demo_process, loopback
from support.ptbxl_layout import write_ptbxl
from support.synthetic_pools import made_up_pool

import ecg_jax
from ecg_jax.config import mixture_of
from ecg_jax.data.mixture import SYNTHETIC, record_ids
from ecg_jax.data.real.fetch.publishers import PUBLICATIONS
from ecg_jax.store.tables import IDENTITIES, export
from experiments import quickstart
from experiments.protocol import analysis, data


def run(out, *arguments) -> tuple[int, str]:
    """The quickstart in this process, on the stand-in target: exit status and what was printed."""
    printed = io.StringIO()
    with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stdout(printed):
        patch.delenv("ECG_DATA_DIR", raising=False)
        status = quickstart.main([*(arguments or demo_process.ARGUMENTS), "--out", str(out)])
    return status, printed.getvalue()


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    out = tmp_path_factory.mktemp("quickstart") / "out"
    status, printed = run(out)
    assert status == 0, printed
    return out, printed


def test_one_row_per_size_fraction_budget_and_seed(finished):
    runs = pd.read_csv(finished[0] / "runs.csv")
    keys = runs[["n_params", "real_fraction", "records_seen", "seed"]]
    assert len(runs) == 2 * 3 * 2 and not keys.duplicated().any()
    assert (runs.target == "stand-in, not real").all()
    assert set(runs.real_fraction) == {0.0, 0.5, 1.0} and set(runs.records_seen) == {256, 512}
    assert np.isfinite(runs.loss).all() and (runs.loss_mean > 0.9).all()


def test_the_stand_in_says_so_wherever_it_shows(finished):
    out, printed = finished
    assert "ECG_DATA_DIR is not set" in printed and "stand-in, not real" in printed
    for table in ("runs", "patients", "curve"):
        assert (pd.read_csv(out / f"{table}.csv").target == "stand-in, not real").all()
    for path in (out / "figures").glob("*.csv"):
        assert (pd.read_csv(path).target == "stand-in, not real").all()
    page = (out / "report.html").read_text()
    assert page.count("<table>") == page.count(": stand-in, not real</caption>") > 1
    assert "stand-in, not real" in re.search("<title>(.*?)</title>", page)[1]
    assert json.loads((out / "fits.json").read_text())["note"] == "stand-in, not real"
    assert not re.search(r"\breal (record|patient|ECG)", re.sub("not real|real ones|real ECG\\.", "", page))


def test_the_page_stands_alone_and_the_figures_are_there(finished):
    out, _ = finished
    page = (out / "report.html").read_text()
    assert not re.findall(r'(?:src|href)="(?!data:)[^"]*"', page)
    names = ["contrasts", "convergence", "loss_against_records", "loss_against_size", "reconstruction", "recordings"]
    for name in names:
        for suffix in ("pdf", "png", "csv"):
            assert (out / "figures" / f"{name}.{suffix}").stat().st_size > 200, (name, suffix)
    assert page.count("data:image/png;base64,") == len(names)


def test_the_runs_of_the_largest_budget_keep_their_encoders(finished):
    out, _ = finished
    runs = pd.read_csv(out / "runs.csv", dtype={"run_id": str})
    kept = {path.parent.name for path in (out / "store" / "quickstart" / "runs").glob("*/encoder")}
    assert kept == set(runs.run_id[runs.records_seen == 512]) and len(kept) == 6
    folder = out / "store" / "quickstart" / "runs" / min(kept) / "encoder"
    assert np.isfinite(ecg_jax.load_encoder(folder)(made_up_pool(2).ecg)).all()
    assert "**Stand-in, not real.**" in (folder / "README.md").read_text()


def test_killed_and_started_again_it_ends_with_the_same_tables(finished, tmp_path):
    out = tmp_path / "killed"
    process = demo_process.start(out)
    for line in process.stdout:
        if line.startswith("3/12"):
            break
    assert demo_process.kill_after(process, 0.5), "it ended before it was killed"
    assert "runs are done already" in demo_process.finish(out)
    assert demo_process.results(out) == demo_process.results(finished[0])


def test_asked_to_stop_it_saves_and_says_so(finished, tmp_path):
    out = tmp_path / "stopped"
    process = demo_process.start(out)
    for line in process.stdout:
        if line.startswith("2/12"):
            process.terminate()
            break
    printed, _ = process.communicate(timeout=120)
    assert process.returncode == 143 and "stopped: all is saved" in printed, printed[-2000:]
    demo_process.finish(out)
    assert demo_process.results(out) == demo_process.results(finished[0])


def test_done_already_it_trains_nothing_again(finished):
    out, _ = finished
    before = {path: path.stat().st_mtime_ns for path in (out / "store").rglob("record.json")}
    status, printed = run(out)
    assert status == 0 and "12 of 12 runs are done already" in printed
    assert before == {path: path.stat().st_mtime_ns for path in (out / "store").rglob("record.json")}


def test_another_config_is_refused_by_name(finished, capsys, monkeypatch):
    monkeypatch.delenv("ECG_DATA_DIR", raising=False)
    arguments = [*demo_process.ARGUMENTS, "--batch", "8", "--out", str(finished[0])]
    assert quickstart.main(arguments) == 2
    assert "batch_records: 16 -> 8" in capsys.readouterr().err


def test_a_study_grows_and_ends_as_if_it_had_been_asked_for_at_once(finished, tmp_path, monkeypatch):
    """First one size, one budget and two fractions, then all; what was done is not done again."""
    out, asked_for = tmp_path / "out", []

    def tables_only(out, store, *_):  # fits and figures follow from them
        asked_for.append(len(store.targets()))
        export(store, out)

    monkeypatch.setattr(quickstart, "write_up", tables_only)
    assert demo_process.ARGUMENTS[6:8] == ("--batch", "16")
    small = ["--sizes", "10000", "--budgets", "256", "--fractions", "0", "1", *demo_process.ARGUMENTS[6:]]
    status, printed = run(out, *small)
    assert status == 0, printed
    assert "The law of all mixes will not be fitted: it needs at least 9 runs, 2 sizes, 2 budgets" in printed
    assert "there will be 2 runs, 1 sizes, 1 budgets, 2 fractions" in printed
    before = {path: path.stat().st_mtime_ns for path in (out / "store").rglob("record.json")}
    assert len(before) == 2
    status, printed = run(out)
    assert status == 0 and "2 of 12 runs are done already" in printed
    assert before == {path: path.stat().st_mtime_ns for path in before}
    (out / "fits.json").write_text("")
    assert demo_process.results(out)[:2] == demo_process.results(finished[0])[:2]
    status, printed = run(out, *small)  # asked for less, it still has all
    assert status == 0 and "2 of 2 runs are done already" in printed and asked_for == [2, 12, 12]
    assert "there will be 12 runs" not in printed and "there will be 4 runs, 2 sizes, 2 budgets." in printed  # r = 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--fractions", "0", "1.5"], "real_fraction = 1.5 lies outside [0, 1]"),
        (["--budgets", "1000"], "budget_records = 1000 is not a multiple of batch_records = 32"),
        (["--sizes", "100"], "no depth and width give about 100 parameters"),
        (["--sizes", "55000", "60000"], "18 runs, 9 of them distinct"),
        (["--seeds", "0"], "0 runs"),
    ],
)
def test_bad_numbers_give_one_clear_error_and_leave_nothing(arguments, message, capsys, monkeypatch, tmp_path):
    monkeypatch.delenv("ECG_DATA_DIR", raising=False)
    out = tmp_path / "out"
    assert quickstart.main([*arguments, "--standin-patients", "40", "--out", str(out)]) == 2
    assert message in capsys.readouterr().err
    assert not out.exists()


def test_a_batch_that_the_devices_cannot_share_is_refused(capsys, monkeypatch, tmp_path):
    monkeypatch.setattr("ecg_jax.distributed.mesh.data_devices", lambda: 5)
    assert quickstart.main(["--out", str(tmp_path / "out")]) == 2
    assert "batch_records = 32 does not divide by 5 devices" in capsys.readouterr().err


@pytest.mark.parametrize("shape", ["missing", "empty", "another"])
def test_a_wrong_data_folder_is_refused(shape, capsys, monkeypatch, tmp_path):
    folder = tmp_path / "data"
    if shape != "missing":
        folder.mkdir()
    if shape == "another":
        (folder / "readme.txt").write_text("not ECG")
    monkeypatch.setenv("ECG_DATA_DIR", str(folder))
    assert quickstart.main(["--out", str(tmp_path / "out")]) == 2
    assert str(folder) in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_the_sealed_fold_is_never_held_out():
    pool = made_up_pool(40, folds=10)
    with pytest.raises(ValueError, match="fold 10 is sealed"):
        data.split(pool, pool.in_folds((10,)))


@pytest.mark.parametrize(
    ("budget", "batch", "enough"),
    [
        ("32", "16", 256),  # two steps of the warm-up
        ("128", "16", 256),  # six steps before the cool-down
        ("240", "16", 256),
        ("1024", "128", 1280),  # the first point of a curve is at step 8
    ],
)
def test_a_budget_too_small_to_tell_anything_is_refused_before_training(budget, batch, enough, tmp_path, capsys):
    arguments = ["--sizes", "10000", "--budgets", budget, "--batch", batch, "--standin-patients", "40", "--fetch", "0"]
    assert run(tmp_path / "out", *arguments)[0] == 2
    told = capsys.readouterr().err
    assert f"--budgets {budget} is too small" in told and f"give a budget of at least {enough}, or" in told
    assert not (tmp_path / "out").exists()
    quickstart.check_budgets(quickstart.targets(budgets=(enough,), batch_records=int(batch)))
    with pytest.raises(ValueError, match="too small"):
        quickstart.check_budgets(quickstart.targets(budgets=(enough - int(batch),), batch_records=int(batch)))


def test_runs_that_hardly_learned_are_reported_with_the_remedy(finished, tmp_path):
    shutil.copytree(finished[0], tmp_path / "out", ignore=shutil.ignore_patterns("store"))
    runs = pd.read_csv(tmp_path / "out" / "runs.csv", dtype=IDENTITIES)
    runs.assign(pre_transition=True, exclusion="pre_transition").to_csv(tmp_path / "out" / "runs.csv", index=False)
    with pytest.raises(ValueError, match=r"every run is left out \(\{'pre_transition': 12\}\); train longer"):
        analysis.analyse(tmp_path / "out", "")


#: Parts of the demo's design, as a study that grows has them in between.
DESIGNS = {
    "one size": lambda runs: runs.n_params == runs.n_params.min(),
    "one budget": lambda runs: runs.records_seen == 256,
    "one run": lambda runs: runs.run_id == runs.run_id.min(),
    "one mix": lambda runs: runs.real_fraction == 0.5,
    "pure arms": lambda runs: runs.real_fraction != 0.5,
    "a larger size at one budget": lambda runs: (runs.n_params == runs.n_params.min()) | (runs.records_seen == 256),
    "a larger size at one mix": lambda runs: (runs.n_params == runs.n_params.min()) | (runs.real_fraction == 0),
}  # fmt: skip


@pytest.mark.parametrize("design", DESIGNS)
def test_whatever_was_trained_can_be_analysed(design, finished, tmp_path, monkeypatch):
    monkeypatch.setattr(analysis, "fit", lambda form, rows: refuse())  # its own tests are elsewhere

    def refuse():
        raise ValueError("no fit here")

    tables = {
        name: pd.read_csv(finished[0] / f"{name}.csv", dtype=IDENTITIES) for name in ("runs", "patients", "curve")
    }
    runs = tables["runs"][DESIGNS[design](tables["runs"])]
    tables = {
        "runs": runs,
        "patients": tables["patients"][tables["patients"].run_id.isin(runs.run_id)],
        "curve": tables["curve"][tables["curve"].trunk_id.isin(runs.trunk_id)],
    }
    for name, table in tables.items():
        table.to_csv(tmp_path / f"{name}.csv", index=False)
    findings = analysis.analyse(tmp_path, "")
    assert analysis.answer(findings, "")[-1] == analysis.WARNING and len(findings.table.rows) == len(runs)


def test_an_unwritable_output_folder_is_refused(capsys, monkeypatch, tmp_path):
    monkeypatch.delenv("ECG_DATA_DIR", raising=False)
    (tmp_path / "file").write_text("")
    assert quickstart.main(["--standin-patients", "40", "--out", str(tmp_path / "file" / "out")]) == 2
    assert "cannot write to" in capsys.readouterr().err


@pytest.mark.parametrize(
    "module",
    ["experiments.quickstart", "experiments.pilot", "ecg_jax", "ecg_jax.scaling.ladder", "scaling_fits"],
)
def test_help_teaches(module, capsys, monkeypatch):
    monkeypatch.setattr(sys, "argv", [module, "--help"])
    monkeypatch.delitem(sys.modules, module, raising=False)
    with pytest.raises(SystemExit, match="0"):
        runpy.run_module(module, run_name="__main__")
    assert len(capsys.readouterr().out.split()) > 30


# ---- no patient of folds 9 and 10 in any training stream -----------------------------------------------------------


def streamed_patients(study_data) -> set[int]:
    """The patients of all real records that any run of the quickstart ever trains on."""
    pool, seen = study_data.training, set()
    for config in quickstart.targets(study_data.identity, study_data.heldout.identity):
        ids = record_ids(mixture_of(config, pool), np.arange(config.budget_records))
        seen |= set(pool.patient_id[ids.index[ids.source != SYNTHETIC]].tolist())
    return seen


def test_no_patient_of_folds_9_and_10_is_ever_trained_on(ecg_data_dir, ptbxl_cache):
    real = data.load_real(ecg_data_dir, ptbxl_cache)
    table = pd.read_csv(ecg_data_dir / "ptbxl_labels" / "ptbxl_labels_all21799.csv")
    sealed = set(table.patient_id[table.strat_fold >= 9].astype(int))
    streamed = streamed_patients(real)
    assert len(streamed) == 1487 and not streamed & sealed
    assert set(real.heldout.pool.fold) == {data.VALIDATION_FOLD}
    assert real.frozen, "the held-out records and masks are not those the pilot froze"


@pytest.mark.parametrize("fold", [9, 10])
def test_a_split_broken_on_purpose_is_noticed(fold, monkeypatch):
    pool = made_up_pool(40, folds=10)
    sound = data.split(pool, pool.in_folds((9,)))
    assert not streamed_patients(sound) & set(pool.patient_id[pool.fold >= 9])
    monkeypatch.setattr(data, "TRAIN_FOLDS", (*data.TRAIN_FOLDS, fold))
    with pytest.raises(ValueError, match=rf"folds \[{fold}\] are among the training folds"):
        data.split(pool, pool.in_folds((9,)))
    with pytest.raises(ValueError, match="4 patients stand both in training and among the held-out records"):
        dataclasses.replace(sound, training=pool.in_folds((*range(1, 9), 9)))


# ---- PTB-XL fetched where there is none ------------------------------------------------------------------------------


@pytest.fixture
def publisher(tmp_path, monkeypatch):
    """PTB-XL's layout with invented signals on the loopback, in place of PhysioNet."""
    write_ptbxl(tmp_path / "published", 20)
    with loopback.serving() as publisher:
        sums = ""
        (tmp_path / "published" / "LICENSE.txt").write_text("CC BY 4.0")
        for path in sorted((tmp_path / "published").rglob("*.*")):
            name = path.relative_to(tmp_path / "published").as_posix()
            publisher.files[name] = path.read_bytes()
            sums += f"{hashlib.sha256(path.read_bytes()).hexdigest()} {name}\n"
        publisher.files["SHA256SUMS.txt"] = sums.encode()
        here = dataclasses.replace(PUBLICATIONS["ptbxl"], addresses=(publisher.address,))
        monkeypatch.setitem(PUBLICATIONS, "ptbxl", here)
        yield publisher


def fetched(folder) -> tuple[object, str]:
    said = io.StringIO()
    found = data.fetch_ptbxl(folder, 12, Console(file=said, highlight=False))
    return found, said.getvalue()


def test_without_a_folder_the_first_records_are_fetched_once(publisher, tmp_path):
    folder, said = fetched(tmp_path / "ptbxl")
    assert "fetching 12 records of PTB-XL (about 1 MB)" in said and "Licence: Creative Commons" in said
    real = data.load_real(folder, tmp_path / "cache")
    assert real.note == "" and real.target == "PTB-XL"
    # Invented signals may be alike: what the held-out one is like is left out by name.
    (alike,) = [item.record_id for item in real.excluded]
    assert {int(record[6:]) for record in real.training.record_id} == {*range(1, 9), 11, 12} - {int(alike[6:])}
    assert list(real.heldout.pool.record_id) == ["ptbxl/00009"]
    publisher.files.clear()
    assert fetched(tmp_path / "ptbxl") == (folder, "")


def test_out_of_reach_it_says_why_and_goes_on(publisher, tmp_path):
    publisher.faults["LICENSE.txt"] = ["503"]
    folder, said = fetched(tmp_path / "ptbxl")
    assert folder is None and len(said.splitlines()) == 1
    assert "could not be fetched: http://127.0.0.1" in said and "answers 503 Service Unavailable; try again" in said


def test_a_network_that_never_answers_takes_no_longer_than_told(tmp_path, monkeypatch):
    monkeypatch.setattr(data, "REACH_S", 0.05)
    answered = threading.Event()
    monkeypatch.setattr(data, "read_small", lambda *_, **__: answered.wait(20))
    folder, said = fetched(tmp_path / "ptbxl")
    answered.set()
    assert folder is None and "no answer within 0.05 s" in said


def test_a_study_begun_on_the_stand_in_never_turns_real(finished, publisher):
    status, printed = run(finished[0], *demo_process.ARGUMENTS[:-1], "12")
    assert status == 0 and "12 of 12 runs are done already" in printed and not publisher.asked
