"""Annotated records that several acceptance tests look at: drawn, compiled and measured once."""

from __future__ import annotations

import dataclasses
import functools

import numpy as np

from ecg_jax.data.synthetic import Morphology, Rhythm, Tier, only, recipe
from ecg_jax.data.synthetic.annotate.annotation import Annotated, annotate
from ecg_jax.data.synthetic.recorder.acquisition import Acquisition
from support import wfdb_checker

SEED = 11
RATE_HZ = 250
PREMATURE = (Rhythm.ATRIAL_PREMATURE, Rhythm.VENTRICULAR_PREMATURE)
PACED = (Rhythm.PACED_ATRIAL, Rhythm.PACED_VENTRICULAR, Rhythm.PACED_DUAL)
RECORDED = (Rhythm.SINUS, Rhythm.ATRIAL_FIBRILLATION, *PREMATURE, *PACED)


@functools.cache
def morphologies() -> Annotated:
    """About 80 records of every morphology in sinus rhythm, tier T1c, 250 Hz."""
    return annotate(SEED, np.arange(80 * len(Morphology)), recipe(Tier.CONDITIONS, only(*Morphology)), RATE_HZ)


@functools.cache
def rhythms() -> Annotated:
    """About 60 records of every rhythm with a normal morphology, tier T1c, 250 Hz."""
    return annotate(SEED + 1, np.arange(60 * len(Rhythm)), recipe(Tier.CONDITIONS, only(*Rhythm)), RATE_HZ)


@functools.cache
def population() -> Annotated:
    """2,016 unconditional patients, tier T1b, 250 Hz."""
    return annotate(SEED + 2, np.arange(2016), recipe(Tier.ANATOMY), RATE_HZ)


@functools.cache
def recorded() -> Annotated:
    """About 30 records each of sinus rhythm, fibrillation, premature beats and pacing, tier T1d, 500 Hz.

    Of recorders with a low-pass at 40 or 150 Hz, in equal parts: behind the former, small spikes cannot be seen.
    """
    recorder = Acquisition(lowpass_hz=(40.0, 150.0), lowpass_shares=(0.5, 0.5))
    made_by = dataclasses.replace(recipe(Tier.ACQUISITION, only(*RECORDED)), acquisition=recorder)
    return annotate(SEED + 3, np.arange(30 * len(RECORDED)), made_by, 500)


def r_peaks_s(records: Annotated, row: int) -> np.ndarray:
    """The R peaks of a record that lie inside it."""
    peaks_s = records.fiducials_s[row, :, 1, 1]
    seconds = records.clean_mv.shape[1] / records.sample_rate_hz
    return peaks_s[(peaks_s > 0) & (peaks_s < seconds)]


def reading(records: Annotated, row: int) -> wfdb_checker.Reading | None:
    """What the checker reads on a record."""
    filtered_mv = wfdb_checker.band_passed(records.clean_mv[row], records.sample_rate_hz)
    age_years, male = records.patient["age_years"][row], records.patient["is_female"][row] < 0.5
    return wfdb_checker.measure(filtered_mv, records.sample_rate_hz, r_peaks_s(records, row), age_years, male)


@functools.cache
def population_readings() -> list[wfdb_checker.Reading | None]:
    """What the checker reads on the first 700 of the unconditional patients."""
    return [reading(population(), row) for row in range(700)]
