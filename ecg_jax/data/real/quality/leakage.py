"""The same recording in two sets, found by what was recorded: no name, patient number or amplitude is trusted.

Collections repeat each other under other names, at other rates and gains, filtered or not. A record's signature is its
eight independent leads above 1.5 Hz at 25 Hz, less a second at either end, each with mean 0 and norm 1; two records are
alike as far as these correlate, on average over the leads.

Baseline wander, which one copy has and a filtered one has not, lies below 1.5 Hz, and what a filter makes of the ends
of a record in its first and last second: with both left in, a third of all recordings were not found in their own
filtered copies. Among 11 million pairs (`benchmarks/reading/leakage.py`) every recording reaches
0.978 with a copy that is raw, filtered, resampled, scaled or inverted, and no two different ones, of the same patient
or not, 0.83. What is not found: a copy cut at another moment (unless `max_lag_s` is given), one with limb electrodes
swapped, and one that shares less than two leads.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Iterator
from typing import Protocol

import numpy as np
from scipy import signal

from ecg_jax.data.ecg import INDEPENDENT_LEAD_INDICES, RecordPool
from ecg_jax.data.exclusions import Exclusion

#: Between what different recordings reach (0.83) and what is left at a noise of a fifth of the signal's energy (0.92).
THRESHOLD = 0.9
SIGNATURE_RATE_HZ = 25
#: Wander lies below; and the part of a record, at either end, in which filters differ.
HIGH_PASS_HZ, HIGH_PASS_ORDER, EDGE = 1.5, 4, 0.1
#: Leads that both records must have for their likeness to count.
FEWEST_LEADS = 2
#: Step of the search over lags: half of it costs 0.03 of likeness.
LAG_STEP_S = 0.01
_BLOCK = 1024


class Readable(Protocol):
    """Records read by index; a pool, or shards on a disk."""

    def __len__(self) -> int: ...

    def read(self, indices: np.ndarray) -> np.ndarray:
        """Returns the records at `indices` as int16 `(len(indices), samples, 12)`."""
        ...


@dataclasses.dataclass(frozen=True)
class Match:
    """Record `first` of one set is record `second` of another (indices), `lag_s` seconds later in it."""

    first: int
    second: int
    similarity: float
    lag_s: float = 0.0


def signature(ecg: np.ndarray, sample_rate_hz: int) -> np.ndarray:
    """The signatures of `(records, samples, 12)`: float32 `(records, 25 Hz samples, 8)`, the ends left out; a flat lead
    is all zeros."""
    return _cut(_slow(ecg, sample_rate_hz))


def _slow(ecg: np.ndarray, sample_rate_hz: int) -> np.ndarray:
    """The independent leads of `(records, samples, 12)` at 25 Hz above 1.5 Hz, ends included; a flat lead is zeros."""
    leads = ecg[:, :, INDEPENDENT_LEAD_INDICES].astype(np.float32)
    leads *= ~(leads == leads[:, :1]).all(axis=1, keepdims=True)  # a constant would leave its rounding
    records, samples, count = leads.shape
    slow = _slowing(samples, sample_rate_hz) @ np.moveaxis(leads, 1, 0).reshape(samples, -1)
    return np.moveaxis(slow.reshape(-1, records, count), 0, 1)


@functools.lru_cache(maxsize=4)
def _slowing(samples: int, sample_rate_hz: int) -> np.ndarray:
    """Resampling to 25 Hz and the high-pass as a matrix `(25 Hz samples, samples)`: both are linear."""
    slow = signal.resample_poly(np.eye(samples), SIGNATURE_RATE_HZ, sample_rate_hz, axis=0, padtype="line")
    sections = signal.butter(HIGH_PASS_ORDER, HIGH_PASS_HZ, "highpass", fs=SIGNATURE_RATE_HZ, output="sos")
    return signal.sosfiltfilt(sections, slow, axis=0).astype(np.float32)


def _cut(slow: np.ndarray, lag: int = 0) -> np.ndarray:
    """What is compared of 25 Hz leads: their ends left out, and what a copy `lag` samples later lacks, normalised."""
    edge = round(EDGE * slow.shape[1])
    return _normalised(slow[:, edge + max(lag, 0) : slow.shape[1] - edge + min(lag, 0)])


def similarity(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """How alike signatures are: float32 `(len(first), len(second))`, 1 for the same recording.

    The size of the correlation of a lead, averaged over the leads that both have, so that an inverted copy counts; -1
    where these are fewer than `FEWEST_LEADS`.
    """
    present = [(part != 0).any(axis=1).astype(np.float32) for part in (first, second)]
    shared = present[0] @ present[1].T
    products = first.reshape(len(first), -1) @ second.reshape(len(second), -1).T
    return np.where(shared >= FEWEST_LEADS, np.abs(products) / np.maximum(shared, 1), np.float32(-1))


def find_matches(
    first: Readable,
    first_rate_hz: int,
    second: Readable,
    second_rate_hz: int,
    *,
    threshold: float = THRESHOLD,
    max_lag_s: float = 0.0,
) -> list[Match]:
    """Every pair of records of two sets that are the same recording, by index, the best lag of each.

    `first` may be of any size: it is read in blocks; the signatures of `second` (8 kB a record) stay in memory. With
    `max_lag_s` the recordings may have been cut at other moments: lags up to it are tried in steps of 10 ms, over what
    two records then share. Raises ValueError when that is less than half of a record, or records differ in length.
    """
    seconds = _seconds(second, second_rate_hz)
    if len(first) and len(second) and _seconds(first, first_rate_hz) != seconds:
        raise ValueError(
            f"records of {_seconds(first, first_rate_hz):g} s and of {seconds:g} s: cut the longer ones, where the "
            "shorter begin, before they are compared"
        )
    if not 0 <= max_lag_s <= seconds / 2:
        raise ValueError(
            f"max_lag_s is {max_lag_s}: at most half of a record, {seconds / 2:g} s, can be sought through"
        )
    found: dict[tuple[int, int], Match] = {}
    steps = round(max_lag_s / LAG_STEP_S)
    for step in range(-steps, steps + 1):
        lag = round(step * LAG_STEP_S * second_rate_hz)
        theirs = np.concatenate([_lagged(ecg, second_rate_hz, lag) for _, ecg in _blocks(second)])
        for start, ecg in _blocks(first):
            alike = similarity(_cut(_slow(ecg, first_rate_hz), _slow_lag(lag, second_rate_hz)), theirs)
            for i, j in zip(*np.nonzero(alike >= threshold), strict=True):
                match = Match(start + int(i), int(j), float(alike[i, j]), lag / second_rate_hz)
                known = found.get((match.first, match.second))
                if known is None or match.similarity > known.similarity:
                    found[match.first, match.second] = match
    return sorted(found.values(), key=lambda match: (match.first, match.second))


def find_repeats(pool: RecordPool, *, threshold: float = THRESHOLD) -> list[Match]:
    """Recordings that a set holds twice: pairs of indices, the smaller first."""
    rate_hz = pool.sample_rate_hz
    matches = find_matches(pool, rate_hz, pool, rate_hz, threshold=threshold)
    return [match for match in matches if match.first < match.second]


def without_evaluation(
    pool: RecordPool, evaluation: RecordPool, *, threshold: float = THRESHOLD, max_lag_s: float = 0.0
) -> tuple[RecordPool, tuple[Exclusion, ...]]:
    """`pool` without the recordings that `evaluation`, the records a study scores, holds as well; and which those were.

    To be called on every set that a model is pretrained on. `threshold`, `max_lag_s` as in `find_matches`.
    """
    matches = find_matches(
        pool, pool.sample_rate_hz, evaluation, evaluation.sample_rate_hz, threshold=threshold, max_lag_s=max_lag_s
    )
    if not matches:  # no copy of what may be tens of gigabytes
        return pool, ()
    best: dict[int, Match] = {}
    for match in matches:
        if match.first not in best or match.similarity > best[match.first].similarity:
            best[match.first] = match
    exclusions = tuple(
        Exclusion(
            str(pool.record_id[index]),
            f"same recording as {evaluation.record_id[match.second]}, fold {evaluation.fold[match.second]} of the "
            f"evaluation (likeness {match.similarity:.4f})",
        )
        for index, match in best.items()
    )
    return pool.take(np.setdiff1d(np.arange(len(pool)), list(best))), exclusions


def _seconds(records: Readable, rate_hz: int) -> float:
    return records.read(np.arange(min(1, len(records)))).shape[1] / rate_hz


def _blocks(records: Readable) -> Iterator[tuple[int, np.ndarray]]:
    for start in range(0, len(records), _BLOCK):
        yield start, records.read(np.arange(start, min(start + _BLOCK, len(records))))


def _lagged(ecg: np.ndarray, rate_hz: int, lag: int) -> np.ndarray:
    """Signatures of recordings moved `lag` samples later, over what is left of them."""
    samples = ecg.shape[1]
    moved = ecg[:, np.clip(np.arange(samples) - lag, 0, samples - 1)]  # beyond its end a record stays where it was
    return _cut(_slow(moved, rate_hz), _slow_lag(lag, rate_hz))


def _slow_lag(lag: int, rate_hz: int) -> int:
    """The 25 Hz samples that a lag of `lag` samples takes at the least, with its sign."""
    taken = -(-abs(lag) * SIGNATURE_RATE_HZ // rate_hz)
    return taken if lag > 0 else -taken


def _normalised(leads: np.ndarray) -> np.ndarray:
    """Mean 0 and norm 1 per lead; a lead that is flat, to rounding, becomes zeros."""
    centred = leads - leads.mean(axis=1, keepdims=True)
    norm = np.sqrt((centred**2).sum(axis=1, keepdims=True))
    flat = norm <= 1e-4 * np.abs(leads).max(axis=1, keepdims=True, initial=0)
    return np.where(flat, np.float32(0), centred / np.where(flat, 1, norm)).astype(np.float32)
