"""Third stage: what each conducted beat looks like. Gaussian kernels, each a vector in space, moved by event trains.

One kernel is one phase of activation with a direction. Sampled through the lead field they become weights before any
sample is computed, so anatomy, shape and disease cost nothing per sample.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np

from ecg_jax.data.synthetic.constants import declare
from ecg_jax.data.synthetic.physiology import wide_beats
from ecg_jax.data.synthetic.physiology.conditions import Conditions, Rhythm
from ecg_jax.data.synthetic.physiology.kernels import (
    AVL,
    P_WAVE,
    QRS,
    QRS_WIDE,
    ST_AT_J,
    T_AT_PEAK,
    T_SHARES,
    T_WIDE,
    V1,
    V3,
    V5,
    V6,
    Fiducials,
    LEADS_12x3,
    P,
    T,
    Waves,
    limits_s,
    over_time,
    rotation_to_axis,
    st_timing_s,
    t_timing_s,
    tilted,
    turned,
)
from ecg_jax.data.synthetic.physiology.morphology_table import (
    NORMAL_T,
    P_THRESHOLD_MV,
    QRS_THRESHOLD_MV,
    Goal,
    Shape,
    shape_of,
    within,
)
from ecg_jax.data.synthetic.physiology.patient import Patient, Population
from ecg_jax.data.synthetic.randomness.draws import cut, truncated_normal

__all__ = [
    "CENTRE_MS", "KERNELS", "QRS", "QRS_ONSET_MS", "QRS_WIDE", "T_WIDE", "VECTOR_MV", "WIDTH_MS",
    "Fiducials", "P", "T", "Waves", "fiducials", "sample_waves",
]  # fmt: skip

#: A refit, with centres and widths shared by the three axes, of the adult vectorcardiogram of Sameni et al., EURASIP J
#: Adv Signal Process 2007:43407 (relative error 5 to 8 %). Times from the R peak, at an RR interval of 1 s. The QRS
#: complex of normal beats is its; its P and T waves are those of one subject and lie outside normal limits.
CENTRE_MS = np.array([-153, -127, -38, -24, -9, -1, 8, 14, 198, 242, 275], np.float32)
WIDTH_MS = np.array([20.1, 14.6, 40.7, 7.9, 9.3, 4.3, 5.3, 8.2, 99.5, 33.3, 25.2], np.float32)
VECTOR_MV = np.array(
    [  # X left, Y inferior, Z posterior
        [0.0435, 0.0320, -0.1160],
        [0.0573, -0.0213, -0.0212],
        [-0.0048, -0.0024, 0.0415],
        [-0.3046, 0.1378, -0.4138],
        [1.0306, 0.3326, 0.0168],
        [0.4866, 0.2545, -0.0380],
        [0.8264, -0.0898, -0.0657],
        [0.0057, -0.2383, 0.4857],
        [0.1459, 0.0556, -0.2758],
        [0.2561, 0.0305, -0.3605],
        [0.2871, 0.0181, 0.0141],
    ],
    np.float32,
)
KERNELS = len(CENTRE_MS)
#: The table's QRS exceeds 20 µV of vector magnitude from here on.
QRS_ONSET_MS = -44.0

#: Where voltages are measured, as shares of the QRS duration and of the P wave's; and a Gaussian low-pass that stands
#: for the 40 Hz of the preprocessing.
_QRS_GRID = np.linspace(0.0, 1.04, 40).astype(np.float32)
_P_GRID = np.linspace(0.1, 0.9, 17).astype(np.float32)
LOW_PASS_S = 0.004
#: The most that normal waves reach, mV: below the limits of enlargement, of ST elevation and of tall T waves
#: (AHA/ACCF/HRS 2009, part IV: T below 1.0 mV in most precordial leads, up to 1.4 mV in V2; how near is design).
P_MAX_MV, P_V1_MIN_MV, ST_MAX_MV, T_LIMB_MAX_MV, T_PRECORDIAL_MAX_MV = 0.21, 0.06, 0.035, 0.5, 1.1
#: ST limits in V2–V3 in men under 40, in other men and in women (Fourth Universal Definition of MI).
ST_LIMIT_MV = (0.25, 0.20, 0.15)
CORNELL_LIMIT_MV = (2.8, 2.0)  # men, women
#: Normal ST segments rise by up to this share of the T wave (design).
ST_PER_T = 0.08
#: Of atrial repolarisation against the P wave, opposite to it (design).
ATRIAL_T, ATRIAL_T_CENTRE, ATRIAL_T_WIDTH = -0.10, 1.75, 0.5
#: T's normal directions, such that a size of 1 is 1 mV in the tallest of the precordial leads.
_T_VECTOR = np.array(NORMAL_T, np.float32)
_T_VECTOR = T_SHARES[:, None] * _T_VECTOR / float((LEADS_12x3[6:] @ ((T_SHARES * T_AT_PEAK) @ _T_VECTOR)).max())


#: The wave of each of the thirteen kernels that vary: P (2), QRS (8), T (3); a T wave's width varies half as much.
_WAVE = np.repeat([0, 1, 2], [2, 8, 3])
_WIDTH_SPREAD = np.where(_WAVE == 2, 0.5, 1.0).astype(np.float32)


def _needed(goal: Goal, amplitude_mv: jax.Array, present_12: jax.Array, unit_12: jax.Array) -> jax.Array:
    """How much of a vector with projections `unit_12` takes every lead of a goal from `present_12` to its amplitude."""
    toward = goal.sign * unit_12[goal.leads]
    missing = amplitude_mv - goal.sign * present_12[goal.leads]
    return jnp.maximum((missing / jnp.maximum(toward, jnp.maximum(0.05 * jnp.abs(unit_12).max(), 1e-4))).max(), 0.0)


def _voltage_gain(leads_Tx12: jax.Array, bounds_5x2: jax.Array, cornell_mv: jax.Array, draw: jax.Array) -> jax.Array:
    """The gain that takes a QRS complex within its morphology's voltage limits."""
    top, bottom = leads_Tx12.max(0), leads_Tx12.min(0)
    swing = top - bottom
    measures = jnp.stack(
        [
            swing[:6].max(),
            swing[6:].max(),
            (top[AVL] - bottom[V3]) / cornell_mv,
            jnp.maximum(top[V5], top[V6]) - bottom[V1],
            top[V1],
        ]
    )
    measures = jnp.maximum(measures, 1e-3)
    low, high = bounds_5x2.T
    return jnp.clip(1.0, (low * (1.0 + 0.25 * draw) / measures).max(), (high * (1.0 - 0.25 * draw) / measures).min())


