"""Choosing between laws: nested tests, information criteria, and one table with the backtest beside them.

A better fit of the rows at hand is weak evidence for a law: the table ends in the held-out score, and knows no R2 of
fitted rows. Tests and criteria are for forms fitted to the same rows with the same estimator; anything else is refused.
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
from scaling_fits.estimation.estimators import LeastSquares, Residual, StudentT
from scaling_fits.estimation.observations import COLUMNS
from scaling_fits.fit import Fit, fit
from scaling_fits.laws.law import Form
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


def information_criteria(law: Fit) -> InformationCriteria:
    """AICc and BIC of a least-squares (Normal) or Student-t fit, its likelihood per row that of ln loss or of loss.

    Rows count as independent. ValueError for estimators that are no likelihood (Huber, quantiles), for weighted rows,
    and where rows do not exceed constants by two.
    """
    problem = law.observations.problem
    rows = len(problem.log_y_N)
    if not isinstance(law.estimator, (LeastSquares, StudentT)):
        raise ValueError(
            f"{law.form.name}: {law.estimator.description} is no likelihood, so AICc and BIC do not exist; "
            "fit with least squares or Student's t, or compare by backtests"
        )
    if law.data.weight_column is not None:
        raise ValueError(f"{law.form.name}: weighted rows have no likelihood; give their standard deviations instead")
    known = float(np.log(problem.sd_N).sum())
    residual = "ln " if law.estimator.residual is Residual.LOG else ""
    if isinstance(law.estimator, StudentT):
        name = f"Student-t({law.estimator.nu:g}) of {residual}loss, independent rows"
        log_likelihood, constants = -law.objective - known, problem.free
    else:
        name = f"Normal of {residual}loss, independent rows"
        variance = 2 * law.objective / rows
        log_likelihood = -0.5 * rows * (math.log(2 * math.pi * variance) + 1) - known
        constants = problem.free + 1
    if rows <= constants + 1:
        raise ValueError(f"{law.form.name}: AICc needs more than {constants + 1} rows, there are {rows}")
    aicc = -2 * log_likelihood + 2 * constants * rows / (rows - constants - 1)
    return InformationCriteria(name, log_likelihood, constants, aicc, -2 * log_likelihood + constants * math.log(rows))


@dataclass(frozen=True)
class Entry:
    """One form in a comparison; `reason` says why it has no numbers, `criteria_reason` why no AICc and BIC.

    `rmse_log` is of the fitted rows, `held_out` the backtest's score on the folds that every form predicted.
    """

    form: str
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
    """Forms on the same rows: entries in the order given, tests of every nested pair, and the backtest."""

    source: str
    rows: int
    clusters: int
    estimator: str
    entries: tuple[Entry, ...]
    tests: tuple[NestedTest, ...]
    backtest: Backtest

    def frame(self) -> pd.DataFrame:
        """One line per form; the held-out columns are last and decide."""
        lines = []
        for entry in self.entries:
            criteria = {name: getattr(entry.criteria, name, None) for name in ("aicc", "bic")}
            scores = ("rmse_log", "relative_error", "r_squared", "coverage", "crps_log")
            held_out = {f"held_out_{name}": getattr(entry.held_out, name, None) for name in scores}
            shown = {"objective": entry.objective, **criteria, "rmse_log": entry.rmse_log, **held_out}
            lines.append({"form": entry.form, "constants": entry.constants, **shown, "reason": entry.reason})
        return pd.DataFrame(lines)

    def to_json(self) -> str:
        """JSON with sorted keys: entries, tests, and the backtest's table."""
        table = self.backtest.table()
        whole = {
            "source": self.source,
            "rows": self.rows,
            "clusters": self.clusters,
            "estimator": self.estimator,
            "forms": [asdict(entry) for entry in self.entries],
            "tests": [asdict(test) for test in self.tests],
            "folds": table.to_dict("records"),
        }
        return json.dumps(_plain(whole), indent=2, sort_keys=True, allow_nan=False) + "\n"

    def __str__(self) -> str:
        lines = [f"{self.source}: {self.rows} rows in {self.clusters} clusters, {self.estimator}"]
        shown = self.frame().drop(columns="reason")
        shown = shown.astype({name: float for name in shown if name not in ("form", "constants")})
        lines.append(shown.to_string(index=False, na_rep="-", float_format="{:.5g}".format))
        for entry in self.entries:
            why = entry.reason or (entry.criteria_reason if entry is self.entries[0] else None)
            lines += [f"{entry.form}: {word}" for word in (why, *entry.warnings) if word]
        return "\n".join([*lines, *map(str, self.tests), str(self.backtest)])


