"""Profiles: how the objective rises when one constant is held and the rest refitted; intervals that may stay open.

A profile needs no quadratic approximation: an interval ends where the rise becomes improbable, and where it never does
the constant is not identified from that side, however small its standard error looks.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
from scipy import stats

from scaling_fits.estimation.clusters import robust_variance
from scaling_fits.estimation.observations import Observations
from scaling_fits.estimation.problem import Problem, float64, jacobian, residuals, rounded
from scaling_fits.estimation.solver import Solutions, minimise
from scaling_fits.laws.law import LOSS

# Root finding along a profile: sqrt(rise) is nearly straight, so that few steps suffice after the bracket is narrow.
BISECTIONS, SECANTS = 5, 14
CLOSE_ENOUGH = 1e-3  # of the threshold
# A refit with one constant held starts near its end; what is flat would go on for ever without changing the objective.
STEPS = 64
# ln of the largest factor by which a positive constant may leave its estimate before its side counts as open.
LOG_FARTHEST = 60.0
START_POINTS = 6
CLUSTERS_MIN = 4  # of dependent rows; fewer leave no degree of freedom to a law's constants


@dataclass(frozen=True)
class ProfileInterval:
    """Where a constant's profile crosses the threshold; None is an open end; `lowest`, `highest` were tried last."""

    name: str
    estimate: float
    low: float | None
    high: float | None
    lowest: float
    highest: float
    level: float

    @property
    def identified(self) -> bool:
        """Closed on both sides."""
        return self.low is not None and self.high is not None

    @property
    def sentence(self) -> str | None:
        """What is not identified, in plain words, None when nothing is."""
        if self.identified:
            return None
        sides = [side for side, end in (("below", self.low), ("above", self.high)) if end is None]
        words = f"{self.name} is not identified by this design (its profile is open from {' and '.join(sides)})"
        if self.high is not None:
            return f"{words}; {self.name} < {self.high:.3g}"
        return f"{words}; {self.name} > {self.low:.3g}" if self.low is not None else words

    def __str__(self) -> str:
        low = "open" if self.low is None else f"{self.low:.4g}"
        high = "open" if self.high is None else f"{self.high:.4g}"
        return f"{self.name}: {low} to {high}"


@dataclass(frozen=True)
class ProfileCurve:
    """Rise of the objective over its least value, in units of `threshold`, on a grid of one constant's values."""

    name: str
    values: np.ndarray
    rise: np.ndarray
    level: float


def thresholds(problem: Problem, theta_P: np.ndarray, cluster_N: np.ndarray, level: float = 0.95) -> np.ndarray:
    """(P,) rises of the summed loss that the constants' true values exceed in a share `1 - level` of tables.

    unit x F(1, dof) of `references`. For independent rows it is ½ a F(1, n - P) with a = mean(psi²) / mean(psi'), the
    robust analogue of the residual variance (Heritier & Ronchetti 1994); for least squares it is the F test. Kinks are
    smoothed over a bandwidth, as for a density at zero.
    """
    unit_P, dof_P = references(problem, theta_P, cluster_N)
    return unit_P * stats.f.ppf(level, 1, dof_P)


def degrees_of_freedom(problem: Problem) -> int:
    """Rows less free constants; weights are relative and no count of rows."""
    return len(problem.log_y_N) - problem.free


def unit_of_rise(problem: Problem, theta_P: np.ndarray) -> float:
    """Half of a = mean(psi²) n / (n - P) / mean(psi'): what a needless constant gains if rows are independent."""
    psi, bend = scores(problem, theta_P)
    squares = float(problem.weight_N @ psi**2) / degrees_of_freedom(problem)
    return 0.5 * squares / max(float(np.average(bend, weights=problem.weight_N)), 1e-300)


