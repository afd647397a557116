"""The mixture of real and synthetic records: which record stands where, as a pure function of the step.

Record k of a run is real when floor((k + 1) r) > floor(k r), so every prefix holds the real fraction r exact to one
record. The real stream walks one seeded permutation of its pool per epoch; several real sources share the real stream
by the same rule, nested. The synthetic stream counts upwards from the seed's own start (an infinite source is
independent already) or walks permutations of a finite pool. The position in the data is the step, so nothing else
needs to be saved.
"""

from __future__ import annotations

import collections
import dataclasses
import threading
import weakref
from collections.abc import Sequence
from fractions import Fraction
from typing import NamedTuple

import numpy as np

from ecg_jax.data.ecg import Source

#: Each seed reads its own stretch of an infinite source, this long.
SEED_STRIDE = 2**40
#: The code of the synthetic source in `BatchIds.source`; real source i has code i + 1.
SYNTHETIC = 0


@dataclasses.dataclass(frozen=True)
class Mixture:
    """What is mixed. `ratio` is the real fraction; `real_records` the sizes of the real sources and `real_weights`
    their shares of the real stream (default: by size); `synthetic_records` is None for an infinite source."""

    seed: int
    batch_records: int
    ratio: Fraction
    real_records: tuple[int, ...]
    synthetic_records: int | None = None
    real_weights: tuple[Fraction, ...] | None = None

    def __post_init__(self) -> None:
        if not 0 <= self.ratio <= 1:
            raise ValueError(f"the real fraction {float(self.ratio)} lies outside [0, 1]")
        if not 0 <= self.seed < 2**22:
            raise ValueError(f"seed = {self.seed} lies outside [0, {2**22})")
        if self.ratio > 0 and (not self.real_records or min(self.real_records) < 1):
            raise ValueError(f"a real fraction of {float(self.ratio)} needs real records, got {self.real_records}")
        if self.real_weights is not None and len(self.real_weights) != len(self.real_records):
            raise ValueError(f"{len(self.real_weights)} weights for {len(self.real_records)} real sources")

    @property
    def shares(self) -> tuple[Fraction, ...]:
        """The share of the real stream that each real source takes."""
        weights = self.real_weights or tuple(map(Fraction, self.real_records))
        return tuple(weight / sum(weights) for weight in weights)


class BatchIds(NamedTuple):
    """One global batch: source code, index within the source, epoch of that source; each `(batch,)` int64."""

    source: np.ndarray
    index: np.ndarray  # type: ignore[assignment]  # of a record, where a tuple has a method that nobody calls
    epoch: np.ndarray


def batch_ids(mixture: Mixture, step: int) -> BatchIds:
    """The records of the batch at `step`."""
    k = np.arange(step * mixture.batch_records, (step + 1) * mixture.batch_records, dtype=np.int64)
    return record_ids(mixture, k)


def record_ids(mixture: Mixture, k: np.ndarray) -> BatchIds:
    """The k-th records of a run, for an array of positions `k`."""
    is_real, real_before = _split(k, mixture.ratio)
    source, index, epoch = np.empty_like(k), np.empty_like(k), np.zeros_like(k)
    synthetic = k - real_before
    source[~is_real] = SYNTHETIC
    index[~is_real], epoch[~is_real] = _walk(mixture, SYNTHETIC, mixture.synthetic_records, synthetic[~is_real])
    rest, position, left = np.flatnonzero(is_real), real_before[is_real], Fraction(1)
    for code, (records, share) in enumerate(zip(mixture.real_records, mixture.shares, strict=True), start=1):
        here, before = _split(position, share / left)
        source[rest[here]] = code
        index[rest[here]], epoch[rest[here]] = _walk(mixture, code, records, before[here])
        rest, position, left = rest[~here], (position - before)[~here], left - share
        if not left:
            break
    return BatchIds(source, index, epoch)


def counts(mixture: Mixture, records: int) -> tuple[int, ...]:
    """How many of the first `records` of a run each source gives: the synthetic one, then the real ones."""
    k = np.array([records], np.int64)
    left = _split(k, mixture.ratio)[1]
    found, rest = [records - int(left[0])], Fraction(1)
    for share in mixture.shares:
        taken = _split(left, share / rest)[1] if rest else left * 0
        found.append(int(taken[0]))
        left, rest = left - taken, rest - share
    return tuple(found)


