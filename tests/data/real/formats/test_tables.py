"""Tables as people and spreadsheets write them: whose a recording is must not depend on how a column is called."""

import codecs
import unicodedata
from pathlib import Path

import pytest
from support.wfdb_folders import made

from ecg_jax.data.real.datasets import any_folder
from ecg_jax.data.real.datasets.catalogue import Output
from ecg_jax.data.real.datasets.patients import Row, read_rows
from ecg_jax.data.real.formats.tables import identity, known, listed_labels, read_table, split_labels

RECORDS = tuple(f"ward{k % 2}/{k:05d}" for k in range(1, 9))


def written(to: Path, text: str | bytes) -> Path:
    (to / "t.csv").write_bytes(text if isinstance(text, bytes) else text.encode())
    return to / "t.csv"


def read(to: Path, text: str | bytes, records=RECORDS, part_of=()) -> tuple[dict[str, Row], str]:
    rows, notes = read_rows(written(to, text), list(records), dict(part_of))
    return rows, "\n".join(notes)


def patients(rows: dict[str, Row]) -> list[str]:
    return [rows[record].patient for record in RECORDS]


def table(header: str, by: str = ",") -> str:
    """Two recordings of each patient, in a fold each."""
    cells = ((record, f"p{k // 2}", f"{k // 2 + 1}", "SR") for k, record in enumerate(RECORDS))
    return "\n".join([header, *(by.join(row) for row in cells)]) + "\n"


