"""Tier T0: ECGSYN in closed form, in twelve leads. One beat for everybody; only heart rate, its variability and
breathing differ between records.

McSharry, Clifford, Tarassenko and Smith, IEEE Trans Biomed Eng 50:289, 2003, integrate dz/dt = -Σ a Δθ exp(-Δθ²/2b²)
- (z - z0). Along a beat of constant angular velocity ω the sum is the derivative of Σ (ab²/ω) exp(-Δθ²/2b²), so z is
that sum of Gaussians behind a first-order high-pass, plus z0 behind a first-order low-pass, both with τ = 1 s.
"""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp
import numpy as np

from ecg_jax.data.synthetic.constants import declare
from ecg_jax.data.synthetic.physiology import rhythm
from ecg_jax.data.synthetic.physiology.leads import DOWER
from ecg_jax.data.synthetic.physiology.morphology import CENTRE_MS, VECTOR_MV, WIDTH_MS
from ecg_jax.data.synthetic.physiology.patient import Patient

#: P, Q, R, S, T at 60 beats per minute, as the authors' Matlab release 1.0 has them (the paper and the C release put P
#: at -60° and T at 90°), because the scaling below is that release's too.
ANGLE_RAD = np.deg2rad(np.array([-70.0, -15.0, 0.0, 15.0, 100.0], np.float32))
STRENGTH = np.array([1.2, -5.0, 30.0, -7.5, 0.75], np.float32)
WIDTH_RAD = np.array([0.25, 0.1, 0.1, 0.1, 0.4], np.float32)
#: Angles grow with these powers of h = √(heart rate / 60), widths with the first.
ANGLE_POWER = np.array([0.5, 1.0, 0.0, 1.0, 0.5], np.float32)
#: Amplitudes ab²/ω of the Gaussians, in the unit of ECGSYN's z. Widths grow with h and h² = 1 / RR, so at a constant
#: RR interval the heart rate does not change them.
DIRECT_AMPLITUDE = STRENGTH * WIDTH_RAD**2 / np.float32(2.0 * np.pi)
TIME_CONSTANT_S = 1.0
#: Amplitude of z0 in the paper, in mV.
RESPIRATION_MV = 0.15
#: From the onset of the QRS complex to the R peak, as in the table of morphology at a QRS duration of 79 ms.
R_PEAK_AFTER_ONSET_S = 0.044

#: Samples per block of the high-pass: within a block and between blocks it is a small matrix product.
_BLOCK = 20


def _population_vectors_mv() -> np.ndarray:
    """Vectors (5, 3) with which ECGSYN's kernels at 60 beats per minute come closest to the table of morphology."""
    time_ms = np.arange(-400.0, 600.0)
    table = np.exp(-0.5 * ((time_ms[:, None] - CENTRE_MS) / WIDTH_MS) ** 2) @ VECTOR_MV
    angle = 2.0 * np.pi * time_ms[:, None] / 1000.0
    kernels = np.exp(-0.5 * ((angle - ANGLE_RAD) / WIDTH_RAD) ** 2)
    return np.linalg.lstsq(kernels, table, rcond=None)[0].astype(np.float32)


#: mV, (5, 3): X left, Y inferior, Z posterior.
POPULATION_VECTORS_MV = _population_vectors_mv()


def ecgsyn_lead(
    r_peak_s_K: jax.Array,
    mean_rr_s: jax.Array,
    weights_5xC: jax.Array,
    sample_rate_hz: int,
    samples: int,
    start_s: float = 0.0,
) -> jax.Array:
    """z of ECGSYN without z0 on a sample grid: `(samples, C)`, in the unit of the weights.

    `r_peak_s_K` ascend, from before the first sample to past the last; each interval is one turn at its own angular
    velocity. `mean_rr_s` sets h. `weights_5xC` holds amplitudes per channel at an interval of `mean_rr_s`:
    `DIRECT_AMPLITUDE` is the original. Before the record the heart is taken to have beaten as in its first beat.
    """
    h = jax.lax.rsqrt(mean_rr_s)
    centre = ANGLE_RAD * h**ANGLE_POWER
    width = WIDTH_RAD * h
    # Amplitudes follow each beat's ω, but z has no step where ω changes, at θ = 0: so the sum counts from there.
    at_zero_C = jnp.exp(-0.5 * (centre / width) ** 2) @ weights_5xC

    time_s = start_s + jnp.arange(samples, dtype=jnp.float32) / sample_rate_hz
    last = (r_peak_s_K[:, None] <= time_s).sum(0) - 1
    last_s = r_peak_s_K[last]
    rr_s = r_peak_s_K[last + 1] - last_s
    turns_5xS = (time_s - last_s) / rr_s - (centre / (2.0 * math.pi))[:, None]
    turns_5xS = turns_5xS - jnp.round(turns_5xS)
    bank_5xS = jnp.exp(turns_5xS**2 * (-0.5 * (2.0 * math.pi / width) ** 2)[:, None])
    z_CxS = (weights_5xC.T @ bank_5xS - at_zero_C[:, None]) * (rr_s / mean_rr_s)
    before_C = _past_average(time_s[0] - last_s[0], rr_s[0], centre, width, weights_5xC) - at_zero_C
    return (z_CxS - _low_pass(z_CxS, before_C * (rr_s[0] / mean_rr_s), sample_rate_hz)).T


