"""Many fits at once: damped semismooth Newton in a box, in float64, over starts, bootstrap replicates and data sets.

Every fit is one row of a batch with its own start, row weights and responses. A step costs one exact evaluation of
objective, gradient and Hessian (with many constants the law's own bend, by far its dearest part, is kept for a few
steps); a finished fit leaves the batch.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from scaling_fits.estimation.estimators import Estimator, Quantile
from scaling_fits.estimation.problem import (
    CORES,
    MANY_CONSTANTS,
    Problem,
    bend_of,
    columns_of,
    derivatives_of,
    filled,
    float64,
    residual_of,
)
from scaling_fits.laws.law import Law

CHUNK_FITS = 64
STEPS_MAX = 400
STEPS_PER_CALL = 9  # evaluations: the first is of the start
# Starts that have not converged by then are raced: only the best go on.
RACE_AFTER, RACE_KEEPS, RACE_KEEPS_MANY = 40, 32, 8
CHUNK_SLOPES = 1 << 17  # derivatives of rows in one chunk: 1 MiB, beyond which a core's cache overflows
BEND_EVERY = 3  # evaluations, with many constants
LONGEST_STEP = 3.0  # in working coordinates: a factor e^3 of a term, or 3 in an exponent
DAMPING_FIRST, DAMPING_MIN, DAMPING_MAX = 1.0, 1e-12, 1e12
# One step may still gain this share of the objective before a fit counts as converged: below rounding of the sum.
GAIN_TOLERANCE = 1e-17
GAIN_ABSOLUTE = 1e-28
ROOM_TOLERANCE = 1e-13  # of the objective: what going all the way to a bound may still gain

#: Of a chunk of fits: steps taken, constants, what was evaluated there, damping, which are done, the next trial.
_State = tuple[jax.Array | int, jax.Array, tuple[jax.Array, ...], jax.Array, jax.Array, jax.Array]


@dataclass(frozen=True)
class Solutions:
    """End points of S fits: theta (S, P), objective (S,), and how far each is from stationary (S,).

    `cosine_S` is the largest cosine between a column of the Jacobian and the residuals, as weighted by the estimator:
    scale-free, 0 at an optimum (MINPACK's orthogonality). A direction that pushes out of the box counts as 0.
    """

    theta_SxP: np.ndarray
    objective_S: np.ndarray
    cosine_S: np.ndarray

    def best_of(self, groups: int) -> Solutions:
        """The best of every `groups`-th part when starts of one problem stand together: (S / groups) solutions."""
        pick = self.objective_S.reshape(-1, groups).argmin(axis=1) + groups * np.arange(len(self.objective_S) // groups)
        return Solutions(self.theta_SxP[pick], self.objective_S[pick], self.cosine_S[pick])


def minimise(
    problem: Problem,
    start_SxP: np.ndarray,
    *,
    box: tuple[np.ndarray, np.ndarray] | None = None,
    weight_SxN: np.ndarray | None = None,
    log_y_SxN: np.ndarray | None = None,
    race: bool = False,
    steps: int | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Solutions:
    """Run every start to its own local optimum.

    `box` are lower and upper bounds, (P,) or (S, P), instead of the problem's own; they may coincide to pin a
    parameter. `weight_SxN` multiply the problem's own row weights (bootstrap counts), `log_y_SxN` replace its responses
    (simulated data). Kinked estimators are followed through shrinking cores to the kink itself. With `race`, only the
    best 32 (8 beyond 12 constants) of the starts that are slow go on; the rest end where they are, not stationary.
    `steps` ends every fit early. `progress(done, all)` is called as fits finish.
    """
    low, high = (np.broadcast_to(bound, start_SxP.shape) for bound in (problem.bounds if box is None else box))
    batch = _Batch(problem, low, high, weight_SxN, log_y_SxN)
    theta = np.clip(start_SxP, low, high)
    if problem.estimator.smooth:
        return batch.run(theta, 0.0, race, steps or STEPS_MAX, progress)
    for core in CORES:
        ends = batch.run(theta, core, race, steps or STEPS_MAX, None)
        theta = ends.theta_SxP
    return batch.on_the_kink(ends)


class _Batch:
    """The fits of one call, cut into chunks of one shape so that each law compiles once."""

    def __init__(
        self,
        problem: Problem,
        low: np.ndarray,
        high: np.ndarray,
        weight_SxN: np.ndarray | None,
        log_y_SxN: np.ndarray | None,
    ) -> None:
        self.problem, self.low, self.high = problem, low, high
        self.rows = len(problem.log_y_N)
        self.padded = _padded(self.rows)
        self.weight, self.log_y = weight_SxN, log_y_SxN
        fits = CHUNK_SLOPES / (self.padded * problem.size)
        self.chunk = 1 << int(np.clip(np.log2(fits), 1, np.log2(CHUNK_FITS)))
        with float64():
            self.columns = columns_of(problem, self.padded)

    def run(
        self,
        theta_SxP: np.ndarray,
        core: float,
        race: bool,
        steps: int,
        progress: Callable[[int, int], None] | None,
    ) -> Solutions:
        """Newton steps until every fit has converged or can gain no more."""
        count = len(theta_SxP)
        theta, objective = theta_SxP.copy(), np.full(count, np.inf)
        cosine, damping = np.zeros(count), np.full(count, DAMPING_FIRST)
        alive = np.arange(count)
        for call in range(-(-steps // STEPS_PER_CALL)):
            ends = self._advance(theta, damping, alive, core)
            theta[alive], objective[alive], cosine[alive], damping[alive], done = ends
            alive = alive[~done]
            if race and (call + 1) * STEPS_PER_CALL >= RACE_AFTER:
                keeps = RACE_KEEPS if self.problem.size <= MANY_CONSTANTS else RACE_KEEPS_MANY
                alive = np.sort(alive[np.argsort(objective[alive], kind="stable")[:keeps]])
            if progress is not None:
                progress(count - len(alive), count)
            if not len(alive):
                break
        return Solutions(theta, objective, cosine)

    def on_the_kink(self, ends: Solutions) -> Solutions:
        """Move every fit to where as many residuals vanish as it has free constants, if that is no worse."""
        run = _vertex(self.problem.law, self.problem.estimator)
        everyone = np.arange(len(ends.theta_SxP))
        at, objective = self._map(run, everyone, ends.theta_SxP, self.low, self.high)
        _, before = self._map(
            _exact_objective(self.problem.law, self.problem.estimator), everyone, ends.theta_SxP, self.low, self.high
        )
        better = np.isfinite(objective) & (objective <= before)
        theta = np.where(better[:, None], at, ends.theta_SxP)
        return Solutions(theta, np.where(better, objective, before), ends.cosine_S)

    def _advance(self, theta: np.ndarray, damping: np.ndarray, alive: np.ndarray, core: float) -> tuple[Any, ...]:
        run = functools.partial(_advance(self.problem.law, self.problem.estimator), core=core)
        return self._map(run, alive, theta[alive], self.low[alive], self.high[alive], damping[alive])

    def _map(self, run: Callable[..., Any], which: np.ndarray, *per_fit: np.ndarray) -> tuple[Any, ...]:
        """`run` over chunks of the fits `which`; its outputs put together again."""
        starts = range(0, len(which), self.chunk)

        def one(start: int) -> tuple[np.ndarray, ...]:
            part = slice(start, min(start + self.chunk, len(which)))
            fill = self.chunk - (part.stop - part.start)
            with float64():
                arrays = [jnp.asarray(filled(values[part], fill)) for values in per_fit]
                weight = jnp.asarray(filled(self._weights(which[part]), fill))
                log_y = jnp.asarray(filled(self._responses(which[part]), fill))
                outputs = run(*arrays, log_y=log_y, weight=weight, columns=self.columns)
                return tuple(np.asarray(output)[: part.stop - part.start] for output in outputs)

        # One after the other: two programs with LAPACK calls at once can wait for ever for XLA's own threads.
        return tuple(np.concatenate(parts) for parts in zip(*map(one, starts)))

    def _weights(self, which: np.ndarray) -> np.ndarray:
        weight = np.zeros((len(which), self.padded))
        own = 1.0 if self.weight is None else np.broadcast_to(self.weight, (len(self.low), self.rows))[which]
        weight[:, : self.rows] = self.problem.weight_N * own
        return weight

    def _responses(self, which: np.ndarray) -> np.ndarray:
        log_y = np.zeros((len(which), self.padded))
        log_y[:, : self.rows] = self.problem.log_y_N if self.log_y is None else self.log_y[which]
        log_y[:, self.rows :] = log_y[:, :1]
        return log_y


def _padded(rows: int) -> int:
    """Rows are filled up (with weight 0) to few sizes, so that tables of similar length share a compiled program."""
    step = max(16, 1 << max(int(rows).bit_length() - 3, 0))
    return -(-rows // step) * step


def _blocked(theta: jax.Array, gradient: jax.Array, low: jax.Array, high: jax.Array, size: jax.Array) -> jax.Array:
    """Parameters whose descent leads out of the box, or only to a bound where nothing is left to gain.

    The second case is a term that has vanished: ln E falls for ever, and its Newton steps would go on for ever too.
    """
    room = jnp.where(gradient >= 0, theta - low, high - theta)
    return room * jnp.abs(gradient) <= ROOM_TOLERANCE * size


def _step(
    theta: jax.Array,
    gradient: jax.Array,
    hessian: jax.Array,
    gram: jax.Array,
    low: jax.Array,
    high: jax.Array,
    damping: jax.Array,
    size: jax.Array,
) -> tuple[jax.Array, jax.Array]:
    """Damped Newton step (P,) and the decrease that the quadratic model promises.

    The Hessian is seen in the metric of the reweighted Gram matrix and its eigenvalues are taken by size, so that
    saddles repel; large damping turns the step into reweighted least squares, none into Newton.
    """
    # LAPACK may never come back from a matrix with NaN; such a point has no step, and ends where it is.
    lost = ~(jnp.isfinite(gradient).all() & jnp.isfinite(hessian).all() & jnp.isfinite(gram).all())
    unseen = jnp.diagonal(gram) < 1e-200  # no row depends on it: any step along it would be endless
    blocked = _blocked(theta, gradient, low, high, size) | unseen | lost
    gradient = jnp.where(blocked, 0.0, gradient)
    either = blocked[:, None] | blocked[None, :]
    identity = jnp.eye(len(theta), dtype=theta.dtype)
    hessian = jnp.where(either, identity, hessian)
    gram = jnp.where(either, identity, gram)
    scale = jnp.sqrt(jnp.diagonal(gram) + 1e-280)
    metric = gram / (scale[:, None] * scale[None, :]) + 1e-12 * identity
    root = jnp.linalg.cholesky(metric)
    whitener = jax.scipy.linalg.solve_triangular(root, jnp.diag(1.0 / scale), lower=True)
    whitener = jnp.where(jnp.isfinite(whitener).all(), whitener, jnp.diag(1.0 / scale))
    values, vectors = jnp.linalg.eigh(whitener @ hessian @ whitener.T, symmetrize_input=True)
    basis = vectors.T @ whitener
    slope = basis @ gradient
    steepness = jnp.maximum(jnp.abs(values), 1e-12)
    step = -(basis.T @ (slope / (steepness + damping)))
    step = step * jnp.minimum(1.0, LONGEST_STEP / jnp.maximum(jnp.abs(step).max(), 1e-300))
    return step, 0.5 * (slope**2 / jnp.maximum(steepness, 1e-9)).sum()


@functools.lru_cache(maxsize=256)
def _advance(law: Law, estimator: Estimator) -> Callable[..., Any]:
    """Compiled: a few damped steps for a chunk of fits; (theta, objective, cosine, damping, done)."""
    straight = jax.vmap(functools.partial(derivatives_of, law, estimator), (0, 0, 0, None, None))
    bends = jax.vmap(functools.partial(bend_of, law, estimator), (0, 0, 0, None, None))
    many = len(law.parameters) > MANY_CONSTANTS

    @jax.jit
    def advance(
        theta: jax.Array,
        low: jax.Array,
        high: jax.Array,
        damping: jax.Array,
        *,
        log_y: jax.Array,
        weight: jax.Array,
        columns: Any,
        core: jax.Array,
    ) -> tuple[jax.Array, ...]:
        weights = weight.sum(axis=1)

        def sizes(at: tuple[jax.Array, ...]) -> jax.Array:
            return jnp.abs(at[0]) if not estimator.estimates_scale else weights

        def bend(count: jax.Array | int, trial: jax.Array, last: jax.Array) -> jax.Array:
            if not many:
                return bends(trial, log_y, weight, columns, core)
            anew = functools.partial(bends, trial, log_y, weight, columns, core)
            return jax.lax.cond(count % BEND_EVERY == 0, anew, lambda: last)

        def step(state: _State) -> _State:
            count, theta, at, damping, _, trial = state
            there = (*straight(trial, log_y, weight, columns, core), bend(count, trial, at[-1]))
            better = there[0] < at[0]

            def chosen(new: jax.Array, old: jax.Array) -> jax.Array:
                return jnp.where(better.reshape(-1, *[1] * (new.ndim - 1)), new, old)

            theta, at = chosen(trial, theta), jax.tree.map(chosen, there, at)
            changed = jnp.maximum(damping * jnp.where(better, 0.2, 6.0), DAMPING_MIN)
            damping = jnp.where(count == 0, damping, changed)
            _, gradient, curvature, gram, bent = at
            move, gain = jax.vmap(_step)(theta, gradient, curvature + bent, gram, low, high, damping, sizes(at))
            small = ~(gain > GAIN_TOLERANCE * sizes(at) + GAIN_ABSOLUTE * weights)
            return count + 1, theta, at, damping, small | (damping >= DAMPING_MAX), jnp.clip(theta + move, low, high)

        # The first trial is the start itself, so that the derivatives are compiled once.
        count, size = theta.shape
        nowhere = (jnp.full(count, jnp.inf), jnp.zeros((count, size)), *(jnp.zeros((count, size, size)),) * 3)
        state: _State = (0, theta, nowhere, damping, jnp.zeros(count, bool), theta)
        state = jax.lax.while_loop(lambda s: (s[0] < STEPS_PER_CALL) & ~s[4].all(), step, state)
        _, theta, at, damping, done, _ = state
        objective, gradient, _, gram, _ = at
        gradient = jnp.where(jax.vmap(_blocked)(theta, gradient, low, high, sizes(at)), 0.0, gradient)
        lengths = jnp.sqrt(jnp.diagonal(gram, axis1=1, axis2=2))
        residual = jnp.sqrt(weights if estimator.estimates_scale else 2 * objective)
        cosine = jnp.abs(gradient) / jnp.maximum(lengths * residual[:, None], 1e-300)
        return theta, objective, cosine.max(axis=1), damping, done

    return advance


@functools.lru_cache(maxsize=256)
def _exact_objective(law: Law, estimator: Quantile) -> Callable[..., Any]:
    """Compiled: theta and the objective with no rounding of the kink."""
    exact = replace(estimator, core=1e-300)

    @jax.jit
    def objective(
        theta: jax.Array, low: jax.Array, high: jax.Array, *, log_y: jax.Array, weight: jax.Array, columns: Any
    ) -> tuple[jax.Array, jax.Array]:
        def one(theta: jax.Array, log_y: jax.Array, weight: jax.Array) -> jax.Array:
            return weight @ exact.loss(residual_of(law, exact, theta, log_y, columns))

        return theta, jax.vmap(one)(theta, log_y, weight)

    return objective


@functools.lru_cache(maxsize=256)
def _vertex(law: Law, estimator: Quantile) -> Callable[..., Any]:
    """Compiled: Newton on the residuals nearest to zero, one per constant; theta and its exact objective.

    A kinked loss has its optima where as many residuals vanish as there are constants (Koenker & Bassett 1978).
    """
    exact = replace(estimator, core=1e-300)

    @jax.jit
    def vertex(
        theta: jax.Array, low: jax.Array, high: jax.Array, *, log_y: jax.Array, weight: jax.Array, columns: Any
    ) -> tuple[jax.Array, jax.Array]:
        def one(
            theta: jax.Array, low: jax.Array, high: jax.Array, log_y: jax.Array, weight: jax.Array
        ) -> tuple[jax.Array, jax.Array]:
            def residual(at: jax.Array) -> jax.Array:
                return residual_of(law, exact, at, log_y, columns)

            free = (theta > low) & (theta < high)
            distance = jnp.where(weight > 0, jnp.abs(residual(theta)), jnp.inf)
            nearest = jnp.argsort(distance)[: len(theta)]
            # With some constants on their bounds only as many residuals vanish as are free; the rest keep still.
            used = jnp.arange(len(theta)) < free.sum()
            order = jnp.argsort(~free)

            def newton(_: int, at: jax.Array) -> jax.Array:
                slope = jax.jacfwd(residual)(at)[nearest][:, order]
                slope = jnp.where(used[:, None] & used[None, :], slope, jnp.eye(len(theta)))
                step = jnp.linalg.solve(slope, jnp.where(used, residual(at)[nearest], 0.0))
                return at.at[order].add(-jnp.where(used, step, 0.0))

            at = jnp.clip(jax.lax.fori_loop(0, 4, newton, theta), low, high)
            return at, weight @ exact.loss(residual(at))

        return jax.vmap(one)(theta, low, high, log_y, weight)

    return vertex
