"""Masked objectives: reconstruct what is hidden of a record from what is visible.

The six limb leads form one unit, since they have rank 2 and any two give the others; V1-V6 are one unit each. The
primary objective hides each (time patch x unit) cell with the same probability, independently; the whole-time one
hides patches in all units at once. The loss is the mean squared error over hidden samples of the eight independent
leads, on z-scored records.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import PartitionSpec as P

from ecg_jax.config import Readout
from ecg_jax.data.ecg import INDEPENDENT_LEAD_INDICES, INDEPENDENT_LEADS, LEADS
from ecg_jax.models import Model, Params

UNITS = ("limb", "V1", "V2", "V3", "V4", "V5", "V6")
#: The unit of each of the twelve leads, and of each of the eight independent ones.
UNIT_OF_LEAD = np.array([UNITS.index(lead) if lead in UNITS else 0 for lead in LEADS])
UNIT_OF_TARGET = np.array([UNITS.index(lead) if lead in UNITS else 0 for lead in INDEPENDENT_LEADS])


def draw_cells(key: jax.Array, batch: int, patches: int, ratio: float) -> jax.Array:
    """Hides each of `batch x patches x 7` cells with probability `ratio`; True is hidden."""
    return jax.random.bernoulli(key, ratio, (batch, patches, len(UNITS)))


def draw_patches(key: jax.Array, batch: int, patches: int, ratio: float) -> jax.Array:
    """Hides each of `batch x patches` patches in all seven units with probability `ratio`; True is hidden."""
    hidden = jax.random.bernoulli(key, ratio, (batch, patches, 1))
    return jnp.broadcast_to(hidden, (batch, patches, len(UNITS)))


def present(ecg_BxSxE: jax.Array) -> jax.Array:
    """Which leads a z-scored record holds, `(B, 12)`: a lead that is lacking or flat is zero throughout."""
    return (ecg_BxSxE != 0).any(axis=1)


def visible(ecg_BxSxE: jax.Array, hidden_BxTxU: jax.Array) -> jax.Array:
    """Which leads of which patches the model may see, `(B, T, 12)`: those that are present and not hidden.

    Raises ValueError where `hidden` does not speak of the seven units of these records.
    """
    if hidden_BxTxU.ndim != 3 or hidden_BxTxU.shape[::2] != (len(ecg_BxSxE), len(UNITS)):
        raise ValueError(
            f"what is hidden of {len(ecg_BxSxE)} records must be ({len(ecg_BxSxE)}, patches, {len(UNITS)} units), "
            f"not {hidden_BxTxU.shape}"
        )
    return ~hidden_BxTxU[:, :, UNIT_OF_LEAD] & present(ecg_BxSxE)[:, None]


def targets(ecg_BxSxE: jax.Array, patches: int) -> jax.Array:
    """The independent leads in patches, `(B, T, P, 8)`."""
    batch, samples = ecg_BxSxE.shape[:2]
    shape = (batch, patches, samples // patches, len(INDEPENDENT_LEADS))
    return ecg_BxSxE[:, :, np.array(INDEPENDENT_LEAD_INDICES)].reshape(shape, out_sharding=P("data"))


def errors(model: Model, params: Params, ecg_BxSxE: jax.Array, hidden_BxTxU: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Sum of squared errors over hidden samples of the independent leads, and their number, per record `(B,)`.

    Raises ValueError where the model predicts something other than one value per sample.
    """
    predicted_BxTxPxI = model.apply(params, ecg_BxSxE, visible(ecg_BxSxE, hidden_BxTxU))
    target_BxTxPxI = targets(ecg_BxSxE, hidden_BxTxU.shape[1])
    if predicted_BxTxPxI.shape != target_BxTxPxI.shape:
        raise ValueError(
            f"masked objectives need a {Readout.VALUE} read-out of {target_BxTxPxI.shape}; "
            f"the model predicts {predicted_BxTxPxI.shape}"
        )
    held_BxI = present(ecg_BxSxE)[:, np.array(INDEPENDENT_LEAD_INDICES)]
    scored_BxTx1xI = (hidden_BxTxU[:, :, UNIT_OF_TARGET] & held_BxI[:, None])[:, :, None]
    squares = jnp.sum(jnp.square(predicted_BxTxPxI - target_BxTxPxI) * scored_BxTx1xI, axis=(1, 2, 3))
    return squares, jnp.sum(scored_BxTx1xI, axis=(1, 2, 3)) * predicted_BxTxPxI.shape[2]
