"""Features by hand: rate, variability, intervals and amplitudes of a record, as a program of forty years ago has them.

R peaks are those of the slope of all leads; intervals and amplitudes are those of the median beat, amplitudes in
deviations of their lead, since not every record has millivolts. No clinical delineator: a yardstick for features that
were learnt. What cannot be measured is 0, for lack of beats.
"""

from __future__ import annotations

import numpy as np
from scipy import ndimage, signal

from ecg_jax.data.ecg import INDEPENDENT_LEAD_INDICES, INDEPENDENT_LEADS, normalise

#: To be raised when a change of this code changes the features.
VERSION = 1
#: Two beats are at least so far apart (s); a beat is cut from so long before its R peak to so long after.
REFRACTORY_S, BEFORE_S, AFTER_S = 0.28, 0.32, 0.48
#: Where waves are looked for in the median beat, in s from the R peak.
P_S, QRS_S, J_S, T_S = (-0.28, -0.08), (-0.07, 0.08), (0.08, 0.12), (0.14, 0.44)
#: A sample belongs to the QRS complex while the slope is above this share of its greatest.
FAST = 0.12
RHYTHM = ("beats", "mean RR", "SD of RR", "RMSSD", "share of RR steps > 50 ms", "shortest RR", "longest RR")
INTERVALS = ("PR", "QRS", "R to T peak", "R to T end", "sameness of beats")
AMPLITUDES = ("P", "R", "S", "ST", "T", "net QRS")
NAMES = (*RHYTHM, *INTERVALS, *(f"{wave} in {lead}" for lead in INDEPENDENT_LEADS for wave in AMPLITUDES))


def by_hand(ecg: np.ndarray, sample_rate_hz: int) -> np.ndarray:
    """The features `(B, len(NAMES))` of int16 records `(B, samples, 12)`; seconds, and deviations of leads."""
    x_BxSxI = normalise(ecg)[..., np.array(INDEPENDENT_LEAD_INDICES)]
    return np.stack([_of_record(x_SxI, sample_rate_hz) for x_SxI in x_BxSxI])


def r_peaks(x_SxI: np.ndarray, sample_rate_hz: int) -> np.ndarray:
    """The samples of QRS complexes: peaks of the smoothed slope over all leads of a z-scored record."""
    energy_S = ndimage.gaussian_filter1d(_slope(x_SxI), 0.025 * sample_rate_hz)
    level = 0.35 * np.quantile(energy_S, 0.98)
    peaks, _ = signal.find_peaks(energy_S, height=level, distance=round(REFRACTORY_S * sample_rate_hz))
    return peaks


def heart_rate_bpm(ecg: np.ndarray, sample_rate_hz: int) -> np.ndarray:
    """Beats per minute from the mean RR interval, `(B,)`; NaN where fewer than three beats are found."""
    found = np.full(len(ecg), np.nan)
    for row, x_SxI in enumerate(normalise(ecg)[..., np.array(INDEPENDENT_LEAD_INDICES)]):
        peaks = r_peaks(x_SxI, sample_rate_hz)
        if len(peaks) >= 3:
            found[row] = 60 * sample_rate_hz / np.diff(peaks).mean()
    return found


def _slope(x_SxI: np.ndarray) -> np.ndarray:
    return np.sqrt((np.gradient(x_SxI, axis=0) ** 2).sum(axis=1))


def _of_record(x_SxI: np.ndarray, rate_hz: int) -> np.ndarray:
    peaks = r_peaks(x_SxI, rate_hz)
    before, after = round(BEFORE_S * rate_hz), round(AFTER_S * rate_hz)
    whole = peaks[(peaks >= before) & (peaks + after <= len(x_SxI))]
    if len(whole) < 2:
        return np.concatenate([_rhythm(peaks, rate_hz), np.zeros(len(NAMES) - len(RHYTHM))])
    beats_KxSxI = x_SxI[whole[:, None] + np.arange(-before, after)]
    beat_SxI = np.median(beats_KxSxI, axis=0)
    differing = np.median(((beats_KxSxI - beat_SxI) ** 2).mean(axis=(1, 2))) / max(float(beat_SxI.var()), 1e-6)
    return np.concatenate([_rhythm(peaks, rate_hz), _on_beat(beat_SxI, rate_hz, before, max(1 - differing, -1.0))])


def _rhythm(peaks: np.ndarray, rate_hz: int) -> np.ndarray:
    if len(peaks) < 3:
        return np.array([len(peaks), *[0.0] * (len(RHYTHM) - 1)])
    rr_s = np.diff(peaks) / rate_hz
    step_s = np.diff(rr_s)
    rmssd_s = np.sqrt((step_s**2).mean())
    return np.array(
        [len(peaks), rr_s.mean(), rr_s.std(), rmssd_s, (np.abs(step_s) > 0.05).mean(), rr_s.min(), rr_s.max()]
    )


def _on_beat(beat_SxI: np.ndarray, rate_hz: int, zero: int, sameness: float) -> np.ndarray:
    """Intervals and amplitudes of a median beat whose R peak is sample `zero`, above the level before the QRS."""

    def part(from_s: float, to_s: float) -> slice:
        return slice(zero + round(from_s * rate_hz), zero + round(to_s * rate_hz))

    beat_SxI = beat_SxI - np.median(beat_SxI[part(-0.09, -0.06)], axis=0)
    p, qrs, st, t = (beat_SxI[part(*where)] for where in (P_S, QRS_S, J_S, T_S))
    size_S = np.sqrt((beat_SxI**2).sum(axis=1))
    slope_S = _slope(beat_SxI)
    around = slope_S[part(-0.12, 0.14)]
    fast = np.flatnonzero(around > FAST * around.max())
    onset_s = fast[0] / rate_hz - 0.12
    p_at_s = P_S[0] + int(size_S[part(*P_S)].argmax()) / rate_hz
    t_at = int(size_S[part(*T_S)].argmax())
    falls = np.flatnonzero(size_S[part(*T_S)][t_at:] < 0.2 * size_S[part(*T_S)][t_at])
    t_end = t_at + (int(falls[0]) if len(falls) else len(t) - 1 - t_at)
    intervals = [onset_s - p_at_s, (fast[-1] - fast[0]) / rate_hz, T_S[0] + t_at / rate_hz, T_S[0] + t_end / rate_hz]
    peaks = [_extreme(p), qrs.max(axis=0), qrs.min(axis=0), st.mean(axis=0), _extreme(t), qrs.sum(axis=0) / rate_hz]
    return np.concatenate([[*intervals, sameness], np.stack(peaks, axis=1).ravel()])


def _extreme(wave_SxI: np.ndarray) -> np.ndarray:
    return wave_SxI[np.abs(wave_SxI).argmax(axis=0), np.arange(wave_SxI.shape[1])]
