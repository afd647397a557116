"""What the beats of one patient share: how the heart lies, what the leads see of it, how much muscle it has."""

from __future__ import annotations

import dataclasses
import math

import jax
import jax.numpy as jnp
import numpy as np

from ecg_jax.data.synthetic.constants import declare
from ecg_jax.data.synthetic.physiology.kernels import rotation_to_axis, tilted, turned
from ecg_jax.data.synthetic.physiology.patient import Patient
from ecg_jax.data.synthetic.randomness.draws import cut, truncated_normal
from ecg_jax.data.synthetic.sources import atria, repolarisation
from ecg_jax.data.synthetic.sources.conduction import Activation, activate, normal_conduction
from ecg_jax.data.synthetic.sources.rows import Rows, kernels_at
from ecg_jax.data.synthetic.sources.ventricles import (
    HEART_AXES,
    NORMAL,
    POSITION_CM,
    REGIONS,
    STRENGTH_MV_MS,
    lead_fields,
)

#: Duration of the tables' own QRS complex; a patient's stretches them.
TABLE_QRS_MS = 88.0
#: Potential (root mean square over the electrodes, mV) at which a complex and a P wave begin and end.
QRS_THRESHOLD_MV, P_THRESHOLD_MV = 0.030, 0.006

QRS_GRID_S = np.arange(-0.15, 0.45, 0.002, dtype=np.float32)

# How far patients differ (design, but where said).
#: Of all muscle; of one region's. Lepeschkin's extremes of R V5 (0.4 to 2.6 mV) lie within 2.5 of the two together.
MUSCLE_LOG_SD, REGION_LOG_SD = 0.15, 0.10
#: Voltages of women against men; half of it either way from the tables, which hold for both.
FEMALE_MUSCLE = 0.82
#: Times at the Purkinje terminals, durations of action potentials, ms; the gradient between the walls' two sides.
TERMINAL_SD_MS, APD_SD_MS, GRADIENT_LOG_SD = 2.0, 4.5, 0.12
#: Chest electrodes are misplaced by 1 cm and more (Wenger & Kligfield, J Electrocardiol 29:179, 1996: half of them
#: more than 1 cm off).
CHEST_ELECTRODE_SD_CM = 0.8
#: An axis that differs from the tables' is for this share due to how the heart lies, for the rest to how its Purkinje
#: terminals do: the front of T's sources turns with the first alone, and T's axis varies less than QRS's (design).
HEART_SHARE_OF_AXIS = 0.75
#: Of the population's tilts, which were set for a dipole: regions near the chest's electrodes tell more of them. R in
#: V1 then stays below its highest published values (0.7 mV: Lepeschkin 1951).
TILT_SHARE = 0.7
#: Fronts are ragged: each region's runs in two halves, so far apart (in spreads) that the two together keep its spread,
#: with moments that differ by this share of it in a direction of the patient's. Notches and slurs.
HALF_APART, HALF_WIDTH = 0.6, 0.8
RAGGEDNESS = 0.35
#: T in the tallest of V2 to V4 varies by this; its median is the population's by sex and age.
T_LOG_SD = 0.30
#: P: right and left atrium vary by this each.
P_LOG_SD = 0.22

#: The J point in the highest of V1 to V4, mV: medians by age (years) in men, and in women; log-normal. Surawicz &
#: Parikh, J Am Coll Cardiol 40:1870, 2002: 0.1 mV or more in 91 % of men at 17 to 24 years, 14 % from 76 on, in some
#: 20 % of women at any age. With the 98th percentile of 0.31 mV in V3 at 25 years (Macfarlane, J Electrocardiol
#: 34 suppl:235, 2001) the first gives the spread, and all three the medians.
J_AGES_YEARS, J_MEN_MV, J_WOMEN_MV, J_LOG_SD = (20.0, 76.0), (0.150, 0.062), 0.066, 0.38
#: T in the mean of V2 to V4 against T in the tallest of them (Lepeschkin 1951: 0.55, 0.54, 0.48 mV).
T_MEAN_OF_TALLEST = 0.94


