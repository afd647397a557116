"""The record contract: what every source of ECG, real or synthetic, hands on.

A record is `(samples, 12)` int16: the band-passed, resampled signal *before* normalisation. Normalisation is per lead,
on the int16 values, at load; so one stored record gives the same model input on the host and on an accelerator.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from fractions import Fraction
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, TypeVar

import numpy as np

from ecg_jax.notebook import facts_as_html

if TYPE_CHECKING:
    import jax  # reading recordings needs none of it

#: Arrays of the host and of an accelerator, where one function serves both.
Array = TypeVar("Array", np.ndarray, "jax.Array")

LEADS = ("I", "II", "III", "aVR", "aVL", "aVF", "V1", "V2", "V3", "V4", "V5", "V6")
#: The leads that carry independent measurements; III, aVR, aVL and aVF follow from I and II.
INDEPENDENT_LEADS = ("I", "II", "V1", "V2", "V3", "V4", "V5", "V6")
INDEPENDENT_LEAD_INDICES = tuple(LEADS.index(lead) for lead in INDEPENDENT_LEADS)
#: What the name of a published set of simulated ECG ends in: it is no real source, whoever names it one.
SIMULATED = "_simulated"
#: The name of a pool that our own generator rendered and `data.synthetic.annotate.stored_pool` stored.
STORED = "synthetic"
#: What a generator knows of real recordings whose constants all come from publications.
PUBLISHED = "published statistics"
#: PTB-XL's folds that nothing is ever trained on: one validates, one is sealed.
HELD_OUT_FOLDS = (9, 10)
SEALED_FOLD = HELD_OUT_FOLDS[1]


class Source(Protocol):
    """Anything that yields records by index: `len(source)` records (or an unbounded stream) read in any order."""

    def read(self, indices: np.ndarray) -> np.ndarray:
        """Returns the records at `indices` as int16 `(len(indices), samples, 12)`."""
        ...


class Simulated(NamedTuple):
    """What simulated records say of themselves: the generator's tier ("" for a recipe that is no tier; or another
    generator's name), and what it knew of real recordings (`PUBLISHED`, or the pool that it was fitted to)."""

    tier: str
    real_information: str


@dataclasses.dataclass(frozen=True)
class Origins:
    """Which of several sources each record of a pool is of, and what share of a stream each source takes (None: by
    its size)."""

    names: tuple[str, ...]
    of: np.ndarray  # (records,) index into names
    weights: tuple[Fraction, ...] | None = None


class Part(NamedTuple):
    """One source of a pool: its name, the rows that are its records, and its weight (None: by size)."""

    source: str
    rows: np.ndarray
    weight: Fraction | None


class Rows:
    """Some records of an array `(records, samples, 12)`, in a given order: what a slice is, for any rows. It holds no
    copy; indexing it by records makes one of what is asked for."""

    def __init__(self, whole: np.ndarray | Rows, rows: np.ndarray):
        self.whole: np.ndarray = whole.whole if isinstance(whole, Rows) else whole
        self.rows: np.ndarray = whole.rows[rows] if isinstance(whole, Rows) else rows

    @property
    def shape(self) -> tuple[int, ...]:
        """As an array's."""
        return (len(self.rows), *self.whole.shape[1:])

    @property
    def dtype(self) -> np.dtype:
        """As an array's."""
        return self.whole.dtype

    @property
    def ndim(self) -> int:
        """As an array's."""
        return self.whole.ndim

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int | slice | np.ndarray | list[int]) -> np.ndarray:
        """The records at `index`. Raises IndexError for an index of more than records."""
        if isinstance(index, tuple):
            raise IndexError("records that lie in another pool are indexed by record alone: index what that gives")
        return self.whole[self.rows[index]]

    def __iter__(self) -> Iterator[np.ndarray]:
        return map(self.__getitem__, range(len(self)))

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        return np.asarray(self.whole[self.rows], dtype)


