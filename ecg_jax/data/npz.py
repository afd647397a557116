"""A pool of records as one `.npz` file: what a node without Grain, TFDS or WFDB trains from."""

from __future__ import annotations

import json
import os
import zipfile
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np

from ecg_jax.data.ecg import Origins, RecordPool

FORMAT = 1
_ARRAYS = ("ecg", "record_id", "patient_id", "fold", "unit")


def save_pool(path: Path, pool: RecordPool) -> None:
    """Writes a pool, whole or not at all: int16 records, their ids, patients, folds, units and labels."""
    about = {"format": FORMAT, "source": pool.source, "sample_rate_hz": pool.sample_rate_hz, "labels": pool.labels}
    origins = {}
    if pool.origins is not None:
        weights = pool.origins.weights
        about["origins"] = {
            "names": pool.origins.names,
            "weights": None if weights is None else list(map(str, weights)),
        }
        origins["origin"] = pool.origins.of
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.npz")
    np.savez(temporary, about=json.dumps(about), **{name: getattr(pool, name) for name in _ARRAYS}, **origins)
    temporary.replace(path)


def load_pool(path: Path) -> RecordPool:
    """Reads a pool that `save_pool` wrote; its signals stay on the disk and are read from there as they are used.

    Raises FileNotFoundError, and ValueError when the file is no such pool, is damaged, or is of a newer format.
    """
    try:
        with np.load(path, allow_pickle=False) as arrays:
            about = json.loads(str(arrays["about"]))
            held = {name: arrays[name] for name in _ARRAYS if name != "ecg"}
            held["ecg"] = _mapped(path)
            held["origins"] = _origins(about["origins"], arrays["origin"]) if "origins" in about else None
    except (KeyError, ValueError, zipfile.BadZipFile, EOFError) as error:
        raise ValueError(f"{path} is not a whole pool of records ({error}): write it again") from error
    if about["format"] > FORMAT:
        raise ValueError(f"{path} has format {about['format']}, this ecg-jax reads up to {FORMAT}: upgrade")
    labels = tuple(tuple(codes) for codes in about["labels"])
    return RecordPool(source=about["source"], sample_rate_hz=about["sample_rate_hz"], labels=labels, **held)


def _mapped(path: Path) -> np.ndarray:
    """The signals, mapped into memory, after their checksum was compared. Raises as `np.load` does."""
    with zipfile.ZipFile(path) as archive:
        entry = archive.getinfo("ecg.npy")
        if entry.compress_type != zipfile.ZIP_STORED:
            raise ValueError("its signals are compressed")
        with archive.open(entry) as content:
            version = np.lib.format.read_magic(content)
            shape, fortran, dtype = _READ_HEADER[version](content)
            begins = content.tell()
            while content.read(1 << 22):  # raises BadZipFile where the checksum is another
                pass
    with path.open("rb") as file:  # the entry's own header is of any length
        file.seek(entry.header_offset + 26)
        lengths = int.from_bytes(file.read(2), "little") + int.from_bytes(file.read(2), "little")
    offset = entry.header_offset + 30 + lengths + begins
    return np.memmap(path, dtype, "r", offset, shape, "F" if fortran else "C")


_READ_HEADER = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}


def _origins(about: dict[str, Any], of: np.ndarray) -> Origins:
    weights = about["weights"]
    return Origins(tuple(about["names"]), of, None if weights is None else tuple(map(Fraction, weights)))