#: The notch or slur that ends the QRS complex in II, mV: medians by the same ages in men, and in women; log-normal. It
#: puts the 98th percentile of the J point in II near the limit of 0.1 mV (Fourth Universal Definition), above it most
#: often in young men (Macfarlane et al., J Am Coll Cardiol 66:470, 2015: early repolarisation).
NOTCH_MEN_MV, NOTCH_WOMEN_MV, NOTCH_LOG_SD = (0.030, 0.012), 0.012, 0.75

#: Height of U against what the gradient alone would make of T.
U_SHARE, U_LOG_SD = 0.07, 0.5
#: Uniform draws of one patient's anatomy.
DRAWS = 7 * REGIONS + 18 + 7

_ROW_HALVES = np.repeat(np.arange(REGIONS), 2)
_SIDE = np.tile([-1.0, 1.0], REGIONS).astype(np.float32)


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Anatomy:
    """What the beats of one patient share. Directions and positions are in Frank's X, Y, Z."""

    axes: jax.Array  # (3, 3) the heart's frame, as rows
    normal: jax.Array  # (12, 3)
    fronts: jax.Array  # (3, 3) the frame in which fronts travel, as rows
    field: jax.Array  # (12, 9, 3)
    atrial_field: jax.Array  # (4, 9, 3)
    strength_mv_ms: jax.Array  # (12,)
    terminal_ms: jax.Array  # (12,) jitter
    apd_ms: jax.Array  # (12,)
    gradient: jax.Array  # (12,)
    ragged: jax.Array  # (12, 3)
    time_scale: jax.Array  # () of conduction
    atrial_gain: jax.Array  # (2,) right, left
    usual: Activation  # of the normally conducted beat, in the tables' time
    usual_onset_s: jax.Array  # () and that beat's onset, from the His bundle's impulse
    usual_qrs_s: jax.Array  # () and the duration of its QRS complex
    plateau_share: jax.Array  # () per ms: height of the early plateau's gradient against the area of T
    notch_mv: jax.Array  # () height in II of the notch that ends the QRS complex
    u_share: jax.Array  # ()
    body_gain: jax.Array  # ()


