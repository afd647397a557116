"""Distances between two sets of records, with intervals by half-sampling. 0 means no difference."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import numpy as np
from scipy.spatial.distance import cdist

QUANTILES = np.linspace(0.05, 0.95, 19)


@dataclasses.dataclass(frozen=True)
class Estimate:
    """A number with its 95 % interval."""

    value: float
    low: float
    high: float


Distance = Callable[[np.ndarray, np.ndarray], float]
Distances = Callable[[np.ndarray, np.ndarray], np.ndarray]


def half_sampled(distance: Distance, counts: tuple[int, int], draws: int) -> Estimate:
    """`distance(rows, rows)` on all rows of both sets, with an interval from halves: see `half_sampled_each`."""
    return half_sampled_each(lambda a, b: np.array([distance(a, b)]), counts, draws)[0]


def half_sampled_each(distances: Distances, counts: tuple[int, int], draws: int) -> list[Estimate]:
    """Several distances at once, on all rows of both sets, with intervals from halves drawn without replacement.

    A half's estimate varies about the whole's as the whole's about the truth (Shao & Wu, Ann Stat 17:1176, 1989), and
    no record enters twice, which distances between records could not stand. Only the spread of the halves counts, not
    their bias; so the interval says nothing of how far a distance of 0 lies above 0 in sets of this size: the distance
    between two halves of the real records does.
    """
    rng = np.random.default_rng(0)
    whole = distances(*(np.arange(count) for count in counts))
    halves = [distances(*(rng.permutation(count)[: count // 2] for count in counts)) for _ in range(draws)]
    reach = 1.96 * np.std(halves, axis=0, ddof=1)
    return [Estimate(float(v), float(v - r), float(v + r)) for v, r in zip(whole, reach, strict=True)]


def spectrum_distance(real_NxFxC: np.ndarray, other_NxFxC: np.ndarray) -> np.ndarray:
    """Root mean square over frequency of the difference of mean log spectra, per lead `(8,)`, in dB."""
    return np.sqrt(((real_NxFxC.mean(0) - other_NxFxC.mean(0)) ** 2).mean(0))


def spread_distance(real_NxFxC: np.ndarray, other_NxFxC: np.ndarray) -> float:
    """The same of the standard deviations over records of the log spectra, mean over leads, in dB."""
    return float(np.sqrt(((real_NxFxC.std(0) - other_NxFxC.std(0)) ** 2).mean(0)).mean())


def profile_distance(real_Nx8: np.ndarray, other_Nx8: np.ndarray) -> float:
    """Root mean square difference of mean log10 singular-value shares: 1 means a factor of 10 in energy."""
    return float(np.sqrt(((real_Nx8.mean(0) - other_Nx8.mean(0)) ** 2).mean()))


def quantile_distances(real_NxM: np.ndarray, other_NxM: np.ndarray) -> np.ndarray:
    """Mean absolute difference of quantiles 0.05 … 0.95 per measure, in units of the real 5–95 % range `(M,)`."""
    real, other = (np.nanquantile(x, QUANTILES, axis=0) for x in (real_NxM, other_NxM))
    return np.abs(real - other).mean(0) / np.maximum(real[-1] - real[0], 1e-9)


@dataclasses.dataclass(frozen=True)
class Embedding:
    """Scales features by a reference set, each of three equal parts in weight, and holds its kernel width."""

    mean: np.ndarray
    scale: np.ndarray
    width: float

    def __call__(self, values: np.ndarray) -> np.ndarray:
        """Scaled features; beyond ±5 reference deviations they count no further."""
        return np.clip((values - self.mean) / self.scale, -5, 5) / np.sqrt(values.shape[1])


def embedding(reference_NxD: np.ndarray) -> Embedding:
    """The embedding of a reference set, with the median distance between its records as kernel width."""
    scale = np.maximum(reference_NxD.std(0), 1e-6)
    fitted = Embedding(reference_NxD.mean(0), scale, 1.0)
    chosen = fitted(reference_NxD[:400])
    distances = cdist(chosen, chosen)[np.triu_indices(len(chosen), 1)]
    return dataclasses.replace(fitted, width=float(np.median(distances)))


@dataclasses.dataclass(frozen=True)
class Discrepancy:
    """The kernel matrices of two embedded sets, from which the discrepancy of any of their parts follows."""

    real: np.ndarray
    other: np.ndarray
    cross: np.ndarray

    def __call__(self, rows: np.ndarray, other_rows: np.ndarray) -> float:
        """The unbiased squared maximum mean discrepancy (Gretton et al., JMLR 13:723, 2012, eq. 3); can be below 0."""
        k, l = self.real[np.ix_(rows, rows)], self.other[np.ix_(other_rows, other_rows)]
        within = sum((m.sum() - np.trace(m)) / (len(m) * (len(m) - 1)) for m in (k, l))
        return float(within - 2 * self.cross[np.ix_(rows, other_rows)].mean())


def discrepancy(real_NxD: np.ndarray, other_NxD: np.ndarray, by: Embedding) -> Discrepancy:
    """Gaussian kernels between two sets of features."""
    real, other = by(real_NxD), by(other_NxD)
    kernel = lambda a, b: np.exp(-cdist(a, b, "sqeuclidean") / (2 * by.width**2))  # noqa: E731
    return Discrepancy(kernel(real, real), kernel(other, other), kernel(real, other))


def auroc(is_positive: np.ndarray, score: np.ndarray) -> float:
    """Area under the receiver operating curve; ties count one half. NaN when only one class is there."""
    order = np.argsort(score, kind="stable")
    _, inverse, counts = np.unique(score[order], return_inverse=True, return_counts=True)
    ranks = np.empty(len(score))
    ranks[order] = (np.cumsum(counts) - (counts - 1) / 2)[inverse]
    positives = int(is_positive.sum())
    negatives = len(score) - positives
    if not positives or not negatives:
        return float("nan")
    return float((ranks[is_positive].sum() - positives * (positives + 1) / 2) / (positives * negatives))


def resampled(
    scores: list[tuple[np.ndarray, np.ndarray]], statistic: Callable[[np.ndarray, np.ndarray], float], draws: int
) -> Estimate:
    """The mean over seeds of `statistic(truth, score)`; the interval resamples seeds and, within them, records."""
    rng = np.random.default_rng(0)
    value = float(np.mean([statistic(*pair) for pair in scores]))
    found = []
    for _ in range(draws):
        picked = [scores[i] for i in rng.integers(len(scores), size=len(scores))]
        rows = [rng.integers(len(truth), size=len(truth)) for truth, _ in picked]
        found.append(np.mean([statistic(t[r], s[r]) for (t, s), r in zip(picked, rows, strict=True)]))
    low, high = np.nanquantile(found, (0.025, 0.975))
    return Estimate(value, float(low), float(high))
