"""Uncertainty of an evaluation: a class's AUROC by formula, everything that pools classes by resampling patients.

For one class Newcombe's fifth interval (Statistics in Medicine 25:559, 2006) keeps its level with few positives and
high areas, where percentiles of resamples and DeLong's variance do not. Macro figures and differences of two encoders
on the same patients are studentised bootstraps (Hall 1988): each resample is measured in its own standard error,
which the influence of every patient on the figure gives without resampling again.
"""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pandas as pd
from scipy.optimize import brentq
from scipy.stats import norm

from ecg_jax.evaluate.metrics import check, negatives_below

LEVEL = 0.95
REPLICATES = 2000
#: Resamples in memory at once.
_AT_ONCE = 250
#: How many draws in a row may miss a class before the labels are called too few to resample.
_MOST_REDRAWN = 100
_EDGE = 1e-9


@dataclasses.dataclass(frozen=True)
class Interval:
    """A figure, its interval at a level, its standard error, and how many resamples missed a class and were redrawn."""

    value: float
    low: float
    high: float
    standard_error: float
    redrawn: int = 0


def mean_over_patients(value_U: pd.Series) -> Interval:
    """The mean of a value per patient, and its normal interval; NaN ends where there is one patient."""
    value, error = float(value_U.mean()), float(value_U.sem())
    half = float(norm.ppf(0.5 + LEVEL / 2)) * error
    return Interval(value, value - half, value + half, error)


def newcombe(area: float, positives: int, negatives: int, level: float = LEVEL) -> Interval:
    """The score interval of one AUROC: all areas of which `area` lies within z standard errors (Newcombe's method 5).

    The variance is Hanley & McNeil's under exponential scores, with both group sizes replaced by their mean.
    Raises ValueError for an area outside [0, 1] or a group without records.
    """
    if not 0 <= area <= 1 or min(positives, negatives) < 1:
        raise ValueError(f"no interval for an AUROC of {area} on {positives} positive and {negatives} negative records")
    z = norm.ppf(0.5 + level / 2)

    def excess(candidate: float) -> float:
        return abs(area - candidate) - z * _hanley_mcneil(candidate, positives, negatives)

    # At 0 and 1 the standard error vanishes, so that every area is a root of itself there.
    low = brentq(excess, 0.0, min(area, 1 - _EDGE)) if area > _EDGE else 0.0
    high = brentq(excess, max(area, _EDGE), 1.0) if area < 1 - _EDGE else 1.0
    return Interval(area, low, high, _hanley_mcneil(area, positives, negatives))


def macro_auroc(
    score_NxC: np.ndarray,
    positive_NxC: np.ndarray,
    patient_N: np.ndarray,
    *,
    replicates: int = REPLICATES,
    seed: int = 0,
) -> Interval:
    """The mean AUROC of C classes, and its interval over patients.

    Raises ValueError by class where scores or labels cannot be scored, or where resamples go on missing a class.
    """
    return _bootstrap([np.asarray(score_NxC)], positive_NxC, patient_N, replicates, seed)


def macro_auroc_difference(
    score_NxC: np.ndarray,
    other_NxC: np.ndarray,
    positive_NxC: np.ndarray,
    patient_N: np.ndarray,
    *,
    replicates: int = REPLICATES,
    seed: int = 0,
) -> Interval:
    """`macro_auroc` of one encoder less that of another, on the same records. Raises as `macro_auroc`."""
    return _bootstrap([np.asarray(score_NxC), np.asarray(other_NxC)], positive_NxC, patient_N, replicates, seed)


def _bootstrap(
    scores: list[np.ndarray], positive_NxC: np.ndarray, patient_N: np.ndarray, replicates: int, seed: int
) -> Interval:
    scores, positive_NxC = _check_classes(scores, np.asarray(positive_NxC))
    patients, patient_N = np.unique(patient_N, return_inverse=True)
    once_1xU = np.ones((1, len(patients)))
    value, error = (figure[0] for figure in _figure(scores, positive_NxC, patient_N, once_1xU))
    bits, found, redrawn = np.random.default_rng(seed), [], 0
    for start in range(0, replicates, _AT_ONCE):
        count = min(_AT_ONCE, replicates - start)
        copies_RxU, missed = _resample(bits, count, positive_NxC, patient_N, len(patients))
        redrawn += missed
        found.append(_figure(scores, positive_NxC, patient_N, copies_RxU))
    values_R, errors_R = (np.concatenate(part) for part in zip(*found, strict=True))
    with np.errstate(divide="ignore", invalid="ignore"):
        t_R = np.nan_to_num((values_R - value) / errors_R, nan=0.0, posinf=np.inf, neginf=-np.inf)
    tail = (1 - LEVEL) / 2
    t_low, t_high = np.quantile(t_R, [tail, 1 - tail], method="inverted_cdf")
    lowest, highest = (0.0, 1.0) if len(scores) == 1 else (-1.0, 1.0)
    return Interval(
        float(value),
        float(max(lowest, value - t_high * error)),
        float(min(highest, value - t_low * error)),
        float(error),
        redrawn,
    )


