"""Where fits begin: a low-discrepancy set of initial points, with the constants that enter linearly solved for.

Variable projection (Golub & Pereyra 1973): given the exponents, a sum of terms is linear in its coefficients, so that
only the exponents need a search. Every fit, the bootstrap's too, starts from the initial points that are best under
its own weights.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from scipy.stats import qmc

from scaling_fits.estimation.problem import Problem, float64, log_predictions, row_losses
from scaling_fits.laws.law import Law

STARTS = 256
INITIAL_POINTS = 2048
INITIAL_NUMBERS = 1 << 26  # points are fewer where points × rows × constants would exceed this
LINEAR_MAX = 4
SMALLEST_SHARE = 1e-3  # of the loss: a term that starts at nothing never comes back
SCALE_MIN = 1e-8


@dataclass(frozen=True)
class Search:
    """How an optimum is looked for: `starts` initial points drawn with `seed` are followed to their optima.

    `allow_unconverged` takes a best point that is not stationary for the optimum, with a warning instead of an error.
    """

    starts: int = STARTS
    seed: int = 0
    allow_unconverged: bool = False


def initial_points(problem: Problem, seed: int = 0) -> np.ndarray:
    """(S, P): Sobol points over the box of the parameters' starts, linear constants solved for, best objective first.

    Points whose objective is not finite are left out; ValueError when none is left.
    """
    law, rows = problem.law, len(problem.log_y_N)
    count = int(min(INITIAL_POINTS, max(256, INITIAL_NUMBERS / (rows * problem.size))))
    count = 1 << (count.bit_length() - 1)
    low, high = np.array([parameter.start for parameter in law.parameters]).T
    unit = qmc.Sobol(len(law.parameters), seed=seed).random(count)
    theta = np.clip(low + unit * (high - low), *(bound[: len(law.parameters)] for bound in problem.bounds))
    theta = _projected(problem, theta)
    if problem.estimator.estimates_scale:
        spread = np.median(np.abs(log_predictions(law, theta, problem.x) - problem.log_y_N), axis=1)
        theta = np.column_stack([theta, np.log(np.maximum(1.5 * spread, SCALE_MIN))])
    objective = row_losses(problem, theta).sum(axis=1)
    finite = np.isfinite(objective)
    if not finite.any():
        raise ValueError(f"{law.name}: none of {count} starting points has a finite loss at every row")
    return theta[finite][np.argsort(objective[finite], kind="stable")]


def spread_starts(initial_SxP: np.ndarray, count: int) -> np.ndarray:
    """`count` starts: half of them the best of the initial points, half spread evenly over the rest of them."""
    best = initial_SxP[: count // 2]
    rest = initial_SxP[len(best) :]
    stride = max(1, len(rest) // max(count - len(best), 1))
    return np.concatenate([best, rest[::stride][: count - len(best)]])


def _projected(problem: Problem, theta_SxP: np.ndarray) -> np.ndarray:
    """The same points with the law's linear constants at their non-negative relative least-squares values."""
    law = problem.law
    fixed = {position for position, _ in problem.fixed}
    linear = [p for p, parameter in enumerate(law.parameters) if parameter.linear and p not in fixed]
    if not linear or len(linear) > LINEAR_MAX:
        return theta_SxP
    theta = theta_SxP.copy()
    theta[:, linear] = 0.0
    y = np.exp(problem.log_y_N)
    with float64():
        columns = {name: jnp.asarray(value) for name, value in problem.x.items()}
        run, parts = _terms(law, tuple(linear)), np.array_split(theta, max(1, theta.size * len(y) // (1 << 24)))
        found = [tuple(np.asarray(value) for value in run(jnp.asarray(part), columns)) for part in parts]
    terms_SxKxN = np.concatenate([terms for terms, _ in found]) / y
    rest_SxN = np.concatenate([rest for _, rest in found]) / y
    weight_N = problem.weight_N / problem.weight_N.sum()
    gram = np.einsum("skn,sln,n->skl", terms_SxKxN, terms_SxKxN, weight_N, optimize=True)
    aim = np.einsum("skn,sn,n->sk", terms_SxKxN, 1.0 - rest_SxN, weight_N, optimize=True)
    finite = np.isfinite(gram).all((1, 2)) & np.isfinite(aim).all(1)
    theta[np.ix_(~finite, linear)] = theta_SxP[np.ix_(~finite, linear)]
    theta[np.ix_(finite, linear)] = np.log(np.maximum(_non_negative(gram[finite], aim[finite]), SMALLEST_SHARE))
    return theta


def _non_negative(gram_SxKxK: np.ndarray, aim_SxK: np.ndarray) -> np.ndarray:
    """Non-negative least squares (S, K) by trying every support, which for few terms is exact and quick."""
    size = aim_SxK.shape[1]
    best, value = np.zeros_like(aim_SxK), np.zeros(len(aim_SxK))
    for count in range(1, size + 1):
        for support in itertools.combinations(range(size), count):
            part = gram_SxKxK[:, support][:, :, support]
            ridge = 1e-12 * np.trace(part, axis1=1, axis2=2)[:, None, None] + 1e-300
            found = np.linalg.solve(part + ridge * np.eye(count), aim_SxK[:, support, None])[..., 0]
            reached = -np.einsum("sk,sk->s", found, aim_SxK[:, support])
            better = (found >= 0).all(axis=1) & (reached < value)
            best[better] = 0.0
            best[np.ix_(better, support)] = found[better]
            value[better] = reached[better]
    return best


@functools.lru_cache(maxsize=256)
def _terms(law: Law, linear: tuple[int, ...]) -> Callable[..., Any]:
    """Compiled: the linear terms (S, K, N) at coefficient 1, and what is left of the loss (S, N)."""

    def one(theta: jax.Array, columns: Any) -> tuple[jax.Array, jax.Array]:
        loss = jnp.exp(law.log_prediction(theta, columns))
        directions = jnp.eye(len(theta), dtype=theta.dtype)[jnp.array(linear)]
        share = jax.vmap(lambda d: jax.jvp(lambda at: law.log_prediction(at, columns), (theta,), (d,))[1])(directions)
        terms = share * loss
        return terms, loss - terms.sum(axis=0)

    return jax.jit(jax.vmap(one, (0, None)))
