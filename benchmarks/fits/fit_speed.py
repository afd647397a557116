"""Runs the contenders of `fit_contenders`, writes `fits.csv`, `forms.csv`, `fits.json`, and prints what they say."""

from __future__ import annotations

import importlib.util
import resource
import time
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from rich.console import Console
from rich.table import Table

from benchmarks.fits.fit_contenders import (
    bootstrap_seconds,
    canonical_grid,
    chinchilla_data,
    chinchilla_package,
    ours,
    quick_fit,
    scipy_analytic,
    scipy_numeric,
    scipy_on_jax,
)
from benchmarks.harness import machine
from benchmarks.harness.writing import write_csv, write_json
from scaling_fits.estimation.estimators import Huber, LeastSquares
from scaling_fits.estimation.multistart import Search, initial_points, spread_starts
from scaling_fits.estimation.observations import observe
from scaling_fits.estimation.problem import Problem, log_predictions
from scaling_fits.fit import fit
from scaling_fits.laws.data_mix import COMMON_RATE, D_CPT, FLOOR_OF_MIX, RATE_OF_SIZE, SATURATING, joint_mixture
from scaling_fits.laws.law import Law
from scaling_fits.laws.size_and_data import CHINCHILLA, COUPLED, FARSEER, KAPLAN, TIED, broken_power_law, power_law
from scaling_fits.uncertainty.bootstrap import Bootstrap, draw

GRID_STARTS = 4500
NEAR, VERY_NEAR = 1e-6, 1e-8


def run(
    folder: Path, out: Path, every_core: dict[str, Any], bootstraps: int, mixture_bootstraps: int, *, quick: bool
) -> None:
    """The whole comparison; `folder` holds the public data, `out` receives the tables."""
    before = machine.describe()
    data = chinchilla_data(folder)
    peers = _peers(data, quick)
    one_core = bootstrap_seconds(data, bootstraps)
    forms = _forms(quick)
    mixture = _mixture(20 if quick else mixture_bootstraps)
    notes = [] if before["load_average"][0] < 1.5 else ["the machine was not quiet: see load_average"]
    if not importlib.util.find_spec("chinchilla"):
        notes.append("the chinchilla package is not installed and was left out")
    notes.append("vpnls was not installable from the registry and was not run")
    memory_gib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    bootstrap = {"replicates": bootstraps, "one_core_s": one_core[1], "first_call_s": one_core[0], **every_core}
    tree = {"machine": before, "bootstrap": bootstrap, "mixture": mixture, "memory_gib": memory_gib, "notes": notes}
    write_json(tree, out / "fits.json")
    write_csv(peers, out / "fits.csv")
    write_csv(forms, out / "forms.csv")
    _show(peers, "Chinchilla's law, 240 runs, the same starts")
    _show(forms, "Every form: a certified fit from the same starts, SciPy L-BFGS-B with compiled exact gradients")
    Console(width=140).print(bootstrap, mixture, f"peak memory {memory_gib:.2f} GiB", *notes)


def _peers(data: pd.DataFrame, quick: bool) -> pd.DataFrame:
    """One row per contender on Chinchilla's law: seconds per start, how near, and what a certified fit would cost."""
    found = quick_fit(data)
    problem, best = found.observations.problem, found.objective
    grid = canonical_grid(60 if quick else 450)
    references = found.observations.references
    constants = np.column_stack([np.exp(grid[:, [2, 0, 1]]), grid[:, 3:]])
    working = CHINCHILLA.working(constants, references)
    few = grid[:10] if quick else grid[:60]
    ours(problem, working)  # compiled before it is timed
    rows = [
        ("ours", ours(problem, working)),
        ("SciPy, analytic gradient, tight", scipy_analytic(data, grid)),
        ("SciPy, numeric gradient, defaults", scipy_numeric(data, few)),
    ]
    begin = time.perf_counter()
    quick_fit(data)
    certified_s = time.perf_counter() - begin
    table = []
    for name, outcome in rows:
        excess = outcome.objectives / best - 1
        per_start = outcome.seconds / len(outcome.objectives)
        # Peers have no certificate but the grid: what stands in for one is every start of it.
        whole = certified_s if name == "ours" else per_start * GRID_STARTS
        table.append(
            {
                "contender": name,
                "starts": len(outcome.objectives),
                "ms_per_start": 1e3 * per_start,
                "best_excess": float(np.nanmin(excess)),
                "share_within_1e-8": float(np.mean(np.abs(excess) < VERY_NEAR)),
                "share_within_1e-6": float(np.mean(np.abs(excess) < NEAR)),
                "seconds_per_certified_fit": whole,
                "ratio": whole / certified_s,
            }
        )
    if importlib.util.find_spec("chinchilla"):
        seconds, starts, objective = chinchilla_package(data)
        whole = seconds / starts * GRID_STARTS
        table.append(
            {
                "contender": "chinchilla 0.2.0, log-Huber",
                "starts": starts,
                "ms_per_start": 1e3 * seconds / starts,
                "best_excess": objective / best - 1,
                "seconds_per_certified_fit": whole,
                "ratio": whole / certified_s,
            }
        )
    return pd.DataFrame(table)


