"""PTB-XL is read as published; what is not as published is named; both variants are one population."""

import csv
import shutil
from pathlib import Path

import numpy as np
import pytest
from scipy import signal, stats
from support.ptbxl_layout import NAMES, ecg_like, write_ptbxl, write_signal, write_table, write_z100

from ecg_jax.data.ecg import RecordPool, normalise
from ecg_jax.data.exclusions import Exclusion
from ecg_jax.data.preprocess import apply_chain
from ecg_jax.data.real import data_dir_from_environment
from ecg_jax.data.real.datasets.prepare import prepare_ptbxl
from ecg_jax.data.real.datasets.ptbxl import (
    Recording,
    list_z100,
    load_ptbxl,
    read_ptbxl,
    read_ptbxl_z100,
    read_recordings,
    read_signal,
)


def change(table: Path, row: int, **values: str) -> None:
    with table.open(newline="") as file:
        rows = list(csv.DictReader(file))
    rows[row].update(values)
    write_table(table, rows)


@pytest.fixture(scope="module")
def written(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("written")
    write_ptbxl(folder / "ptbxl", count=3)
    return folder


@pytest.fixture
def data_dir(written, tmp_path) -> Path:
    """A copy of three sound recordings, to be spoilt."""
    shutil.copytree(written, tmp_path, dirs_exist_ok=True)
    return tmp_path


def test_reads_what_the_tables_say(data_dir):
    pool = read_ptbxl(data_dir)
    assert pool.record_id.tolist() == ["ptbxl/00001", "ptbxl/00002", "ptbxl/00003"]
    assert pool.patient_id.tolist() == [15001, 15002, 15003]
    assert pool.fold.tolist() == [1, 2, 3]
    assert pool.unit.tolist() == ["mV"] * 3
    assert pool.labels[0] == ("AMI", "ASMI", "MI", "NST_", "SR", "STTC")
    assert np.abs(pool.ecg[1].astype(int) - apply_chain(ecg_like(2), 500, 100)).max() <= 1


def test_folder_as_downloaded_reads_the_same(data_dir):
    assert np.array_equal(read_ptbxl(data_dir).ecg, load_ptbxl(data_dir / "ptbxl").ecg)


@pytest.mark.parametrize("rate", [250, 500])
def test_other_rates(data_dir, rate):
    assert read_ptbxl(data_dir, sample_rate_hz=rate).ecg.shape == (3, 10 * rate, 12)


def test_progress_counts_recordings(data_dir, monkeypatch):
    monkeypatch.setattr("ecg_jax.data.real.datasets.ptbxl.BLOCK", 2)
    steps = []
    pool = read_ptbxl(data_dir, progress=lambda done, total: steps.append((done, total)))
    assert steps == [(2, 3), (3, 3)]
    monkeypatch.undo()
    assert np.abs(pool.ecg.astype(int) - read_ptbxl(data_dir).ecg).max() <= 1


def test_join_takes_shared_recordings_from_the_raw_set(data_dir):
    write_z100(data_dir / "ptbxl_z100", (2, 7))
    pool = load_ptbxl(data_dir)
    assert pool.record_id.tolist() == ["ptbxl/00001", "ptbxl/00002", "ptbxl/00003", "ptbxl/00007"]
    assert pool.unit.tolist() == ["mV", "mV", "mV", "NU"]
    assert pool.labels[3] == ("AMI", "MI", "NST_", "SR", "STTC")  # underscore restored
    z100 = read_ptbxl_z100(data_dir)
    assert np.array_equal(z100.ecg[1], pool.ecg[3])
    assert np.allclose(z100.ecg.std(axis=1), 1000, atol=2)  # not filtered again
    with pytest.raises(ValueError, match=r"sample_rate_hz is 250: .* exists at 100 Hz only"):
        load_ptbxl(data_dir, sample_rate_hz=250)


def test_leads_are_ordered_by_name(data_dir):
    expected = read_ptbxl(data_dir).ecg
    order = np.random.default_rng(0).permutation(12)
    names = tuple(NAMES[i].swapcase() if NAMES[i].startswith("AV") else NAMES[i] for i in order)
    write_signal(data_dir / "ptbxl/records500/00000/00002_hr", ecg_like(2)[:, order], names=names)
    assert np.array_equal(read_ptbxl(data_dir).ecg, expected)


def test_the_signal_is_what_was_written_in_millivolt(data_dir):
    ecg = ecg_like(2)
    ecg[7, 3] = np.nan
    stem = data_dir / "ptbxl/records500/00000/00002_hr"
    write_signal(stem, ecg)
    got = read_signal(Recording("ptbxl/00002", 0, 1, (), stem, 500, "mV"))
    assert np.allclose(got, ecg, rtol=0, atol=0.51e-3, equal_nan=True)  # half a count of 1 µV


def test_missing_and_repeated_leads(data_dir):
    stem = data_dir / "ptbxl/records500/00000/00002_hr"
    header = stem.with_suffix(".hea")
    header.write_text(header.read_text().replace(" V6", " V5"))
    with pytest.raises(ValueError, match=r"records500/00000/00002_hr: leads: V5, V6 not there exactly once"):
        read_ptbxl(data_dir)
    write_signal(stem, ecg_like(2)[:, :11], names=NAMES[:11])
    with pytest.raises(ValueError, match="leads: V6 not there exactly once"):
        read_ptbxl(data_dir)


def test_flaws_raise_or_are_excluded_by_name(data_dir):
    holed, flat = ecg_like(1), ecg_like(3)
    holed[100:105, 4] = np.nan
    flat[:, 0] = 0
    write_signal(data_dir / "ptbxl/records500/00000/00001_hr", holed)
    write_signal(data_dir / "ptbxl/records500/00000/00003_hr", flat)
    with pytest.raises(ValueError, match=r"ptbxl/00001: missing samples: aVL \(5\); .*on_bad"):
        read_ptbxl(data_dir)
    excluded: list[Exclusion] = []
    assert read_ptbxl(data_dir, on_bad=excluded.append).record_id.tolist() == ["ptbxl/00002"]
    assert excluded == [
        Exclusion("ptbxl/00001", "missing samples: aVL (5)"),
        Exclusion("ptbxl/00003", "flat lead: I (all samples 0)"),
    ]


@pytest.mark.parametrize(("kept", "held"), [(0, 0), (60_000, 2500), (119_998, 4999)])
def test_truncated_signal(data_dir, kept, held):
    path = data_dir / "ptbxl/records500/00000/00002_hr.dat"
    path.write_bytes(path.read_bytes()[:kept])
    with pytest.raises(ValueError, match=rf"00002_hr\.hea announces 5000 samples, 00002_hr\.dat holds {held}; fetch"):
        read_ptbxl(data_dir, on_bad=lambda _: None)  # damage is no flaw of the recording: never excluded


def test_flipped_bit(data_dir):
    path = data_dir / "ptbxl/records500/00000/00002_hr.dat"
    content = bytearray(path.read_bytes())
    content[24 * 100 + 2] ^= 4
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"^records500/00000/00002_hr: damaged: checksum of lead II"):
        read_ptbxl(data_dir)