def compare(
    forms: Sequence[Form],
    table: RunTable | pd.DataFrame | Path | str,
    *,
    folds: Sequence[Fold] | None = None,
    columns: Mapping[str, str] | None = None,
    bootstrap: Bootstrap | None = None,
    replicates: int = REPLICATES,
    **options: Any,
) -> Comparison:
    """Fit every form to `table`, test the nested pairs, and backtest all of them.

    `folds` is `leave_largest_size_out` unless given; `columns` and `options` are those of `fit`, `bootstrap` that of
    the folds' prediction intervals, `replicates` that of the nested tests. A form that the table cannot support, or
    that does not converge, is listed with its reason. ValueError when none can be fitted.
    """
    response = options.get("response", "loss")
    runs = table if isinstance(table, RunTable) else read_runs(table, response=response)
    laws, reasons = _fitted(forms, runs, columns, options)
    if not laws:
        raise ValueError(f"{runs.source}: none of the forms could be fitted: {reasons}")
    if folds is None:
        size = {**COLUMNS, **(columns or {})}["N"]
        folds = leave_largest_size_out(runs, size=size, response=response)
    scores = backtest(forms, folds, columns=columns, bootstrap=bootstrap, **options)
    pairs = [(a, b) for a in laws.values() for b in laws.values() if _inside(a.form, b.form)]
    any_law = next(iter(laws.values()))
    return Comparison(
        source=runs.source,
        rows=any_law.data.rows,
        clusters=any_law.data.clusters,
        estimator=any_law.estimator.description,
        entries=tuple(_entry(form, laws.get(form.name), reasons.get(form.name), scores) for form in forms),
        tests=tuple(nested_test(small, large, replicates=replicates) for small, large in pairs),
        backtest=scores,
    )


def _fitted(
    forms: Sequence[Form], runs: RunTable, columns: Mapping[str, str] | None, options: Mapping[str, Any]
) -> tuple[dict[str, Fit], dict[str, str]]:
    laws, reasons = {}, {}
    for form in forms:
        given = {letter: column for letter, column in (columns or {}).items() if letter in form.letters}
        try:
            laws[form.name] = fit(form, runs, columns=given, bootstrap=Bootstrap(0), profiles=False, **options)
        except ValueError as error:
            reasons[form.name] = reason_of(error)
    return laws, reasons


def _inside(small: Form, large: Form) -> bool:
    inner = large.special_case
    return inner is not None and (inner == small or _inside(small, inner))


def _entry(form: Form, law: Fit | None, reason: str | None, scores: Backtest) -> Entry:
    held_out = scores.score(form.name, common=True)
    if law is None:
        shape = (form.name, form.equation, len(form.parameters))
        return Entry(*shape, None, None, None, None, held_out, reason, ())
    criteria, criteria_reason = None, None
    try:
        criteria = information_criteria(law)
    except ValueError as error:
        criteria_reason = str(error).removeprefix(f"{form.name}: ")
    return Entry(
        form=form.name,
        equation=form.equation,
        constants=law.observations.problem.free,
        objective=law.objective,
        criteria=criteria,
        criteria_reason=criteria_reason,
        rmse_log=law.residual_log_sd,
        held_out=held_out,
        reason=None,
        warnings=law.warnings,
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
