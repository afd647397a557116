"""The stand-in target for machines without real recordings: our own generator, another population, other noise.

It is not real ECG and every record says so. It differs from the pretraining source in its patients (older, faster,
left-axis, flatter T waves, less dipolar) and in its noise.
"""

from __future__ import annotations

import dataclasses

import jax
import numpy as np

from ecg_jax.data.ecg import RecordPool
from ecg_jax.data.preprocess import chain_matrix, to_counts
from ecg_jax.data.synthetic.physiology import leads
from ecg_jax.data.synthetic.physiology.patient import Population
from ecg_jax.data.synthetic.physiology.sampling import Grid
from ecg_jax.data.synthetic.randomness.draws import record_keys
from ecg_jax.data.synthetic.render import generator
from ecg_jax.data.synthetic.render.source import BLOCK_RECORDS, GUARD_SAMPLES, RENDER_RATE_HZ, on_host, render_draft
from ecg_jax.data.synthetic.render.tiers import Recipe

SOURCE = "stand-in (not real)"
STANDIN_SEED = 20_071
FOLDS = 10
#: One patient in this many has a second recording.
PATIENTS_PER_REPEAT = 8

#: An invented clinic. Only its distance from `ADULT` matters.
CLINIC = Population(
    "stand-in clinic",
    age_years=(55.0, 90.0),
    female_fraction=0.4,
    heart_rate_median_bpm=80.0,
    heart_rate_log_sd=0.2,
    pr_median_ms=172.0,
    qrs_mean_ms=99.0,
    qrs_sd_ms=13.0,
    qtcf_mean_ms=420.0,
    qtcf_sd_ms=26.0,
    t_peak_to_end_mean_ms=96.0,
    t_peak_to_end_sd_ms=14.0,
    qrs_axis_median_deg=5.0,
    qrs_axis_sd_left_deg=35.0,
    qrs_axis_sd_right_deg=45.0,
    p_axis_mean_deg=48.0,
    t_axis_mean_deg=70.0,
    t_axis_sd_deg=55.0,
    sdnn_median_ms=24.0,
    heart_tilt_sd_deg=25.0,
    body_gain_log_sd=0.3,
    t_young_men_mv=0.4,
    t_gain_log_sd=0.5,
    kernel_gain_log_sd=0.35,
    kernel_direction_sd=0.45,
    kernel_width_log_sd=0.15,
    lead_field_sd=0.2,
    nondipolar_fraction=0.25,
)


@dataclasses.dataclass(frozen=True)
class ElectrodeNoise:
    """Noise of one recording, drawn per electrode: root mean square in mV before filtering. Invented."""

    wander_median_mv: float = 0.08
    muscle_median_mv: float = 0.02
    powerline_median_mv: float = 0.01
    log_sd: float = 0.5
    wander_hz: tuple[float, float] = (0.05, 0.8)
    wander_tones: int = 16
    powerline_hz: float = 50.0


NOISE = ElectrodeNoise()


def _electrode_noise(patient: int, visit: int, samples: int, noise: ElectrodeNoise) -> np.ndarray:
    """Wander (1/f tones), muscle noise (white, swelling and ebbing) and mains hum in mV, `(samples, electrodes)`."""
    rng = np.random.Generator(np.random.Philox(key=[STANDIN_SEED, 2 * int(patient) + int(visit)]))
    electrodes = len(leads.ELECTRODES)
    time_s = np.arange(samples) / RENDER_RATE_HZ
    wander_mv, muscle_mv, hum_mv = (
        median * np.exp(noise.log_sd * rng.standard_normal(electrodes))
        for median in (noise.wander_median_mv, noise.muscle_median_mv, noise.powerline_median_mv)
    )
    tone_hz = rng.uniform(*noise.wander_hz, noise.wander_tones)
    tone_gain = rng.standard_normal((2, noise.wander_tones, electrodes)) / tone_hz[:, None]
    tone_gain *= wander_mv / np.sqrt((tone_gain**2).sum((0, 1)) / 2)
    angle = 2 * np.pi * time_s[:, None] * tone_hz
    wander = np.cos(angle) @ tone_gain[0] + np.sin(angle) @ tone_gain[1]
    swell = np.exp(0.7 * np.sin(2 * np.pi * time_s[:, None] * 0.15 + rng.uniform(0, 2 * np.pi, electrodes)))
    muscle = muscle_mv * swell * rng.standard_normal((samples, electrodes))
    phase = rng.uniform(0, 2 * np.pi, electrodes)
    hum = np.sqrt(2) * hum_mv * np.sin(2 * np.pi * noise.powerline_hz * time_s[:, None] + phase)
    return (wander + muscle + hum).astype(np.float32)


