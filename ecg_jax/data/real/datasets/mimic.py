"""MIMIC-IV-ECG 1.0 (Gow et al., PhysioNet 2023, doi 10.13026/4nqg-sb35): WFDB, named by `record_list.csv`.

Its files give the leads in another order (aVF before aVL) and hold missing samples. Labels are the statements of the
recorder, `report_0` … `report_17` of `machine_measurements.csv`, as it words them.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

from ecg_jax.data.real.datasets.any_folder import load_wfdb
from ecg_jax.data.real.datasets.catalogue import Catalogue, Entry, Output, Raw, catalogue, digest_of, fold_of
from ecg_jax.data.real.formats.tables import identity, known, plain_path, read_table

RECORDS, REPORTS = "record_list.csv", "machine_measurements.csv"
REPORT_COLUMNS = tuple(f"report_{k}" for k in range(18))


def list_mimic(name: str, folder: Path, output: Output) -> Catalogue:
    """The rows of `record_list.csv`, by `study_id`; `machine_measurements.csv` may be left out, and labels with it.

    Splits: the publisher gives none; patients (`subject_id`) are spread over ten folds. Raises FileNotFoundError and
    ValueError for a folder or table of another shape.
    """
    tables = [folder / RECORDS]
    statements: dict[str, tuple[str, ...]] = {}
    if (folder / REPORTS).is_file():
        tables.append(folder / REPORTS)
        for _, row in read_table(folder / REPORTS, ("study_id", *REPORT_COLUMNS)):
            said = {sys.intern(known(row[column].rstrip("."))) for column in REPORT_COLUMNS} - {""}  # few differ
            statements[identity(row["study_id"])] = tuple(sorted(said))
    entries = []
    for where, row in read_table(folder / RECORDS, ("subject_id", "study_id", "path")):
        subject, study = identity(row["subject_id"]), identity(row["study_id"])
        for column, value in (("subject_id", subject), ("study_id", study)):
            if not re.fullmatch(r"[0-9]{1,18}", value):
                raise ValueError(f"{where}: {column} is {value!r:.40}, expected a whole number")
        path = folder / plain_path(known(row["path"]), f"{where}, path")
        entries.append(
            Entry(
                record_id=f"{name}/{study}",
                file=path.with_name(f"{path.name}.hea"),
                patient_id=int(subject),
                fold=fold_of(subject),
                labels=statements.get(study, ()),
            )
        )
    signals = [entry.file for entry in entries]
    return catalogue(name, entries, load, output, digest=digest_of(folder, tables=tables, files=signals))


def load(entry: Entry) -> Raw:
    """A recording, leads by name. Raises ValueError, as "reason: details", for one that cannot be used."""
    if not entry.file.is_file():
        raise ValueError(f"no signals: {entry.file.name}, which {RECORDS} names, is not there")
    return load_wfdb(entry)