def read_batch(ids: BatchIds, synthetic: Source, real: Sequence[Source], part: slice = slice(None)) -> np.ndarray:
    """Reads a batch, or this host's `part` of it, as int16 `(records, samples, 12)`."""
    source, index = ids.source[part], ids.index[part]
    found = {code: np.flatnonzero(source == code) for code in np.unique(source)}
    read = {code: (synthetic, *real)[code].read(index[rows]) for code, rows in found.items()}
    batch = np.empty((len(source), *next(iter(read.values())).shape[1:]), np.int16)
    for code, rows in found.items():
        batch[rows] = read[code]
    return batch


def _split(k: np.ndarray, ratio: Fraction) -> tuple[np.ndarray, np.ndarray]:
    """Whether each position k is taken at `ratio`, and how many before it were."""
    before = k * ratio.numerator // ratio.denominator
    return (k + 1) * ratio.numerator // ratio.denominator > before, before


def _walk(mixture: Mixture, code: int, records: int | None, position: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Index and epoch of the `position`-th record that a source gives: one permutation of its pool per epoch."""
    if records is None:
        return mixture.seed * SEED_STRIDE + position, np.zeros_like(position)
    epoch, within = position // records, position % records
    index = np.empty_like(position)
    for e in np.unique(epoch):
        rows = epoch == e
        index[rows] = _permutations.get(mixture, code, int(e), records)[within[rows]]
    return index, epoch


def _permutation(seed: int, code: int, epoch: int, records: int) -> np.ndarray:
    words = np.random.SeedSequence((seed, code, epoch))
    order = np.random.Generator(np.random.Philox(words)).permutation(records)
    return order.astype(np.min_scalar_type(records))


class _Permutations:
    """The permutations in use. Every member of a pack walks one for each of its sources and looks at it at every step,
    so the last two epochs of every walk are kept, however large the pack; equal ones are one array.

    A walk that was not looked at while all others were, `ROUNDS` times over, is that of a pack that is done. Beyond
    `most_bytes` walks are forgotten all the same: the same ids then come slower.
    """

    ROUNDS = 4

    def __init__(self, most_bytes: int):
        self._most_bytes, self._looks, self._lock = most_bytes, 0, threading.Lock()
        self._walks: collections.OrderedDict[tuple[Mixture, int], _Walk] = collections.OrderedDict()
        self._arrays: weakref.WeakValueDictionary[tuple[int, ...], np.ndarray] = weakref.WeakValueDictionary()

    @property
    def nbytes(self) -> int:
        """Bytes of what is kept."""
        return sum(order.nbytes for order in self._arrays.values())

    def get(self, mixture: Mixture, code: int, epoch: int, records: int) -> np.ndarray:
        """The order in which a mixture walks its source `code` of so many `records` in an epoch."""
        key = (mixture.seed, code, epoch, records)
        with self._lock:
            self._looks += 1
            walk = self._walks.setdefault((mixture, code), _Walk({}, 0))
            walk.looked_at = self._looks
            self._walks.move_to_end((mixture, code))
            found = walk.epochs.get(epoch, self._arrays.get(key))
        if found is None:
            found = _permutation(*key)  # two threads may both make it
        if epoch not in walk.epochs:
            with self._lock:
                walk.epochs[epoch] = self._arrays.setdefault(key, found)
                while len(walk.epochs) > 2:
                    del walk.epochs[next(iter(walk.epochs))]
                self._forget()
        return found

    def _forget(self) -> None:
        while len(self._walks) > 1:
            oldest = next(iter(self._walks))
            idle = self._looks - self._walks[oldest].looked_at
            if idle <= self.ROUNDS * len(self._walks) and self.nbytes <= self._most_bytes:
                return
            del self._walks[oldest]


@dataclasses.dataclass
class _Walk:
    """The permutations of a walk by epoch, and when it was looked at last."""

    epochs: dict[int, np.ndarray]
    looked_at: int


#: A pack of 64 members, each with its own walk over a million real records, needs 512 MiB.
_permutations = _Permutations(most_bytes=2**30)
