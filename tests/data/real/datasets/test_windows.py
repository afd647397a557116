"""Long recordings of two leads: windows with a mask, leads under their own names, out of reach of 12-lead training."""

import csv
import shutil

import numpy as np
import pytest
import wfdb
from support.wfdb_folders import copied, damaged, made

from ecg_jax.data.preprocess import apply_chain
from ecg_jax.data.real import build
from ecg_jax.data.real.datasets.catalogue import Output
from ecg_jax.data.real.datasets.windows import OTHERS, load_windows, read_windows, save_windows


def quiet(done, total):
    pass


def test_mit_bih_in_windows_with_a_mask(ecg_data_dir, tmp_path, capsys):
    source = copied(ecg_data_dir, tmp_path / "mitdb", "mitdb/101", "mitdb/102")
    arguments = ["mitdb", "--source", str(source), "--data-dir", str(tmp_path / "b"), "--windows"]
    assert build.main(arguments) == 0
    assert "360 windows of 10 s (MLII 180, V1 180, V2 180, V5 180); 0 left out" in capsys.readouterr().out
    windows = load_windows(tmp_path / "b" / "mitdb-windows-100hz.npz")
    assert windows.leads == ("MLII", "V1", "V2", "V5") and "II" not in windows.leads
    assert windows.ecg.shape == (360, 1000, 4) and len(windows) == 360
    assert windows.present.sum(axis=1).tolist() == [2] * 360
    assert windows.present[0].tolist() == [True, True, False, False] and not windows.ecg[0][:, 2:].any()
    assert windows.record_id[[0, 1, 180]].tolist() == ["mitdb/101@0", "mitdb/101@10", "mitdb/102@0"]
    record = wfdb.rdrecord(str(source / "101"), sampfrom=3600, sampto=7200)
    assert np.array_equal(windows.ecg[1][:, :2], apply_chain(record.p_signal.astype(np.float32), 360, 100))
    marks = wfdb.rdann(str(source / "101"), "atr")
    beats = {s for s, at in zip(marks.symbol, marks.sample, strict=True) if at < 3600} - {"+", "~", "|"}
    assert set(windows.labels[0]) == beats and beats
    assert set(windows.patient_id[:180]) == {0} and set(windows.patient_id[180:]) == {1}


def test_two_records_of_one_person_are_one_patient(ecg_data_dir, tmp_path):
    source = copied(ecg_data_dir, tmp_path / "mitdb", "mitdb/202")
    for ending in (".hea", ".dat"):
        shutil.copy(source / f"202{ending}", source / f"201{ending}")
    (source / "201.hea").write_text((source / "201.hea").read_text().replace("202", "201"))
    windows = read_windows("mitdb", source, Output(), lambda _: None, quiet)
    assert set(windows.patient_id) == {0} and len(windows) == 360


def test_what_cannot_be_used_is_named_by_window(tmp_path):
    rng = np.random.default_rng(0)
    ecg = rng.normal(0, 0.3, (35 * 250, 2))
    ecg[2600:5000, 1] = ecg[2600, 1]
    ecg[5100, 0] = np.nan
    ecg[2500:2600, 1] = ecg[2600, 1]
    (tmp_path / "a").mkdir()
    wfdb.wrsamp(
        "r",
        fs=250,
        units=["mV"] * 2,
        sig_name=["MLII", "V5"],
        p_signal=ecg,
        fmt=["16"] * 2,
        write_dir=str(tmp_path / "a"),
    )
    (tmp_path / "a" / "broken.hea").write_text("broken two")
    told = []
    windows = read_windows("x", tmp_path / "a", Output(), told.append, quiet)
    assert windows.record_id.tolist() == ["x/r@0"]  # what is left at the end is dropped
    reasons = {item.record_id: item.reason for item in told}
    assert (
        reasons["x/r@10"].startswith("flat lead: V5 (all samples") and reasons["x/r@20"] == "missing samples: MLII (1)"
    )
    assert reasons["x/broken"].startswith("header: ")


