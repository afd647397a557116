"""The contract of every evaluator: a name, frozen data, and a function of a model and its weights to rows."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol

import pandas as pd

from ecg_jax.models import Model, Params

#: The columns that an evaluator's rows have. `metric` of `label` in `task`, as `probe` reads it from the model, with
#: its interval (NaN where none can be given), on `n` records of which `positives` have the label (`n` where it is no
#: class).
COLUMNS = ("task", "label", "probe", "metric", "value", "low", "high", "n", "positives")


class Evaluator(Protocol):
    """One way to judge a model, on data that never changes."""

    @property
    def name(self) -> str:
        """What tables call it."""
        ...

    @property
    def identity(self) -> str:
        """A hash of the frozen data and of every choice that its numbers depend on: rows of one identity compare."""
        ...

    def rows(self, model: Model, params: Params) -> pd.DataFrame:
        """What it finds, in `COLUMNS`. Needs a mesh in force."""
        ...


def evaluate(evaluators: Iterable[Evaluator], model: Model, params: Params) -> pd.DataFrame:
    """The rows of all evaluators, with `evaluator` and `protocol`, their names and identities, before them.

    Needs a mesh in force. Raises ValueError for an evaluator whose rows have other columns, naming it.
    """
    tables = []
    for evaluator in evaluators:
        rows = evaluator.rows(model, params)
        if tuple(rows.columns) != COLUMNS:
            raise ValueError(f"evaluator {evaluator.name!r} gave columns {list(rows.columns)}, not {list(COLUMNS)}")
        named = {"evaluator": evaluator.name, "protocol": evaluator.identity}
        tables.append(rows.assign(**named)[[*named, *COLUMNS]])
    if not tables:
        return pd.DataFrame(columns=["evaluator", "protocol", *COLUMNS])
    return pd.concat(tables, ignore_index=True)
