"""Approach 2: compute-optimal size and data from runs of several sizes at each of several budgets.

Hoffmann et al. 2022 (arXiv:2203.15556), section 3.2, by parabolas in ln N; or Porian et al. 2024 (arXiv:2406.19146), by
Akima splines under bootstrapped noise. A minimum that the runs do not bracket is refused.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd
from scipy import stats
from scipy.interpolate import Akima1DInterpolator
from scipy.linalg import block_diag

from scaling_fits.compute_optimal.allocation import (
    BUDGETS_MIN,
    EDGE_SHARE_MAX,
    SIX_N_D,
    SMALLEST_VARIANCE,
    Allocation,
    Compute,
    Optimum,
    PowerLaw,
    fit_power_law,
    line_projection,
    percentile_interval,
    with_compute,
)
from scaling_fits.compute_optimal.budgets import (
    SIZES_MIN,
    Bucket,
    assign_budgets,
    not_bracketed,
    replicate_notes,
    split_budgets,
    too_few,
)
from scaling_fits.errors import Refused
from scaling_fits.estimation.clusters import robust_variance
from scaling_fits.tables.run_table import DUPLICATE, RunTable, read_runs, require_columns

OWN_NOISE_SPARE = 5  # residual degrees of freedom from which a budget has a noise of its own
PARABOLA_BIAS = (
    "a parabola is only the second order of a law about its minimum: with alpha != beta, or sizes not centred on the "
    "optimum, its vertex is shifted, more so the wider the sizes (Open-Athena 2026, arXiv:2603.22339); compare with "
    "the minimum of a fitted law"
)


@dataclass(frozen=True)
class _Minimum:
    """Where a bucket's curve is lowest, as ln N about the bucket's mean.

    `draws_S` where it was bootstrapped, `gradient_3` what the parabola's coefficients add to it.
    """

    x: float | None = None
    sd: float | None = None
    interval: tuple[float | None, float | None] = (None, None)
    loss: float | None = None
    residual_sd: float | None = None
    reason: str | None = None
    draws_S: np.ndarray | None = None
    gradient_3: np.ndarray | None = None


def isoflop(
    table: RunTable | pd.DataFrame | Path | str,
    *,
    n: str,
    d: str,
    c: str | Compute = SIX_N_D,
    loss: str = "loss",
    run: str = "run_id",
    budgets: Sequence[float] | None = None,
    tolerance: float = 0.1,
    method: str = "parabola",
    cluster: str | None = None,
    noise_sd: float | Callable[[np.ndarray], np.ndarray] | None = None,
    draws: int = 1000,
    seed: int = 0,
    level: float = 0.95,
) -> Allocation:
    """N*(C), D*(C) and their power laws from final losses at several budgets.

    `c` is a column, arithmetic of columns, or a `Compute` of N and D; runs are put to `budgets`, or to those found, by
    `assign_budgets`. With `method` "parabola" each budget's loss is a least-squares parabola in ln N; its noise is its
    own residual, or with fewer than 5 degrees of freedom the relative one pooled over budgets; the interval is
    Fieller's. With a `cluster` column (runs that share a trunk, across budgets too) noise is never pooled over budgets,
    and the laws' intervals allow for what the minima have in common. With "akima" the interpolated ln loss is minimised
    under `draws` of noise with relative standard deviation `noise_sd` (a number or a function of the loss; None takes
    it from replicates of size and budget), and N* is their median. D* is the data of the runs at N*.

    Refused, with the reason: budgets with fewer than 4 distinct sizes, concave or flat curves, minima outside the sizes
    or in their first or last interval, minima whose draws are mostly at the edge. Raises ValueError for a study that
    states no law, unusable columns, or Akima without noise.
    """
    if method not in ("parabola", "akima") or (method == "akima" and cluster is not None):
        raise ValueError(f"method must be 'parabola' or 'akima' (without cluster), not {method!r}, cluster={cluster!r}")
    if not isinstance(table, RunTable):
        table = read_runs(table, response=loss, positive=[n, d], run=run)
    require_columns(table.frame, [n, d, loss, *([cluster] if cluster else [])], table.source)
    if table.law_refusal is not None:
        raise ValueError(table.law_refusal)
    rows, compute_name = with_compute(table.rows, n, d, c, table.source)
    rows = rows.assign(_budget=assign_budgets(rows["_c"].to_numpy(), budgets, tolerance))
    off = rows["_budget"].isna().to_numpy()
    repeated = rows.duplicated([n, d, loss, "_c"]).to_numpy()
    table = table.leaving_out(repeated & ~off, DUPLICATE)
    excluded = {**table.excluded, "off_budget": int(off.sum())}
    rows = rows[~off & ~repeated]
    notes = [*table.notes, *replicate_notes(rows, [n, "_budget"], run)]
    if rows.empty:
        raise Refused(
            f"{table.source}: no row is at a budget, left out were {excluded}",
            python="give budgets or tolerance",
            command="give --budgets or --tolerance",
        )
    buckets = split_budgets(rows, n, d, loss, cluster, run)
    if method == "parabola":
        minima = _parabolas(buckets, level)
        title = "Approach 2 (Hoffmann et al. 2022, section 3.2): parabola in ln N"
        notes = [*notes, PARABOLA_BIAS, *_cubic_note(buckets)]
    else:
        minima = _akima_minima(buckets, noise_sd, draws, seed, level, table.source)
        title = "Approach 2 by Akima splines under noise (Porian et al. 2024, arXiv:2406.19146)"
    size_law, data_law, reason = _laws(buckets, minima, level, joint=method == "parabola")
    columns = {"N": n, "D": d, "loss": loss, **({"clusters": cluster} if cluster else {})}
    definition = {letter: f"column {column!r}" for letter, column in columns.items()}
    return Allocation(
        title,
        {"source": table.source, **definition, "C": compute_name},
        tuple(_optimum(bucket, minimum) for bucket, minimum in zip(buckets, minima)),
        size_law,
        data_law,
        level,
        {reason: count for reason, count in excluded.items() if count},
        tuple(notes),
        reason,
        tuple(bucket.curve(None if too_few(bucket) else _curve(bucket, method)) for bucket in buckets),
    )


def _curve(bucket: Bucket, method: str) -> Callable[[np.ndarray], np.ndarray]:
    """Loss at x of the fitted curve: the parabola in ln N, or the spline through each size's mean ln loss."""
    if method == "parabola":
        beta_3 = np.linalg.lstsq(bucket.powers_Rx3, bucket.loss_R)[0]
        return lambda x: np.polynomial.polynomial.polyval(x, beta_3)
    spline = Akima1DInterpolator(bucket.size_S, bucket.log_loss_S)
    return lambda x: np.exp(spline(x))


