"""Simulated studies with trunk effects, and how often each kind of interval holds what was planted."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
from scipy import stats

from scaling_fits.compute_optimal.compute import SweepColumns
from scaling_fits.compute_optimal.isoflop import isoflop
from scaling_fits.contrasts.contrasts import summarise_differences
from scaling_fits.contrasts.slopes import slope_in_size
from scaling_fits.estimation.estimators import Estimator
from scaling_fits.estimation.observations import Observations, observe
from scaling_fits.estimation.problem import Problem, log_predictions
from scaling_fits.estimation.solver import minimise
from scaling_fits.laws.law import Law
from scaling_fits.laws.size_and_data import CHINCHILLA
from scaling_fits.uncertainty.bootstrap import Bootstrap, draw
from scaling_fits.uncertainty.profile_likelihood import references

TRUTH = {"E": 0.30, "A": 12.0, "B": 25.0, "alpha": 0.35, "beta": 0.45}
ROWS = 6  # cool-downs of a trunk
SIZES, RECORDS = (1e5, 1e8), (1e4, 3e5)
NOISE_SD = 0.0104  # of ln L, trunks and rows together: that of trunks at .01 and rows at .003
BEYOND = {"N": 1e9, "D": 1e6}  # extrapolation
BUDGETS = np.geomspace(3e15, 6e15, 6)
CURVATURE, OPTIMUM = 0.05, 2e6  # of the planted parabolas, and N* at 3e15 FLOPs


@dataclass(frozen=True)
class Cell:
    """`trunks` of six rows each, with `correlation` of ln L within a trunk."""

    trunks: int
    correlation: float

    @property
    def sizes(self) -> np.ndarray:
        """(trunks,) parameters: up to eight sizes, then several seeds of each."""
        distinct = np.geomspace(*SIZES, min(self.trunks, 8))
        return np.tile(distinct, self.trunks // len(distinct))

    def noise(self, studies: int, rng: np.random.Generator) -> np.ndarray:
        """(studies, trunks, 6) of ln L."""
        shared, own = (NOISE_SD * math.sqrt(share) for share in (self.correlation, 1 - self.correlation))
        return rng.normal(0, shared, (studies, self.trunks, 1)) + rng.normal(0, own, (studies, self.trunks, ROWS))


@dataclass(frozen=True)
class Tally:
    """How many of the `printed` intervals of `studies` held the truth."""

    interval: str
    quantity: str
    estimator: str
    trunks: int
    correlation: float
    studies: int
    printed: int
    held: int

    def row(self) -> dict[str, object]:
        """With coverage and its Monte-Carlo standard error, NaN where nothing was printed."""
        share = self.held / self.printed if self.printed else math.nan
        error = math.sqrt(share * (1 - share) / self.printed) if self.printed else math.nan
        return {**self.__dict__, "coverage": share, "error": error}


def law_table(cell: Cell) -> pd.DataFrame:
    """Chinchilla's law without noise: every trunk is one size, cooled down at six numbers of records."""
    n, d = np.repeat(cell.sizes, ROWS), np.tile(np.geomspace(*RECORDS, ROWS), cell.trunks)
    loss = TRUTH["E"] + TRUTH["A"] / n ** TRUTH["alpha"] + TRUTH["B"] / d ** TRUTH["beta"]
    trunk = np.repeat(np.arange(cell.trunks), ROWS)
    names = {"run_id": [f"run{i:03d}" for i in range(len(n))], "trunk_id": [f"trunk{i:02d}" for i in trunk]}
    return pd.DataFrame({**names, "n_params": n, "records_seen": d, "loss": loss})


