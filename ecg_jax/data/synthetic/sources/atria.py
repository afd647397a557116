"""The atria: four regions with lead fields of their own; P waves forwards and backwards, f and F waves.

The atria lie behind, above and to the right of the ventricles' middle, further from V3 to V6 and as near to V1: Dower's
lead vectors, which are the ventricles', would show P and f waves largest in V3. Theirs are `ventricles.lead_fields` at
the atria's own place.
"""

from __future__ import annotations

import enum
import math

import jax
import jax.numpy as jnp
import numpy as np

from ecg_jax.data.synthetic.constants import declare
from ecg_jax.data.synthetic.physiology.atrial import HARMONIC_GAIN, HARMONICS
from ecg_jax.data.synthetic.randomness.draws import cut, truncated_normal
from ecg_jax.data.synthetic.sources.ventricles import lead_fields

#: Right atrium near the sinus node, right atrium's body, the roof between the atria, left atrium: cm from the left
#: ventricle's middle, along Frank's X, Y, Z (design: anatomy; V1 lies before the right atrium's appendage).
POSITION_CM = np.array([[-5.5, -5.0, -1.5], [-5.5, -2.0, -2.0], [-3.0, -4.5, 2.0], [-1.0, -4.0, 4.5]], np.float32)
LEFT_ATRIUM = 3
#: When they are activated and for how long, as shares of the P wave's duration (Durrer et al., Circulation 41:899,
#: 1970: the left atrium from a third of the wave on), and their moments at their peaks, mV. Sizes are such that P has
#: 0.06, 0.12 and 0.06 mV in I, II and III, both signs in V1 (0.05 and -0.04 mV) and 0.05 to 0.06 mV in V2 to V6:
#: normal values as Macfarlane & Lawrie, Comprehensive Electrocardiology, give them; below the limits of 0.25 mV in the
#: limb and 0.15 mV in the chest leads (AHA/ACCF/HRS 2009).
CENTRE = np.array([0.19, 0.40, 0.51, 0.74], np.float32)
WIDTH = np.array([0.130, 0.162, 0.162, 0.162], np.float32)
VECTOR_MV = np.array(
    [[0.017, 0.006, -0.010], [0.040, 0.067, -0.001], [0.052, 0.020, 0.026], [0.057, 0.013, 0.066]], np.float32
)
#: Of atrial repolarisation against the P wave, opposite to it: height, centre and width in P durations (the Ta wave
#: lasts some 320 ms and is about a tenth to a third as high: Holmqvist et al., Ann Noninvasive Electrocardiol 14:1,
#: 2009; recalled).
REPOLARISATION, REPOLARISATION_CENTRE, REPOLARISATION_WIDTH = -0.12, 1.75, 0.65

#: The right atrium's body and the left atrium, where f and F waves run.
WAVE_REGIONS = (1, LEFT_ATRIUM)
#: f waves: root mean square in mV of the moment of the right and the left atrium along X, Y, Z, uniform in these
#: ranges. Largest in V1, where the right atrium is near (Petrėnas et al., Physiol Meas 38:2058, 2017: largest along Z;
#: median amplitude in II near 0.035 mV: Park et al., Sci Rep 9:2746, 2019).
FIBRILLATION_RMS_MV = np.array(
    [[[0.006, 0.014], [0.010, 0.022], [0.022, 0.050]], [[0.004, 0.012], [0.004, 0.012], [0.006, 0.018]]], np.float32
)
#: F waves of typical flutter, counter-clockwise about the tricuspid valve: downwards saw teeth in II, III and aVF from
#: the septum and left atrium, upwards ones in V1 from the right atrium's front (design; sizes 0.1 to 0.25 mV).
FLUTTER_MV = np.array([[-0.01, -0.05, -0.13], [0.00, -0.11, 0.03]], np.float32)
FLUTTER_LOG_SD = 0.2
#: Uniform draws that `sample_fibrillation` takes.
DRAWS = 13


