"""Uncertainty of fitted constants: which of them the design identifies, and a bootstrap over trunks.

Rows of one trunk share noise and data, so trunks are resampled, not rows.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import stats

from scaling_fits.forms import LOG_NEGLIGIBLE, Role
from scaling_fits.solver import Problem, minimise

TRUNKS_MIN = 8
ON_BOUND = 1e-6


@dataclass(frozen=True)
class Identification:
    """What a design says about one parameter; `open_below`, `open_above`: the profile never closes on that side."""

    name: str
    on_bound: str | None
    open_below: bool
    open_above: bool

    @property
    def sentence(self) -> str | None:
        """The finding in plain words, None when there is nothing to warn of."""
        if self.on_bound is not None:
            return f"{self.name} is on its boundary ({self.on_bound}): not identified by this design"
        sides = [side for side, is_open in (("below", self.open_below), ("above", self.open_above)) if is_open]
        if sides:
            return f"{self.name} is not identified by this design (its profile is open from {' and '.join(sides)})"
        return None


@dataclass(frozen=True)
class TrunkBootstrap:
    """Percentile intervals {parameter: (low, high)} of published constants, or None and the `reason` in words."""

    intervals: dict[str, tuple[float, float]] | None
    reason: str | None
    level: float
    trunks: int
    replicates: int
    seed: int


def identify(problem: Problem, theta_P: np.ndarray, objective: float) -> tuple[Identification, ...]:
    """Pin each parameter to either end of its range, refit the rest, and ask whether the objective notices.

    A side is open when (rows - P) (Q_pinned / Q - 1) stays below the 95 % quantile of F(1, rows - P): the usual
    profile test with the scale of the residuals estimated. With rows <= P every parameter is open. Floors and
    coefficients are tested from below (is the term there at all?), exponents from both sides.
    """
    form = problem.form
    lower, upper = form.bounds()
    spare = len(problem.log_y_N) - len(theta_P)
    limit = stats.f.ppf(0.95, 1, spare) / spare if spare > 0 else np.inf
    rises = _pinned_rises(problem, theta_P, objective)
    findings = []
    for p, parameter in enumerate(form.parameters):
        two_sided = parameter.role is Role.EXPONENT
        low_word = f"{parameter.name} -> 0"
        on_low, on_high = theta_P[p] <= lower[p] + ON_BOUND, theta_P[p] >= upper[p] - ON_BOUND
        bound = low_word if on_low else f"{parameter.name} at its largest" if on_high else None
        open_above = two_sided and bool(rises[p, 1] <= limit)
        findings.append(Identification(parameter.name, bound, bool(rises[p, 0] <= limit), open_above))
    return tuple(findings)


def _pinned_rises(problem: Problem, theta_P: np.ndarray, objective: float) -> np.ndarray:
    """(P, 2): relative rise of the objective with a parameter pinned to its lower or upper end."""
    lower, upper = problem.form.bounds()
    size = len(theta_P)
    starts = np.concatenate([theta_P[None], problem.form.starts()[:: max(1, len(problem.form.starts()) // 8)]])
    pins = [(p, end[p]) for p in range(size) for end in (lower, upper)]
    low = np.broadcast_to(lower, (len(pins), len(starts), size)).copy()
    high = np.broadcast_to(upper, low.shape).copy()
    for row, (p, value) in enumerate(pins):
        low[row, :, p] = high[row, :, p] = value
    start = np.broadcast_to(starts, low.shape)
    ends = minimise(problem, *(a.reshape(-1, size) for a in (start, low, high)))
    best = ends.objective_S.reshape(size, 2, len(starts)).min(axis=2)
    return best / max(objective, np.finfo(float).tiny) - 1


def bootstrap_trunks(
    problem: Problem,
    optima_SxP: np.ndarray,
    log_centre_V: np.ndarray,
    log_scale: float,
    trunk_N: np.ndarray,
    *,
    replicates: int,
    seed: int,
    level: float = 0.95,
) -> TrunkBootstrap:
    """Percentile intervals from `replicates` draws of whole trunks, each refitted from every known local optimum.

    `trunk_N` holds one trunk label per row. With fewer than 8 trunks there are no intervals, only the reason.
    """
    labels, index_N = np.unique(trunk_N.astype(str), return_inverse=True)
    trunks = len(labels)
    if trunks < TRUNKS_MIN:
        reason = f"no intervals: {trunks} trunks, and fewer than {TRUNKS_MIN} cannot support a bootstrap over trunks"
        return TrunkBootstrap(None, reason, level, trunks, 0, seed)
    draws = np.random.default_rng(seed).multinomial(trunks, np.full(trunks, 1 / trunks), size=replicates)
    weight_SxN = draws[:, index_N].astype(float)
    objective, theta = np.full(replicates, np.inf), np.zeros((replicates, optima_SxP.shape[1]))
    for optimum_P in optima_SxP:
        start = np.broadcast_to(optimum_P, theta.shape)
        ends = minimise(problem, start, *problem.form.bounds(), weight_SxN)
        better = ends.objective_S < objective
        theta[better], objective[better] = ends.theta_SxP[better], ends.objective_S[better]
    constants = problem.form.standard(theta, log_centre_V, log_scale)
    for p, parameter in enumerate(problem.form.parameters):
        if parameter.role is not Role.EXPONENT:
            constants[theta[:, p] <= LOG_NEGLIGIBLE + ON_BOUND, p] = 0.0
    tail = (1 - level) / 2
    low, high = np.quantile(constants, [tail, 1 - tail], axis=0)
    intervals = {name: (float(a), float(b)) for name, a, b in zip(problem.form.names, low, high)}
    return TrunkBootstrap(intervals, None, level, trunks, replicates, seed)
