"""From the options of a command to the rows and columns it works on: one path for all commands."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from scaling_fits.commands.options import Options
from scaling_fits.compute_optimal.compute import SIX_N_D, Compute, SweepColumns, with_compute
from scaling_fits.errors import nearest
from scaling_fits.estimation.columns import COLUMNS
from scaling_fits.estimation.suspicions import compute_notes
from scaling_fits.laws.law import Law
from scaling_fits.tables.run_table import RunTable, read_runs, require_columns

EXPORTED_COMPUTE = "train_flops"
COMPUTE = "C"  # the column that cuts in compute are made in


@dataclass(frozen=True)
class Selection:
    """The rows that a command works on, and the columns behind letters; `notes` are for the reader."""

    table: RunTable
    columns: dict[str, str]
    response: str
    notes: tuple[str, ...] = ()


def select_for_laws(options: Options, laws: Sequence[Law]) -> Selection:
    """What `options` ask of which rows, for laws; the rows are read, checked and selected."""
    logs = {v.name for law in laws for v in law.variables if v.log}
    plain = {v.name for law in laws for v in law.variables} - logs
    columns = columns_behind(options, logs | plain)
    table = select_rows(
        options,
        positive=[columns[letter] for letter in sorted(logs)],
        numeric=[columns[letter] for letter in sorted(plain)],
    )
    named = [getattr(options, name) for name in ("trunk", "weight", "sd") if options.given(name)]
    require_columns(table.frame, named, table.source)
    of = Selection(table, columns, options.loss)
    return replace(of, notes=_compute_notes(options, of))


def select_columns(options: Options, wanted: set[str]) -> Selection:
    """What `options` ask of which rows, where no law says which columns it needs."""
    columns = columns_behind(options, wanted)
    of = Selection(select_rows(options, positive=list(columns.values())), columns, options.loss)
    return replace(of, notes=(*of.table.notes, *_compute_notes(options, of)))


def columns_behind(options: Options, wanted: set[str]) -> dict[str, str]:
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


def select_rows(options: Options, *, positive: Sequence[str], numeric: Sequence[str] = ()) -> RunTable:
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


def compute_of(options: Options, table: RunTable) -> str | Compute:
    """What C is: the column named, `train_flops` of an exported table, or 6 N D."""
    if options.c is not None:
        return options.c
    return EXPORTED_COMPUTE if table.exported and EXPORTED_COMPUTE in table.frame else SIX_N_D


def _compute_notes(options: Options, of: Selection) -> tuple[str, ...]:
    """How the compute named by --c and 6 N D of the rows go together, where both are there.

    `design` knows the compute of its candidates alone.
    """
    if not options.has("c") or options.has("candidates") or not {"N", "D"} <= set(of.columns) or options.c is None:
        return ()
    columns = SweepColumns(of.columns["N"], of.columns["D"], options.c)
    rows, name = with_compute(of.table.rows, columns, of.table.source)
    return tuple(compute_notes(rows[columns.n], rows[columns.d], rows["_c"], name))


def with_compute_column(of: Selection, c: str | Compute) -> RunTable:
    """The table with the compute of its rows in the column C; ValueError where it is 6 N D and a law lacks one."""
    n, d = (of.columns.get(letter, of.response) for letter in "ND")
    if isinstance(c, Compute) and of.response in (n, d):
        raise ValueError("--backtest compute cuts in 6 N D, which none of the laws has; name a column with --c")
    rows, _ = with_compute(of.table.rows, SweepColumns(n, d, c), of.table.source)
    return replace(of.table, frame=of.table.frame.assign(**{COMPUTE: rows["_c"].astype(float)}))