@pytest.mark.parametrize(
    "content", ["", "\n# nothing\n", "00002_hr 12 500 5000\n", "00002_hr x y z\n00002_hr.dat 16\n"]
)
def test_damaged_header(data_dir, content):
    (data_dir / "ptbxl/records500/00000/00002_hr.hea").write_text(content)
    with pytest.raises(ValueError, match=r"00002_hr"):
        read_ptbxl(data_dir)


def test_header_naming_another_file(data_dir):
    path = data_dir / "ptbxl/records500/00000/00002_hr.hea"
    path.write_text(path.read_text().replace("00002_hr.dat", "../00000/00001_hr.dat"))
    with pytest.raises(ValueError, match=r"00002_hr: header: .* only a file beside it is read"):
        read_ptbxl(data_dir)
    path.write_text(path.read_text().replace("../00000/00001_hr.dat", "00001_hr.dat"))
    with pytest.raises(ValueError, match=r"damaged|signals lie in \['00001_hr.dat'\], expected 00002_hr.dat"):
        read_ptbxl(data_dir)


@pytest.mark.parametrize("end", [".hea", ".dat"])
def test_row_without_its_file(data_dir, end):
    (data_dir / "ptbxl/records500/00000/00002_hr").with_suffix(end).unlink()
    with pytest.raises(FileNotFoundError, match=rf"ptbxl/00002: .*00002_hr{end} does not exist, though the database"):
        read_ptbxl(data_dir)