def test_a_hospitals_202_is_not_mit_bihs(ecg_data_dir, tmp_path):
    source = copied(ecg_data_dir, tmp_path / "h", "mitdb/101", "mitdb/102")
    for old, new in (("101", "201"), ("102", "202")):
        for path in source.glob(f"{old}.*"):
            path.rename(path.with_name(path.name.replace(old, new)))
        header = source / f"{new}.hea"
        header.write_text(header.read_text().replace(old, new))
    assert len(set(read_windows("h", source, Output(), lambda _: None, quiet).patient_id)) == 2
    assert len(set(read_windows("mitdb", source, Output(), lambda _: None, quiet).patient_id)) == 1


def test_windows_take_the_table_of_labels(tmp_path, capsys):
    for name in ("a", "b", "c"):
        made(tmp_path / "r", name, rate_hz=100, seconds=25)
    (tmp_path / "t.csv").write_text("File;Subject ID;dx;ward\na.hea;7.0;AFIB;x\nb;7;;y\nc;nan;LBBB;y\n")
    arguments = ["x", "--source", str(tmp_path / "r"), "--data-dir", str(tmp_path / "b"), "--windows"]
    assert build.main([*arguments, "--labels", str(tmp_path / "t.csv")]) == 0
    told = capsys.readouterr().out
    assert "t.csv: columns not understood, and not read: 'ward'" in told
    assert "t.csv: no patient for 1 of 3 recordings (such as 'c'): each is a patient of its own" in told
    windows = load_windows(tmp_path / "b" / "x-windows-100hz.npz")
    assert windows.record_id.tolist() == [f"x/{name}@{second}" for name in "abc" for second in (0, 10)]
    a, _, b, _, c, _ = zip(windows.patient_id.tolist(), windows.fold.tolist(), strict=True)
    assert (
        a == b != c and a == (windows.patient_id[1], windows.fold[1]) and c == (windows.patient_id[5], windows.fold[5])
    )
    assert windows.diagnoses == (("AFIB",),) * 2 + ((),) * 2 + (("LBBB",),) * 2 and any(
        "ward" in n for n in windows.notes
    )
    (tmp_path / "t.csv").write_text("record,patient,fold\na,7,1\nb,7.0,2\n")
    assert build.main([*arguments, "--labels", str(tmp_path / "t.csv")]) == 2
    assert "one patient is in fold 1 (x/a) and 2 (x/b): a split by fold would leak" in capsys.readouterr().err


@pytest.mark.parametrize("turned", [str, str.upper])
@pytest.mark.parametrize("said_hz", [None, 1000])
def test_beats_of_frames_that_hold_several_samples(tmp_path, turned, said_hz):
    """Annotations count frames, or what they say, not samples; and are found under names in capitals."""
    steps = np.rint(300 * np.random.default_rng(0).normal(size=(40 * 500, 2))).astype("<i2")
    frames = steps.reshape(-1, 2, 2).transpose(0, 2, 1)
    (tmp_path / "r.dat").write_bytes(frames.tobytes())
    (tmp_path / "r.hea").write_text(
        "r 2 250 10000\n" + "".join(f"r.dat 16x2 1000/mV 16 0 0 0 0 {lead}\n" for lead in ("MLII", "V5"))
    )
    at = np.array([1, 12, 25, 39]) * (said_hz or 250)
    wfdb.wrann("r", "atr", at, list("NVAL"), fs=said_hz, write_dir=str(tmp_path))
    for path in sorted(tmp_path.iterdir()):
        path.rename(tmp_path / turned(path.name))
    windows = read_windows("x", tmp_path, Output(), lambda _: None, quiet)
    assert windows.labels == (("N",), ("V",), ("A",), ("L",))


def test_signals_that_are_no_voltage_cost_no_lead(tmp_path):
    """Monitors keep pressures beside the ECG."""
    steps = np.rint(300 * np.random.default_rng(0).normal(size=(2500, 3))).astype("<i2")
    (tmp_path / "r.dat").write_bytes(steps.tobytes())
    units = {"ABP": "10/mmHg", "MLII": "1000/mV", "V5": "1/uV"}
    lines = [f"r.dat 16 {gain} 16 0 0 0 0 {name}" for name, gain in units.items()]
    (tmp_path / "r.hea").write_text("\n".join(["r 3 250 2500", *lines]))
    windows = read_windows("x", tmp_path, Output(), lambda _: None, quiet)
    assert windows.leads == ("MLII", "V5") and f"1 of 1 records {OTHERS}" in windows.notes
    assert np.array_equal(windows.ecg[0], apply_chain(steps[:, 1:] / np.float32(1000), 250, 100))
    (tmp_path / "r.hea").write_text("\n".join(["r 3 250 2500", *(line.replace("V", "K") for line in lines)]))
    told = []
    with pytest.raises(ValueError, match="none of 1 recordings"):
        read_windows("x", tmp_path, Output(), told.append, quiet)
    assert told[0].reason.startswith("unit: 'mmHg', expected mV")


