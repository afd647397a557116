"""Labels of PTB-XL's tasks against its published table of classes, and of users' tables."""

import ast
import csv
import shutil

import numpy as np
import pytest
from support.synthetic_pools import made_up_pool

from ecg_jax.evaluate.labels import (
    FEWEST_IN_TRAINING,
    FEWEST_SCORED,
    Task,
    choose_classes,
    find_rows,
    gather,
    read_labels,
    read_ptbxl_labels,
)

#: The published table's columns by task, and its records whose classes are not those of their statements.
PUBLISHED = {
    Task.SUPERDIAGNOSTIC: ("super_class", {"ptbxl/03796", "ptbxl/09822"}),
    Task.SUBDIAGNOSTIC: ("sub_class", {"ptbxl/01371", "ptbxl/03796", "ptbxl/03802", "ptbxl/09822"}),
    Task.FORM: ("form", {"ptbxl/09822"}),
    Task.RHYTHM: ("rhythm", set()),
}
#: Codes that the published table writes without their underscore.
BARE = {"_AVB": "AVB", "ISC_": "ISC", "NST_": "NST", "NT_": "NT", "STD_": "STD", "STE_": "STE", "TAB_": "TAB"}


@pytest.fixture(scope="module")
def six_thousand(ecg_data_dir, tmp_path_factory):
    """A folder with the published statements of 6,108 records, and the published classes of all."""
    folder = tmp_path_factory.mktemp("labels")
    shutil.copy(ecg_data_dir / "ptbxl_labels" / "ptbxl_database_partial.csv", folder / "ptbxl_database.csv")
    shutil.copy(ecg_data_dir / "ptbxl" / "scp_statements.csv", folder)
    with (ecg_data_dir / "ptbxl_labels" / "ptbxl_labels_all21799.csv").open() as file:
        classes = {f"ptbxl/{int(row['ecg_id']):05d}": row for row in csv.DictReader(file)}
    return folder, classes


def classes_by_record(labels):
    names = np.array([BARE.get(name, name) for name in labels.classes])
    return {record: set(names[row]) for record, row in zip(labels.record_id_N, labels.positive_NxC, strict=True)}


def differing(ours, published, column, records):
    """The records whose classes are not those of the published column."""
    theirs = {record: set(filter(None, published[record][column].split(";"))) for record in records}
    return {
        record for record in records if ours.get(record, set()) != {BARE.get(name, name) for name in theirs[record]}
    }


@pytest.mark.parametrize("task", PUBLISHED)
def test_classes_are_the_published_ones_but_for_records_that_are_named(task, six_thousand):
    folder, published = six_thousand
    with (folder / "ptbxl_database.csv").open() as file:
        named = {f"ptbxl/{int(row['ecg_id']):05d}" for row in csv.DictReader(file)}
    both = named & published.keys()
    assert len(both) == 6095
    column, known = PUBLISHED[task]
    assert differing(classes_by_record(read_ptbxl_labels(folder, task)), published, column, both) == known


def test_a_rule_that_drops_what_has_no_likelihood_is_another(six_thousand, tmp_path):
    folder, published = six_thousand
    with (folder / "ptbxl_database.csv").open() as file:
        rows = list(csv.DictReader(file))
    for row in rows:
        row["scp_codes"] = repr({code: x for code, x in ast.literal_eval(row["scp_codes"]).items() if x})
    shutil.copy(folder / "scp_statements.csv", tmp_path)
    with (tmp_path / "ptbxl_database.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    both = {f"ptbxl/{int(row['ecg_id']):05d}" for row in rows} & published.keys()
    dropped = differing(classes_by_record(read_ptbxl_labels(tmp_path, Task.RHYTHM)), published, "rhythm", both)
    assert 1 - len(dropped) / len(both) < 0.1


def test_records_of_both_samples_are_labelled_once_and_those_without_statement_counted(ecg_data_dir):
    found = {task: read_ptbxl_labels(ecg_data_dir, task) for task in Task}
    counts = {task: (len(labels.record_id_N), labels.without) for task, labels in found.items()}
    assert counts == {
        Task.ALL: (500, 0),
        Task.DIAGNOSTIC: (488, 12),
        Task.SUBDIAGNOSTIC: (1952, 12),
        Task.SUPERDIAGNOSTIC: (1952, 12),
        Task.FORM: (632, 1332),
        Task.RHYTHM: (1895, 69),
    }
    assert found[Task.SUPERDIAGNOSTIC].classes == ("CD", "HYP", "MI", "NORM", "STTC")
    assert len({labels.fingerprint for labels in found.values()}) == 6
    assert found[Task.FORM].fingerprint == read_ptbxl_labels(ecg_data_dir, Task.FORM).fingerprint


def test_an_unknown_statement_is_refused(six_thousand, tmp_path):
    shutil.copy(six_thousand[0] / "scp_statements.csv", tmp_path)
    (tmp_path / "ptbxl_database.csv").write_text("ecg_id,scp_codes\n1,{'WHAT': 0.0}\n")
    with pytest.raises(ValueError, match=r"line 2: scp_codes holds \['WHAT'\], which scp_statements.csv does not list"):
        read_ptbxl_labels(tmp_path, Task.ALL)
    (tmp_path / "ptbxl_database.csv").write_text("ecg_id,scp_codes\n1,NORM\n")
    with pytest.raises(ValueError, match="not a mapping of SCP codes"):
        read_ptbxl_labels(tmp_path, Task.ALL)


def test_a_table_of_a_user_adds_up_and_meets_the_pool(tmp_path):
    pool = made_up_pool(4, 2, name="mine")
    table = tmp_path / "afib.csv"
    rows = [f"{pool.record_id[2]};AF", f"{pool.record_id[2]};LBBB", f"{pool.record_id[0]};AF|old", "mine/other;AF"]
    table.write_text("Recording;Label\n" + "\n".join([*rows, f"{pool.record_id[1]};nan"]) + "\n")
    labels = read_labels(table)
    assert (labels.task, labels.classes, labels.without) == ("afib", ("AF", "LBBB", "old"), 1)
    rows = find_rows(labels, pool)
    assert rows.row_N.tolist() == [0, 2] and rows.unlabelled == 2
    assert rows.positive_NxC.tolist() == [[True, False, True], [True, True, False]]
    with pytest.raises(ValueError, match="none of the 4 records has a label of 'afib': records are named like"):
        find_rows(labels, made_up_pool(4, 2, name="other"))
    table.write_text("record,age\na,3\n")
    with pytest.raises(ValueError, match="no column 'label'"):
        read_labels(table)
    with pytest.raises(ValueError, match="none of 1 records has a label"):
        gather("t", {"a": ()})


def test_classes_too_rare_to_score_are_named_with_their_counts():
    rare, common, all_of_them, untrained = np.zeros(60, bool), np.zeros(60, bool), np.ones(60, bool), np.zeros(60, bool)
    rare[: FEWEST_SCORED - 1], common[:FEWEST_SCORED], untrained[:20] = True, True, True
    scored = np.stack([rare, common, all_of_them, untrained], axis=1)
    training = np.stack([np.arange(100) < n for n in (50, FEWEST_IN_TRAINING, 50, FEWEST_IN_TRAINING - 1)], axis=1)
    found = choose_classes(("rare", "common", "all", "untrained"), training, scored)
    assert found.classes == ("common",) and not found.has_macro
    assert found.left_out == {
        "rare": "14 positive and 46 negative records scored, 15 wanted",
        "all": "60 positive and 0 negative records scored, 15 wanted",
        "untrained": "29 positive records in training, 30 wanted",
    }
