"""The masked objective: reconstruct what is hidden of a record from what is visible.

The six limb leads form one unit, since they have rank 2 and any two give the others; V1-V6 are one unit each. Each
(time patch x unit) cell is hidden with the same probability, independently. The loss is the mean squared error over
hidden samples of the eight independent leads, on z-scored records.

Reference lines: every lead's mean, and the best linear map across the leads visible in a patch.
"""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import PartitionSpec as P

from ecg_jax.config import Readout
from ecg_jax.data.ecg import INDEPENDENT_LEAD_INDICES, INDEPENDENT_LEADS, LEADS, RecordPool, normalise
from ecg_jax.models import Model, Params
from ecg_jax.objectives.contract import HeldOut, Task, Words

UNITS = ("limb", "V1", "V2", "V3", "V4", "V5", "V6")
#: The unit of each of the twelve leads, and of each of the eight independent ones.
UNIT_OF_LEAD = np.array([UNITS.index(lead) if lead in UNITS else 0 for lead in LEADS])
UNIT_OF_TARGET = np.array([UNITS.index(lead) if lead in UNITS else 0 for lead in INDEPENDENT_LEADS])
_TARGET = np.array(INDEPENDENT_LEAD_INDICES)
#: From the visible cells of a z-scored record `(S, 12)`, the others zeroed, and the hidden units `(S, 7)`: all samples.
Predict = Callable[[np.ndarray, np.ndarray], np.ndarray]


def draw_cells(key: jax.Array, batch: int, patches: int, ratio: float) -> jax.Array:
    """Hides each of `batch x patches x 7` cells with probability `ratio`; True is hidden."""
    return jax.random.bernoulli(key, ratio, (batch, patches, len(UNITS)))


def draw_frozen_cells(bits: np.random.Generator, patches: int, ratio: float) -> np.ndarray:
    """Hides each of `patches x 7` cells with probability `ratio`; True is hidden."""
    return bits.random((patches, len(UNITS))) < ratio


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


def with_nothing_hidden(ecg_BxSxE: jax.Array, patches: int) -> jax.Array:
    """What the model may see of whole records, `(B, T, 12)`. Needs a mesh in force."""
    nothing_BxTxU = jnp.zeros((ecg_BxSxE.shape[0], patches, len(UNITS)), bool)
    return visible(ecg_BxSxE, jax.reshard(nothing_BxTxU, P("data")))


def patches_of(x: np.ndarray, patch_samples: int) -> np.ndarray:
    """Z-scored records `(…, S, 12)` as patches of the independent leads `(…, P x 8)`, all in one row."""
    return x[..., _TARGET].reshape(-1, patch_samples * len(_TARGET))


