"""Recordings in several segments are one recording of one person, of which the segments are no recordings."""

import itertools
from pathlib import Path

import numpy as np
import pytest
import wfdb
from support.wfdb_folders import made

from ecg_jax.data.ecg import LEADS
from ecg_jax.data.real import build
from ecg_jax.data.real.datasets import any_folder
from ecg_jax.data.real.datasets.catalogue import Output
from ecg_jax.data.real.datasets.windows import load_windows, read_windows
from ecg_jax.data.real.formats.segments import read_wfdb
from ecg_jax.data.storage.shards import open_shards
from ecg_jax.data.storage.wfdb_writer import write_signals

RATE_HZ = 250


def in_segments(to: Path, name: str, seconds=(15, 15, 15), line: str | None = None) -> np.ndarray:
    """Segments of one recording, and the header that names them; its signals in mV."""
    ecg = made(to, f"{name}_whole", RATE_HZ, sum(seconds))
    for end in (".hea", ".dat"):
        (to / f"{name}_whole{end}").unlink()
    ends = np.cumsum([0, *seconds]) * RATE_HZ
    for k, (start, end) in enumerate(itertools.pairwise(ends)):
        write_signals(to, f"{name}_{k:04d}", ecg[start:end], RATE_HZ, ["Dx: 426783006"])
    named(to, name, [f"{name}_{k:04d} {length * RATE_HZ}" for k, length in enumerate(seconds)], line)
    return np.round(ecg, 3)


def named(to: Path, name: str, segments: list[str], line: str | None = None) -> None:
    total = sum(int(segment.split()[1]) for segment in segments)
    line = line or f"{name}/{len(segments)} 12 {RATE_HZ} {total}"
    (to / f"{name}.hea").write_text("\n".join([line, *segments]) + "\n")


def every(names):
    return range(len(names))


def records(source: Path, table: Path | None = None):
    return any_folder.list_folder("x", source, Output(), table)


def test_segments_are_read_as_one(tmp_path):
    ecg = in_segments(tmp_path, "p")
    record = read_wfdb(tmp_path / "p.hea", every)
    assert np.abs(record.samples - ecg).max() < 1e-9
    assert np.array_equal(record.samples, wfdb.rdrecord(str(tmp_path / "p")).p_signal)
    assert [signal.name for signal in record.signals] == list(LEADS)
    assert len(read_wfdb(tmp_path / "p.hea", every, 10).samples) == 15 * RATE_HZ


def test_a_variable_layout_with_a_gap_is_read_as_wfdb_reads_it(tmp_path):
    """The first segment tells the signals of all; another one has fewer, in another order and unit; "~" is a gap."""
    ecg = in_segments(tmp_path, "p")
    fewer = ("V5", "II")
    wfdb.wrsamp(
        "p_few",
        fs=RATE_HZ,
        units=["uV"] * 2,
        sig_name=list(fewer),
        p_signal=1000 * ecg[:1000, [LEADS.index(lead) for lead in fewer]],
        fmt=["16"] * 2,
        adc_gain=[1.0] * 2,
        baseline=[0] * 2,
        write_dir=str(tmp_path),
    )
    layout = "\n".join([f"p_layout 12 {RATE_HZ} 0", *(f"~ 0 1000(0)/mV 16 0 0 0 0 {lead}" for lead in LEADS)])
    (tmp_path / "p_layout.hea").write_text(layout + "\n")
    named(tmp_path, "p", ["p_layout 0", "p_0000 3750", "~ 500", "p_few 1000", "p_0002 3750"])
    samples = read_wfdb(tmp_path / "p.hea", every).samples
    assert samples.shape == (9000, 12) and np.isnan(samples[3750:4250]).all()
    assert np.array_equal(~np.isnan(samples[4250:5250]).all(axis=0), np.isin(LEADS, fewer))
    assert np.nanmax(np.abs(samples[4250:5250] - np.where(np.isin(LEADS, fewer), ecg[:1000], np.nan))) < 1e-3
    assert np.nanmax(np.abs(samples[5250:] - ecg[7500:])) < 1e-9
    assert [entry.record_id for entry in records(tmp_path).recordings] == ["x/p", "x/p_0001"]


def test_each_recording_is_one_person_in_one_fold(tmp_path, capsys):
    for name in ("p", "q", "r"):
        in_segments(tmp_path / "s", name)
    made(tmp_path / "s", "alone", RATE_HZ)
    arguments = ["x", "--source", str(tmp_path / "s"), "--data-dir", str(tmp_path / "b"), "--workers", "1"]
    assert build.main(arguments) == 0
    told = capsys.readouterr().out
    assert (
        "4 records; 0 recordings left out" in told
        and "9 records are segments, read as parts of what names them (3)" in told
    )
    assert "3 of 4 records are the first 10 s of longer recordings: the rest is not kept" in told
    pool = open_shards(tmp_path / "b" / "x-100hz")
    assert pool.record_id.tolist() == ["x/alone", "x/p", "x/q", "x/r"] and len(set(pool.patient_id)) == 4
    assert pool.labels[1] == ("426783006",)


def test_windows_run_over_segments_and_keep_their_patient(tmp_path):
    in_segments(tmp_path / "s", "p")
    in_segments(tmp_path / "s", "q")
    (tmp_path / "t.csv").write_text("record,patient\np_0000,7\np_0001,7.0\nq,8\n")
    told = []
    windows = read_windows("x", tmp_path / "s", Output(), told.append, lambda *_: None, tmp_path / "t.csv")
    assert windows.record_id.tolist() == [f"x/{name}@{second}" for name in "pq" for second in (0, 10, 20, 30)]
    assert windows.patient_id.tolist() == [0] * 4 + [1] * 4 and not told
    assert all(len(set(windows.fold[some])) == 1 for some in (slice(4), slice(4, 8)))


