"""From a patient's anatomy and the state of the heart to the kernel rows of a beat, whatever its origin."""

from __future__ import annotations

import dataclasses
import math

import jax
import jax.numpy as jnp
import numpy as np

from ecg_jax.data.synthetic.constants import declare
from ecg_jax.data.synthetic.physiology.kernels import Fiducials, rotation_to_axis, turned
from ecg_jax.data.synthetic.physiology.patient import Patient
from ecg_jax.data.synthetic.sources import atria, repolarisation
from ecg_jax.data.synthetic.sources.anatomy import (
    P_THRESHOLD_MV,
    QRS_GRID_S,
    QRS_THRESHOLD_MV,
    Anatomy,
    limits,
    qrs_rows,
)
from ecg_jax.data.synthetic.sources.conduction import Activation, activate
from ecg_jax.data.synthetic.sources.rows import Beat, Rows
from ecg_jax.data.synthetic.sources.state import HeartState
from ecg_jax.data.synthetic.sources.ventricles import REGIONS, Region

#: The early plateau's gradient shows from within the end of the QRS complex and fades until T's peak (design: the notch
#: of the epicardium's action potential: Yan & Antzelevitch, Circulation 93:372, 1996).
EARLY_RISE_MS, EARLY_FALL_MS = 15.0, 70.0
#: An injured segment ends so long before T's peak, ms; where the J point lies on it, in widths from its middle.
ST_END_BEFORE_T_MS, ST_AT_J_Z = 20.0, 0.9
#: A J wave: a notch that ends with the QRS complex.
J_WAVE_CENTRE_MS, J_WAVE_WIDTH_MS = 4.0, 9.0
#: U: after-potentials with the same gradient as T (di Bernardo & Murray, Cardiovasc Res 53:202, 2002), peaking some
#: 100 ms after the end of T, about a tenth as high (`anatomy.U_SHARE`) and tallest in V2 to V3 (Surawicz, J Cardiovasc
#: Electrophysiol 9:1117, 1998); smaller the faster the heart.
U_AFTER_T_END_MS, U_WIDTH_MS = 95.0, 38.0
U_RATE_BPM, U_RATE_FALL_BPM = 60.0, 25.0


def beat_of(anatomy: Anatomy, patient: Patient, state: HeartState) -> Beat:
    """The beat of one patient's heart in a state: rows of P, QRS and T, and where its waves lie."""
    p, p_s = p_rows(anatomy, patient, state)
    qrs, t, qrs_s, t_s = ventricular_rows(anatomy, patient, state)
    return Beat(p, qrs, t, Fiducials(p_s, qrs_s, t_s))


def ventricular_rows(anatomy: Anatomy, patient: Patient, state: HeartState) -> tuple[Rows, Rows, jax.Array, jax.Array]:
    """The rows of QRS and of T (with J, ST and U), and where the two waves lie `(3,)` each, s.

    QRS rows count from the beat's own QRS onset, wherever its activation begins.
    """
    own = dataclasses.replace(state.conduction, jitter_ms=state.conduction.jitter_ms + anatomy.terminal_ms)
    reached = activate(own)
    strength = anatomy.strength_mv_ms * state.muscle
    qrs = qrs_rows(anatomy, reached, strength)
    onset_s, peak_s, end_s = limits(qrs, jnp.asarray(QRS_GRID_S), QRS_THRESHOLD_MV)
    qrs = dataclasses.replace(qrs, centre_s=qrs.centre_s - onset_s)
    late_ms = anatomy.time_scale * (reached.time_ms - anatomy.usual.time_ms) - 1e3 * (onset_s - anatomy.usual_onset_s)

    activated = strength[:, None] * (reached.direction @ anatomy.fronts)
    healthy = (anatomy.gradient * strength)[:, None] * anatomy.normal
    gradient = state.gradient[:, None] * healthy
    t_peak_ms = patient.qtcf_ms - patient.t_peak_to_end_ms
    later_ms = late_ms + anatomy.apd_ms + _jt_kept_ms(anatomy, patient, reached, late_ms, end_s - onset_s)
    t = repolarisation.t_rows(gradient - activated, later_ms + state.apd_ms, anatomy.field, patient)
    j_ms = 1e3 * (end_s - onset_s) / jnp.cbrt(patient.mean_rr_s) - t_peak_ms
    rest = (
        _early_plateau(anatomy, healthy - activated, j_ms),
        _injury(anatomy, state, j_ms),
        _j_wave(anatomy, state, j_ms),
        _u_wave(anatomy, patient, gradient),
    )
    qrs_s = jnp.stack([jnp.zeros_like(onset_s), peak_s - onset_s, end_s - onset_s])
    t_and_rest = jax.tree.map(lambda *parts: jnp.concatenate(parts), t, *rest)
    return qrs, t_and_rest, qrs_s, repolarisation.t_limits(t)


def _jt_kept_ms(
    anatomy: Anatomy, patient: Patient, reached: Activation, late_ms: jax.Array, qrs_s: jax.Array
) -> jax.Array:
    """By how much all regions repolarise later so that JT is that of normal conduction, whatever the conduction is.

    Activation alone would do so if T were the sum of like waves; where they cancel, its end moves. (JT does not change
    with bundle branch block: Bogossian et al., J Electrocardiol 51:1131, 2018, and what they cite; recalled.)
    """
    ends_ms = []
    for activation, later in ((reached, late_ms), (anatomy.usual, jnp.zeros(REGIONS))):
        area = (anatomy.gradient * anatomy.strength_mv_ms)[:, None] * anatomy.normal
        area = area - anatomy.strength_mv_ms[:, None] * (activation.direction @ anatomy.fronts)
        t = repolarisation.t_rows(area, later + anatomy.apd_ms, anatomy.field, patient)
        ends_ms.append(1e3 * repolarisation.t_limits(t)[2])
    widened_ms = 1e3 * (qrs_s - anatomy.usual_qrs_s) / jnp.cbrt(patient.mean_rr_s)
    return ends_ms[1] + widened_ms - ends_ms[0]