def profiles(cell: Cell, estimator: Estimator, studies: int, seed: int) -> Iterator[Tally]:
    """Profile intervals of the constants.

    One holds the truth exactly when holding the constant there raises the objective by no more than the threshold.
    """
    problem, cluster_N, log_y_SxN, truth_P = _published(cell, estimator, studies, seed)
    start = np.tile(truth_P, (studies, 1))
    best = minimise(problem, start, log_y_SxN=log_y_SxN)
    limit_SxP = np.empty((studies, len(TRUTH)))
    for s, (log_y_N, theta_P) in enumerate(zip(log_y_SxN, best.theta_SxP)):
        unit_P, dof_P = references(replace(problem, log_y_N=log_y_N), theta_P, cluster_N)
        limit_SxP[s] = unit_P * stats.f.ppf(0.95, 1, dof_P)
    for p, name in enumerate(CHINCHILLA.names):
        low, high = (bound.copy() for bound in problem.bounds)
        low[p] = high[p] = truth_P[p]
        tries = [minimise(problem, at, box=(low, high), log_y_SxN=log_y_SxN) for at in (best.theta_SxP, start)]
        rise_S = np.minimum(*(ends.objective_S for ends in tries)) - best.objective_S
        held = int((rise_S <= limit_SxP[:, p]).sum())
        yield _tally("profile", name, cell, studies, studies, held, estimator)


def bootstraps(cell: Cell, estimator: Estimator, studies: int, replicates: int, seed: int) -> Iterator[Tally]:
    """Percentile intervals of the constants, of predictions inside and beyond the data, and of the best allocation."""
    data = observe(CHINCHILLA, law_table(cell), estimator)
    log_y_SxN = data.problem.log_y_N + cell.noise(studies, np.random.default_rng(seed)).reshape(studies, -1)
    truth_P = _working(CHINCHILLA, data.references)
    best = minimise(data.problem, np.tile(truth_P, (studies, 1)), log_y_SxN=log_y_SxN).theta_SxP
    truth = _asked(data, truth_P[None])
    held, printed = dict.fromkeys(truth, 0), 0
    for s in range(studies):
        one = replace(data, problem=replace(data.problem, log_y_N=log_y_SxN[s]))
        drawn = draw(one, best[s : s + 1], best[s : s + 1], Bootstrap(replicates, seed=s))
        if drawn.reason is not None:
            continue
        printed += 1
        for name, values_R in _asked(data, drawn.theta_RxP).items():
            low, high = np.quantile(values_R, [0.025, 0.975])
            held[name] += int(low <= truth[name][0] <= high)
    for name, count in held.items():
        yield _tally("bootstrap", name, cell, studies, printed, count, estimator)


def slopes(cell: Cell, studies: int, seed: int) -> Iterator[Tally]:
    """Slopes in ln N of paired differences: cluster-robust, and the mixed model beside it."""
    noise_SxTxR = cell.noise(studies, np.random.default_rng(seed))
    n, d = np.repeat(cell.sizes, ROWS), np.tile(np.geomspace(*RECORDS, ROWS), cell.trunks)
    trunk = np.repeat(np.arange(cell.trunks), ROWS)
    pairs = pd.DataFrame({"n_params": n, "records_seen": d, "trunk_a": trunk, "trunk_b": [f"b{t}" for t in trunk]})
    held, printed = np.zeros(2, int), np.zeros(2, int)
    for noise_TxR in noise_SxTxR:
        slope = slope_in_size("P1", "", pairs.assign(difference=noise_TxR.ravel()))
        for i, found in enumerate((slope.interval, slope.mixed and slope.mixed.interval)):
            printed[i] += found is not None
            held[i] += found is not None and found[0] <= 0 <= found[1]
    for i, name in enumerate(("cluster-robust", "mixed model")):
        yield _tally("slope of a contrast", name, cell, studies, int(printed[i]), int(held[i]))


def differences(cell: Cell, studies: int, seed: int) -> Iterator[Tally]:
    """Mean difference of a size and budget: six pool draws beside each reference run, with its share of the noise."""
    base = pd.DataFrame({"trunk_b": np.repeat(np.arange(cell.trunks), ROWS), "n_params": 1e6, "records_seen": 1e5})
    base["trunk_a"] = [f"a{i}" for i in range(len(base))]
    held = 0
    for noise_TxR in cell.noise(studies, np.random.default_rng(seed)):
        line = summarise_differences(base.assign(difference=noise_TxR.ravel())).iloc[0]
        held += line["low"] <= 0 <= line["high"]
    yield _tally("mean difference", "shared reference runs", cell, studies, studies, int(held))


