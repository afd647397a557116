"""`compare`: several laws on the same rows, nested tests, criteria, and a backtest."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from scaling_fits.commands.answer import Answer, Work
from scaling_fits.commands.fitting import read_fitting
from scaling_fits.commands.options import Options
from scaling_fits.commands.rows import COMPUTE, Selection, compute_of, select_for_laws, with_compute_column
from scaling_fits.laws.named import named_law
from scaling_fits.selection.backtest import Fold, leave_largest_size_out, rolling_cuts
from scaling_fits.selection.compare import compare


def run(options: Options) -> Work:
    """`compare`: several laws on the same rows, nested tests, criteria, and a backtest."""
    laws = [named_law(name) for name in options.laws.split(",")]
    if twice := sorted({one.name for one in laws if laws.count(one) > 1}):
        raise ValueError(f"--laws {options.laws!r}: {twice[0]} is given twice")
    of = select_for_laws(options, laws)
    folds, how = _folds(options, of), read_fitting(options, of)
    told: dict[str, Any] = {"columns": how.columns, "estimator": how.estimator, "search": how.search}

    def work() -> Answer:
        plan = how.bootstrap
        found = compare(laws, of.table, folds=folds, bootstrap=plan, replicates=plan.replicates, **told)
        return Answer(str(found), json.loads(found.to_json()), of.notes)

    return work


def _folds(options: Options, of: Selection) -> Sequence[Fold]:
    """What the backtest holds out."""
    match options.backtest:
        case "largest-size":
            return leave_largest_size_out(of.table, size=_behind(of, "N"), response=of.response)
        case "size":
            return rolling_cuts(of.table, _behind(of, "N"), response=of.response)
        case "records":
            return rolling_cuts(of.table, _behind(of, "D"), response=of.response)
        case _:
            table = with_compute_column(of, compute_of(options, of.table))
            return rolling_cuts(table, COMPUTE, response=of.response)


def _behind(of: Selection, letter: str) -> str:
    if letter not in of.columns:
        raise ValueError(f"--backtest cuts in {letter}, and none of the laws has {letter}; choose another backtest")
    return of.columns[letter]
