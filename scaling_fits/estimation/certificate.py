"""The certificate of an optimum, its convergence diagnostics: stationarity, agreement of starts, curvature, rivals."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.optimize import lsq_linear

from scaling_fits.errors import Refused
from scaling_fits.estimation.estimators import Quantile
from scaling_fits.estimation.problem import Problem, derivatives, jacobian, residuals
from scaling_fits.estimation.solver import Solutions

SAME_OBJECTIVE = 1e-8
DISTINCT_OBJECTIVE = 1e-6
OPTIMA_LISTED = 8
STATIONARY = 1e-6
# A residual below this share of the typical one stands on the kink of a kinked loss.
ON_KINK = 1e-7
# Losses reproduced to this root mean square are a law's own numbers: there is nothing left to converge to.
EXACT_RMS = 1e-9


@dataclass(frozen=True)
class Optimum:
    """A distinct local optimum: its objective relative to the best, share of starts ending there, constants."""

    relative_excess: float
    share_of_starts: float
    parameters: dict[str, float]


@dataclass(frozen=True)
class Certificate:
    """Evidence for the optimum.

    `share_at_best` of the `starts` ended within 1e-8 of the best objective. `stationarity` is the largest cosine
    between residuals and a column of the Jacobian, bounds respected (for a kinked loss: the distance of zero from its
    subdifferential, as a share of the objective). `smallest_curvature` is the least eigenvalue of the Hessian, scaled
    to unit Gram diagonal: below zero is a saddle, near zero a direction that the data do not fix. `optima` are the
    distinct ends, best first.
    """

    starts: int
    share_at_best: float
    stationarity: float
    smallest_curvature: float
    optima: tuple[Optimum, ...]

    @property
    def converged(self) -> bool:
        """Whether the best point is stationary."""
        return self.stationarity <= STATIONARY

    @property
    def sentence(self) -> str:
        """The certificate in one line."""
        return (
            f"{100 * self.share_at_best:.1f} % of {self.starts} starts within {SAME_OBJECTIVE:g} of the best; "
            f"stationarity {self.stationarity:.1e}; smallest curvature {self.smallest_curvature:.1e}; "
            f"{len(self.optima)} distinct local optima"
        )


class NotConverged(Refused):
    """The best point found is not stationary; the message says how far it is."""


def distinct(problem: Problem, ends: Solutions) -> np.ndarray:
    """Indices of distinct converged ends, best first, at most 8; the best end always comes first."""
    objective_S = np.where(np.isfinite(ends.objective_S), ends.objective_S, np.inf)
    order = np.argsort(objective_S, kind="stable")
    scale = objective_scale(problem, objective_S[order[0]])
    flat = (ends.cosine_S < STATIONARY) & np.isfinite(ends.objective_S)
    chosen = [order[0]]
    for index in order[1:]:
        excess = objective_S[index] - objective_S[chosen]
        if flat[index] and (excess > DISTINCT_OBJECTIVE * scale).all() and len(chosen) < OPTIMA_LISTED:
            chosen.append(index)
    return np.array(chosen)


def certify(
    problem: Problem, ends: Solutions, optima: np.ndarray, constants_KxP: np.ndarray, names: tuple[str, ...]
) -> Certificate:
    """The certificate of the first of `optima`, whose published constants are `constants_KxP`."""
    best = float(ends.objective_S[optima[0]])
    scale = objective_scale(problem, best)
    listed = tuple(
        Optimum(
            relative_excess=float((ends.objective_S[index] - best) / scale),
            share_of_starts=float(
                np.mean(np.abs(ends.objective_S - ends.objective_S[index]) <= SAME_OBJECTIVE * scale)
            ),
            parameters={name: float(value) for name, value in zip(names, constants_P)},
        )
        for index, constants_P in zip(optima, constants_KxP)
    )
    theta_P = ends.theta_SxP[optima[0]]
    stationarity = float(ends.cosine_S[optima[0]])
    if isinstance(problem.estimator, Quantile):
        stationarity = _subgradient_distance(problem, problem.estimator.tau, theta_P) / scale
    if float(np.sqrt(np.mean(residuals(problem, theta_P[None]) ** 2))) < EXACT_RMS:
        stationarity = 0.0
    return Certificate(
        len(ends.objective_S), listed[0].share_of_starts, stationarity, _smallest_curvature(problem, theta_P), listed
    )


def objective_scale(problem: Problem, objective: float) -> float:
    """What differences of the objective are compared with: itself, or the rows where it is a log-likelihood."""
    if problem.estimator.estimates_scale:
        return float(problem.weight_N.sum())
    return max(float(objective), float(np.finfo(float).tiny))


def _subgradient_distance(problem: Problem, tau: float, theta_P: np.ndarray) -> float:
    """Largest component of the smallest element of the subdifferential of the weighted pinball loss."""
    residual_N = residuals(problem, theta_P[None])[0]
    slope_NxP = jacobian(problem, theta_P) * problem.weight_N[:, None]
    low, high = problem.bounds
    slope_NxP = slope_NxP[:, (theta_P > low) & (theta_P < high)]
    on_kink = np.abs(residual_N) <= ON_KINK * np.median(np.abs(residual_N))
    fixed_P = np.where(residual_N > 0, 1 - tau, -tau)[~on_kink] @ slope_NxP[~on_kink]
    if not on_kink.any():
        return float(np.abs(fixed_P).max())
    found = lsq_linear(slope_NxP[on_kink].T, -fixed_P, bounds=(-tau, 1 - tau), tol=1e-14)
    return float(np.abs(found.fun).max())


def _smallest_curvature(problem: Problem, theta_P: np.ndarray) -> float:
    low, high = problem.bounds
    free = (theta_P > low) & (theta_P < high)
    if not free.any():
        return 0.0
    _, hessian, gram = derivatives(problem, theta_P)
    size = np.sqrt(np.maximum(np.diag(gram)[free], 1e-300))
    return float(np.linalg.eigvalsh(hessian[np.ix_(free, free)] / np.outer(size, size))[0])
