"""Gaussian kernels with a direction in space: the banks of a beat, what they show in the leads, and how they turn."""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np

from ecg_jax.data.synthetic.constants import declare
from ecg_jax.data.synthetic.physiology.leads import DOWER, twelve_leads

#: The narrow bank: kernels of a conducted beat, by the train that moves them.
P, QRS, T = slice(0, 4), slice(4, 12), slice(12, 16)
NARROW_KERNELS = 16
P_WAVE, ATRIAL_SPIKE = slice(0, 2), 3
#: The wide bank: kernels of a ventricular beat.
QRS_WIDE, T_WIDE = slice(0, 5), slice(5, 9)
WIDE_KERNELS = 9
VENTRICULAR_SPIKE = 4
#: The first kernel of a T bank is the ST segment: exp(-z⁴/2), flat on top, where the others are exp(-z²/2).
ST_IN_T = 0

#: Frank X, Y, Z to the twelve leads in the record's order, for criteria that are defined in leads.
LEADS_12x3 = twelve_leads(np.ascontiguousarray(DOWER.T)).T
I, II, III, AVR, AVL, AVF, V1, V2, V3, V4, V5, V6 = range(12)

#: The T wave at a QTcF of 402 ms: kernels before and after its peak, in ms from it. The widths follow the reference
#: standards of the Women's Health Initiative (T onset, peak and end 236, 328 and 413 ms after the QRS onset,
#: PMC3825808): the wave has a tenth of its height 92 ms before the peak, its steepest tangent ends 85 ms after it.
T_CENTRE_MS = np.array([-29.0, -2.0, 32.0], np.float32)
T_WIDTH_MS = np.array([36.0, 33.0, 35.0], np.float32)
#: Shares of the three in the wave's height at its peak, divided by their value there.
T_SHARES = np.array([0.28, 0.42, 0.30], np.float32)
T_AT_PEAK = np.exp(-0.5 * (T_CENTRE_MS / T_WIDTH_MS) ** 2)
T_SHARES = T_SHARES / float(T_SHARES @ T_AT_PEAK)
T_ONSET_MS, T_PEAK_AFTER_QRS_MS, T_END_MS = -92.0, 317.0, 85.0


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Waves:
    """One patient's kernels. Centres count from the event of their train: P onset, QRS onset, T peak."""

    centre_s: jax.Array  # (kernels,)
    width_s: jax.Array  # (kernels,)
    vector_mv: jax.Array  # (kernels, 3)


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Fiducials:
    """Onset, peak and end `(3,)` in seconds from each train's event; T at a stretch of 1."""

    p_s: jax.Array
    qrs_s: jax.Array
    t_s: jax.Array


#: Leads I and 2/√3 aVF, whose net areas give the frontal axis.
_FRONTAL = np.stack([DOWER[0], 2 / np.sqrt(3) * (DOWER[1] - DOWER[0] / 2)])