def _parabolas(buckets: list[Bucket], level: float) -> list[_Minimum]:
    """One minimum per bucket; noise pooled over all with enough sizes, unless they share clusters."""
    fits = [None if too_few(b) else np.linalg.lstsq(b.powers_Rx3, b.loss_R)[0] for b in buckets]
    noises = _noises(buckets, fits)
    return [
        _Minimum(reason=too_few(bucket)) if beta_3 is None else _parabola(bucket, beta_3, noise, spare, level)
        for bucket, beta_3, (noise, spare) in zip(buckets, fits, noises)
    ]


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


def _parabola(bucket: Bucket, beta_3: np.ndarray, noise: float, spare: int, level: float) -> _Minimum:
    """Vertex with the delta method's standard error and Fieller's interval, or the reason why there is none."""
    _, b, a = beta_3
    if a <= 0:
        return _Minimum(reason=f"the loss is concave in ln N (curvature {2 * a:.3g})", residual_sd=noise)
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
        return _Minimum(reason=reason, residual_sd=noise)
    root = math.sqrt(max(half * half - square * rest, 0.0))
    ends = np.array([(-half - root) / square, (-half + root) / square])
    low, high = bucket.size_S[[0, -1]]
    interval = (None if ends[0] <= low else float(ends[0]), None if ends[1] >= high else float(ends[1]))
    at = float(np.polynomial.polynomial.polyval(x, beta_3))
    return _Minimum(float(x), math.sqrt(gradient @ v @ gradient), interval, at, noise, gradient_3=gradient)


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


def _from_draws(bucket: Bucket, point: _Minimum, draws_S: np.ndarray, level: float, x: float) -> _Minimum:
    """`point` with spread and interval from draws held at the ends of the sizes; refused when most are there.

    The standard error is that of the inner draws over their share, as Porian et al. do.
    """
    low, high = bucket.size_S[[0, -1]]
    draws_S = np.clip(draws_S, low, high)
    inner = draws_S[(draws_S > low) & (draws_S < high)]
    edge = 1 - len(inner) / len(draws_S)
    reason = not_bracketed(bucket, x)
    if edge > EDGE_SHARE_MAX:
        reason = f"{100 * edge:.0f} % of the draws have their minimum at the edge of the sizes; add sizes or seeds"
    if reason is not None:
        return _Minimum(reason=reason, residual_sd=point.residual_sd)
    ends = [None if end is None else math.log(end) for end in percentile_interval(draws_S, low, high, level)]
    sd = float(inner.std(ddof=1)) / (1 - edge)
    return _Minimum(x, sd, (ends[0], ends[1]), point.loss, point.residual_sd, None, draws_S)


