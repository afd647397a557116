"""What a quality report measures on each record of a pool: amplitude, noise, lead algebra, heart rate, spectrum."""

from __future__ import annotations

import warnings

import numpy as np
import pandas as pd
from scipy import signal

from ecg_jax.data.ecg import LEADS, RecordPool
from ecg_jax.data.preprocess import COUNTS_PER_UNIT
from ecg_jax.extras import needs

with needs("real"):
    from wfdb import processing

#: Heart rates are measured on so many records at most, drawn at random: 15 ms each.
HEART_RATE_RECORDS = 1000
#: Rate at which beats are sought; the detector misses its filters' range below.
_BEAT_RATE_HZ = 250
#: Above this a spectrum holds muscle and mains rather than beats.
NOISE_HZ = 25.0
#: Peak to peak of a record's largest limb lead in mV, median over records: the least and the most of nine sets, through
#: the standard steps: PTB-XL (500 records: 1.26), Challenge 2011 (769: 1.21), six families of the Challenge 2021 (10 to
#: 80 each: 1.01 to 1.43), SPH (9: 1.06). Between the chest leads of these sets there is twice as much difference.
LIMB_MV = (1.0, 1.45)
#: How far beyond that range a set of another population, or a small one, may lie.
_LIMB_MARGIN = 1.2
_BLOCK = 512
_I, _II, _III, _AVR, _AVL, _AVF = range(6)


def per_record(pool: RecordPool, seed: int = 0) -> pd.DataFrame:
    """One row per record, in the pool's order.

    `peak`: largest absolute value over leads, in the record's unit. `limb`: peak to peak of the largest
    limb lead. `sd`: median over leads of the standard deviation.
    `noise`: median over leads of the share of energy above 25 Hz. `algebra`: RMS of what III, aVR, aVL and aVF miss
    what I and II say of them, over the RMS of those four leads; 0 is exact, NaN where the leads were scaled one by one
    (NU) or are flat. `heart_rate`: per minute, NaN for records not drawn or without three beats.
    """
    blocks = [_measured(pool.take(indices)) for indices in _blocks(len(pool))]
    table = pd.concat(blocks, ignore_index=True)
    table["heart_rate"] = np.nan
    drawn = np.random.default_rng(seed).permutation(len(pool))[:HEART_RATE_RECORDS]
    table.loc[drawn, "heart_rate"] = [heart_rate(pool.ecg[i], pool.sample_rate_hz) for i in drawn]
    return table


def heart_rate(ecg: np.ndarray, sample_rate_hz: int) -> float:
    """Beats per minute of `(samples, 12)`, from the median interval of lead II's beats; NaN for fewer than three.

    Beats: XQRS of the wfdb package, on the lead brought to 250 Hz.
    """
    lead = signal.resample_poly(ecg[:, _II].astype(np.float64), _BEAT_RATE_HZ, sample_rate_hz) / COUNTS_PER_UNIT
    if np.ptp(lead) == 0:
        return np.nan
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # its learning divides by 0 on noise
        beats = processing.xqrs_detect(lead, _BEAT_RATE_HZ, verbose=False)
    return float(60 * _BEAT_RATE_HZ / np.median(np.diff(beats))) if len(beats) >= 3 else np.nan


def algebra_residual(ecg: np.ndarray) -> np.ndarray:
    """How far four limb leads of `(records, samples, 12)` are from what I and II make of them: float64 `(records,)`.

    III = II − I, aVR = −(I + II)/2, aVL = I − II/2, aVF = II − I/2; RMS of the differences over RMS of the leads, NaN
    where I, II or all four are flat.
    """
    x = ecg[:, :, :6].astype(np.float64)
    one, two = x[..., _I], x[..., _II]
    implied = np.stack([two - one, -(one + two) / 2, one - two / 2, two - one / 2], axis=-1)
    missed = np.sqrt(((x[..., _III:] - implied) ** 2).mean(axis=(1, 2)))
    size = np.sqrt((x[..., _III:] ** 2).mean(axis=(1, 2)))
    sound = (size > 0) & (np.ptp(one, axis=1) > 0) & (np.ptp(two, axis=1) > 0)
    return np.where(sound, missed / np.where(sound, size, 1), np.nan)


