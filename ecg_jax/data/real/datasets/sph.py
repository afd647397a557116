"""SPH, Shandong Provincial Hospital (Liu et al., Scientific Data 9:272, 2022): an HDF5 file per recording.

`metadata.csv` names the recordings; `records/A00001.h5` holds `ecg` `(12, samples)` in mV at 500 Hz, 10 to 60 s, leads
in the standard order. Labels are AHA statements, "22" or with modifiers "50+346", as the table gives them.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from ecg_jax.data.ecg import LEADS
from ecg_jax.data.exclusions import first_line
from ecg_jax.data.real.datasets.catalogue import Catalogue, Entry, Output, Raw, catalogue, digest_of
from ecg_jax.data.real.datasets.patients import Row, persons, without_patient
from ecg_jax.data.real.formats.hdf5 import own_array
from ecg_jax.data.real.formats.tables import identity, plain_name, read_table, split_labels
from ecg_jax.extras import needs

with needs("real"):
    import h5py

RATE_HZ = 500


def list_sph(name: str, folder: Path, output: Output) -> Catalogue:
    """The rows of `metadata.csv`, by `ECG_ID`. Splits: none are published; patients are spread over ten folds.

    Raises FileNotFoundError and ValueError for a folder or table of another shape.
    """
    table = folder / "metadata.csv"
    rows = [
        (where, row | {"ECG_ID": identity(row["ECG_ID"])})
        for where, row in read_table(table, ("ECG_ID", "AHA_Code", "Patient_ID"))
    ]
    patients = {row["ECG_ID"]: Row(identity(row["Patient_ID"])) for _, row in rows}
    person = persons(patients)
    entries = [
        Entry(
            record_id=f"{name}/{row['ECG_ID']}",
            file=folder / "records" / f"{plain_name(row['ECG_ID'], f'{where}, ECG_ID')}.h5",
            patient_id=person[row["ECG_ID"]].patient_id,
            fold=person[row["ECG_ID"]].fold,
            labels=split_labels(row["AHA_Code"], ";"),
        )
        for where, row in rows
    ]
    digest = digest_of(folder, tables=[table], files=[entry.file for entry in entries])
    return catalogue(name, entries, load, output, digest=digest, notes=without_patient(table.name, patients))


def load(entry: Entry) -> Raw:
    """A recording. Raises ValueError, as "reason: details", for one that cannot be used."""
    if not entry.file.is_file():
        raise ValueError(f"no signals: {entry.file.name}, which metadata.csv names, is not there")
    try:
        with h5py.File(entry.file, "r") as file:
            ecg = own_array(file, "ecg")[:]
    except (OSError, KeyError, ValueError, TypeError) as error:
        raise ValueError(f"unreadable: {entry.file.name}: {first_line(error)}") from error
    if ecg.ndim != 2 or ecg.shape[0] != len(LEADS) or ecg.dtype.kind != "f":
        raise ValueError(f"leads: {ecg.dtype}{ecg.shape} in {entry.file.name}, expected floats (12, samples)")
    return Raw(RATE_HZ, ecg.T.astype(np.float64))
