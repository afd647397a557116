"""Laws of many constants: slopes row by row, the law's own bend, and coordinates that a single domain fixes."""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np

from scaling_fits.estimation.estimators import LeastSquares
from scaling_fits.estimation.problem import (
    Problem,
    columns_of,
    derivatives,
    derivatives_of,
    float64,
    jacobian,
    log_predictions,
    residuals,
)
from scaling_fits.laws.data_mix import joint_mixture

FORM = joint_mixture(3)


def _problem() -> Problem:
    """17 constants, 90 rows of the law at its middling constants with 0.3 % noise."""
    rng = np.random.default_rng(3)
    shares = rng.dirichlet(np.ones(3), size=90)
    x = {"N": rng.uniform(-3, 3, 90), "D": rng.uniform(-3, 3, 90)}
    x |= {f"h_{i + 1}": shares[:, i] for i in range(3)}
    problem = Problem(FORM, LeastSquares(), x, rng.normal(0, 0.003, 90), np.ones(90), np.ones(90))
    middle = np.array([[sum(parameter.start) / 2 for parameter in FORM.parameters]])
    return Problem(FORM, LeastSquares(), x, residuals(problem, middle)[0], np.ones(90), np.ones(90))


def test_slopes_taken_row_by_row_are_those_of_the_jacobian() -> None:
    """Forward and reverse mode agree to rounding, and so does the Gram matrix made of them."""
    problem = _problem()
    theta = np.array([parameter.start[0] for parameter in FORM.parameters])
    slopes = jacobian(problem, theta)
    with float64():
        arrays = [jnp.asarray(values) for values in (theta, problem.log_y_N, problem.weight_N)]
        _, gradient, curvature, gram = derivatives_of(FORM, LeastSquares(), *arrays, columns_of(problem), 0.0)
    np.testing.assert_allclose(gram, slopes.T @ slopes, rtol=1e-10, atol=1e-14)
    np.testing.assert_allclose(curvature, gram, rtol=1e-12)
    np.testing.assert_allclose(gradient, slopes.T @ residuals(problem, theta[None])[0], rtol=1e-9, atol=1e-13)


def test_hessian_is_the_derivative_of_the_gradient() -> None:
    """The bend of the law included, against central differences."""
    problem = _problem()
    theta = np.array([0.7 * p.start[0] + 0.3 * p.start[1] for p in FORM.parameters])
    _, hessian, _ = derivatives(problem, theta)
    step = 1e-5
    moved = [[derivatives(problem, theta + sign * step * e)[0] for sign in (1, -1)] for e in np.eye(len(theta))]
    expected = np.array([(above - below) / (2 * step) for above, below in moved])
    np.testing.assert_allclose(hessian, expected, rtol=1e-5, atol=1e-6 * np.abs(hessian).max())


def test_a_constant_is_the_coefficient_of_its_domain_alone() -> None:
    """With one domain in the mix neither gamma_A nor the other domains' constants are seen."""
    theta = np.array([[p.start[0] for p in FORM.parameters], [p.start[0] for p in FORM.parameters]])
    for name in ("gamma_A", "gamma_B", "A_2", "B_3"):
        theta[1, FORM.names.index(name)] += 0.5
    x = {"N": np.array([-1.0, 2.0]), "D": np.array([0.5, 0.1])}
    x |= {f"h_{i}": np.full(2, float(i == 1)) for i in (1, 2, 3)}
    one, other = log_predictions(FORM, theta, x)
    np.testing.assert_allclose(one, other, rtol=0, atol=1e-6)