def test_wrong_rate_length_and_unit(data_dir):
    stem = data_dir / "ptbxl/records500/00000/00002_hr"
    write_signal(stem, ecg_like(2, rate_hz=100), rate_hz=100)
    with pytest.raises(ValueError, match=r"00002_hr: header: 1000 samples at 100 Hz, expected 5000 at 500 Hz"):
        read_ptbxl(data_dir)
    write_signal(stem, ecg_like(2, seconds=8))
    with pytest.raises(ValueError, match=r"00002_hr: too short: 8.00 s"):
        read_ptbxl(data_dir)
    write_signal(stem, ecg_like(2), unit="uV")
    with pytest.raises(ValueError, match=r"00002_hr: header: unit \['uV'\], expected mV"):
        read_ptbxl(data_dir)


@pytest.mark.parametrize(
    ("values", "match"),
    [
        ({"strat_fold": "11"}, "line 3: strat_fold is 11, expected 1 to 10"),
        ({"strat_fold": "0"}, "strat_fold is 0"),
        ({"strat_fold": ""}, "strat_fold is '', expected a whole number"),
        ({"patient_id": "15001.5"}, "patient_id is '15001.5', expected a whole number"),
        ({"patient_id": "nan"}, "patient_id is 'nan'"),
        ({"patient_id": "15001.0"}, r"patient_id 15001 is in strat_fold 1 \(ptbxl/00001\) and 2 \(ptbxl/00002\)"),
        ({"ecg_id": "1"}, "ptbxl/00001 appears twice"),
        ({"scp_codes": "{'NORM': "}, "line 3: scp_codes is \"{'NORM': \", not a mapping"),
        ({"scp_codes": "__import__('os').abort()"}, "not a mapping of SCP codes"),
        ({"scp_codes": "['NORM']"}, "not a mapping of SCP codes"),
        ({"scp_codes": "{'XYZ': 100.0}"}, r"holds \['XYZ'\], which scp_statements.csv does not list"),
        ({"filename_hr": ""}, "filename_hr is ''"),
        ({"filename_hr": "/etc/passwd"}, "filename_hr is '/etc/passwd', expected a relative path inside"),
        ({"filename_hr": "records500/../../x"}, "expected a relative path inside"),
        ({"filename_hr": "..\\x"}, "expected a relative path inside"),
        ({"filename_hr": "s3://bucket/x"}, "expected a relative path inside"),
    ],
)
def test_wrong_rows(data_dir, values, match):
    change(data_dir / "ptbxl/ptbxl_database.csv", 1, **values)
    with pytest.raises(ValueError, match=match):
        read_ptbxl(data_dir)


def test_fold_of_a_patient_must_agree_across_variants(data_dir):
    write_z100(data_dir / "ptbxl_z100", (7,))
    change(data_dir / "ptbxl_z100/ptbxl_z100_database.csv", 0, patient_id="15001")
    with pytest.raises(ValueError, match=r"patient_id 15001 is in strat_fold 1 .* and 7"):
        load_ptbxl(data_dir)


def test_folders_of_another_shape(tmp_path, monkeypatch):
    with pytest.raises(FileNotFoundError, match="nowhere is not a folder"):
        load_ptbxl(tmp_path / "nowhere")
    with pytest.raises(FileNotFoundError, match="but nothing: name the folder that holds ptbxl/"):
        load_ptbxl(tmp_path)
    (tmp_path / "ludb").mkdir()
    with pytest.raises(FileNotFoundError, match=r"but \['ludb'\]"):
        load_ptbxl(tmp_path)
    monkeypatch.delenv("ECG_DATA_DIR", raising=False)
    with pytest.raises(FileNotFoundError, match="ECG_DATA_DIR is not set"):
        data_dir_from_environment()
    monkeypatch.setenv("ECG_DATA_DIR", str(tmp_path / "nowhere"))
    with pytest.raises(FileNotFoundError, match="nowhere', which is not a folder"):
        data_dir_from_environment()
    monkeypatch.setenv("ECG_DATA_DIR", str(tmp_path))
    assert data_dir_from_environment() == tmp_path


def test_incomplete_tables(data_dir):
    (data_dir / "ptbxl/scp_statements.csv").rename(data_dir / "ptbxl/other.csv")
    with pytest.raises(FileNotFoundError, match=r"scp_statements.csv does not exist"):
        read_ptbxl(data_dir)
    (data_dir / "ptbxl/other.csv").rename(data_dir / "ptbxl/scp_statements.csv")
    (data_dir / "ptbxl/ptbxl_database.csv").write_text("ecg_id,patient_id\n1,2\n")
    with pytest.raises(ValueError, match=r"columns \['scp_codes', 'strat_fold', 'filename_hr'\] are missing"):
        read_ptbxl(data_dir)


