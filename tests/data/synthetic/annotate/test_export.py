"""Exported records, reopened with wfdb: the samples to one count, beats and waves where they were put."""

import csv

import numpy as np
import pytest
import wfdb

from ecg_jax.data.ecg import LEADS
from ecg_jax.data.storage.wfdb_writer import CODES, Annotation, write_annotations
from ecg_jax.data.synthetic.annotate.annotation import Annotated
from ecg_jax.data.synthetic.annotate.export import BEAT_SYMBOLS, RHYTHM_NOTES, Origin, export, write_wfdb
from ecg_jax.data.synthetic.physiology.conditions import Morphology, Rhythm
from ecg_jax.data.synthetic.physiology.rhythm import Beat
from ecg_jax.data.synthetic.render.tiers import Tier, recipe

RATE_HZ, SECONDS = 500, 10
ORIGIN = Origin(Tier.ACQUISITION, seed=7, fingerprint="abc123")
BEATS = (Beat.NORMAL, Beat.ATRIAL, Beat.VENTRICULAR, Beat.JUNCTIONAL, Beat.VENTRICULAR_ESCAPE, Beat.PACED, Beat.NONE)


def annotated(rhythm: Rhythm = Rhythm.SINUS, morphology: Morphology = Morphology.NORMAL, count: int = 2) -> Annotated:
    """Noise with a beat of each kind at 1, 2, … s, its P wave 160 ms before and its T wave 250 ms after."""
    generator = np.random.default_rng(0)
    ecg_mv = generator.normal(0.0, 0.5, (count, SECONDS * RATE_HZ, len(LEADS))).astype(np.float32)
    peak_s = np.arange(1.0, len(BEATS) + 1.0)
    qrs = peak_s[:, None] + [-0.04, 0.0, 0.05]
    fiducials_s = np.stack([qrs - 0.16, qrs, qrs + 0.25], axis=1)
    fiducials_s[2, 0] = np.nan  # a ventricular beat has no P wave
    fiducials_s[-1] = np.nan
    return Annotated(
        ecg_mv=ecg_mv,
        clean_mv=ecg_mv,
        sample_rate_hz=RATE_HZ,
        fiducials_s=np.repeat(fiducials_s[None], count, axis=0),
        beat=np.repeat(np.array([BEATS], np.int32), count, axis=0),
        rhythm=np.full(count, rhythm, np.int32),
        morphology=np.full(count, morphology, np.int32),
        met=((morphology,),) * count,
        scp_codes=(("AFIB", "CLBBB"),) * count,
        spikes_visible=np.zeros(count, bool),
        patient={
            "age_years": np.full(count, 71.4),
            "is_female": np.ones(count),
            "heart_rate_bpm": np.full(count, 60.0),
        },
    )


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("export") / "records"
    blocks = [(np.array([0, 1]), annotated(Rhythm.ATRIAL_FIBRILLATION, Morphology.LBBB)), (np.array([2]), annotated())]
    write_wfdb(folder, blocks, ORIGIN)
    return folder


def test_samples_are_those_written_to_one_count(folder):
    record = wfdb.rdrecord(str(folder / "synthetic_000001"))
    assert (record.fs, record.sig_name, set(record.units)) == (RATE_HZ, list(LEADS), {"mV"})
    np.testing.assert_allclose(record.p_signal, annotated().ecg_mv[1], atol=0.5001e-3)
    assert set(record.fmt) == {"16"} and set(record.adc_gain) == {1000.0} and set(record.baseline) == {0}


def test_header_tells_patient_diagnosis_and_origin(folder):
    comments = wfdb.rdheader(str(folder / "synthetic_000001")).comments
    assert comments[:3] == ["Age: 71", "Sex: Female", "Dx: AFIB,CLBBB"]
    text = "\n".join(comments)
    for part in ("synthetic", "tier T1d", "seed 7", "index 1", "abc123", "ATRIAL_FIBRILLATION", "LBBB"):
        assert part in text


def test_beats_stand_at_their_peaks_after_the_rhythm(folder):
    beats = wfdb.rdann(str(folder / "synthetic_000000"), "atr")
    assert beats.fs == RATE_HZ
    assert beats.sample.tolist() == [0, *(RATE_HZ * np.arange(1, 7))]
    assert beats.symbol == ["+", "N", "A", "V", "j", "E", "/"]
    assert [note.strip("\0") for note in beats.aux_note] == ["(AFIB", *[""] * 6]


def test_waves_are_onset_peak_and_offset_as_in_ludb(folder):
    waves = wfdb.rdann(str(folder / "synthetic_000000"), "wave")
    normal, ventricular = ["(", "p", ")", "(", "N", ")", "(", "t", ")"], ["(", "N", ")", "(", "t", ")"]
    assert waves.symbol == [*normal * 2, *ventricular, *normal * 3]
    assert waves.sample[:9].tolist() == [400, 420, 445, 480, 500, 525, 605, 625, 650]
    assert waves.num[:9].tolist() == [0, 0, 0, 1, 1, 1, 2, 2, 2]


def test_waves_that_the_record_cuts_are_left_out(tmp_path):
    made = annotated(count=1)
    made.fiducials_s[0, 0] -= 0.98  # its QRS begins before the record and peaks in it; its P wave is gone
    made.fiducials_s[0, 5] += 3.75  # its T wave ends after the record
    write_wfdb(tmp_path / "cut", [(np.array([0]), made)], ORIGIN)
    waves = wfdb.rdann(str(tmp_path / "cut/synthetic_000000"), "wave")
    assert waves.symbol[:3] == ["(", "t", ")"]
    assert waves.symbol[-3:] == ["(", "N", ")"]
    assert wfdb.rdann(str(tmp_path / "cut/synthetic_000000"), "atr").sample[:2].tolist() == [0, 10]