def _forms(quick: bool) -> pd.DataFrame:
    rows = []
    cases: list[tuple[Law, pd.DataFrame, dict[str, str]]] = [
        (form, *_simulated(form))
        for form in (
            power_law("N"),
            TIED,
            CHINCHILLA,
            KAPLAN,
            COUPLED,
            broken_power_law("D"),
            FARSEER,
            D_CPT,
            COMMON_RATE,
            RATE_OF_SIZE,
            SATURATING,
            FLOOR_OF_MIX,
        )
    ]
    for form, table, columns in cases[:: 4 if quick else 1]:
        problem = observe(form, table, Huber(1e-3), columns=columns).problem
        starts = spread_starts(initial_points(problem), 256)
        begin = time.perf_counter()
        ours(problem, starts)
        first = time.perf_counter() - begin
        mine = ours(problem, starts)
        peer = scipy_on_jax(problem, starts[:: 32 if quick else 8])
        best = float(np.nanmin(mine.objectives))
        rows.append(
            {
                "form": form.name,
                "constants": len(form.parameters),
                "rows": len(table),
                "first_call_s": first,
                "ours_ms_per_start": 1e3 * mine.seconds / len(mine.objectives),
                "scipy_ms_per_start": 1e3 * peer.seconds / len(peer.objectives),
                "ratio": (peer.seconds / len(peer.objectives)) / (mine.seconds / len(mine.objectives)),
                "ours_share_at_best": float(np.mean(mine.objectives <= best * (1 + VERY_NEAR))),
                "scipy_share_at_best": float(np.mean(peer.objectives <= best * (1 + VERY_NEAR))),
                "scipy_best_excess": float(np.nanmin(peer.objectives) / best - 1),
            }
        )
    return pd.DataFrame(rows)


def _mixture(replicates: int) -> dict[str, Any]:
    """A joint mixture law of 29 constants (six domains): certified fit and bootstrap."""
    form = joint_mixture(6)
    rng = np.random.default_rng(0)
    shares = rng.dirichlet(np.ones(6), size=60)
    grid = [(n, d, *h) for n in (1e8, 3e8, 1e9) for d in (2e9, 6e9, 2e10) for h in shares]
    table = pd.DataFrame(grid, columns=["N", "D", *(f"h_{i}" for i in range(1, 7))])
    domain = 1 / sum((0.5 + 0.4 * i) * table[f"h_{i}"] ** (0.3 + 0.05 * i) for i in range(1, 7))
    size = sum((15.0 + 2 * i) * table[f"h_{i}"] for i in range(1, 7)) ** 1.1
    data = sum((40.0 + 9 * i) * table[f"h_{i}"] for i in range(1, 7)) ** 1.2
    table["loss"] = 1.2 + domain + size / table["N"] ** 0.3 + data / table["D"] ** 0.33
    table["loss"] *= np.exp(rng.normal(0, 0.003, len(table)))
    begin = time.perf_counter()
    found = fit(
        form,
        table,
        columns={letter: letter for letter in form.letters},
        estimator=LeastSquares(),
        bootstrap=Bootstrap(0),
        profiles=False,
        search=Search(starts=64, allow_unconverged=True),
    )
    point = time.perf_counter() - begin
    draw(found.observations, found.theta_KxP, found.initial_SxP, Bootstrap(replicates))
    seconds = time.perf_counter() - begin
    return {
        "form": form.name,
        "constants": len(form.parameters),
        "rows": len(table),
        "replicates": replicates,
        "seconds": seconds,
        "point_s": point,
        "bootstrap_s": seconds - point,
        "share_of_starts_at_best": found.certificate.share_at_best,
        "stationarity": found.certificate.stationarity,
        "rmse_log": found.residual_log_sd,
    }


def _simulated(form: Law) -> tuple[pd.DataFrame, dict[str, str]]:
    """240 rows of the form at constants in the middle of its starts, with 1 % noise, and the columns' names."""
    rng = np.random.default_rng(1)
    rows = 240
    n, d = 10 ** rng.uniform(7, 9.5, rows), 10 ** rng.uniform(9, 11.5, rows)
    r = rng.choice([0.0, 0.1, 0.5, 0.9, 1.0], rows)
    real, pool = r * d, rng.choice([3e8, 3e9, 3e10], rows)
    values = {"N": n, "D": d, "R": real, "S": d - real, "U": np.where(real > 0, pool, 0.0), "r": r}
    values = {letter: values[letter] for letter in form.letters}
    references = form.references(values, np.ones(rows))
    x = form.prepare(values, references)
    theta = np.array([[0.5 * sum(parameter.start) for parameter in form.parameters]])
    for p, parameter in enumerate(form.parameters):
        if parameter.name in ("E", "c"):
            theta[0, p] = np.log(0.4)
    problem = Problem(form, Huber(1e-3), x, np.zeros(rows), np.ones(rows), np.ones(rows))
    loss = np.exp(log_predictions(problem.law, theta, x)[0] + rng.normal(0, 0.01, rows))
    return pd.DataFrame({**values, "loss": loss}), {letter: letter for letter in form.letters}


def _show(table: pd.DataFrame, title: str) -> None:
    shown = Table(title=title)
    for column in table:
        shown.add_column(column.replace("_", " "), justify="left" if table[column].dtype == object else "right")
    for row in table.itertuples(index=False):
        shown.add_row(*(f"{cell:.4g}" if isinstance(cell, float) else str(cell) for cell in row))
    Console(width=160).print(shown)