def atrial_fields(chest_shift_cm: jax.Array | float = 0.0) -> jax.Array:
    """Lead vectors of the four regions, `(4, 9, 3)`; `chest_shift_cm` as in `ventricles.lead_fields`."""
    return lead_fields(jnp.asarray(POSITION_CM), chest_shift_cm)


class AtrialFocus(enum.IntEnum):
    """Where an atrial activation starts, if not in the sinus node."""

    AV_NODE = 0  # backwards
    RIGHT_APPENDAGE = 1  # an atrial pacing lead
    LEFT_VEINS = 2
    LOW_RIGHT = 3
    CRISTA = 4


#: Where they lie, cm as `POSITION_CM` (design: anatomy).
FOCUS_CM = np.array(
    [[-3.0, 0.5, 1.0], [-4.5, -4.0, -4.0], [0.5, -5.0, 5.5], [-4.5, 0.5, 0.5], [-6.0, -3.0, -0.5]], np.float32
)
#: Shares of the P wave's duration at which a focus' own surroundings are activated, and by which a centimetre more
#: takes: the time and way from the sinus node to the left atrium in `CENTRE`, 1.2 m/s.
FIRST_SHARE, SHARE_PER_CM = 0.15, 0.072
#: Nearer than this a front has no direction yet.
COHERENT_CM = 1.5


def route_from(focus: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Centres (shares of the P wave's duration) and vectors (mV) of the regions for a wave that starts at a focus."""
    way = jnp.asarray(POSITION_CM) - jnp.asarray(FOCUS_CM)[focus]
    distance = jnp.sqrt((way**2).sum(-1, keepdims=True))
    size = np.linalg.norm(VECTOR_MV, axis=1, keepdims=True)
    return FIRST_SHARE + SHARE_PER_CM * distance[:, 0], size * way / jnp.sqrt(distance**2 + COHERENT_CM**2)


def sample_fibrillation(uniforms: jax.Array, is_flutter: jax.Array) -> jax.Array:
    """Moments (mV) of `atrial.harmonics` in the regions `WAVE_REGIONS`, `(2, 2 * HARMONICS, 3)`.

    In fibrillation the regions and axes are out of phase; in flutter one wave goes round.
    """
    level, phase, size = cut(uniforms, (2, 3), (2, 3), ())
    low, high = FIBRILLATION_RMS_MV[..., 0], FIBRILLATION_RMS_MV[..., 1]
    full_scale = math.sqrt(float((HARMONIC_GAIN**2).sum()) / 2.0)
    size_mv = (low + (high - low) * level)[:, None] / full_scale
    angle = 2.0 * jnp.pi * phase[:, None] * jnp.arange(1, HARMONICS + 1)[None, :, None]
    fibrillation = jnp.concatenate([jnp.cos(angle), jnp.sin(angle)], axis=1) * size_mv
    flutter_mv = jnp.asarray(FLUTTER_MV)[:, None] * jnp.exp(FLUTTER_LOG_SD * truncated_normal(size))
    flutter = jnp.concatenate([jnp.broadcast_to(flutter_mv, (2, HARMONICS, 3)), jnp.zeros((2, HARMONICS, 3))], axis=1)
    chosen = jnp.where(is_flutter > 0, flutter, fibrillation)
    return jnp.tile(HARMONIC_GAIN, 2)[:, None] * chosen


declare(
    "sources.atria",
    vars(),
    "POSITION_CM LEFT_ATRIUM CENTRE WIDTH VECTOR_MV REPOLARISATION REPOLARISATION_CENTRE REPOLARISATION_WIDTH "
    "WAVE_REGIONS FIBRILLATION_RMS_MV FLUTTER_MV FLUTTER_LOG_SD DRAWS AtrialFocus FOCUS_CM FIRST_SHARE SHARE_PER_CM "
    "COHERENT_CM",
    version=3,
)