def _early_plateau(anatomy: Anatomy, healthy_area: jax.Array, j_ms: jax.Array) -> Rows:
    """The ST segment without injury: a slow share of the same repolarisation as T's, so it is discordant where T is."""
    total, field = repolarisation.merged_field(
        anatomy.plateau_share * repolarisation.NOTCH[:, None] * healthy_area, anatomy.field
    )
    rise, fall = EARLY_RISE_MS, EARLY_FALL_MS
    row = _one(j_ms, (rise + fall) / 2, 0.0, total, field)
    return dataclasses.replace(row, skew=jnp.full(1, (rise - fall) / (rise + fall)))


def _injury(anatomy: Anatomy, state: HeartState, j_ms: jax.Array) -> Rows:
    """What injury adds to the ST segment, from the J point until T: a shelf, on which T stands as a dome."""
    injured = anatomy.body_gain * repolarisation.INJURED_WALL_MV * state.injury[:, None] * anatomy.normal
    total, field = repolarisation.merged_field(injured, anatomy.field)
    width_ms = (-ST_END_BEFORE_T_MS - j_ms) / (ST_AT_J_Z + 1.085)
    return _one(j_ms + ST_AT_J_Z * width_ms, width_ms, 1.0, total, field)


def _j_wave(anatomy: Anatomy, state: HeartState, j_ms: jax.Array) -> Rows:
    """A notch at the end of the QRS complex, towards the heart's apex and diaphragm."""
    facing = anatomy.axes[0] + anatomy.axes[2]
    field = anatomy.field[Region.INFERIOR]
    in_ii = (field @ facing)[2] - (field @ facing)[0]
    vector = (anatomy.notch_mv + state.j_wave_mv) / jnp.maximum(in_ii, 0.1) * facing
    return _one(j_ms + J_WAVE_CENTRE_MS, J_WAVE_WIDTH_MS, 0.0, vector, field)


def _u_wave(anatomy: Anatomy, patient: Patient, gradient: jax.Array) -> Rows:
    """After-potentials, in proportion to the gradient of the action potentials."""
    slow = jnp.exp(-jnp.maximum(patient.heart_rate_bpm - U_RATE_BPM, 0.0) / U_RATE_FALL_BPM)
    height = math.sqrt(2.0 * math.pi) * repolarisation.T_WIDTH_MS
    total, field = repolarisation.merged_field(gradient / height, anatomy.field)
    centre_ms = patient.t_peak_to_end_ms + U_AFTER_T_END_MS / jnp.cbrt(patient.mean_rr_s)
    return _one(centre_ms, U_WIDTH_MS, 0.0, anatomy.u_share * slow * total, field)


def _one(centre_ms: jax.Array, width_ms: jax.Array | float, flat: float, vector: jax.Array, field: jax.Array) -> Rows:
    centre_s, width_s, skew, bluntness = (
        jnp.asarray(value, jnp.float32)[None] for value in (1e-3 * centre_ms, 1e-3 * width_ms, 0.0, flat)
    )
    return Rows(centre_s, width_s, skew, bluntness, vector[None], field[None])


def p_rows(
    anatomy: Anatomy, patient: Patient, state: HeartState, route: tuple[jax.Array, jax.Array] | None = None
) -> tuple[Rows, jax.Array]:
    """P's four kernels and atrial repolarisation, from the P onset; and its onset, peak and end.

    `route` are the centres and vectors of another origin than the sinus node (`atria.route_from`). Rows count from that
    wave's own onset.
    """
    duration_s = 1e-3 * patient.p_duration_ms
    is_left = np.arange(4) == atria.LEFT_ATRIUM
    right, left = anatomy.atrial_gain * jnp.stack([state.right_atrium, state.left_atrium])
    # The roof between the atria counts for both.
    gain = jnp.stack([right, right, (right + left) / 2, left])
    usual = gain[:, None] * jnp.asarray(atria.VECTOR_MV)
    angle = rotation_to_axis((jnp.asarray(atria.WIDTH)[:, None] * usual).sum(0), patient.p_axis_deg)
    centre, vector = (jnp.asarray(atria.CENTRE), usual) if route is None else (route[0], gain[:, None] * route[1])
    centre = centre + jnp.where(is_left, state.left_atrium_delay, 0.0)
    vector = turned(vector, angle, 0, 1)
    total, field = repolarisation.merged_field(vector, anatomy.atrial_field)
    zeros = jnp.zeros(4)
    wave = Rows(duration_s * centre, duration_s * jnp.asarray(atria.WIDTH), zeros, zeros, vector, anatomy.atrial_field)
    slow = _one(
        1e3 * duration_s * atria.REPOLARISATION_CENTRE,
        1e3 * duration_s * atria.REPOLARISATION_WIDTH,
        0.0,
        atria.REPOLARISATION * total,
        field,
    )
    p_s = jnp.stack(limits(wave, jnp.asarray(np.arange(-0.06, 0.26, 0.002), jnp.float32), P_THRESHOLD_MV))
    return jax.tree.map(lambda *parts: jnp.concatenate(parts), wave, slow), p_s


declare(
    "sources.beat",
    vars(),
    "EARLY_RISE_MS EARLY_FALL_MS "
    "ST_END_BEFORE_T_MS ST_AT_J_Z J_WAVE_CENTRE_MS J_WAVE_WIDTH_MS U_AFTER_T_END_MS "
    "U_WIDTH_MS U_RATE_BPM U_RATE_FALL_BPM",
    version=3,
)