def _oriented(vector: jax.Array, width_s: jax.Array, shape: Shape, patient: Patient, axes_deg: jax.Array) -> jax.Array:
    """Tilts the thirteen kernels of P (2), QRS (8) and T (3) and turns each wave to its own frontal axis (3,)."""
    vector = tilted(vector, shape.spread * patient.tilt_x_deg, shape.spread * patient.tilt_y_deg)
    area = width_s[:, None] * vector
    areas_3x3 = jnp.stack([area[:2].sum(0), area[2:7].sum(0), area[10:].sum(0)])
    fixed_3x3 = jnp.zeros((3, 3)).at[1].set((1.0 - shape.solved[5]) * area[7])
    angles = jax.vmap(rotation_to_axis)(areas_3x3, axes_deg, fixed_3x3)
    angle = jnp.concatenate([angles, jnp.zeros(1)])[np.repeat([0, 1, 3, 2], [2, 5, 3, 3])]
    return turned(vector, angle, 0, 1)


def _p_vectors(
    vector: jax.Array, centre_s: jax.Array, width_s: jax.Array, draw: jax.Array, shape: Shape, patient: Patient
) -> jax.Array:
    """The P wave's two vectors, brought within the limits of their morphology."""
    projected_2x12 = patient.body_gain * vector @ LEADS_12x3.T
    leads_Tx12 = over_time(centre_s, width_s, 1e-3 * patient.p_duration_ms * _P_GRID) @ projected_2x12
    top, v1_depth = leads_Tx12.max(0), jnp.maximum(-leads_Tx12[:, V1].min(), 1e-3)
    goal = shape.p_goal
    amplitude = within(goal.range_mv, draw)
    first_at_second = jnp.exp(-0.5 * ((centre_s[1] - centre_s[0]) / width_s[0]) ** 2)
    left = _needed(goal, amplitude, first_at_second * projected_2x12[0], projected_2x12[1])
    normal = jnp.minimum(1.0, jnp.minimum(P_MAX_MV / top.max(), P_V1_MIN_MV / v1_depth))
    right = amplitude / jnp.maximum(top[goal.leads[0]], 0.02)
    both = jnp.where(goal.sign > 0, right, jnp.where(goal.sign < 0, 1.0, normal))
    return vector * jnp.stack([both, jnp.where(goal.sign < 0, left, both)])[:, None]


