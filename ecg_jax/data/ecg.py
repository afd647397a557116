"""The record contract: what every source of ECG, real or synthetic, hands on.

A record is `(samples, 12)` int16: the band-passed, resampled signal *before* normalisation. Normalisation is per lead,
on the int16 values, at load; so one stored record gives the same model input on the host and on an accelerator.
"""

from __future__ import annotations

import dataclasses
from typing import Protocol

import numpy as np

LEADS = ("I", "II", "III", "aVR", "aVL", "aVF", "V1", "V2", "V3", "V4", "V5", "V6")
#: The leads that carry independent measurements; III, aVR, aVL and aVF follow from I and II.
INDEPENDENT_LEADS = ("I", "II", "V1", "V2", "V3", "V4", "V5", "V6")
INDEPENDENT_LEAD_INDICES = tuple(LEADS.index(lead) for lead in INDEPENDENT_LEADS)
#: What the name of a published set of simulated ECG ends in: it is no real source, whoever names it one.
SIMULATED = "_simulated"


class Source(Protocol):
    """Anything that yields records by index: `len(source)` records (or an unbounded stream) read in any order."""

    def read(self, indices: np.ndarray) -> np.ndarray:
        """Returns the records at `indices` as int16 `(len(indices), samples, 12)`."""
        ...


@dataclasses.dataclass(frozen=True)
class RecordPool:
    """Records held in memory, in a fixed order, with what identifies them. Read at random, never changed.

    `unit` is "mV" (1 count = 1 µV) or "NU" (1000 counts per standard deviation; the publisher gave no amplitude).
    `labels` holds one tuple of SCP codes per record.
    """

    source: str
    sample_rate_hz: int
    ecg: np.ndarray  # (records, samples, 12) int16
    record_id: np.ndarray  # (records,) str
    patient_id: np.ndarray  # (records,) int64
    fold: np.ndarray  # (records,) int64
    unit: np.ndarray  # (records,) str
    labels: tuple[tuple[str, ...], ...]

    def __post_init__(self) -> None:
        count = len(self.ecg)
        for name in ("record_id", "patient_id", "fold", "unit", "labels"):
            if len(getattr(self, name)) != count:
                raise ValueError(f"{self.source}: {name} has {len(getattr(self, name))} entries for {count} records")
        if self.ecg.dtype != np.int16 or self.ecg.ndim != 3 or self.ecg.shape[2] != len(LEADS):
            raise ValueError(
                f"{self.source}: ecg is {self.ecg.dtype}{self.ecg.shape}, "
                f"expected int16 (records, samples, {len(LEADS)})"
            )

    def __len__(self) -> int:
        return len(self.ecg)

    def __getitem__(self, index: int) -> np.ndarray:
        return self.ecg[index]

    def read(self, indices: np.ndarray) -> np.ndarray:
        """Returns the records at `indices` as int16 `(len(indices), samples, 12)`."""
        return self.ecg[indices]

    def take(self, indices: np.ndarray) -> RecordPool:
        """The pool of the records at `indices`, in that order."""
        return dataclasses.replace(
            self,
            ecg=self.ecg[indices],
            record_id=self.record_id[indices],
            patient_id=self.patient_id[indices],
            fold=self.fold[indices],
            unit=self.unit[indices],
            labels=tuple(self.labels[i] for i in indices),
        )

    def in_folds(self, folds: tuple[int, ...]) -> RecordPool:
        """The records whose patients belong to `folds`."""
        return self.take(np.flatnonzero(np.isin(self.fold, folds)))

    def first_patients(self, count: int, shuffle_seed: int) -> RecordPool:
        """The records of the first `count` patients after a seeded shuffle of patients: nested in `count`.

        Raises ValueError when the pool holds fewer patients.
        """
        patients = np.unique(self.patient_id)
        if not 1 <= count <= len(patients):
            raise ValueError(f"{self.source}: asked for {count} patients of a pool of {len(patients)}")
        shuffled = np.random.Generator(np.random.Philox(shuffle_seed)).permutation(patients)
        return self.take(np.flatnonzero(np.isin(self.patient_id, shuffled[:count])))


def normalise(ecg: np.ndarray) -> np.ndarray:
    """Scales int16 records `(..., samples, 12)` to zero mean and unit standard deviation per lead, as float32.

    A lead that is constant (all its samples equal) becomes zero. Works on NumPy and JAX arrays alike.
    """
    x = ecg.astype(np.float32)
    centred = x - x.mean(axis=-2, keepdims=True)
    deviation = (centred**2).mean(axis=-2, keepdims=True) ** 0.5
    # A constant's float32 mean may miss it, and its deviation then is not 0.
    constant = (ecg == ecg[..., :1, :]).all(axis=-2, keepdims=True)
    return centred * ~constant / (deviation + constant)