# The real recordings


@pytest.fixture(scope="module")
def joined(ecg_data_dir, ptbxl_cache) -> RecordPool:
    return prepare_ptbxl(ecg_data_dir, ptbxl_cache)


@pytest.fixture(scope="module")
def raw(joined) -> RecordPool:
    return joined.take(np.flatnonzero(joined.unit == "mV"))


@pytest.fixture(scope="module")
def z100(joined) -> RecordPool:
    """Those that the raw set lacks."""
    return joined.take(np.flatnonzero(joined.unit == "NU"))


def log_spectra(ecg: np.ndarray) -> np.ndarray:
    """Standardised log power of the normalised leads I, II, V1, V5 in bands of 2 Hz: (records, features)."""
    x = normalise(ecg)[:, :, [0, 1, 6, 10]]
    _, power = signal.welch(x, fs=100, nperseg=200, axis=1)
    bands = np.log(power[:, 1:101].reshape(len(x), 25, 4, -1).mean(axis=2) + 1e-8).reshape(len(x), -1)
    return (bands - bands.mean(axis=0)) / bands.std(axis=0)


def separability(ecg: np.ndarray, is_second: np.ndarray, patient_id: np.ndarray) -> float:
    """AUROC of ridge regression on log spectra, tested on patients it was not fitted on (5 parts)."""
    x = np.column_stack((np.ones(len(ecg)), log_spectra(ecg)))
    y = is_second - is_second.mean()
    part = patient_id % 5
    score = np.empty(len(y))
    for held_out in range(5):
        fit, test = part != held_out, part == held_out
        weights = np.linalg.solve(x[fit].T @ x[fit] + 10 * np.eye(x.shape[1]), x[fit].T @ y[fit])
        score[test] = x[test] @ weights
    ranks = stats.rankdata(score)
    positives, negatives = is_second.sum(), (~is_second).sum()
    return float((ranks[is_second].sum() - positives * (positives + 1) / 2) / (positives * negatives))


def test_variants_agree_on_their_shared_recordings(raw, ecg_data_dir):
    twice = [recording for recording in list_z100(ecg_data_dir) if recording.record_id in set(raw.record_id)]
    z100 = read_recordings(twice, 100)
    shared, in_raw, in_z100 = np.intersect1d(raw.record_id, z100.record_id, return_indices=True)
    assert len(shared) == 34
    difference = normalise(raw.ecg[in_raw]) - normalise(z100.ecg[in_z100])
    assert np.sqrt((difference**2).mean(axis=(1, 2))).max() <= 0.01
    assert np.array_equal(raw.patient_id[in_raw], z100.patient_id[in_z100])
    assert np.array_equal(raw.fold[in_raw], z100.fold[in_z100])
    for i, j in zip(in_raw, in_z100):
        assert set(z100.labels[j]) <= set(raw.labels[i]), shared


def test_variants_cannot_be_told_apart(raw, z100):
    ecg = np.concatenate((raw.ecg, z100.ecg))
    second = np.arange(len(ecg)) >= len(raw)
    patients = np.concatenate((raw.patient_id, z100.patient_id))
    assert separability(ecg, second, patients) <= 0.6


def test_the_published_100_hz_files_would_be_told_apart(raw, z100, ecg_data_dir):
    """So the classifier above can fail: `records100/` went through another anti-alias filter."""
    chosen = np.arange(0, len(raw), 3)
    published = []
    for record_id in raw.record_id[chosen]:
        name = record_id.removeprefix("ptbxl/")
        stem = ecg_data_dir / f"ptbxl/records100/00000/{name}_lr"
        published.append(read_signal(Recording(record_id, 0, 1, (), stem, 100, "mV")))
    own = np.arange(0, len(z100), 3)
    ecg = np.concatenate((apply_chain(np.stack(published), 100, 100), z100.ecg[own]))
    second = np.arange(len(ecg)) >= len(chosen)
    patients = np.concatenate((raw.patient_id[chosen], z100.patient_id[own]))
    assert separability(ecg, second, patients) >= 0.95


def test_split_sizes(joined):
    """Records and patients that the protocol counts on; no recording of the sample has a flaw (none raised)."""
    fold, patient = joined.fold, joined.patient_id
    sizes = [
        (int(np.isin(fold, folds).sum()), len(np.unique(patient[np.isin(fold, folds)])))
        for folds in (range(1, 9), [9], [10])
    ]
    assert sizes == [(1520, 1487), (226, 212), (218, 209)]