def sample_anatomy(row: jax.Array, patient: Patient, t_size_mv: jax.Array) -> Anatomy:
    """One patient's anatomy from a row of at least `DRAWS` uniform draws.

    `t_size_mv` is the median height of T in the tallest chest lead at the patient's sex and age. Heart and fronts turn
    about the front-back axis until the normally conducted beat has the patient's frontal QRS axis.
    """
    z = truncated_normal(row[:DRAWS])
    strength, terminal, apd, gradient, ragged, field, single = cut(z, *[(REGIONS,)] * 4, (REGIONS, 3), (6, 3), (7,))
    z_muscle, z_t, z_j, z_u, z_right, z_left, z_notch = single
    is_female = patient.is_female > 0.5
    of_sex = jnp.where(is_female, math.sqrt(FEMALE_MUSCLE), 1.0 / math.sqrt(FEMALE_MUSCLE))
    gain = patient.body_gain * of_sex * jnp.exp(MUSCLE_LOG_SD * z_muscle + REGION_LOG_SD * strength)
    time_scale = patient.qrs_ms / TABLE_QRS_MS
    # Slower fronts pass for longer: amplitudes stay, areas grow.
    strength_mv_ms = time_scale * gain * jnp.asarray(STRENGTH_MV_MS)
    terminal_ms = TERMINAL_SD_MS * terminal

    tilt_x_deg, tilt_y_deg = TILT_SHARE * patient.tilt_x_deg, TILT_SHARE * patient.tilt_y_deg
    frame = tilted(jnp.asarray(HEART_AXES), tilt_x_deg, tilt_y_deg)
    conduction = dataclasses.replace(normal_conduction(), jitter_ms=terminal_ms)
    normal_beat = activate(conduction)
    area = strength_mv_ms @ (normal_beat.direction @ frame)
    angle = rotation_to_axis(area, patient.qrs_axis_deg)
    fronts, frame = turned(frame, angle, 0, 1), turned(frame, HEART_SHARE_OF_AXIS * angle, 0, 1)

    j_mv = _by_age_and_sex(patient, J_MEN_MV, J_WOMEN_MV) * jnp.exp(J_LOG_SD * z_j)
    notch_mv = _by_age_and_sex(patient, NOTCH_MEN_MV, NOTCH_WOMEN_MV) * jnp.exp(NOTCH_LOG_SD * z_notch)
    anatomy = Anatomy(
        axes=frame,
        normal=jnp.asarray(NORMAL) @ frame,
        fronts=fronts,
        field=lead_fields(jnp.asarray(POSITION_CM) @ frame, CHEST_ELECTRODE_SD_CM * field),
        atrial_field=atria.atrial_fields(CHEST_ELECTRODE_SD_CM * field),
        strength_mv_ms=strength_mv_ms,
        terminal_ms=terminal_ms,
        apd_ms=APD_SD_MS * apd,
        gradient=jnp.asarray(repolarisation.GRADIENT) * jnp.exp(GRADIENT_LOG_SD * gradient),
        ragged=RAGGEDNESS * ragged / math.sqrt(3.0),
        time_scale=time_scale,
        atrial_gain=patient.body_gain * jnp.exp(P_LOG_SD * jnp.stack([z_right, z_left])),
        usual=normal_beat,
        usual_onset_s=jnp.zeros(()),
        usual_qrs_s=jnp.zeros(()),
        plateau_share=jnp.zeros(()),
        notch_mv=notch_mv,
        u_share=U_SHARE * jnp.exp(U_LOG_SD * z_u),
        body_gain=patient.body_gain,
    )
    return _with_repolarisation(anatomy, t_size_mv * jnp.exp(T_LOG_SD * z_t), j_mv)


def _with_repolarisation(anatomy: Anatomy, tall_mv: jax.Array, j_mv: jax.Array) -> Anatomy:
    """The anatomy with what follows from its normally conducted beat: gradients by which T has its height, the early
    plateau by which the J point has its own, and where that beat's QRS complex lies.
    """
    normal_beat, strength_mv_ms = anatomy.usual, anatomy.strength_mv_ms
    gradient = anatomy.gradient * _gradient_gain(anatomy, normal_beat, tall_mv)
    usual = qrs_rows(anatomy, normal_beat, strength_mv_ms)
    onset_s, _, end_s = limits(usual, jnp.asarray(QRS_GRID_S), QRS_THRESHOLD_MV)
    # The early plateau makes up for what the QRS complex leaves at its end.
    left_mv = (kernels_at(usual, end_s[None]) @ usual.weights_mv)[0, 4:6].mean()
    area = strength_mv_ms[:, None] * (gradient[:, None] * anatomy.normal - normal_beat.direction @ anatomy.fronts)
    tallest = jnp.einsum("rex,rx->e", anatomy.field, repolarisation.NOTCH[:, None] * area)[3:].max()
    return dataclasses.replace(
        anatomy,
        gradient=gradient,
        usual_onset_s=onset_s,
        usual_qrs_s=end_s - onset_s,
        plateau_share=jnp.maximum(j_mv - left_mv, 0.0) / jnp.maximum(tallest, 1e-3),
    )


def _by_age_and_sex(patient: Patient, men_mv: tuple[float, float], women_mv: float) -> jax.Array:
    """A median that falls in men from the first to the second of `J_AGES_YEARS`, and is one for all women."""
    of_men = jnp.exp(jnp.interp(patient.age_years, jnp.array(J_AGES_YEARS), jnp.log(jnp.array(men_mv))))
    return jnp.where(patient.is_female > 0.5, women_mv, of_men)


