"""Repolarisation, from the same activation times: T, the ST segment, U. Nothing of it is drawn for itself.

A region repolarises at its activation time plus its action potential's duration, in the order of its activation if all
durations were equal: a front with the opposite sign, of the same area. The epicardium's action potential is shorter
than the endocardium's; what that adds belongs to the region and not to its activation. So a region's kernel in T has
the area

    gradient × strength × normal  -  strength × direction of activation,

whose sum over regions is Wilson's ventricular gradient less the area of the QRS complex: a changed activation changes T
by exactly the opposite (secondary changes, discordance), while the gradient stays. Times: repolarisation is that of the
normal beat, moved by as much as the region is activated later (local durations decide, not the sequence: Ramanathan et
al., PNAS 103:6309, 2006), so that QT grows with QRS and JT is kept.
"""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp
import numpy as np

from ecg_jax.data.synthetic.constants import declare
from ecg_jax.data.synthetic.physiology.patient import Patient
from ecg_jax.data.synthetic.sources.rows import Rows, kernels_at

# Fitted with the tables of `ventricles`, against a penalty for size, to mean T amplitudes (Lepeschkin 1951: 0.02,
# 0.55, 0.54, 0.48, 0.34, 0.24 mV in V1 to V6), the T axis (ELSA-Brasil: 42°), the angle between QRS and T (60°:
# Scherptong et al., J Electrocardiol 41:648, 2008, 80° and 66° in young men and women; Rautaharju et al., J
# Electrocardiol 46:707, 2013, 43° in older women), the loop's second against its first singular value (0.13 to 0.15:
# Priori et al., Circulation 96:3005, 1997; 90th percentile 0.25 to 0.32: Okin et al., Circulation 105:714, 2002), and
# its skewness in V5 (-0.23: Haarmark et al., J Electrocardiol 43:31, 2010).
# (That of the lateral wall is 0.25 higher than fitted, for what the ST segment takes from T in V6.)
#: How much longer the action potential lasts at the endocardium than at the epicardium, in passages of the front.
GRADIENT = np.array([7.55, 3.62, 2.55, 1.66, 2.39, 2.31, 1.85, 2.02, 1.83, 1.79, 1.51, 1.75], np.float32)
#: When each region repolarises in the normal beat, ms from T's peak.
RECOVERY_OFFSET_MS = np.array(
    [-11.6, -6.3, 10.5, -21.9, -21.9, -12.9, -19.8, -20.5, -23.7, -26.1, -21.4, -22.2], np.float32
)
#: A region's kernel in T: slow rise, fast fall.
T_WIDTH_MS, T_SKEW = 50.4, 0.181

#: How much of the epicardium's notch each region has: most in the right ventricle, the septum and the anterior wall,
#: less in the lateral and inferior ones (design, after the density of its outward current: Di Diego et al., Am J
#: Physiol 271:H548, 1996), so that the J point is highest in V2 to V3.
NOTCH = np.array([1.0, 0.4, 0.8, 1.0, 0.6, 0.6, 0.6, 0.6, 0.4, 1.0, 0.8, 1.0], np.float32)
#: The intervals at which the tables hold: QRS onset to T's peak, and peak to end by the steepest tangent.
T_PEAK_MS, T_PEAK_TO_END_MS = 317.0, 82.0
#: Moment of a region whose plateau is lost on one side of its wall, mV (design: the wall's area in the units of its
#: front's, whose moment peaks at some 1 mV; the ischaemic part of it).
INJURED_WALL_MV = 0.5


def t_rows(area_mv_ms: jax.Array, later_ms: jax.Array, field: jax.Array, patient: Patient) -> Rows:
    """The regions' kernels in T, from T's normal peak, whose areas are `(12, 3)`.

    `later_ms` is by how much each region repolarises later than in the normal beat.
    """
    t_peak_ms = patient.qtcf_ms - patient.t_peak_to_end_ms
    rising, falling = t_peak_ms / T_PEAK_MS, patient.t_peak_to_end_ms / T_PEAK_TO_END_MS
    rise_ms, fall_ms = T_WIDTH_MS * (1.0 + T_SKEW) * rising, T_WIDTH_MS * (1.0 - T_SKEW) * falling
    width_ms, skew = (rise_ms + fall_ms) / 2, (rise_ms - fall_ms) / (rise_ms + fall_ms)
    offset_ms = jnp.asarray(RECOVERY_OFFSET_MS)
    centre_ms = jnp.where(offset_ms < 0, rising, falling) * offset_ms + later_ms
    regions = len(area_mv_ms)
    vector_mv = area_mv_ms / (math.sqrt(2.0 * math.pi) * T_WIDTH_MS)
    width_s, skews = jnp.full(regions, 1e-3 * width_ms), jnp.full(regions, skew)
    return Rows(1e-3 * centre_ms, width_s, skews, jnp.zeros(regions), vector_mv, field)


def t_limits(rows: Rows) -> jax.Array:
    """Onset, peak and end `(3,)` of T from its normal peak, s: of the root mean square over the electrodes; the end is
    that of the steepest tangent after the peak, the onset where it has risen to a tenth."""
    grid_s = jnp.asarray(np.arange(-0.3, 0.4, 0.004), jnp.float32)
    size = jnp.sqrt(((kernels_at(rows, grid_s) @ rows.weights_mv) ** 2).mean(-1))
    peak = jnp.argmax(size)
    fall = jnp.where(jnp.arange(len(grid_s) - 1) >= peak, jnp.diff(size), 0.0)
    steepest = jnp.argmin(fall)
    step = grid_s[1] - grid_s[0]
    end_s = grid_s[steepest] + step * size[steepest] / jnp.maximum(-fall[steepest], 1e-9)
    onset_s = grid_s[jnp.argmax(size > 0.1 * size[peak])]
    return jnp.stack([onset_s, grid_s[peak], end_s])


def merged_field(vectors: jax.Array, fields: jax.Array) -> tuple[jax.Array, jax.Array]:
    """One row for many regions: the sum of their vectors `(3,)`, and the field `(9, 3)` by which it shows what they do.

    Of the fields that do, the one nearest to their mean (a correction along the vector).
    """
    total, mean = vectors.sum(0), fields.mean(0)
    shown = jnp.einsum("rex,rx->e", fields, vectors)
    missing = shown - mean @ total
    return total, mean + missing[:, None] * total / jnp.maximum((total**2).sum(), 1e-12)


declare(
    "sources.repolarisation",
    vars(),
    "GRADIENT NOTCH RECOVERY_OFFSET_MS T_WIDTH_MS T_SKEW T_PEAK_MS T_PEAK_TO_END_MS INJURED_WALL_MV",
    version=3,
)
