"""The ventricles as twelve regions: where they lie, where their walls face, what muscle they hold, what leads see.

Each region is one current dipole with a lead field of its own. A front of activation is a uniform double layer: its
moment is its area times a constant, along its direction of travel. Over the region's activation the moment integrates
to (muscle volume / velocity) × direction, so that `STRENGTH_MV_MS`, the size of that integral, belongs to the region
however it is activated, and only the direction belongs to the conduction (van Oosterom & Oostendorp, Prog Biophys Mol
Biol 2004; van Dam et al., Ann Biomed Eng 37:1739, 2009, PMC2721141).

The heart's own frame has the axes: long axis from base to apex; lateral, out of the left ventricle's free wall;
inferior, out of its diaphragmatic wall. Positions are in cm from the left ventricle's middle.
"""

from __future__ import annotations

import enum

import jax
import jax.numpy as jnp
import numpy as np

from ecg_jax.data.synthetic.constants import declare
from ecg_jax.data.synthetic.physiology.leads import DOWER, LEAD_FIELD


class Region(enum.IntEnum):
    """The regions of the ventricles."""

    SEPTUM_LEFT = 0
    SEPTUM_RIGHT = 1
    APEX = 2
    ANTERIOR = 3
    LATERAL = 4
    POSTERIOR = 5
    INFERIOR = 6
    BASE_LATERAL = 7
    BASE_SEPTUM = 8
    RV_FREE_WALL = 9
    RV_APEX = 10
    RV_OUTFLOW = 11


REGIONS = len(Region)

# Positions and normals start from a left ventricle 9 cm long and 6 cm wide with the right one around its septum; they,
# the strengths and the entry times of `conduction` were then moved, against a penalty for moving, until the beat had
# the mean amplitudes of normal adults (Lepeschkin, Modern Electrocardiography, 1951: R 0.53, 0.71, 0.38 mV in I to III;
# 0.23, 0.59, 0.89, 1.42, 1.21, 0.92 in V1 to V6; S 0.86, 1.27, 0.88, 0.52, 0.15, 0.06 there) and the blocks met their
# definitions (AHA/ACCF/HRS 2009, Circulation 119:e235).
POSITION_CM = np.array(
    [
        [1.10, -2.02, 0.07],  # SEPTUM_LEFT
        [0.47, -3.19, 0.21],  # SEPTUM_RIGHT
        [3.95, 1.66, 0.57],  # APEX
        [0.67, -0.25, -2.70],  # ANTERIOR
        [0.84, 2.73, -1.52],  # LATERAL
        [-0.40, 1.99, 1.46],  # POSTERIOR
        [0.67, -0.57, 2.53],  # INFERIOR
        [-1.42, 2.18, 1.68],  # BASE_LATERAL
        [-3.19, -0.45, -1.78],  # BASE_SEPTUM
        [0.76, -4.92, -0.35],  # RV_FREE_WALL
        [2.34, -4.26, 2.00],  # RV_APEX
        [-3.16, -5.98, -2.45],  # RV_OUTFLOW
    ],
    np.float32,
)
#: Which way the walls face, from the endocardium outwards; of the septum's halves, into it (unit vectors).
NORMAL = np.array(
    [
        [0.492, -0.820, -0.293],  # SEPTUM_LEFT
        [0.230, 0.968, -0.103],  # SEPTUM_RIGHT
        [0.911, 0.219, -0.350],  # APEX
        [0.356, 0.185, -0.916],  # ANTERIOR
        [-0.068, 0.877, 0.475],  # LATERAL
        [-0.233, 0.929, 0.288],  # POSTERIOR
        [0.133, 0.092, 0.987],  # INFERIOR
        [-0.419, 0.835, 0.356],  # BASE_LATERAL
        [-0.641, -0.431, -0.635],  # BASE_SEPTUM
        [-0.079, -0.996, 0.049],  # RV_FREE_WALL
        [0.085, -0.755, 0.650],  # RV_APEX
        [-0.582, -0.508, -0.634],  # RV_OUTFLOW
    ],
    np.float32,
)
NORMAL = NORMAL / np.linalg.norm(NORMAL, axis=1, keepdims=True)
#: Muscle volume over velocity: the integral of a region's moment over its activation, mV ms.
STRENGTH_MV_MS = np.array([9.03, 11.31, 14.29, 5.62, 12.85, 15.39, 4.56, 2.94, 3.03, 4.02, 1.96, 0.71], np.float32)
#: The heart's long axis: degrees from the left towards the front, and down; and the turn about it.
HEART_AZIMUTH_DEG, HEART_ELEVATION_DEG, HEART_ROLL_DEG = 43.7, 22.3, 7.5

