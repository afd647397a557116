"""Ways to fit a law, each `run(starts) -> (seconds, objectives)`: ours, SciPy loops, and the `chinchilla` package.

The objective is the same for all: the summed Huber(1e-3) loss of ln residuals at the Chinchilla runs, or at simulated
data for the other forms. SciPy's loops are our own code of what notebooks do.
"""

from __future__ import annotations

import contextlib
import io
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
from scipy.optimize import minimize
from scipy.special import logsumexp

from scaling_fits.estimation.estimators import Huber
from scaling_fits.estimation.problem import Problem, float64, objective_function
from scaling_fits.estimation.solver import minimise
from scaling_fits.fit import Fit, fit
from scaling_fits.laws.size_and_data import CHINCHILLA
from scaling_fits.uncertainty.bootstrap import Bootstrap, refit

DELTA = 1e-3


@dataclass(frozen=True)
class Outcome:
    """Wall seconds of all starts, and the objective that each reached (NaN where it failed)."""

    seconds: float
    objectives: np.ndarray


def chinchilla_data(folder: Path) -> pd.DataFrame:
    """The 240 digitised Chinchilla runs with N, D and loss."""
    frame = pd.read_csv(folder / "chinchilla_epoch" / "svg_extracted_data.csv").iloc[5:]
    n = frame["Model Size"]
    return pd.DataFrame({"N": n, "D": frame["Training FLOP"] / (6 * n), "loss": frame["loss"]})


def canonical_grid(count: int) -> np.ndarray:
    """`count` of Hoffmann's 4,500 starts (a, b, e, alpha, beta), evenly drawn."""
    axes = np.arange(0, 30, 5.0), np.arange(0, 30, 5.0), np.arange(-1, 1.5, 0.5), np.arange(0, 2.5, 0.5)
    grid = np.stack(np.meshgrid(*axes, axes[3], indexing="ij"), -1).reshape(-1, 5)
    return grid[np.random.default_rng(0).choice(len(grid), count, replace=False)]


def quick_fit(data: pd.DataFrame) -> Fit:
    """Our fit without bootstrap or profiles: initial points, starts, optima, certificate."""
    columns = {"N": "N", "D": "D"}
    return fit(CHINCHILLA, data, columns=columns, estimator=Huber(DELTA), bootstrap=Bootstrap(0), profiles=False)


def bootstrap_seconds(data: pd.DataFrame, replicates: int) -> tuple[float, float]:
    """Seconds of the first call, compilation included, and of a second one with other draws."""
    found = quick_fit(data)
    seconds = []
    for seed in (0, 1):
        rows = len(data)
        weight = np.random.default_rng(seed).multinomial(rows, np.full(rows, 1 / rows), size=replicates).astype(float)
        start = time.perf_counter()
        refit(found.observations.problem, found.theta_KxP, found.initial_SxP, weight)
        seconds.append(time.perf_counter() - start)
    return seconds[0], seconds[1]


def numpy_objective(data: pd.DataFrame) -> tuple[Callable[[np.ndarray], float], Callable[[np.ndarray], np.ndarray]]:
    """Hoffmann's objective in (a, b, e, alpha, beta) and its analytic gradient, in NumPy."""
    log_n, log_d, log_l = (np.log(data[name].to_numpy()) for name in ("N", "D", "loss"))

    def parts(p: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        a, b, e, alpha, beta = p
        terms = np.stack([a - alpha * log_n, b - beta * log_d, np.full_like(log_n, e)])
        return terms, logsumexp(terms, axis=0) - log_l

    def value(p: np.ndarray) -> float:
        size = np.abs(parts(p)[1])
        inner = np.minimum(size, DELTA)
        return float((inner * (size - inner / 2)).sum())

    def gradient(p: np.ndarray) -> np.ndarray:
        terms, residual = parts(p)
        share = np.exp(terms - (residual + log_l))
        slope = np.clip(residual, -DELTA, DELTA)
        a, b, e = (share * slope).sum(axis=1)
        return np.array([a, b, e, -(share[0] * slope) @ log_n, -(share[1] * slope) @ log_d])

    return value, gradient


def scipy_numeric(data: pd.DataFrame, starts: np.ndarray) -> Outcome:
    """What notebooks do: L-BFGS-B, differences for gradients, default tolerances."""
    value, _ = numpy_objective(data)
    return _loop(lambda p: minimize(value, p, method="L-BFGS-B").fun, starts)


def scipy_analytic(data: pd.DataFrame, starts: np.ndarray) -> Outcome:
    """The same with the analytic gradient and tight tolerances."""
    value, gradient = numpy_objective(data)
    options = {"ftol": 1e-15, "gtol": 1e-12, "maxiter": 3000}
    return _loop(lambda p: minimize(value, p, jac=gradient, method="L-BFGS-B", options=options).fun, starts)


def chinchilla_package(data: pd.DataFrame) -> tuple[float, int, float]:
    """`chinchilla` 0.2.0 with its `log_huber` at our delta, single process: seconds, starts, objective of its best.

    One call over 108 points of Hoffmann's grid: it scales its search by the grid's extent and keeps the best end only.
    """
    from chinchilla import Chinchilla
    from chinchilla._metrics import log_huber

    axes = {
        "e": [0.0, 1.0],
        "a": [5.0, 10.0, 15.0],
        "b": [5.0, 10.0, 20.0],
        "alpha": [0.0, 0.5, 1.0],
        "beta": [0.5, 1.0],
    }
    starts = int(np.prod([len(axis) for axis in axes.values()]))
    value, _ = numpy_objective(data)
    with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stdout(io.StringIO()):
        one = Chinchilla(folder, axes, {}, loss_fn=lambda y, p: log_huber(y, p, delta=DELTA), log_level=50)
        one.database.df = data.assign(C=6 * data["N"] * data["D"])[["C", "N", "D", "loss"]].reset_index(drop=True)
        begin = time.perf_counter()
        with contextlib.redirect_stderr(io.StringIO()):
            one.fit(parallel=False)
        seconds = time.perf_counter() - begin
        at = one.params
    point = [np.log(at["A"]), np.log(at["B"]), np.log(at["E"]), at["alpha"], at["beta"]]
    return seconds, starts, value(np.array(point, dtype=float))


def ours(problem: Problem, starts: np.ndarray) -> Outcome:
    """Our solver from the same starts, in working coordinates."""
    begin = time.perf_counter()
    ends = minimise(problem, starts)
    return Outcome(time.perf_counter() - begin, ends.objective_S)


def scipy_on_jax(problem: Problem, starts: np.ndarray) -> Outcome:
    """Any form by L-BFGS-B with exact compiled gradients in float64, bounds and tight tolerances."""
    with float64():
        objective = objective_function(problem)
        both = jax.jit(jax.value_and_grad(objective))
        both(jnp.asarray(starts[0]))
        bounds = list(zip(*problem.bounds))
        options = {"ftol": 1e-15, "gtol": 1e-12, "maxiter": 3000}

        def value(p: np.ndarray) -> tuple[float, np.ndarray]:
            at, slope = both(jnp.asarray(p))
            return float(at), np.asarray(slope)

        return _loop(
            lambda p: minimize(value, p, jac=True, method="L-BFGS-B", bounds=bounds, options=options).fun, starts
        )


def _loop(one: Callable[[np.ndarray], float], starts: np.ndarray) -> Outcome:
    begin = time.perf_counter()
    with np.errstate(all="ignore"):
        objectives = [one(start) for start in starts]
    return Outcome(time.perf_counter() - begin, np.array(objectives, dtype=float))
