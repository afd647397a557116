"""How well scores tell labels: area under the ROC curve, average precision, F, Brier score, calibration error.

Every metric takes the scores and labels of one class, `(N,)`. All but the calibration error, which scikit-learn lacks,
equal its values, ties included. Intervals: `intervals`.
"""

from __future__ import annotations

import dataclasses

import numpy as np

#: Bins of the calibration error, of equally many records each: bins of equal width leave most of a rare class in one.
CALIBRATION_BINS = 10


def auroc(score_N: np.ndarray, positive_N: np.ndarray) -> float:
    """The chance that a positive record scores above a negative one, ties counted half (mid-ranks; Hanley & McNeil
    1982). Raises ValueError for scores that are not finite, or labels of one kind only."""
    score_N, positive_N = check(score_N, positive_N)
    return float(aurocs(score_N, positive_N, np.ones((1, len(score_N))))[0])


def aurocs(score_N: np.ndarray, positive_N: np.ndarray, copies_RxN: np.ndarray) -> np.ndarray:
    """`auroc` of each of R resamples, `(R,)`: row r holds `copies_RxN[r]` copies of the records, which are ranked once.
    NaN where a resample lacks either kind."""
    below_RxN, negatives_R = negatives_below(score_N, positive_N, copies_RxN)
    copies_RxP, below_RxP = copies_RxN[:, positive_N], below_RxN[:, positive_N]
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.einsum("rp,rp->r", copies_RxP, below_RxP) / (copies_RxP.sum(axis=1) * negatives_R)


def negatives_below(
    score_N: np.ndarray, positive_N: np.ndarray, copies_RxN: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Negative records that score below each record, ties counted half, `(R, N)`, and all of them, `(R,)`."""
    distinct, rank_N = np.unique(score_N, return_inverse=True)
    order = np.argsort(rank_N, kind="stable")
    starts = np.searchsorted(rank_N[order], np.arange(len(distinct)))
    at_RxD = np.add.reduceat(np.where(positive_N, 0.0, copies_RxN)[:, order], starts, axis=1)
    up_to_RxD = np.cumsum(at_RxD, axis=1)
    return (up_to_RxD - 0.5 * at_RxD)[:, rank_N], up_to_RxD[:, -1]


@dataclasses.dataclass(frozen=True)
class Curve:
    """Counts at every threshold that the scores allow, from the highest down: of positives found, of false alarms."""

    threshold_D: np.ndarray
    found_D: np.ndarray
    false_D: np.ndarray

    @property
    def precision_D(self) -> np.ndarray:
        """The share of positives among those called positive."""
        return self.found_D / (self.found_D + self.false_D)

    @property
    def sensitivity_D(self) -> np.ndarray:
        """The share of the positives that are called positive."""
        return self.found_D / self.found_D[-1]

    @property
    def specificity_D(self) -> np.ndarray:
        """The share of the negatives that are not called positive."""
        return 1 - self.false_D / self.false_D[-1]


def curve(score_N: np.ndarray, positive_N: np.ndarray) -> Curve:
    """The counts at every threshold: a record is called positive when its score reaches it. Raises as `auroc`."""
    score_N, positive_N = check(score_N, positive_N)
    order = np.argsort(-score_N, kind="stable")
    last_of_tie_D = np.flatnonzero(np.diff(score_N[order], append=-np.inf))
    found_N = np.cumsum(positive_N[order])
    found_D = found_N[last_of_tie_D]
    return Curve(score_N[order][last_of_tie_D], found_D, last_of_tie_D + 1 - found_D)


def average_precision(score_N: np.ndarray, positive_N: np.ndarray) -> float:
    """Precision averaged over the steps of sensitivity; chance is the prevalence. Raises as `auroc`."""
    of = curve(score_N, positive_N)
    return float(np.diff(of.sensitivity_D, prepend=0) @ of.precision_D)


def f_max(score_N: np.ndarray, positive_N: np.ndarray) -> float:
    """The largest F1 of all thresholds. Raises as `auroc`."""
    of = curve(score_N, positive_N)
    return float((2 * of.found_D / (of.found_D[-1] + of.found_D + of.false_D)).max())


def brier(probability_N: np.ndarray, positive_N: np.ndarray) -> float:
    """The mean squared error of probabilities (Brier 1950). Raises as `auroc`, and for numbers outside [0, 1]."""
    probability_N, positive_N = _check_probabilities(probability_N, positive_N)
    return float(np.mean((probability_N - positive_N) ** 2))


def calibration_error(probability_N: np.ndarray, positive_N: np.ndarray, bins: int = CALIBRATION_BINS) -> float:
    """The mean distance between probability and prevalence over `bins` of equally many records (Naeini et al. 2015).

    Records of one probability stay in one bin. Raises as `brier`.
    """
    probability_N, positive_N = _check_probabilities(probability_N, positive_N)
    edges = np.unique(np.quantile(probability_N, np.linspace(0, 1, bins + 1)[1:-1], method="inverted_cdf"))
    bin_N = np.searchsorted(edges, probability_N, side="left")
    gap = np.bincount(bin_N, weights=probability_N - positive_N, minlength=len(edges) + 1)
    return float(np.abs(gap).sum() / len(probability_N))


def check(score_N: np.ndarray, positive_N: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Scores as float64 and labels as bool. Raises ValueError, with the numbers, when they cannot be scored."""
    score_N, label_N = np.asarray(score_N, np.float64), np.asarray(positive_N)
    if score_N.ndim != 1 or score_N.shape != label_N.shape:
        raise ValueError(
            f"scores of shape {score_N.shape} and labels of shape {label_N.shape}: both must be (records,)"
        )
    if not np.isfinite(score_N).all():
        bad = np.flatnonzero(~np.isfinite(score_N))
        raise ValueError(f"{len(bad)} of {len(score_N)} scores are not finite, first that of record {bad[0]}")
    if not np.isin(label_N, (0, 1)).all():
        raise ValueError(f"labels must be 0 or 1, not {np.setdiff1d(label_N, (0, 1))[0]!r}")
    positives = int(label_N.sum())
    if not 0 < positives < len(label_N):
        raise ValueError(f"{positives} of {len(label_N)} records are positive: both kinds are needed")
    return score_N, label_N.astype(bool)


def _check_probabilities(probability_N: np.ndarray, positive_N: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    probability_N, positive_N = check(probability_N, positive_N)
    low, high = probability_N.min(), probability_N.max()
    if low < 0 or high > 1:
        raise ValueError(
            f"probabilities reach from {low:g} to {high:g}: they must lie in [0, 1]; calibrate scores first"
        )
    return probability_N, positive_N
