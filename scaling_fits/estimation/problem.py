"""A fit as arrays: what is minimised, and its residuals, derivatives and predictions in float64.

Derivatives are exact: forward mode for the Jacobian (reverse mode, row by row, for many constants), forward over
reverse for the curvature of the law. Float64 lives inside `float64()` only, on the CPU: importing or calling this
package changes no JAX configuration.
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from scaling_fits.estimation.estimators import Estimator, Quantile, Residual, StudentT
from scaling_fits.laws.law import Law

LOG_SCALE_BOUNDS = (-40.0, 20.0)
CHUNK_NUMBERS = 1 << 21  # of float64 that one chunk of fits may hold per column
MANY_CONSTANTS = 12
# A kinked loss is rounded by a quadratic core that shrinks from fit to fit.
CORES = (1e-2, 1e-3, 1e-4, 1e-5, 1e-6, 1e-7, 1e-8)


@contextlib.contextmanager
def float64() -> Iterator[None]:
    """JAX in float64 on the CPU, for this thread and this block only."""
    with jax.enable_x64(True), jax.default_device(jax.local_devices(backend="cpu")[0]):
        yield


@dataclass(frozen=True)
class Problem:
    """What is minimised: `law` at variables `x` (as `Law.prepare` gives them) against ln y, with `estimator`.

    `log_y_N` is ln of the response in units of e^`log_unit`; `weight_N` (mean 1) multiplies rows' losses; residuals are
    divided by `sd_N`, standard deviations in units of their geometric mean (all one when unknown), so that an
    estimator's delta is one of a typical row's residual. `fixed` pins working coordinates by their position; `box`
    replaces the law's own bounds.
    """

    law: Law
    estimator: Estimator
    x: Mapping[str, np.ndarray]
    log_y_N: np.ndarray
    weight_N: np.ndarray
    sd_N: np.ndarray
    log_unit: float = 0.0
    fixed: tuple[tuple[int, float], ...] = ()
    box: tuple[np.ndarray, np.ndarray] | None = None

    @property
    def size(self) -> int:
        """Number of working coordinates: the law's constants, and the scale where the estimator has one."""
        return len(self.law.parameters) + self.estimator.estimates_scale

    @property
    def free(self) -> int:
        """Number of working coordinates that the fit may move."""
        return self.size - len(self.fixed)

    @property
    def bounds(self) -> tuple[np.ndarray, np.ndarray]:
        """Lower and upper bounds of all working coordinates; they coincide where one is fixed."""
        low, high = (bound.copy() for bound in (self.law.bounds if self.box is None else self.box))
        for position, value in self.fixed:
            low[position] = high[position] = value
        if self.estimator.estimates_scale:
            low, high = np.append(low, LOG_SCALE_BOUNDS[0]), np.append(high, LOG_SCALE_BOUNDS[1])
        return low, high


def row_losses(problem: Problem, theta_SxP: np.ndarray) -> np.ndarray:
    """(S, N): the loss of every row under every parameter vector, row weights included."""
    return _at_rows(problem, theta_SxP)[1] * problem.weight_N


def residuals(problem: Problem, theta_SxP: np.ndarray) -> np.ndarray:
    """(S, N): residuals as the estimator sees them (in units of the estimated scale where there is one)."""
    return _at_rows(problem, theta_SxP)[0]