def test_a_lead_that_a_segment_lacks_is_absent_from_its_windows(tmp_path):
    in_segments(tmp_path / "s", "p", (20, 20))
    path = tmp_path / "s" / "p_0001.hea"
    path.write_text(path.read_text().replace(" V6", " MLII"))
    told = []
    windows = read_windows("x", tmp_path / "s", Output(), told.append, lambda *_: None)
    assert not told and len(windows) == 4
    there = dict(zip(windows.leads, windows.present.T.tolist(), strict=True))
    assert there["V6"] == [True, True, False, False] and there["MLII"] == [False, False, True, True]


def test_segments_may_be_named_by_their_headers(tmp_path):
    ecg = in_segments(tmp_path, "p")
    named(tmp_path, "p", [f"p_{k:04d}.hea {15 * RATE_HZ}" for k in range(3)])
    (p,) = records(tmp_path).recordings
    assert np.abs(read_wfdb(p.file, every).samples - ecg).max() < 1e-9


def test_recordings_that_share_a_segment_are_one_person(tmp_path):
    in_segments(tmp_path, "p")
    named(tmp_path, "excerpt", ["p_0001 3750"])
    in_segments(tmp_path, "q")
    excerpt, p, q = records(tmp_path).recordings
    assert excerpt.patient_id == p.patient_id != q.patient_id and excerpt.fold == p.fold
    (tmp_path / "t.csv").write_text("record,patient\np,7\nq,8\n")
    excerpt, p, q = records(tmp_path, tmp_path / "t.csv").recordings
    assert excerpt.patient_id == p.patient_id != q.patient_id and excerpt.fold == p.fold


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda s: (s / "p_0000.hea").unlink(), "no signals: p.hea names 'p_0000.hea'"),
        (
            lambda s: named(s, "p", ["p_0000 3750", "p_0001 3000"], f"p/2 12 {RATE_HZ} 9999"),
            "header: p.hea announces 9999",
        ),
        (lambda s: named(s, "p", ["p_0000 3000", "p_0001 3750"]), "header: segment p_0000 has 3750 samples at 250 Hz"),
        (
            lambda s: named(s, "p", ["p_0000 3750"], f"p/3 12 {RATE_HZ} 3750"),
            "header: p.hea announces 3 segments, 1 lines",
        ),
        (lambda s: named(s, "p", ["../p_0000 3750"]), "header: p.hea names '../p_0000.hea' as its signals"),
        (lambda s: named(s, "p", ["p 3750"]), "header: p.hea describes several segments"),
        (lambda s: named(s, "p", ["~ 3750"]), "rate: the segments of p.hea have [] Hz"),
        (
            lambda s: (s / "p.hea").write_text("p/2 12 250 7500\np_0000\np_0001 x\n"),
            "header: p.hea states no length of",
        ),
        (lambda s: (s / "p_0000.dat").write_bytes(b"\1" * 90000), "damaged: checksum of lead I"),
        (lambda s: named(s, "p", ["~ 250", "p_0000 3750"]), "missing samples: I (250)"),
    ],
)
def test_one_that_cannot_be_used_says_why(tmp_path, change, reason):
    in_segments(tmp_path, "p", (15, 15))
    change(tmp_path)
    listed = records(tmp_path)
    told = []
    listed.read(listed.recordings, on_bad=told.append)
    assert {item.record_id: item.reason for item in told}["x/p"].startswith(reason)


def test_what_is_in_a_segment_is_part_of_what_a_set_is_made_from(tmp_path):
    in_segments(tmp_path, "p")
    before = records(tmp_path).made_from
    path = tmp_path / "p_0001.dat"
    whole = path.read_bytes()
    path.write_bytes(whole[:-24])
    assert records(tmp_path).made_from != before
    path.write_bytes(whole)
    assert records(tmp_path).made_from == before
    header = tmp_path / "p_0001.hea"
    header.write_text(header.read_text().replace("1000(0)", "2000(0)"))
    assert records(tmp_path).made_from != before


@pytest.mark.parametrize("turned", [".hea", ".HEA"])
def test_segments_are_known_in_another_case(tmp_path, turned):
    """As on a disk that turns names into capitals, and leaves what headers say."""
    in_segments(tmp_path, "p")
    for path in sorted(tmp_path.iterdir()):
        path.rename(tmp_path / f"{path.stem.upper()}{turned if path.suffix == '.hea' else '.DAT'}")
    (whole,) = records(tmp_path).recordings
    assert whole.record_id == "x/P" and len(read_wfdb(whole.file, every).samples) == 45 * RATE_HZ
    before = records(tmp_path).made_from
    (tmp_path / "P_0000.DAT").write_bytes(b"")
    assert records(tmp_path).made_from != before


def test_a_set_of_windows_comes_back(tmp_path):
    in_segments(tmp_path / "s", "p")
    arguments = ["x", "--source", str(tmp_path / "s"), "--data-dir", str(tmp_path / "b"), "--windows"]
    assert build.main(arguments) == 0
    windows = load_windows(tmp_path / "b" / "x-windows-100hz.npz")
    assert len(windows) == 4 and "3 records are segments, read as parts of what names them (1)" in windows.notes