def isoflops(cell: Cell, studies: int, seed: int) -> Iterator[Tally]:
    """Best sizes at six budgets whose losses are parabolas in ln N, and their exponent; every trunk is one size."""
    n = np.repeat(np.geomspace(3e5, 2e7, min(cell.trunks, 8)), cell.trunks // min(cell.trunks, 8))
    best_B = OPTIMUM * (BUDGETS / BUDGETS[0]) ** 0.5
    n_TxB, budget_TxB = np.meshgrid(n, BUDGETS, indexing="ij")
    loss_TxB = 0.5 * (1 + CURVATURE * np.log(n_TxB / best_B) ** 2)
    held, printed = np.zeros(2, int), np.zeros(2, int)
    for noise_TxB in cell.noise(studies, np.random.default_rng(seed)):
        columns = {"n_params": n_TxB, "records_seen": budget_TxB / (6 * n_TxB), "loss": loss_TxB * np.exp(noise_TxB)}
        table = pd.DataFrame({name: values.ravel() for name, values in columns.items()})
        table = table.assign(trunk_id=np.repeat(np.arange(cell.trunks), ROWS))
        found = isoflop(table, SweepColumns("n_params", "records_seen", cluster="trunk_id"), tolerance=0.05)
        for optimum, truth in zip(found.optima, best_B):
            if optimum.n_interval is not None:
                low, high = optimum.n_interval
                printed[0] += 1
                held[0] += (low is None or low <= truth) and (high is None or truth <= high)
        if found.size_law is not None and found.size_law.interval is not None:
            printed[1] += 1
            held[1] += found.size_law.interval[0] <= 0.5 <= found.size_law.interval[1]
    yield _tally("isoflop", "N* of a budget", cell, studies * len(BUDGETS), int(printed[0]), int(held[0]))
    yield _tally("isoflop", "exponent of N*", cell, studies, int(printed[1]), int(held[1]))


def _tally(
    interval: str, quantity: str, cell: Cell, studies: int, printed: int, held: int, estimator: Estimator | None = None
) -> Tally:
    name = "" if estimator is None else type(estimator).__name__
    return Tally(interval, quantity, name, cell.trunks, cell.correlation, studies, printed, held)


def _working(law: Law, units: dict[str, float]) -> np.ndarray:
    return law.working(np.array([[TRUTH[name] for name in law.names]]), units)[0]


def _published(
    cell: Cell, estimator: Estimator, studies: int, seed: int
) -> tuple[Problem, np.ndarray, np.ndarray, np.ndarray]:
    """The problem in units in which a coordinate is a published constant, clusters, responses, and the true point."""
    data = observe(CHINCHILLA, law_table(cell), estimator)
    zero = dict.fromkeys(data.references, 0.0)
    powers = [bool(parameter.units) for parameter in CHINCHILLA.parameters]
    box = tuple(np.where(powers, end, bound) for end, bound in zip((-1e4, 1e4), CHINCHILLA.bounds))
    problem = replace(data.problem, x=CHINCHILLA.prepare(data.values, zero), log_unit=0.0, box=box)
    exact_N = data.problem.log_y_N + data.references["L"]
    noise_SxN = cell.noise(studies, np.random.default_rng(seed)).reshape(studies, -1)
    return problem, data.cluster_N, exact_N + noise_SxN, _working(CHINCHILLA, zero)


def _asked(data: Observations, theta_SxP: np.ndarray) -> dict[str, np.ndarray]:
    """(S,) of every constant, of predictions, of N* at 1e16 FLOPs and of its exponent."""
    law = CHINCHILLA
    constants = dict(zip(law.names, law.published(theta_SxP, data.references).T))
    points = {"N": np.array([SIZES[1], BEYOND["N"]]), "D": np.array([RECORDS[1], BEYOND["D"]])}
    log_loss_Sx2 = log_predictions(law, theta_SxP, law.prepare(points, data.references)) + data.references["L"]
    alpha, beta = constants["alpha"], constants["beta"]
    exponent = beta / (alpha + beta)
    log_g = np.log(alpha * constants["A"] / (beta * constants["B"])) / (alpha + beta)
    optimum = log_g + exponent * math.log(1e16 / 6)
    inside, beyond = log_loss_Sx2.T
    return {**constants, "L inside": inside, "L beyond": beyond, "exponent of N*": exponent, "ln N*": optimum}
