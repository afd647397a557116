"""What a finished run must have: a store of which anything is missing, cut or of another shape is never exported."""

import json
import re

import pandas as pd
import pytest
from support.finished_stores import MACHINE, finish, finished_store, loss_at, targets, without_checksums

import ecg_jax
from ecg_jax import __main__ as cli
from ecg_jax.files import whole_file
from ecg_jax.files.whole_file import read_json, write_json
from ecg_jax.store.curve import curve_steps
from ecg_jax.store.finished import read_record
from ecg_jax.store.layout import Store, open_store, read_study
from ecg_jax.store.merge import merge
from ecg_jax.store.tables import export

TARGETS = targets(seeds=(0, 1))
SHORT, LONG = TARGETS[:2]


@pytest.fixture(params=["with checksums", "of an earlier version"])
def store(tmp_path, request):
    made = finished_store(tmp_path / "store", TARGETS)
    if request.param == "of an earlier version":
        without_checksums(made)
    return made


def deleted(path):
    path.unlink()


def emptied(path):
    path.write_text("")


def cut(path):
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def a_row_less(path):
    lines = path.read_text().splitlines(keepends=True)
    path.write_text("".join(lines[:3] + lines[4:]))


def the_last_rows_less(path):
    path.write_text("".join(path.read_text().splitlines(keepends=True)[:-3]))


def another_column(path):
    path.write_text(path.read_text().replace("loss", "lost").replace("seen", "held"))


def a_column_less(path):
    path.write_text("".join(line.rpartition(",")[0] + "\n" for line in path.read_text().splitlines()))


def no_number(path):
    lines = path.read_text().splitlines()
    path.write_text("\n".join([*lines[:-1], lines[-1].rpartition(",")[0] + ",x"]) + "\n")


def nan(path):
    lines = path.read_text().splitlines()
    path.write_text("\n".join([*lines[:-1], lines[-1].rpartition(",")[0] + ",nan"]) + "\n")


def of_another_run(path):
    path.write_text(re.sub(r"^[0-9a-f]{16}", "0123456789abcdef", path.read_text(), flags=re.MULTILINE))


DAMAGES = (
    deleted,
    emptied,
    cut,
    a_row_less,
    the_last_rows_less,
    another_column,
    a_column_less,
    no_number,
    nan,
    of_another_run,
)


@pytest.mark.parametrize(
    ("name", "damage"),
    [
        *((name, damage) for name in ("patients.csv", "curve.csv") for damage in DAMAGES),
        *(("sources.csv", damage) for damage in DAMAGES if damage is not a_row_less),  # it has one
    ],
)
def test_a_damaged_table_is_named_and_nothing_is_written(store, tmp_path, capsys, name, damage):
    folder = store.trunk(LONG) if name == "curve.csv" else store.run(LONG)
    path = folder / name
    of_earlier = not read_record(store.run(LONG)).checksums
    damage(path)
    assert cli.main(["export", str(store.root), "--out", str(tmp_path / "out")]) == (
        0 if of_earlier and name == "sources.csv" and damage is deleted else 2  # they had none
    )
    told = capsys.readouterr().err
    assert str(path) in told or not told
    if told:
        assert told.count("\n") == 1 and ("delete" in told or "missing" in told)
        assert not (tmp_path / "out").exists()


def test_what_is_wrong_is_said_with_line_and_remedy(tmp_path):
    store = finished_store(tmp_path / "store", TARGETS)
    path = store.run(LONG) / "patients.csv"
    sound = path.read_text()
    for change, message in {
        (lambda text: text.replace(",0,", ",zero,", 1)): "has mask 'zero', which is no whole number in line 2",
        (lambda text: text[:-5]): "is cut short",
        (lambda text: text.replace("\n", ",1\n", 5)): "has the columns run_id, patient_id, mask, loss, 1; expected",
        (lambda text: re.sub(r"(?m)^(.*,0,.*)\d$", r"\g<1>7", text, count=1)): "is not what it was when its run was",
    }.items():
        path.write_text(change(sound))
        with pytest.raises(ValueError, match=re.escape(message)) as raised:
            export(store, tmp_path / "out")
        assert f"delete {store.run(LONG)}: the next start does that run again" in str(raised.value)
    path.write_bytes(sound.encode().replace(b",1,", b",\xb1,", 1))
    with pytest.raises(ValueError, match=r"patients\.csv is not UTF-8 at byte \d+ in line 11"):
        export(store, tmp_path / "out")
    path.write_text(sound)
    assert len(pd.read_csv(export(store, tmp_path / "out")["patients"])) == 4 * 18


