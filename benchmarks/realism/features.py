"""What is compared: features of z-scored records, each set with the names of its columns."""

from __future__ import annotations

import dataclasses
import itertools

import numpy as np
from scipy import signal, stats

from benchmarks.realism import beats
from ecg_jax.data.ecg import INDEPENDENT_LEAD_INDICES, INDEPENDENT_LEADS, LEADS, normalise

RATE_HZ = beats.RATE_HZ
#: Welch segments of 4 s: bins of 0.25 Hz, compared from 0.5 to 45 Hz (the chain passes up to 40 Hz).
SEGMENT_S = 4
BAND_HZ = (0.5, 45.0)
_BANDS = 36  # of the log spectrum as a feature, equal in log frequency
_KERNELS, _KERNEL_LENGTH = 96, 9
_SEED = 20_190_913


@dataclasses.dataclass(frozen=True)
class Table:
    """Features `(records, columns)` and the names of the columns."""

    values: np.ndarray
    names: tuple[str, ...]


@dataclasses.dataclass(frozen=True)
class Described:
    """Everything measured of a set of N records."""

    z: np.ndarray  # (N, samples, 12) float32, as a model sees them
    frequency_hz: np.ndarray  # (F,)
    log_psd: np.ndarray  # (N, F, 8) dB
    singular: np.ndarray  # (N, 8) log10 of the share of energy, descending
    measures: np.ndarray  # (N, MEASURES)
    embedding: Table  # for the maximum mean discrepancy
    shortcuts: dict[str, Table]  # sets of features for the audit


def describe(counts_NxSxL: np.ndarray) -> Described:
    """Measures int16 records `(N, samples, 12)` at 100 Hz."""
    z = normalise(counts_NxSxL)
    frequency_hz, log_psd = log_spectra(z)
    measured = beats.measure_all(z)
    spectrum = _bands(frequency_hz, log_psd)
    beat = _averaged(measured)
    rhythm = Table(np.stack([m.rhythm for m in measured]), beats.RHYTHM)
    convolved = random_convolutions(z)
    return Described(
        z,
        frequency_hz,
        log_psd,
        singular_profile(z),
        np.stack([m.measures for m in measured]),
        _joined(spectrum, beat, convolved),
        {
            "rounding": rounding(counts_NxSxL),
            "edges and tails": edges_and_tails(z),
            "spectrum": spectrum,
            "averaged beat": beat,
            "rhythm": rhythm,
        },
    )


