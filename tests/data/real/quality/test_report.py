"""The quality report: its measures on signals whose answer is known, its tables and its page."""

import dataclasses
import html
import re

import numpy as np
import pandas as pd
import pytest
from support.ptbxl_layout import ecg_like, write_ptbxl, write_signal

from ecg_jax.data.ecg import RecordPool
from ecg_jax.data.exclusions import Exclusion, kind_of
from ecg_jax.data.real.quality import measures
from ecg_jax.data.real.quality.report import main, write_report
from ecg_jax.data.storage.shards import ShardSource, write_shards


def beating(per_minute: float, rate_hz: int = 100) -> np.ndarray:
    """10 s of sharp beats, limb leads by the lead algebra: int16 (samples, 12) in µV."""
    t = np.arange(10 * rate_hz) / rate_hz
    phase = (t * per_minute / 60 + 0.3) % 1
    beat = 1000 * np.exp(-0.5 * ((phase - 0.5) * 60 / per_minute / 0.015) ** 2)
    wave = beat + 150 * np.exp(-0.5 * ((phase - 0.8) * 60 / per_minute / 0.04) ** 2)
    one, two = 0.6 * wave, wave
    limbs = [one, two, two - one, -(one + two) / 2, one - two / 2, two - one / 2]
    return np.rint(np.stack([*limbs, *(gain * wave for gain in (-0.5, 0.4, 0.8, 1.2, 1.0, 0.7))], axis=1)).astype(
        np.int16
    )


@pytest.fixture(scope="module")
def pool() -> RecordPool:
    ecg = [beating(rate) for rate in (45, 60, 75, 90, 120)]
    ecg += [np.rint(1000 * ecg_like(seed, rate_hz=100)).astype(np.int16) for seed in range(6)]
    ecg.append(ecg[-1].copy())  # held twice, under another patient
    count = len(ecg)
    return RecordPool(
        source="hospital",
        sample_rate_hz=100,
        ecg=np.stack(ecg),
        record_id=np.array([f"hospital/{i:03d}" for i in range(count)]),
        patient_id=np.arange(count) // 2,
        fold=np.arange(count) % 3,
        unit=np.full(count, "mV"),
        labels=tuple(("SR",) if i % 2 else ("SR", "<b>odd</b>") for i in range(count)),
    )


EXCLUDED = (
    Exclusion("hospital/900", "flat lead V1 (all samples 0)"),
    Exclusion("hospital/901", "flat lead V2, V3 (all samples 7)"),
    Exclusion("hospital/902", "missing samples in II (12)"),
)


@pytest.fixture(scope="module")
def folder(pool, tmp_path_factory):
    folder = tmp_path_factory.mktemp("report") / "hospital"
    write_report(pool, EXCLUDED, folder)
    return folder


def test_heart_rates_are_those_of_the_signal(pool):
    found = [measures.heart_rate(ecg, 100) for ecg in pool.ecg[:5]]
    assert found == pytest.approx([45, 60, 75, 90, 120], rel=0.02)
    assert np.isnan(measures.heart_rate(np.zeros((1000, 12), np.int16), 100))


def test_lead_algebra_is_exact_to_rounding_and_notices_a_swapped_lead(pool):
    sound = pool.ecg[:5]
    assert measures.algebra_residual(sound).max() < 0.01
    swapped = sound[:, :, [0, 2, 1, *range(3, 12)]]  # II and III
    assert measures.algebra_residual(swapped).min() > 0.5
    scaled = sound.copy()
    scaled[:, :, 2] *= 2  # another gain on III
    assert measures.algebra_residual(scaled).min() > 0.2
    without_one = sound.copy()
    without_one[:, :, 0] = 0
    assert np.isnan(measures.algebra_residual(without_one)).all()