def references(problem: Problem, theta_P: np.ndarray, cluster_N: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(P,) units and (P,) degrees of freedom: the rise with a constant held at its true value is unit x F(1, dof).

    For independent rows `unit_of_rise` and rows less constants. Where rows share clusters the unit is multiplied by the
    constant's design effect, what clusters do to the variance of its linearised estimate, and the degrees of freedom
    are those of that variance (`clusters.robust_variance`): few for what sets trunks apart, such as A and alpha of a
    law in N, more for what every trunk tells. With fewer than 4 clusters the units are infinite.
    """
    size = len(problem.law.parameters)
    clusters, spare = int(cluster_N.max()) + 1, degrees_of_freedom(problem)
    if clusters == len(cluster_N) and spare > 0:
        return np.full(size, unit_of_rise(problem, theta_P)), np.full(size, float(spare))
    if clusters < CLUSTERS_MIN or spare < 1:
        return np.full(size, math.inf), np.ones(size)
    psi, bend = scores(problem, theta_P)
    # A density estimated row by row sees too few residuals, its mean over rows none of the clusters' own levels.
    bend = (bend + np.average(bend, weights=problem.weight_N)) / 2
    low, high = problem.bounds
    free = np.flatnonzero(((theta_P > low) & (theta_P < high))[:size])
    root_N = np.sqrt(problem.weight_N * bend)
    design_NxF = jacobian(problem, theta_P)[:, free] * root_N[:, None]
    found = robust_variance(design_NxF, problem.weight_N * psi / np.maximum(root_N, 1e-300), cluster_N)
    unit, dof = np.full(size, math.inf), np.ones(size)
    unit[free] = 0.5 * found.variance_P / np.maximum(found.unit_P, 1e-300)
    dof[free] = found.dof_P
    # A constant on its bound moves no prediction: it is given the widest reference of those that do.
    widest = free[np.argmax(unit[free] * stats.f.ppf(0.95, 1, dof[free]))] if len(free) else 0
    held = np.setdiff1d(np.arange(size), free)
    unit[held], dof[held] = unit[widest], dof[widest]
    return unit, dof


def too_few_clusters(cluster_N: np.ndarray) -> str | None:
    """Why rows in these clusters support no profile interval, or None."""
    clusters = int(cluster_N.max()) + 1
    if clusters == len(cluster_N) or clusters >= CLUSTERS_MIN:
        return None
    return (
        f"no profile intervals: {len(cluster_N)} rows depend on each other within {clusters} clusters, and fewer than "
        f"{CLUSTERS_MIN} say nothing of the spread between them"
    )


def scores(problem: Problem, theta_P: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Slope psi (N,) of the loss at every residual, and its derivative smoothed over Silverman's bandwidth."""
    residual_N = residuals(problem, theta_P[None])[0]
    slope = rounded(problem.estimator, 1e-300).slope
    middle = np.median(np.abs(residual_N - np.median(residual_N))) / 0.6745
    spread = min(residual_N.std(), middle) if middle > 0 else residual_N.std()
    width = max(1.06 * spread * len(residual_N) ** -0.2, 1e-12)
    with float64():
        psi, above, below = (np.asarray(slope(residual_N + shift)) for shift in (0.0, width, -width))
    return psi, (above - below) / (2 * width)


def profile_intervals(
    data: Observations, optima_KxP: np.ndarray, initial_SxP: np.ndarray, level: float = 0.95
) -> tuple[ProfileInterval, ...]:
    """Profile intervals of every constant that was fitted, in published units; none for fewer than 4 clusters.

    All sides of all constants are bisected together; each pinned value is refitted from the optima and the best initial
    points, so that another basin may lower the profile.
    """
    if too_few_clusters(data.cluster_N) is not None:
        return ()
    raw, theta_KxP, starts_SxP = uncentred(data, optima_KxP, initial_SxP)
    pinned = {position for position, _ in raw.fixed}
    sides = [(p, end) for p in range(len(raw.law.parameters)) if p not in pinned for end in (0, 1)]
    which = np.array([p for p, _ in sides])
    limit = thresholds(raw, theta_KxP[0], data.cluster_N, level)[which]
    best = float(minimise(raw, theta_KxP[:1]).objective_S[0])
    inner, at_inner = theta_KxP[0, which].copy(), np.zeros(len(sides))
    outer = np.array([_farthest(raw, theta_KxP[0], p, end) for p, end in sides])
    starts = np.concatenate([theta_KxP, starts_SxP])
    far = _refit_pinned(raw, np.tile(starts, (len(sides), 1, 1)), which, outer)
    at_outer = far.objective_S - best
    is_open = at_outer <= limit
    # From here on every side starts from its own last point inside and last point outside.
    nearest, farthest = np.tile(theta_KxP[0], (len(sides), 1)), far.theta_SxP.copy()
    for step in range(BISECTIONS + SECANTS):
        share = np.full(len(sides), 0.5)
        if step >= BISECTIONS:
            roots = [np.sqrt(np.maximum(rise, 0.0)) for rise in (at_inner, at_outer)]
            share = (np.sqrt(limit) - roots[0]) / np.maximum(roots[1] - roots[0], 1e-300)
        value = inner + np.clip(share, 0.02, 0.98) * (outer - inner)
        ends = _refit_pinned(raw, np.stack([nearest, farthest], axis=1), which, value)
        rise = ends.objective_S - best
        inside = rise <= limit
        inner, outer = np.where(inside, value, inner), np.where(inside, outer, value)
        at_inner, at_outer = np.where(inside, rise, at_inner), np.where(inside, at_outer, rise)
        nearest, farthest = (
            np.where(inside[:, None], ends.theta_SxP, nearest),
            np.where(inside[:, None], farthest, ends.theta_SxP),
        )
        if (is_open | (np.abs(rise - limit) < CLOSE_ENOUGH * limit)).all():
            break
    found = {side: (None if open_ else float(end)) for side, open_, end in zip(sides, is_open, inner)}
    outer = np.where(is_open, [_farthest(raw, theta_KxP[0], p, end) for p, end in sides], outer)
    tried = dict(zip(sides, outer))
    return tuple(
        _interval(raw, theta_KxP[0], p, found[p, 0], found[p, 1], tried[p, 0], tried[p, 1], level)
        for p in range(len(raw.law.parameters))
        if p not in pinned
    )


def profile_curve(
    data: Observations,
    optima_KxP: np.ndarray,
    initial_SxP: np.ndarray,
    interval: ProfileInterval,
    *,
    points: int = 41,
) -> ProfileCurve:
    """The profile of one constant to twice the distance of its interval's ends, half the points on each side."""
    raw, theta_KxP, starts_SxP = uncentred(data, optima_KxP, initial_SxP)
    p = raw.law.names.index(interval.name)
    parameter = raw.law.parameters[p]
    ends = [interval.lowest if interval.low is None else interval.low]
    ends.append(interval.highest if interval.high is None else interval.high)
    low, high = (math.log(max(end, 1e-300)) if parameter.log else end for end in ends)
    centre = theta_KxP[0, p]
    span = [centre - 2 * min(centre - low, 10.0), centre + 2 * min(high - centre, 10.0)]
    span = np.clip(span, *(bound[p] for bound in raw.bounds))
    half = points // 2
    grid = np.concatenate([np.linspace(span[0], centre, half + 1), np.linspace(centre, span[1], points - half)[1:]])
    starts = np.tile(np.concatenate([theta_KxP, starts_SxP]), (len(grid), 1, 1))
    rise = _refit_pinned(raw, starts, np.full(len(grid), p), grid).objective_S
    rise = rise - min(rise.min(), minimise(raw, theta_KxP[:1]).objective_S[0])
    values = np.exp(grid) if parameter.log else grid
    limit = thresholds(raw, theta_KxP[0], data.cluster_N, interval.level)[p]
    return ProfileCurve(interval.name, values, rise / limit, interval.level)


def uncentred(
    data: Observations, optima_KxP: np.ndarray, initial_SxP: np.ndarray
) -> tuple[Problem, np.ndarray, np.ndarray]:
    """The problem in the units of the columns, where a working coordinate is a published constant, and points in it."""
    law = data.problem.law
    zero = dict.fromkeys(data.references, 0.0)
    optima, initial = (_moved(data, theta) for theta in (optima_KxP, initial_SxP[:START_POINTS]))
    low, high = (bound.copy() for bound in law.bounds)
    for p, parameter in enumerate(law.parameters):
        if parameter.units:
            low[p], high[p] = (-np.inf, np.inf) if not parameter.log else (-1e4, 1e4)
    raw = replace(
        data.problem,
        x=law.prepare(data.values, zero),
        log_y_N=data.problem.log_y_N + data.references[LOSS],
        log_unit=0.0,
        fixed=tuple((p, float(optima[0, p])) for p, _ in data.problem.fixed),
        box=(low, high),
    )
    return raw, optima, initial


def _moved(data: Observations, theta_SxP: np.ndarray) -> np.ndarray:
    law = data.problem.law
    moved = theta_SxP.copy()
    constants = law.published(theta_SxP, data.references)
    for p, parameter in enumerate(law.parameters):
        moved[:, p] = np.log(np.maximum(constants[:, p], 1e-300)) if parameter.log else constants[:, p]
    return moved


def _farthest(raw: Problem, theta_P: np.ndarray, p: int, end: int) -> float:
    bound = raw.bounds[end][p]
    reach = theta_P[p] + (LOG_FARTHEST if end else -LOG_FARTHEST)
    return float(min(bound, reach) if end else max(bound, reach))


def _refit_pinned(raw: Problem, starts_VxTxP: np.ndarray, which_V: np.ndarray, value_V: np.ndarray) -> Solutions:
    """Best refits (V of them) with coordinate `which` pinned to each value, over T starts for each."""
    count, tries, size = starts_VxTxP.shape
    start = starts_VxTxP.reshape(-1, size).copy()
    lower, upper = (np.tile(bound, (count * tries, 1)) for bound in raw.bounds)
    rows, column = np.arange(count * tries), np.repeat(which_V, tries)
    start = _shifted(raw, start, column, np.repeat(value_V, tries) - start[rows, column])
    lower[rows, column] = upper[rows, column] = start[rows, column] = np.repeat(value_V, tries)
    return minimise(raw, start, box=(lower, upper), steps=STEPS).best_of(tries)


def _shifted(raw: Problem, start_SxP: np.ndarray, column_S: np.ndarray, shift_S: np.ndarray) -> np.ndarray:
    """Starts whose coefficients follow a pinned exponent, so that terms keep their size amid the data."""
    moved = start_SxP.copy()
    middles = {v.dimension: float(np.mean(raw.x[v.name])) for v in raw.law.variables if v.log and v.dimension}
    for p, parameter in enumerate(raw.law.parameters):
        for dimension, power in parameter.units:
            if isinstance(power, str) and dimension in middles and power in raw.law.names:
                hit = column_S == raw.law.names.index(power)
                moved[hit, p] += shift_S[hit] * middles[dimension]
    return moved


def _interval(
    raw: Problem,
    theta_P: np.ndarray,
    p: int,
    low: float | None,
    high: float | None,
    lowest: float,
    highest: float,
    level: float,
) -> ProfileInterval:
    parameter = raw.law.parameters[p]
    limit = math.log(np.finfo(float).max)

    def value(at: float) -> float:
        return math.exp(min(at, limit)) if parameter.log else at

    below, above = (None if end is None else value(end) for end in (low, high))
    return ProfileInterval(parameter.name, value(theta_P[p]), below, above, value(lowest), value(highest), level)
