"""Fourth stage: what the electrodes see. Dower's lead field for nine electrodes, eight leads measured, four derived.

Potentials are formed at the electrodes, so that whatever later disturbs an electrode obeys Einthoven and Goldberger.
"""

from __future__ import annotations

import dataclasses
import math

import jax
import jax.numpy as jnp
import numpy as np

from ecg_jax.data.ecg import Array
from ecg_jax.data.synthetic.constants import declare
from ecg_jax.data.synthetic.physiology.patient import Population
from ecg_jax.data.synthetic.randomness.draws import cut, truncated_normal

ELECTRODES = ("RA", "LA", "LL", "V1", "V2", "V3", "V4", "V5", "V6")

#: Frank X (left), Y (inferior), Z (posterior) to the independent leads: Dower, Machado & Osborne 1980.
DOWER = np.array(
    [
        [0.632, -0.235, 0.059],  # I
        [0.235, 1.066, -0.132],  # II
        [-0.515, 0.157, -0.917],  # V1
        [0.044, 0.164, -1.387],  # V2
        [0.882, 0.098, -1.277],  # V3
        [1.213, 0.127, -0.601],  # V4
        [1.125, 0.127, -0.086],  # V5
        [0.831, 0.076, 0.230],  # V6
    ],
    np.float32,
)


def _electrodes_to_leads() -> np.ndarray:
    to_leads = np.zeros((8, 9))
    to_leads[0, [0, 1]] = -1, 1  # I = LA - RA
    to_leads[1, [0, 2]] = -1, 1  # II = LL - RA
    to_leads[2:, 3:] = np.eye(6)
    to_leads[2:, :3] = -1 / 3  # Wilson's central terminal
    return to_leads.astype(np.float32)


#: Potentials at `ELECTRODES` to the independent leads, (8, 9).
ELECTRODES_TO_LEADS = _electrodes_to_leads()
#: The heart's dipole to potentials against Wilson's central terminal, (9, 3): the limb potentials sum to zero.
LEAD_FIELD = np.linalg.pinv(ELECTRODES_TO_LEADS).astype(np.float32) @ DOWER


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Weights:
    """What each kernel adds at each electrode (or lead), in mV: at rest, and more per unit of breath."""

    rest: jax.Array  # (kernels, electrodes or leads)
    breath: jax.Array


def sample_weights(
    row: jax.Array,
    residual_row: jax.Array,
    vector_mv_Gx3: jax.Array,
    body_gain: jax.Array,
    population: Population,
    anatomy: float,
    residual: float,
    breathing: float,
) -> Weights:
    """Projects wave vectors (mV) through one patient's lead field: weights `(kernels, 9)` at the electrodes.

    Electrode positions vary (`anatomy` times `lead_field_sd`); each kernel has, at each electrode, a part that no
    dipole explains (`residual` times `nondipolar_fraction` of its potential over all electrodes); and with the breath
    the heart turns about an axis of the patient's and changes its size (`breathing`). A scale of 0 leaves its part out.
    """
    field_draws, turn, swell = cut(truncated_normal(row), LEAD_FIELD.shape, (3,), ())
    field_9x3 = jnp.asarray(LEAD_FIELD)
    if anatomy:
        size = jnp.asarray(np.linalg.norm(LEAD_FIELD, axis=1, keepdims=True) / np.sqrt(3.0))
        field_9x3 = field_9x3 + anatomy * population.lead_field_sd * size * field_draws
    field_9x3 = body_gain * field_9x3
    potential_Gx9 = vector_mv_Gx3 @ field_9x3.T
    breath_Gx9 = jnp.zeros_like(potential_Gx9)
    if breathing:
        angle_rad = breathing * math.radians(population.breath_turn_sd_deg) * turn
        moved = jnp.cross(jnp.broadcast_to(angle_rad, vector_mv_Gx3.shape), vector_mv_Gx3)
        moved = moved + breathing * population.breath_gain_sd * swell * vector_mv_Gx3
        breath_Gx9 = moved @ field_9x3.T
    if residual:
        # The last harmonics of fibrillation go without: the row holds draws for 28 kernels.
        kernels = min(len(residual_row) // len(ELECTRODES), len(potential_Gx9))
        (draws,) = cut(truncated_normal(residual_row), (kernels, len(ELECTRODES)))
        draws = jnp.pad(draws, ((0, len(potential_Gx9) - kernels), (0, 0)))
        rms_Gx1 = jnp.sqrt((potential_Gx9**2).mean(-1, keepdims=True))
        potential_Gx9 = potential_Gx9 + residual * population.nondipolar_fraction * rms_Gx1 * draws
    return Weights(potential_Gx9, breath_Gx9)


def twelve_leads(independent: Array) -> Array:
    """Completes leads I, II, V1–V6 `(..., 8)` to the twelve in the record's order, by Einthoven and Goldberger.

    Works on NumPy and JAX arrays alike.
    """
    xp = np if isinstance(independent, np.ndarray) else jnp
    i, ii = independent[..., 0], independent[..., 1]
    limb = xp.stack([i, ii, ii - i, -(i + ii) / 2, i - ii / 2, ii - i / 2], axis=-1)
    return xp.concatenate([limb, independent[..., 2:]], axis=-1)


declare("leads", vars(), "ELECTRODES DOWER ELECTRODES_TO_LEADS LEAD_FIELD")
