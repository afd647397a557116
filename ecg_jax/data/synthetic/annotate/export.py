"""Synthetic records as WFDB files, which any ECG tool opens: signals, beats, wave boundaries, and a table of labels.

A folder appears whole or not at all: it is written under a temporary name and renamed at the end.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
import pandas as pd

from ecg_jax.data.storage.wfdb_writer import SYNTHETIC, Annotation, write_annotations, write_signals
from ecg_jax.data.synthetic.annotate.annotation import Annotated, annotate
from ecg_jax.data.synthetic.physiology.conditions import Morphology, Rhythm
from ecg_jax.data.synthetic.physiology.rhythm import Beat
from ecg_jax.data.synthetic.render.identity import fingerprint
from ecg_jax.data.synthetic.render.source import BLOCK_RECORDS
from ecg_jax.data.synthetic.render.tiers import Recipe, Tier
from ecg_jax.files.whole_folder import whole_folder

BEAT_ANNOTATOR, WAVE_ANNOTATOR = "atr", "wave"
LABELS = "records.csv"
Progress = Callable[[int, int], None]

BEAT_SYMBOLS = {
    Beat.NORMAL: "N",
    Beat.ATRIAL: "A",
    Beat.VENTRICULAR: "V",
    Beat.JUNCTIONAL: "j",
    Beat.VENTRICULAR_ESCAPE: "E",
    Beat.PACED: "/",
}
#: Rhythms in PhysioNet's notation: MIT-BIH Arrhythmia Database, with (BI of the Malignant Ventricular and (B3 of the
#: European ST-T Database. It has no word for sinus tachycardia and arrhythmia, for atrial trigeminy, or for single
#: ectopic beats and their couplets, which the beats themselves tell.
RHYTHM_NOTES = {rhythm: "(N" for rhythm in Rhythm} | {
    Rhythm.SINUS_BRADYCARDIA: "(SBR",
    Rhythm.ATRIAL_FIBRILLATION: "(AFIB",
    Rhythm.ATRIAL_FLUTTER: "(AFL",
    Rhythm.ATRIAL_FLUTTER_VARIABLE: "(AFL",
    Rhythm.ATRIAL_BIGEMINY: "(AB",
    Rhythm.VENTRICULAR_BIGEMINY: "(B",
    Rhythm.VENTRICULAR_TRIGEMINY: "(T",
    Rhythm.AV_BLOCK_1: "(BI",
    Rhythm.AV_BLOCK_2_MOBITZ_1: "(BII",
    Rhythm.AV_BLOCK_2_MOBITZ_2: "(BII",
    Rhythm.AV_BLOCK_2_TO_1: "(BII",
    Rhythm.AV_BLOCK_3: "(B3",
    Rhythm.JUNCTIONAL: "(NOD",
    Rhythm.PACED_ATRIAL: "(P",
    Rhythm.PACED_VENTRICULAR: "(P",
    Rhythm.PACED_DUAL: "(P",
}
PRE_EXCITATION_NOTE = "(PREX"
#: Peaks of P, QRS and T as in LUDB; `num` of their "(" and ")" is the wave's place here, as ecgpuwave writes it.
WAVE_SYMBOLS = ("p", "N", "t")


@dataclasses.dataclass(frozen=True)
class Origin:
    """What the records of an export were made from."""

    tier: Tier
    seed: int
    fingerprint: str


def export(
    folder: Path,
    tier: Tier,
    recipe: Recipe,
    *,
    records: int,
    seed: int = 0,
    sample_rate_hz: int = 500,
    progress: Progress | None = None,
) -> None:
    """Writes records 0 to `records - 1` of a recipe to `folder`; `progress` hears of (done, records).

    Raises ValueError for fewer than one record, FileExistsError when `folder` is there and not empty, and what
    `annotate` raises; then nothing is left behind.
    """
    if records < 1:
        raise ValueError(f"records is {records}: at least 1 is needed")
    blocks = (np.arange(start, min(start + BLOCK_RECORDS, records)) for start in range(0, records, BLOCK_RECORDS))
    made = ((indices, annotate(seed, indices, recipe, sample_rate_hz)) for indices in blocks)
    advance = None if progress is None else lambda done: progress(done, records)
    write_wfdb(folder, made, Origin(tier, seed, fingerprint(recipe)), advance)


def check_folder(folder: Path) -> None:
    """Raises FileExistsError when `folder` is there and anything but an empty folder."""
    if folder.exists() and not (folder.is_dir() and not any(folder.iterdir())):
        raise FileExistsError(f"{folder} exists and is not an empty folder: remove it or name another one")


def write_wfdb(
    folder: Path,
    blocks: Iterable[tuple[np.ndarray, Annotated]],
    origin: Origin,
    progress: Callable[[int], None] | None = None,
) -> None:
    """Writes blocks of records with their indices, as they are made; `progress` hears how many are written.

    Per record NAME.hea and NAME.dat (see `write_signals`), NAME.atr (the rhythm, and every beat at its R peak) and
    NAME.wave (onset, peak and offset of the waves that lie wholly in the record); for all of them RECORDS and
    records.csv (labels and latents). Raises FileExistsError as `check_folder`, ValueError for samples that are not
    finite.
    """
    check_folder(folder)
    with whole_folder(folder) as building:
        rows: list[dict[str, object]] = []
        for indices, annotated in blocks:
            for row, index in enumerate(indices):
                name = record_name(int(index))
                comments = _comments(annotated, row, int(index), origin)
                write_signals(building, name, annotated.ecg_mv[row], annotated.sample_rate_hz, comments)
                write_annotations(building / f"{name}.{BEAT_ANNOTATOR}", _beats(annotated, row))
                write_annotations(building / f"{name}.{WAVE_ANNOTATOR}", _waves(annotated, row))
                rows.append({"record": name, "index": int(index), **labels(annotated, row)})
                if progress is not None:
                    progress(len(rows))
        (building / "RECORDS").write_text("".join(f"{row['record']}\n" for row in rows), encoding="utf-8")
        pd.DataFrame(rows).to_csv(building / LABELS, index=False)


def record_name(index: int) -> str:
    """The name of an exported record."""
    return f"synthetic_{index:06d}"


def labels(annotated: Annotated, row: int) -> dict[str, object]:
    """Labels and latents of one record, as a row of a table; what there may be several of is joined by `;`."""
    return {
        "rhythm": Rhythm(int(annotated.rhythm[row])).name,
        "morphology": Morphology(int(annotated.morphology[row])).name,
        "scp_codes": ";".join(annotated.scp_codes[row]),
        "criteria_met": ";".join(condition.name for condition in annotated.met[row]),
        "spikes_visible": bool(annotated.spikes_visible[row]),
        **{name: float(values[row]) for name, values in annotated.patient.items()},
    }


def _beats(annotated: Annotated, row: int) -> list[Annotation]:
    """The rhythm at the first sample, then a beat at every R peak."""
    is_preexcited = annotated.morphology[row] == Morphology.WPW
    note = PRE_EXCITATION_NOTE if is_preexcited else RHYTHM_NOTES[Rhythm(int(annotated.rhythm[row]))]
    peaks = _samples(annotated, annotated.fiducials_s[row, :, 1, 1])
    beats = [
        Annotation(int(sample), BEAT_SYMBOLS[Beat(int(code))])
        for sample, code in zip(peaks, annotated.beat[row], strict=True)
        if sample >= 0 and code != Beat.NONE
    ]
    return [Annotation(0, "+", note=note), *sorted(beats)]


def _waves(annotated: Annotated, row: int) -> list[Annotation]:
    """Onset, peak and offset of each wave that lies wholly in the record."""
    samples_Kx3x3 = _samples(annotated, annotated.fiducials_s[row])
    waves = [
        Annotation(int(sample), symbol, wave)
        for wave, peak_symbol in enumerate(WAVE_SYMBOLS)
        for triplet in samples_Kx3x3[:, wave]
        if (triplet >= 0).all()
        for sample, symbol in zip(triplet, ("(", peak_symbol, ")"), strict=True)
    ]
    return sorted(waves, key=lambda annotation: annotation.sample)


def _samples(annotated: Annotated, times_s: np.ndarray) -> np.ndarray:
    """The samples nearest to `times_s`; -1 where there is none in the record."""
    nearest = np.rint(np.nan_to_num(times_s, nan=-1.0) * annotated.sample_rate_hz).astype(np.int64)
    return np.where((nearest >= 0) & (nearest < annotated.ecg_mv.shape[1]), nearest, -1)


def _comments(annotated: Annotated, row: int, index: int, origin: Origin) -> list[str]:
    """The header's comments: age, sex and diagnosis as the PhysioNet Challenges write them, then where it is from."""
    of_record = labels(annotated, row)
    return [
        f"Age: {round(float(annotated.patient['age_years'][row]))}",
        f"Sex: {'Female' if annotated.patient['is_female'][row] >= 0.5 else 'Male'}",
        f"Dx: {','.join(annotated.scp_codes[row])}",
        f"Rhythm: {of_record['rhythm']}",
        f"Morphology: {of_record['morphology']}",
        f"Source: {SYNTHETIC}; tier {origin.tier.value}, seed {origin.seed}, index {index}",
        f"Generator: {origin.fingerprint}",
    ]