def test_a_table_of_an_earlier_version_is_held_to_its_record(tmp_path):
    store = finished_store(tmp_path / "store", TARGETS)
    without_checksums(store)
    path = store.run(LONG) / "patients.csv"
    frame = pd.read_csv(path)
    frame[frame.patient_id != frame.patient_id.iloc[0]].to_csv(path, index=False)
    with pytest.raises(ValueError, match=r"has not the rows of .*, of the same response|has the mean loss"):
        export(store, tmp_path / "out")


def test_a_digit_of_a_curve_that_was_changed_is_noticed(tmp_path):
    store = finished_store(tmp_path / "store", TARGETS)
    target = open_store(tmp_path / "target", "s", TARGETS, {"target": "t"})
    path = store.trunk(LONG) / "curve.csv"
    lines = path.read_text().splitlines(keepends=True)
    path.write_text("".join([*lines[:2], lines[2].replace("\n", "1\n"), *lines[3:]]))
    for read in (lambda: export(store, tmp_path / "tables"), lambda: merge(store, target)):
        with pytest.raises(ValueError, match=r"curve\.csv is not what it was when its last run was recorded"):
            read()
    without_checksums(store)
    export(store, tmp_path / "tables")  # of an earlier version nobody knows


def test_two_rows_of_one_source_are_refused(tmp_path):
    store = finished_store(tmp_path / "store", TARGETS)
    without_checksums(store)
    path = store.run(LONG) / "sources.csv"
    path.write_text(path.read_text() + path.read_text().splitlines(keepends=True)[-1])
    with pytest.raises(ValueError, match=r"sources\.csv has two rows of one source"):
        export(store, tmp_path / "out")


def test_the_tables_are_those_of_all_runs(store, tmp_path):
    tables = {name: pd.read_csv(path) for name, path in export(store, tmp_path / "out").items()}
    assert {name: len(table) for name, table in tables.items()} == {
        "runs": 4,
        "patients": 4 * 9 * 2,
        "sources": 4,
        "curve": 2 * len(curve_steps(LONG.branch_step)),
    }
    assert "checksums" not in tables["runs"] and all((table.target == "t").all() for table in tables.values())
    means = tables["patients"].groupby("run_id").loss.mean()
    assert means[tables["runs"].run_id].tolist() == pytest.approx(tables["runs"].loss.tolist())


def test_runs_of_an_earlier_version_without_sources_are_told(tmp_path, caplog):
    store = finished_store(tmp_path / "store", TARGETS)
    tree = read_json(store.run(SHORT) / "record.json")
    del tree["checksums"]
    write_json(store.run(SHORT) / "record.json", tree)
    (store.run(SHORT) / "sources.csv").unlink()
    assert len(pd.read_csv(export(store, tmp_path / "out")["sources"])) == 3
    assert "1 runs of an earlier version have no sources.csv" in caplog.text


@pytest.mark.parametrize("end", [9, 26])
def test_a_run_that_diverged_needs_no_curve_to_its_end(tmp_path, end):
    store = finished_store(tmp_path / "store", [LONG], [], end=end)
    finish(store, LONG, end=end)
    tables = export(store, tmp_path / "out")
    assert len(pd.read_csv(tables["curve"])) == len(curve_steps(min(end, LONG.branch_step)))
    assert len(ecg_jax.load_run(store.run(LONG)).patients) == 18


