"""The common vocabulary agrees with published tables, and on recordings that two sets hold under their own codes."""

import csv
from collections import Counter

from support.wfdb_folders import read

from ecg_jax.data.real.datasets import any_folder, ptbxl
from ecg_jax.data.real.datasets.catalogue import Output
from ecg_jax.data.real.datasets.label_names import STATEMENTS, common, name_of


def test_no_code_means_two_things():
    counts = Counter(code for statement in STATEMENTS for code in statement.codes)
    assert max(counts.values()) == 1 and len(counts) == len(name_of())
    assert len({statement.name for statement in STATEMENTS}) == len(STATEMENTS)


def test_labels_are_translated_and_unknown_ones_left_out():
    assert common(("AFIB", "CRBBB", "STTC")) == ("AF", "RBBB")
    assert common(("164889003", "713427006", "59118001", "999")) == ("AF", "RBBB")
    assert common(("50+346", "22", "147+367", "147+365")) == ("AF", "SB", "TAb", "TInv")
    assert common(("AF", "ST", "1dAVb", "Rhythm: Sinus rhythm")) == ("AF", "IAVB", "STach")


def rows(path):
    with path.open(newline="", encoding="utf-8-sig") as file:
        return list(csv.DictReader(file))


def test_the_challenges_tables_say_the_same(ecg_data_dir):
    """Every scored code has a name; equivalent pairs have one; AHA codes mean what the published mapping says."""
    challenge, names = ecg_data_dir / "challenge2021", name_of()
    merged = {"CLBBB": "LBBB", "CRBBB": "RBBB", "SVPB": "PAC", "VPB": "PVC"}
    for row in rows(challenge / "scored_diagnoses_2021.csv"):
        assert names[row["SNOMEDCTCode"]] == merged.get(row["Abbreviation"], row["Abbreviation"])
    for row in rows(challenge / "AHA_SNOMED_mapping.csv"):
        assert common([row["AHA_Code"]]) == common([row["SNOMEDCTCode"]]), row


def test_ptbxls_table_says_the_same(ecg_data_dir):
    names = name_of()
    for row in rows(ecg_data_dir / "ptbxl" / "scp_statements.csv"):
        code, aha = row[""], row["AHA code"].partition(".")[0]
        if code in names and aha in names and code != "LPR":  # AHA has one code for it and first-degree block
            assert names[code] == names[aha], row


def test_one_recording_in_two_sets_has_one_meaning(ecg_data_dir):
    """What PTB-XL says of ten of its recordings the Challenge, which has them too, says in its own codes (and more)."""
    shared = {statement.name for statement in STATEMENTS if statement.snomed and statement.scp}
    own = {recording.record_id[-5:]: recording for recording in ptbxl.list_raw(ecg_data_dir)}
    listed = any_folder.list_folder("c", ecg_data_dir / "challenge2021" / "ptb-xl", Output()).recordings
    twins = [entry for entry in listed if entry.record_id[-5:] in own]
    assert len(twins) == 10
    for twin in twins:
        ours = set(common(own[twin.record_id[-5:]].labels)) & shared
        assert ours and ours <= set(common(read(twin)[1])), twin.record_id