def _qrs_vectors(
    vector: jax.Array, centre_s: jax.Array, width_s: jax.Array, draws: jax.Array, shape: Shape, patient: Patient
) -> jax.Array:
    """The eight QRS vectors, brought within the voltage limits, with the solved one at the size that its goal asks."""
    duration_s = 1e-3 * patient.qrs_ms
    solved_3 = shape.solved @ vector
    vector = vector * (1.0 - shape.solved[:, None])
    projected_8x12 = patient.body_gain * vector @ LEADS_12x3.T
    time_s = jnp.append(duration_s * _QRS_GRID, shape.solved @ centre_s)
    bank = over_time(centre_s, width_s, time_s, LOW_PASS_S)
    cornell_mv = jnp.where(patient.is_female > 0.5, CORNELL_LIMIT_MV[1], CORNELL_LIMIT_MV[0])
    leads_Tx12 = bank @ projected_8x12
    gain = _voltage_gain(leads_Tx12[:-1], shape.voltage, cornell_mv, draws[0])
    amount = _needed(
        shape.qrs_goal,
        within(shape.qrs_goal.range_mv, draws[1]),
        gain * leads_Tx12[-1],
        (bank[-1] @ shape.solved) * patient.body_gain * (LEADS_12x3 @ solved_3),
    )
    return gain * vector + amount * shape.solved[:, None] * solved_3


def _t_vectors(normal: jax.Array, draws: jax.Array, shape: Shape, patient: Patient) -> jax.Array:
    """The vectors of the ST segment and of the T wave's three kernels, `(4, 3)`."""
    to_leads = patient.body_gain * LEADS_12x3
    at_peak = to_leads @ (T_AT_PEAK @ normal)
    tallest = jnp.maximum(at_peak[:6].max() / T_LIMB_MAX_MV, at_peak[6:].max() / T_PRECORDIAL_MAX_MV)
    normal = normal / jnp.maximum(tallest, 1.0)
    peak = T_AT_PEAK @ normal

    keep = within(shape.t_keep, draws[0])
    added = shape.t_add_mv * (0.75 + 0.5 * draws[1])
    amount = _needed(shape.t_goal, within(shape.t_goal.range_mv, draws[1]), keep * to_leads @ peak, to_leads @ added)
    added = added * jnp.where(shape.t_goal.sign == 0, 1.0, amount)

    direction = shape.st * (1.0 + 0.15 * (2.0 * draws[3:6] - 1.0))
    of_men = jnp.where(patient.age_years < 40.0, ST_LIMIT_MV[0], ST_LIMIT_MV[1])
    limit_mv = jnp.where(patient.is_female > 0.5, ST_LIMIT_MV[2], of_men)
    st_mv = within(shape.st_goal.range_mv, draws[2]) * jnp.where(shape.st_sexed > 0.5, limit_mv, 1.0) / ST_AT_J
    st = direction * _needed(shape.st_goal, st_mv, jnp.zeros(12), to_leads @ direction)
    share = ST_PER_T * draws[2] * jnp.minimum(1.0, ST_MAX_MV / jnp.abs(ST_PER_T * to_leads @ peak).max())
    st = jnp.where(shape.st_goal.sign == 0, share * keep * peak, st)
    return jnp.concatenate([st[None], keep * normal + jnp.asarray(T_SHARES)[:, None] * added])


