"""Bootstraps with the estimator of the point: every replicate is its own fit, refitted to its own optimum."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from enum import Enum

import numpy as np

from scaling_fits.estimation.clusters import Noise, noise
from scaling_fits.estimation.estimators import LeastSquares
from scaling_fits.estimation.observations import Observations
from scaling_fits.estimation.problem import Problem, jacobian, log_predictions, row_losses
from scaling_fits.estimation.solver import minimise
from scaling_fits.laws.law import LOG_NEGLIGIBLE, LOG_VANISHED

CLUSTERS_MIN = 8
EFFECTS_DOF_MIN = 3
CANDIDATES = 256
OPTIMA_TRIED = 3


class Resampling(Enum):
    """What is drawn anew: whole clusters (rows, where rows are their own), effects of clusters and residuals within
    them, signs of the clusters' residuals, or residuals over all rows."""

    CLUSTERS = "pairs, by cluster"
    EFFECTS = "random effects, by cluster"
    WILD = "wild, by cluster"
    RESIDUALS = "residuals"


@dataclass(frozen=True)
class Bootstrap:
    """How intervals are made: `replicates` draws by `resampling` from `seed`, percentiles at `level`.

    Pairs (Efron 1979) by cluster suit designs that are themselves a draw; the wild bootstrap (Wu 1986; six-point
    weights of Webb 2023 with fewer than 12 clusters) and residuals keep the design. Random effects (Carpenter,
    Goldstein & Rasbash 2003) draw the clusters' own levels and the residuals within them, both spreads as uncertain as
    the number of clusters leaves them. Without a `resampling`, rows that are their own clusters are drawn as pairs, and
    rows that share clusters by random effects: with 8 trunks of 6 rows, 95 % intervals from pairs held 88 % of true
    values (`results/benchmarks/coverage`). `replicates=0` makes none.
    """

    replicates: int = 1000
    seed: int = 0
    resampling: Resampling | None = None
    level: float = 0.95

    def __post_init__(self) -> None:
        if self.replicates < 0 or not 0 < self.level < 1:
            raise ValueError(f"bootstrap: replicates {self.replicates} and level {self.level}; need >= 0 and in (0, 1)")


@dataclass(frozen=True)
class Draws:
    """Result of a bootstrap: percentile intervals and standard errors of the published constants, or a `reason`.

    `theta_RxP` are the refitted working coordinates, for predictions.
    """

    plan: Bootstrap
    clusters: int
    intervals: dict[str, tuple[float, float]] | None
    standard_errors: dict[str, float] | None
    reason: str | None
    theta_RxP: np.ndarray

    @property
    def kind(self) -> str:
        """What was drawn anew, in words."""
        return "nothing" if self.plan.resampling is None else self.plan.resampling.value

    def to_dict(self) -> dict[str, object]:
        """Plain values for JSON."""
        return {
            "resampling": self.kind,
            "replicates": len(self.theta_RxP),
            "seed": self.plan.seed,
            "level": self.plan.level,
            "clusters": self.clusters,
            "intervals": self.intervals,
            "standard_errors": self.standard_errors,
            "reason": self.reason,
        }

    @property
    def sentence(self) -> str:
        """What was done, in words."""
        if self.reason is not None:
            return self.reason
        return f"percentile bootstrap ({self.kind}), {self.clusters} clusters, {len(self.theta_RxP)} draws"


def draw(
    data: Observations,
    optima_KxP: np.ndarray,
    initial_SxP: np.ndarray,
    plan: Bootstrap,
    progress: Callable[[int, int], None] | None = None,
) -> Draws:
    """Bootstrap the fit of `data` whose distinct optima, best first, are `optima_KxP`.

    With fewer than 8 clusters there are no intervals, only the reason.
    """
    clusters = int(data.cluster_N.max()) + 1
    if plan.resampling is None:
        alone = clusters == len(data.cluster_N)
        plan = replace(plan, resampling=Resampling.CLUSTERS if alone else Resampling.EFFECTS)
    nothing = np.zeros((0, optima_KxP.shape[1]))
    if plan.replicates == 0:
        return Draws(plan, clusters, None, None, "no intervals: no bootstrap was asked for", nothing)
    if clusters < CLUSTERS_MIN:
        reason = f"no intervals: {clusters} clusters, and fewer than {CLUSTERS_MIN} cannot support a bootstrap"
        return Draws(plan, clusters, None, None, reason, nothing)
    rng = np.random.default_rng(plan.seed)
    if plan.resampling is Resampling.CLUSTERS:
        counts = rng.multinomial(clusters, np.full(clusters, 1 / clusters), size=plan.replicates)
        theta = refit(data.problem, optima_KxP, initial_SxP, counts[:, data.cluster_N].astype(float), progress)
    else:
        refitted = _refit_responses(data, optima_KxP, plan, rng, progress)
        if refitted is None:
            reason = (
                f"no intervals: what the law leaves of {clusters} clusters tells the spread between them with fewer "
                f"than {EFFECTS_DOF_MIN} degrees of freedom"
            )
            return Draws(plan, clusters, None, None, reason, nothing)
        theta = refitted
    constants = published(data, theta)
    tail = (1 - plan.level) / 2
    low, high = np.quantile(constants, [tail, 1 - tail], axis=0)
    names = data.problem.law.names
    intervals = {name: (float(a), float(b)) for name, a, b in zip(names, low, high)}
    errors = {name: float(value) for name, value in zip(names, constants.std(axis=0, ddof=1))}
    return Draws(plan, clusters, intervals, errors, None, theta)


