"""IsoFLOP grids: which runs share a budget, which are replicates, and which minima their sizes bracket."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from scaling_fits.compute_optimal.compute import SweepColumns
from scaling_fits.errors import Refused
from scaling_fits.tables.run_table import names

SIZES_MIN = 4  # a parabola through three sizes has no residual
SAME_SIZE = 0.01  # relative: sizes closer than this are one
CURVE_POINTS = 65


@dataclass(frozen=True)
class BudgetCurve:
    """The runs at one budget and the curve fitted through them, for figures: sizes N and losses, sizes rising.

    `runs` are the ids of the runs, empty where the table has none. The curve reaches from the smallest to the largest
    size, and is empty where there are too few sizes to fit one.
    """

    budget: float
    runs: tuple[str, ...]
    run_n: tuple[float, ...]
    run_loss: tuple[float, ...]
    n: tuple[float, ...]
    loss: tuple[float, ...]


@dataclass(frozen=True)
class Minimum:
    """Where a bucket's curve is lowest, as ln N about the bucket's mean, with its loss and the runs' spread about it.

    `gradient_3` is what the parabola's coefficients add to it, where there is one.
    """

    x: float
    sd: float
    interval: tuple[float | None, float | None]
    loss: float
    residual_sd: float
    gradient_3: np.ndarray | None = None


@dataclass(frozen=True)
class NoMinimum:
    """Why a bucket has no minimum that could be believed."""

    reason: str
    residual_sd: float | None = None


@dataclass(frozen=True)
class Bucket:
    """Runs at one budget: x = ln N about its mean, response loss, clusters by number, ids (none: no such column)."""

    budget: float
    budget_range: tuple[float, float]
    log_centre: float
    x_R: np.ndarray
    loss_R: np.ndarray
    log_d_R: np.ndarray
    cluster_R: np.ndarray
    runs_R: tuple[str, ...]

    @property
    def group_R(self) -> np.ndarray:
        """Number of the distinct size of each run."""
        order = np.argsort(self.x_R, kind="stable")
        group = np.empty(len(order), dtype=int)
        group[order] = np.concatenate([[0], np.cumsum(np.diff(self.x_R[order]) > SAME_SIZE)])
        return group

    @property
    def size_S(self) -> np.ndarray:
        """x of the distinct sizes, rising."""
        return np.bincount(self.group_R, weights=self.x_R) / np.bincount(self.group_R)

    @property
    def log_loss_S(self) -> np.ndarray:
        """Mean ln loss of each distinct size."""
        return np.bincount(self.group_R, weights=np.log(self.loss_R)) / np.bincount(self.group_R)

    @property
    def powers_Rx3(self) -> np.ndarray:
        """1, x, x²."""
        return np.vander(self.x_R, 3, increasing=True)

    def log_data(self, x: float) -> tuple[float, float]:
        """ln D at a size and its slope in ln N, from the runs' own sizes and data."""
        curve = np.polynomial.Polynomial.fit(self.x_R, self.log_d_R, 2)
        return float(curve(x)), float(curve.deriv()(x))

    def curve(self, loss_at: Callable[[np.ndarray], np.ndarray] | None) -> BudgetCurve:
        """The runs and the fitted curve `loss_at(x)`, if there is one."""
        order = np.argsort(self.x_R, kind="stable")
        x_G = np.linspace(self.size_S[0], self.size_S[-1], CURVE_POINTS if loss_at is not None else 0)
        return BudgetCurve(
            self.budget,
            tuple(self.runs_R[row] for row in order) if self.runs_R else (),
            tuple(np.exp(self.log_centre + self.x_R[order]).tolist()),
            tuple(self.loss_R[order].tolist()),
            tuple(np.exp(self.log_centre + x_G).tolist()),
            () if loss_at is None else tuple(loss_at(x_G).tolist()),
        )