@pytest.mark.parametrize(
    "change",
    [
        lambda tree: tree | {"loss": tree["loss"] + 1e-9},
        lambda tree: tree | {"loss": str(tree["loss"])},
        lambda tree: tree | {"n_params": tree["n_params"] + 1},
        lambda tree: tree | {"message": "well"},
        lambda tree: {name: value for name, value in tree.items() if name != "seed"},
        lambda tree: tree | {"more": 1},
        lambda tree: tree | {"checksums": None},
        lambda tree: tree | {"checksums": {}},
    ],
)
def test_a_record_knows_whether_it_was_changed(tmp_path, change):
    store = finished_store(tmp_path / "store", TARGETS, [LONG])
    path = store.run(LONG) / "record.json"
    write_json(path, change(read_json(path)))
    with pytest.raises(ValueError, match=re.escape(f"{path} is not what was written: its checksum is another")):
        export(store, tmp_path / "out")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda tree: tree | {"loss": "0.5"}, "says loss = '0.5'"),
        (lambda tree: tree | {"diverged": 0}, "says diverged = 0"),
        (lambda tree: tree | {"diverged": True}, r"says loss = 0\.\d+, diverged = True"),
        (lambda tree: {name: value for name, value in tree.items() if name != "loss"}, "says loss = 'nothing'"),
        (lambda tree: tree | {"run_id": SHORT.run_id}, f"is of run {SHORT.run_id}"),
        (lambda tree: list(tree), "holds a list, not an object"),
    ],
)
def test_a_record_of_an_earlier_version_is_held_to_its_types(tmp_path, change, message):
    store = finished_store(tmp_path / "store", TARGETS, [LONG])
    without_checksums(store)
    path = store.run(LONG) / "record.json"
    write_json(path, change(read_json(path)))
    with pytest.raises(ValueError, match=f"{re.escape(str(path))} {message}"):
        export(store, tmp_path / "out")


def test_a_run_in_the_folder_of_another_is_refused(tmp_path):
    store = finished_store(tmp_path / "store", TARGETS)
    store.run(SHORT).rename(tmp_path / "away")
    store.run(LONG).rename(store.run(SHORT))
    with pytest.raises(ValueError, match=f"record.json is of run {LONG.run_id}"):
        export(store, tmp_path / "out")
    with pytest.raises(ValueError, match=f"config.json is of run {LONG.run_id}"):
        ecg_jax.load_run(store.run(SHORT))


@pytest.mark.parametrize(
    "text", [b'{"run_id": "\xdf"}', b"null", b"[]", b"", b'{"format": NaN}', b"[" * 100_000, b"9" * 5000]
)
@pytest.mark.parametrize("read", [read_study, read_json])
def test_json_of_any_damage_names_its_file(tmp_path, text, read):
    path = tmp_path / "study.json"
    path.write_bytes(text)
    with pytest.raises(ValueError, match=re.escape(str(path))):
        read(path)


def test_a_study_knows_whether_it_was_changed(tmp_path):
    store = finished_store(tmp_path / "store", TARGETS)
    path = store.path / "study.json"
    path.write_text(path.read_text().replace('"seed": 1', '"seed": 2', 1))
    with pytest.raises(ValueError, match=r"study\.json is not what was written: its checksum is another"):
        store.targets()
    tree = json.loads(path.read_text())
    del tree["checksum"], tree["targets"][0]["model"]
    write_json(path, tree)
    with pytest.raises(ValueError, match=r"study\.json holds a run that this ecg-jax does not know: .*model"):
        store.targets()


def test_a_table_is_read_as_fast_with_many_files(tmp_path, monkeypatch):
    """Every file is opened once, and all are parsed in one go."""
    store = finished_store(tmp_path / "store", TARGETS)
    opened, parsed = [], []
    read, parse = whole_file.read_text, pd.read_csv
    monkeypatch.setattr(
        whole_file, "read_text", lambda path, **options: (opened.append(path), read(path, **options))[1]
    )
    monkeypatch.setattr(pd, "read_csv", lambda *found, **options: (parsed.append(1), parse(*found, **options))[1])
    export(store, tmp_path / "out")
    assert len(opened) == len(set(opened)) and len(parsed) == 3


def test_a_store_is_made_as_the_engine_makes_it(tmp_path):
    """The made-up stores of these tests have what a study leaves."""
    store = finished_store(tmp_path / "store", [LONG])
    record = Store(tmp_path / "store", "s").record(LONG)
    assert record.keys() >= MACHINE.keys() and record["loss"] == pytest.approx(loss_at(LONG, 32, 0), rel=0.1)
    assert store.is_done(LONG)
