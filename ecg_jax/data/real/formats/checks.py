"""What makes a recording unusable though its file is sound: its signal, its rate and its length."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ecg_jax.data.ecg import LEADS

SECONDS = 10
#: A lead is off where it keeps one value for so long, and a flaw when that is more than so much of the record. Measured
#: on 1,867 recordings of seven sets: where no lead is flat throughout, at most 16 % of one lies in such stretches, but
#: in the Challenge 2011 (phones in untrained hands). Of its recordings the limit leaves out 21, of which its annotators
#: found 20 unacceptable and 17 have amplitudes that cannot be besides.
FLAT_S, FLAT_SHARE = 0.5, 0.5


def flaw(ecg: np.ndarray, leads: Sequence[str] = LEADS) -> str | None:
    """What makes ten seconds of `(samples, leads)` unusable though their file is sound, as "reason: details", or None:
    missing (NaN) samples, a flat lead, or one that is flat for most of the time, as when its electrode is off."""
    missing = np.isnan(ecg).sum(axis=0)
    if missing.any():
        return "missing samples: " + ", ".join(f"{leads[i]} ({missing[i]})" for i in np.flatnonzero(missing).tolist())
    flat = np.flatnonzero(np.ptp(ecg, axis=0) == 0).tolist()
    if flat:
        return "flat lead: " + ", ".join(f"{leads[i]} (all samples {ecg[0, i]:g})" for i in flat)
    still = (ecg[1:] == ecg[:-1]).mean(axis=0)
    shares = {i: _flat_share(ecg[:, i]) for i in np.flatnonzero(still > FLAT_SHARE / 2).tolist()}
    off = {i: share for i, share in shares.items() if share > FLAT_SHARE}
    if off:
        return "flat lead: " + ", ".join(f"{leads[i]} ({share:.0%} of its samples)" for i, share in off.items())
    return None


def _flat_share(x: np.ndarray) -> float:
    """The share of ten seconds of samples that lie in long stretches of one value."""
    ends = np.flatnonzero(x[1:] != x[:-1]) + 1
    lengths = np.diff(np.concatenate(([0], ends, [len(x)])))
    return float(lengths[lengths >= FLAT_S / SECONDS * len(x)].sum() / len(x))


SLOWEST_HZ, FASTEST_HZ = 100, 2000


def check_rate_and_length(
    rate_hz: float | None, samples: int | None, name: str = "the recording", seconds: float = SECONDS
) -> None:
    """Raises ValueError for a rate that is no whole number in range, and for less than `seconds`."""
    if not rate_hz or not float(rate_hz).is_integer() or not SLOWEST_HZ <= rate_hz <= FASTEST_HZ:
        raise ValueError(f"rate: {rate_hz} Hz in {name}, expected whole {SLOWEST_HZ} to {FASTEST_HZ} Hz")
    if not samples or samples < seconds * rate_hz:
        raise ValueError(f"too short: {(samples or 0) / rate_hz:.2f} s in {name}, expected {seconds} s")
