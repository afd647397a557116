"""The next-patch objective: a Gaussian likelihood of every sample of the next patch, given all patches before it.

The loss is the mean negative log likelihood per sample of the independent leads, in nats, on z-scored records:
1.42 for a model that knows nothing (mean 0, deviation 1). Needs causal attention and a Gaussian read-out.
"""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp
import numpy as np

from ecg_jax.config import Readout
from ecg_jax.data.ecg import INDEPENDENT_LEAD_INDICES
from ecg_jax.models import Model, Params
from ecg_jax.objectives.masked import UNITS, present, targets, visible

#: Added in squares to the predicted deviation: whole counts make stretches of a record exactly flat, and their
#: density would grow without end.
DEVIATION_FLOOR = 0.02


def draw_nothing(key: jax.Array, batch: int, patches: int, ratio: float) -> jax.Array:
    """Hides nothing: `(batch, patches, 7)`, all False. The future hides itself."""
    return jnp.zeros((batch, patches, len(UNITS)), bool)


def errors(model: Model, params: Params, ecg_BxSxE: jax.Array, hidden_BxTxU: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Sum of negative log likelihoods over the second to last patches, and the number of samples, per record `(B,)`.

    Raises ValueError where the model predicts something other than two numbers per sample.
    """
    out_BxTxPxIx2 = model.apply(params, ecg_BxSxE, visible(ecg_BxSxE, hidden_BxTxU))
    target_BxTxPxI = targets(ecg_BxSxE, hidden_BxTxU.shape[1])
    if out_BxTxPxIx2.shape != (*target_BxTxPxI.shape, 2):
        raise ValueError(
            f"the next-patch objective needs a {Readout.GAUSSIAN} read-out of {(*target_BxTxPxI.shape, 2)}; "
            f"the model predicts {out_BxTxPxIx2.shape}"
        )
    mean, log_deviation = out_BxTxPxIx2[:, :-1, ..., 0], out_BxTxPxIx2[:, :-1, ..., 1]
    variance = jnp.exp(2 * log_deviation) + DEVIATION_FLOOR**2
    error = target_BxTxPxI[:, 1:] - mean
    nats = 0.5 * (jnp.square(error) / variance + jnp.log(2 * math.pi * variance))
    held_Bx1x1xI = present(ecg_BxSxE)[:, None, None, np.array(INDEPENDENT_LEAD_INDICES)]
    count = jnp.sum(held_Bx1x1xI, axis=(1, 2, 3)) * math.prod(nats.shape[1:3])
    return jnp.sum(nats * held_Bx1x1xI, axis=(1, 2, 3)), count
