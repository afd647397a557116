"""Reference lines: what predictors that need no training steps lose on the held-out records.

Two per objective, `mean` and `linear`. Masked objectives: every lead's mean, and the best linear map across the leads
visible in a patch. Next patch: a Gaussian of mean 0 and deviation 1 for every sample, and a Gaussian whose mean is
linear in the patch before.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from ecg_jax.config import Objective
from ecg_jax.data.ecg import INDEPENDENT_LEAD_INDICES, INDEPENDENT_LEADS, LEADS, RecordPool, normalise
from ecg_jax.evaluate.heldout import HeldOut
from ecg_jax.objectives import masked
from ecg_jax.objectives.next_patch import DEVIATION_FLOOR

#: From the visible cells of a z-scored record `(S, 12)`, the others zeroed, and the hidden units `(S, 7)`: all samples.
Predict = Callable[[np.ndarray, np.ndarray], np.ndarray]
#: From patches `(N, P x 8)`: mean and variance of the patches that follow, of shapes that broadcast to theirs.
Forecast = Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]]

_TARGET = np.array(INDEPENDENT_LEAD_INDICES)
#: The penalty of the linear forecast, as a share of the mean energy of its inputs.
RIDGE = 1e-3


def mean_errors(heldout: HeldOut, objective: Objective = Objective.MASKED) -> np.ndarray:
    """Errors `(R, masks)` of predicting every lead's mean; for the next patch, of N(0, 1), about 1.42 nats."""
    if objective is Objective.NEXT_PATCH:
        return forecast_errors(heldout, lambda patches: (np.zeros(1), np.ones(1)))
    return baseline_errors(heldout, lambda _: lambda visible_SxE, hidden_SxU: np.zeros_like(visible_SxE))


def linear_errors(heldout: HeldOut, training: RecordPool, objective: Objective = Objective.MASKED) -> np.ndarray:
    """Errors `(R, masks)` of the best linear predictor fitted to the training records.

    Masked objectives: the map from the leads visible in a patch to the hidden ones, sample by sample, fitted to second
    moments. Next patch: `linear_forecast`. Raises ValueError where a forecast finds no training record with all leads.
    """
    if objective is Objective.NEXT_PATCH:
        return forecast_errors(heldout, linear_forecast(training, heldout.hidden.shape[2]))
    moment_ExE = np.zeros((len(LEADS), len(LEADS)))
    for ecg in training.ecg:
        x_SxE = normalise(ecg)
        moment_ExE += x_SxE.T.astype(np.float64) @ x_SxE / len(x_SxE)
    moment_ExE /= len(training)
    maps = _linear_maps(moment_ExE)

    def predict(visible_SxE: np.ndarray, hidden_SxU: np.ndarray) -> np.ndarray:
        pattern_S = hidden_SxU @ (1 << np.arange(len(masked.UNITS)))
        return np.einsum("se,sef->sf", visible_SxE, maps[pattern_S])

    return baseline_errors(heldout, lambda _: predict)


# ---- masked objectives -----------------------------------------------------------------------------------------


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
            scored_SxI = hidden_SxU[:, masked.UNIT_OF_TARGET] & held_I
            if not scored_SxI.any():
                raise ValueError(heldout.nothing_scored(row, mask))
            visible_SxE = x_SxE * ~hidden_SxU[:, masked.UNIT_OF_LEAD]
            error_SxI = (predict(visible_SxE, hidden_SxU) - x_SxE)[:, _TARGET]
            errors[row, mask] = np.square(error_SxI[scored_SxI]).mean()
    return errors


def _linear_maps(moment_ExE: np.ndarray) -> np.ndarray:
    """For each of the 2^7 patterns of hidden units, the map `(12, 12)` from visible leads to all leads."""
    maps = np.zeros((2 ** len(masked.UNITS), *moment_ExE.shape), np.float32)
    for pattern in range(len(maps)):
        visible = np.flatnonzero(~(pattern >> masked.UNIT_OF_LEAD & 1).astype(bool))
        block = moment_ExE[np.ix_(visible, visible)]
        # The six limb leads have rank 2, hence the pseudo-inverse.
        maps[pattern, visible] = np.linalg.pinv(block, rcond=1e-6, hermitian=True) @ moment_ExE[visible]
    return maps


def component_residual(
    heldout: HeldOut, training: RecordPool, patch_samples: int, widths: list[int]
) -> dict[int, float]:
    """The share of a patch's energy (eight independent leads) that its first `width` principal components leave.

    Components come from the training records, the residual from the held-out ones: about how well a model can know a
    patch that squeezes it through so few numbers. A reference, not a bound: the loss counts hidden samples only.
    """
    train, test = (_patches(normalise(pool.ecg), patch_samples) for pool in (training, heldout.pool))
    _, vectors = np.linalg.eigh(train.T.astype(np.float64) @ train)
    energy = ((test @ vectors[:, ::-1]) ** 2).sum(axis=0)
    kept = np.concatenate([[0.0], np.cumsum(energy)]) / energy.sum()
    return {width: float(max(0.0, 1 - kept[min(width, len(energy))])) for width in widths}


# ---- next patch ------------------------------------------------------------------------------------------------


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
        x_TxF = _patches(x_SxE, len(x_SxE) // patches)
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
            x_TxF = _patches(x_SxE, samples).astype(np.float64)
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


def _patches(x: np.ndarray, patch_samples: int) -> np.ndarray:
    """Z-scored records `(…, S, 12)` as patches of the independent leads `(…, P x 8)`, all in one row."""
    return x[..., _TARGET].reshape(-1, patch_samples * len(_TARGET))