def test_a_set_whose_limb_leads_do_not_fit_is_called_out(pool, tmp_path):
    """LUDB's published millivolts are such: every lead has a gain of its own."""
    sound = pool.take(np.arange(5))
    gains = np.linspace(0.5, 2, 12)
    scaled = dataclasses.replace(sound, ecg=np.rint(sound.ecg * gains).astype(np.int16))
    for name, some in (("sound", sound), ("scaled", scaled)):
        write_report(some, (), tmp_path / name)
    assert "not to be trusted" not in (tmp_path / "sound" / "report.html").read_text()
    assert "In 5 of 5 records the limb leads do not fit" in (tmp_path / "scaled" / "report.html").read_text()


def test_flat_leads_do_not_enter_the_spectra(pool):
    ecg = pool.ecg.copy()
    ecg[:6, :, 11] = 0
    table = measures.spectra(dataclasses.replace(pool, ecg=ecg)).set_index("lead").loc["V6"]
    assert table["0.05"].min() > -85 and table["0.5"].notna().all()


def test_leads_scaled_one_by_one_have_no_algebra(pool):
    table = measures.per_record(dataclasses.replace(pool, unit=np.full(len(pool), "NU")))
    assert table.algebra.isna().all() and table.peak.notna().all()


def test_every_table_agrees_with_the_pool(pool, folder):
    summary = pd.read_csv(folder / "summary.csv").set_index("measure").value
    assert int(summary["records"]) == 12 and int(summary["records left out"]) == 3
    assert int(summary["patients"]) == 6 and int(summary["folds"]) == 3
    assert float(summary["duration of a record (s)"]) == 10 and int(summary["sample rate (Hz)"]) == 100
    records = pd.read_csv(folder / "records.csv")
    assert list(records.record_id) == list(pool.record_id)
    assert records.peak.to_numpy() == pytest.approx(np.abs(pool.ecg.astype(int)).max((1, 2)) / 1000)
    labels = pd.read_csv(folder / "labels.csv").set_index("label").records
    assert dict(labels) == {"SR": 12, "<b>odd</b>": 6}


def test_what_was_left_out_is_named_and_counted(folder):
    excluded = pd.read_csv(folder / "excluded.csv")
    assert dict(excluded.groupby("kind").size()) == {"flat lead": 2, "missing samples": 1}
    assert set(excluded.record_id) == {item.record_id for item in EXCLUDED}
    page = (folder / "report.html").read_text()
    assert "flat lead: 2" in page and "missing samples: 1" in page
    assert all(item.record_id in page and item.reason in page for item in EXCLUDED)


def test_a_recording_held_twice_is_named(folder):
    (row,) = pd.read_csv(folder / "repeats.csv").itertuples()
    assert (row.first, row.second) == ("hospital/010", "hospital/011") and row.same_patient
    assert "hospital/010" in (folder / "report.html").read_text()


def test_the_page_stands_alone_and_escapes_what_a_set_holds(folder):
    page = (folder / "report.html").read_text()
    assert not re.findall(r'(?:src|href)="(?!data:)[^"]*"', page)
    assert page.count("data:image/png;base64,") == 6
    assert "<b>odd" not in page and "&lt;b&gt;odd" in page


def test_a_report_is_not_written_over_and_needs_a_record(pool, folder, tmp_path):
    with pytest.raises(FileExistsError, match="not written over"):
        write_report(pool, (), folder)
    with pytest.raises(ValueError, match=r"no record is left to report on \(3 were left out\)"):
        write_report(pool.take(np.arange(0)), EXCLUDED, tmp_path / "none")
    assert not (tmp_path / "none").exists()


@pytest.mark.parametrize(
    ("reason", "kind"),
    [
        ("flat lead V1 (all samples 0)", "flat lead"),
        ("missing samples in II (3), V1 (4)", "missing samples"),
        ("same recording as ptbxl/00001, fold 9", "same recording"),
        ("V1 is flat", "V1 is flat"),
    ],
)
def test_reasons_have_a_name(reason, kind):
    assert kind_of(reason) == kind