@dataclasses.dataclass(frozen=True)
class RecordPool:
    """Records held in memory, in a fixed order, with what identifies them. Read at random, never changed.

    `unit` is "mV" (1 count = 1 µV), "NU" (1000 counts per standard deviation; the publisher gave no amplitude) or "AU"
    (1000 counts per millivolt as published, which is known to be none).
    `labels` holds one tuple per record, in the set's own codes. `origins` is there where several sources were joined,
    and `simulated` where a generator made the records.
    """

    source: str
    sample_rate_hz: int
    ecg: np.ndarray | Rows  # (records, samples, 12) int16
    record_id: np.ndarray  # (records,) str
    patient_id: np.ndarray  # (records,) int64
    fold: np.ndarray  # (records,) int64
    unit: np.ndarray  # (records,) str
    labels: tuple[tuple[str, ...], ...]
    origins: Origins | None = None
    simulated: Simulated | None = None

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

    def __repr__(self) -> str:
        patients = len(np.unique(self.patient_id))
        seconds = self.ecg.shape[1] / self.sample_rate_hz
        return (
            f"<RecordPool {self.source}: {len(self):,} records of {patients:,} patients, {seconds:g} s at "
            f"{self.sample_rate_hz} Hz>"
        )

    def _repr_html_(self) -> str:
        per_part = {part.source: f"{len(part.rows):,} records" for part in self.parts}
        per_fold = {f"fold {fold}": f"{np.sum(self.fold == fold):,} records" for fold in np.unique(self.fold)}
        return facts_as_html(repr(self), {"unit": ", ".join(np.unique(self.unit)), **per_part, **per_fold})

    def __getitem__(self, index: int) -> np.ndarray:
        return self.ecg[index]

    def read(self, indices: np.ndarray) -> np.ndarray:
        """Returns the records at `indices` as int16 `(len(indices), samples, 12)`."""
        return self.ecg[indices]

    def take(self, indices: np.ndarray) -> RecordPool:
        """The pool of the records at `indices`, in that order, with a copy of them."""
        return dataclasses.replace(self.view(indices), ecg=self.ecg[indices])

    def view(self, indices: np.ndarray) -> RecordPool:
        """The pool of the records at `indices`, in that order, which lie where they lay."""
        return dataclasses.replace(
            self,
            ecg=Rows(self.ecg, indices),
            record_id=self.record_id[indices],
            patient_id=self.patient_id[indices],
            fold=self.fold[indices],
            unit=self.unit[indices],
            labels=tuple(self.labels[i] for i in indices),
            origins=self.origins and dataclasses.replace(self.origins, of=self.origins.of[indices]),
        )

    @property
    def parts(self) -> tuple[Part, ...]:
        """The sources that have records here, in their order; one, unless several were joined."""
        if self.origins is None:
            return (Part(self.source, np.arange(len(self)), None),)
        weights = self.origins.weights or (None,) * len(self.origins.names)
        rows = [np.flatnonzero(self.origins.of == k) for k in range(len(self.origins.names))]
        return tuple(part for part in map(Part, self.origins.names, rows, weights) if len(part.rows))

    def in_folds(self, folds: tuple[int, ...]) -> RecordPool:
        """The records whose patients belong to `folds`."""
        return self.take(np.flatnonzero(np.isin(self.fold, folds)))

    def first_patients(self, count: int, shuffle_seed: int) -> RecordPool:
        """The records of the first `count` patients after a seeded shuffle of patients: nested in `count`, and a view.

        Raises ValueError when the pool holds fewer patients.
        """
        patients = np.unique(self.patient_id)
        if not 1 <= count <= len(patients):
            raise ValueError(f"{self.source}: asked for {count} patients of a pool of {len(patients)}")
        shuffled = np.random.Generator(np.random.Philox(shuffle_seed)).permutation(patients)
        return self.view(np.flatnonzero(np.isin(self.patient_id, shuffled[:count])))


def check_folds(pool: RecordPool, where: str) -> None:
    """Raises ValueError, by name, where `pool` holds records of the folds of PTB-XL that are held out."""
    rows = [row for row in np.flatnonzero(np.isin(pool.fold, HELD_OUT_FOLDS)) if _is_ptbxl(pool.record_id[row])]
    if rows:
        raise ValueError(
            f"{len(rows)} records of PTB-XL's folds {HELD_OUT_FOLDS[0]} and {HELD_OUT_FOLDS[1]} are among {where}, "
            f"such as {pool.record_id[rows[0]]}: these folds are held out; take folds 1 to 8"
        )


