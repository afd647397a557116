"""How much of a task an encoder's frozen features tell: a linear probe, and nearest neighbours that need no tuning.

All that is chosen, means, deviations and the strength of the penalty, is chosen inside the training records, by folds
of their patients: the scored records take no part, so that their figures are clean.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np

from ecg_jax.evaluate.logistic import check_features, find_axes, fit_path
from ecg_jax.evaluate.metrics import auroc

#: Strengths of the data against the penalty (scikit-learn's C), one of which is chosen for a task.
STRENGTHS = tuple(float(strength) for strength in np.logspace(-6, 5, 12))
FOLDS = 5
#: Neighbours and the temperature of their votes (Caron et al., ICCV 2021: DINO's protocol), untuned.
NEIGHBOURS, TEMPERATURE = 20, 0.07


@dataclasses.dataclass(frozen=True)
class LinearProbe:
    """Logistic regressions on standardised features, one per class, of one strength; `tried` says what each strength
    reached inside the training records (mean AUROC over classes and folds)."""

    classes: tuple[str, ...]
    mean_D: np.ndarray
    deviation_D: np.ndarray  # 1 where a feature is constant
    weight_CxD: np.ndarray
    intercept_C: np.ndarray
    strength: float
    tried: tuple[float, ...]

    def scores(self, feature_NxD: np.ndarray) -> np.ndarray:
        """Logits `(N, C)`. Raises ValueError for features of another width, or that are no finite numbers."""
        if feature_NxD.ndim != 2 or feature_NxD.shape[1] != len(self.mean_D):
            raise ValueError(f"features of shape {feature_NxD.shape} for a probe of {len(self.mean_D)} features")
        check_features(feature_NxD)
        return (feature_NxD - self.mean_D) / self.deviation_D @ self.weight_CxD.T + self.intercept_C


def fit_linear_probe(
    feature_NxD: np.ndarray,
    positive_NxC: np.ndarray,
    patient_N: np.ndarray,
    classes: Sequence[str],
    *,
    strengths: Sequence[float] = STRENGTHS,
    folds: int = FOLDS,
    seed: int = 0,
) -> LinearProbe:
    """The probe of a task, its strength chosen by patient-grouped cross-validation; of equal ones the weakest.

    Raises ValueError for rows that do not fit, features that are no finite numbers or all the same, a class of one
    value, or fewer patients than folds.
    """
    if not len(feature_NxD) == len(positive_NxC) == len(patient_N) or positive_NxC.shape[1] != len(classes):
        raise ValueError(
            f"{len(feature_NxD)} records with features, {len(positive_NxC)} with {positive_NxC.shape[1]} labels for "
            f"{len(classes)} classes, {len(patient_N)} with patients"
        )
    check_features(feature_NxD)
    of_one_value = [name for name, has in zip(classes, positive_NxC.T, strict=True) if has.all() or not has.any()]
    if of_one_value:
        raise ValueError(f"{', '.join(of_one_value)}: one value in all {len(positive_NxC)} training records")
    fold_N = patient_folds(patient_N, folds, seed)
    tried = _cross_validate(feature_NxD, positive_NxC, fold_N, strengths)
    best = int(np.argmax(tried))
    mean_D, deviation_D = moments(feature_NxD)
    axes = find_axes((feature_NxD - mean_D) / deviation_D)
    paths = [fit_path(axes, positive_N, strengths[: best + 1]) for positive_N in positive_NxC.T]
    return LinearProbe(
        classes=tuple(classes),
        mean_D=mean_D,
        deviation_D=deviation_D,
        weight_CxD=np.stack([weight_PxD[-1] for weight_PxD, _ in paths]),
        intercept_C=np.array([intercept_P[-1] for _, intercept_P in paths]),
        strength=float(strengths[best]),
        tried=tuple(tried.tolist()),
    )


def patient_folds(patient_N: np.ndarray, folds: int, seed: int) -> np.ndarray:
    """The fold of each record, `(N,)`, all of a patient in one; drawn from the patients alone, so that labels cannot
    change it. Raises ValueError for fewer patients than folds."""
    patients, of_N = np.unique(patient_N, return_inverse=True)
    if not 2 <= folds <= len(patients):
        raise ValueError(f"{len(patients)} patients cannot be dealt to {folds} folds: give 2 to {len(patients)}")
    return (np.random.default_rng(seed).permutation(len(patients)) % folds)[of_N]


def vote_neighbours(
    feature_NxD: np.ndarray,
    positive_NxC: np.ndarray,
    query_MxD: np.ndarray,
    *,
    neighbours: int = NEIGHBOURS,
    temperature: float = TEMPERATURE,
) -> np.ndarray:
    """The weighted share of the nearest training records that have each class, `(M, C)`.

    Features are standardised by the training records, likeness is the cosine, and a neighbour's weight is
    exp(cosine / temperature). Raises ValueError for features that are no finite numbers.
    """
    check_features(feature_NxD)
    check_features(query_MxD)
    mean_D, deviation_D = moments(feature_NxD)
    unit_NxD, unit_MxD = ((x - mean_D) / deviation_D for x in (feature_NxD, query_MxD))
    unit_NxD, unit_MxD = (x / np.maximum(np.linalg.norm(x, axis=1, keepdims=True), 1e-12) for x in (unit_NxD, unit_MxD))
    cosine_MxN = unit_MxD @ unit_NxD.T
    near_MxK = np.argpartition(-cosine_MxN, min(neighbours, len(feature_NxD)) - 1, axis=1)[:, :neighbours]
    weight_MxK = np.exp((np.take_along_axis(cosine_MxN, near_MxK, axis=1) - 1) / temperature)
    votes_MxC = np.einsum("mk,mkc->mc", weight_MxK, positive_NxC[near_MxK].astype(float))
    return np.minimum(votes_MxC / weight_MxK.sum(axis=1, keepdims=True), 1.0)  # a share, whatever rounding says


def moments(feature_NxD: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean and deviation of every feature, `(D,)` each; 1 for the deviation of a constant one."""
    deviation_D = feature_NxD.std(axis=0, dtype=np.float64)
    return feature_NxD.mean(axis=0, dtype=np.float64), np.where(deviation_D > 0, deviation_D, 1.0)


def _cross_validate(
    feature_NxD: np.ndarray, positive_NxC: np.ndarray, fold_N: np.ndarray, strengths: Sequence[float]
) -> np.ndarray:
    """The mean AUROC at each strength, over the folds and classes that have both values on both sides."""
    reached: list[list[float]] = []
    for fold in np.unique(fold_N):
        inside, outside = fold_N != fold, fold_N == fold
        mean_D, deviation_D = moments(feature_NxD[inside])
        standard_NxD = (feature_NxD - mean_D) / deviation_D
        axes = find_axes(standard_NxD[inside])
        for positive_N in positive_NxC.T:
            if any(part.all() or not part.any() for part in (positive_N[inside], positive_N[outside])):
                continue
            weight_PxD, intercept_P = fit_path(axes, positive_N[inside], strengths)
            score_MxP = standard_NxD[outside] @ weight_PxD.T + intercept_P
            reached.append([auroc(score_M, positive_N[outside]) for score_M in score_MxP.T])
    if not reached:
        raise ValueError("no class has both values inside and outside any fold: too few records to choose a strength")
    return np.mean(reached, axis=0)
