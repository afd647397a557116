"""Readers of published sets: on real files where we have them, else on files written here in the published layout."""

import csv
import shutil
from pathlib import Path

import h5py
import numpy as np
import pytest
import wfdb
from support.wfdb_folders import damaged, made

from ecg_jax.data.ecg import LEADS
from ecg_jax.data.preprocess import Steps, apply_chain
from ecg_jax.data.real import build
from ecg_jax.data.real.datasets import code15, ludb, mimic
from ecg_jax.data.real.datasets.catalogue import Output, Raw, checked
from ecg_jax.data.real.datasets.prepare import prepare_ptbxl
from ecg_jax.data.real.datasets.registry import FAMILIES, UNTRIED, list_set
from ecg_jax.data.storage.shards import ShardSource, open_shards


def table(path: Path, *rows) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="") as file:
        csv.writer(file).writerows(rows)


def ecg_like(samples: int, rate_hz: int, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    t = np.arange(samples)[:, None] / rate_hz
    return np.sin(2 * np.pi * rng.uniform(1, 9, len(LEADS)) * t + 1) * rng.uniform(0.5, 1.5, len(LEADS))


STANDARD = Output()


def read_all(name: str, source: Path, output: Output = STANDARD):
    """The pool of a set, and why recordings were left out, by id."""
    listed, told = list_set(name, source, output), []
    pool = listed.read(listed.recordings, on_bad=told.append)
    return pool, {exclusion.record_id: exclusion.reason for exclusion in told}


EXAMS = ("exam_id", "age", "is_male", *code15.LABELS[:-1], "patient_id", "normal_ecg", "trace_file")


def made_code15(to: Path) -> np.ndarray:
    """Two files of exams: 10.24 s, 7.3 s in the middle of zeros, zeros alone; ids in another order than the table's."""
    signals = np.zeros((4, 4096, 12), np.float32)
    signals[0] = ecg_like(4096, 400, 1)
    signals[1, 581:3515] = ecg_like(2934, 400, 2)
    signals[2, 40:4050] = ecg_like(4010, 400, 3)
    to.mkdir(exist_ok=True)
    with h5py.File(to / "exams_part0.hdf5", "w") as file:
        file["tracings"], file["exam_id"] = signals, np.array([20, 10, 30, 0])
    with h5py.File(to / "exams_part1.hdf5", "w") as file:
        file["tracings"], file["exam_id"] = signals[3:], np.array([40])
    no = ("False",) * 6
    table(
        to / "exams.csv",
        EXAMS,
        (10, 60, "True", *no, 7, "True", "exams_part0.hdf5"),
        (20, 61, "True", *no[:4], "True", "False", 7, "False", "exams_part0.hdf5"),
        (30, 40, "False", *no, 8, "True", "exams_part0.hdf5"),
        (40, 40, "False", *no, 9, "True", "exams_part1.hdf5"),
        (50, 40, "False", *no, 9, "True", "exams_part17.hdf5"),
        (60, 40, "False", *no, 9, "True", "exams_part0.hdf5"),
    )
    return signals


def test_code15_is_trimmed_found_by_id_and_split_by_patient(tmp_path):
    signals = made_code15(tmp_path / "c")
    pool, why = read_all("code15", tmp_path / "c")
    assert pool.record_id.tolist() == ["code15/20", "code15/30"]
    assert np.array_equal(pool.ecg[0], apply_chain(signals[0, :4000], 400, 100))
    assert np.array_equal(pool.ecg[1], apply_chain(signals[2, 40:4040], 400, 100))
    assert pool.labels == (("AF",), ("normal_ecg",))
    assert why == {
        "code15/10": "too short: 7.33 s in the recording, expected 10 s",
        "code15/40": "too short: 0.00 s in the recording, expected 10 s",
        "code15/50": "no signals: exams_part17.hdf5 is not there",
        "code15/60": "no signals: exams_part0.hdf5 does not hold the exam",
    }
    entries = {entry.record_id: entry for entry in list_set("code15", tmp_path / "c", Output()).recordings}
    same, other = (entries[f"code15/{exam}"] for exam in (10, 30))
    assert entries["code15/20"].patient_id == same.patient_id != other.patient_id
    assert entries["code15/20"].fold == same.fold


def test_code15_of_another_shape_is_refused(tmp_path):
    made_code15(tmp_path / "c")
    (tmp_path / "c" / "exams_part1.hdf5").write_bytes(b"no HDF5")
    with pytest.raises(ValueError, match=r"exams_part1.hdf5 is no file of CODE-15% .*: fetch it again"):
        list_set("code15", tmp_path / "c", Output())
    with h5py.File(tmp_path / "c" / "exams_part1.hdf5", "w") as file:
        file["tracings"], file["exam_id"] = np.zeros((2, 12, 4096)), np.array([1, 2])
    with pytest.raises(ValueError, match=r"tracings \(2, 12, 4096\) for 2 exam_id"):
        list_set("code15", tmp_path / "c", Output())
    text = (tmp_path / "c" / "exams.csv").read_text().replace("exams_part1.hdf5", "../exams_part1.hdf5")
    (tmp_path / "c" / "exams.csv").write_text(text)
    with pytest.raises(ValueError, match=r"line 5, trace_file is '../exams_part1.hdf5', expected"):
        list_set("code15", tmp_path / "c", Output())


def test_no_other_file_is_read_for_an_hdf5_file(tmp_path):
    """HDF5 can name any file as the place of its data: by a link, as raw bytes, or as a virtual array."""
    made_sph(tmp_path / "s")
    elsewhere = tmp_path / "elsewhere.h5"
    with h5py.File(elsewhere, "w") as file:
        file["ecg"] = ecg_like(5000, 500).T
    (tmp_path / "raw").write_bytes(ecg_like(5000, 500).T.tobytes())
    records = tmp_path / "s" / "records"
    with h5py.File(records / "A00001.h5", "w") as file:
        file["ecg"] = h5py.ExternalLink(str(elsewhere), "ecg")
    with h5py.File(records / "A00002.h5", "w") as file:
        file.create_dataset("ecg", (12, 5000), "f8", external=[(str(tmp_path / "raw"), 0, h5py.h5f.UNLIMITED)])
    with h5py.File(records / "A00003.h5", "w") as file:
        layout = h5py.VirtualLayout((12, 5000), "f8")
        layout[:] = h5py.VirtualSource(str(elsewhere), "ecg", (12, 5000))
        file.create_virtual_dataset("ecg", layout)
    with h5py.File(records / "A00004.h5", "w") as file:
        file.create_group("ecg")
    pool, why = read_all("sph", tmp_path / "s")
    assert not len(pool)
    assert why["sph/A00001"] == "unreadable: A00001.h5: 'ecg' is a link, which is not followed"
    assert why["sph/A00002"] == why["sph/A00003"].replace("3", "2")
    assert why["sph/A00002"] == "unreadable: A00002.h5: 'ecg' lies in another file, which is not read"
    assert why["sph/A00004"] == "unreadable: A00004.h5: 'ecg' is no array"
    made_code15(tmp_path / "c")
    with h5py.File(tmp_path / "c" / "exams_part1.hdf5", "w") as file:
        file["tracings"], file["exam_id"] = h5py.ExternalLink(str(elsewhere), "ecg"), np.array([40])
    with pytest.raises(ValueError, match="'tracings' is a link, which is not followed"):
        list_set("code15", tmp_path / "c", Output())


def test_a_damaged_list_of_arrays_is_told_of(tmp_path):
    """HDF5 raises of it what it raises of its own faults."""
    made_sph(tmp_path / "s")
    made_code15(tmp_path / "c")
    for path in (tmp_path / "s" / "records" / "A00001.h5", tmp_path / "c" / "exams_part1.hdf5"):
        content = path.read_bytes()
        assert b"SNOD" in content
        path.write_bytes(content.replace(b"SNOD", b"XXXX"))
    assert read_all("sph", tmp_path / "s")[1]["sph/A00001"].startswith("unreadable: A00001.h5: its list of arrays")
    with pytest.raises(ValueError, match=r"exams_part1.hdf5 is no file of CODE-15% \(its list of arrays is damaged"):
        list_set("code15", tmp_path / "c", Output())


MIMIC_LEADS = ("I", "II", "III", "aVR", "aVF", "aVL", *LEADS[6:])


def made_mimic(to: Path) -> np.ndarray:
    """Three recordings in MIMIC's order of leads; in one of them a sample is missing."""
    paths = [f"files/p1000/p1000003{k}/s4068923{k}/4068923{k}" for k in (1, 2, 3)]
    for k, path in enumerate(paths):
        folder = to / Path(path).parent
        folder.mkdir(parents=True)
        ecg = ecg_like(5000, 500, k)
        if k == 2:
            ecg[17, 4] = np.nan
        ordered = ecg[:, [LEADS.index(lead) for lead in MIMIC_LEADS]]
        wfdb.wrsamp(
            Path(path).name,
            fs=500,
            units=["mV"] * 12,
            sig_name=list(MIMIC_LEADS),
            p_signal=ordered,
            fmt=["16"] * 12,
            adc_gain=[200.0] * 12,
            baseline=[0] * 12,
            write_dir=str(folder),
        )
    ids = [(f"1000003{k}", f"4068923{k}") for k in (1, 2, 3)]
    rows = [
        (subject, study, study, "2180-07-23 08:44:00", path) for (subject, study), path in zip(ids, paths, strict=True)
    ]
    rows.append(("10000031", "40000000", "40000000", "", "files/p1000/p10000031/s40000000/40000000"))
    table(to / "record_list.csv", ("subject_id", "study_id", "file_name", "ecg_time", "path"), *rows)
    said = ["Sinus rhythm.", "Left axis deviation", *[""] * 16]
    table(
        to / "machine_measurements.csv",
        ("subject_id", "study_id", "cart_id", *mimic.REPORT_COLUMNS, "rr_interval"),
        ("10000031", "40689231", "6848296", *said, "659"),
    )
    return ecg_like(5000, 500, 0)


def test_mimic_has_its_leads_by_name_and_its_reports(tmp_path):
    ecg = made_mimic(tmp_path / "m")
    pool, why = read_all("mimic_iv_ecg", tmp_path / "m")
    assert pool.record_id.tolist() == ["mimic_iv_ecg/40689231", "mimic_iv_ecg/40689232"]
    assert pool.patient_id.tolist() == [10000031, 10000032]
    assert pool.labels == (("Left axis deviation", "Sinus rhythm"), ())
    assert np.abs(pool.ecg[0] - apply_chain(ecg.astype(np.float32), 500, 100).astype(int)).max() <= 5  # 5 µV a step
    assert why["mimic_iv_ecg/40689233"].startswith("missing samples: aVL (1)")
    assert why["mimic_iv_ecg/40000000"].startswith("no signals: 40000000.hea")
    (tmp_path / "m" / "machine_measurements.csv").unlink()
    assert read_all("mimic_iv_ecg", tmp_path / "m")[0].labels == ((), ())
    text = (tmp_path / "m" / "record_list.csv").read_text()
    (tmp_path / "m" / "record_list.csv").write_text(text.replace("files/p1000/p10000032", "/etc"))
    with pytest.raises(ValueError, match="line 3, path is '/etc/s40689232/40689232', expected a relative path"):
        list_set("mimic_iv_ecg", tmp_path / "m", Output())


def made_sph(to: Path) -> np.ndarray:
    (to / "records").mkdir(parents=True)
    ecg = ecg_like(17000, 500).astype(np.float16)
    for name, signal in (("A00001", ecg[:5000]), ("A00002", ecg), ("A00003", ecg[:5000, :11]), ("A00004", ecg[:4000])):
        with h5py.File(to / "records" / f"{name}.h5", "w") as file:
            file["ecg"] = signal.T
    (to / "records" / "A00005.h5").write_bytes(b"no HDF5")
    rows = [(f"A0000{k}", code, f"S0000{k // 3}", 50, "M", 5000, "2020-01-01") for k, code in enumerate(CODES, 1)]
    table(to / "metadata.csv", ("ECG_ID", "AHA_Code", "Patient_ID", "Age", "Sex", "N", "Date"), *rows)
    return ecg


CODES = ("1", "22;50+346", "1", "1", "1", "1")


def test_sph_from_one_file_each(tmp_path):
    ecg = made_sph(tmp_path / "s")
    pool, why = read_all("sph", tmp_path / "s", Output(250))
    assert pool.record_id.tolist() == ["sph/A00001", "sph/A00002"]
    assert np.array_equal(pool.ecg[0], pool.ecg[1])
    assert np.array_equal(pool.ecg[0], apply_chain(ecg[:5000].astype(np.float32), 500, 250))
    assert pool.labels == (("1",), ("22", "50+346")) and pool.patient_id.tolist() == [0, 0]
    assert {name[4:]: reason.partition(":")[0] for name, reason in why.items()} == {
        "A00003": "leads",
        "A00004": "too short",
        "A00005": "unreadable",
        "A00006": "no signals",
    }


def made_medalcare(to: Path) -> np.ndarray:
    ecg = ecg_like(5000, 500)
    for path in ("sinus/train/run_S62/000001", "mi/LCX_0.3_post/valid/run_S62/000001", "lbbb/test/run_S65/000002"):
        folder = (to / "MedalCare-XL" / "WP2_largeDataset_Noise" / path).parent
        folder.mkdir(parents=True)
        for form in ("raw", "noise", "filtered"):
            np.savetxt(folder / f"{Path(path).name}_{form}.csv", ecg.T, delimiter=",", fmt="%.6f")
        (folder / f"._{Path(path).name}_noise.csv").write_text("left by an archiver")
    return ecg


def test_medalcare_is_simulated_and_says_so(tmp_path):
    ecg = made_medalcare(tmp_path / "m")
    pool, why = read_all("medalcare_xl", tmp_path / "m")
    assert pool.source == "medalcare_xl_simulated" and not why
    assert np.abs(pool.ecg - apply_chain(ecg.astype(np.float32), 500, 100).astype(int)).max() <= 1
    by_id = dict(zip(pool.record_id.tolist(), zip(pool.fold.tolist(), pool.labels, strict=True), strict=True))
    assert by_id == {
        "medalcare_xl_simulated/lbbb/test/run_S65/000002": (10, ("lbbb",)),
        "medalcare_xl_simulated/mi/LCX_0.3_post/valid/run_S62/000001": (9, ("LCX_0.3_post", "mi")),
        "medalcare_xl_simulated/sinus/train/run_S62/000001": (1, ("sinus",)),
    }


def test_ludb_in_deviations_with_its_diagnoses_and_waves(ecg_data_dir, tmp_path, capsys):
    (tmp_path / "ludb").mkdir()
    for path in sorted((ecg_data_dir / "ludb" / "data").glob("[17].*")):
        shutil.copy(path, tmp_path / "ludb" / path.name)
    arguments = ["ludb", "--source", str(tmp_path / "ludb"), "--data-dir", str(tmp_path / "b"), "--workers", "1"]
    assert build.main([*arguments, "--export-data"]) == 0, capsys.readouterr().err
    pool = open_shards(tmp_path / "b" / "ludb-100hz")
    assert pool.record_id.tolist() == ["ludb/001", "ludb/007"] and set(pool.unit) == {"NU"}
    assert ShardSource(tmp_path / "b" / "ludb-100hz").metadata["amplitude_known"] == {"NU": False}
    np.testing.assert_allclose(pool.ecg.std(axis=1), 1000, atol=1)
    assert {"Rhythm: Sinus bradycardia", "Left ventricular hypertrophy"} < set(pool.labels[0])
    assert (tmp_path / "b" / "ludb-100hz.npz").is_file()
    with (tmp_path / "b" / "ludb-100hz.waves.csv").open() as file:
        rows = [row for row in csv.DictReader(file) if row["record_id"] == "ludb/001"]
    assert {row["lead"] for row in rows} == set(LEADS) and {row["wave"] for row in rows} == {"P", "QRS", "T"}
    assert all(float(row["onset_s"]) < float(row["peak_s"]) < float(row["offset_s"]) for row in rows)
    marks = wfdb.rdann(str(tmp_path / "ludb" / "1"), "ii")
    first = next(row for row in rows if row["lead"] == "II" and row["wave"] == "QRS")
    assert float(first["peak_s"]) == marks.sample[marks.symbol.index("N")] / 500


def test_boundaries_left_out_are_nan():
    waves = list(ludb._waves(["N", ")", "(", "t", "(", "p", ")"], [10, 15, 20, 30, 40, 45, 50]))
    assert [(wave, *(None if mark != mark else mark for mark in marks)) for wave, marks in waves] == [
        ("QRS", None, 10, 15),
        ("T", 20, 30, None),
        ("P", 40, 45, 50),
    ]


def first_of_ptbxl(ecg_data_dir: Path, to: Path, count: int) -> Path:
    (to / "records500" / "00000").mkdir(parents=True)
    with (ecg_data_dir / "ptbxl" / "ptbxl_database.csv").open() as file:
        lines = file.read().splitlines()[: count + 1]
    (to / "ptbxl_database.csv").write_text("\n".join(lines) + "\n")
    shutil.copy(ecg_data_dir / "ptbxl" / "scp_statements.csv", to)
    for number in range(1, count + 1):
        for ending in (".hea", ".dat"):
            name = f"records500/00000/{number:05d}_hr{ending}"
            shutil.copy(ecg_data_dir / "ptbxl" / name, to / name)
    return to


def test_ptbxl_by_the_builder_is_what_studies_prepare(ecg_data_dir, tmp_path, capsys):
    source = first_of_ptbxl(ecg_data_dir, tmp_path / "ptbxl", 8)
    arguments = ["ptbxl", "--source", str(source), "--data-dir", str(tmp_path / "b"), "--workers", "2"]
    assert build.main(arguments) == 0, capsys.readouterr().err
    built = prepare_ptbxl(source, tmp_path / "b")  # opens what was built: same fingerprint
    prepared = prepare_ptbxl(source, tmp_path / "p")
    assert np.array_equal(built.ecg, prepared.ecg) and built.labels == prepared.labels
    (source / "records500" / "00000" / "00003_hr.dat").unlink()
    content = bytearray((source / "records500" / "00000" / "00005_hr.dat").read_bytes())
    content[99] ^= 1
    (source / "records500" / "00000" / "00005_hr.dat").write_bytes(content)
    assert build.main([*arguments[:4], str(tmp_path / "c"), "--workers", "1"]) == 0
    assert "6 records; 2 recordings left out" in capsys.readouterr().out
    assert build.main([*arguments, "--labels", "x.csv"]) == 2
    assert "ptbxl has labels of its own" in capsys.readouterr().err


def test_steps_and_units_are_kept_and_compared(tmp_path, capsys):
    made(tmp_path / "a", "r")
    arguments = ["x", "--source", str(tmp_path / "a"), "--data-dir", str(tmp_path / "b"), "--workers", "1"]
    assert build.main([*arguments, "--band", "1", "30", "--unit", "NU"]) == 0
    made_from = ShardSource(tmp_path / "b" / "x-100hz").metadata["fingerprint"]
    assert made_from["band_hz"] == [1.0, 30.0] and made_from["unit"] == "NU" and made_from["butterworth_order"] == 4
    assert build.main(arguments) == 2
    assert "made from other data or settings (band_hz: [1.0, 30.0] in the shards" in capsys.readouterr().err
    assert build.main([*arguments, "--band", "1", "60"]) == 2
    assert "100 Hz hold no band up to 60 Hz" in capsys.readouterr().err
    assert build.main([*arguments, "--band", "30", "1"]) == 2
    assert "band_hz is (30.0, 1.0)" in capsys.readouterr().err


def test_other_steps_are_scipys(tmp_path):
    from scipy import signal

    ecg = ecg_like(5000, 500)
    numerator, denominator = signal.butter(2, (1, 30), "bandpass", fs=250)
    slow = signal.resample_poly(ecg, 1, 2, axis=0, window=("kaiser", 8.0), padtype="line")
    expected = signal.filtfilt(numerator, denominator, slow, axis=0)
    found = apply_chain(ecg.astype(np.float32), 500, 250, Steps((1, 30), 2, 250)) / 1000
    assert np.abs(found - expected)[250:-250].max() <= 2e-3  # the ends are continued differently before resampling


def test_help_says_which_readers_were_not_tried_on_the_publishers_files(capsys):
    with pytest.raises(SystemExit):
        build.main(["--help"])
    told = capsys.readouterr().out
    assert told.count(UNTRIED) == sum(not family.is_tried for family in FAMILIES.values()) == 4


@pytest.mark.parametrize("name", ["ptbxl", "code15", "mimic_iv_ecg", "sph", "medalcare_xl", "ludb"])
@pytest.mark.parametrize("seeds", [range(12), pytest.param(range(12, 2000), marks=pytest.mark.long)], ids=len)
def test_a_damaged_set_is_read_or_told_of(name, seeds, tmp_path, ecg_data_dir):
    make = {"code15": made_code15, "mimic_iv_ecg": made_mimic, "sph": made_sph, "medalcare_xl": made_medalcare}
    original = tmp_path / "original"
    if name == "ptbxl":
        first_of_ptbxl(ecg_data_dir, original, 2)
    elif name == "ludb":
        original.mkdir()
        for path in sorted((ecg_data_dir / "ludb" / "data").glob("1.*")):
            shutil.copy(path, original / path.name)
    else:
        make[name](original)
    told = 0
    for seed in seeds:
        rng = np.random.default_rng(seed)
        source = tmp_path / f"s{seed}"
        shutil.copytree(original, source)
        victims = sorted(path for path in source.rglob("*") if path.is_file() and path.stat().st_size)
        victim = victims[rng.integers(len(victims))]
        victim.write_bytes(damaged(victim.read_bytes(), rng))
        code15._open.cache_clear()
        try:
            listed = list_set(name, source, Output())
            reasons = []
            pool = listed.read(listed.recordings, on_bad=reasons.append)
            tables = listed.beside() if name == "ludb" and victim.suffix not in (".hea", ".dat") else {}
        except (ValueError, OSError) as error:
            told += 1
            assert "\n" not in str(error) and str(source) in str(error), seed
        else:
            told += bool(reasons) or "waves_left_out" in tables
            assert all(":" in item.reason and "\n" not in item.reason for item in reasons), seed
            assert pool.ecg.dtype == np.int16 and (np.ptp(pool.ecg, axis=1) > 0).all(), seed
        shutil.rmtree(source)
    assert told


def test_infinite_samples_are_missing_ones():
    ecg = ecg_like(5000, 500)
    ecg[3, 2] = np.inf
    with pytest.raises(ValueError, match=r"missing samples: III \(1\)"):
        checked(Raw(500, ecg))


@pytest.mark.parametrize(
    ("output", "unit", "times"), [(Output(), "AU", 1), (Output(factor=0.5), "mV", 0.5), (Output(unit="NU"), "NU", None)]
)
def test_code15s_amplitude_is_unknown_unless_a_factor_is_stated(tmp_path, output, unit, times):
    signals = made_code15(tmp_path / "c")
    pool, _ = read_all("code15", tmp_path / "c", output)
    assert set(pool.unit) == {unit}
    if times is not None:
        assert np.abs(pool.ecg[0] - times * apply_chain(signals[0, :4000], 400, 100)).max() <= 1
    listed = list_set("code15", tmp_path / "c", output)
    made_from = listed.made_from
    assert made_from["unit"] == unit and made_from.get("factor") == output.factor
    assert (code15.AS_PUBLISHED in listed.notes) == (unit == "AU")


def test_a_factor_is_an_option_of_the_builder_and_kept(tmp_path, capsys):
    made_code15(tmp_path / "c")
    arguments = ["code15", "--source", str(tmp_path / "c"), "--data-dir", str(tmp_path / "b"), "--workers", "1"]
    assert build.main([*arguments, "--factor", "0.5"]) == 0
    told = capsys.readouterr().out
    assert "2 of 2 records are the first 10 s of longer recordings: the rest is not kept" in told
    assert "listing " in told and "reading recordings …" in told and "writing " in told
    metadata = ShardSource(tmp_path / "b" / "code15-100hz").metadata
    assert metadata["amplitude_known"] == {"mV": True} and metadata["fingerprint"]["factor"] == 0.5
    assert build.main(arguments) == 2
    assert "factor: 0.5 in the shards, absent now" in capsys.readouterr().err
    for name, factor, message in (("code15", "0", "factor is 0"), ("ludb", "2", "no factor makes them millivolts")):
        assert build.main([name, *arguments[1:], "--factor", factor]) == 2
        assert message in capsys.readouterr().err


def test_an_exam_without_a_patient_is_one_of_its_own(tmp_path):
    made_code15(tmp_path / "c")
    text = (tmp_path / "c" / "exams.csv").read_text()
    (tmp_path / "c" / "exams.csv").write_text(text.replace(",8,True,", ",nan,True,").replace(",9,", ",,", 1))
    listed = list_set("code15", tmp_path / "c", Output())
    assert listed.notes[0] == "exams.csv: no patient for 2 of 6 recordings (such as '30'): each is a patient of its own"
    assert len({entry.patient_id for entry in listed.recordings}) == 4
