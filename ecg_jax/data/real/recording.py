"""A recording of a set, why one is left out, and what makes a sound file unusable."""

from __future__ import annotations

import codecs
import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from ecg_jax.data.ecg import LEADS

SECONDS = 10
#: A lead is off where it keeps one value for so long, and a flaw when that is more than so much of the record. Measured
#: on 1,867 recordings of seven sets: where no lead is flat throughout, at most 16 % of one lies in such stretches, but
#: in the Challenge 2011 (phones in untrained hands). Of its recordings the limit leaves out 21, of which its annotators
#: found 20 unacceptable and 17 have amplitudes that cannot be besides.
FLAT_S, FLAT_SHARE = 0.5, 0.5


@dataclasses.dataclass(frozen=True)
class Recording:
    """A row of a database: what identifies a recording, and where its signal lies."""

    record_id: str
    patient_id: int
    fold: int
    labels: tuple[str, ...]
    signal: Path  # of the .hea and .dat, without suffix
    sample_rate_hz: int
    unit: str  # "mV", or "NU": filtered and z-scored by the publisher
    place: str = ""  # of the signal within the set, for messages


#: Picks signals by their names: their places, in the order that is wanted.
Choose = Callable[[Sequence[str]], Sequence[int]]


def decoded(raw: bytes) -> str:
    """Text of a header: UTF-8, with or without its mark, or else Latin-1, in which older systems write a "µ" and
    accents."""
    raw = raw.removeprefix(codecs.BOM_UTF8)
    try:
        return raw.decode()
    except UnicodeDecodeError:
        return raw.decode("latin-1")


def flaw(ecg: np.ndarray, leads: Sequence[str] = LEADS) -> str | None:
    """What makes ten seconds of `(samples, leads)` unusable though their file is sound, as "reason: details", or None:
    missing (NaN) samples, a flat lead, or one that is flat for most of the time, as when its electrode is off."""
    missing = np.isnan(ecg).sum(axis=0)
    if missing.any():
        return "missing samples: " + ", ".join(f"{leads[i]} ({missing[i]})" for i in np.flatnonzero(missing))
    flat = np.flatnonzero(np.ptp(ecg, axis=0) == 0)
    if len(flat):
        return "flat lead: " + ", ".join(f"{leads[i]} (all samples {ecg[0, i]:g})" for i in flat)
    still = (ecg[1:] == ecg[:-1]).mean(axis=0)
    shares = {i: _flat_share(ecg[:, i]) for i in np.flatnonzero(still > FLAT_SHARE / 2)}
    off = {i: share for i, share in shares.items() if share > FLAT_SHARE}
    if off:
        return "flat lead: " + ", ".join(f"{leads[i]} ({share:.0%} of its samples)" for i, share in off.items())
    return None


def _flat_share(x: np.ndarray) -> float:
    """The share of ten seconds of samples that lie in long stretches of one value."""
    ends = np.flatnonzero(x[1:] != x[:-1]) + 1
    lengths = np.diff(np.concatenate(([0], ends, [len(x)])))
    return float(lengths[lengths >= FLAT_S / SECONDS * len(x)].sum() / len(x))
