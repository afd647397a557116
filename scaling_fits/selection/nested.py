"""Nested tests: is the larger of two laws, fitted to the same rows, better than chance would make it?"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
from scipy import stats

from scaling_fits.estimation.problem import Problem, log_predictions
from scaling_fits.estimation.solver import minimise
from scaling_fits.fit import Fit
from scaling_fits.laws.law import LOSS, Law
from scaling_fits.uncertainty.bootstrap import CLUSTERS_MIN
from scaling_fits.uncertainty.profile_likelihood import degrees_of_freedom, unit_of_rise

REPLICATES = 499
WEBB_BELOW = 12  # clusters: with fewer, two signs give too few distinct samples
NULL_STARTS = 8


@dataclass(frozen=True)
class Restriction:
    """What turns a law into its special case.

    `names` are the further constants, `values` those they take (NaN: the value of another constant, an equality).
    `edge` are the ones at the end of their range under the null, `lost` those without meaning there, which no null
    distribution of F covers (Davies 1987).
    """

    names: tuple[str, ...]
    values: tuple[float, ...]
    edge: tuple[str, ...]
    lost: tuple[str, ...]

    @property
    def half(self) -> bool:
        """One constant, zero under the null: the reference is half a point mass at 0 (Self & Liang 1987, case 5)."""
        return len(self.names) == 1 and self.edge == self.names and self.values == (0.0,)


def restriction(small: Law, large: Law) -> Restriction:
    """How `small` lies inside `large`, through any number of special cases; ValueError where it does not."""
    values: dict[str, float] = {}
    edge, lost = [], []
    law = large
    while law != small:
        inner = law.special_case
        if inner is None:
            raise ValueError(f"{small.name} is not a special case of {large.name}: compare them by their backtests")
        declared = dict(law.reduces_at)
        undeclared = [p for p in law.parameters if p.name not in declared and p.name not in inner.names]
        # Constants that only change their letter stand first, further ones last.
        further = len(law.parameters) - len(inner.parameters) - len(declared)
        for parameter in undeclared[len(undeclared) - further :]:
            values[parameter.name] = 0.0 if parameter.linear else math.nan
            lost += [parameter.name] if declared else []
        values |= declared
        for parameter in law.parameters:
            low, high = (math.exp(end) if parameter.log else end for end in (parameter.low, parameter.high))
            value = values.get(parameter.name, math.nan)
            edge += [parameter.name] if value <= low or value >= high else []
        law = inner
    return Restriction(tuple(values), tuple(values.values()), tuple(edge), tuple(lost))


@dataclass(frozen=True)
class NestedTest:
    """Does the larger law fit better than chance lets its further constants do?

    `statistic` is the fall of the objective per further constant in units of a/2 (see `nested_test`), `p_value` from
    F(`df`, `df_residual`), None where that is no reference (dependent rows, constants without meaning under the null);
    `reference` says which and why. `p_bootstrap` is from `replicates` wild bootstraps by cluster under the null.
    """

    small: str
    large: str
    restriction: Restriction
    statistic: float
    df: int
    df_residual: int
    clusters: int
    p_value: float | None
    p_bootstrap: float | None
    replicates: int
    reference: str

    @property
    def p(self) -> float | None:
        """The p-value to report: the bootstrap's where there is one."""
        return self.p_value if self.p_bootstrap is None else self.p_bootstrap

    def __str__(self) -> str:
        p = "no p-value" if self.p is None else f"p = {self.p:.3g}"
        return (
            f"{self.small} in {self.large} ({', '.join(self.restriction.names)}): F({self.df}, {self.df_residual}) = "
            f"{self.statistic:.4g}, {p}; {self.reference}"
        )


def nested_test(small: Fit, large: Fit, *, replicates: int = REPLICATES, seed: int = 0) -> NestedTest:
    """Test the special case `small` against `large`, both fitted to the same rows with the same estimator.

    The statistic is (objective_small - objective_large) / (k a n / (2 (n - P))), a = mean(psi^2) / mean(psi') at the
    larger fit, k the further constants: the F statistic for least squares, its robust analogue otherwise (Heritier &
    Ronchetti 1994), in units of `profile.unit_of_rise`. Where rows depend on each other or F is no reference, the
    p-value is from a wild bootstrap by cluster with the null imposed (Cameron, Gelbach & Miller 2008): responses of the
    smaller law with flipped residuals, both laws refitted. With `replicates=0` it is left out. ValueError for fits that
    are not nested, or not of the same rows.
    """
    inside = restriction(small.law, large.law)
    _require_same(small, large)
    problem = large.observations.problem
    extra = problem.free - small.observations.problem.free
    if extra < 1:
        raise ValueError(f"{large.law.name} has no more free constants than {small.law.name}: nothing to test")
    spare = degrees_of_freedom(problem)
    if spare < 1:
        raise ValueError(f"{large.law.name}: {len(problem.log_y_N)} rows leave no degree of freedom for a test")
    unit = unit_of_rise(problem, large.theta_KxP[0])
    # The larger law contains the smaller: a negative fall is rounding.
    statistic = max(small.objective - large.objective, 0.0) / (extra * unit)
    clusters = int(large.observations.cluster_N.max()) + 1
    dependent = clusters < len(problem.log_y_N)
    p_value = None if dependent or inside.lost else float(stats.f.sf(statistic, extra, spare))
    reference = _reference(inside, dependent, clusters)
    if p_value is not None and inside.half:
        p_value = p_value / 2 if statistic > 0 else 1.0
    p_bootstrap, drawn = None, 0
    if replicates > 0 and clusters >= CLUSTERS_MIN and (dependent or inside.edge or inside.lost):
        null_R = _null_statistics(small, large, extra, replicates, seed)
        drawn = len(null_R)
        p_bootstrap = float((1 + (null_R >= statistic).sum()) / (drawn + 1))
        reference += f"; p from {drawn} wild bootstraps by cluster under the null"
    return NestedTest(
        small=small.law.name,
        large=large.law.name,
        restriction=inside,
        statistic=float(statistic),
        df=extra,
        df_residual=spare,
        clusters=clusters,
        p_value=p_value,
        p_bootstrap=p_bootstrap,
        replicates=drawn,
        reference=reference,
    )