def test_a_record_without_waves_has_a_rhythm_only(tmp_path):
    made = annotated(count=1)
    made.fiducials_s[:] = np.nan
    write_wfdb(tmp_path / "none", [(np.array([0]), made)], ORIGIN)
    assert wfdb.rdann(str(tmp_path / "none/synthetic_000000"), "atr").symbol == ["+"]
    assert (tmp_path / "none/synthetic_000000.wave").read_bytes() == b"\0\0"


def test_pre_excitation_is_a_rhythm_of_physionet(tmp_path):
    write_wfdb(tmp_path / "wpw", [(np.array([0]), annotated(morphology=Morphology.WPW, count=1))], ORIGIN)
    assert wfdb.rdann(str(tmp_path / "wpw/synthetic_000000"), "atr").aux_note[0].strip("\0") == "(PREX"


def test_table_holds_labels_and_latents(folder):
    with (folder / "records.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [row["record"] for row in rows] == (folder / "RECORDS").read_text().split()
    assert rows[1]["rhythm"] == "ATRIAL_FIBRILLATION" and rows[2]["rhythm"] == "SINUS"
    assert rows[1]["scp_codes"] == "AFIB;CLBBB" and rows[1]["criteria_met"] == "LBBB"
    assert float(rows[0]["heart_rate_bpm"]) == 60.0


def test_symbols_have_the_codes_of_wfdb():
    table = wfdb.io.annotation.ann_label_table.set_index("symbol")["label_store"]
    assert {symbol: table[symbol] for symbol in CODES} == CODES


@pytest.mark.parametrize("steps", [(0, 1023, 1024, 70_000), (5, 0, 200_000)])
def test_annotations_far_apart_keep_their_samples(tmp_path, steps):
    samples = np.cumsum(steps).tolist()
    notes = ["(N", "", "(AFIB", ""]
    written = [Annotation(at, "N", num=i % 3, note=notes[i]) for i, at in enumerate(samples)]
    write_annotations(tmp_path / "far.atr", written)
    read = wfdb.rdann(str(tmp_path / "far"), "atr")
    assert read.sample.tolist() == samples
    assert read.num.tolist() == [annotation.num for annotation in written]
    assert [note.strip("\0") for note in read.aux_note] == notes[: len(samples)]
    with pytest.raises(ValueError, match="1 samples too late"):
        write_annotations(tmp_path / "late.atr", [Annotation(5, "N"), Annotation(4, "N")])


def test_bytes_are_those_of_the_reference_writer(tmp_path):
    made = annotated(count=1)
    write_wfdb(tmp_path / "ours", [(np.array([0]), made)], ORIGIN)
    name = "synthetic_000000"
    record = wfdb.rdrecord(str(tmp_path / "ours" / name), physical=False)
    reference = tmp_path / "reference"
    reference.mkdir()
    each = len(LEADS)
    wfdb.wrsamp(
        name,
        fs=RATE_HZ,
        units=["mV"] * each,
        sig_name=list(LEADS),
        d_signal=record.d_signal,
        fmt=["16"] * each,
        adc_gain=[1000] * each,
        baseline=[0] * each,
        comments=record.comments,
        write_dir=str(reference),
    )
    for suffix in (".dat", ".hea"):
        assert (tmp_path / "ours" / (name + suffix)).read_bytes() == (reference / (name + suffix)).read_bytes()


def test_every_code_has_a_symbol_and_a_note():
    assert set(BEAT_SYMBOLS) == set(Beat) - {Beat.NONE}
    assert set(RHYTHM_NOTES) == set(Rhythm)
    assert RHYTHM_NOTES[Rhythm.ATRIAL_FLUTTER] == "(AFL" and RHYTHM_NOTES[Rhythm.SINUS] == "(N"


def test_amplitudes_saturate_and_never_read_as_missing(tmp_path):
    made = annotated(count=1)
    made.ecg_mv[0, :2, 0] = -100.0, 100.0
    write_wfdb(tmp_path / "loud", [(np.array([0]), made)], ORIGIN)
    lead_mv = wfdb.rdrecord(str(tmp_path / "loud/synthetic_000000")).p_signal[:, 0]
    assert lead_mv[:2].tolist() == [-32.767, 32.767]


def test_a_failure_leaves_nothing_behind(tmp_path):
    made = annotated(count=2)
    made.ecg_mv[1, 5, 3] = np.nan
    with pytest.raises(ValueError, match=r"synthetic_000009: 1 samples are not finite"):
        write_wfdb(tmp_path / "half", [(np.array([8, 9]), made)], ORIGIN)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_in_use_is_refused_and_an_empty_one_taken(tmp_path):
    (tmp_path / "mine").mkdir()
    write_wfdb(tmp_path / "mine", [(np.array([0]), annotated(count=1))], ORIGIN)
    before = sorted(path.name for path in (tmp_path / "mine").iterdir())
    with pytest.raises(FileExistsError, match="mine"):
        write_wfdb(tmp_path / "mine", [(np.array([5]), annotated(count=1))], ORIGIN)
    assert sorted(path.name for path in (tmp_path / "mine").iterdir()) == before


def test_no_records_are_refused(tmp_path):
    with pytest.raises(ValueError, match="records is 0"):
        export(tmp_path / "out", Tier.VECTORS, recipe(Tier.VECTORS), records=0)
    assert not (tmp_path / "out").exists()