def _resample(
    bits: np.random.Generator, count: int, positive_NxC: np.ndarray, patient_N: np.ndarray, patients: int
) -> tuple[np.ndarray, int]:
    """How often each patient is drawn in each of `count` resamples that hold both kinds of every class, `(R, U)`, and
    how many were drawn in vain."""
    held_UxK = np.zeros((patients, 2 * positive_NxC.shape[1]))
    np.add.at(held_UxK, patient_N, np.concatenate([positive_NxC, ~positive_NxC], axis=1))
    copies_RxU = bits.multinomial(patients, np.full(patients, 1 / patients), size=count).astype(float)
    redrawn = 0
    while len(lacking := np.flatnonzero((copies_RxU @ held_UxK == 0).any(axis=1))):
        redrawn += len(lacking)
        if redrawn > _MOST_REDRAWN * count:
            raise ValueError(
                f"{redrawn} resamples of {patients} patients missed a class: it has too few patients to resample"
            )
        copies_RxU[lacking] = bits.multinomial(patients, np.full(patients, 1 / patients), size=len(lacking))
    return copies_RxU, redrawn


def _figure(
    scores: list[np.ndarray],
    positive_NxC: np.ndarray,
    patient_N: np.ndarray,
    copies_RxU: np.ndarray,
) -> tuple[np.ndarray, np.ndarray]:
    """Macro AUROC (less the other encoder's) of each resample, `(R,)`, and its standard error over patients, `(R,)`."""
    copies_RxN = copies_RxU[:, patient_N]
    value_R, influence_RxN = _macro(scores[0], positive_NxC, copies_RxN)
    for score_NxC in scores[1:]:
        other_R, of_other_RxN = _macro(score_NxC, positive_NxC, copies_RxN)
        value_R, influence_RxN = value_R - other_R, influence_RxN - of_other_RxN
    order = np.argsort(patient_N, kind="stable")
    starts = np.searchsorted(patient_N[order], np.arange(copies_RxU.shape[1]))
    of_patient_RxU = np.add.reduceat(influence_RxN[:, order], starts, axis=1)
    return value_R, np.sqrt((copies_RxU * of_patient_RxU**2).sum(axis=1))


def _macro(score_NxC: np.ndarray, positive_NxC: np.ndarray, copies_RxN: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The mean over classes of `_area_and_influence`."""
    classes = positive_NxC.shape[1]
    value_R, influence_RxN = np.zeros(len(copies_RxN)), np.zeros(copies_RxN.shape)
    for score_N, positive_N in zip(score_NxC.T, positive_NxC.T, strict=True):
        area_R, of_record_RxN = _area_and_influence(score_N, positive_N, copies_RxN)
        value_R += area_R / classes
        influence_RxN += of_record_RxN / classes
    return value_R, influence_RxN


def _area_and_influence(
    score_N: np.ndarray, positive_N: np.ndarray, copies_RxN: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """AUROC of each resample, and what one more copy of each record would move it by (DeLong's components)."""
    below_RxN, negatives_R = negatives_below(score_N, positive_N, copies_RxN)
    above_RxN, positives_R = negatives_below(-score_N, ~positive_N, copies_RxN)
    negatives_Rx1, positives_Rx1 = negatives_R[:, None], positives_R[:, None]
    area_R = (copies_RxN * positive_N * below_RxN).sum(axis=1) / (positives_R * negatives_R)
    of_positive_RxN = (below_RxN / negatives_Rx1 - area_R[:, None]) / positives_Rx1
    of_negative_RxN = (above_RxN / positives_Rx1 - area_R[:, None]) / negatives_Rx1
    return area_R, np.where(positive_N, of_positive_RxN, of_negative_RxN)


def _check_classes(scores: list[np.ndarray], positive_NxC: np.ndarray) -> tuple[list[np.ndarray], np.ndarray]:
    for score_NxC in scores:
        if score_NxC.ndim != 2 or score_NxC.shape != positive_NxC.shape:
            raise ValueError(
                f"scores of shape {score_NxC.shape} and labels of shape {positive_NxC.shape}: "
                "all must be (records, classes), and alike"
            )
    checked = []
    for score_NxC in scores:
        for column in range(positive_NxC.shape[1]):
            try:
                check(score_NxC[:, column], positive_NxC[:, column])
            except ValueError as error:
                raise ValueError(f"class {column}: {error}") from error
        checked.append(score_NxC.astype(np.float64))
    return checked, positive_NxC.astype(bool)


def _hanley_mcneil(area: float, positives: int, negatives: int) -> float:
    more = (positives + negatives) / 2 - 1
    spread = 1 + more * ((1 - area) / (2 - area) + area / (1 + area))
    return math.sqrt(area * (1 - area) * spread / (positives * negatives))
