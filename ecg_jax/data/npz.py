"""A pool of records as one `.npz` file: what a node without Grain, TFDS or WFDB trains from."""

from __future__ import annotations

import json
import os
import zipfile
from pathlib import Path

import numpy as np

from ecg_jax.data.ecg import RecordPool

FORMAT = 1
_ARRAYS = ("ecg", "record_id", "patient_id", "fold", "unit")


def save_pool(path: Path, pool: RecordPool) -> None:
    """Writes a pool, whole or not at all: int16 records, their ids, patients, folds, units and labels."""
    about = {"format": FORMAT, "source": pool.source, "sample_rate_hz": pool.sample_rate_hz, "labels": pool.labels}
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.npz")
    np.savez(temporary, about=json.dumps(about), **{name: getattr(pool, name) for name in _ARRAYS})
    temporary.replace(path)


def load_pool(path: Path) -> RecordPool:
    """Reads a pool that `save_pool` wrote.

    Raises FileNotFoundError, and ValueError when the file is no such pool, is damaged, or is of a newer format.
    """
    try:
        with np.load(path, allow_pickle=False) as arrays:
            about = json.loads(str(arrays["about"]))
            held = {name: arrays[name] for name in _ARRAYS}
    except (KeyError, ValueError, zipfile.BadZipFile, EOFError) as error:
        raise ValueError(f"{path} is not a whole pool of records ({error}): write it again") from error
    if about["format"] > FORMAT:
        raise ValueError(f"{path} has format {about['format']}, this ecg-jax reads up to {FORMAT}: upgrade")
    labels = tuple(tuple(codes) for codes in about["labels"])
    return RecordPool(source=about["source"], sample_rate_hz=about["sample_rate_hz"], labels=labels, **held)