CLINIC_RECIPE = Recipe(population=CLINIC, anatomy=1.0, residual=1.0, breathing=1.0)
_keys = jax.jit(record_keys)
_visit_keys = jax.jit(jax.vmap(jax.random.fold_in))
_draw = jax.jit(generator.draw, static_argnames=("recipe", "seconds"))


def _clean_block(patients: np.ndarray, visits: np.ndarray, grid: Grid) -> np.ndarray:
    """Noise-free leads I, II, V1–V6 in mV of one whole block of recordings, `(B, 8, samples)`."""
    patients, visits = patients.astype(np.uint32), visits.astype(np.uint32)
    patient_keys = _keys(np.uint32(STANDIN_SEED), np.zeros_like(patients), patients)
    draft = _draw(patient_keys, _visit_keys(patient_keys, visits), None, recipe=CLINIC_RECIPE, seconds=grid.seconds)
    return np.asarray(render_draft(draft, CLINIC_RECIPE, None, grid)[0])


def _noisy_block(patients: np.ndarray, visits: np.ndarray, chain: np.ndarray, grid: Grid) -> np.ndarray:
    """One block of up to 32 recordings, preprocessed to int16 counts."""
    count = len(patients)
    patients, visits = (
        np.pad(ids, (0, BLOCK_RECORDS - count)) for ids in (patients, visits)
    )  # one shape, one rounding
    clean_BxLxS = on_host(_clean_block, patients, visits, grid).result()
    noise = np.stack([_electrode_noise(*ids, grid.samples, NOISE) for ids in zip(patients, visits)])
    noisy_BxSx8 = np.swapaxes(clean_BxLxS, 1, 2) + noise @ leads.ELECTRODES_TO_LEADS.T
    filtered = np.einsum("ts,bsl->btl", chain, noisy_BxSx8, optimize=True)[:count]
    return to_counts(leads.twelve_leads(filtered))


def standin_pool(patients: int, sample_rate_hz: int = 100, seconds: int = 10) -> RecordPool:
    """The stand-in target: recordings of `patients` patients in ten folds, every eighth patient recorded twice.

    Deterministic, and nested: the first patients of a larger pool are those of a smaller one. Values in mV, labels
    empty. Raises ValueError when there is not at least one patient per fold.
    """
    if patients < FOLDS:
        raise ValueError(f"patients is {patients}: the stand-in needs at least one for each of its {FOLDS} folds")
    repeats = 1 + (np.arange(patients) % PATIENTS_PER_REPEAT == PATIENTS_PER_REPEAT - 1)
    patient = np.repeat(np.arange(patients), repeats)
    visit = np.concatenate([np.arange(count) for count in repeats])
    chain = chain_matrix(seconds, RENDER_RATE_HZ, sample_rate_hz, GUARD_SAMPLES)
    grid = Grid(RENDER_RATE_HZ, seconds, GUARD_SAMPLES)
    blocks = [
        _noisy_block(patient[start : start + BLOCK_RECORDS], visit[start : start + BLOCK_RECORDS], chain, grid)
        for start in range(0, len(patient), BLOCK_RECORDS)
    ]
    return RecordPool(
        source=SOURCE,
        sample_rate_hz=sample_rate_hz,
        ecg=np.concatenate(blocks),
        record_id=np.array([f"standin/{number:05d}" for number in range(1, len(patient) + 1)]),
        patient_id=patient.astype(np.int64) + 1,
        fold=(patient % FOLDS + 1).astype(np.int64),
        unit=np.full(len(patient), "mV"),
        labels=((),) * len(patient),
    )
