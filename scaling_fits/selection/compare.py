"""Choosing between laws: nested tests, information criteria, and one table with the backtest beside them.

A better fit of the rows at hand is weak evidence for a law: the table ends in the held-out score, and knows no R2 of
fitted rows. Tests and criteria are for laws fitted to the same rows with the same estimator; anything else is refused.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from scaling_fits.errors import reason_of
from scaling_fits.estimation.columns import COLUMNS, Columns
from scaling_fits.estimation.estimators import HUBER_HOFFMANN, Estimator, LeastSquares, Residual, StudentT
from scaling_fits.estimation.multistart import Search
from scaling_fits.fit import Fit, fit
from scaling_fits.laws.law import Law
from scaling_fits.laws.named import as_law
from scaling_fits.selection.backtest import Backtest, Fold, Score, backtest, leave_largest_size_out
from scaling_fits.selection.nested import REPLICATES, NestedTest, nested_test
from scaling_fits.tables.run_table import RunTable, read_runs
from scaling_fits.uncertainty.bootstrap import Bootstrap


@dataclass(frozen=True)
class InformationCriteria:
    """AICc (Hurvich & Tsai 1989) and BIC under `likelihood`; `constants` counts the scale."""

    likelihood: str
    log_likelihood: float
    constants: int
    aicc: float
    bic: float


def information_criteria(fitted: Fit) -> InformationCriteria:
    """AICc and BIC of a least-squares (Normal) or Student-t fit, its likelihood per row that of ln loss or of loss.

    Rows count as independent. ValueError for estimators that are no likelihood (Huber, quantiles), for weighted rows,
    and where rows do not exceed constants by two.
    """
    problem = fitted.observations.problem
    rows = len(problem.log_y_N)
    if not isinstance(fitted.estimator, (LeastSquares, StudentT)):
        raise ValueError(
            f"{fitted.law.name}: {fitted.estimator.description} is no likelihood, so AICc and BIC do not exist; "
            "fit with least squares or Student's t, or compare by backtests"
        )
    if fitted.data.weight_column is not None:
        raise ValueError(f"{fitted.law.name}: weighted rows have no likelihood; give their standard deviations instead")
    known = float(np.log(problem.sd_N).sum())
    residual = "ln " if fitted.estimator.residual is Residual.LOG else ""
    if isinstance(fitted.estimator, StudentT):
        name = f"Student-t({fitted.estimator.nu:g}) of {residual}loss, independent rows"
        log_likelihood, constants = -fitted.objective - known, problem.free
    else:
        name = f"Normal of {residual}loss, independent rows"
        variance = 2 * fitted.objective / rows
        log_likelihood = -0.5 * rows * (math.log(2 * math.pi * variance) + 1) - known
        constants = problem.free + 1
    if rows <= constants + 1:
        raise ValueError(f"{fitted.law.name}: AICc needs more than {constants + 1} rows, there are {rows}")
    aicc = -2 * log_likelihood + 2 * constants * rows / (rows - constants - 1)
    return InformationCriteria(name, log_likelihood, constants, aicc, -2 * log_likelihood + constants * math.log(rows))


@dataclass(frozen=True)
class Entry:
    """One law in a comparison; `reason` says why it has no numbers, `criteria_reason` why no AICc and BIC.

    `rmse_log` is of the fitted rows, `held_out` the backtest's score on the folds that every law predicted.
    """

    law: str
    equation: str
    constants: int
    objective: float | None
    criteria: InformationCriteria | None
    criteria_reason: str | None
    rmse_log: float | None
    held_out: Score | None
    reason: str | None
    warnings: tuple[str, ...]


@dataclass(frozen=True)
class Comparison:
    """Laws on the same rows: entries in the order given, tests of every nested pair, and the backtest."""

    source: str
    rows: int
    clusters: int
    estimator: str
    entries: tuple[Entry, ...]
    tests: tuple[NestedTest, ...]
    backtest: Backtest

    def frame(self) -> pd.DataFrame:
        """One line per law; the held-out columns are last and decide."""
        lines = []
        for entry in self.entries:
            criteria = {name: getattr(entry.criteria, name, None) for name in ("aicc", "bic")}
            scores = ("rmse_log", "relative_error", "r_squared", "coverage", "crps_log")
            held_out = {f"held_out_{name}": getattr(entry.held_out, name, None) for name in scores}
            shown = {"objective": entry.objective, **criteria, "rmse_log": entry.rmse_log, **held_out}
            lines.append({"law": entry.law, "constants": entry.constants, **shown, "reason": entry.reason})
        return pd.DataFrame(lines)

    def to_json(self) -> str:
        """JSON with sorted keys: entries, tests, and the backtest's table."""
        table = self.backtest.table()
        whole = {
            "source": self.source,
            "rows": self.rows,
            "clusters": self.clusters,
            "estimator": self.estimator,
            "laws": [asdict(entry) for entry in self.entries],
            "tests": [asdict(test) for test in self.tests],
            "folds": table.to_dict("records"),
        }
        return json.dumps(_plain(whole), indent=2, sort_keys=True, allow_nan=False) + "\n"

    def __str__(self) -> str:
        lines = [f"{self.source}: {self.rows} rows in {self.clusters} clusters, {self.estimator}"]
        shown = self.frame().drop(columns="reason")
        shown = shown.astype({name: float for name in shown if name not in ("law", "constants")})
        lines.append(shown.to_string(index=False, na_rep="-", float_format="{:.5g}".format))
        for entry in self.entries:
            why = entry.reason or (entry.criteria_reason if entry is self.entries[0] else None)
            lines += [f"{entry.law}: {word}" for word in (why, *entry.warnings) if word]
        return "\n".join([*lines, *map(str, self.tests), str(self.backtest)])


