"""One simple measurer for all: R peaks, the averaged beat, and intervals and amplitude ratios on it.

It is not a clinical delineator: whatever bias it has, it has on real and synthetic records alike.
"""

from __future__ import annotations

import dataclasses

import numpy as np
from scipy import ndimage, signal

from ecg_jax.data.ecg import INDEPENDENT_LEAD_INDICES

RATE_HZ = 100
BEFORE_S, AFTER_S = 0.32, 0.48
#: Two beats are at least this far apart.
REFRACTORY_S = 0.28
#: The averaged beat is measured on a finer grid.
FINE = 5
II, V2, V5 = 1, 3, 6  # among the eight independent leads
MEASURES = (
    "P/QRS in II", "T/QRS in II", "T/QRS in V2", "T/QRS in V5", "S/R in V2", "S/R in V5", "ST/QRS in V2",
    "ST/QRS in V5", "PR interval, ms", "QRS duration, ms", "RT interval, ms", "mean RR, ms", "SD of RR, ms",
)  # fmt: skip
RHYTHM = (
    "beats", "mean RR", "SD of RR", "RMSSD", "neighbour correlation", "least RR / mean", "greatest RR / mean",
    "first R", "beat regularity",
)  # fmt: skip


@dataclasses.dataclass(frozen=True)
class Measured:
    """A record's averaged beat `(samples, 8)`, what is measured on it (`MEASURES`), and its rhythm (`RHYTHM`)."""

    beat: np.ndarray
    measures: np.ndarray
    rhythm: np.ndarray


def r_peaks(x_SxC: np.ndarray) -> np.ndarray:
    """Samples of the QRS complexes: peaks of the smoothed slope energy over all leads."""
    slope = np.sqrt((np.gradient(x_SxC, axis=0) ** 2).sum(1))
    energy = ndimage.gaussian_filter1d(slope, 0.025 * RATE_HZ)
    level = 0.35 * np.quantile(energy, 0.98)
    peaks, _ = signal.find_peaks(energy, height=level, distance=round(REFRACTORY_S * RATE_HZ))
    return peaks


def measure(x_SxC: np.ndarray) -> Measured:
    """Measures a z-scored record `(samples, 8)` of leads I, II, V1–V6; NaN where it has too few beats."""
    peaks = r_peaks(x_SxC)
    before, after = round(BEFORE_S * RATE_HZ), round(AFTER_S * RATE_HZ)
    whole = peaks[(peaks >= before) & (peaks + after <= len(x_SxC))]
    rhythm = _rhythm(peaks)
    if len(whole) < 2:
        return Measured(
            np.zeros((before + after, x_SxC.shape[1])), np.full(len(MEASURES), np.nan), np.append(rhythm, 0.0)
        )
    beats = x_SxC[whole[:, None] + np.arange(-before, after)]
    beat = np.median(beats, axis=0)
    deviations = beats - beat
    regularity = 1 - np.median((deviations**2).mean((1, 2))) / max(beat.var(), 1e-6)
    return Measured(beat, _on_beat(beat, rhythm), np.append(rhythm, max(regularity, -1.0)))


def measure_all(x_NxSxL: np.ndarray) -> list[Measured]:
    """`measure` of every z-scored 12-lead record."""
    return [measure(x[:, INDEPENDENT_LEAD_INDICES]) for x in x_NxSxL]


def _rhythm(peaks: np.ndarray) -> np.ndarray:
    """All of `RHYTHM` but the last; times in seconds."""
    if len(peaks) < 3:
        return np.array([len(peaks), 0, 0, 0, 0, 0, 0, peaks[0] / RATE_HZ if len(peaks) else 0.0])
    rr_s = np.diff(peaks) / RATE_HZ
    step_s = np.diff(rr_s)
    varies = len(rr_s) > 2 and rr_s[:-1].std() > 0 and rr_s[1:].std() > 0
    neighbour = np.corrcoef(rr_s[:-1], rr_s[1:])[0, 1] if varies else 0.0
    spread = rr_s.min() / rr_s.mean(), rr_s.max() / rr_s.mean()
    rmssd_s = np.sqrt((step_s**2).mean())
    return np.array([len(peaks), rr_s.mean(), rr_s.std(), rmssd_s, neighbour, *spread, peaks[0] / RATE_HZ])


def _on_beat(beat_SxC: np.ndarray, rhythm: np.ndarray) -> np.ndarray:
    """`MEASURES` on an averaged beat: amplitudes over the level before the QRS, relative to the QRS's height."""
    fine = signal.resample_poly(beat_SxC, FINE, 1, axis=0, padtype="line")
    rate, zero = FINE * RATE_HZ, round(BEFORE_S * FINE * RATE_HZ)

    def part(from_s: float, to_s: float) -> slice:
        return slice(zero + round(from_s * rate), zero + round(to_s * rate))

    fine = fine - np.median(fine[part(-0.09, -0.06)], axis=0)
    qrs, p, t = fine[part(-0.06, 0.08)], fine[part(-0.28, -0.08)], fine[part(0.14, 0.44)]
    height = np.maximum(np.ptp(qrs, axis=0), 1e-3)
    p_peak, t_peak = (wave[np.abs(wave).argmax(0), np.arange(wave.shape[1])] / height for wave in (p, t))
    st = fine[part(0.07, 0.09)].mean(0) / height
    s_to_r = -qrs.min(0) / height
    speed = np.sqrt((np.gradient(fine, axis=0) ** 2).sum(1))[part(-0.1, 0.12)]
    fast = np.flatnonzero(speed > 0.12 * speed.max())
    pr_ms = 1e3 * (0.28 - np.sqrt((p**2).sum(1)).argmax() / rate)
    rt_ms = 1e3 * (0.14 + np.sqrt((t**2).sum(1)).argmax() / rate)
    qrs_ms = 1e3 * (fast[-1] - fast[0]) / rate
    shapes = p_peak[II], t_peak[II], t_peak[V2], t_peak[V5], s_to_r[V2], s_to_r[V5], st[V2], st[V5]
    return np.array([*shapes, pr_ms, qrs_ms, rt_ms, 1e3 * rhythm[1], 1e3 * rhythm[2]])