def amplitude_notes(table: pd.DataFrame) -> tuple[str, ...]:
    """What is to be said of the amplitudes of `per_record`'s rows: that they are unknown, or unlike other sets'."""
    notes = []
    for unit, rows in table[table.unit != "NU"].groupby("unit"):
        median = float(rows.limb.median())
        if unit == "AU":
            notes.append(f"The amplitude of {len(rows):,} records is unknown: their millivolts are as published.")
        if not LIMB_MV[0] / _LIMB_MARGIN <= median <= LIMB_MV[1] * _LIMB_MARGIN:
            few = ", or so few records are no measure" if len(rows) < 10 else ""
            notes.append(
                f"The largest limb lead measures {median:.2f} mV peak to peak (median of {len(rows):,} records); in "
                f"nine other sets it is {LIMB_MV[0]:g} to {LIMB_MV[1]:g} mV. Gain or unit may be wrong{few}: do not "
                "compare these millivolts with those of other sets, or build the set again with --factor."
            )
    return tuple(notes)


def spectra(pool: RecordPool, quantiles: tuple[float, ...] = (0.05, 0.5, 0.95)) -> pd.DataFrame:
    """Quantiles over records of the power spectral density per lead: columns `lead`, `hz`, and one per quantile.

    Each lead has variance 1 first, so that sets of any amplitude compare; Welch's estimate, 2 s Hann windows, dB.
    At most 4,000 records, evenly spaced; flat leads do not count.
    """
    step = max(1, len(pool) // 4000)
    x = pool.ecg[::step].astype(np.float32)
    deviation = x.std(axis=1, keepdims=True)
    scaled = x / np.where(deviation > 0, deviation, 1)
    hz, power = signal.welch(scaled, pool.sample_rate_hz, nperseg=2 * pool.sample_rate_hz, axis=1)
    power = np.where(deviation > 0, np.maximum(power, 1e-9), np.nan)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # a lead that is flat in every record has no quantiles
        levels = np.nanquantile(10 * np.log10(power), quantiles, axis=0)  # (quantiles, hz, leads)
    kept = (hz > 0) & (hz <= 50)
    rows = [
        {"lead": lead, "hz": at, **{f"{q:g}": levels[k, j, i] for k, q in enumerate(quantiles)}}
        for i, lead in enumerate(LEADS)
        for j, at in enumerate(hz)
        if kept[j]
    ]
    return pd.DataFrame(rows)


def _measured(pool: RecordPool) -> pd.DataFrame:
    x = pool.ecg[:].astype(np.float32)
    deviation = x.std(axis=1)
    hz, power = signal.welch(x, pool.sample_rate_hz, nperseg=2 * pool.sample_rate_hz, axis=1)
    energy = power.sum(axis=1)
    noise = np.where(energy > 0, power[:, hz > NOISE_HZ].sum(axis=1) / np.where(energy > 0, energy, 1), np.nan)
    scaled = pool.unit == "NU"
    return pd.DataFrame(
        {
            "record_id": pool.record_id,
            "patient_id": pool.patient_id,
            "fold": pool.fold,
            "unit": pool.unit,
            "labels": [";".join(labels) for labels in pool.labels],
            "peak": np.abs(x).max(axis=(1, 2)) / COUNTS_PER_UNIT,
            "limb": np.ptp(x[:, :, :6], axis=1).max(axis=1) / COUNTS_PER_UNIT,
            "sd": np.median(deviation, axis=1) / COUNTS_PER_UNIT,
            "noise": np.nanmedian(noise, axis=1) if len(x) else [],
            "flat_leads": (deviation == 0).sum(axis=1),
            "algebra": np.where(scaled, np.nan, algebra_residual(pool.ecg[:])),
        }
    )


def _blocks(count: int) -> list[np.ndarray]:
    return [np.arange(start, min(start + _BLOCK, count)) for start in range(0, count, _BLOCK)]
