"""From the options of a command to the rows and columns it works on: one path for all commands.

Every option is looked at before any work is done, and `Options` knows which were: one that was given and has no part in
what the others ask for is an error, never ignored.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from scaling_fits.compute_optimal.compute import SIX_N_D, Compute, SweepColumns, with_compute
from scaling_fits.errors import nearest
from scaling_fits.estimation.columns import COLUMNS, Columns, Link
from scaling_fits.estimation.estimators import Estimator, Huber, LeastSquares, Quantile, Residual, StudentT
from scaling_fits.estimation.multistart import Search
from scaling_fits.estimation.suspicions import compute_notes
from scaling_fits.laws.law import Law
from scaling_fits.tables.run_table import RunTable, read_runs, require_columns
from scaling_fits.uncertainty.bootstrap import Bootstrap

EXPORTED_COMPUTE = "train_flops"
COMPUTE = "C"  # the column that cuts in compute are made in


class Options:
    """Parsed options, each an attribute by its name, and which of them were looked at.

    `flags` maps names to how they are written, `defaults` to what they are unless given.
    """

    def __init__(self, values: argparse.Namespace, flags: Mapping[str, str], defaults: Mapping[str, object]) -> None:
        self._values, self._flags, self._defaults = vars(values), flags, defaults
        self._seen: set[str] = set()

    def __getattr__(self, name: str) -> Any:
        try:
            value = self._values[name]
        except KeyError:
            raise AttributeError(name) from None
        self._seen.add(name)
        return value

    def has(self, name: str) -> bool:
        """Whether the command lists the option."""
        return name in self._values

    def given(self, name: str) -> bool:
        """Whether the command lists the option and it is not at its default."""
        return name in self._values and self._values[name] != self._defaults.get(name)

    def refuse_unused(self) -> None:
        """ValueError for options that were given and that nothing looked at."""
        unused = [name for name in self._flags if self.given(name) and name not in self._seen]
        if unused:
            words = ", ".join(f"{self._flags[name]} {self._shown(name)}".strip() for name in sorted(unused))
            raise ValueError(f"{words}: has no part in what the other options ask for; leave it out, or change them")

    def _shown(self, name: str) -> str:
        value = self._values[name]
        return "" if value is True else " ".join(map(str, value)) if isinstance(value, list) else str(value)


@dataclass(frozen=True)
class Asked:
    """The rows that a command works on, and the columns behind letters; `notes` are for the reader."""

    table: RunTable
    columns: dict[str, str]
    response: str
    notes: tuple[str, ...] = ()


def asked(options: Options, laws: Sequence[Law]) -> Asked:
    """What `options` ask of which rows, for laws; the rows are read, checked and selected."""
    logs = {v.name for law in laws for v in law.variables if v.log}
    plain = {v.name for law in laws for v in law.variables} - logs
    columns = letters(options, logs | plain)
    table = selected(
        options,
        positive=[columns[letter] for letter in sorted(logs)],
        numeric=[columns[letter] for letter in sorted(plain)],
    )
    named = [getattr(options, name) for name in ("trunk", "weight", "sd") if options.given(name)]
    require_columns(table.frame, named, table.source)
    of = Asked(table, columns, options.loss)
    return replace(of, notes=_compute_notes(options, of))


def asked_columns(options: Options, wanted: set[str]) -> Asked:
    """What `options` ask of which rows, where no law says which columns it needs."""
    columns = letters(options, wanted)
    of = Asked(selected(options, positive=list(columns.values())), columns, options.loss)
    return replace(of, notes=(*of.table.notes, *_compute_notes(options, of)))


def letters(options: Options, wanted: set[str]) -> dict[str, str]:
    """The column behind every letter; ValueError for a letter that is not wanted, or given twice."""
    given = {}
    for pair in options.column if options.has("column") else ():
        letter, equals, column = (part.strip() for part in pair.partition("="))
        if not (letter and equals and column):
            raise ValueError(f"--column {pair!r} must read LETTER=COLUMN")
        if letter not in wanted:
            raise ValueError(
                f"--column {pair!r}: the letters here are {', '.join(sorted(wanted))}, not {letter!r}"
                f"{nearest([letter], wanted)}"
            )
        if letter in given or (letter in ("N", "D", "C") and options.given(letter.lower())):
            raise ValueError(f"--column {pair!r}: {letter} is given twice")
        given[letter] = column
    for letter in sorted(wanted & {"N", "D", "C"}):
        named = getattr(options, letter.lower()) if options.has(letter.lower()) else None
        given.setdefault(letter, named or COLUMNS[letter])
    return {letter: given.get(letter) or COLUMNS.get(letter, letter) for letter in sorted(wanted)}


def selected(options: Options, *, positive: Sequence[str], numeric: Sequence[str] = ()) -> RunTable:
    """The table, read and checked, with the rows that --where and --fresh keep."""
    table = read_runs(options.table, response=options.loss, positive=positive, numeric=numeric)
    for condition in options.where:
        column, equals, text = (part.strip() for part in condition.partition("="))
        if not (column and equals):
            raise ValueError(f"--where {condition!r} must read COLUMN=VALUE")
        table = table.where(**{column: text})
    if options.has("fresh") and options.fresh:
        if not table.exported:
            raise ValueError(f"--fresh: {table.source} is not this project's own export, and has no known epochs")
        table = table.fresh()
    return table


def fitting(options: Options, of: Asked) -> dict[str, Any]:
    """What `fit` and `compare` are told beside law and table."""
    return {
        "columns": Columns(
            of.columns,
            response=of.response,
            link=Link[options.link.upper()],
            weight=options.weight,
            sd=options.sd if options.has("sd") else None,
            cluster=options.trunk,
        ),
        "estimator": estimator(options),
        "search": Search(seed=options.seed),
    }


def bootstrap(options: Options) -> Bootstrap:
    """How intervals are drawn."""
    return Bootstrap(options.replicates, options.seed)


def estimator(options: Options) -> Estimator:
    """The estimator, each looking at its own constant alone."""
    residual = Residual[options.residual.upper()]
    match options.estimator:
        case "huber":
            return Huber(options.delta, residual)
        case "squares":
            return LeastSquares(residual)
        case "quantile":
            return Quantile(options.tau, residual)
        case _:
            return StudentT(options.nu, residual)


def compute(options: Options, table: RunTable) -> str | Compute:
    """What C is: the column named, `train_flops` of an exported table, or 6 N D."""
    if options.c is not None:
        return options.c
    return EXPORTED_COMPUTE if table.exported and EXPORTED_COMPUTE in table.frame else SIX_N_D


def _compute_notes(options: Options, of: Asked) -> tuple[str, ...]:
    """How the compute named by --c and 6 N D of the rows go together, where both are there.

    `design` knows the compute of its candidates alone.
    """
    if not options.has("c") or options.has("candidates") or not {"N", "D"} <= set(of.columns) or options.c is None:
        return ()
    columns = SweepColumns(of.columns["N"], of.columns["D"], options.c)
    rows, name = with_compute(of.table.rows, columns, of.table.source)
    return tuple(compute_notes(rows[columns.n], rows[columns.d], rows["_c"], name))


def with_compute_column(of: Asked, c: str | Compute) -> RunTable:
    """The table with the compute of its rows in the column C; ValueError where it is 6 N D and a law lacks one."""
    n, d = (of.columns.get(letter, of.response) for letter in "ND")
    if isinstance(c, Compute) and of.response in (n, d):
        raise ValueError("--backtest compute cuts in 6 N D, which none of the laws has; name a column with --c")
    rows, _ = with_compute(of.table.rows, SweepColumns(n, d, c), of.table.source)
    return replace(of.table, frame=of.table.frame.assign(**{COMPUTE: rows["_c"].astype(float)}))


def numbers(flag: str, text: str) -> tuple[float, ...]:
    """Numbers separated by commas."""
    try:
        found = tuple(float(value) for value in text.split(","))
    except ValueError as error:
        raise ValueError(f"{flag} {text!r} must be numbers with commas, like 1e5,1e6") from error
    if not np.isfinite(found).all():
        raise ValueError(f"{flag} {text!r} must be finite numbers")
    return found
