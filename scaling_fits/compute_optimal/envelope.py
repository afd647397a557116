"""Approach 1: compute-optimal size and data off the lower envelope of training curves."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pandas as pd
from scipy import optimize

from scaling_fits.compute_optimal.allocation import (
    BUDGETS_MIN,
    Allocation,
    Optimum,
    PowerLaw,
    power_law_from_draws,
)
from scaling_fits.compute_optimal.compute import SweepColumns, with_compute
from scaling_fits.tables.run_table import RunTable, read_runs, require_columns

ENVELOPE_POINTS = 1500  # as in Hoffmann et al. 2022, section 3.1


def lower_envelope(
    curves: RunTable | pd.DataFrame | Path | str,
    columns: SweepColumns,
    *,
    replicates: int = 1000,
    seed: int = 0,
    level: float = 0.95,
) -> Allocation:
    """Approach 1 (Hoffmann et al. 2022, section 3.1): which size lies lowest at each of 1,500 budgets, and its line.

    `curves` has one row per point of a training curve; clusters play no part. Curves are made monotone (isotonic in ln
    loss, so that noise does not win) and interpolated in logs. A budget counts only where a smaller and a larger size
    than the lowest reach it; elsewhere the minimum is at the edge of the grid. The line is least squares over those
    budgets, its interval a bootstrap over runs. Runs whose learning rate was not yet decayed lie above the loss they
    could have had, long ones most.
    """
    n, d, loss, run = columns.n, columns.d, columns.loss, columns.run
    # A column named "" does not exist: points of one run are many rows.
    table = curves if isinstance(curves, RunTable) else read_runs(curves, response=loss, positive=[n, d], run="")
    require_columns(table.frame, [run, n, d, loss], table.source)
    rows, name = with_compute(table.rows, columns, table.source)
    names = sorted(rows[run].astype(str).unique())
    by_run = [rows[rows[run].astype(str) == one].sort_values("_c", kind="stable") for one in names]
    for one, curve in zip(names, by_run):
        if curve[n].nunique() != 1:
            raise ValueError(f"{table.source}: run {one!r} has {curve[n].nunique()} values of {n!r}; a curve has one")
    grid_G = np.linspace(np.log(rows["_c"].min()), np.log(rows["_c"].max()), ENVELOPE_POINTS)
    size_R = np.array([curve[n].iloc[0] for curve in by_run], dtype=float)
    log_loss_RxG = np.stack([_on_grid(curve, grid_G, loss, monotone=True) for curve in by_run])
    log_d_RxG = np.stack([_on_grid(curve, grid_G, d, monotone=False) for curve in by_run])
    lowest_G, inside_G, _ = _lowest(log_loss_RxG, size_R)
    lines = _lines(grid_G, size_R, log_d_RxG, lowest_G, inside_G)
    laws: tuple[PowerLaw | None, ...] = (None, None)
    reason = None
    if lines is None:
        sizes = np.unique(size_R[lowest_G[inside_G]]).size
        reason = f"{sizes} sizes are lowest between a smaller and a larger one, {BUDGETS_MIN} needed; add sizes"
    else:
        draws = _envelope_draws(grid_G, size_R, log_loss_RxG, log_d_RxG, replicates, seed)
        count = np.unique(size_R[lowest_G[inside_G]]).size
        laws = tuple(
            power_law_from_draws(quantity, lines[:, q], draws[:, :, q], float(grid_G.mean()), count, level)
            for q, quantity in enumerate(("N*", "D*"))
        )
    valid = "" if lines is None else f"; {len(draws)} of {replicates} resamples of runs had enough sizes"
    return Allocation(
        "Approach 1 (Hoffmann et al. 2022, section 3.1): lower envelope of training curves",
        {"source": table.source, "N": f"column {n!r}", "D": f"column {d!r}", "C": name, "loss": f"column {loss!r}"},
        _segments(grid_G, size_R, log_d_RxG, log_loss_RxG),
        laws[0],
        laws[1],
        level,
        table.excluded,
        (f"N* takes only the sizes that were trained; intervals resample the {len(names)} runs{valid}",),
        reason,
    )


def _on_grid(curve: pd.DataFrame, grid_G: np.ndarray, column: str, *, monotone: bool) -> np.ndarray:
    """ln column (G,) on a grid of ln C, NaN outside the curve."""
    y = np.log(curve[column].to_numpy(dtype=float))
    if monotone:
        y = optimize.isotonic_regression(y, increasing=False).x
    return np.interp(grid_G, np.log(curve["_c"].to_numpy()), y, left=np.nan, right=np.nan)


def _lowest(log_loss_RxG: np.ndarray, size_R: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Lowest run per budget (G,), whether a smaller and a larger size reach it, and whether any run does."""
    there_RxG = np.isfinite(log_loss_RxG)
    lowest_G = np.argmin(np.where(there_RxG, log_loss_RxG, np.inf), axis=0)
    size_RxG = np.where(there_RxG, size_R[:, None], np.nan)
    best_G = size_R[lowest_G]
    inside_G = (size_RxG < best_G).any(axis=0) & (size_RxG > best_G).any(axis=0)
    return lowest_G, inside_G, there_RxG.any(axis=0)