def refit(
    problem: Problem,
    optima_KxP: np.ndarray,
    initial_SxP: np.ndarray,
    weight_RxN: np.ndarray,
    progress: Callable[[int, int], None] | None = None,
) -> np.ndarray:
    """(R, P): the optimum under every set of row weights.

    Each starts from the initial point or optimum that is best under its own weights, and from the next distinct
    optima; the best end counts. Weights of 0 everywhere a term lives leave that term where it is.
    """
    candidates = np.concatenate([optima_KxP, initial_SxP[:CANDIDATES]])
    weighted_RxM = weight_RxN @ row_losses(problem, candidates).T
    first = candidates[weighted_RxM.argmin(axis=1)]
    others = np.broadcast_to(optima_KxP[1:OPTIMA_TRIED], (len(first), *optima_KxP[1:OPTIMA_TRIED].shape))
    starts = np.concatenate([first[:, None], others], axis=1)
    tries = starts.shape[1]
    ends = minimise(
        problem,
        starts.reshape(-1, starts.shape[2]),
        weight_SxN=np.repeat(weight_RxN, tries, axis=0),
        progress=progress,
    )
    return ends.best_of(tries).theta_SxP


def published(data: Observations, theta_SxP: np.ndarray) -> np.ndarray:
    """(S, P): published constants, a positive one that has vanished being 0."""
    law = data.problem.law
    constants = law.published(theta_SxP, data.references)
    for p, parameter in enumerate(law.parameters):
        if parameter.log and parameter.low == LOG_NEGLIGIBLE:
            constants[theta_SxP[:, p] <= LOG_VANISHED, p] = 0.0
    return constants


def _refit_responses(
    data: Observations,
    optima_KxP: np.ndarray,
    plan: Bootstrap,
    rng: np.random.Generator,
    progress: Callable[[int, int], None] | None,
) -> np.ndarray | None:
    """(R, P): optima for responses made of the law and noise drawn from its residuals; None where it is not known."""
    problem = data.problem
    fitted_N = log_predictions(problem.law, optima_KxP[:1], problem.x)[0]
    residual_N = problem.log_y_N - fitted_N
    if plan.resampling is Resampling.EFFECTS:
        drawn = _effects(data, optima_KxP[0], residual_N, plan.replicates, rng)
        if drawn is None:
            return None
    else:
        drawn = _resampled(data, residual_N, plan, rng)
    tries = min(len(optima_KxP), OPTIMA_TRIED)
    starts = np.tile(optima_KxP[:tries], (plan.replicates, 1))
    ends = minimise(problem, starts, log_y_SxN=np.repeat(fitted_N + drawn, tries, axis=0), progress=progress)
    return ends.best_of(tries).theta_SxP


def _resampled(data: Observations, residual_N: np.ndarray, plan: Bootstrap, rng: np.random.Generator) -> np.ndarray:
    """(R, N): residuals inflated by sqrt(n / (n - P)), drawn over all rows or with their clusters' signs flipped."""
    rows = len(residual_N)
    residual_N = residual_N * np.sqrt(rows / max(rows - data.problem.free, 1))
    if plan.resampling is Resampling.RESIDUALS:
        return (residual_N - residual_N.mean())[rng.integers(rows, size=(plan.replicates, rows))]
    clusters = int(data.cluster_N.max()) + 1
    signs = np.array([-1.0, 1.0])
    webb = np.sqrt([0.5, 1.0, 1.5])
    flips = rng.choice(signs if clusters >= 12 else np.concatenate([-webb, webb]), size=(plan.replicates, clusters))
    return residual_N * flips[:, data.cluster_N]


def cluster_noise(data: Observations, theta_P: np.ndarray) -> Noise:
    """The noise of ln response within and between clusters, from the residuals of a fit at `theta_P`."""
    problem = data.problem
    plain = replace(problem, estimator=LeastSquares(), sd_N=np.ones_like(problem.sd_N))
    constants_P = theta_P[: len(problem.law.parameters)]
    low, high = plain.bounds
    free = (constants_P > low) & (constants_P < high)
    residual_N = problem.log_y_N - log_predictions(problem.law, theta_P[None], problem.x)[0]
    return noise(jacobian(plain, constants_P)[:, free], residual_N, data.cluster_N)


def _effects(
    data: Observations, theta_P: np.ndarray, residual_N: np.ndarray, count: int, rng: np.random.Generator
) -> np.ndarray | None:
    """(R, N): normal effects of the clusters and resampled residuals within them; None for too few clusters."""
    problem, cluster_N = data.problem, data.cluster_N
    spread = cluster_noise(data, theta_P)
    if spread.between_dof < EFFECTS_DOF_MIN:
        return None
    within_R, between_R = spread.drawn(count, rng)
    members_C = np.bincount(cluster_N)
    relative_N = problem.sd_N / np.sqrt(problem.weight_N)
    relative_N = relative_N / np.sqrt(np.mean(relative_N**2))
    pool = (residual_N - (np.bincount(cluster_N, residual_N) / members_C)[cluster_N]) / relative_N
    pool = pool[members_C[cluster_N] > 1]
    pool = (pool - pool.mean()) / max(pool.std(), 1e-300)
    effect_RxC = between_R[:, None] * rng.standard_normal((count, len(members_C)))
    return effect_RxC[:, cluster_N] + within_R[:, None] * relative_N * rng.choice(pool, size=(count, len(cluster_N)))