def _past_average(
    since_r_s: jax.Array, rr_s: jax.Array, centre: np.ndarray, width: np.ndarray, weights_5xC: jax.Array
) -> jax.Array:
    """∫ exp(t/τ) g(t) dt / τ over all t < 0 of a periodic sum of Gaussians whose last R peak lies `since_r_s` back."""
    turn_s = rr_s / (2.0 * math.pi)
    sd = width * turn_s / TIME_CONSTANT_S
    mean = (centre * turn_s + jnp.array([[2.0], [1.0], [0.0], [-1.0]]) * rr_s - since_r_s) / TIME_CONSTANT_S
    share = 0.5 * jax.scipy.special.erfc((mean + sd**2) / (sd * math.sqrt(2.0)))
    area_4x5 = math.sqrt(2.0 * math.pi) * sd * jnp.exp(mean + 0.5 * sd**2) * share
    # The last row stands for its own beat and, as a geometric series, for all before it.
    older = 1.0 / (1.0 - jnp.exp(-rr_s / TIME_CONSTANT_S))
    return (area_4x5[:3].sum(0) + older * area_4x5[3]) @ weights_5xC


def _low_pass(x_CxS: jax.Array, before_C: jax.Array, sample_rate_hz: int) -> jax.Array:
    """First-order low-pass of unit gain by the trapezoidal rule, from the state `before_C` at the first sample.

    y_n = d y_{n-1} + (1-d)/2 (x_n + x_{n-1}), d = exp(-1 / rate τ), summed by blocks.
    """
    channels, samples = x_CxS.shape
    decay = math.exp(-1.0 / (sample_rate_hz * TIME_CONSTANT_S))
    blocks = math.ceil(samples / _BLOCK)
    step = 0.5 * (1.0 - decay) * (x_CxS[:, 1:] + x_CxS[:, :-1])
    drive = jnp.concatenate([before_C[:, None], step, jnp.zeros((channels, blocks * _BLOCK - samples))], axis=1)
    inside = drive.reshape(channels * blocks, _BLOCK) @ _powers(decay, _BLOCK).T
    inside = inside.reshape(channels, blocks, _BLOCK)
    ends = jnp.pad(inside[:, :-1, -1], ((0, 0), (1, 0)))  # of the block before
    carried = ends @ _powers(decay**_BLOCK, blocks).T
    fade = (decay ** np.arange(1, _BLOCK + 1)).astype(np.float32)
    return (inside + fade * carried[..., None]).reshape(channels, -1)[:, :samples]


def _powers(base: float, size: int) -> np.ndarray:
    """The lower triangle of base^(row - column), `(size, size)`."""
    exponent = np.subtract.outer(np.arange(size), np.arange(size))
    return np.where(exponent >= 0, base ** np.maximum(exponent, 0), 0.0).astype(np.float32)


def render_ecgsyn(
    trains: rhythm.Trains, patient: Patient, sample_rate_hz: int, seconds: int, guard_samples: int = 0
) -> jax.Array:
    """One record of tier T0: leads I, II, V1–V6 in mV, `(seconds * sample_rate_hz + 2 * guard_samples, 8)`.

    Uses the QRS onsets of the trains and, of the patient, heart rate and breathing. z0 points along the R wave.
    """
    samples, start_s = seconds * sample_rate_hz + 2 * guard_samples, -guard_samples / sample_rate_hz
    r_peak_s = trains.qrs_onset_s + R_PEAK_AFTER_ONSET_S
    vector = ecgsyn_lead(
        r_peak_s, patient.mean_rr_s, jnp.asarray(POPULATION_VECTORS_MV), sample_rate_hz, samples, start_s
    )
    r_wave = POPULATION_VECTORS_MV[2] / np.linalg.norm(POPULATION_VECTORS_MV[2])
    time_s = start_s + jnp.arange(samples, dtype=jnp.float32) / sample_rate_hz
    breath = respiration(time_s, patient.respiration_hz, trains.breath_phase)
    return (vector + RESPIRATION_MV * breath[:, None] * r_wave) @ DOWER.T


def respiration(time_s: jax.Array, respiration_hz: jax.Array, phase: jax.Array) -> jax.Array:
    """sin(2π f t + phase) behind the first-order low-pass, for z0 of unit amplitude."""
    lag = 2.0 * math.pi * respiration_hz * TIME_CONSTANT_S
    angle = 2.0 * math.pi * respiration_hz * time_s + phase
    return jnp.sin(angle - jnp.arctan(lag)) * jax.lax.rsqrt(1.0 + lag**2)


declare(
    "ecgsyn",
    vars(),
    "ANGLE_RAD STRENGTH WIDTH_RAD ANGLE_POWER DIRECT_AMPLITUDE TIME_CONSTANT_S RESPIRATION_MV R_PEAK_AFTER_ONSET_S "
    "_BLOCK POPULATION_VECTORS_MV",
)
