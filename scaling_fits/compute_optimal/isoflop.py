"""Approach 2: compute-optimal size and data from runs of several sizes at each of several budgets.

Hoffmann et al. 2022 (arXiv:2203.15556), section 3.2, by parabolas in ln N; or Porian et al. 2024 (arXiv:2406.19146), by
Akima splines under bootstrapped noise. A minimum that the runs do not bracket is refused.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from scipy import stats
from scipy.linalg import block_diag

from scaling_fits.compute_optimal.akima import Akima
from scaling_fits.compute_optimal.allocation import (
    BUDGETS_MIN,
    SMALLEST_VARIANCE,
    Allocation,
    Optimum,
    PowerLaw,
    fit_power_law,
    line_projection,
)
from scaling_fits.compute_optimal.budgets import (
    Bucket,
    Minimum,
    NoMinimum,
    assign_budgets,
    replicate_notes,
    split_budgets,
    too_few,
)
from scaling_fits.compute_optimal.compute import SweepColumns, with_compute
from scaling_fits.compute_optimal.parabola import PARABOLA, Parabola
from scaling_fits.errors import Refused
from scaling_fits.estimation.clusters import robust_variance
from scaling_fits.tables.run_table import DUPLICATE, RunTable, read_runs, require_columns


def isoflop(
    table: RunTable | pd.DataFrame | Path | str,
    columns: SweepColumns,
    *,
    method: Parabola | Akima = PARABOLA,
    budgets: Sequence[float] | None = None,
    tolerance: float = 0.1,
    level: float = 0.95,
) -> Allocation:
    """N*(C), D*(C) and their power laws from final losses at several budgets.

    Runs are put to `budgets`, or to those found, by `assign_budgets`; `method` finds the minimum of each. Where columns
    name a cluster (runs that share a trunk, across budgets too) the laws' intervals allow for what the minima have in
    common. D* is the data of the runs at N*.

    Refused, with the reason: budgets with fewer than 4 distinct sizes, concave or flat curves, minima outside the sizes
    or in their first or last interval, minima whose draws are mostly at the edge. Raises ValueError for a study that
    states no law, unusable columns, or Akima with clusters or without noise.
    """
    if isinstance(method, Akima) and columns.cluster is not None:
        raise ValueError(f"Akima splines know no clusters: leave out {columns.cluster!r}, or use a parabola")
    table = _sweep(table, columns)
    rows, compute_name = with_compute(table.rows, columns, table.source)
    rows = rows.assign(_budget=assign_budgets(rows["_c"].to_numpy(), budgets, tolerance))
    off = rows["_budget"].isna().to_numpy()
    repeated = rows.duplicated([columns.n, columns.d, columns.loss, "_c"]).to_numpy()
    table = table.leaving_out(repeated & ~off, DUPLICATE)
    excluded = {**table.excluded, "off_budget": int(off.sum())}
    rows = rows[~off & ~repeated]
    if rows.empty:
        raise Refused(
            f"{table.source}: no row is at a budget, left out were {excluded}",
            python="give budgets or tolerance",
            command="give --budgets or --tolerance",
        )
    buckets = split_budgets(rows, columns)
    minima = method.minima(buckets, level, table.source)
    size_law, data_law, reason = _laws(buckets, minima, level, joint=method.joint)
    return Allocation(
        method.title,
        {"source": table.source, **columns.definition, "C": compute_name},
        tuple(_optimum(bucket, minimum) for bucket, minimum in zip(buckets, minima)),
        size_law,
        data_law,
        level,
        {reason: count for reason, count in excluded.items() if count},
        (*table.notes, *replicate_notes(rows, [columns.n, "_budget"], columns.run), *method.notes(buckets)),
        reason,
        tuple(bucket.curve(None if too_few(bucket) else method.curve(bucket)) for bucket in buckets),
    )


def _sweep(table: RunTable | pd.DataFrame | Path | str, columns: SweepColumns) -> RunTable:
    """The table, read and checked; ValueError for a study that states no law."""
    if not isinstance(table, RunTable):
        table = read_runs(table, response=columns.loss, positive=[columns.n, columns.d], run=columns.run)
    require_columns(table.frame, columns.named, table.source)
    if table.law_refusal is not None:
        raise ValueError(table.law_refusal)
    return table


def _laws(
    buckets: list[Bucket], minima: list[Minimum | NoMinimum], level: float, *, joint: bool
) -> tuple[PowerLaw | None, PowerLaw | None, str | None]:
    kept = [(bucket, minimum) for bucket, minimum in zip(buckets, minima) if isinstance(minimum, Minimum)]
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
    law: PowerLaw, kept: list[tuple[Bucket, Minimum]], variance_K: np.ndarray, slope_K: np.ndarray, level: float
) -> PowerLaw:
    """The law with the interval that all runs' residuals give its line, clusters shared by budgets allowed for.

    The minima are linear in the losses, so the line is, and `robust_variance` knows its degrees of freedom: those of
    all residuals, where a line through K points would have K - 2. Where the minima scatter about the line by more than
    their noise the wider interval, with that scatter, stays.
    """
    x_K = np.log([bucket.budget for bucket, _ in kept])
    extra_sd = law.extra_sd or 0.0
    projection_2xK = line_projection(x_K, 1 / (variance_K + SMALLEST_VARIANCE + extra_sd**2))
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
    if extra_sd > 0 and law.interval is not None and law.exponent - law.interval[0] > half:
        return law
    shared = (both - at_centre - slope) / 2
    covariance = ((at_centre, shared), (shared, slope))
    return replace(law, interval=(law.exponent - half, law.exponent + half), covariance=covariance, quantile=quantile)


def _optimum(bucket: Bucket, minimum: Minimum | NoMinimum) -> Optimum:
    basis: dict[str, Any] = {"budget_range": bucket.budget_range, "runs": len(bucket.x_R), "sizes": len(bucket.size_S)}
    if isinstance(minimum, NoMinimum):
        return Optimum(bucket.budget, **basis, residual_sd=minimum.residual_sd, reason=minimum.reason)
    log_d, slope = bucket.log_data(minimum.x)
    ends = minimum.interval
    n_low, n_high = (None if end is None else math.exp(bucket.log_centre + end) for end in ends)
    d_ends = [None if end is None else math.exp(log_d + slope * (end - minimum.x)) for end in ends]
    return Optimum(
        bucket.budget,
        math.exp(bucket.log_centre + minimum.x),
        (n_low, n_high),
        minimum.sd,
        math.exp(log_d),
        (d_ends[1], d_ends[0]) if slope < 0 else (d_ends[0], d_ends[1]),
        minimum.loss,
        **basis,
        residual_sd=minimum.residual_sd,
    )
