"""The data of a study: real training records, the frozen held-out ones, and the stand-in where there are none."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np

from ecg_jax.config import fingerprint
from ecg_jax.data.ecg import RecordPool
from ecg_jax.data.real import data_dir_from_environment
from ecg_jax.data.real.prepare import prepare_ptbxl
from ecg_jax.data.real.recording import Exclusion
from ecg_jax.data.standin import standin_pool
from ecg_jax.evaluate.heldout import HeldOut, freeze
from ecg_jax.store import read_json

TRAIN_FOLDS = (1, 2, 3, 4, 5, 6, 7, 8)
VALIDATION_FOLD = 9
SEALED_FOLD = 10
PATCH_MS = 200
STANDIN_NOTE = "stand-in, not real"
#: The response that the pilot froze: records of fold 9, and the identity of records and masks.
FROZEN = Path(__file__).parents[1] / "results" / "pilot" / "response.json"

HOW_TO_GET_PTBXL = (
    "ECG_DATA_DIR is not set: running on a stand-in target, not on real ECG. To run on real ECG, fetch PTB-XL "
    "(https://physionet.org/content/ptb-xl/1.0.3, 1.7 GB, open access) and set ECG_DATA_DIR to its folder."
)


@dataclasses.dataclass(frozen=True)
class StudyData:
    """Records of the training folds, and the frozen records of the validation fold.

    `identity` tells the training records apart by id; `note` is empty for real recordings and otherwise stands in
    every table, figure and title; `frozen` says whether the held-out records are those the pilot froze.
    """

    training: RecordPool
    heldout: HeldOut
    identity: str
    note: str
    frozen: bool
    excluded: tuple[Exclusion, ...]


def load_real(data_dir: Path, cache_dir: Path, progress: Callable[[int, int], None] | None = None) -> StudyData:
    """PTB-XL from `data_dir`, prepared once under `cache_dir`. Flawed recordings are left out, by name.

    Raises FileNotFoundError or ValueError for a folder of another shape, damaged files, or a broken split.
    """
    excluded: list[Exclusion] = []
    pool = prepare_ptbxl(data_dir, cache_dir, on_bad=excluded.append, progress=progress)
    validation = pool.in_folds((VALIDATION_FOLD,))
    frozen = set(read_json(FROZEN)["record_ids"])
    held = np.flatnonzero(np.isin(validation.record_id, sorted(frozen)))
    if len(held) == len(frozen):
        validation = validation.take(held)
    return _split(pool, validation, note="", frozen=len(held) == len(frozen), excluded=tuple(excluded))


def load_standin(patients: int) -> StudyData:
    """The stand-in target: made by our own generator from another population with other noise."""
    pool = standin_pool(patients)
    return _split(pool, pool.in_folds((VALIDATION_FOLD,)), note=STANDIN_NOTE, frozen=False, excluded=())


def data_dir_or_none(option: Path | None) -> Path | None:
    """The folder of recordings: the option, or ECG_DATA_DIR, or None where neither is given."""
    if option is not None:
        return option
    return data_dir_from_environment() if os.environ.get("ECG_DATA_DIR") else None


def _split(
    pool: RecordPool, validation: RecordPool, *, note: str, frozen: bool, excluded: tuple[Exclusion, ...]
) -> StudyData:
    training = pool.in_folds(TRAIN_FOLDS)
    for name, part in (("training", training), ("validation", validation)):
        if not len(part):
            raise ValueError(f"{pool.source}: no record in the {name} folds; the folds are {sorted(set(pool.fold))}")
    identity = fingerprint([pool.source, training.record_id.tolist(), training.patient_id.tolist()])
    heldout = freeze(validation, 1000 * len(validation.ecg[0]) // pool.sample_rate_hz // PATCH_MS)
    return StudyData(training, heldout, identity, note, frozen, excluded)
