"""The next-patch objective: a Gaussian likelihood of every sample of the next patch, given all patches before it.

The loss is the mean negative log likelihood per sample of the independent leads, in nats, on z-scored records:
1.42 for a model that knows nothing (mean 0, deviation 1). Needs causal attention and a Gaussian read-out.

Reference lines: a Gaussian of mean 0 and deviation 1 for every sample, and a Gaussian whose mean is linear in the patch
before.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from ecg_jax.config import Readout
from ecg_jax.data.ecg import INDEPENDENT_LEAD_INDICES, INDEPENDENT_LEADS, RecordPool, normalise
from ecg_jax.models import Model, Params
from ecg_jax.objectives.contract import HeldOut, Task, Words
from ecg_jax.objectives.masked import UNITS, patches_of, present, targets, visible

#: Added in squares to the predicted deviation: whole counts make stretches of a record exactly flat, and their
#: density would grow without end.
DEVIATION_FLOOR = 0.02
#: The penalty of the linear forecast, as a share of the mean energy of its inputs.
RIDGE = 1e-3
#: From patches `(N, P x 8)`: mean and variance of the patches that follow, of shapes that broadcast to theirs.
Forecast = Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]]

_TARGET = np.array(INDEPENDENT_LEAD_INDICES)


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
    held_Bx1x1xI = present(ecg_BxSxE)[:, None, None, _TARGET]
    count = jnp.sum(held_Bx1x1xI, axis=(1, 2, 3)) * math.prod(nats.shape[1:3])
    return jnp.sum(nats * held_Bx1x1xI, axis=(1, 2, 3)), count


def expected_next(out_TxPxIx2: np.ndarray, hidden_TxU: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Every patch as it is expected from those before, and with which deviation; NaN for the first."""
    ahead_TxPxIx2 = np.concatenate([np.full_like(out_TxPxIx2[:1], np.nan), out_TxPxIx2[:-1]])
    return ahead_TxPxIx2[..., 0], np.hypot(np.exp(ahead_TxPxIx2[..., 1]), DEVIATION_FLOOR)


def share_of_entropy_power(loss: float, reference: float) -> float:
    """exp(2 (loss - reference)), the ratio of entropy powers (Shannon 1948, section 21): a log likelihood may be
    negative, and its unit shifts it. For two Gaussians it is the ratio of their variances."""
    return math.exp(min(2 * (loss - reference), 700.0))  # e^710 overflows


# ---- reference lines --------------------------------------------------------------------------------------------


def mean_errors(heldout: HeldOut) -> np.ndarray:
    """Errors `(R, masks)` of N(0, 1) for every sample, about 1.42 nats."""
    return forecast_errors(heldout, lambda patches: (np.zeros(1), np.ones(1)))


def linear_errors(heldout: HeldOut, training: RecordPool) -> np.ndarray:
    """Errors `(R, masks)` of `linear_forecast`. Raises ValueError where no training record holds all leads."""
    return forecast_errors(heldout, linear_forecast(training, heldout.hidden.shape[2]))


def forecast_errors(heldout: HeldOut, forecast: Forecast) -> np.ndarray:
    """Mean negative log likelihoods `(R, masks)` in nats of a Gaussian forecast of every patch but the first, over
    leads that a record holds. Every mask of a record gets the same: nothing is hidden but the future.

    Raises ValueError for a record that holds none of the independent leads.
    """
    patches = heldout.hidden.shape[2]
    errors = np.empty(heldout.hidden.shape[:2])
    for row, ecg in enumerate(heldout.pool.ecg):
        x_SxE = normalise(ecg)
        held_I = x_SxE[:, _TARGET].any(axis=0)
        if not held_I.any():
            raise ValueError(heldout.nothing_scored(row, 0))
        x_TxF = patches_of(x_SxE, len(x_SxE) // patches)
        mean, variance = forecast(x_TxF[:-1])
        nats_TxF = 0.5 * ((x_TxF[1:] - mean) ** 2 / variance + np.log(2 * math.pi * variance))
        errors[row] = nats_TxF.reshape(-1, len(_TARGET))[:, held_I].mean()
    return errors


def linear_forecast(training: RecordPool, patches: int) -> Forecast:
    """The Gaussian forecast of the next patch from the one before: a ridge regression from all samples of the eight
    independent leads to all samples, and the variance it leaves of each, in the training records that hold all leads.

    The variance has the floor of the objective's own. Raises ValueError where no training record holds all leads.
    """
    samples = training.ecg.shape[1] // patches
    features = samples * len(_TARGET)
    before_FxF, across_FxF, after_F, count = np.zeros((features,) * 2), np.zeros((features,) * 2), np.zeros(features), 0
    for ecg in training.ecg:
        x_SxE = normalise(ecg)
        if x_SxE[:, _TARGET].any(axis=0).all():
            x_TxF = patches_of(x_SxE, samples).astype(np.float64)
            before_FxF += x_TxF[:-1].T @ x_TxF[:-1]
            across_FxF += x_TxF[:-1].T @ x_TxF[1:]
            after_F += np.square(x_TxF[1:]).sum(axis=0)
            count += len(x_TxF) - 1
    if not count:
        raise ValueError(f"{training.source}: no training record holds all of {', '.join(INDEPENDENT_LEADS)}")
    penalty = RIDGE * np.trace(before_FxF) / features
    map_FxF = np.linalg.solve(before_FxF + penalty * np.eye(features), across_FxF)
    left_F = after_F - np.sum(map_FxF * (2 * across_FxF - before_FxF @ map_FxF), axis=0)
    variance_F = np.maximum(left_F, 0) / count + DEVIATION_FLOOR**2
    return lambda patches_NxF: (patches_NxF @ map_FxF, variance_F)


NEXT_PATCH = Task(
    draw=draw_nothing,
    draw_frozen=None,
    errors=errors,
    mean_errors=mean_errors,
    linear_errors=linear_errors,
    share=share_of_entropy_power,
    expected=expected_next,
    ratio=0.6,  # nothing is hidden but the future; kept in the identity of runs
    words=Words(
        task="predicts the next time patch of all leads from those before it",
        loss="negative log likelihood of the samples of the next patch, in nats",
        mean="a Gaussian of mean 0 and deviation 1",
        linear="a Gaussian whose mean is linear in the patch before",
        title="next patch, mean and deviation",
    ),
)