def targets(ecg_BxSxE: jax.Array, patches: int) -> jax.Array:
    """The independent leads in patches, `(B, T, P, 8)`."""
    batch, samples = ecg_BxSxE.shape[:2]
    shape = (batch, patches, samples // patches, len(INDEPENDENT_LEADS))
    return ecg_BxSxE[:, :, _TARGET].reshape(shape, out_sharding=P("data"))


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
    held_BxI = present(ecg_BxSxE)[:, _TARGET]
    scored_BxTx1xI = (hidden_BxTxU[:, :, UNIT_OF_TARGET] & held_BxI[:, None])[:, :, None]
    squares = jnp.sum(jnp.square(predicted_BxTxPxI - target_BxTxPxI) * scored_BxTx1xI, axis=(1, 2, 3))
    return squares, jnp.sum(scored_BxTx1xI, axis=(1, 2, 3)) * predicted_BxTxPxI.shape[2]


# ---- reference lines --------------------------------------------------------------------------------------------


def mean_errors(heldout: HeldOut) -> np.ndarray:
    """Errors `(R, masks)` of predicting every lead's mean."""
    return baseline_errors(heldout, lambda _: lambda visible_SxE, hidden_SxU: np.zeros_like(visible_SxE))


def linear_errors(heldout: HeldOut, training: RecordPool) -> np.ndarray:
    """Errors `(R, masks)` of the best linear map from the leads visible in a patch to the hidden ones, sample by
    sample, fitted to the second moments of the training records."""
    moment_ExE = np.zeros((len(LEADS), len(LEADS)))
    for ecg in training.ecg:
        x_SxE = normalise(ecg)
        moment_ExE += x_SxE.T.astype(np.float64) @ x_SxE / len(x_SxE)
    moment_ExE /= len(training)
    maps = _linear_maps(moment_ExE)

    def predict(visible_SxE: np.ndarray, hidden_SxU: np.ndarray) -> np.ndarray:
        pattern_S = hidden_SxU @ (1 << np.arange(len(UNITS)))
        return np.einsum("se,sef->sf", visible_SxE, maps[pattern_S])

    return baseline_errors(heldout, lambda _: predict)


def baseline_errors(heldout: HeldOut, predict_of: Callable[[np.ndarray], Predict]) -> np.ndarray:
    """Mean squared errors `(R, masks)` of a predictor of hidden cells, over leads that a record holds.

    `predict_of` makes the predictor of one z-scored record `(S, 12)`, once for all its masks; what it takes from the
    whole record, hidden cells included, must be said of the line. Raises ValueError where nothing is hidden.
    """
    patches = heldout.hidden.shape[2]
    errors = np.empty(heldout.hidden.shape[:2])
    for row, ecg in enumerate(heldout.pool.ecg):
        x_SxE = normalise(ecg)
        predict = predict_of(x_SxE)
        held_I = x_SxE[:, _TARGET].any(axis=0)
        for mask, hidden_TxU in enumerate(heldout.hidden[row]):
            hidden_SxU = np.repeat(hidden_TxU, len(x_SxE) // patches, axis=0)
            scored_SxI = hidden_SxU[:, UNIT_OF_TARGET] & held_I
            if not scored_SxI.any():
                raise ValueError(heldout.nothing_scored(row, mask))
            visible_SxE = x_SxE * ~hidden_SxU[:, UNIT_OF_LEAD]
            error_SxI = (predict(visible_SxE, hidden_SxU) - x_SxE)[:, _TARGET]
            errors[row, mask] = np.square(error_SxI[scored_SxI]).mean()
    return errors


def _linear_maps(moment_ExE: np.ndarray) -> np.ndarray:
    """For each of the 2^7 patterns of hidden units, the map `(12, 12)` from visible leads to all leads."""
    maps = np.zeros((2 ** len(UNITS), *moment_ExE.shape), np.float32)
    for pattern in range(len(maps)):
        visible = np.flatnonzero(~(pattern >> UNIT_OF_LEAD & 1).astype(bool))
        block = moment_ExE[np.ix_(visible, visible)]
        # The six limb leads have rank 2, hence the pseudo-inverse.
        maps[pattern, visible] = np.linalg.pinv(block, rcond=1e-6, hermitian=True) @ moment_ExE[visible]
    return maps


def expected_cells(out_TxPxI: np.ndarray, hidden_TxU: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The hidden cells as the model fills them in, and no deviation."""
    hidden_Tx1xI = hidden_TxU[:, None, UNIT_OF_TARGET]
    return np.where(hidden_Tx1xI, out_TxPxI, np.nan), np.zeros_like(out_TxPxI)


def share_of_squares(loss: float, reference: float) -> float:
    """The ratio of two mean squared errors."""
    return loss / reference


MASKED = Task(
    draw=draw_cells,
    draw_frozen=draw_frozen_cells,
    errors=errors,
    mean_errors=mean_errors,
    linear_errors=linear_errors,
    share=share_of_squares,
    expected=expected_cells,
    ratio=0.6,
    words=Words(
        task="reconstructs {} of all cells of a time patch and a lead (the six limb leads count as one)",
        loss="mean squared error of hidden samples, in variances of their lead",
        mean="the mean of every lead",
        linear="the best linear map across the leads visible at a time",
        title="lead x time cells hidden",
    ),
)
