"""Slope of a contrast in ln N: least squares with cluster-robust errors, and a mixed model beside it.

Both use the rows of one table of paired differences; `SlopeDesign` holds what depends on the design alone, so that the
power of a planned study is simulated through the very estimator that will analyse it.

The variance is CR3: with 8 or 9 clusters the CR1 sandwich rejects a true null in 7 to 9 % of cases at 5 %. The t has
clusters - 2 degrees of freedom, as in a regression of the clusters' means. By simulation (normal noise, 100,000 studies
of 4 budgets; 60,000 where uneven) a true null is rejected in these per cents of cases at 5 % and at 1.67 %, Holm's
first step, beside what clusters - 1 would give:

======================================  ========  ==============  ==============
design                                  clusters  clusters - 2    clusters - 1
======================================  ========  ==============  ==============
2 sizes x 2 seeds                              4  3.4 and 1.1     5.9 and 2.7
5 sizes x 1 seed                               5  4.1 and 1.5     5.5 and 2.5
3 sizes x 2 seeds                              6  5.1 and 2.2     6.1 and 2.8
3 sizes x 3 seeds                              9  5.0 and 2.0     5.4 and 2.3
5 sizes x 3 seeds                             15  5.1 and 1.9     5.2 and 2.0
3 x 3, a third of the rows missing             9  4.8 to 5.8      5.2 to 6.2
3 x 2, smallest size 10 x the variance         6  7.1 and 2.9     8.5 and 3.9
3 x 3, smallest size 10 x the variance         9  7.3 and 3.1     7.8 and 3.5
======================================  ========  ==============  ==============

`planning.power.power_of` at slope 0 gives the figure of a plan with even noise.

With equal clusters and one size in each the estimates of both models coincide, and only the errors differ: CR3 lets
every cluster have its own spread, the mixed model pools one spread over all and is tighter if that is so. They part
when (a) the spread depends on size: then the pooled one is wrong, in either direction; (b) clusters are unequal, such
as missing budgets or several pool draws against one reference run: least squares weighs rows, the mixed model weighs
clusters the more equally, the larger the trunks' spread; (c) the slope itself depends on the budget: both then state
averages with different weights; (d) few clusters: CR3's error is then too large on average, and where the mixed model
finds no spread between trunks it is wide (98 % coverage for 95 %). Where only one excludes 0, `Slope.methods_agree` is
False and the text says so.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd
from scipy import sparse, stats
from scipy.sparse.csgraph import connected_components

from scaling_fits.estimation.random_intercept import MixedSlope, mixed_slope
from scaling_fits.tables.run_table import names

SMALLEST_EFFECT = 0.035  # relative; smaller differences are called unresolved
CLUSTERS_MIN = 4
LEVEL = 0.95
UNRESOLVED = "unresolved"


@dataclass(frozen=True)
class Unpaired:
    """Runs of one arm that agree with no run of the other in the columns `on`; `of` is how many the arm has."""

    arm: str
    other: str
    on: tuple[str, ...]
    runs: tuple[str, ...]
    of: int

    def __str__(self) -> str:
        named = names(pd.DataFrame({"run_id": self.runs}))
        key = ", ".join(self.on)
        return f"{len(self.runs)} of {self.of} runs of {self.arm} have no partner at {self.other} (same {key}): {named}"


@dataclass(frozen=True)
class Slope:
    """Slope in ln N of one contrast.

    `estimate` is None when fewer than two sizes remain; `standard_error`, `interval`, `p_value` are None when too few
    independent clusters remain, and `reason` says so. `effect_over_range` is the estimate times the span of ln N.
    `trunks` counts trunks, `clusters` groups of trunks that share a run in some pair. `mixed` is the same slope by a
    mixed model, given whenever the cluster-robust interval is; the verdict rests on the cluster-robust one. `unpaired`
    counts and names the runs of either arm that have no partner in the other.
    """

    name: str
    quantity: str
    primary: bool
    pairs: int
    trunks: int
    clusters: int
    sizes: int
    estimate: float | None = None
    standard_error: float | None = None
    dof: int | None = None
    level: float = 0.95
    interval: tuple[float, float] | None = None
    p_value: float | None = None
    holm_p_value: float | None = None
    effect_over_range: float | None = None
    reason: str | None = None
    mixed: MixedSlope | None = None
    unpaired: tuple[Unpaired, ...] = ()

    @property
    def verdict(self) -> str:
        """`rises with size`, `falls with size`, `unresolved` or `not estimated`; secondary slopes are exploratory."""
        if self.estimate is None or self.effect_over_range is None:
            return "not estimated"
        p_value = self.holm_p_value if self.primary else self.p_value
        small = abs(self.effect_over_range) <= math.log1p(SMALLEST_EFFECT)
        if small or p_value is None or p_value >= 1 - self.level:
            return UNRESOLVED
        direction = "rises with size" if self.estimate > 0 else "falls with size"
        return direction if self.primary else f"{direction} (exploratory)"

    @property
    def methods_agree(self) -> bool | None:
        """Whether the two intervals lie on the same side of 0 (or both cover it); None when one is missing."""
        if self.interval is None or self.mixed is None or self.mixed.interval is None:
            return None
        return _side(self.interval) == _side(self.mixed.interval)

    def __str__(self) -> str:
        return "\n".join([self._line, *(f"  NOTE: {left}" for left in self.unpaired)])

    @property
    def _line(self) -> str:
        if self.estimate is None:
            return f"{self.name}: {self.quantity}: not estimated ({self.reason})"
        spread = f"no interval ({self.reason})"
        if self.interval is not None:
            low, high = self.interval
            holm = "" if self.holm_p_value is None else f", Holm p {self.holm_p_value:.3g}"
            spread = f"{100 * self.level:.0f} % interval {low:+.4f} to {high:+.4f}, p {self.p_value:.3g}{holm}"
        counts = f"{self.pairs} differences, {self.trunks} trunks in {self.clusters} clusters, {self.sizes} sizes"
        head = f"{self.name}: {self.quantity}: {self.estimate:+.4f} per unit of ln N"
        beside = "" if self.mixed is None else f"; {self.mixed}"
        if self.methods_agree is False:
            beside += "; only one of the two intervals excludes 0 on its side"
        return f"{head}, {spread}; {counts}: {self.verdict}{beside}"


@dataclass(frozen=True)
class SlopeDesign:
    """What the slope takes from the design: weights of the rows (R,), and without each cluster in turn (C, R).

    `without_CxR` is None when some cluster's removal leaves fewer than two sizes at a common budget.
    """

    weights_R: np.ndarray
    without_CxR: np.ndarray | None
    clusters: int

    @property
    def dof(self) -> int:
        """Degrees of freedom of the jackknife's t: clusters - 2, as clusters also tell the level and the slope."""
        return self.clusters - 2

    @property
    def has_interval(self) -> bool:
        """At least 4 clusters, and a slope without any one of them."""
        return self.clusters >= CLUSTERS_MIN and self.without_CxR is not None

    def fit(self, y_MxR: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Slopes (M,) and CR3 standard errors (M,) of M sets of R rows, NaN errors when `has_interval` is false.

        The variance is CR3, the delete-one-cluster jackknife (MacKinnon, Nielsen & Webb 2023, eq. 14).
        """
        estimate_M = y_MxR @ self.weights_R
        if not self.has_interval or self.without_CxR is None:
            return estimate_M, np.full_like(estimate_M, np.nan)
        spread_MxC = y_MxR @ self.without_CxR.T - estimate_M[:, None]
        return estimate_M, np.sqrt((self.clusters - 1) / self.clusters * np.sum(spread_MxC**2, axis=1))


def slope_design(log_n_R: np.ndarray, groups_R: np.ndarray, clusters_R: np.ndarray) -> SlopeDesign | None:
    """The design of a slope in ln N (R,) with one intercept per group; None when no group holds two sizes."""
    weights_R = _weights(log_n_R, groups_R)
    if weights_R is None:
        return None
    names = np.unique(clusters_R)
    rows = [_weights(log_n_R, groups_R, clusters_R != name) for name in names]
    whole = all(row is not None for row in rows)
    return SlopeDesign(weights_R, np.array(rows) if whole else None, len(names))


def slope_in_size(
    name: str,
    quantity: str,
    values: pd.DataFrame,
    *,
    column: str = "difference",
    trunks: Sequence[str] = ("trunk_a", "trunk_b"),
    within: str | None = "records_seen",
    n: str = "n_params",
    primary: bool = False,
) -> Slope:
    """Least-squares slope of `column` on ln N with one intercept per value of `within` (budgets), clustered on trunks.

    Rows that share any trunk form one cluster. The variance is CR3 (`SlopeDesign.fit`), the t has clusters - 2 degrees
    of freedom, and `Slope.mixed` has the slope of a mixed model beside it: the module says why. Fewer than 4 clusters:
    an estimate without interval.
    """
    clusters_R = components(values, trunks)
    counts: dict[str, Any] = {
        "pairs": len(values),
        "trunks": int(pd.unique(values[list(trunks)].astype(str).to_numpy().ravel()).size),
        "clusters": int(np.unique(clusters_R).size),
        "sizes": int(values[n].nunique()),
    }
    slope = Slope(name, quantity, primary, **counts, level=LEVEL)
    log_n_R, y_R = np.log(values[n].to_numpy(dtype=float)), values[column].to_numpy(dtype=float)
    groups_R = np.zeros(len(values)) if within is None else values[within].to_numpy()
    design = slope_design(log_n_R, groups_R, clusters_R) if len(values) else None
    if design is None:
        return replace(slope, reason=f"{slope.sizes} sizes at a common budget; a slope needs two")
    estimate, error = (float(value[0]) for value in design.fit(y_R[None]))
    slope = replace(slope, estimate=estimate, effect_over_range=float(estimate * np.ptp(log_n_R)))
    if not design.has_interval:
        needed = f"{CLUSTERS_MIN} are needed, and two sizes without any one of them"
        return replace(slope, reason=f"{slope.clusters} independent clusters of trunks; {needed}")
    half = float(stats.t.ppf((1 + LEVEL) / 2, design.dof) * error)
    p_value = float(2 * stats.t.sf(abs(estimate) / error, design.dof)) if error > 0 else float(estimate == 0)
    slope = replace(slope, standard_error=error, dof=design.dof, p_value=p_value)
    mixed = mixed_slope(log_n_R, y_R, groups_R, clusters_R, level=LEVEL)
    return replace(slope, interval=(estimate - half, estimate + half), mixed=mixed)


def holm(p_values: Sequence[float | None], family: int | None = None) -> list[float | None]:
    """Holm's (1979) step-down adjusted p-values; `family` is the planned number of tests: a missing one still counts.

    Each is the closed test with Bonferroni's local tests, so the family-wise error holds whatever the dependence.
    """
    present = sorted((p, i) for i, p in enumerate(p_values) if p is not None)
    family = max(len(p_values), family or 0)
    adjusted: list[float | None] = [None] * len(p_values)
    running = 0.0
    for rank, (p, index) in enumerate(present):
        running = max(running, min(1.0, (family - rank) * p))
        adjusted[index] = running
    return adjusted


def components(values: pd.DataFrame, trunks: Sequence[str]) -> np.ndarray:
    """Cluster number per row: rows connected through any shared trunk are one cluster."""
    names = values[list(trunks)].astype(str).to_numpy()
    labels, codes = np.unique(names.ravel(), return_inverse=True)
    codes = codes.reshape(names.shape)
    graph = sparse.coo_matrix((np.ones(len(codes)), (codes[:, 0], codes[:, -1])), shape=(len(labels), len(labels)))
    return connected_components(graph, directed=False)[1][codes[:, 0]] if len(codes) else np.zeros(0, dtype=int)


def _weights(log_n_R: np.ndarray, groups_R: np.ndarray, keep_R: np.ndarray | None = None) -> np.ndarray | None:
    """Weights of the rows in the least-squares slope with one intercept per group, 0 for rows not kept.

    None when ln N does not vary within any group.
    """
    keep_R = np.ones(len(log_n_R), dtype=bool) if keep_R is None else keep_R
    x_R = _centred(log_n_R[keep_R], groups_R[keep_R])
    square = float(x_R @ x_R)
    if square <= 1e-12:
        return None
    weights_R = np.zeros(len(log_n_R))
    weights_R[keep_R] = x_R / square
    return weights_R


def _centred(values: np.ndarray, groups: np.ndarray) -> np.ndarray:
    """Values minus the mean of their group."""
    _, index = np.unique(groups, return_inverse=True)
    return values - (np.bincount(index, weights=values) / np.bincount(index))[index]


def _side(interval: tuple[float, float]) -> int:
    return int(interval[0] > 0) - int(interval[1] < 0)