def _at_rows(problem: Problem, theta_SxP: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    with float64():
        run = _rows(problem.law, problem.estimator)
        columns, log_y = columns_of(problem), jnp.asarray(problem.log_y_N)
        found = [run(jnp.asarray(part), log_y, columns) for part in _parts(theta_SxP, len(problem.log_y_N))]
        return np.concatenate([np.asarray(r) for r, _ in found]), np.concatenate(
            [np.asarray(loss) for _, loss in found]
        )


def jacobian(problem: Problem, theta_P: np.ndarray) -> np.ndarray:
    """(N, P): derivatives of the residuals."""
    with float64():
        run = _jacobian(problem.law, problem.estimator)
        return np.asarray(run(jnp.asarray(theta_P), jnp.asarray(problem.log_y_N), columns_of(problem)))


def derivatives(problem: Problem, theta_P: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Gradient (P,), generalised Hessian and reweighted Gram matrix (P, P) of the objective."""
    with float64():
        arrays = (jnp.asarray(values) for values in (theta_P, problem.log_y_N, problem.weight_N))
        run = _at_point(problem.law, problem.estimator)
        _, gradient, hessian, gram = run(*arrays, columns_of(problem), jnp.asarray(CORES[-1]))
        return np.asarray(gradient), np.asarray(hessian), np.asarray(gram)


def objective_function(problem: Problem) -> Callable[[jax.Array], jax.Array]:
    """The weighted objective as a traceable function of the working coordinates (P,); call it within `float64()`."""
    columns, log_y, weight = columns_of(problem), jnp.asarray(problem.log_y_N), jnp.asarray(problem.weight_N)
    exact = rounded(problem.estimator, 1e-300)

    def objective(theta: jax.Array) -> jax.Array:
        return weight @ row_loss_of(exact, residual_of(problem.law, exact, theta, log_y, columns), theta)

    return objective


def log_predictions(law: Law, theta_SxP: np.ndarray, x: Mapping[str, np.ndarray]) -> np.ndarray:
    """(S, N): ln L in units of the typical loss at prepared variables."""
    with float64():
        columns = {name: jnp.asarray(value) for name, value in x.items()}
        rows = len(next(iter(x.values())))
        parts = _parts(theta_SxP[:, : len(law.parameters)], rows)
        return np.concatenate([np.asarray(_log_predictions(law)(jnp.asarray(part), columns)) for part in parts])


def _parts(theta_SxP: np.ndarray, rows: int) -> list[np.ndarray]:
    """Parameter vectors in parts that fit the memory, of one shape when there are several."""
    size = max(1, (4 * CHUNK_NUMBERS) // max(rows, 1))
    return [theta_SxP[start : start + size] for start in range(0, len(theta_SxP), size)]


def filled(values: np.ndarray, fill: int) -> np.ndarray:
    """`values` with `fill` copies of the first row behind them."""
    return np.concatenate([values, np.repeat(values[:1], fill, axis=0)]) if fill else values


def columns_of(problem: Problem, padded: int | None = None) -> dict[str, Any]:
    """Variables and 1/sd as JAX arrays, the first row repeated up to `padded` rows, and the loss' unit."""
    fill = 0 if padded is None else padded - len(problem.log_y_N)
    columns: dict[str, Any] = {name: jnp.asarray(filled(value, fill)) for name, value in problem.x.items()}
    inverse_sd = jnp.asarray(filled(1.0 / problem.sd_N, fill))
    return {"x": columns, "inverse_sd": inverse_sd, "unit": jnp.exp(jnp.asarray(problem.log_unit))}


def residual_of(
    law: Law, estimator: Estimator, theta: jax.Array | Sequence[jax.Array], log_y: jax.Array, columns: Any
) -> jax.Array:
    """(N,) residuals as the estimator sees them; traceable."""
    log_loss = law.log_prediction(theta, columns["x"])
    difference = log_loss - log_y
    if estimator.residual is Residual.RAW:
        difference = columns["unit"] * jnp.exp(log_y) * jnp.expm1(difference)
    difference = difference * columns["inverse_sd"]
    return difference * jnp.exp(-theta[-1]) if estimator.estimates_scale else difference


def rounded(estimator: Estimator, core: float | jax.Array) -> Estimator:
    """The estimator with its kink, if it has one, rounded over `core`."""
    return replace(estimator, core=core) if isinstance(estimator, Quantile) else estimator


def row_loss_of(estimator: Estimator, residual: jax.Array, theta: jax.Array) -> jax.Array:
    """(N,) loss of residuals, the logarithm of the scale included where it is estimated."""
    loss = estimator.loss(residual)
    return loss + theta[-1] + estimator.log_constant if isinstance(estimator, StudentT) else loss


def _row_by_row(
    law: Law, estimator: Estimator, theta: jax.Array, log_y: jax.Array, columns: Any
) -> tuple[jax.Array, jax.Array]:
    """Residuals (N,) and their derivatives (P, N): each row is a table of its own, as no row depends on another.

    One reverse pass then costs a few evaluations of the law, whatever the number of constants.
    """

    def one(
        constants: Sequence[jax.Array], log_y: jax.Array, x: dict[str, jax.Array], inverse_sd: jax.Array
    ) -> jax.Array:
        row = {"x": {name: value[None] for name, value in x.items()}, "inverse_sd": inverse_sd, "unit": columns["unit"]}
        return residual_of(law, estimator, constants, log_y, row)[0]

    # Constants one by one: taken out of an array, each would be put back into an array of zeros.
    run = jax.vmap(jax.value_and_grad(one), (None, 0, 0, 0))
    r, slopes = run(tuple(theta), log_y, columns["x"], columns["inverse_sd"])
    return r, jnp.stack(slopes)


def derivatives_of(
    law: Law,
    estimator: Estimator,
    theta: jax.Array,
    log_y: jax.Array,
    weight: jax.Array,
    columns: Any,
    core: jax.Array,
) -> tuple[jax.Array, jax.Array, jax.Array, jax.Array]:
    """Objective, gradient (P,), and (P, P) the Hessian if the law were straight and the reweighted Gram matrix.

    `bend_of` is what the first lacks of the generalised Hessian; the second is positive semidefinite.
    """
    estimator = rounded(estimator, core)

    def residual(at: jax.Array) -> jax.Array:
        return residual_of(law, estimator, at, log_y, columns)

    if len(theta) > MANY_CONSTANTS:
        r, jacobian_PxN = _row_by_row(law, estimator, theta, log_y, columns)
    else:
        basis = jnp.eye(len(theta), dtype=theta.dtype)
        r = residual(theta)
        jacobian_PxN = jax.vmap(lambda direction: jax.jvp(residual, (theta,), (direction,))[1])(basis)
    slope = weight * estimator.slope(r)
    curvature = (jacobian_PxN * (weight * estimator.curvature(r))) @ jacobian_PxN.T
    gram = (jacobian_PxN * (weight * estimator.majoriser(r))) @ jacobian_PxN.T
    gradient = jacobian_PxN @ slope
    if estimator.estimates_scale:
        gradient = gradient.at[-1].add(weight.sum())
    return (weight * row_loss_of(estimator, r, theta)).sum(), gradient, curvature, gram


def bend_of(
    law: Law,
    estimator: Estimator,
    theta: jax.Array,
    log_y: jax.Array,
    weight: jax.Array,
    columns: Any,
    core: jax.Array,
) -> jax.Array:
    """What the law's own second derivatives add to the Hessian (P, P), and Gauss-Newton leaves out."""
    estimator = rounded(estimator, core)

    def residual(at: jax.Array) -> jax.Array:
        return residual_of(law, estimator, at, log_y, columns)

    slope = weight * estimator.slope(residual(theta))
    return jax.jacfwd(jax.grad(lambda at: slope @ residual(at)))(theta)


@functools.lru_cache(maxsize=256)
def _rows(law: Law, estimator: Estimator) -> Callable[..., Any]:
    exact = rounded(estimator, 1e-300)

    def one(theta: jax.Array, log_y: jax.Array, columns: Any) -> tuple[jax.Array, jax.Array]:
        residual = residual_of(law, exact, theta, log_y, columns)
        return residual, row_loss_of(exact, residual, theta)

    return jax.jit(jax.vmap(one, (0, None, None)))


@functools.lru_cache(maxsize=256)
def _jacobian(law: Law, estimator: Estimator) -> Callable[..., Any]:
    return jax.jit(jax.jacfwd(lambda theta, log_y, columns: residual_of(law, estimator, theta, log_y, columns)))


@functools.lru_cache(maxsize=256)
def _at_point(law: Law, estimator: Estimator) -> Callable[..., Any]:
    def one(*at: Any) -> tuple[jax.Array, jax.Array, jax.Array, jax.Array]:
        objective, gradient, curvature, gram = derivatives_of(law, estimator, *at)
        return objective, gradient, curvature + bend_of(law, estimator, *at), gram

    return jax.jit(one)


@functools.lru_cache(maxsize=256)
def _log_predictions(law: Law) -> Callable[..., Any]:
    return jax.jit(jax.vmap(law.log_prediction, (0, None)))
