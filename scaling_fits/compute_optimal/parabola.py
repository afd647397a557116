"""Minima of isoFLOP curves by parabolas in ln N."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from scipy import stats

from scaling_fits.compute_optimal.budgets import SIZES_MIN, Bucket, Minimum, NoMinimum, not_bracketed, too_few
from scaling_fits.estimation.clusters import robust_variance

OWN_NOISE_SPARE = 5  # residual degrees of freedom from which a budget has a noise of its own
PARABOLA_BIAS = (
    "a parabola is only the second order of a law about its minimum: with alpha != beta, or sizes not centred on the "
    "optimum, its vertex is shifted, more so the wider the sizes (Open-Athena 2026, arXiv:2603.22339); compare with "
    "the minimum of a fitted law"
)


@dataclass(frozen=True)
class Parabola:
    """Each budget's loss is a least-squares parabola in ln N (Hoffmann et al. 2022), its interval Fieller's.

    The noise of a budget is its own residual, or with fewer than 5 degrees of freedom the relative one pooled over
    budgets; where runs of several budgets share clusters it is never pooled.
    """

    title: ClassVar[str] = "Approach 2 (Hoffmann et al. 2022, section 3.2): parabola in ln N"
    joint: ClassVar[bool] = True  # minima are linear in the losses, so that lines through them know all residuals

    def minima(self, buckets: list[Bucket], level: float, source: str) -> list[Minimum | NoMinimum]:
        """One minimum per bucket, or the reason why there is none."""
        few = [too_few(bucket) for bucket in buckets]
        fits = [None if why else np.linalg.lstsq(b.powers_Rx3, b.loss_R)[0] for b, why in zip(buckets, few)]
        noises = _noises(buckets, fits)
        return [
            NoMinimum(why or "") if beta_3 is None else _parabola(bucket, beta_3, noise, spare, level)
            for bucket, why, beta_3, (noise, spare) in zip(buckets, few, fits, noises)
        ]

    def curve(self, bucket: Bucket) -> Callable[[np.ndarray], np.ndarray]:
        """Loss at x of the parabola."""
        beta_3 = np.linalg.lstsq(bucket.powers_Rx3, bucket.loss_R)[0]
        return lambda x: np.polynomial.polynomial.polyval(x, beta_3)

    def notes(self, buckets: list[Bucket]) -> list[str]:
        """What a reader of parabolas must know."""
        return [PARABOLA_BIAS, *_cubic_note(buckets)]


PARABOLA = Parabola()


def _noises(buckets: list[Bucket], fits: list[np.ndarray | None]) -> list[tuple[float, int]]:
    """Relative residual spread and its degrees of freedom per bucket: its own with 5 of them or more, else pooled.

    Runs of one cluster at several budgets repeat each other's residuals: pooled, they would count as many. There every
    bucket has its own noise.
    """
    squares, spares = [], []
    for bucket, beta_3 in zip(buckets, fits):
        residual_R = np.zeros(0) if beta_3 is None else bucket.loss_R - bucket.powers_Rx3 @ beta_3
        squares.append(float(residual_R @ residual_R) / bucket.loss_R.mean() ** 2)
        spares.append(max(len(residual_R) - 3, 0))
    pooled = math.sqrt(sum(squares) / max(sum(spares), 1)), sum(spares)
    labels = np.concatenate([np.unique(bucket.cluster_R) for bucket in buckets])
    least = 1 if len(np.unique(labels)) < len(labels) else OWN_NOISE_SPARE
    return [(math.sqrt(square / spare), spare) if spare >= least else pooled for square, spare in zip(squares, spares)]


def _parabola(bucket: Bucket, beta_3: np.ndarray, noise: float, spare: float, level: float) -> Minimum | NoMinimum:
    """Vertex with the delta method's standard error and Fieller's interval, or the reason why there is none."""
    _, b, a = beta_3
    if a <= 0:
        return NoMinimum(f"the loss is concave in ln N (curvature {2 * a:.3g})", noise)
    x = -b / (2 * a)
    reason = not_bracketed(bucket, x)
    gradient = np.array([0.0, -1 / (2 * a), b / (2 * a * a)])
    v = (noise * bucket.loss_R.mean()) ** 2 * np.linalg.inv(bucket.powers_Rx3.T @ bucket.powers_Rx3)
    if len(np.unique(bucket.cluster_R)) < len(bucket.cluster_R):
        v, spare = _clustered(bucket, beta_3, gradient)
    t2 = float(stats.t.ppf((1 + level) / 2, spare)) ** 2
    # Fieller 1954: all x for which slope b + 2 a x cannot be told from 0.
    square, half, rest = 4 * (a * a - t2 * v[2, 2]), 2 * (a * b - t2 * v[1, 2]), b * b - t2 * v[1, 1]
    if reason is None and square <= 0:
        reason = f"curvature {2 * a:.3g} cannot be told from 0 at {100 * level:g} %; add sizes or seeds"
    if reason is not None:
        return NoMinimum(reason, noise)
    root = math.sqrt(max(half * half - square * rest, 0.0))
    ends = np.array([(-half - root) / square, (-half + root) / square])
    low, high = bucket.size_S[[0, -1]]
    interval = (None if ends[0] <= low else float(ends[0]), None if ends[1] >= high else float(ends[1]))
    at = float(np.polynomial.polynomial.polyval(x, beta_3))
    return Minimum(float(x), math.sqrt(gradient @ v @ gradient), interval, at, noise, gradient_3=gradient)


def _clustered(bucket: Bucket, beta_3: np.ndarray, gradient_3: np.ndarray) -> tuple[np.ndarray, float]:
    """Covariance (3, 3) of the parabola's b, a and their degrees of freedom where runs of a budget share clusters."""
    _, cluster_R = np.unique(bucket.cluster_R, return_inverse=True)
    contrasts = np.array([[0.0, 1, 0], [0, 0, 1], [0, 1, 1], gradient_3])
    residual_R = bucket.loss_R - bucket.powers_Rx3 @ beta_3
    found = robust_variance(bucket.powers_Rx3, residual_R, cluster_R, contrasts)
    b, a, both, _ = found.variance_P
    v = np.zeros((3, 3))
    v[1:, 1:] = [[b, (both - a - b) / 2], [(both - a - b) / 2, a]]
    return v, float(found.dof_P[-1])


def _cubic_note(buckets: list[Bucket]) -> list[str]:
    """A warning when a cubic term, pooled over budgets with 5 sizes or more, is significant at 5 % (F test)."""
    gain, rest, terms, spare = 0.0, 0.0, 0, 0
    for bucket in buckets:
        if len(bucket.size_S) > SIZES_MIN:
            y_R = bucket.loss_R / bucket.loss_R.mean()
            squares = []
            for powers in (3, 4):
                design = np.vander(bucket.x_R, powers, increasing=True)
                squares.append(float(np.sum((y_R - design @ np.linalg.lstsq(design, y_R)[0]) ** 2)))
            gain, rest, terms, spare = (
                gain + squares[0] - squares[1],
                rest + squares[1],
                terms + 1,
                spare + len(y_R) - 4,
            )
    if not spare or rest <= 0:
        return []
    p_value = float(stats.f.sf(gain / terms / (rest / spare), terms, spare))
    if p_value >= 0.05:
        return []
    return [f"the curves are not parabolas: their cubic terms differ from 0 (F test, p = {p_value:.2g})"]
