"""The primary objective: reconstruct hidden (time patch x lead unit) cells from the visible ones.

The six limb leads form one unit, since they have rank 2 and any two give the others; V1-V6 are one unit each. Every
cell is hidden with the same probability, independently. Hidden samples are zeroed and the mask bits are an input. The
loss is the mean squared error over hidden samples of the eight independent leads, on z-scored records.
"""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import PartitionSpec as P

from ecg_jax.data.ecg import INDEPENDENT_LEAD_INDICES, INDEPENDENT_LEADS, LEADS

UNITS = ("limb", "V1", "V2", "V3", "V4", "V5", "V6")
#: The unit of each of the twelve leads, and of each of the eight independent ones.
UNIT_OF_LEAD = np.array([UNITS.index(lead) if lead in UNITS else 0 for lead in LEADS])
UNIT_OF_TARGET = np.array([UNITS.index(lead) if lead in UNITS else 0 for lead in INDEPENDENT_LEADS])


def draw_mask(key: jax.Array, batch: int, patches: int, ratio: float) -> jax.Array:
    """Hides each of `batch x patches x 7` cells with probability `ratio`; True is hidden."""
    return jax.random.bernoulli(key, ratio, (batch, patches, len(UNITS)))


def hide(ecg_BxSxE: jax.Array, hidden_BxTxU: jax.Array) -> jax.Array:
    """Zeroes the hidden cells of z-scored records."""
    batch, samples, leads = ecg_BxSxE.shape
    patches = hidden_BxTxU.shape[1]
    visible_BxTx1xE = ~hidden_BxTxU[:, :, None, UNIT_OF_LEAD]
    shape = (batch, patches, samples // patches, leads)
    cells = ecg_BxSxE.reshape(shape, out_sharding=P("data")) * visible_BxTx1xE
    return cells.reshape(batch, samples, leads, out_sharding=P("data"))


def errors(
    apply: Callable[..., jax.Array], params: object, ecg_BxSxE: jax.Array, hidden_BxTxU: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """Sum of squared errors over hidden samples of the independent leads, and their number, per record `(B,)`."""
    predicted_BxTxPxL = apply(params, hide(ecg_BxSxE, hidden_BxTxU), hidden_BxTxU)
    target_BxSxL = ecg_BxSxE[:, :, np.array(INDEPENDENT_LEAD_INDICES)]
    target_BxTxPxL = target_BxSxL.reshape(predicted_BxTxPxL.shape, out_sharding=P("data"))
    hidden_BxTx1xL = hidden_BxTxU[:, :, None, UNIT_OF_TARGET]
    squares = jnp.sum(jnp.square(predicted_BxTxPxL - target_BxTxPxL) * hidden_BxTx1xL, axis=(1, 2, 3))
    count = jnp.sum(hidden_BxTx1xL, axis=(1, 2, 3)) * predicted_BxTxPxL.shape[2]
    return squares, count


def loss(apply: Callable[..., jax.Array], params: object, ecg_BxSxE: jax.Array, hidden_BxTxU: jax.Array) -> jax.Array:
    """The training loss of a batch: mean squared error over all its hidden samples."""
    squares, count = errors(apply, params, ecg_BxSxE, hidden_BxTxU)
    return jnp.sum(squares) / jnp.maximum(jnp.sum(count), 1)