#: Half the extent of a region, cm: near an electrode its potential is that of a sphere of dipoles, not of a point.
REGION_EXTENT_CM = 4.0
#: The lead vectors of the chest electrodes fall with the square of the distance; that of 1 mV per unit dipole is so far
#: off, cm. It puts V3 at 8.0 and V6 at 10.7 cm from the heart's middle (design: anatomy of an adult chest).
UNIT_DISTANCE_CM = 10.0


#: Of the limbs' electrodes, against their mean (Wilson's central terminal).
LIMB_FIELD = LEAD_FIELD[:3] - LEAD_FIELD[:3].mean(0)


def _chest_electrodes() -> np.ndarray:
    """Where V1 to V6 lie from the heart's middle, cm `(6, 3)`: along Dower's lead vector, as far as its length says."""
    length = np.linalg.norm(DOWER[2:], axis=1, keepdims=True)
    return (UNIT_DISTANCE_CM / np.sqrt(length) * DOWER[2:] / length).astype(np.float32)


CHEST_ELECTRODES_CM = _chest_electrodes()


def _frame() -> np.ndarray:
    """The heart's axes (long, lateral, inferior) as rows in Frank's X, Y, Z."""
    azimuth, elevation, roll = (
        np.radians(HEART_AZIMUTH_DEG),
        np.radians(HEART_ELEVATION_DEG),
        np.radians(HEART_ROLL_DEG),
    )
    cos_e = np.cos(elevation)
    long = np.array([cos_e * np.cos(azimuth), np.sin(elevation), -cos_e * np.sin(azimuth)])
    lateral = np.array([np.sin(azimuth), 0.0, np.cos(azimuth)])
    inferior = -np.cross(lateral, long)
    inferior = inferior * np.sign(inferior[1])
    cos_r, sin_r = np.cos(roll), np.sin(roll)
    return np.stack([long, cos_r * lateral + sin_r * inferior, cos_r * inferior - sin_r * lateral]).astype(np.float32)


HEART_AXES = _frame()


def lead_fields(position_cm: jax.Array, chest_shift_cm: jax.Array | float = 0.0) -> jax.Array:
    """Lead vectors at the nine electrodes of dipoles at `(R, 3)` (cm from the heart's middle, Frank), `(R, 9, 3)`.

    At the heart's middle it is Dower's. A chest electrode's vector turns and grows as the dipole comes near,

        L(p) = |L(0)| g(e - p) / |g(e)|,   g(d) = d / (|d|² + extent²)^(3/2),

    with the electrode at e (moved by `chest_shift_cm`, `(6, 3)`); the limbs are too far off to tell.
    """
    rest_cm = jnp.asarray(CHEST_ELECTRODES_CM)

    def gradient(distance_cm: jax.Array) -> jax.Array:
        square = (distance_cm**2).sum(-1, keepdims=True) + REGION_EXTENT_CM**2
        return distance_cm / square**1.5

    size = np.linalg.norm(DOWER[2:], axis=1, keepdims=True) / np.asarray(
        np.linalg.norm(CHEST_ELECTRODES_CM, axis=1, keepdims=True)
        / (np.sum(CHEST_ELECTRODES_CM**2, axis=1, keepdims=True) + REGION_EXTENT_CM**2) ** 1.5
    )
    chest = jnp.asarray(size, jnp.float32) * gradient(rest_cm + chest_shift_cm - position_cm[:, None])
    limbs = jnp.broadcast_to(jnp.asarray(LIMB_FIELD), (len(position_cm), 3, 3))
    return jnp.concatenate([limbs, chest], axis=1)


declare(
    "sources.ventricles",
    vars(),
    "POSITION_CM NORMAL STRENGTH_MV_MS HEART_AZIMUTH_DEG HEART_ELEVATION_DEG HEART_ROLL_DEG REGION_EXTENT_CM "
    "REGIONS UNIT_DISTANCE_CM LIMB_FIELD CHEST_ELECTRODES_CM HEART_AXES",
    version=3,
)
