"""Many robust fits at once: damped semismooth Newton on the summed Huber loss of log residuals, in a box.

Every start (or bootstrap replicate) is one row of a batch, so that hundreds of fits cost a few BLAS products per step.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from scaling_fits.forms import Design, Evaluation, Form

STEPS_MAX = 400
LONGEST_STEP = 3.0  # in working coordinates: a factor e^3 of a term, or 3 in an exponent
DAMPING_FIRST, DAMPING_MIN, DAMPING_MAX = 1.0, 1e-12, 1e12
# One step may still gain this share of the objective before a start counts as converged: below rounding of the sum.
GAIN_TOLERANCE = 1e-17


@dataclass(frozen=True)
class Huber:
    """Huber's loss, summed over rows: r^2/2 where |r| <= delta, else delta (|r| - delta/2). `inf` is least squares."""

    delta: float = 1e-3

    def __post_init__(self) -> None:
        if not self.delta > 0:
            raise ValueError(f"Huber delta must be positive, not {self.delta}; 1e-3 is Hoffmann's, inf least squares")

    @property
    def description(self) -> str:
        """The estimator in words, for the outputs."""
        loss = "squares / 2" if math.isinf(self.delta) else f"Huber({self.delta:g})"
        return f"sum of {loss} of ln residuals"

    def loss(self, residual: np.ndarray) -> np.ndarray:
        """Elementwise loss."""
        size = np.abs(residual)
        inner = np.minimum(size, self.delta)
        return inner * (size - inner / 2)

    def slope(self, residual: np.ndarray) -> np.ndarray:
        """Derivative of the loss."""
        return np.clip(residual, -self.delta, self.delta)

    def inside(self, residual: np.ndarray) -> np.ndarray:
        """Generalised second derivative: 1 in the quadratic part, else 0."""
        return (np.abs(residual) <= self.delta).astype(float)

    def majoriser(self, residual: np.ndarray) -> np.ndarray:
        """Weight of the quadratic that touches the loss from above (iteratively reweighted least squares)."""
        return np.minimum(1.0, self.delta / np.maximum(np.abs(residual), 1e-300))