def _gradient_gain(anatomy: Anatomy, normal_beat: Activation, tall_mv: jax.Array) -> jax.Array:
    """The factor of the gradients with which T is `tall_mv` high in the mean of V2 to V4 of the normal beat."""
    peak = math.sqrt(2.0 * math.pi) * repolarisation.T_WIDTH_MS
    chest = anatomy.field[:, 4:7].mean(1)
    of_gradient = (chest * (anatomy.gradient * anatomy.strength_mv_ms)[:, None] * anatomy.normal).sum() / peak
    direction = normal_beat.direction @ anatomy.fronts
    of_activation = (chest * anatomy.strength_mv_ms[:, None] * direction).sum() / peak
    return jnp.clip((T_MEAN_OF_TALLEST * tall_mv + of_activation) / jnp.maximum(of_gradient, 1e-3), 0.75, 1.5)


def qrs_rows(anatomy: Anatomy, activation: Activation, strength_mv_ms: jax.Array) -> Rows:
    """Two kernels a region, from the moment at which the His bundle's impulse arrives."""
    spread_ms = anatomy.time_scale * activation.spread_ms
    centre_ms = (anatomy.time_scale * activation.time_ms)[_ROW_HALVES] + HALF_APART * _SIDE * spread_ms[_ROW_HALVES]
    width_ms = HALF_WIDTH * spread_ms[_ROW_HALVES]
    direction = activation.direction @ anatomy.fronts
    halves = 0.5 * (direction[_ROW_HALVES] + _SIDE[:, None] * anatomy.ragged[_ROW_HALVES])
    size_mv = strength_mv_ms[_ROW_HALVES] / (math.sqrt(2.0 * math.pi) * width_ms)
    zeros = jnp.zeros(len(_ROW_HALVES))
    return Rows(1e-3 * centre_ms, 1e-3 * width_ms, zeros, zeros, size_mv[:, None] * halves, anatomy.field[_ROW_HALVES])


def limits(rows: Rows, grid_s: jax.Array, threshold_mv: float) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Onset, peak and end in s: where the root mean square over the electrodes passes a threshold, between samples."""
    size = jnp.sqrt(((kernels_at(rows, grid_s) @ rows.weights_mv) ** 2).mean(-1))
    inside, step = size > threshold_mv, grid_s[1] - grid_s[0]
    first, last = jnp.argmax(inside), len(grid_s) - 1 - jnp.argmax(inside[::-1])

    def crossing(at: jax.Array, before: jax.Array) -> jax.Array:
        share = (size[at] - threshold_mv) / jnp.maximum(size[at] - size[before], 1e-9)
        return grid_s[at] + (before - at) * step * jnp.clip(share, 0.0, 1.0)

    onset_s = crossing(first, jnp.maximum(first - 1, 0))
    end_s = crossing(last, jnp.minimum(last + 1, len(grid_s) - 1))
    return onset_s, grid_s[jnp.argmax(size)], end_s


declare(
    "sources.anatomy",
    vars(),
    "TABLE_QRS_MS QRS_THRESHOLD_MV P_THRESHOLD_MV QRS_GRID_S MUSCLE_LOG_SD REGION_LOG_SD FEMALE_MUSCLE "
    "TERMINAL_SD_MS APD_SD_MS GRADIENT_LOG_SD TILT_SHARE CHEST_ELECTRODE_SD_CM HEART_SHARE_OF_AXIS HALF_APART "
    "HALF_WIDTH RAGGEDNESS T_LOG_SD P_LOG_SD J_AGES_YEARS J_MEN_MV J_WOMEN_MV J_LOG_SD NOTCH_MEN_MV "
    "NOTCH_WOMEN_MV NOTCH_LOG_SD U_SHARE U_LOG_SD DRAWS T_MEAN_OF_TALLEST _ROW_HALVES _SIDE",
    version=3,
)
