"""What a run costs, and which columns of a table hold sizes, data, losses and compute of runs at several budgets."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pandas as pd

LOG_D_RANGE = (math.log(1e-9), math.log(1e40))


@dataclass(frozen=True)
class Compute:
    """Training FLOPs `flops(N, D)` (elementwise, rising in D) under the name that goes into every output."""

    name: str
    flops: Callable[[np.ndarray, np.ndarray], np.ndarray]

    def data(self, budget: float, n: np.ndarray) -> np.ndarray:
        """D (points,) that uses up `budget` at sizes `n` (points,); NaN where no D in 1e-9 … 1e40 does."""
        low, high = (np.full(n.shape, end) for end in LOG_D_RANGE)
        reachable = (self.flops(n, np.exp(low)) <= budget) & (self.flops(n, np.exp(high)) >= budget)
        for _ in range(70):
            middle = (low + high) / 2
            below = self.flops(n, np.exp(middle)) < budget
            low, high = np.where(below, middle, low), np.where(below, high, middle)
        return np.where(reachable, np.exp((low + high) / 2), np.nan)


SIX_N_D = Compute("6 N D", lambda n, d: 6.0 * n * d)


def flops_per_record(name: str, function: Callable[[np.ndarray], np.ndarray]) -> Compute:
    """C = function(N) × D for FLOPs per record (or token) that are not 6 N; `name` is what to call the function."""
    return Compute(f"{name}(N) D", lambda n, d: function(n) * d)


@dataclass(frozen=True)
class SweepColumns:
    """The columns of runs at several budgets: size `n`, data `d`, `loss`, and the compute `c`.

    `c` is a column, arithmetic of columns ("flops_per_record * records_seen"), or a `Compute` of N and D. `run` names
    the runs, and `cluster` groups dependent ones (None: each is its own).
    """

    n: str
    d: str
    c: str | Compute = SIX_N_D
    loss: str = "loss"
    run: str = "run_id"
    cluster: str | None = None

    @property
    def named(self) -> list[str]:
        """The columns that a table must have."""
        return [self.n, self.d, self.loss, *([self.cluster] if self.cluster else [])]

    @property
    def definition(self) -> dict[str, str]:
        """Which column is what, in words, the compute left out."""
        columns = {"N": self.n, "D": self.d, "loss": self.loss, **({"clusters": self.cluster} if self.cluster else {})}
        return {letter: f"column {column!r}" for letter, column in columns.items()}


def with_compute(rows: pd.DataFrame, columns: SweepColumns, source: str) -> tuple[pd.DataFrame, str]:
    """`rows` with C in the column "_c", and what C is in words; ValueError unless C is positive in every row."""
    n, d, c = columns.n, columns.d, columns.c
    if isinstance(c, Compute):
        values, name = c.flops(rows[n].to_numpy(dtype=float), rows[d].to_numpy(dtype=float)), c.name
    elif c in rows:
        values, name = pd.to_numeric(rows[c], errors="coerce"), f"column {c!r}"
    else:
        try:
            values, name = rows.eval(c, engine="python"), f"{c} (computed from columns)"
        except (pd.errors.UndefinedVariableError, SyntaxError, TypeError) as error:
            raise ValueError(
                f"{source}: C = {c!r} is neither a column nor arithmetic of columns ({error}); "
                f"the table has {list(rows.columns)}"
            ) from error
    rows = rows.assign(_c=np.asarray(values, dtype=float))
    bad = rows[~((rows["_c"] > 0) & np.isfinite(rows["_c"]))]
    if len(bad):
        where = f"{n} = {bad[n].iloc[0]:g}, {d} = {bad[d].iloc[0]:g}"
        raise ValueError(
            f"{source}: C = {name} must be positive, but {len(bad)} rows are not, first at {where} with "
            f"{bad['_c'].iloc[0]:g}; correct or exclude them"
        )
    return rows, name
