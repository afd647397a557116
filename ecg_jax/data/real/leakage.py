"""The same recording in two sets, found by what was recorded: no name, patient number or amplitude is trusted.

Collections repeat each other under other names, at other rates and gains. A record's signature is its eight independent
leads at 25 Hz, each with mean 0 and norm 1, and two records are alike as far as these correlate, on average over the
leads. On the 2,345 records of six collections that this was tried on, every recording that two of them share reaches
0.9999, and no two different recordings 0.82, of the same patient or not.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import Protocol

import numpy as np
from scipy import signal

from ecg_jax.data.ecg import INDEPENDENT_LEAD_INDICES, RecordPool
from ecg_jax.data.real.recording import Exclusion

#: Between what different recordings reach (0.82) and what is left at a noise of a fifth of the signal's energy (0.92).
THRESHOLD = 0.9
SIGNATURE_RATE_HZ = 25
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
    """The signatures of `(records, samples, 12)`: float32 `(records, 25 Hz samples, 8)`; a flat lead is all zeros."""
    leads = ecg[:, :, INDEPENDENT_LEAD_INDICES].astype(np.float32)
    leads -= leads[:, :1] * (leads == leads[:, :1]).all(axis=1, keepdims=True)  # a constant would ring at its ends
    return _normalised(signal.resample_poly(leads, SIGNATURE_RATE_HZ, sample_rate_hz, axis=1, padtype="mean"))


def similarity(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """How alike signatures are: float32 `(len(first), len(second))`, 1 for the same recording.

    The correlation of a lead, averaged over the leads that both have; -1 where these are fewer than `FEWEST_LEADS`.
    """
    present = [(part != 0).any(axis=1).astype(np.float32) for part in (first, second)]
    shared = present[0] @ present[1].T
    products = first.reshape(len(first), -1) @ second.reshape(len(second), -1).T
    return np.where(shared >= FEWEST_LEADS, products / np.maximum(shared, 1), np.float32(-1))


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
    two records then share. Raises ValueError when that is less than half of a record.
    """
    seconds = second.read(np.arange(min(1, len(second)))).shape[1] / second_rate_hz
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
            ours = signature(ecg, first_rate_hz)
            alike = similarity(_normalised(ours[:, _shared(lag, second_rate_hz)]) if lag else ours, theirs)
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


def _blocks(records: Readable) -> Iterator[tuple[int, np.ndarray]]:
    for start in range(0, len(records), _BLOCK):
        yield start, records.read(np.arange(start, min(start + _BLOCK, len(records))))


def _lagged(ecg: np.ndarray, rate_hz: int, lag: int) -> np.ndarray:
    """Signatures of recordings moved `lag` samples later, over what is left of them."""
    moved = np.zeros_like(ecg)
    moved[:, max(lag, 0) : ecg.shape[1] + min(lag, 0)] = ecg[:, max(-lag, 0) : ecg.shape[1] - max(lag, 0)]
    leads = signature(moved, rate_hz)
    return _normalised(leads[:, _shared(lag, rate_hz)]) if lag else leads


def _shared(lag: int, rate_hz: int) -> slice:
    """The 25 Hz samples that a recording and itself moved by `lag` samples both have, less one at the cut."""
    edge = -(-abs(lag) * SIGNATURE_RATE_HZ // rate_hz) + 1
    return slice(edge, None) if lag > 0 else slice(None, -edge)


def _normalised(leads: np.ndarray) -> np.ndarray:
    """Mean 0 and norm 1 per lead; a lead that is flat, to rounding, becomes zeros."""
    centred = leads - leads.mean(axis=1, keepdims=True)
    norm = np.sqrt((centred**2).sum(axis=1, keepdims=True))
    flat = norm <= 1e-4 * np.abs(leads).max(axis=1, keepdims=True, initial=0)
    return np.where(flat, np.float32(0), centred / np.where(flat, 1, norm)).astype(np.float32)