def log_spectra(z_NxSxL: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Frequencies `(F,)` and log power of I, II, V1–V6 `(N, F, 8)` in dB, after Welch."""
    x = z_NxSxL[..., INDEPENDENT_LEAD_INDICES]
    frequency_hz, psd = signal.welch(x, RATE_HZ, nperseg=SEGMENT_S * RATE_HZ, axis=1)
    used = (frequency_hz >= BAND_HZ[0]) & (frequency_hz <= BAND_HZ[1])
    return frequency_hz[used], 10 * np.log10(psd[:, used] + 1e-9).astype(np.float32)


def singular_profile(z_NxSxL: np.ndarray) -> np.ndarray:
    """log10 of the share of each singular value in a record's energy over its eight independent leads, `(N, 8)`."""
    x = z_NxSxL[..., INDEPENDENT_LEAD_INDICES].astype(np.float64)
    energy = np.linalg.eigvalsh(np.einsum("nsc,nsd->ncd", x, x, optimize=True))[:, ::-1]
    return np.log10(np.maximum(energy, 0) / energy.sum(1, keepdims=True) + 1e-8)


def random_convolutions(z_NxSxL: np.ndarray) -> Table:
    """A fixed random convolutional net of one layer: the share of positive values and the maximum of each kernel.

    Kernels of two random leads with random dilations (Dempster, Petitjean & Webb 2020, arXiv:1910.13051).
    """
    rng = np.random.default_rng(_SEED)
    x_NxCxS = np.moveaxis(z_NxSxL[..., INDEPENDENT_LEAD_INDICES], -1, 1)
    columns, names = [], []
    for number in range(_KERNELS):
        leads = rng.choice(8, 2, replace=False)
        weights = rng.normal(size=(2, _KERNEL_LENGTH)).astype(np.float32)
        weights -= weights.mean(1, keepdims=True)
        dilation, bias = int(2 ** rng.uniform(0, 5)), float(rng.uniform(-1, 1))
        span = dilation * (_KERNEL_LENGTH - 1)
        length = x_NxCxS.shape[-1] - span
        out = np.full((len(x_NxCxS), length), bias, np.float32)
        for lead, row in zip(leads, weights, strict=True):
            for tap, weight in enumerate(row):
                out += weight * x_NxCxS[:, lead, tap * dilation : tap * dilation + length]
        columns += [(out > 0).mean(1), out.max(1)]
        names += [f"convolution {number}, positive", f"convolution {number}, maximum"]
    return Table(np.stack(columns, 1), tuple(names))


def rounding(counts_NxSxL: np.ndarray) -> Table:
    """What the last digits give away: the smallest step, repeats, parity, and how exactly the limb leads add up."""
    z, counts = normalise(counts_NxSxL), counts_NxSxL.astype(np.int32)
    deviation = np.maximum(counts.astype(np.float64).std(1), 1e-9)
    step = np.diff(np.sort(counts, axis=1), axis=1)
    smallest = np.where(step > 0, step, 10**6).min(1) / deviation
    columns = {
        "log step": np.log10(smallest).mean(1),
        "share of repeated samples": (np.diff(counts, axis=1) == 0).mean((1, 2)),
        "share of odd counts": (counts % 2).mean((1, 2)),
    }
    for name in ("III", "aVR", "aVL", "aVF"):
        columns[f"{name} from I and II, log residual"] = _dependence(z, name)
    return Table(np.stack(list(columns.values()), 1), tuple(columns))


def edges_and_tails(z_NxSxL: np.ndarray) -> Table:
    """What single samples give away: the ends of the record, and skewness, kurtosis and maximum of each lead."""
    z = z_NxSxL
    columns = {
        "first sample": np.abs(z[:, 0]).mean(1),
        "last sample": np.abs(z[:, -1]).mean(1),
        "first step": np.abs(z[:, 1] - z[:, 0]).mean(1),
        "last step": np.abs(z[:, -1] - z[:, -2]).mean(1),
        "first 0.2 s, rms": np.sqrt((z[:, :20] ** 2).mean((1, 2))),
        "last 0.2 s, rms": np.sqrt((z[:, -20:] ** 2).mean((1, 2))),
        "end minus start": np.abs(z[:, -1] - z[:, 0]).mean(1),
    }
    for number, lead in enumerate(LEADS):
        columns[f"skewness {lead}"] = stats.skew(z[..., number], axis=1)
        columns[f"kurtosis {lead}"] = np.log(np.maximum(stats.kurtosis(z[..., number], axis=1, fisher=False), 1e-3))
        columns[f"maximum {lead}"] = np.abs(z[..., number]).max(1)
    return Table(np.nan_to_num(np.stack(list(columns.values()), 1)), tuple(columns))


def _dependence(z: np.ndarray, name: str) -> np.ndarray:
    """log10 of what leads I and II leave of another limb lead: scale-free, so it holds for z-scored records too."""
    x = z[..., [0, 1, LEADS.index(name)]].astype(np.float64)
    smallest = np.linalg.eigvalsh(np.einsum("nsc,nsd->ncd", x, x, optimize=True) / z.shape[1])[:, 0]
    return np.log10(np.maximum(smallest, 0) + 1e-7)


def _bands(frequency_hz: np.ndarray, log_psd: np.ndarray) -> Table:
    edges = np.geomspace(*BAND_HZ, _BANDS + 1)
    columns, names = [], []
    for low, high in itertools.pairwise(edges):
        among = (frequency_hz >= low) & (frequency_hz < high)
        if among.any():
            columns.append(log_psd[:, among].mean(1))
            names += [f"power of {lead} at {np.sqrt(low * high):.2g} Hz" for lead in INDEPENDENT_LEADS]
    return Table(np.concatenate(columns, 1), tuple(names))


def _averaged(measured: list[beats.Measured]) -> Table:
    beat_NxTxC = np.stack([m.beat for m in measured])[:, ::2]
    times_ms = 1e3 * (2 * np.arange(beat_NxTxC.shape[1]) / RATE_HZ - beats.BEFORE_S)
    names = tuple(f"{lead} {time:+.0f} ms from R" for time in times_ms for lead in INDEPENDENT_LEADS)
    return Table(beat_NxTxC.reshape(len(beat_NxTxC), -1), names)


def _joined(*tables: Table) -> Table:
    return Table(np.concatenate([t.values for t in tables], 1), tuple(name for t in tables for name in t.names))
