"""Beats that start in the ventricle: ectopic, escape and paced complexes with their discordant T waves, and spikes."""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp
import numpy as np

from ecg_jax.data.synthetic.constants import declare
from ecg_jax.data.synthetic.physiology.conditions import Conditions, Rhythm
from ecg_jax.data.synthetic.physiology.kernels import (
    QRS_WIDE,
    T_SHARES,
    VENTRICULAR_SPIKE,
    Fiducials,
    Waves,
    limits_s,
    st_timing_s,
    t_timing_s,
    tilted,
)
from ecg_jax.data.synthetic.physiology.morphology_table import QRS_THRESHOLD_MV, Kernel, to_unit, within
from ecg_jax.data.synthetic.physiology.patient import Patient
from ecg_jax.data.synthetic.randomness.draws import cut, truncated_normal

#: Ventricular beats: four QRS kernels each, in ms; a slow start, then a steep and notched complex (design). The
#: secondary T wave opposes the QRS complex.
WIDE_ORIGINS: tuple[tuple[Kernel, ...], ...] = (
    (  # left ventricle, lateral: right bundle branch block pattern, axis to the right and down
        (24.0, 9.0, -0.25, 0.25, -0.30),
        (54.0, 10.0, -1.01, 1.01, -1.08),
        (83.0, 11.0, -0.88, 0.69, -0.69),
        (116.0, 12.0, -0.25, 0.15, -0.05),
    ),
    (  # left ventricle, inferior: right bundle branch block pattern, axis up
        (24.0, 9.0, 0.10, -0.30, -0.30),
        (54.0, 10.0, 0.41, -1.28, -1.08),
        (83.0, 11.0, -0.31, -1.06, -0.81),
        (116.0, 12.0, -0.15, -0.30, -0.05),
    ),
    (  # right ventricular outflow tract: left bundle branch block pattern, axis down
        (24.0, 9.0, 0.10, 0.35, -0.05),
        (54.0, 10.0, 0.61, 1.49, 0.88),
        (83.0, 11.0, 0.50, 1.19, 0.88),
        (116.0, 12.0, 0.15, 0.25, 0.20),
    ),
    (  # right ventricle, free wall: left bundle branch block pattern, axis to the left
        (24.0, 9.0, 0.25, -0.05, -0.10),
        (54.0, 10.0, 1.35, -0.34, 1.15),
        (83.0, 11.0, 1.19, -0.50, 1.06),
        (116.0, 12.0, 0.25, -0.15, 0.20),
    ),
    (  # paced at the apex of the right ventricle: left bundle branch block pattern, axis to the left and up
        (24.0, 9.0, 0.10, -0.35, 0.10),
        (54.0, 10.0, 0.74, -1.15, 1.08),
        (87.0, 12.0, 0.88, -0.94, 1.06),
        (120.0, 12.0, 0.20, -0.20, 0.25),
    ),
)
PACED_ORIGIN = len(WIDE_ORIGINS) - 1
_WIDE_TABLE = np.stack([to_unit(np.array(o), QRS_THRESHOLD_MV) for o in WIDE_ORIGINS]).astype(np.float32)
WIDE_QRS_MS = (128.0, 178.0)
#: Of the secondary T wave and ST segment against the net QRS vector (its area over its duration), design.
T_PER_QRS, ST_PER_QRS = (-0.9, -0.6), (-0.30, -0.15)
#: A pacing spike: 0.5 ms between its points of inflection; 0.5 (bipolar leads) to 8 mV, 10 to 30 ms before its wave.
SPIKE_WIDTH_S, SPIKE_MV, SPIKE_LEAD_S = 0.25e-3, (0.5, 8.0), (0.010, 0.030)
#: The dipole between the electrode's tip and its ring or can, by chamber: from the atrium's appendage, the apex.
ATRIAL_SPIKE_DIRECTION, VENTRICULAR_SPIKE_DIRECTION = (0.35, 0.75, -0.20), (-0.45, -0.70, 0.25)