def rotation_to_axis(area_3: jax.Array, axis_deg: jax.Array, fixed_3: jax.Array | float = 0.0) -> jax.Array:
    """Angle (rad) by which to turn `area_3` about Z so that net areas in I and aVF give the frontal axis `axis_deg`.

    `fixed_3` is the area of what does not turn but counts.

    Solves I sin(axis) = (2/√3) aVF cos(axis), which is a cos φ + b sin φ + c = 0 in the angle φ; of its two solutions
    the one that points along the axis. (Axes from net areas: Rijnbeek et al., J Electrocardiol 47:914, 2014.)
    """
    axis = jnp.deg2rad(axis_deg)
    sin, cos = jnp.sin(axis), jnp.cos(axis)
    across = sin * _FRONTAL[0] - cos * _FRONTAL[1]
    along = cos * _FRONTAL[0] + sin * _FRONTAL[1]
    x, y, z = area_3
    fixed = jnp.broadcast_to(fixed_3, (3,))

    def terms(row: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
        return row[0] * x + row[1] * y, row[1] * x - row[0] * y, row[2] * z + row @ fixed

    a, b, c = terms(across)
    base = jnp.arctan2(b, a)
    reach = jnp.arccos(jnp.clip(-c / jnp.maximum(jnp.hypot(a, b), 1e-12), -1.0, 1.0))
    candidates = jnp.stack([base + reach, base - reach])
    a, b, c = terms(along)
    projection = a * jnp.cos(candidates) + b * jnp.sin(candidates) + c
    return jnp.where(projection[0] >= projection[1], candidates[0], candidates[1])


def turned(vectors: jax.Array, angle: jax.Array, first: int, second: int) -> jax.Array:
    """Turns the vectors `(..., 3)` by `angle` (rad) from axis `first` towards axis `second`."""
    cos, sin = jnp.cos(angle), jnp.sin(angle)
    axes = [vectors[..., axis] for axis in range(3)]
    u, v = axes[first], axes[second]
    axes[first], axes[second] = cos * u - sin * v, sin * u + cos * v
    return jnp.stack(axes, -1)


def tilted(vectors: jax.Array, tilt_x_deg: jax.Array, tilt_y_deg: jax.Array) -> jax.Array:
    """Tilts the heart about the left-right, then about the head-foot axis."""
    return turned(turned(vectors, jnp.deg2rad(tilt_x_deg), 1, 2), jnp.deg2rad(tilt_y_deg), 2, 0)


def t_timing_s(qtcf_ms: jax.Array, t_peak_to_end_ms: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Centres and widths `(3,)` of the T kernels and fiducials `(3,)` of the wave, s from its peak at a stretch of 1.

    Before the peak the wave stretches with the interval from the QRS onset up to it, after it with that up to its end.
    """
    rising = (qtcf_ms - t_peak_to_end_ms) / T_PEAK_AFTER_QRS_MS
    falling = t_peak_to_end_ms / T_END_MS
    scale = 1e-3 * jnp.stack([rising, rising, falling])
    fiducials_s = jnp.stack([1e-3 * rising * T_ONSET_MS, jnp.zeros_like(rising), 1e-3 * t_peak_to_end_ms])
    return scale * T_CENTRE_MS, scale * T_WIDTH_MS, fiducials_s


def st_timing_s(
    qrs_ms: jax.Array, qtcf_ms: jax.Array, t_peak_to_end_ms: jax.Array, stretch: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """Centre and width of the ST kernel: at 0.85 of its height at the J point, at half of it on the T wave's slope.

    The kernel stretches with the T wave, the QRS complex does not: at `stretch`, that of the mean RR interval, the
    kernel begins with the J point.
    """
    j_s = 1e-3 * (qrs_ms / stretch - (qtcf_ms - t_peak_to_end_ms))
    end_s = -0.02  # design: the segment melts into the ascent of the T wave
    width_s = (end_s - j_s) / (ST_AT_J_Z + 1.085)
    return j_s + ST_AT_J_Z * width_s, width_s


#: Where the J point lies on the ST kernel, in widths, and how high the kernel is there.
ST_AT_J_Z = 0.755
ST_AT_J = float(np.exp(-0.5 * ST_AT_J_Z**4))


def over_time(centre_s: jax.Array, width_s: jax.Array, time_s: jax.Array, low_pass_s: float = 0.0) -> jax.Array:
    """Gaussian kernels at given times, `(times, kernels)`, after a Gaussian low-pass in closed form."""
    smooth_s = jnp.sqrt(width_s**2 + low_pass_s**2)
    return width_s / smooth_s * jnp.exp(-0.5 * ((time_s[:, None] - centre_s) / smooth_s) ** 2)


def limits_s(waves: Waves, part: slice, time_s: jax.Array, threshold_mv: float) -> jax.Array:
    """Onset, peak and end `(3,)` of the kernels `part`: where their vector magnitude on the grid passes a threshold."""
    vector = over_time(waves.centre_s[part], waves.width_s[part], time_s) @ waves.vector_mv[part]
    magnitude = jnp.sqrt((vector**2).sum(-1))
    inside = magnitude > threshold_mv
    onset, peak, end = jnp.argmax(inside), jnp.argmax(magnitude), len(time_s) - 1 - jnp.argmax(inside[::-1])
    return time_s[jnp.stack([onset, peak, end])]


declare(
    "kernels",
    vars(),
    "P QRS T NARROW_KERNELS P_WAVE ATRIAL_SPIKE QRS_WIDE T_WIDE WIDE_KERNELS VENTRICULAR_SPIKE ST_IN_T I II III AVR "
    "AVL AVF V1 V2 V3 V4 V5 V6 T_CENTRE_MS T_WIDTH_MS T_SHARES T_AT_PEAK T_ONSET_MS T_PEAK_AFTER_QRS_MS T_END_MS "
    "_FRONTAL ST_AT_J_Z ST_AT_J",
)