def assign_budgets(c_N: np.ndarray, budgets: Sequence[float] | None = None, tolerance: float = 0.1) -> np.ndarray:
    """The budget (N,) of every run, NaN for none, FLOPs being equal up to `tolerance` in ln C.

    With `budgets` each run goes to the nearest one. Without, sorted FLOPs are cut where they jump by more than
    `tolerance`, and a budget is the geometric mean of its runs; ValueError when a chain of small steps makes a budget
    wider than twice the tolerance.
    """
    log_c = np.log(np.asarray(c_N, dtype=float))
    if budgets is not None:
        if not len(budgets) or min(budgets) <= 0:
            raise ValueError(f"budgets must be positive FLOPs, not {list(budgets)}")
        nominal = np.sort(np.asarray(budgets, dtype=float))
        log_b = np.log(nominal)
        nearest = np.argmin(np.abs(log_c[:, None] - log_b), axis=1)
        return np.where(np.abs(log_c - log_b[nearest]) <= tolerance, nominal[nearest], np.nan)
    order = np.argsort(log_c, kind="stable")
    group = np.empty(len(order), dtype=int)
    group[order] = np.concatenate([[0], np.cumsum(np.diff(log_c[order]) > tolerance)])
    for g in range(group.max() + 1):
        low, high = log_c[group == g].min(), log_c[group == g].max()
        if high - low > 2 * tolerance:
            raise Refused(
                f"FLOPs from {math.exp(low):.4g} to {math.exp(high):.4g} follow each other by less than "
                f"{100 * tolerance:g} %: no separate budgets",
                python="give budgets=[...] or a smaller tolerance",
                command="give --budgets or a smaller --tolerance",
            )
    return np.exp(np.bincount(group, weights=log_c) / np.bincount(group))[group]


def split_budgets(rows: pd.DataFrame, columns: SweepColumns) -> list[Bucket]:
    """One bucket per value of the column "_budget", smallest first; without a `cluster` column each run is its own."""
    n, d, loss, run, cluster = columns.n, columns.d, columns.loss, columns.run, columns.cluster
    labels = rows[cluster].astype(str) if cluster else pd.Series(range(len(rows)), index=rows.index)
    rows = rows.assign(_cluster=pd.factorize(labels)[0])
    found = []
    for budget, group in rows.groupby("_budget", sort=True):
        log_n, log_d = np.log(group[n].to_numpy(dtype=float)), np.log(group[d].to_numpy(dtype=float))
        reach = (float(group["_c"].min()), float(group["_c"].max()))
        y, clusters = group[loss].to_numpy(dtype=float), group["_cluster"].to_numpy()
        centre, names = float(log_n.mean()), tuple(group[run].astype(str)) if run in group else ()
        found.append(Bucket(float(budget), reach, centre, log_n - centre, y, log_d, clusters, names))
    return found


def replicate_notes(rows: pd.DataFrame, key: list[str], run: str) -> list[str]:
    """Replicates of a size and budget, by name; rows given twice were left out when the table was read."""
    replicates = rows[rows.duplicated(key)]
    if replicates.empty:
        return []
    return [f"{len(replicates)} rows replicates of a size and budget, kept: {names(replicates, run)}"]


def too_few(bucket: Bucket) -> str | None:
    """Why the bucket has too few sizes, or None."""
    sizes = len(bucket.size_S)
    return f"{sizes} distinct sizes, {SIZES_MIN} needed" if sizes < SIZES_MIN else None


def not_bracketed(bucket: Bucket, x: float) -> str | None:
    """Why a minimum at x is not one that the sizes bracket, or None."""
    size_S, at = bucket.size_S, math.exp(bucket.log_centre + np.clip(x, -700, 700 - bucket.log_centre))
    low, high = (f"{math.exp(bucket.log_centre + end):.4g}" for end in (size_S[0], size_S[-1]))
    if not size_S[0] < x < size_S[-1]:
        return f"the minimum, N = {at:.4g}, is outside the sizes {low} to {high}; add {_side(x)} sizes"
    if not size_S[1] < x < size_S[-2]:
        where = "first" if x <= size_S[1] else "last"
        return (
            f"the minimum, N = {at:.4g}, is in the {where} interval of the sizes {low} to {high}; add {_side(x)} ones"
        )
    return None


def _side(x: float) -> str:
    return "smaller" if x < 0 else "larger"