def spike(draws_3: jax.Array, direction: tuple[float, float, float]) -> tuple[jax.Array, jax.Array]:
    """Centre (s, before its wave) and vector (mV, 3) of a pacing spike."""
    size = SPIKE_MV[0] * (SPIKE_MV[1] / SPIKE_MV[0]) ** draws_3[0]
    polarity = jnp.where(draws_3[2] < 0.5, -1.0, 1.0)
    unit = np.array(direction, np.float32) / np.linalg.norm(direction)
    return -within(SPIKE_LEAD_S, draws_3[1]), polarity * size * unit


def sample_wide(row: jax.Array, patient: Patient, conditions: Conditions) -> Waves:
    """The patient's ventricular beats: 9 kernels, from one origin, from a row of uniform draws.

    Ectopic and escape beats share an origin; paced ones begin at the apex of the right ventricle, after a spike.
    """
    origin_draw, qrs_draw, t_draw, st_draw, spike_draws, gain, kernel_gain, direction, width, tilt = cut(
        row, (), (), (), (), (3,), (), (4,), (4, 3), (4,), (2,)
    )
    paced = (conditions.rhythm == Rhythm.PACED_VENTRICULAR) | (conditions.rhythm == Rhythm.PACED_DUAL)
    origin = jnp.where(paced, PACED_ORIGIN, (origin_draw * PACED_ORIGIN).astype(jnp.int32))
    table = jnp.asarray(_WIDE_TABLE)[origin]
    qrs_ms = within(WIDE_QRS_MS, qrs_draw)
    width_s = 1e-3 * qrs_ms * table[:, 1] * jnp.exp(0.06 * truncated_normal(width))
    size = jnp.sqrt((table[:, 2:] ** 2).sum(-1, keepdims=True) / 3.0)
    vector = table[:, 2:] + 0.12 * size * truncated_normal(direction)
    gains = jnp.exp(0.18 * truncated_normal(gain) + 0.08 * truncated_normal(kernel_gain))
    tilt_x, tilt_y = 10.0 * truncated_normal(tilt)
    vector = tilted(gains[:, None] * vector, tilt_x, tilt_y)
    net = (width_s[:, None] * vector).sum(0) * math.sqrt(2.0 * math.pi) / (1e-3 * qrs_ms)
    t_centre_s, t_width_s, _ = t_timing_s(patient.qtcf_ms, patient.t_peak_to_end_ms)
    st_centre_s, st_width_s = st_timing_s(
        qrs_ms, patient.qtcf_ms, patient.t_peak_to_end_ms, jnp.cbrt(patient.mean_rr_s)
    )
    spike_centre_s, spike_mv = spike(spike_draws, VENTRICULAR_SPIKE_DIRECTION)
    t_mv = within(T_PER_QRS, t_draw) * net * jnp.asarray(T_SHARES)[:, None]
    st_mv = within(ST_PER_QRS, st_draw) * net
    return Waves(
        centre_s=jnp.concatenate([1e-3 * qrs_ms * table[:, 0], spike_centre_s[None], st_centre_s[None], t_centre_s]),
        width_s=jnp.concatenate([width_s, jnp.full((1,), SPIKE_WIDTH_S), st_width_s[None], t_width_s]),
        vector_mv=jnp.concatenate([vector, jnp.where(paced, spike_mv, 0.0)[None], st_mv[None], t_mv]),
    )


def wide_fiducials(waves: Waves, patient: Patient) -> Fiducials:
    """Onsets, peaks and ends of a wide bank's waves (no P wave: NaN), as `morphology.fiducials`."""
    grid_s = jnp.asarray(np.arange(-0.04, 0.28, 0.002), jnp.float32)
    return Fiducials(
        jnp.full(3, jnp.nan),
        limits_s(waves, slice(QRS_WIDE.start, VENTRICULAR_SPIKE), grid_s, QRS_THRESHOLD_MV),
        t_timing_s(patient.qtcf_ms, patient.t_peak_to_end_ms)[2],
    )


declare(
    "pathology",
    vars(),
    "WIDE_ORIGINS PACED_ORIGIN _WIDE_TABLE WIDE_QRS_MS T_PER_QRS ST_PER_QRS SPIKE_WIDTH_S SPIKE_MV SPIKE_LEAD_S "
    "ATRIAL_SPIKE_DIRECTION VENTRICULAR_SPIKE_DIRECTION",
)