def test_the_command_reads_a_published_folder_and_names_what_it_left_out(tmp_path, capsys):
    write_ptbxl(tmp_path / "ptbxl", 4)
    flawed = ecg_like(9)
    flawed[:, 6] = 0.25
    write_signal(tmp_path / "ptbxl" / "records500/00000/00003_hr", flawed)
    assert main(["ptbxl", "--source", str(tmp_path / "ptbxl"), "--out", str(tmp_path / "out")]) == 0
    assert "tells it in full" in capsys.readouterr().out
    (row,) = pd.read_csv(tmp_path / "out" / "excluded.csv").itertuples()
    assert (row.kind, row.record_id) == ("flat lead", "ptbxl/00003")
    assert len(pd.read_csv(tmp_path / "out" / "records.csv")) == 3


def test_the_command_reads_shards_with_their_exclusions(pool, tmp_path):
    write_shards(tmp_path / "shards", [pool], fingerprint={}, exclusions=EXCLUDED)
    assert main(["hospital", "--source", str(tmp_path / "shards"), "--out", str(tmp_path / "out")]) == 0
    assert len(pd.read_csv(tmp_path / "out" / "excluded.csv")) == 3


@pytest.mark.parametrize(
    ("name", "out", "message"),
    [
        ("ptbxl", "out", "holds neither ptbxl/ptbxl_database.csv"),
        ("ptbxl", ".", "is not written over"),
        ("georgia", "out", "holds no recording: not one .hea or .edf file"),
        ("georgia", "out", "holds shards of 'hospital', not of 'georgia'"),
    ],
)
def test_the_command_tells_what_is_wrong(name, out, message, pool, tmp_path, capsys):
    source = tmp_path
    if "holds shards" in message:
        source = tmp_path / "shards"
        write_shards(source, [pool], fingerprint={})
    assert main([name, "--source", str(source), "--out", str(tmp_path / out)]) == 2
    assert message in capsys.readouterr().err


def scaled(pool: RecordPool, factor: float, unit: str = "mV") -> RecordPool:
    """Recordings of the size that other sets have, times a factor."""
    ecg = pool.ecg[:5] / np.ptp(pool.ecg[:5, :, :6], axis=1).max() * 1200 * factor
    return dataclasses.replace(pool.take(np.arange(5)), ecg=np.rint(ecg).astype(np.int16), unit=np.full(5, unit))


@pytest.mark.parametrize(
    ("factor", "unit", "told"),
    [
        (1, "mV", ()),
        (2, "mV", ("The largest limb lead measures 2.40 mV peak to peak (median of 5 records)",)),
        (0.2, "mV", ("The largest limb lead measures 0.24 mV peak to peak",)),
        (2, "NU", ()),
        (2, "AU", ("The amplitude of 5 records is unknown", "The largest limb lead measures 2.40 mV")),
        (1, "AU", ("The amplitude of 5 records is unknown",)),
    ],
)
def test_amplitudes_unlike_those_of_other_sets_are_noticed(pool, factor, unit, told):
    notes = measures.amplitude_notes(measures.per_record(scaled(pool, factor, unit)))
    assert len(notes) == len(told) and all(note.startswith(words) for note, words in zip(notes, told, strict=True))
    assert all("in nine other sets it is 1 to 1.45 mV" in note for note in notes if "limb" in note)


def test_what_to_know_of_a_set_is_on_the_page_and_printed(pool, tmp_path, capsys):
    notes = ["t.csv: columns not understood, and not read: '<age>'"]
    write_shards(tmp_path / "shards", [scaled(pool, 3, "AU")], fingerprint={}, notes=notes)
    assert ShardSource(tmp_path / "shards").metadata["amplitude_known"] == {"AU": False}
    assert main(["hospital", "--source", str(tmp_path / "shards"), "--out", str(tmp_path / "out")]) == 0
    told, page = capsys.readouterr().out, (tmp_path / "out" / "report.html").read_text()
    assert notes[0] in told and notes[0] in html.unescape(page) and "<age>" not in page
    assert "Of recordings longer than ten seconds the first ten are kept." in page
    assert "The amplitude of 5 records is unknown" in told and "The largest limb lead measures 3.60 mV" in page
