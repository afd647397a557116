"""Compute-optimal size and data: what an answer is, how power laws go through answers, and the answer of a fitted law.

The last is Approach 3 of Hoffmann et al. 2022 (arXiv:2203.15556); Approach 1 stands in `envelope`, 2 in `isoflop`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace

import numpy as np
from scipy import optimize, stats

from scaling_fits.compute_optimal.budgets import BudgetCurve
from scaling_fits.compute_optimal.compute import SIX_N_D, Compute

SEARCH_POINTS = 513
BUDGETS_MIN = 3  # a line through two points has no residual, and so no interval
EDGE_SHARE_MAX = 0.5
SMALLEST_VARIANCE = 1e-18  # of ln N*: minima of noiseless data still have finite weights

Interval = tuple[float | None, float | None]  # None: open on that side


@dataclass(frozen=True)
class PowerLaw:
    """quantity = coefficient × C^exponent.

    `covariance` is that of (ln quantity at the centre, exponent), the centre being the budget e^log_centre; half-widths
    are `quantile` of its sds. `extra_sd` is the scatter of ln quantity about the line beyond the minima's own, None
    where the line was not weighted by it. `interval` and `covariance` are None where nothing tells them.
    """

    quantity: str
    exponent: float
    interval: tuple[float, float] | None
    log_centre: float
    log_at_centre: float
    covariance: tuple[tuple[float, float], tuple[float, float]] | None
    quantile: float
    budgets: int
    extra_sd: float | None

    @property
    def coefficient(self) -> float:
        """The factor before C^exponent."""
        return math.exp(self.log_at_centre - self.exponent * self.log_centre)

    def at(self, budget: float) -> float:
        """The quantity at a budget in FLOPs."""
        return math.exp(self.log_at_centre + self.exponent * (math.log(budget) - self.log_centre))

    def interval_at(self, budget: float) -> tuple[float, float] | None:
        """Interval of the line at a budget in FLOPs, inside or beyond those that were fitted."""
        if self.covariance is None:
            return None
        row = np.array([1.0, math.log(budget) - self.log_centre])
        half = self.quantile * math.sqrt(max(float(row @ np.array(self.covariance) @ row), 0.0))
        return self.at(budget) * math.exp(-half), self.at(budget) * math.exp(half)

    def __str__(self) -> str:
        interval = "no interval" if self.interval is None else f"{self.interval[0]:.4f} to {self.interval[1]:.4f}"
        scatter = "" if self.extra_sd is None else f", scatter beyond the minima's own {100 * self.extra_sd:.2g} %"
        law = f"{self.quantity} = {self.coefficient:.4g} C^{self.exponent:.4f}"
        return f"{law} ({interval}; {self.budgets} optima{scatter})"


@dataclass(frozen=True)
class Optimum:
    """Compute-optimal size and data at one budget (FLOPs), or the `reason` why there is none.

    `log_n_sd` is the standard error of ln N*; `budget_range` the smallest and largest C among the `runs` of `sizes`
    distinct sizes; `residual_sd` the relative spread of the loss about the curve. An end of an interval is None where
    it is open: the data do not say how far it reaches.
    """

    budget: float
    n: float | None = None
    n_interval: Interval | None = None
    log_n_sd: float | None = None
    d: float | None = None
    d_interval: Interval | None = None
    loss: float | None = None
    budget_range: tuple[float, float] | None = None
    runs: int | None = None
    sizes: int | None = None
    residual_sd: float | None = None
    reason: str | None = None

    def __str__(self) -> str:
        basis = "" if self.runs is None else f"  [{self.runs} runs, {self.sizes} sizes]"
        if self.reason is not None:
            return f"C = {self.budget:.4g}: refused, {self.reason}{basis}"
        n, d = _with_interval(self.n, self.n_interval), _with_interval(self.d, self.d_interval)
        return f"C = {self.budget:.4g}: N* = {n}, D* = {d}, loss {self.loss:.5g}{basis}"


@dataclass(frozen=True)
class Allocation:
    """Compute-optimal size and data over budgets by one approach.

    `definition` says what N, D, C and loss are and whence; `excluded` counts rows by reason; the two laws are None with
    the `reason` in words. Intervals are at `level`. `curves` are approach 2's, one per budget.
    """

    approach: str
    definition: dict[str, str]
    optima: tuple[Optimum, ...]
    size_law: PowerLaw | None
    data_law: PowerLaw | None
    level: float
    excluded: dict[str, int]
    notes: tuple[str, ...]
    reason: str | None
    curves: tuple[BudgetCurve, ...] = ()

    @property
    def accepted(self) -> tuple[Optimum, ...]:
        """The optima that were not refused."""
        return tuple(optimum for optimum in self.optima if optimum.reason is None)

    def to_dict(self) -> dict[str, object]:
        """Plain values for JSON, every digit, no NaN."""
        plain = asdict(self)
        for name in ("size_law", "data_law"):
            if plain[name] is not None:
                plain[name]["coefficient"] = getattr(self, name).coefficient
        return plain

    def __str__(self) -> str:
        lines = [self.approach, "; ".join(f"{letter} = {what}" for letter, what in self.definition.items())]
        lines += [f"  {optimum}" for optimum in self.optima]
        laws = [str(law) for law in (self.size_law, self.data_law) if law is not None]
        lines += laws or [f"no power law: {self.reason}"]
        excluded = ", ".join(f"{count} {reason}" for reason, count in self.excluded.items()) or "none"
        lines.append(f"intervals at {100 * self.level:g} %; excluded rows: {excluded}")
        return "\n".join([*lines, *(f"NOTE: {note}" for note in self.notes)])


def fit_power_law(
    quantity: str, budget_K: np.ndarray, value_K: np.ndarray, covariance_KxK: np.ndarray, level: float = 0.95
) -> PowerLaw:
    """ln value on ln C, weighted by 1 / (variance of ln value + extra variance), t interval with K - 2 degrees.

    The extra variance is what the known one leaves unexplained (Paule & Mandel 1982, as in random-effects
    meta-regression). `covariance_KxK` is that of ln value; its diagonal makes the weights, all of it the interval.
    ValueError with fewer than 3 budgets or fewer than 3 distinct ones.
    """
    x_K, y_K = np.log(np.asarray(budget_K, dtype=float)), np.log(np.asarray(value_K, dtype=float))
    if len(x_K) < BUDGETS_MIN or np.unique(x_K).size < BUDGETS_MIN:
        raise ValueError(f"{quantity}: a power law needs {BUDGETS_MIN} distinct budgets, not {np.unique(x_K).size}")
    known_KxK = np.asarray(covariance_KxK, dtype=float) + SMALLEST_VARIANCE * np.eye(len(x_K))

    def excess(extra: float) -> float:
        weight_K = 1 / (np.diag(known_KxK) + extra)
        line = _weighted_line(x_K, y_K, weight_K)
        return float(weight_K @ (y_K - line[1] - line[2] * (x_K - line[0])) ** 2) - (len(x_K) - 2)

    extra = 0.0
    if excess(0.0) > 0:
        top = float(np.var(y_K)) + SMALLEST_VARIANCE
        while excess(top) > 0:
            top *= 2
        extra = float(optimize.brentq(excess, 0.0, top, xtol=1e-24, rtol=1e-12))
    weight_K = 1 / (np.diag(known_KxK) + extra)
    centre, at_centre, slope = _weighted_line(x_K, y_K, weight_K)
    projection_2xK = line_projection(x_K, weight_K)
    covariance = projection_2xK @ (known_KxK + extra * np.eye(len(x_K))) @ projection_2xK.T
    quantile = float(stats.t.ppf((1 + level) / 2, len(x_K) - 2))
    half = quantile * math.sqrt(covariance[1, 1])
    interval = (slope - half, slope + half)
    return PowerLaw(
        quantity, slope, interval, centre, at_centre, _plain(covariance), quantile, len(x_K), math.sqrt(extra)
    )


def chinchilla_optimum(
    constants: Mapping[str, float], budget: float, *, flops_per_size_and_data: float = 6.0
) -> dict[str, float]:
    """Closed form of Approach 3 (Hoffmann et al. 2022, eq. 4) for `L = E + A/N^alpha + B/D^beta`, C = k N D.

    Returns N, D and their exponents a = beta / (alpha + beta), b = alpha / (alpha + beta). The coupled law has the same
    optimum, with its a, b given as alpha, beta. KeyError for a missing constant, ValueError for one not above 0.
    """
    needed = {name: float(constants[name]) for name in ("A", "B", "alpha", "beta")}
    if min(*needed.values(), budget, flops_per_size_and_data) <= 0:
        raise ValueError(f"A, B, alpha, beta, the budget and k must be above 0, not {needed}, {budget}")
    alpha, beta = needed["alpha"], needed["beta"]
    product = math.log(budget / flops_per_size_and_data)
    log_g = math.log(alpha * needed["A"] / (beta * needed["B"])) / (alpha + beta)
    a = beta / (alpha + beta)
    return {"N": math.exp(log_g + a * product), "D": math.exp((1 - a) * product - log_g), "a": a, "b": 1 - a}


def law_optimum(
    predict: Callable[..., np.ndarray],
    budgets: Sequence[float],
    sizes: tuple[float, float],
    *,
    compute: Compute = SIX_N_D,
    predict_draws: Callable[..., np.ndarray] | None = None,
    level: float = 0.95,
) -> Allocation:
    """Approach 3 for any law: the N between `sizes` at which `predict(N=, D=)` (points,) is lowest, D using up C.

    `predict_draws(N=, D=)` returns (draws, points), the law itself under draws of its constants, without the noise of
    single runs; intervals are percentiles of its minima. An optimum at the edge of `sizes` is refused, as is one that
    more than half of the draws put there. Exponents are the slope over `budgets`, which for laws that give no power law
    is their mean slope. ValueError for an empty range or where no size can use up a budget.
    """
    low, high = map(float, sizes)
    if not 0 < low < high:
        raise ValueError(f"sizes must be two positive numbers, the smaller first, not {sizes}")
    found = [_search(predict, predict_draws, float(c), low, high, compute, level) for c in sorted(budgets)]
    kept = [(optimum, draws) for optimum, draws in found if optimum.reason is None]
    laws: tuple[PowerLaw | None, ...] = (None, None)
    reason = None
    if len(kept) < 2:
        reason = f"{len(kept)} of {len(found)} budgets have an optimum inside the search range, 2 needed"
    else:
        log_c = np.log([optimum.budget for optimum, _ in kept])
        centre = float(log_c.mean())
        point = np.log(np.array([[optimum.n, optimum.d] for optimum, _ in kept], dtype=float))
        lines = np.stack([np.polyfit(log_c - centre, point[:, q], 1)[::-1] for q in (0, 1)], axis=1)
        draws_Sx2x2 = np.empty((0, 2, 2))
        if predict_draws is not None:
            draws_KxSx2 = np.stack([draws for _, draws in kept if draws is not None])
            flat = draws_KxSx2.reshape(len(kept), -1)
            draws_Sx2x2 = np.polyfit(log_c - centre, flat, 1)[::-1].reshape(2, -1, 2).transpose(1, 0, 2)
        laws = tuple(
            power_law_from_draws(quantity, lines[:, q], draws_Sx2x2[:, :, q], centre, len(kept), level)
            for q, quantity in enumerate(("N*", "D*"))
        )
    return Allocation(
        "Approach 3 (Hoffmann et al. 2022, section 3.3): minimum of a fitted law at a budget",
        {"C": compute.name, "search range of N": f"{low:.6g} to {high:.6g}"},
        tuple(optimum for optimum, _ in found),
        laws[0],
        laws[1],
        level,
        {},
        () if predict_draws is not None else ("no draws were given, so there are no intervals",),
        reason,
    )


def percentile_interval(log_draws_S: np.ndarray, low: float, high: float, level: float) -> Interval:
    """Percentile interval, as values, of draws of a logarithm; open where it reaches ln range `low` or `high`."""
    ends = np.quantile(np.clip(log_draws_S, low, high), [(1 - level) / 2, (1 + level) / 2])
    return (None if ends[0] <= low else math.exp(ends[0])), (None if ends[1] >= high else math.exp(ends[1]))


def _search(
    predict: Callable[..., np.ndarray],
    predict_draws: Callable[..., np.ndarray] | None,
    budget: float,
    low: float,
    high: float,
    compute: Compute,
    level: float,
) -> tuple[Optimum, np.ndarray | None]:
    """The optimum, and (draws, 2) of ln N*, ln D*."""
    n, d = _feasible(np.linspace(np.log(low), np.log(high), SEARCH_POINTS), budget, compute)
    value = np.asarray(predict(N=n, D=d), dtype=float)
    if value.shape != n.shape or not np.isfinite(value).all():
        raise ValueError(f"predict must return {n.shape} finite losses at C = {budget:g}, not {value.shape} {value}")
    best = int(np.argmin(value))
    if best in (0, len(n) - 1):
        side = "smallest" if best == 0 else "largest"
        reason = f"the lowest loss is at the {side} size searched, {n[best]:.4g}; widen the search"
        return Optimum(budget, reason=reason), None
    left, right = np.log(n[best - 1]), np.log(n[best + 1])
    for _ in range(4):
        fine = np.linspace(left, right, 33)
        fine_n, fine_d = np.exp(fine), compute.data(budget, np.exp(fine))
        fine_value = np.asarray(predict(N=fine_n, D=fine_d), dtype=float)
        at = int(np.clip(np.argmin(fine_value), 1, 31))
        left, right = fine[at - 1], fine[at + 1]
    optimum = Optimum(budget, n=float(fine_n[at]), d=float(fine_d[at]), loss=float(fine_value[at]))
    if predict_draws is None:
        return optimum, None
    drawn_SxG = np.asarray(predict_draws(N=n, D=d), dtype=float)
    at_S = np.argmin(drawn_SxG, axis=1)
    share = float(((at_S == 0) | (at_S == len(n) - 1)).mean())
    if share > EDGE_SHARE_MAX:
        reason = f"{100 * share:.0f} % of the draws have their lowest loss at the edge of the search; widen it"
        return Optimum(budget, reason=reason), None
    log_n_S = _three_point_minimum(np.log(n), drawn_SxG, at_S)
    log_d_S = np.interp(log_n_S, np.log(n), np.log(d))
    n_interval = percentile_interval(log_n_S, np.log(n[0]), np.log(n[-1]), level)
    d_interval = percentile_interval(log_d_S, np.log(d.min()), np.log(d.max()), level)
    spread = float(log_n_S.std(ddof=1)) if len(log_n_S) > 1 else None
    found = replace(optimum, n_interval=n_interval, d_interval=d_interval, log_n_sd=spread)
    return found, np.stack([log_n_S, log_d_S], axis=1)


def _feasible(log_n: np.ndarray, budget: float, compute: Compute) -> tuple[np.ndarray, np.ndarray]:
    n = np.exp(log_n)
    d = compute.data(budget, n)
    if np.isfinite(d).sum() < 3:
        raise ValueError(f"C = {compute.name}: hardly any size from {n[0]:.4g} to {n[-1]:.4g} can use {budget:g} FLOPs")
    return n[np.isfinite(d)], d[np.isfinite(d)]


def _three_point_minimum(x_G: np.ndarray, value_SxG: np.ndarray, at_S: np.ndarray) -> np.ndarray:
    """Vertex of the parabola through the lowest point of an even grid and its neighbours; the point itself at edges."""
    inner_S, rows = np.clip(at_S, 1, len(x_G) - 2), np.arange(len(at_S))
    before, lowest, after = (value_SxG[rows, inner_S + shift] for shift in (-1, 0, 1))
    bend = before - 2 * lowest + after
    shift_S = 0.5 * (before - after) / np.where(bend > 0, bend, np.inf)
    return np.where(at_S == inner_S, x_G[inner_S] + shift_S * (x_G[1] - x_G[0]), x_G[at_S])


def power_law_from_draws(
    quantity: str, line_2: np.ndarray, draws_Sx2: np.ndarray, centre: float, budgets: int, level: float
) -> PowerLaw:
    """The line (value at the centre of ln C, slope), its interval and covariance from draws (S, 2) of it."""
    interval, covariance = None, None
    if len(draws_Sx2) > 1:
        low, high = np.quantile(draws_Sx2[:, 1], [(1 - level) / 2, (1 + level) / 2])
        interval = (float(low), float(high))
        covariance = _plain(np.cov(draws_Sx2.T))
    quantile = float(stats.norm.ppf((1 + level) / 2))
    return PowerLaw(quantity, float(line_2[1]), interval, centre, float(line_2[0]), covariance, quantile, budgets, None)


def line_projection(x_K: np.ndarray, weight_K: np.ndarray) -> np.ndarray:
    """(2, K): what every y adds to the weighted line's value at the weighted mean of x, and to its slope."""
    pull_K = weight_K * (x_K - np.average(x_K, weights=weight_K))
    return np.stack([weight_K / weight_K.sum(), pull_K / (pull_K @ x_K)])


def _weighted_line(x_K: np.ndarray, y_K: np.ndarray, weight_K: np.ndarray) -> tuple[float, float, float]:
    """Weighted mean of x, the line's value there, its slope."""
    centre, at_centre = np.average(x_K, weights=weight_K), np.average(y_K, weights=weight_K)
    return float(centre), float(at_centre), float(line_projection(x_K, weight_K)[1] @ y_K)


def _plain(matrix: np.ndarray) -> tuple[tuple[float, float], tuple[float, float]]:
    (a, b), (c, d) = matrix
    return (float(a), float(b)), (float(c), float(d))


def _with_interval(value: float | None, interval: Interval | None) -> str:
    if interval is None:
        return f"{value:.4g}"
    words = ["open" if end is None else f"{end:.4g}" for end in interval]
    return f"{value:.4g} ({words[0]} to {words[1]})"