def sample_waves(
    row: jax.Array,
    patient: Patient,
    population: Population,
    conditions: Conditions | None = None,
) -> Waves:
    """One patient's conducted beat: the narrow bank of 16 kernels, from a row of uniform draws.

    The morphology's table is fitted to the patient's intervals and axes, varied, and brought within the limits that its
    definition sets in the leads. Without conditions it is the normal beat.
    """
    shape = shape_of(conditions)
    draws, spike_draws, normals = cut(row, (9,), (3,), (3 + 13 * 5,))
    z_wave, z_gain, z_width, z_direction = cut(truncated_normal(normals), (3,), (13,), (13,), (13, 3))

    p_s, qrs_s = 1e-3 * patient.p_duration_ms, 1e-3 * patient.qrs_ms
    t_centre_s, t_width_s, _ = t_timing_s(patient.qtcf_ms, patient.t_peak_to_end_ms)
    centre_s = jnp.concatenate([p_s * shape.p[:, 0], qrs_s * shape.qrs[:, 0], t_centre_s])
    width_s = jnp.concatenate([p_s * shape.p[:, 1], qrs_s * shape.qrs[:, 1], t_width_s])
    width_s = width_s * jnp.exp(shape.spread * population.kernel_width_log_sd * z_width * _WIDTH_SPREAD)

    vector = jnp.concatenate([shape.p[:, 2:], shape.qrs[:, 2:], jnp.asarray(_T_VECTOR)])
    size = jnp.sqrt((vector**2).sum(-1, keepdims=True) / 3.0)
    log_sd = jnp.array([population.p_gain_log_sd, population.qrs_gain_log_sd, population.t_gain_log_sd])
    of_sex = jnp.where(patient.is_female > 0.5, population.qrs_female_gain, 1.0)
    of_wave = jnp.stack([jnp.ones(()), of_sex, population.t_size_mv(patient.age_years, patient.is_female)])
    log_gain = (log_sd * z_wave)[_WAVE] + shape.spread * population.kernel_gain_log_sd * z_gain
    vector = vector + shape.spread * population.kernel_direction_sd * size * z_direction
    vector = (of_wave[_WAVE] * jnp.exp(log_gain))[:, None] * vector
    axes_deg = jnp.stack([patient.p_axis_deg, patient.qrs_axis_deg, patient.t_axis_deg])
    vector = _oriented(vector, width_s, shape, patient, axes_deg)

    of_p, of_qrs, of_t = slice(0, 2), slice(2, 10), slice(10, 13)
    p = _p_vectors(vector[of_p], centre_s[of_p], width_s[of_p], draws[0], shape, patient)
    qrs = _qrs_vectors(vector[of_qrs], centre_s[of_qrs], width_s[of_qrs], draws[1:3], shape, patient)
    t = _t_vectors(vector[of_t], draws[3:], shape, patient)
    st_s, st_width_s = st_timing_s(1e3 * qrs_s, patient.qtcf_ms, patient.t_peak_to_end_ms, jnp.cbrt(patient.mean_rr_s))
    spike_s, spike_mv = wide_beats.spike(spike_draws, wide_beats.ATRIAL_SPIKE_DIRECTION)
    if conditions is None:
        spike_mv = jnp.zeros(3)
    else:
        paced = (conditions.rhythm == Rhythm.PACED_ATRIAL) | (conditions.rhythm == Rhythm.PACED_DUAL)
        spike_mv = jnp.where(paced, spike_mv, 0.0)

    def in_bank(of_13: jax.Array, of_atrial_t: jax.Array, of_spike: jax.Array | float, of_st: jax.Array) -> jax.Array:
        single = [jnp.asarray(value)[None] for value in (of_atrial_t, of_spike, of_st)]
        return jnp.concatenate([of_13[of_p], single[0], single[1], of_13[of_qrs], single[2], of_13[of_t]])

    return Waves(
        centre_s=in_bank(centre_s, p_s * ATRIAL_T_CENTRE, spike_s, st_s),
        width_s=in_bank(width_s, p_s * ATRIAL_T_WIDTH, wide_beats.SPIKE_WIDTH_S, st_width_s),
        vector_mv=jnp.concatenate([p, ATRIAL_T * p.sum(0, keepdims=True), spike_mv[None], qrs, t]),
    )


def fiducials(waves: Waves, patient: Patient) -> Fiducials:
    """Onsets, peaks and ends of a narrow bank's waves, where their vector magnitude passes a threshold.

    The T wave's onset and end are the interval's: the end is that of the steepest tangent at its descent.
    """
    grid_s = jnp.asarray(np.arange(-0.04, 0.24, 0.002), jnp.float32)
    return Fiducials(
        limits_s(waves, P_WAVE, grid_s, P_THRESHOLD_MV),
        limits_s(waves, slice(QRS.start, QRS.stop - 1), grid_s, QRS_THRESHOLD_MV),
        t_timing_s(patient.qtcf_ms, patient.t_peak_to_end_ms)[2],
    )


declare(
    "morphology",
    vars(),
    "CENTRE_MS WIDTH_MS VECTOR_MV KERNELS QRS_ONSET_MS _QRS_GRID _P_GRID LOW_PASS_S P_MAX_MV P_V1_MIN_MV ST_MAX_MV "
    "T_LIMB_MAX_MV T_PRECORDIAL_MAX_MV ST_LIMIT_MV CORNELL_LIMIT_MV ST_PER_T ATRIAL_T ATRIAL_T_CENTRE "
    "ATRIAL_T_WIDTH _T_VECTOR _WAVE _WIDTH_SPREAD",
)
