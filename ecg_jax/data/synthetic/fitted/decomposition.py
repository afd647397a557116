"""A real record taken apart: beats, the weights of a fixed bank of kernels in each lead, and what they leave.

This is what tier T2's priors are made of. NumPy in float64, one record at a time; rendering puts the parts together.
"""

from __future__ import annotations

import dataclasses

import numpy as np
from scipy import signal

from ecg_jax.data.synthetic.constants import declare

#: Kernel centres from the R peak and widths (ms). Around the QRS they lie closer than the samples of a 40 Hz band.
P_CENTRE_MS = np.arange(-290.0, -97.0, 32.0)
QRS_CENTRE_MS = np.arange(-72.0, 97.0, 12.0)
T_CENTRE_MS = np.arange(125.0, 560.0, 60.0)  # at an RR interval of 1 s
CENTRE_S = 1e-3 * np.concatenate([P_CENTRE_MS, QRS_CENTRE_MS, T_CENTRE_MS]).astype(np.float32)
WIDTH_S = 1e-3 * np.repeat([24.0, 8.0, 45.0], [len(P_CENTRE_MS), len(QRS_CENTRE_MS), len(T_CENTRE_MS)])
WIDTH_S = WIDTH_S.astype(np.float32)
KERNELS = len(CENTRE_S)
P = slice(0, len(P_CENTRE_MS))
QRS = slice(P.stop, P.stop + len(QRS_CENTRE_MS))
T = slice(QRS.stop, KERNELS)
#: A beat begins this long before its R peak, for the QRS and for the P wave of the next; for the T wave at the peak.
QRS_LEAD_S, P_LEAD_S = 0.11, 0.03
#: T waves stretch with the root of the mean RR interval, within limits.
STRETCH_RR_S = (0.4, 1.5)
#: Ridge penalty on the weights, in squared samples (one beat's QRS kernel gathers 1.4): the least that keeps
#: neighbouring kernels from cancelling; more of it takes the power above 30 Hz away.
RIDGE = 0.1

#: Bands of the residual's level. Below and above lies what the pool's filters left.
BAND_EDGES_HZ = np.array([0.4, 2.0, 5.0, 10.0, 20.0, 40.0])
BANDS = len(BAND_EDGES_HZ) - 1
#: Half-width (s) of the QRS complex, and reach of the ends of the record, where filters ring and cut beats hang over:
#: there the residual has levels of their own.
QRS_HALF_S, END_S = 0.08, 0.4
MIN_BEATS, MAX_HEART_RATE_BPM = 4, 220.0
#: A record of which the kernels explain less is no train of like beats.
MIN_EXPLAINED = 0.3
#: Added to deviations before their logarithm: 2 ms of RR interval, 0.3 % of gain.
RR_SD_FLOOR_S, GAIN_SD_FLOOR = 2e-3, 3e-3


class NotDecomposable(ValueError):
    """The record has no train of beats that the kernels can follow; the message says why."""


@dataclasses.dataclass(frozen=True)
class Rhythm:
    """RR intervals of a record: log mean, log standard deviation (s), correlation of neighbours (Fisher's z)."""

    log_mean_rr: float
    log_sd_rr: float
    neighbour_z: float


@dataclasses.dataclass(frozen=True)
class Parts:
    """One record in parts; leads in standard deviations of the record."""

    r_peak_s: np.ndarray  # (beats,)
    weights: np.ndarray  # (KERNELS, leads)
    rhythm: Rhythm
    log_gain_sd: float  # of the QRS from beat to beat
    log_band: (
        np.ndarray
    )  # (BANDS,) power density of the residual elsewhere than in the QRS and at the ends, mean over leads
    log_lead: np.ndarray  # (leads,) its variance in each lead, relative to their geometric mean
    log_excess: np.ndarray  # (3,) its deviation inside the QRS, at the start and at the end, relative to elsewhere
    burst: float  # how its level wanders: deviation of its logarithm
    residual: np.ndarray  # (samples, leads), zero inside the QRS and at the ends
    explained: float

    @property
    def scalars(self) -> np.ndarray:
        """All but weights and residual, in the order that `fitted` names."""
        rhythm = (self.rhythm.log_mean_rr, self.rhythm.log_sd_rr, self.rhythm.neighbour_z)
        return np.concatenate([rhythm, [self.log_gain_sd, self.burst], self.log_excess, self.log_band, self.log_lead])


def stretch(mean_rr_s: float) -> float:
    """How far T kernels stretch at a mean RR interval, relative to one of 1 s."""
    return float(np.sqrt(np.clip(mean_rr_s, *STRETCH_RR_S)))