EXPECTED = {record: Row(f"p{k // 2}", k // 2 + 1, ("SR",)) for k, record in enumerate(RECORDS)}


@pytest.mark.parametrize("record", ["record", "Record", " record ", "\ufeffrecord", '"record"', "ecg_id", "FileName"])
@pytest.mark.parametrize(
    "patient", ["patient", " patient", "Patient", "PATIENT_ID", "patient id", "PatientUUID", "subject", "Subject-Id"]
)
def test_columns_by_any_of_their_names(tmp_path, record, patient):
    rows, told = read(tmp_path, table(f"{record},{patient},fold,labels"))
    assert rows == EXPECTED
    assert "not understood" not in told


@pytest.mark.parametrize("fold", ["fold", "strat_fold", "Fold "])
@pytest.mark.parametrize("labels", ["labels", "label", "Dx", "scp_codes", "AHA_Code"])
def test_folds_and_labels_by_any_of_their_names(tmp_path, fold, labels):
    assert read(tmp_path, table(f"record,patient,{fold},{labels}"))[0] == EXPECTED


@pytest.mark.parametrize("by", [",", ";", "\t", "|", " , ", "; "])
@pytest.mark.parametrize(
    "change",
    [
        str.encode,
        lambda text: codecs.BOM_UTF8 + text.encode(),
        lambda text: text.encode("utf-16"),
        lambda text: text.replace("\n", "\r\n").encode(),
        lambda text: text.replace("\n", "\n\n").encode(),
        lambda text: (text + ",,,\n").encode(),
        lambda text: f"sep=;\n{text}".encode(),
    ],
    ids=["plain", "BOM", "UTF-16", "DOS", "empty lines", "empty cells", "Excel's line"],
)
def test_separators_and_encodings(tmp_path, by, change):
    text = table(by.join(("record", "patient", "fold", "labels")), by)
    if by.strip() == "," or ",,," not in change(text).decode("utf-8", "ignore"):
        assert read(tmp_path, change(text))[0] == EXPECTED


def test_an_unknown_column_is_named_and_a_renamed_one_too(tmp_path):
    rows, told = read(tmp_path, table("record,subject_id,sex,hospital code"))
    assert patients(rows) == patients(EXPECTED) and rows[RECORDS[0]].fold is None
    assert "t.csv: columns not understood, and not read: 'sex', 'hospital code'" in told
    assert "t.csv: read 'subject_id' as patient" in told


@pytest.mark.parametrize(
    ("header", "named"),
    [
        ("record,patient,patient_id,labels", "'patient', 'patient_id'"),
        ("record,Patient, patient ,labels", "'Patient', 'patient'"),
        ("record,patient,label,dx", "'label', 'dx'"),
        ("record,filename,patient,fold", "'record', 'filename'"),
        ("record,fold,strat_fold,labels", "'fold', 'strat_fold'"),
    ],
)
def test_two_columns_of_one_meaning_are_an_error(tmp_path, header, named):
    with pytest.raises(ValueError, match=rf"t\.csv: columns \[{named}\] both mean"):
        read(tmp_path, table(header))


@pytest.mark.parametrize("nothing", ["", " ", "nan", "NaN", "NA", "None", "unknown", "Unknown ", "null", "'nan'", "?"])
def test_a_patient_who_is_not_known_is_nobody_elses(tmp_path, nothing):
    text = "record,patient\n" + "".join(f"{record},{nothing if k < 4 else 'p'}\n" for k, record in enumerate(RECORDS))
    rows, told = read(tmp_path, text)
    assert patients(rows) == [""] * 4 + ["p"] * 4
    assert "t.csv: no patient for 4 of 8 recordings (such as 'ward1/00001'): each is a patient of its own" in told


def test_a_recording_without_a_patient_is_never_the_patient_of_its_name(tmp_path):
    for name in ("a", "b", "c"):
        made(tmp_path / "r", name)
    written(tmp_path, "record,patient\na,\nb,a\nc,a\n")
    listed = any_folder.list_folder("x", tmp_path / "r", Output(), tmp_path / "t.csv")
    a, b, c = listed.recordings
    assert a.patient_id != b.patient_id == c.patient_id and b.fold == c.fold


def test_ids_are_compared_as_ids(tmp_path):
    said = ["15709.0", "15709", " 15709 ", "'15709'", '"15709"', "15709.00", "15708", "015709"]
    text = "record,patient\n" + "".join(f"{r},{p}\n" for r, p in zip(RECORDS, said, strict=True))
    assert patients(read(tmp_path, text)[0]) == ["15709"] * 6 + ["15708", "015709"]


@pytest.mark.parametrize("said", ["1.0", "1", " 1 ", "1.00"])
def test_folds_as_spreadsheets_write_them(tmp_path, said):
    assert read(tmp_path, f"record,fold\n{RECORDS[0]},{said}\n")[0][RECORDS[0]].fold == 1


@pytest.mark.parametrize("said", ["1.5", "train", "-1", "1e3", "²"])
def test_a_fold_that_is_no_whole_number_is_refused(tmp_path, said):
    with pytest.raises(ValueError, match=r"line 2: fold of ward1/00001 is .*, expected a whole number"):
        read(tmp_path, f"record,fold\n{RECORDS[0]},{said}\n")


def test_a_patient_in_two_folds_is_refused_however_the_id_is_written(tmp_path):
    for name in ("a", "b"):
        made(tmp_path / "r", name)
    written(tmp_path, "record,subject,strat_fold\na,7.0,1.0\nb,7,2\n")
    with pytest.raises(ValueError, match=r"one patient is in fold 1 \(x/a\) and 2 \(x/b\): a split by fold would leak"):
        any_folder.list_folder("x", tmp_path / "r", Output(), tmp_path / "t.csv")


def test_a_fold_that_is_not_given_is_the_patients(tmp_path):
    for name in ("a", "b", "c"):
        made(tmp_path / "r", name)
    written(tmp_path, "record,patient,fold\na,p,\nb,p,77\nc,q,\n")
    listed = any_folder.list_folder("x", tmp_path / "r", Output(), tmp_path / "t.csv")
    assert [entry.fold for entry in listed.recordings[:2]] == [77, 77] and 1 <= listed.recordings[2].fold <= 10
    assert "t.csv: no fold for 2 of 3 recordings (such as 'a'): that of the patient, or by hash" in listed.notes


@pytest.mark.parametrize(
    "said",
    ["ward1/00001", "./ward1/00001", "ward1/00001.hea", "ward1\\00001.dat", "/data/ecg/ward1/00001.EDF", "00001", "1",
     "WARD1/00001", "Ward1\\00001.XML", "00001.xml"],
)  # fmt: skip
def test_recordings_by_their_paths_files_and_numbers(tmp_path, said):
    rows, told = read(tmp_path, f"record,patient\n{said},p\n")
    assert rows["ward1/00001"].patient == "p" and "no row for 7 of 8" in told


@pytest.mark.parametrize("said", ["ward2/00001", "../ward1/00001", "1.hea.gz", "ward1", "x00001"])
def test_another_recording_is_not_taken_for_it(tmp_path, said):
    with pytest.raises(ValueError, match=r"1 of 1 records have no .hea or .edf file, such as "):
        read(tmp_path, f"record,patient\n{said},p\n")


def test_recordings_that_differ_in_case_alone_are_two(tmp_path):
    rows, _ = read(tmp_path, "record,patient\nA,p\na,q\n", ("A", "a"))
    assert (rows["A"].patient, rows["a"].patient) == ("p", "q")
    assert read(tmp_path, "record,patient\nA,p\n", ("w/A", "w/a"))[0]["w/A"].patient == "p"
    with pytest.raises(ValueError, match=r"1 of 1 records have no .hea or .edf file, such as 'W/É'"):
        read(tmp_path, "record,patient\nW/É,p\n", ("w/e\u0301", "w/é"))


def test_accents_as_macos_writes_them(tmp_path):
    rows, _ = read(tmp_path, "record,patient\nGröße/r,p\n", (unicodedata.normalize("NFD", "Größe/r"), "x/r"))
    assert [row.patient for row in rows.values()] == ["p", ""]


def test_a_name_that_two_recordings_have_is_none(tmp_path):
    with pytest.raises(ValueError, match=r"1 of 1 records have no .hea or .edf file, such as '7'"):
        read(tmp_path, "record,patient\n7,p\n", ("a/7", "b/7"))


def test_rows_that_fit_nothing_and_recordings_without_a_row_are_counted(tmp_path):
    text = table("record,patient,fold,labels").replace(RECORDS[2], "else/where")
    rows, told = read(tmp_path, text + f"{RECORDS[0]},p0,1.0,SR\n")
    assert rows[RECORDS[2]] == Row() and rows[RECORDS[0]] == EXPECTED[RECORDS[0]]
    assert "t.csv: no recording is here for 1 of 9 rows (such as 'else/where')" in told
    assert "t.csv: no row for 1 of 8 recordings (such as 'ward1/00003'): each is a patient of its own" in told
    assert "t.csv: 1 rows say again what another row says" in told


@pytest.mark.parametrize("row", ["ward1/00001,q,1,SR", "1,p0,2,SR", "ward1/00001.hea,p0,1,AFIB", "ward1/00001,,1,SR"])
def test_rows_that_contradict_each_other_are_refused(tmp_path, row):
    with pytest.raises(ValueError, match=r"line 10: record 'ward1/00001' is there twice, and its .*, unlike in line 2"):
        read(tmp_path, table("record,patient,fold,labels") + row + "\n")


def test_a_row_of_a_part_is_about_the_whole(tmp_path):
    text = "record,patient\np_0001,7\np_0002,7.0\n"
    rows, told = read(tmp_path, text, ("p", "q"), {"p_0001": "p", "p_0002": "p"})
    assert rows["p"].patient == "7" and "no row for 1 of 2 recordings (such as 'q')" in told


@pytest.mark.parametrize(
    ("text", "match"),
    [
        ("record,patient\nr,p,extra\n", r"t\.csv, line 2: 3 cells for 2 columns; put a cell that holds ','"),
        ('record,patient\nr,"p\n', r"t\.csv is no table of separated text \(unexpected end of data\)"),
        (b"\x50\x4b\x03\x04\xff\xfe", r"t\.csv is no table of separated text"),
        ("record patient\nr p\n", r"t\.csv: there is no column 'record'; found \['record patient'\]"),
        ("", r"t\.csv: there is no column 'record'; found \[\]"),
        ("record,patient\n", r"t\.csv: the table has no rows"),
    ],
)
def test_what_is_no_table_is_told(tmp_path, text, match):
    with pytest.raises(ValueError, match=match):
        read(tmp_path, text, ("r",))


@pytest.mark.parametrize(
    ("cell", "labels"),
    [
        ("AFIB;LBBB", ("AFIB", "LBBB")),
        ("164889003,59118001", ("164889003", "59118001")),
        ("AFIB | LBBB", ("AFIB", "LBBB")),
        ("Sinus rhythm, slow; LVH", ("LVH", "Sinus rhythm, slow")),
        ("Sinus rhythm, slow", ("Sinus rhythm, slow",)),
        ("['NORM', 'SR']", ("NORM", "SR")),
        ("426783006.0", ("426783006",)),
        ("{'NORM': 100.0, 'SR': 0.0}", ("NORM", "SR")),
        ("[NORM]", ("NORM",)),
        ("Unknown", ()),
        ("nan;AFIB; ;None", ("AFIB",)),
        ("", ()),
    ],
)
def test_labels_in_a_cell(cell, labels):
    assert listed_labels(cell) == tuple(sorted(labels))


@pytest.mark.parametrize(
    "dx", ["Unknown", "unknown", "nan", "", " ", "None", "Unknown,nan", "n.a.", "Not available", "unspecified"]
)
def test_a_diagnosis_that_is_not_known_is_no_label(tmp_path, dx):
    made(tmp_path / "r", "r")
    header = tmp_path / "r" / "r.hea"
    header.write_text(header.read_text().replace("59118001,426783006", dx))
    (entry,) = any_folder.list_folder("x", tmp_path / "r", Output()).recordings
    assert any_folder.load(entry).labels == ()
    assert split_labels(f"{dx},426783006", ",") == ("426783006",)


def test_what_is_known_stays_as_it_is():
    assert [known(text) for text in (" p1 ", "NaNcy", "None of these", "0")] == ["p1", "NaNcy", "None of these", "0"]
    assert [identity(text) for text in ("0012.0", "1.5", "p.0", "1e5")] == ["0012", "1.5", "p.0", "1e5"]


def test_published_tables_are_read_by_the_same_rules(tmp_path):
    path = written(tmp_path, '\ufeff"exam_id"; Patient_ID ;x\r\n7.0;nan;\r\n')
    assert [row for _, row in read_table(path, ("exam_id", "patient_id"))] == [{"exam_id": "7.0", "patient_id": "nan"}]
    written(tmp_path, "exam_id,patient_id,Patient_ID\n1,2,3\n")
    with pytest.raises(ValueError, match=r"columns \['patient_id', 'Patient_ID'\] both mean 'patient_id'"):
        read_table(path, ("exam_id", "patient_id"))