def _reference(inside: Restriction, dependent: bool, clusters: int) -> str:
    if inside.lost:
        words = f"{', '.join(inside.lost)} mean nothing under the null, so F is no reference"
    elif inside.half:
        words = f"{inside.names[0]} is 0, a boundary, under the null: half a point mass at 0, half F"
    elif inside.edge:
        words = f"{', '.join(inside.edge)} at a boundary or infinity under the null: F is conservative"
    else:
        words = "F"
    if dependent:
        words += f"; rows in {clusters} clusters depend on each other, so F gives no p-value"
        if clusters < CLUSTERS_MIN:
            words += f", and fewer than {CLUSTERS_MIN} clusters support no bootstrap"
    return words


def _null_statistics(small: Fit, large: Fit, extra: int, replicates: int, seed: int) -> np.ndarray:
    """(R,): the statistic under the smaller law, residuals flipped by cluster and inflated by sqrt(n / (n - P))."""
    of_small, of_large = small.observations.problem, large.observations.problem
    cluster_N = large.observations.cluster_N
    fitted_N = log_predictions(small.law, small.theta_KxP[:1], of_small.x)[0]
    rows, clusters = len(fitted_N), int(cluster_N.max()) + 1
    residual_N = (of_small.log_y_N - fitted_N) * math.sqrt(rows / (rows - of_small.free))
    webb = np.sqrt([0.5, 1.0, 1.5])
    signs = np.array([-1.0, 1.0]) if clusters >= WEBB_BELOW else np.concatenate([-webb, webb])
    flips = np.random.default_rng(seed).choice(signs, size=(replicates, clusters))
    log_y_RxN = fitted_N + residual_N * flips[:, cluster_N]
    low = minimise(of_small, np.tile(small.theta_KxP[:1], (replicates, 1)), log_y_SxN=log_y_RxN)
    starts = np.stack([_null_in_large(small, large, fitted_N), large.theta_KxP[0]])
    tried = minimise(of_large, np.tile(starts, (replicates, 1)), log_y_SxN=np.repeat(log_y_RxN, len(starts), axis=0))
    high = tried.best_of(len(starts))
    fall_R = np.maximum(low.objective_S - high.objective_S, 0.0)
    units_R = [
        unit_of_rise(_with_response(of_large, log_y), theta)
        for log_y, theta in zip(log_y_RxN, high.theta_SxP, strict=True)
    ]
    return fall_R / (extra * np.array(units_R))


def _null_in_large(small: Fit, large: Fit, fitted_N: np.ndarray) -> np.ndarray:
    """(P,): the smaller law in the larger one's coordinates, found by fitting the one to the other's curve."""
    problem = _with_response(large.observations.problem, fitted_N)
    starts = np.concatenate([large.theta_KxP, large.initial_SxP[:NULL_STARTS]])
    ends = minimise(problem, starts)
    theta_P = ends.theta_SxP[int(ends.objective_S.argmin())].copy()
    if problem.estimator.estimates_scale:
        theta_P[-1] = small.theta_KxP[0, -1]  # the curve fits without error; its scale says nothing
    return theta_P


def _with_response(problem: Problem, log_y_N: np.ndarray) -> Problem:
    return replace(problem, log_y_N=log_y_N)


def _require_same(first: Fit, second: Fit) -> None:
    """ValueError unless the fits are of the same rows, weights and estimator."""
    one, two = first.observations, second.observations
    if first.estimator != second.estimator or first.link is not second.link:
        raise ValueError(
            f"{first.law.name} was fitted with {first.estimator.description}, {second.law.name} with "
            f"{second.estimator.description}: compare fits of one estimator and link"
        )
    same = len(one.problem.log_y_N) == len(two.problem.log_y_N) and all(
        np.allclose(a, b, rtol=1e-12, atol=1e-12)
        for a, b in (
            (one.problem.log_y_N + one.references[LOSS], two.problem.log_y_N + two.references[LOSS]),
            (one.problem.weight_N, two.problem.weight_N),
            (one.problem.sd_N, two.problem.sd_N),
            (one.cluster_N, two.cluster_N),
        )
    )
    if not same:
        raise ValueError(
            f"{first.law.name} ({len(one.problem.log_y_N)} rows) and {second.law.name} ({len(two.problem.log_y_N)} "
            "rows) were fitted to different rows, weights or clusters: fit both to one table"
        )
