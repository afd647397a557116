"""Minima of isoFLOP curves by Akima splines under noise."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from scipy.interpolate import Akima1DInterpolator

from scaling_fits.compute_optimal.allocation import EDGE_SHARE_MAX, percentile_interval
from scaling_fits.compute_optimal.budgets import Bucket, Minimum, NoMinimum, not_bracketed, too_few
from scaling_fits.errors import Refused


@dataclass(frozen=True)
class Akima:
    """The interpolated ln loss is minimised under `draws` of noise, drawn with `seed` (Porian et al. 2024).

    `noise_sd` is the noise's relative standard deviation, a number or a function of the loss; None takes it from
    replicates of size and budget. N* is the median of the minima.
    """

    noise_sd: float | Callable[[np.ndarray], np.ndarray] | None = None
    draws: int = 1000
    seed: int = 0

    title: ClassVar[str] = "Approach 2 by Akima splines under noise (Porian et al. 2024, arXiv:2406.19146)"
    joint: ClassVar[bool] = False

    def minima(self, buckets: list[Bucket], level: float, source: str) -> list[Minimum | NoMinimum]:
        """One minimum per bucket, or the reason why there is none."""
        noise_sd = _replicate_sd(buckets, source) if self.noise_sd is None else self.noise_sd
        generator = np.random.default_rng(self.seed)
        found: list[Minimum | NoMinimum] = []
        for bucket in buckets:
            if few := too_few(bucket):
                found.append(NoMinimum(few))
                continue
            count_S = np.bincount(bucket.group_R)
            log_loss_S = bucket.log_loss_S
            sd_S = np.broadcast_to(noise_sd(np.exp(log_loss_S)) if callable(noise_sd) else noise_sd, count_S.shape)
            noise = generator.standard_normal((self.draws, len(count_S))) * sd_S / np.sqrt(count_S)
            x_D, value_D = _spline_minima(bucket.size_S, log_loss_S[:, None] + noise.T)
            loss, spread = float(np.exp(np.median(value_D))), float(np.mean(sd_S))
            found.append(_from_draws(bucket, x_D, loss, spread, level))
        return found

    def curve(self, bucket: Bucket) -> Callable[[np.ndarray], np.ndarray]:
        """Loss at x of the spline through each size's mean ln loss."""
        spline = Akima1DInterpolator(bucket.size_S, bucket.log_loss_S)
        return lambda x: np.exp(spline(x))

    def notes(self, buckets: list[Bucket]) -> list[str]:
        """Nothing that the minima do not say."""
        return []


def _from_draws(
    bucket: Bucket, draws_S: np.ndarray, loss: float, residual_sd: float, level: float
) -> Minimum | NoMinimum:
    """The median of the draws, held at the ends of the sizes, with spread and interval; refused when most are there.

    The standard error is that of the inner draws over their share, as Porian et al. do.
    """
    x = float(np.median(draws_S))
    low, high = bucket.size_S[[0, -1]]
    draws_S = np.clip(draws_S, low, high)
    inner = draws_S[(draws_S > low) & (draws_S < high)]
    edge = 1 - len(inner) / len(draws_S)
    reason = not_bracketed(bucket, x)
    if edge > EDGE_SHARE_MAX:
        reason = f"{100 * edge:.0f} % of the draws have their minimum at the edge of the sizes; add sizes or seeds"
    if reason is not None:
        return NoMinimum(reason, residual_sd)
    ends = [None if end is None else math.log(end) for end in percentile_interval(draws_S, low, high, level)]
    sd = float(inner.std(ddof=1)) / (1 - edge)
    return Minimum(x, sd, (ends[0], ends[1]), loss, residual_sd)


def _spline_minima(x_S: np.ndarray, y_SxD: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Global minimum (place, value) of each column's Akima spline, exact from the roots of its derivative."""
    spline = Akima1DInterpolator(x_S, y_SxD)
    cubic, square, linear, constant = spline.c
    width = np.diff(x_S)[:, None]
    root = np.sqrt(np.maximum(square**2 - 3 * cubic * linear, 0.0))
    # The root of 3 c t² + 2 s t + l at which the cubic bends upwards, in the form that survives c = 0.
    below = np.where(square + root > 0, square + root, np.nan)
    step = np.clip(np.nan_to_num(-linear / below, nan=0.0), 0.0, width)
    value = ((cubic * step + square) * step + linear) * step + constant
    place = np.concatenate([x_S[:-1, None] + step, np.broadcast_to(x_S[:, None], y_SxD.shape)])
    value = np.concatenate([value, y_SxD])
    best = np.argmin(value, axis=0)
    columns = np.arange(y_SxD.shape[1])
    return place[best, columns], value[best, columns]


def _replicate_sd(buckets: list[Bucket], source: str) -> float:
    """Standard deviation of ln loss among runs of one size and budget, pooled."""
    squares, spare = 0.0, 0
    for bucket in buckets:
        log_loss_R, group_R = np.log(bucket.loss_R), bucket.group_R
        count = np.bincount(group_R)
        squares += float(((log_loss_R - (np.bincount(group_R, weights=log_loss_R) / count)[group_R]) ** 2).sum())
        spare += int((count - 1).sum())
    if spare == 0:
        raise Refused(
            f"{source}: no size was run twice at a budget, so there is no noise to resample",
            python="give noise_sd, the relative standard deviation of the loss between seeds",
            command="give --noise-sd, the relative standard deviation of the loss between seeds",
        )
    return math.sqrt(squares / spare)