def _lines(
    grid_G: np.ndarray, size_R: np.ndarray, log_d_RxG: np.ndarray, lowest_G: np.ndarray, inside_G: np.ndarray
) -> np.ndarray | None:
    """(2, 2): value at the middle of the grid and slope, of ln N* and ln D*; None with fewer than 3 sizes."""
    at = np.flatnonzero(inside_G)
    if np.unique(size_R[lowest_G[at]]).size < BUDGETS_MIN:
        return None
    both = np.stack([np.log(size_R[lowest_G[at]]), log_d_RxG[lowest_G[at], at]], axis=1)
    return np.polyfit(grid_G[at] - grid_G.mean(), both, 1)[::-1]


def _envelope_draws(
    grid_G: np.ndarray, size_R: np.ndarray, log_loss_RxG: np.ndarray, log_d_RxG: np.ndarray, replicates: int, seed: int
) -> np.ndarray:
    """(S, 2, 2) of lines from resampled runs, resamples with too few sizes left out."""
    generator = np.random.default_rng(seed)
    lines = []
    for _ in range(replicates):
        drawn = np.unique(generator.integers(len(size_R), size=len(size_R)))
        lowest_G, inside_G, _ = _lowest(log_loss_RxG[drawn], size_R[drawn])
        lines.append(_lines(grid_G, size_R[drawn], log_d_RxG[drawn], lowest_G, inside_G))
    return np.array([line for line in lines if line is not None]).reshape(-1, 2, 2)


def _segments(
    grid_G: np.ndarray, size_R: np.ndarray, log_d_RxG: np.ndarray, log_loss_RxG: np.ndarray
) -> tuple[Optimum, ...]:
    """One optimum per size of the envelope, at the middle of the budgets at which it is lowest."""
    lowest_G, inside_G, there_G = _lowest(log_loss_RxG, size_R)
    found = []
    for size in np.unique(size_R[lowest_G[there_G]]):
        mine_G = there_G & (size_R[lowest_G] == size)
        at = np.flatnonzero(mine_G & inside_G)
        if not len(at):
            middle = float(np.exp(grid_G[mine_G].mean()))
            reason = f"size {size:.4g} is the lowest, but no smaller or no larger size reaches its budgets"
            found.append(Optimum(middle, reason=reason))
            continue
        middle = at[len(at) // 2]
        run, reach = lowest_G[middle], (float(np.exp(grid_G[at[0]])), float(np.exp(grid_G[at[-1]])))
        log_d, log_loss = float(log_d_RxG[run, middle]), float(log_loss_RxG[run, middle])
        budget = float(np.exp(grid_G[middle]))
        found.append(Optimum(budget, float(size), d=math.exp(log_d), loss=math.exp(log_loss), budget_range=reach))
    return tuple(sorted(found, key=lambda optimum: optimum.budget))