def design(r_peak_s: np.ndarray, mean_rr_s: float, time_s: np.ndarray) -> np.ndarray:
    """The bank over time, `(samples, KERNELS)`. Each sample sees one beat per wave: P the next, QRS and T the last."""
    bounded = np.concatenate([[-1e3], r_peak_s, [1e3]])
    p = time_s - bounded[np.searchsorted(r_peak_s, time_s + P_LEAD_S, "right") + 1]
    qrs = time_s - bounded[np.searchsorted(r_peak_s, time_s + QRS_LEAD_S, "right")]
    t = (time_s - bounded[np.searchsorted(r_peak_s, time_s, "right")]) / stretch(mean_rr_s)
    distance = np.concatenate([np.tile(x[:, None], (1, w.stop - w.start)) for x, w in ((p, P), (qrs, QRS), (t, T))], 1)
    return np.exp(-0.5 * ((distance - CENTRE_S) / WIDTH_S) ** 2)


def decompose(x_SxC: np.ndarray, sample_rate_hz: int) -> Parts:
    """Takes apart one record of scaled leads `(samples, leads)`. Raises NotDecomposable when it has no usable beats."""
    if not (x_SxC.std(0) > 0).all():
        raise NotDecomposable(f"lead {int(np.argmin(x_SxC.std(0)))} of I, II, V1–V6 is constant")
    r_peak_s = find_r_peaks(x_SxC, sample_rate_hz)
    rr_s = np.diff(r_peak_s)
    if len(r_peak_s) < MIN_BEATS or rr_s.mean() < 60.0 / MAX_HEART_RATE_BPM:
        raise NotDecomposable(f"{len(r_peak_s)} beats found")
    time_s = np.arange(len(x_SxC)) / sample_rate_hz
    # The beats just outside reach into the record.
    around_s = np.concatenate([[r_peak_s[0] - rr_s.mean()], r_peak_s, [r_peak_s[-1] + rr_s.mean()]])
    bank = np.column_stack([design(around_s, rr_s.mean(), time_s), np.ones(len(time_s))])
    penalty = np.diag(np.append(np.full(KERNELS, RIDGE), 1e-6))
    weights = np.linalg.solve(bank.T @ bank + penalty, bank.T @ x_SxC)
    model = bank @ weights
    residual = x_SxC - model
    explained = 1.0 - residual.var() / x_SxC.var()
    if explained < MIN_EXPLAINED:
        raise NotDecomposable(f"the kernels explain {explained:.0%} of it")
    to_qrs_s, to_start_s, to_end_s = np.abs(time_s[:, None] - around_s).min(1), time_s, time_s[-1] - time_s
    outside = np.clip((to_qrs_s - 0.7 * QRS_HALF_S) / (0.6 * QRS_HALF_S), 0.0, 1.0)
    outside *= np.clip((np.minimum(to_start_s, to_end_s) - END_S) / 0.2, 0.0, 1.0)
    quiet = residual * outside[:, None] / np.sqrt((outside**2).mean())
    power = (quiet**2).mean()
    excess = (
        (residual[(to_qrs_s < QRS_HALF_S) & (to_start_s > END_S) & (to_end_s > END_S)] ** 2).mean() / power,
        (residual[to_start_s < 0.5 * END_S] ** 2).mean() / power,
        (residual[to_end_s < 0.5 * END_S] ** 2).mean() / power,
    )
    lead = np.log((quiet**2).mean(0) + 1e-6)
    return Parts(
        r_peak_s=r_peak_s,
        weights=weights[:-1],
        rhythm=_rhythm(rr_s),
        log_gain_sd=float(np.log(_gain_sd(x_SxC, model, r_peak_s, sample_rate_hz) + GAIN_SD_FLOOR)),
        log_band=_log_band(quiet, sample_rate_hz),
        log_lead=lead - lead.mean(),
        log_excess=0.5 * np.log(excess),
        burst=_burst(quiet[outside > 0]),
        residual=quiet,
        explained=float(explained),
    )


def _rhythm(rr_s: np.ndarray) -> Rhythm:
    deviation = rr_s - rr_s.mean()
    # Two neighbouring pairs at zero correlation keep a handful of intervals from claiming ±1.
    around = (deviation[1:] * deviation[:-1]).sum() / (
        (deviation**2).sum() * (1 + 2 / len(rr_s)) + len(rr_s) * RR_SD_FLOOR_S**2
    )
    return Rhythm(
        float(np.log(rr_s.mean())),
        float(np.log(rr_s.std() + RR_SD_FLOOR_S)),
        float(np.arctanh(np.clip(around, -0.9, 0.9))),
    )


