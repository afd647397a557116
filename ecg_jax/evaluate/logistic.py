"""L2-penalised logistic regression of a label along a path of strengths, by Newton's method.

At strength C it minimises, as scikit-learn does, |w|^2 / 2 + C sum_n log(1 + exp(-y_n (x_n w + b))), the intercept b
not penalised. Each strength begins where the one before ended, from the weakest on, so that few steps are left to
take; the features' principal axes are found once for all labels and strengths.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np
from scipy.linalg import blas, cho_factor, cho_solve
from scipy.special import expit

#: Steps at most, and the decrement (twice what a step still promises) per record and strength at which they end.
MOST_STEPS, TOLERANCE = 100, 1e-12
#: A step is taken when it brings so much of what the slope promises (Armijo); else it is halved, so many times at most.
_ARMIJO, _HALVINGS = 1e-4, 40


@dataclasses.dataclass(frozen=True)
class Axes:
    """Features `(N, D)` on the axes along which they vary, `(N, R + 1)` with a last column of ones."""

    z_NxR: np.ndarray
    axes_RxD: np.ndarray
    mean_D: np.ndarray

    def unturn(self, x_PxR: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Weights `(P, D)` and intercepts `(P,)` on the features from such `(P, R + 1)` on the axes."""
        weight_PxD = x_PxR[:, :-1] @ self.axes_RxD
        return weight_PxD, x_PxR[:, -1] - weight_PxD @ self.mean_D


def check_features(feature_NxD: np.ndarray) -> None:
    """Raises ValueError for features that are no finite numbers, with the number of such records."""
    bad = ~np.isfinite(feature_NxD).all(axis=1)
    if bad.any():
        raise ValueError(f"{int(bad.sum())} of {len(bad)} records have features that are no finite numbers")


def find_axes(feature_NxD: np.ndarray) -> Axes:
    """Raises ValueError for features that are no numbers, or the same in all records."""
    feature_NxD = np.asarray(feature_NxD, np.float64)
    check_features(feature_NxD)
    mean_D = feature_NxD.mean(axis=0)
    _, singular_R, axes_RxD = np.linalg.svd(feature_NxD - mean_D, full_matrices=False)
    kept = singular_R > max(singular_R[0], np.abs(mean_D).max()) * max(feature_NxD.shape) * np.finfo(float).eps
    if not kept.any():
        raise ValueError(f"all {len(feature_NxD)} records have the same features")
    z_NxR = np.append((feature_NxD - mean_D) @ axes_RxD[kept].T, np.ones((len(feature_NxD), 1)), axis=1)
    return Axes(np.asfortranarray(z_NxR), axes_RxD[kept], mean_D)


def fit_path(axes: Axes, positive_N: np.ndarray, strengths: Sequence[float]) -> tuple[np.ndarray, np.ndarray]:
    """Weights `(P, D)` and intercepts `(P,)` of one label at P strengths, which rise.

    Raises ValueError for labels of one value, or strengths that are not positive and rising, and ArithmeticError where
    the steps do not end.
    """
    strength_P = np.asarray(strengths, np.float64)
    if positive_N.all() or not positive_N.any():
        raise ValueError(f"the label has one value in all {len(positive_N)} records")
    if not (strength_P > 0).all() or not (np.diff(strength_P) > 0).all():
        raise ValueError(f"strengths are positive and rise: {strength_P.tolist()}")
    share = positive_N.mean()
    x_R = np.append(np.zeros(axes.z_NxR.shape[1] - 1), np.log(share / (1 - share)))
    sign_N, path = np.where(positive_N, 1.0, -1.0), []
    for strength in strength_P:
        x_R = _minimise(axes.z_NxR, sign_N, strength, x_R)
        path.append(x_R)
    return axes.unturn(np.array(path))


def _minimise(z_NxR: np.ndarray, sign_N: np.ndarray, strength: float, x_R: np.ndarray) -> np.ndarray:
    penalty_R = np.append(np.ones(len(x_R) - 1), 0.0)
    score_N = z_NxR @ x_R
    for _ in range(MOST_STEPS):
        wrong_N = expit(-sign_N * score_N)  # how far each record is from its label
        gradient_R = penalty_R * x_R - strength * (z_NxR.T @ (sign_N * wrong_N))
        direction_R = -_solve(z_NxR, strength * wrong_N * (1 - wrong_N), penalty_R, gradient_R)
        slope = gradient_R @ direction_R
        if -slope <= TOLERANCE * (1 + strength * len(sign_N)):
            return x_R
        along_N = z_NxR @ direction_R
        length = _step_length(sign_N, strength, (x_R, score_N), (direction_R, along_N), slope)
        x_R, score_N = x_R + length * direction_R, score_N + length * along_N
    raise ArithmeticError(f"a fit at strength {strength:g} took {MOST_STEPS} steps and had not ended")


def _solve(z_NxR: np.ndarray, weight_N: np.ndarray, penalty_R: np.ndarray, gradient_R: np.ndarray) -> np.ndarray:
    """What the inverse Hessian makes of a gradient."""
    hessian = blas.dsyrk(1.0, z_NxR * np.sqrt(weight_N)[:, None], trans=1)  # its upper half
    hessian[np.diag_indices_from(hessian)] += penalty_R + 1e-12 * hessian.diagonal().max()
    return cho_solve(cho_factor(hessian, overwrite_a=True, check_finite=False), gradient_R, check_finite=False)


def _step_length(
    sign_N: np.ndarray,
    strength: float,
    at: tuple[np.ndarray, np.ndarray],
    direction: tuple[np.ndarray, np.ndarray],
    slope: float,
) -> float:
    """The first of 1, 1/2, 1/4, … that brings enough; weights and scores `at`, and along the `direction`."""

    def loss(length: float) -> float:
        x_R, score_N = (begin + length * step for begin, step in zip(at, direction, strict=True))
        return 0.5 * x_R[:-1] @ x_R[:-1] + strength * np.logaddexp(0, -sign_N * score_N).sum()

    before, length = loss(0.0), 1.0
    for _ in range(_HALVINGS):
        if loss(length) <= before + _ARMIJO * length * slope + 1e-13 * abs(before):
            break
        length /= 2
    return length
