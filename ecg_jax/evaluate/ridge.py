"""How much of a number, an age or an interval, frozen features tell: ridge regression, and its errors with intervals.

The penalty is chosen inside the training records, by folds of their patients, of as many strengths as the linear
probe's. Features and target are standardised by the training records.
"""

from __future__ import annotations

import dataclasses

import numpy as np

from ecg_jax.evaluate.intervals import LEVEL, REPLICATES, Interval
from ecg_jax.evaluate.logistic import check_features
from ecg_jax.evaluate.probe import FOLDS, moments, patient_folds

#: Penalties per training record, strongest first.
PENALTIES = tuple(float(penalty) for penalty in np.logspace(4, -7, 12))


@dataclasses.dataclass(frozen=True)
class RidgeProbe:
    """A linear map from features to one number, in the number's own unit."""

    mean_D: np.ndarray
    weight_D: np.ndarray
    intercept: float
    penalty: float

    def predict(self, feature_NxD: np.ndarray) -> np.ndarray:
        """The number for each record, `(N,)`. Raises ValueError for features that do not fit, or are not finite."""
        if feature_NxD.ndim != 2 or feature_NxD.shape[1] != len(self.mean_D):
            raise ValueError(f"features of shape {feature_NxD.shape} for a probe of {len(self.mean_D)} features")
        check_features(feature_NxD)
        return (feature_NxD - self.mean_D) @ self.weight_D + self.intercept


def fit_ridge_probe(
    feature_NxD: np.ndarray, value_N: np.ndarray, patient_N: np.ndarray, *, folds: int = FOLDS, seed: int = 0
) -> RidgeProbe:
    """The probe of a number, its penalty chosen by patient-grouped cross-validation of the squared error.

    Raises ValueError for features or values that are no finite numbers, a value that is the same in all records, or
    fewer patients than folds.
    """
    value_N = np.asarray(value_N, np.float64)
    check_features(feature_NxD)
    if not np.isfinite(value_N).all() or np.ptp(value_N) == 0:
        raise ValueError(f"the {len(value_N)} values to be told are all the same, or no finite numbers")
    fold_N, lost_P = patient_folds(patient_N, folds, seed), np.zeros(len(PENALTIES))
    for fold in range(folds):
        inside, outside = fold_N != fold, fold_N == fold
        mean_D, weight_PxD, intercept = _path(feature_NxD[inside], value_N[inside])
        told_MxP = (feature_NxD[outside] - mean_D) @ weight_PxD.T + intercept
        lost_P += ((told_MxP - value_N[outside, None]) ** 2).sum(axis=0)
    best = int(np.argmin(lost_P))
    mean_D, weight_PxD, intercept = _path(feature_NxD, value_N)
    return RidgeProbe(mean_D, weight_PxD[best], intercept, PENALTIES[best])


def _path(feature_NxD: np.ndarray, value_N: np.ndarray) -> tuple[np.ndarray, np.ndarray, float]:
    """Means of features, weights at every penalty `(P, D)`, and the mean of the values."""
    mean_D, deviation_D = moments(feature_NxD)
    left, singular, right = np.linalg.svd((feature_NxD - mean_D) / deviation_D, full_matrices=False)
    mean = float(value_N.mean())
    onto = left.T @ (value_N - mean)
    penalty_Px1 = len(value_N) * np.array(PENALTIES)[:, None]
    weight_PxD = (singular / (singular**2 + penalty_Px1) * onto) @ right
    return mean_D, weight_PxD / deviation_D, mean


def regression_figures(
    told_M: np.ndarray, value_M: np.ndarray, patient_M: np.ndarray, *, replicates: int = REPLICATES, seed: int = 0
) -> dict[str, Interval]:
    """`mae`, `r2` (1 less the share of variance that is left) and `bias` (told less true), with intervals by resampling
    patients. Raises ValueError for fewer than two patients, or values that are all the same."""
    told_M, value_M = np.asarray(told_M, np.float64), np.asarray(value_M, np.float64)
    patients, patient_M = np.unique(patient_M, return_inverse=True)
    if len(patients) < 2 or np.ptp(value_M) == 0:
        raise ValueError(f"{len(patients)} patients with values from {value_M.min():g} to {value_M.max():g}: no figure")
    error_M = told_M - value_M
    sums_UxK = np.zeros((len(patients), 6))
    parts = [np.ones_like(error_M), np.abs(error_M), error_M, error_M**2, value_M, value_M**2]
    np.add.at(sums_UxK, patient_M, np.stack(parts, axis=1))
    copies_RxU = np.random.default_rng(seed).multinomial(
        len(patients), np.full(len(patients), 1 / len(patients)), size=replicates
    )
    whole, resampled = _figures(sums_UxK.sum(axis=0)), _figures((copies_RxU @ sums_UxK).T)
    return {name: _interval(float(whole[name]), of_R[np.isfinite(of_R)]) for name, of_R in resampled.items()}


def _interval(value: float, of_R: np.ndarray) -> Interval:
    """Percentiles of the resamples."""
    tail = (1 - LEVEL) / 2
    low, high = np.quantile(of_R, [tail, 1 - tail])
    return Interval(value, float(low), float(high), float(of_R.std()))


def _figures(sums: np.ndarray) -> dict[str, np.ndarray]:
    count, absolute, error, squares, value, value_squares = sums
    with np.errstate(divide="ignore", invalid="ignore"):
        r2 = 1 - squares / (value_squares - value**2 / count)
    return {"mae": absolute / count, "r2": r2, "bias": error / count}
