"""Admission of extensions of a law by a backtest fixed in advance, as the protocol orders it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from scaling_fits.estimation.columns import Columns
from scaling_fits.estimation.estimators import HUBER_HOFFMANN, Estimator
from scaling_fits.estimation.multistart import Search
from scaling_fits.laws.law import Law
from scaling_fits.selection.backtest import (
    Backtest,
    Fold,
    PairedDifference,
    backtest,
    leave_largest_size_out,
    rolling_cuts,
)
from scaling_fits.tables.run_table import RunTable
from scaling_fits.uncertainty.bootstrap import Bootstrap


@dataclass(frozen=True)
class AdmissionRule:
    """Fixed before the extensions are fitted.

    An extension is admitted when it takes more than `margin` of the base's held-out RMSE of ln loss away and the paired
    interval excludes 0; `level` is shared among the extensions (Bonferroni). Folds are `rolling` cut-offs in column
    `by`, or with `rolling=0` the largest value of `by` is left out.
    """

    by: str = "n_params"
    rolling: int = 0
    margin: float = 0.05
    level: float = 0.95

    def __post_init__(self) -> None:
        if not (0 <= self.margin < 1 and 0 < self.level < 1 and self.rolling >= 0):
            raise ValueError(
                f"admission rule: margin {self.margin}, level {self.level}, rolling {self.rolling}; need [0, 1), "
                "(0, 1) and >= 0"
            )

    def folds(self, table: RunTable | pd.DataFrame | Path | str, response: str) -> tuple[Fold, ...]:
        """The folds that the rule prescribes for a table."""
        if self.rolling:
            return rolling_cuts(table, self.by, folds=self.rolling, response=response)
        return leave_largest_size_out(table, size=self.by, response=response)


@dataclass(frozen=True)
class Admission:
    """Whether an extension is admitted; `difference` is None when it, or the base, predicted nothing."""

    extension: str
    base: str
    rule: AdmissionRule
    difference: PairedDifference | None
    admitted: bool
    why: str

    def __str__(self) -> str:
        return f"{self.extension}: {'admitted' if self.admitted else 'not admitted'} over {self.base}: {self.why}"


def admit(
    base: Law,
    extensions: Sequence[Law],
    table: RunTable | pd.DataFrame | Path | str,
    rule: AdmissionRule,
    *,
    columns: Columns | Mapping[str, str] | None = None,
    estimator: Estimator = HUBER_HOFFMANN,
    search: Search | None = None,
    profiles: bool = True,
) -> tuple[tuple[Admission, ...], Backtest]:
    """The protocol's gate for every extension of `base`, and the backtest it rests on.

    The rest is as in `backtest`, here without intervals of predictions. An extension that fails in any fold is not
    admitted, whatever it gained elsewhere; a constant left open in a fold is named with the verdict.
    """
    if not extensions:
        raise ValueError(f"admit: no extension of {base.name} was given")
    columns = Columns.of(columns)
    told: dict[str, Any] = {"columns": columns, "estimator": estimator, "search": search, "profiles": profiles}
    scores = backtest((base, *extensions), rule.folds(table, columns.response), bootstrap=Bootstrap(0), **told)
    level = 1 - (1 - rule.level) / len(extensions)
    return tuple(_verdict(extension.name, base.name, scores, rule, level) for extension in extensions), scores


def _verdict(extension: str, base: str, scores: Backtest, rule: AdmissionRule, level: float) -> Admission:
    both = [one for name in (base, extension) for one in scores.of(name)]
    failed = [f"{one.law} failed in {one.fold}: {one.reason}" for one in both if one.reason is not None]
    if failed:
        return Admission(extension, base, rule, None, False, "; ".join(failed))
    difference = scores.difference(extension, base, level=level)
    share, wanted = 100 * difference.improvement, 100 * rule.margin
    admitted = difference.interval is not None and difference.interval[1] < 0 and difference.improvement > rule.margin
    why = f"held-out RMSE of ln loss {difference}; it takes {share:.1f} % away, more than {wanted:.1f} % is asked"
    notes = {note for one in scores.of(extension) for note in one.notes if "not identified" in note}
    return Admission(extension, base, rule, difference, admitted, "; ".join([why, *sorted(notes)]))