def _akima_minima(
    buckets: list[Bucket],
    noise_sd: float | Callable[[np.ndarray], np.ndarray] | None,
    draws: int,
    seed: int,
    level: float,
    source: str,
) -> list[_Minimum]:
    if noise_sd is None:
        noise_sd = _replicate_sd(buckets, source)
    generator = np.random.default_rng(seed)
    found = []
    for bucket in buckets:
        if too_few(bucket):
            found.append(_Minimum(reason=too_few(bucket)))
            continue
        count_S = np.bincount(bucket.group_R)
        log_loss_S = bucket.log_loss_S
        sd_S = np.broadcast_to(noise_sd(np.exp(log_loss_S)) if callable(noise_sd) else noise_sd, count_S.shape)
        noise = generator.standard_normal((draws, len(count_S))) * sd_S / np.sqrt(count_S)
        x_D, value_D = _spline_minima(bucket.size_S, log_loss_S[:, None] + noise.T)
        point = _Minimum(loss=float(np.exp(np.median(value_D))), residual_sd=float(np.mean(sd_S)))
        found.append(_from_draws(bucket, point, x_D, level, float(np.median(x_D))))
    return found


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


def _laws(
    buckets: list[Bucket], minima: list[_Minimum], level: float, *, joint: bool
) -> tuple[PowerLaw | None, PowerLaw | None, str | None]:
    kept = [(bucket, minimum) for bucket, minimum in zip(buckets, minima) if minimum.reason is None]
    if len(kept) < BUDGETS_MIN:
        return None, None, f"{len(kept)} of {len(buckets)} budgets have a minimum, {BUDGETS_MIN} needed"
    budget_K = np.array([bucket.budget for bucket, _ in kept])
    variance_K = np.array([minimum.sd for _, minimum in kept]) ** 2
    log_n_K = np.array([bucket.log_centre + minimum.x for bucket, minimum in kept])
    log_d_Kx2 = np.array([bucket.log_data(minimum.x) for bucket, minimum in kept])
    laws = []
    for quantity, log_K, slope_K in (("N*", log_n_K, np.ones(len(kept))), ("D*", *log_d_Kx2.T)):
        law = fit_power_law(quantity, budget_K, np.exp(log_K), np.diag(variance_K * slope_K**2), level)
        laws.append(_with_joint_noise(law, kept, variance_K * slope_K**2, slope_K, level) if joint else law)
    return laws[0], laws[1], None


def _with_joint_noise(
    law: PowerLaw, kept: list[tuple[Bucket, _Minimum]], variance_K: np.ndarray, slope_K: np.ndarray, level: float
) -> PowerLaw:
    """The law with the interval that all runs' residuals give its line, clusters shared by budgets allowed for.

    The minima are linear in the losses, so the line is, and `robust_variance` knows its degrees of freedom: those of
    all residuals, where a line through K points would have K - 2. Where the minima scatter about the line by more than
    their noise the wider interval, with that scatter, stays.
    """
    x_K = np.log([bucket.budget for bucket, _ in kept])
    projection_2xK = line_projection(x_K, 1 / (variance_K + SMALLEST_VARIANCE + law.extra_sd**2))
    scale_K = np.array([bucket.loss_R.mean() for bucket, _ in kept])
    gradient_Kx3 = np.array([minimum.gradient_3 for _, minimum in kept]) * (slope_K * scale_K)[:, None]
    line_2xP = (projection_2xK[:, :, None] * gradient_Kx3).reshape(2, -1)
    design_NxP = block_diag(*(bucket.powers_Rx3 for bucket, _ in kept))
    loss_N = np.concatenate([bucket.loss_R / scale for (bucket, _), scale in zip(kept, scale_K)])
    residual_N = loss_N - design_NxP @ np.linalg.lstsq(design_NxP, loss_N)[0]
    _, cluster_N = np.unique(np.concatenate([bucket.cluster_R for bucket, _ in kept]), return_inverse=True)
    found = robust_variance(design_NxP, residual_N, cluster_N, np.stack([*line_2xP, line_2xP.sum(axis=0)]))
    at_centre, slope, both = found.variance_P
    quantile = float(stats.t.ppf((1 + level) / 2, found.dof_P[1]))
    half = quantile * math.sqrt(slope)
    if law.extra_sd > 0 and law.exponent - law.interval[0] > half:
        return law
    shared = (both - at_centre - slope) / 2
    covariance = ((at_centre, shared), (shared, slope))
    return replace(law, interval=(law.exponent - half, law.exponent + half), covariance=covariance, quantile=quantile)


def _optimum(bucket: Bucket, minimum: _Minimum) -> Optimum:
    basis = {"budget_range": bucket.budget_range, "runs": len(bucket.x_R), "sizes": len(bucket.size_S)}
    if minimum.reason is not None:
        return Optimum(bucket.budget, **basis, residual_sd=minimum.residual_sd, reason=minimum.reason)
    log_d, slope = bucket.log_data(minimum.x)
    ends = minimum.interval
    n_interval = tuple(None if end is None else math.exp(bucket.log_centre + end) for end in ends)
    d_ends = [None if end is None else math.exp(log_d + slope * (end - minimum.x)) for end in ends]
    return Optimum(
        bucket.budget,
        math.exp(bucket.log_centre + minimum.x),
        n_interval,
        minimum.sd,
        math.exp(log_d),
        (d_ends[1], d_ends[0]) if slope < 0 else (d_ends[0], d_ends[1]),
        minimum.loss,
        **basis,
        residual_sd=minimum.residual_sd,
    )


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