def test_windows_of_which_none_can_be_used_say_why(tmp_path, capsys):
    made(tmp_path / "r" / "ward", "flat", change=lambda ecg: 0 * ecg)
    made(tmp_path / "r" / "ward", "short", seconds=9)
    (tmp_path / "r" / "ward" / "broken.hea").write_text("broken two")
    arguments = ["x", "--source", str(tmp_path / "r"), "--data-dir", str(tmp_path / "b"), "--windows"]
    assert build.main(arguments) == 2
    told = capsys.readouterr().err
    assert "none of 3 recordings gives a window of 10 s; " in told and "such as x/ward/" in told
    assert "flat lead 1" in told and "too short 1" in told and "header 1" in told
    path = tmp_path / "b" / "x-windows-100hz.exclusions.csv"
    assert str(path) in told and str(tmp_path) not in path.read_text()
    with path.open() as file:
        reasons = {row["record_id"]: row["reason"].partition(":")[0] for row in csv.DictReader(file)}
    assert reasons == {"x/ward/broken": "header", "x/ward/flat@0": "flat lead", "x/ward/short": "too short"}


def test_windows_come_back_and_damage_is_told(ecg_data_dir, tmp_path, capsys):
    source = copied(ecg_data_dir, tmp_path / "mitdb", "mitdb/100")
    windows = read_windows("mitdb", source, Output(), lambda _: None, quiet)
    path = tmp_path / "w.npz"
    save_windows(path, windows)
    again = load_windows(path)
    assert again.labels == windows.labels and np.array_equal(again.present, windows.present)
    path.write_bytes(path.read_bytes()[:-40])
    with pytest.raises(ValueError, match=r"w\.npz is not a whole set of windows"):
        load_windows(path)
    arguments = ["mitdb", "--source", str(source), "--data-dir", str(tmp_path), "--windows"]
    assert build.main([*arguments, "--unit", "NU"]) == 2 and "windows are in mV" in capsys.readouterr().err
    assert build.main([*arguments, "--export-data"]) == 2 and "leave out --export-data" in capsys.readouterr().err


@pytest.mark.parametrize("seeds", [range(8), pytest.param(range(8, 400), marks=pytest.mark.long)], ids=len)
def test_a_damaged_long_recording_is_read_or_told_of(ecg_data_dir, tmp_path, seeds):
    told = 0
    for seed in seeds:
        rng = np.random.default_rng(seed)
        source = copied(ecg_data_dir, tmp_path / f"s{seed}", "mitdb/100")
        victims = sorted(source.iterdir())
        victim = victims[rng.integers(len(victims))]
        victim.write_bytes(damaged(victim.read_bytes(), rng))
        reasons = []
        try:
            windows = read_windows("x", source, Output(), reasons.append, quiet)
        except ValueError as error:
            assert "none of 1 recordings gives a window" in str(error), seed
        else:
            assert windows.ecg.dtype == np.int16 and windows.present.any(axis=1).all(), seed
        assert all(":" in item.reason and "\n" not in item.reason for item in reasons), seed
        told += bool(reasons)
        shutil.rmtree(source)
    assert told


def test_the_table_of_what_was_left_out(ecg_data_dir, tmp_path):
    source = copied(ecg_data_dir, tmp_path / "mitdb", "mitdb/100")
    (source / "broken.hea").write_text("broken two")
    assert build.main(["x", "--source", str(source), "--data-dir", str(tmp_path), "--windows"]) == 0
    with (tmp_path / "x-windows-100hz.exclusions.csv").open() as file:
        assert [row["record_id"] for row in csv.DictReader(file)] == ["x/broken"]
