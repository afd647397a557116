"""Checkpoints of learning curves and their schedules as a problem for the solver, and predictions of curves."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from scaling_fits.estimation.estimators import Estimator
from scaling_fits.estimation.problem import Problem, log_predictions
from scaling_fits.laws.law import Law
from scaling_fits.laws.learning_curve import AREA
from scaling_fits.laws.schedules import BLOCKS, Schedule, schedule_columns
from scaling_fits.tables.run_table import require_columns

IN_WARMUP = "in_warmup"


@dataclass(frozen=True, eq=False)
class CurveProblem:
    """A problem for the solver, and what it was made of.

    `references` are those of `Law.prepare`, `cluster_N` numbers the trunk of every row, `rows` holds the rows in the
    problem's order, `block_error` is that of `schedule_columns`, `left_out` counts the rows left out by reason.
    `warning` says which constants no schedule can tell, or is None.
    """

    problem: Problem
    references: dict[str, float]
    cluster_N: np.ndarray
    rows: pd.DataFrame
    block_error: float
    left_out: dict[str, int]
    warning: str | None


def curve_problem(
    law: Law,
    curves: pd.DataFrame,
    schedules: Mapping[Any, Schedule],
    estimator: Estimator,
    *,
    schedule: str = "trunk_id",
    batch_records: int | None = None,
    blocks: int = BLOCKS,
) -> CurveProblem:
    """`law` against the curves' checkpoints, each under its schedule; the checkpoints of a trunk are one cluster.

    `curves` has the columns trunk_id, loss, and `step` or, with `batch_records`, records_seen. `schedules` holds the
    schedule named in the column `schedule`: by trunk, or by run where cooled-down runs branch off a trunk. Checkpoints
    in the warm-up are left out and counted. Raises ValueError for missing columns or schedules, two rows at one step of
    a schedule, steps outside it, and losses that are not positive.
    """
    at = "step" if batch_records is None else "records_seen"
    require_columns(curves, ["trunk_id", "loss", at, schedule], "curve table")
    steps = curves[at] if batch_records is None else curves[at] / batch_records
    rows = curves.assign(step=steps).sort_values([schedule, "step"], kind="stable").reset_index(drop=True)
    missing = [name for name in rows[schedule].unique() if name not in schedules]
    if missing:
        raise ValueError(f"curve table: no schedule for {len(missing)} of column {schedule!r}, first {missing[0]!r}")
    bad = rows[~((rows["loss"] > 0) & np.isfinite(rows["loss"]))]
    if len(bad):
        where = f"trunk {bad['trunk_id'].iloc[0]!r}, step {bad['step'].iloc[0]:g}"
        raise ValueError(f"curve table: {len(bad)} losses are not positive numbers, first {where}; leave them out")
    if rows.duplicated([schedule, "step"]).any():
        twice = rows[rows.duplicated([schedule, "step"])].iloc[0]
        raise ValueError(f"curve table: two points of {twice[schedule]!r} at step {twice['step']:g}")
    warmup = rows[schedule].map(lambda name: schedules[name].warmup_steps)
    early = rows["step"] <= warmup
    rows = rows[~early].reset_index(drop=True)
    if rows.empty:
        raise ValueError("curve table: every checkpoint lies in the warm-up; the laws begin after it")
    groups = rows.groupby(schedule, sort=False)["step"]
    parts, errors = zip(*(schedule_columns(schedules[name], part.to_numpy(float), blocks) for name, part in groups))
    values = {name: np.concatenate([columns[name] for columns in parts]) for name in parts[0]}
    used = max(1, int((values["drop"] != 0).sum(axis=1).max()))
    values = {name: column if column.ndim == 1 else column[:, :used] for name, column in values.items()}
    loss = rows["loss"].to_numpy(dtype=np.float64)
    references = law.references(values, loss)
    x, one = law.prepare(values, references), np.ones(len(loss))
    problem = Problem(law, estimator, x, np.log(loss) - references["L"], one, one, references["L"])
    warning = None
    if not values["drop"].any() and law.special_case is AREA:
        names = [name for name in law.names if name not in AREA.names]
        warning = f"the learning rate never changes after the warm-up: {', '.join(names)} are not identified; fit AREA"
    left_out = {IN_WARMUP: int(early.sum())} if early.any() else {}
    trunk_N = pd.factorize(rows["trunk_id"], sort=True)[0]
    return CurveProblem(problem, references, trunk_N, rows, max(errors), left_out, warning)


def predict_curve(
    law: Law, constants_SxP: np.ndarray, schedule: Schedule, step_N: np.ndarray, blocks: int = BLOCKS
) -> np.ndarray:
    """Losses (S, N) after `step_N` updates of `schedule` under published constants (S, P), as `Law.published` gives.

    Raises ValueError as `schedule_columns` and `Law.working` do.
    """
    values, _ = schedule_columns(schedule, step_N, blocks)
    references = {"L": 0.0, "S1": float(np.log(values["S1"]).mean())}
    theta = law.working(np.atleast_2d(constants_SxP), references)
    return np.exp(log_predictions(law, theta, law.prepare(values, references)))