def _gain_sd(x_SxC: np.ndarray, model: np.ndarray, r_peak_s: np.ndarray, sample_rate_hz: int) -> float:
    """Deviation of the beats' regressions on the model's QRS, robust against single odd beats."""
    gains = []
    reach = round(QRS_HALF_S * sample_rate_hz)
    for centre in np.rint(r_peak_s * sample_rate_hz).astype(int):
        part = slice(max(centre - reach, 0), centre + reach + 1)
        gains.append((x_SxC[part] * model[part]).sum() / ((model[part] ** 2).sum() + 1e-9))
    return float(1.4826 * np.median(np.abs(gains - np.median(gains))))


def _burst(residual: np.ndarray) -> float:
    """Deviation σ of a log-normal envelope that gives Gaussian noise the residual's kurtosis, 3 exp(4σ²)."""
    kurtosis = np.mean((residual**4).mean(0) / (residual**2).mean(0) ** 2)
    return float(np.sqrt(max(np.log(kurtosis / 3.0), 0.0) / 4.0))


def _log_band(residual: np.ndarray, sample_rate_hz: int) -> np.ndarray:
    """Log mean power per frequency bin (such that bins of a two-sided spectrum sum to the variance) in each band."""
    frequency = np.fft.rfftfreq(len(residual), 1 / sample_rate_hz)
    power = (np.abs(np.fft.rfft(residual, axis=0)) ** 2).mean(1) / len(residual) ** 2
    band = np.searchsorted(BAND_EDGES_HZ, frequency, "right") - 1
    return np.log([power[band == b].mean() + 1e-12 for b in range(BANDS)])


def find_r_peaks(x_SxC: np.ndarray, sample_rate_hz: int) -> np.ndarray:
    """R peaks (s): peaks of the leads' summed slopes, then moved to where each beat fits the median beat best."""
    slope = (np.gradient(x_SxC, axis=0) ** 2).sum(1)
    window = signal.windows.hann(2 * round(0.05 * sample_rate_hz) + 1)
    activity = np.sqrt(np.convolve(slope, window / window.sum(), "same"))
    seconds = len(x_SxC) // sample_rate_hz
    height = 0.4 * np.median(activity[: seconds * sample_rate_hz].reshape(seconds, -1).max(1))
    peaks, _ = signal.find_peaks(activity, height=height, distance=round(0.25 * sample_rate_hz))
    return _aligned(x_SxC, peaks.astype(float), sample_rate_hz) / sample_rate_hz


def _aligned(x_SxC: np.ndarray, peaks: np.ndarray, sample_rate_hz: int) -> np.ndarray:
    """Shifts peaks (samples, by at most 0.05 s) to the lag of greatest agreement with the median beat, to sub-samples.

    Then all by the same shift, so that the median beat's greatest magnitude lies at zero.
    """
    half, reach = round(0.12 * sample_rate_hz), round(0.05 * sample_rate_hz)
    offsets = np.arange(-half - reach, half + reach + 1)
    lags = np.arange(-reach, reach + 1)
    for _ in range(2):
        inside = (peaks > half + reach) & (peaks < len(x_SxC) - half - reach - 2)
        if inside.sum() < 3:
            return peaks
        beats = _interpolated(x_SxC, peaks[:, None] + offsets)
        median = np.median(beats[inside], axis=0)[reach:-reach]
        agreement = np.stack([(beats[:, reach + l : reach + l + 2 * half + 1] * median).sum((1, 2)) for l in lags], 1)
        best = np.clip(agreement.argmax(1), 1, len(lags) - 2)
        row = np.arange(len(peaks))
        left, centre, right = (agreement[row, best + step] for step in (-1, 0, 1))
        curvature = np.minimum(left - 2 * centre + right, -1e-9)
        peaks = peaks + lags[best] + np.clip(0.5 * (left - right) / curvature, -0.5, 0.5)
    magnitude = np.sqrt((median**2).sum(1))[half - reach : half + reach + 1]
    return peaks + (np.arange(-reach, reach + 1) * magnitude**4).sum() / (magnitude**4).sum()


def _interpolated(x_SxC: np.ndarray, position: np.ndarray) -> np.ndarray:
    position = np.clip(position, 0, len(x_SxC) - 1.001)
    index = position.astype(int)
    share = (position - index)[..., None]
    return x_SxC[index] * (1 - share) + x_SxC[index + 1] * share


declare(
    "decomposition",
    vars(),
    "P_CENTRE_MS QRS_CENTRE_MS T_CENTRE_MS CENTRE_S WIDTH_S KERNELS P QRS T QRS_LEAD_S P_LEAD_S STRETCH_RR_S RIDGE "
    "BAND_EDGES_HZ BANDS QRS_HALF_S END_S MIN_BEATS MAX_HEART_RATE_BPM MIN_EXPLAINED RR_SD_FLOOR_S GAIN_SD_FLOOR",
)
