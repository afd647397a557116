"""CODE-15% (Ribeiro et al., Nature Communications 11:1760, 2020; Zenodo 4916206): HDF5 files of many exams each.

`exams.csv` names the exams; `exams_part{i}.hdf5` hold `exam_id` `(exams,)` and `tracings` `(exams, 4096, 12)` at 400
Hz. Exams shorter than 10.24 s stand in the middle of zeros, which are taken away: those of 7 s are too short.

The published text gives the unit as 1e-4 V, and says to multiply volts by 1000. What it calls millivolts is too large,
by about two: of ten exams the largest lead measures 7.0 mV peak to peak (median), where five other sets have 2.4 to
2.9; users of 100,000 exams found factors of 0.39 and 0.5 (antonior92/ecg-age-prediction, issues 1 and 5). So the
amplitude is unknown (unit "AU") unless the user states a factor.
"""

from __future__ import annotations

import dataclasses
import functools
from pathlib import Path

import numpy as np

from ecg_jax.data.exclusions import first_line
from ecg_jax.data.real.datasets.catalogue import Catalogue, Entry, Output, Raw, catalogue, digest_of
from ecg_jax.data.real.datasets.patients import Row, persons, without_patient
from ecg_jax.data.real.formats.hdf5 import own_array
from ecg_jax.data.real.formats.tables import identity, known, plain_name, read_table
from ecg_jax.extras import needs

with needs("real"):
    import h5py

RATE_HZ = 400
#: Columns that are labels; "normal_ecg" is what a machine said.
LABELS = ("1dAVb", "RBBB", "LBBB", "SB", "AF", "ST", "normal_ecg")
AS_PUBLISHED = (
    "the millivolts of CODE-15% are about twice too large: they are kept as published, of unknown amplitude, unless "
    "--factor states what they are to be multiplied by"
)
#: An exam whose part was not fetched.
_NO_ROW = -1


def list_code15(name: str, folder: Path, output: Output) -> Catalogue:
    """The exams of `exams.csv`, by `exam_id`. Splits: the publisher gives none; patients are spread over ten folds.

    Raises FileNotFoundError and ValueError for a folder, table or file of another shape.
    """
    rows = list(read_table(folder / "exams.csv", ("exam_id", "patient_id", "trace_file", *LABELS)))
    files = {
        part: folder / plain_name(part, f"{where}, trace_file")
        for where, row in rows
        if (part := known(row["trace_file"]))
    }
    row_of = {part: _row_of(path) if path.is_file() else {} for part, path in files.items()}
    exams = [identity(row["exam_id"]) for _, row in rows]
    patients = {exam: Row(identity(row["patient_id"])) for exam, (_, row) in zip(exams, rows, strict=True)}
    person = persons(patients)
    entries = [
        Entry(
            record_id=f"{name}/{exam}",
            file=files.get(known(row["trace_file"]), folder / "exams_part?.hdf5"),
            patient_id=person[exam].patient_id,
            fold=person[exam].fold,
            labels=tuple(sorted(label for label in LABELS if row[label].strip().lower() in ("true", "1", "1.0"))),
            row=row_of.get(known(row["trace_file"]), {}).get(exam, _NO_ROW),
        )
        for exam, (_, row) in zip(exams, rows, strict=True)
    ]
    notes = without_patient("exams.csv", patients)
    if output.unit == "mV" and output.factor is None:
        output = dataclasses.replace(output, unit="AU")
        notes += (AS_PUBLISHED,)
    digest = digest_of(folder, tables=[folder / "exams.csv"], files=sorted(files.values()))
    return catalogue(name, entries, load, output, digest=digest, notes=notes)


def load(entry: Entry) -> Raw:
    """An exam without its padding. Raises ValueError, as "reason: details", for one that cannot be used."""
    if not entry.file.is_file():
        raise ValueError(f"no signals: {entry.file.name} is not there")
    if entry.row == _NO_ROW:
        raise ValueError(f"no signals: {entry.file.name} does not hold the exam")
    try:
        ecg_mv = own_array(_open(entry.file), "tracings")[entry.row].astype(np.float64)
    except (OSError, KeyError, ValueError) as error:
        raise ValueError(f"unreadable: {entry.file.name}: {first_line(error)}") from error
    return Raw(RATE_HZ, trimmed(ecg_mv))


def trimmed(ecg: np.ndarray) -> np.ndarray:
    """`(samples, 12)` without the samples at either end at which every lead is 0."""
    held = np.flatnonzero((ecg != 0).any(axis=1))
    return ecg[held[0] : held[-1] + 1] if len(held) else ecg[:0]


@functools.lru_cache(maxsize=2)
def _open(path: Path) -> h5py.File:
    return h5py.File(path, "r")


def _row_of(path: Path) -> dict[str, int]:
    """Exam id -> its row. The published files end in a row of zeros whose id is 0, which no table names."""
    try:
        with h5py.File(path, "r") as file:
            ids, shape = own_array(file, "exam_id")[:], own_array(file, "tracings").shape
    except (OSError, KeyError, ValueError) as error:
        raise ValueError(f"{path} is no file of CODE-15% ({first_line(error)}): fetch it again") from error
    if len(shape) != 3 or shape[0] != len(ids) or shape[2] != 12:
        raise ValueError(f"{path}: tracings {shape} for {len(ids)} exam_id, expected (exams, 4096, 12)")
    return {str(int(exam)): row for row, exam in enumerate(ids)}