def check_unsealed(pool: RecordPool) -> None:
    """Raises ValueError, by name, where `pool` holds records of the fold of PTB-XL that is sealed: nothing is scored on
    it but once per study, after its prediction."""
    rows = [row for row in np.flatnonzero(pool.fold == SEALED_FOLD) if _is_ptbxl(pool.record_id[row])]
    if rows:
        raise ValueError(
            f"{len(rows)} records of PTB-XL's fold {SEALED_FOLD} are to be scored, such as {pool.record_id[rows[0]]}: "
            "this fold is sealed; score fold 9 (pool.in_folds((9,)))"
        )


def _is_ptbxl(record_id: str) -> bool:
    return str(record_id).startswith("ptbxl/")


def join(pools: Sequence[RecordPool], weights: Sequence[Fraction] | None = None) -> RecordPool:
    """Several sources as one pool, in their order; `weights` are their shares of its stream (default: by size).

    Patients of different sources are different ones: the first source keeps its numbers, by which its held-out patients
    are told apart; those of the others become -1, -2, … . Raises ValueError for pools of one name, of another rate or
    length, that share record ids, or for weights that are not one positive number each.
    """
    first, names = pools[0], [pool.source for pool in pools]
    if len(set(names)) < len(names):
        raise ValueError(f"the sources {names} are not all different")
    for pool in pools:
        if (pool.sample_rate_hz, pool.ecg.shape[1]) != (first.sample_rate_hz, first.ecg.shape[1]):
            raise ValueError(
                f"{pool.source} has {pool.ecg.shape[1]} samples at {pool.sample_rate_hz} Hz, {first.source} "
                f"{first.ecg.shape[1]} at {first.sample_rate_hz} Hz: build one of them again at the other's rate"
            )
    if weights is not None and (len(weights) != len(pools) or min(weights) <= 0):
        raise ValueError(
            f"weights are {[float(w) for w in weights]}: one positive number for each of {names} is needed"
        )
    if len(pools) == 1:
        return first
    made = [pool.source for pool in pools if pool.simulated is not None]
    if made:
        raise ValueError(f"{', '.join(made)}: simulated records are joined with no others; give them as synthetic ones")
    ids = np.concatenate([pool.record_id for pool in pools])
    if len(np.unique(ids)) < len(ids):
        raise ValueError(f"{len(ids) - len(np.unique(ids))} record ids are in two of {names}")
    patients, taken = [first.patient_id], 0
    for pool in pools[1:]:
        own, which = np.unique(pool.patient_id, return_inverse=True)
        patients.append(-1 - taken - which)
        taken += len(own)
    return RecordPool(
        source="+".join(names),
        sample_rate_hz=first.sample_rate_hz,
        ecg=np.concatenate([pool.ecg for pool in pools]),
        record_id=ids,
        patient_id=np.concatenate(patients),
        fold=np.concatenate([pool.fold for pool in pools]),
        unit=np.concatenate([pool.unit for pool in pools]),
        labels=tuple(labels for pool in pools for labels in pool.labels),
        origins=Origins(
            tuple(names),
            np.repeat(np.arange(len(pools)), [len(pool) for pool in pools]),
            None if weights is None else tuple(weights),
        ),
    )


def normalise(ecg: Array) -> Array:
    """Scales int16 records `(..., samples, 12)` to zero mean and unit standard deviation per lead, as float32.

    A lead that is constant (all its samples equal) becomes zero. Works on NumPy and JAX arrays alike.
    """
    x = ecg.astype(np.float32)
    centred = x - x.mean(axis=-2, keepdims=True)
    deviation = (centred**2).mean(axis=-2, keepdims=True) ** 0.5
    # A constant's float32 mean may miss it, and its deviation then is not 0.
    constant = (ecg == ecg[..., :1, :]).all(axis=-2, keepdims=True)
    return centred * ~constant / (deviation + constant)
