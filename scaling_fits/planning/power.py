"""Power of a planned design to find a slope in ln N, by simulation through the estimator that will analyse it.

The noise is that of ln L: one random intercept per trunk and one residual per row, both normal. What all sizes share
(patients, a pool draw used at every size) cancels in the slope and is left out.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import product
from typing import Any

import numpy as np
import pandas as pd
from scipy import stats

from scaling_fits.contrasts.contrasts import PRIMARY_CONTRASTS
from scaling_fits.contrasts.slopes import SMALLEST_EFFECT, SlopeDesign, components, slope_design, slope_in_size

ALPHA = 0.05 / PRIMARY_CONTRASTS  # what Holm grants the smallest of the primary p-values: power under Holm is no less
SIMULATIONS = 4000
BLOCK = 1000  # simulations drawn at a time, to bound memory


@dataclass(frozen=True)
class Plan:
    """A planned contrast: every size x budget x seed x pool draw in arm a, paired with its run in arm b.

    `shared_reference`: one run of arm b per size and seed serves all pool draws (a pure synthetic arm); otherwise each
    draw has its own. Sizes in parameters, budgets in records; for a quantity with one value per trunk (P3) give one
    budget. Raises ValueError for fewer than two sizes, repeats, or values that are not positive.
    """

    sizes: tuple[float, ...]
    budgets: tuple[float, ...]
    seeds: int
    pool_shuffles: int = 1
    shared_reference: bool = False

    def __post_init__(self) -> None:
        for name, values in (("sizes", self.sizes), ("budgets", self.budgets)):
            if not values or min(values) <= 0 or len(set(values)) < len(values):
                raise ValueError(f"{name} must be positive and distinct, not {values}")
        if len(self.sizes) < 2:
            raise ValueError(f"a slope in ln N needs two sizes, the plan has {self.sizes}")
        if self.seeds < 1 or self.pool_shuffles < 1:
            raise ValueError(f"seeds and pool_shuffles must be at least 1, not {self.seeds} and {self.pool_shuffles}")

    @property
    def span(self) -> float:
        """ln of the largest over the smallest size."""
        return math.log(max(self.sizes) / min(self.sizes))

    def pairs(self) -> pd.DataFrame:
        """The planned differences, one row each: n_params, records_seen, seed, trunk_a, trunk_b."""
        cells = product(self.sizes, range(self.seeds), range(self.pool_shuffles), self.budgets)
        rows = [
            (n, d, seed, f"a {n:g} {seed} {draw}", f"b {n:g} {seed} {0 if self.shared_reference else draw}")
            for n, seed, draw, d in cells
        ]
        return pd.DataFrame(rows, columns=["n_params", "records_seen", "seed", "trunk_a", "trunk_b"])


@dataclass(frozen=True)
class Noise:
    """Standard deviations of one paired difference of ln L: between trunks (pairs of them) and between their rows.

    Half of each variance is taken to come from either arm, which matters where draws share a reference run.
    """

    trunk_sd: float
    residual_sd: float
    source: str = "assumed"

    def __post_init__(self) -> None:
        if not (self.trunk_sd >= 0 and self.residual_sd >= 0 and self.trunk_sd + self.residual_sd > 0):
            raise ValueError(
                f"standard deviations must be at least 0 and not both 0: {self.trunk_sd}, {self.residual_sd}"
            )


@dataclass(frozen=True)
class Power:
    """Shares of simulated studies that reject slope 0, and that claim it as the protocol would.

    `rejected`: two-sided p below alpha, whichever sign (at slope 0 the size of the test). `claimed`: that, on the side
    of `slope`, and an effect over the range of sizes beyond 3.5 %. The errors are binomial standard errors of the
    simulation.
    """

    plan: Plan
    noise: Noise
    slope: float
    alpha: float
    clusters: int
    simulations: int
    rejected: float
    claimed: float

    @property
    def rejected_error(self) -> float:
        """Monte-Carlo standard error of `rejected`."""
        return math.sqrt(self.rejected * (1 - self.rejected) / self.simulations)

    @property
    def claimed_error(self) -> float:
        """Monte-Carlo standard error of `claimed`."""
        return math.sqrt(self.claimed * (1 - self.claimed) / self.simulations)

    def __str__(self) -> str:
        return (
            f"slope {self.slope:+.4f} per unit of ln N, {math.expm1(self.slope * self.plan.span):+.1%} over the sizes: "
            f"{self.plan.seeds} seeds, {self.clusters} clusters: claimed in {self.claimed:.1%} +- "
            f"{self.claimed_error:.1%} and p < {self.alpha:.3g} in {self.rejected:.1%} +- {self.rejected_error:.1%} of "
            f"{self.simulations} simulated studies (trunk s.d. {self.noise.trunk_sd:.4f}, residual s.d. "
            f"{self.noise.residual_sd:.4f}, {self.noise.source})"
        )


@dataclass(frozen=True)
class DetectableSlope:
    """Smallest absolute slope claimed with the wanted power; `low`, `high` its 95 % Monte-Carlo interval."""

    plan: Plan
    noise: Noise
    power: float
    alpha: float
    simulations: int
    slope: float
    low: float
    high: float

    @property
    def effect_over_range(self) -> float:
        """The slope times ln of the largest over the smallest size, in units of ln L."""
        return self.slope * self.plan.span


@dataclass(frozen=True)
class SeedsNeeded:
    """Fewest seeds that reach the wanted power, None when `seeds_max` do not; `tried` holds every plan simulated.

    `firm` is False when the power of the answer, or of one seed fewer, is within two Monte-Carlo errors of the target.
    """

    seeds: int | None
    power: float
    tried: tuple[Power, ...]

    @property
    def firm(self) -> bool:
        """Whether more simulations would hardly change the answer."""
        near = [p for p in self.tried if self.seeds is not None and p.plan.seeds in (self.seeds - 1, self.seeds)]
        return all(abs(p.claimed - self.power) > 2 * p.claimed_error for p in near or self.tried[-1:])

    def __str__(self) -> str:
        plan = next((one.plan for one in self.tried if one.plan.seeds == self.seeds), self.tried[-1].plan)
        pairs = plan.pairs()
        trunks = pairs["trunk_a"].nunique() + pairs["trunk_b"].nunique()
        needed = (
            f"{plan.seeds} seeds per size reach" if self.seeds else f"even {plan.seeds} seeds per size do not reach"
        )
        head = f"{needed} power {self.power:g}: {trunks} trunks in both arms, {len(pairs)} paired differences"
        near = (
            "" if self.firm else "; within two Monte-Carlo errors of the target, so simulate more before relying on it"
        )
        return "\n".join([head + near, *(f"  {one}" for one in self.tried)])


def noise_from_pilot(
    pairs: pd.DataFrame,
    *,
    column: str = "difference",
    trunks: Sequence[str] = ("trunk_a", "trunk_b"),
    within: str | None = "records_seen",
    n: str = "n_params",
    confidence: float | None = None,
) -> Noise:
    """Trunk and residual s.d. of a pilot's paired differences (`paired_differences`), by REML about its own slope.

    `confidence` (say 0.8) takes the upper one-sided limit of both, by the chi-square on the slope's degrees of freedom,
    so that a small pilot does not promise too much (Browne 1995, Statist. Med. 14:1933). With one row per trunk all
    noise is residual. Raises ValueError when the pilot has fewer than 4 clusters of trunks.
    """
    slope = slope_in_size("pilot", column, pairs, column=column, trunks=trunks, within=within, n=n)
    if slope.mixed is None:
        raise ValueError(f"the pilot gives no noise: {slope.reason or 'no row is left over'}; assume it: Noise(...)")
    mixed = slope.mixed
    factor, label = 1.0, f"pilot of {slope.clusters} clusters"
    if confidence is not None:
        factor = math.sqrt(mixed.dof / stats.chi2.ppf(1 - confidence, mixed.dof))
        label += f", upper {100 * confidence:g} % limit"
    return Noise(factor * (mixed.cluster_sd or 0.0), factor * mixed.residual_sd, label)


def power_of(
    plan: Plan, noise: Noise, slope: float, *, alpha: float = ALPHA, simulations: int = SIMULATIONS, seed: int = 0
) -> Power:
    """Power to claim `slope` (per unit of ln N) at two-sided level `alpha`; at slope 0 `rejected` is the test's size.

    Raises ValueError when the plan has fewer than 4 clusters or no slope without one of them.
    """
    design, estimate_M, error_M = _null_fits(plan, noise, simulations, seed)
    estimate_M = estimate_M + slope
    rejected_M = np.abs(estimate_M) > _critical(design, alpha) * error_M
    claimed_M = rejected_M & (estimate_M * math.copysign(1.0, slope) * plan.span > math.log1p(SMALLEST_EFFECT))
    shares = float(rejected_M.mean()), float(claimed_M.mean())
    return Power(plan, noise, slope, alpha, design.clusters, simulations, *shares)


def detectable_slope(
    plan: Plan,
    noise: Noise,
    *,
    power: float = 0.8,
    alpha: float = ALPHA,
    simulations: int = SIMULATIONS,
    seed: int = 0,
) -> DetectableSlope:
    """Smallest absolute slope that is claimed (`Power.claimed`) with probability `power`.

    A slope only shifts the estimate, so each simulated study has its own smallest claimed slope, and the answer is
    their `power` quantile; the interval is that of order statistics. Raises ValueError as `power_of` does.
    """
    if not 0 < power < 1:
        raise ValueError(f"power must lie between 0 and 1, not {power}")
    design, estimate_M, error_M = _null_fits(plan, noise, simulations, seed)
    needed_M = np.maximum(_critical(design, alpha) * error_M, math.log1p(SMALLEST_EFFECT) / plan.span)
    smallest_M = np.sort(needed_M - estimate_M)
    ranks = stats.binom.ppf([0.025, 0.5, 0.975], simulations, power).astype(int).clip(0, simulations - 1)
    low, slope, high = (float(value) for value in smallest_M[ranks])
    return DetectableSlope(plan, noise, power, alpha, simulations, slope, low, high)


def seeds_needed(
    plan: Plan,
    noise: Noise,
    slope: float,
    *,
    power: float = 0.8,
    alpha: float = ALPHA,
    seeds_max: int = 32,
    simulations: int = SIMULATIONS,
    seed: int = 0,
) -> SeedsNeeded:
    """Fewest seeds per size (the plan's own number is ignored) that claim `slope` with probability `power`.

    Bisection, as power grows with seeds up to Monte-Carlo error. Raises ValueError when even `seeds_max` seeds leave
    fewer than 4 clusters.
    """
    fewest = next(
        (s for s in range(1, seeds_max + 1) if (d := _design(replace(plan, seeds=s))) and d.has_interval), seeds_max
    )
    settings: dict[str, Any] = {"alpha": alpha, "simulations": simulations, "seed": seed}
    tried: dict[int, Power] = {}

    def reaches(seeds: int) -> bool:
        if seeds not in tried:
            tried[seeds] = power_of(replace(plan, seeds=seeds), noise, slope, **settings)
        return tried[seeds].claimed >= power

    low, high = fewest - 1, seeds_max
    if reaches(high):
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (low, middle) if reaches(middle) else (middle, high)
    found = high if tried[high].claimed >= power else None
    return SeedsNeeded(found, power, tuple(tried[seeds] for seeds in sorted(tried)))


def simulate_differences(plan: Plan, noise: Noise, slope: float, rng: np.random.Generator, count: int) -> np.ndarray:
    """`count` simulated studies (M, R): the differences of `plan.pairs()` under the slope and the noise."""
    pairs = plan.pairs()
    y_MxR = np.tile(slope * np.log(pairs["n_params"].to_numpy()), (count, 1))
    for side, sign in (("trunk_a", 1.0), ("trunk_b", -1.0)):
        trunk_R, trunks = pd.factorize(pairs[side])
        run_R, runs = pd.factorize(pairs[side] + "/" + pairs["records_seen"].astype(str))
        for level_R, levels, sd in ((trunk_R, len(trunks), noise.trunk_sd), (run_R, len(runs), noise.residual_sd)):
            y_MxR += sign * sd / math.sqrt(2) * rng.standard_normal((count, levels))[:, level_R]
    return y_MxR


def _design(plan: Plan) -> SlopeDesign | None:
    pairs = plan.pairs()
    clusters_R = components(pairs, ("trunk_a", "trunk_b"))
    return slope_design(np.log(pairs["n_params"].to_numpy()), pairs["records_seen"].to_numpy(), clusters_R)


def _null_fits(plan: Plan, noise: Noise, simulations: int, seed: int) -> tuple[SlopeDesign, np.ndarray, np.ndarray]:
    """The design, and slopes and standard errors (M,) of simulated studies without effect."""
    design = _design(plan)
    if design is None or not design.has_interval:
        clusters = 0 if design is None else design.clusters
        raise ValueError(
            f"the plan has {clusters} clusters of trunks ({len(plan.sizes)} sizes, {plan.seeds} seeds): 4 are needed, "
            "and two sizes without any one of them; add seeds or sizes"
        )
    rng = np.random.default_rng(seed)
    counts = [min(BLOCK, simulations - start) for start in range(0, simulations, BLOCK)]
    fits = [design.fit(simulate_differences(plan, noise, 0.0, rng, count)) for count in counts]
    slope_M, error_M = (np.concatenate(values) for values in zip(*fits))
    return design, slope_M, error_M


def _critical(design: SlopeDesign, alpha: float) -> float:
    return float(stats.t.ppf(1 - alpha / 2, design.dof))