def compare(
    laws: Sequence[Law | str],
    table: RunTable | pd.DataFrame | Path | str,
    *,
    folds: Sequence[Fold] | None = None,
    columns: Columns | Mapping[str, str] | None = None,
    estimator: Estimator = HUBER_HOFFMANN,
    search: Search | None = None,
    bootstrap: Bootstrap | None = None,
    replicates: int = REPLICATES,
) -> Comparison:
    """Fit every law, given itself or by its name, to `table`, test the nested pairs, and backtest all of them.

    `folds` is `leave_largest_size_out` unless given; `columns`, `estimator` and `search` are those of `fit`,
    `bootstrap` that of the folds' prediction intervals, `replicates` that of the nested tests. A law that the table
    cannot support, or that does not converge, is listed with its reason. ValueError when none can be fitted.
    """
    columns, chosen = Columns.of(columns), [as_law(law) for law in laws]
    runs = table if isinstance(table, RunTable) else read_runs(table, response=columns.response)
    fits, reasons = _fitted(chosen, runs, columns, estimator, search)
    if not fits:
        raise ValueError(f"{runs.source}: none of the laws could be fitted: {reasons}")
    if folds is None:
        size = {**COLUMNS, **columns.letters}["N"]
        folds = leave_largest_size_out(runs, size=size, response=columns.response)
    scores = backtest(chosen, folds, columns=columns, estimator=estimator, search=search, bootstrap=bootstrap)
    pairs = [(a, b) for a in fits.values() for b in fits.values() if _inside(a.law, b.law)]
    any_fit = next(iter(fits.values()))
    return Comparison(
        source=runs.source,
        rows=any_fit.data.rows,
        clusters=any_fit.data.clusters,
        estimator=any_fit.estimator.description,
        entries=tuple(_entry(law, fits.get(law.name), reasons.get(law.name), scores) for law in chosen),
        tests=tuple(nested_test(small, large, replicates=replicates) for small, large in pairs),
        backtest=scores,
    )


def _fitted(
    laws: Sequence[Law], runs: RunTable, columns: Columns, estimator: Estimator, search: Search | None
) -> tuple[dict[str, Fit], dict[str, str]]:
    told: dict[str, Any] = {"estimator": estimator, "bootstrap": Bootstrap(0), "profiles": False, "search": search}
    fits, reasons = {}, {}
    for law in laws:
        try:
            fits[law.name] = fit(law, runs, columns=columns.known_to(law), **told)
        except ValueError as error:
            reasons[law.name] = reason_of(error)
    return fits, reasons


def _inside(small: Law, large: Law) -> bool:
    inner = large.special_case
    return inner is not None and (inner == small or _inside(small, inner))


def _entry(law: Law, fitted: Fit | None, reason: str | None, scores: Backtest) -> Entry:
    held_out = scores.score(law.name, common=True)
    if fitted is None:
        shape = (law.name, law.equation, len(law.parameters))
        return Entry(*shape, None, None, None, None, held_out, reason, ())
    criteria, criteria_reason = None, None
    try:
        criteria = information_criteria(fitted)
    except ValueError as error:
        criteria_reason = str(error).removeprefix(f"{law.name}: ")
    return Entry(
        law=law.name,
        equation=law.equation,
        constants=fitted.observations.problem.free,
        objective=fitted.objective,
        criteria=criteria,
        criteria_reason=criteria_reason,
        rmse_log=fitted.residual_log_sd,
        held_out=held_out,
        reason=None,
        warnings=fitted.warnings,
    )


def _plain(value: Any) -> Any:
    """Plain values for JSON, which knows no infinity and no NaN."""
    if isinstance(value, Mapping):
        return {str(key): _plain(one) for key, one in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(one) for one in value]
    if isinstance(value, (float, np.floating)):
        return float(value) if math.isfinite(value) else None
    return int(value) if isinstance(value, np.integer) else value