@dataclass(frozen=True)
class Problem:
    """What is minimised: `form` at the rows of `design` against ln y (N,) with `estimator`."""

    form: Form
    design: Design
    log_y_N: np.ndarray
    estimator: Huber

    def objective(self, theta_SxP: np.ndarray, weight_SxN: np.ndarray) -> tuple[np.ndarray, Evaluation]:
        """Summed loss (S,) and the evaluation it came from; weight (1, N) or (S, N)."""
        evaluation = self.form.evaluate(theta_SxP, self.design)
        residual_SxN = evaluation.value_SxN - self.log_y_N
        return (weight_SxN * self.estimator.loss(residual_SxN)).sum(axis=1), evaluation

    def gradient(self, evaluation: Evaluation, weight_SxN: np.ndarray) -> np.ndarray:
        """Gradient (S, P) of the summed loss."""
        return evaluation.pull(weight_SxN * self.estimator.slope(evaluation.value_SxN - self.log_y_N))

    def curvatures(self, evaluation: Evaluation, weight_SxN: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Generalised Hessian and the positive semidefinite reweighted Gram matrix, both (S, P, P)."""
        residual_SxN = evaluation.value_SxN - self.log_y_N
        hessian = evaluation.gram(weight_SxN * self.estimator.inside(residual_SxN))
        hessian = hessian + evaluation.curvature(weight_SxN * self.estimator.slope(residual_SxN))
        return hessian, evaluation.gram(weight_SxN * self.estimator.majoriser(residual_SxN))


@dataclass(frozen=True)
class Solutions:
    """End points of S fits: theta (S, P), objective (S,), gradient (S, P), zero where it pushes out of the box."""

    theta_SxP: np.ndarray
    objective_S: np.ndarray
    gradient_SxP: np.ndarray


def minimise(
    problem: Problem,
    start_SxP: np.ndarray,
    lower_P: np.ndarray,
    upper_P: np.ndarray,
    weight_SxN: np.ndarray | None = None,
) -> Solutions:
    """Run every start to its own local optimum.

    `lower`, `upper` are (P,) or (S, P) and may coincide to pin a parameter; `weight_SxN` are row weights (bootstrap
    counts), all one when None. Damping is per start; a finished start leaves the batch.
    """
    starts, rows = len(start_SxP), len(problem.log_y_N)
    lower_SxP = np.broadcast_to(lower_P, start_SxP.shape)
    upper_SxP = np.broadcast_to(upper_P, start_SxP.shape)
    weight_SxN = np.broadcast_to(1.0 if weight_SxN is None else weight_SxN, (starts, rows))
    theta = np.clip(start_SxP, lower_SxP, upper_SxP)
    objective, _ = problem.objective(theta, weight_SxN)
    damping = np.full(starts, DAMPING_FIRST)
    alive = np.arange(starts)
    for _ in range(STEPS_MAX):
        weight, low, high = weight_SxN[alive], lower_SxP[alive], upper_SxP[alive]
        step, gain = _step(problem, theta[alive], weight, low, high, damping[alive])
        trial = np.clip(theta[alive] + step, low, high)
        trial_objective, _ = problem.objective(trial, weight)
        better = trial_objective < objective[alive]
        winners = alive[better]
        theta[winners], objective[winners] = trial[better], trial_objective[better]
        damping[alive] = np.clip(damping[alive] * np.where(better, 0.2, 6.0), DAMPING_MIN, None)
        open_ = (gain > GAIN_TOLERANCE * objective[alive]) & (damping[alive] < DAMPING_MAX)
        alive = alive[open_]
        if not len(alive):
            break
    _, evaluation = problem.objective(theta, weight_SxN)
    gradient = problem.gradient(evaluation, weight_SxN)
    gradient[_blocked(theta, gradient, lower_SxP, upper_SxP)] = 0.0
    return Solutions(theta, objective, gradient)


def _blocked(theta: np.ndarray, gradient: np.ndarray, lower: np.ndarray, upper: np.ndarray) -> np.ndarray:
    """Parameters on a bound whose descent direction points out of the box."""
    return ((theta <= lower) & (gradient >= 0)) | ((theta >= upper) & (gradient <= 0))


def _step(
    problem: Problem,
    theta_SxP: np.ndarray,
    weight_SxN: np.ndarray,
    lower_SxP: np.ndarray,
    upper_SxP: np.ndarray,
    damping_S: np.ndarray,
) -> tuple[np.ndarray, np.ndarray]:
    """Damped Newton step (S, P) and the decrease (S,) that the quadratic model promises.

    The Hessian is seen in the metric of the reweighted Gram matrix and its eigenvalues are taken by size, so that
    saddles repel; large damping turns the step into reweighted least squares, none into Newton.
    """
    _, evaluation = problem.objective(theta_SxP, weight_SxN)
    gradient = problem.gradient(evaluation, weight_SxN)
    hessian, metric = problem.curvatures(evaluation, weight_SxN)
    blocked = _blocked(theta_SxP, gradient, lower_SxP, upper_SxP)
    gradient = np.where(blocked, 0.0, gradient)
    either = blocked[:, :, None] | blocked[:, None, :]
    identity = np.eye(theta_SxP.shape[1])
    hessian = np.where(either, identity, hessian)
    metric = np.where(either, identity, metric)
    scale = np.sqrt(np.einsum("spp->sp", metric) + 1e-280)
    metric = metric / (scale[:, :, None] * scale[:, None, :]) + 1e-12 * identity
    root = np.linalg.inv(np.linalg.cholesky(metric))
    whitener = root / scale[:, None, :]
    values, vectors = np.linalg.eigh(whitener @ hessian @ whitener.transpose(0, 2, 1))
    basis = vectors.transpose(0, 2, 1) @ whitener
    slope = np.einsum("sqp,sp->sq", basis, gradient)
    size = np.maximum(np.abs(values), 1e-12)
    step = -np.einsum("sqp,sq->sp", basis, slope / (size + damping_S[:, None]))
    longest = np.abs(step).max(axis=1, keepdims=True)
    step = step * np.minimum(1.0, LONGEST_STEP / np.maximum(longest, 1e-300))
    return step, 0.5 * (slope**2 / np.maximum(size, 1e-9)).sum(axis=1)
