"""Local uncertainty and identifiability: sandwich errors, conditioning, leverage, and the rows that matter most."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from scaling_fits.estimation.observations import Observations
from scaling_fits.estimation.problem import jacobian, log_predictions
from scaling_fits.estimation.solver import minimise
from scaling_fits.uncertainty.bootstrap import published
from scaling_fits.uncertainty.profile_likelihood import scores

INFLUENTIAL = 5


@dataclass(frozen=True)
class Influence:
    """One row: its leverage, its ln residual, and every constant without it as a share of its value with it."""

    row: str
    leverage: float
    residual: float
    change: dict[str, float]


@dataclass(frozen=True)
class Identifiability:
    """What the design says before any interval is looked at.

    `condition` is that of the Jacobian with unit columns; `weakest` the combination of constants it sees least (signed
    shares of its unit vector); `influential` the five rows that move the fit most; `without_them` the constants when
    all five are dropped.
    """

    condition: float
    weakest: dict[str, float]
    influential: tuple[Influence, ...]
    without_them: dict[str, float]

    def __str__(self) -> str:
        parts = ", ".join(f"{name} {share:+.2f}" for name, share in self.weakest.items() if abs(share) > 0.2)
        lines = [f"condition of the scaled Jacobian {self.condition:.3g}; weakest direction: {parts}"]
        for one in self.influential:
            name, change = max(one.change.items(), key=lambda item: abs(item[1]))
            lines.append(
                f"  without {one.row}: {name} {100 * change:+.1f} % (leverage {one.leverage:.2f}, residual "
                f"{one.residual:+.4f})"
            )
        lines.append("  without all of them: " + ", ".join(f"{k} {v:.4g}" for k, v in self.without_them.items()))
        return "\n".join(lines)


def covariance(data: Observations, theta_P: np.ndarray) -> np.ndarray:
    """(P, P) sandwich covariance of the working coordinates, clustered, for any estimator.

    H^-1 (sum over clusters of g g^T) H^-1 · c/(c-1) (n-1)/(n-P), the loss' second derivative smoothed over a bandwidth
    (Powell 1991): a Huber loss of 1e-3 is nearly flat in its own. Coordinates on a bound are held: zero rows. Raises
    ValueError when the rest is singular.
    """
    problem = data.problem
    low, high = problem.bounds
    free = (theta_P > low) & (theta_P < high)
    slope_NxP = jacobian(problem, theta_P)[:, free]
    psi, bend = scores(problem, theta_P)
    hessian = (slope_NxP * (problem.weight_N * bend)[:, None]).T @ slope_NxP
    clusters, rows, size = int(data.cluster_N.max()) + 1, len(psi), int(free.sum())
    score = np.zeros((clusters, size))
    np.add.at(score, data.cluster_N, slope_NxP * (problem.weight_N * psi)[:, None])
    scale = np.sqrt(np.maximum(np.diag(hessian), 1e-300))
    if clusters < 2 or rows <= size or np.linalg.cond(hessian / np.outer(scale, scale)) > 1e14:
        raise ValueError(
            f"{problem.law.name}: no sandwich covariance: {rows} rows in {clusters} clusters leave the Hessian of "
            f"{size} constants singular; use profile intervals"
        )
    inverse = np.linalg.inv(hessian / np.outer(scale, scale)) / np.outer(scale, scale)
    correction = clusters / (clusters - 1) * (rows - 1) / (rows - size)
    whole = np.zeros((len(theta_P), len(theta_P)))
    whole[np.ix_(free, free)] = correction * inverse @ (score.T @ score) @ inverse
    return whole


def standard_errors(data: Observations, theta_P: np.ndarray) -> dict[str, float]:
    """Sandwich standard errors of the published constants, by the delta method."""
    law = data.problem.law
    step = 1e-6
    basis = np.eye(len(theta_P))
    up, down = (published(data, theta_P + sign * step * basis) for sign in (1, -1))
    slope_PxP = (up - down) / (2 * step)  # row: coordinate moved, column: constant
    variance = slope_PxP.T @ covariance(data, theta_P) @ slope_PxP
    return {name: float(np.sqrt(value)) for name, value in zip(law.names, np.diag(variance))}


def identifiability(data: Observations, theta_P: np.ndarray) -> Identifiability:
    """Conditioning, leverage and influence of a fit at `theta_P`; every influence is a refit, not an approximation."""
    problem = data.problem
    names = problem.law.names
    low, high = problem.bounds
    free = np.flatnonzero((theta_P > low) & (theta_P < high))
    slope_NxP = jacobian(problem, theta_P)[:, free] * np.sqrt(problem.weight_N)[:, None]
    scaled = slope_NxP / np.maximum(np.linalg.norm(slope_NxP, axis=0), 1e-300)
    left, values, right = np.linalg.svd(scaled, full_matrices=False)
    weakest = {names[p]: float(share) for p, share in zip(free, right[-1]) if p < len(names)}
    leverage_N = (left**2).sum(axis=1)
    rows = len(leverage_N)
    without = np.ones((rows, rows)) - np.eye(rows)
    constants = published(data, theta_P[None])[0]
    moved_RxP = published(data, minimise(problem, np.tile(theta_P, (rows, 1)), weight_SxN=without).theta_SxP)
    change_RxP = moved_RxP / np.where(constants == 0, 1.0, constants) - 1
    spread = np.maximum(np.median(np.abs(change_RxP), axis=0), 1e-12)
    worst = np.argsort(-(np.abs(change_RxP) / spread).max(axis=1), kind="stable")[:INFLUENTIAL]
    dropped = np.ones((1, rows))
    dropped[0, worst] = 0.0
    together = published(data, minimise(problem, theta_P[None], weight_SxN=dropped).theta_SxP)[0]
    residual_N = residual_logs(data, theta_P)
    influential = tuple(
        Influence(
            str(data.row_names_N[row]),
            float(leverage_N[row]),
            float(residual_N[row]),
            {name: float(value) for name, value in zip(names, change_RxP[row])},
        )
        for row in worst
    )
    condition = float(values[0] / max(values[-1], 1e-300))
    return Identifiability(condition, weakest, influential, dict(zip(names, map(float, together))))


def residual_logs(data: Observations, theta_P: np.ndarray) -> np.ndarray:
    """(N,): ln of the law minus ln of the response."""
    return log_predictions(data.problem.law, theta_P[None], data.problem.x)[0] - data.problem.log_y_N
