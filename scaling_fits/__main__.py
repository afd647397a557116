"""Command line: fit a law to any CSV, or state the protocol's contrasts of a run table."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from scaling_fits.contrasts import contrasts_json, protocol_contrasts
from scaling_fits.convergence import records_to_target
from scaling_fits.fit import fit
from scaling_fits.forms import CHINCHILLA, Form, power_law
from scaling_fits.solver import Huber
from scaling_fits.table import RunTable, read_runs
from scaling_fits.writing import write_text

EXAMPLES = """examples:
  # L = E + A/N^alpha + B/D^beta on the rows with fresh (purely synthetic) data
  python -m scaling_fits fit runs.csv --form chinchilla --where real_fraction=0 --out fit.json

  # any CSV: name the columns behind N, D and the loss
  python -m scaling_fits fit table.csv --form chinchilla --n params --d tokens --response val_loss

  # P1, P2 (and P3 with a target loss): slopes in ln N, clustered on trunks, Holm-corrected
  python -m scaling_fits contrasts runs.csv --curve curve.csv --target 0.35 --out contrasts.json
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; 0 when it did what was asked, 2 with one line on stderr when the input is at fault."""
    options = _parser().parse_args(arguments)
    try:
        table, text, data = options.command(options)
        if options.out:
            write_text(options.out, data)
    except (ValueError, FileNotFoundError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(text)
    if table.law_refusal:
        print(f"note: {table.law_refusal}")
    return 0


def _parser() -> argparse.ArgumentParser:
    plain = {"formatter_class": argparse.RawDescriptionHelpFormatter, "epilog": EXAMPLES}
    parser = argparse.ArgumentParser(prog="python -m scaling_fits", description=__doc__, **plain)
    commands = parser.add_subparsers(required=True, metavar="{fit,contrasts}")
    law = commands.add_parser("fit", help="fit a law to a table", description="Fit a law to any CSV.", **plain)
    law.set_defaults(command=_fit)
    law.add_argument("--form", choices=("chinchilla", "power-law-n", "power-law-d"), default="chinchilla")
    law.add_argument("--d", default="records_seen", help="column behind D (default: %(default)s)")
    law.add_argument("--trunk", default="trunk_id", help="column that groups dependent rows (default: %(default)s)")
    law.add_argument("--delta", type=float, default=1e-3, help="Huber delta on ln residuals; inf = least squares")
    law.add_argument("--replicates", type=int, default=1000, help="bootstrap draws of trunks (default: %(default)s)")
    law.add_argument("--seed", type=int, default=0, help="seed of the bootstrap (default: %(default)s)")
    slopes = commands.add_parser("contrasts", help="P1, P2, P3", description="The protocol's contrasts.", **plain)
    slopes.set_defaults(command=_contrasts)
    slopes.add_argument("--mix", type=float, default=0.5, help="the mixed arm (default: %(default)s)")
    slopes.add_argument("--tier", help="generator tier of the synthetic records, where the table has several")
    slopes.add_argument("--curve", type=Path, help="curve.csv of constant-rate losses, for P3")
    slopes.add_argument("--target", type=float, help="loss to reach in P3, fixed in advance")
    for command in (law, slopes):
        command.add_argument("table", type=Path, help="CSV, one row per run")
        command.add_argument("--n", default="n_params", help="column behind N (default: %(default)s)")
        command.add_argument("--response", default="loss", help="column of the loss (default: %(default)s)")
        command.add_argument("--where", action="append", default=[], metavar="COLUMN=VALUE", help="keep such rows")
        command.add_argument("--out", type=Path, help="write the result as JSON")
    return parser


def _fit(options: argparse.Namespace) -> tuple[RunTable, str, str]:
    form = _form(options.form)
    columns = [{"N": options.n, "D": options.d}[variable] for variable in form.variables]
    table = _narrowed(read_runs(options.table, response=options.response, positive=columns), options.where)
    result = fit(
        form,
        table,
        response=options.response,
        n=options.n,
        d=options.d,
        trunk=options.trunk,
        estimator=Huber(options.delta),
        replicates=options.replicates,
        seed=options.seed,
    )
    return table, str(result), result.to_json()


def _contrasts(options: argparse.Namespace) -> tuple[RunTable, str, str]:
    if (options.curve is None) != (options.target is None):
        raise ValueError("P3 needs both --curve and --target")
    table = read_runs(options.table, response=options.response, positive=[options.n, "records_seen"])
    table = _narrowed(table, options.where)
    times = None
    if options.curve is not None:
        if not options.curve.is_file():
            raise FileNotFoundError(f"{options.curve}: no such curve table")
        times = records_to_target(pd.read_csv(options.curve), options.target)
    slopes = protocol_contrasts(
        table, mix=options.mix, tier=options.tier, times=times, response=options.response, n=options.n
    )
    lines = [str(slope) for slope in slopes]
    lines.append(f"{len(table.rows)} rows; excluded: {table.excluded or 'none'}")
    return table, "\n".join(lines), contrasts_json(slopes)


def _form(name: str) -> Form:
    match name:
        case "chinchilla":
            return CHINCHILLA
        case "power-law-n":
            return power_law("N")
        case _:
            return power_law("D")


def _narrowed(table: RunTable, conditions: Sequence[str]) -> RunTable:
    for condition in conditions:
        column, equals, text = condition.partition("=")
        if not equals:
            raise ValueError(f"--where {condition!r} must read COLUMN=VALUE")
        table = table.where(**{column: _value(text)})
    return table


def _value(text: str) -> float | str:
    try:
        return float(text)
    except ValueError:
        return text


if __name__ == "__main__":
    sys.exit(main())
