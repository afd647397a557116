"""Command line: laws of loss in size, data and mix from any CSV; the protocol's contrasts from a run table."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from scaling_fits import commands
from scaling_fits.power import ALPHA

EXAMPLES = """examples:
  # L = E + A/N^alpha + B/D^beta on the rows with fresh (purely synthetic) data
  python -m scaling_fits fit runs.csv --form chinchilla --where real_fraction=0 --out fit.json

  # any CSV: name the columns behind N, D and the loss
  python -m scaling_fits fit table.csv --form chinchilla --n params --d tokens --loss val_loss --influence

  # the lower envelope of runs that were not all tuned well
  python -m scaling_fits fit table.csv --form coupled --estimator quantile --tau 0.1

  # real and synthetic records: one exchange rate, and whether it depends on size
  python -m scaling_fits compare runs.csv --forms common_rate,rate_of_size

  # the best size per budget from an isoFLOP sweep
  python -m scaling_fits isoflop sweep.csv --n params --d tokens --figure figures/isoflop

  # which of the candidate runs (columns N, D, flops) make the loss at 100M parameters most certain for 1e18 FLOPs
  python -m scaling_fits design runs.csv candidates.csv --form chinchilla --quantity 'L(N=1e8, D=1e6)' --budget 1e18

  # a figure: figures/size.pdf, .png and .csv
  python -m scaling_fits plot runs.csv --form chinchilla --what size --figure figures/size

  # P1, P2 (and P3 with a target loss): slopes in ln N, clustered on trunks, Holm-corrected
  python -m scaling_fits contrasts runs.csv --curve curve.csv --target 0.35 --out contrasts.json

  # how many seeds find a gap between arms that changes by 0.02 per unit of ln N, with noise as in a pilot study
  python -m scaling_fits power --sizes 1e5,3e5,1e6 --budgets 1e4,3e4,1e5 --slope -0.02 --pilot runs.csv

forms: """ + ", ".join(form.name for form in commands.FORMS)

POWER = """How many seeds per size does a slope in ln N need? Studies of the plan (every size x seed x pool draw x
budget, each run of arm a paired with its run of arm b) are simulated and put through the estimator of `contrasts`. A
study claims the slope when p is below alpha, its sign is right and it is more than 3.5 % over the range of sizes."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; 0 when it did what was asked, 2 with one line on stderr when the input is at fault."""
    options = _parser().parse_args(arguments)
    try:
        answer = options.command(options)
        commands.write_answer(answer, options.out)
    except (ValueError, FileNotFoundError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(answer.text)
    if answer.table is not None:
        for note in (*answer.table.notes, answer.table.law_refusal):
            if note and note not in answer.text:
                print(f"note: {note}")
    return 0


def _parser() -> argparse.ArgumentParser:
    plain = {"formatter_class": argparse.RawDescriptionHelpFormatter, "epilog": EXAMPLES}
    parser = argparse.ArgumentParser(prog="python -m scaling_fits", description=__doc__, **plain)
    parsers = parser.add_subparsers(required=True, metavar="{fit,compare,isoflop,design,plot,contrasts,power}")

    law = parsers.add_parser("fit", help="fit a law to a table", description="Fit a law to any CSV.", **plain)
    law.set_defaults(command=commands.run_fit)
    law.add_argument("--influence", action="store_true", help="conditioning, and the five rows that matter most")
    law.add_argument("--latex", type=Path, help="write the constants as a LaTeX table")

    several = parsers.add_parser(
        "compare", help="several laws on the same rows", description="Compare laws: nested tests, backtests.", **plain
    )
    several.set_defaults(command=commands.run_compare)
    several.add_argument("--forms", default="tied,chinchilla,coupled", help="comma-separated (default: %(default)s)")
    several.add_argument(
        "--backtest",
        choices=("largest-size", "size", "records", "compute"),
        default="largest-size",
        help="what is held out: the largest size, or rolling cuts (default: %(default)s)",
    )

    flat = parsers.add_parser("isoflop", help="approach 2", description="Best size per compute budget.", **plain)
    flat.set_defaults(command=commands.run_isoflop)
    flat.add_argument("--method", choices=("parabola", "akima"), default="parabola")
    flat.add_argument("--budgets", help="comma-separated FLOPs that runs are put to (default: found in the table)")
    flat.add_argument("--tolerance", type=float, default=0.1, help="runs within this share of a budget belong to it")
    flat.add_argument("--figure", type=Path, help="stem of a .pdf and .png, and a .csv of the runs and fitted curves")

    plan = parsers.add_parser("design", help="which runs to do next", description="Choose the next runs.", **plain)
    plan.set_defaults(command=commands.run_design)
    plan.add_argument("--quantity", required=True, help="a constant's name, or a loss like 'L(N=1e8, D=1e6)'")
    plan.add_argument("--budget", type=float, required=True, help="FLOPs to spend in all")

    figure = parsers.add_parser("plot", help="a figure of a law", description="Draw a fitted law.", **plain)
    figure.set_defaults(command=commands.run_plot)
    figure.add_argument(
        "--what",
        choices=("size", "data", "compute", "contours", "mix", "residuals", "profiles"),
        default="size",
        help="default: %(default)s",
    )
    figure.add_argument("--figure", type=Path, required=True, help="stem of the .pdf, .png and .csv")

    slopes = parsers.add_parser("contrasts", help="P1, P2, P3", description="The protocol's contrasts.", **plain)
    slopes.set_defaults(command=commands.run_contrasts)
    slopes.add_argument("--mix", type=float, default=0.5, help="the mixed arm (default: %(default)s)")
    slopes.add_argument("--tier", help="generator tier of the synthetic records, where the table has several")
    slopes.add_argument("--curve", type=Path, help="curve.csv of constant-rate losses, for P3")
    slopes.add_argument("--target", type=float, help="loss to reach in P3, fixed in advance")

    _add_power(parsers.add_parser("power", help="how many runs", description=POWER, **plain))

    for command in (law, several, flat, plan, figure, slopes):
        _add_common(command)
    plan.add_argument("candidates", type=Path, help="CSV of runs that could be done: the letters' columns and flops")
    for command in (law, plan, figure):
        command.add_argument("--form", default="chinchilla", help="see the list below (default: %(default)s)")
    for command in (law, several, plan, figure):
        _add_fitting(command)
    return parser


def _add_power(command: argparse.ArgumentParser) -> None:
    command.set_defaults(command=commands.run_power)
    command.add_argument("--sizes", required=True, help="planned parameters, comma-separated")
    command.add_argument("--budgets", required=True, help="planned records at which every run is scored")
    command.add_argument("--slope", type=float, required=True, help="of the difference of ln L, per unit of ln N")
    command.add_argument("--trunk-sd", type=float, help="s.d. of a paired difference of ln L between trunks")
    command.add_argument("--residual-sd", type=float, help="s.d. between budgets of one pair of trunks")
    command.add_argument("--pilot", type=Path, help="run table that gives both, at the upper 80%% limit, instead")
    command.add_argument("--mix", type=float, default=0.5, help="the pilot's arm beside r = 0 (default: %(default)s)")
    command.add_argument(
        "--pool-draws", type=int, default=1, help="pool draws per size and seed (default: %(default)s)"
    )
    command.add_argument("--shared-reference", action="store_true", help="one run of arm b serves all pool draws")
    command.add_argument("--power", type=float, default=0.8, help="wanted (default: %(default)s)")
    command.add_argument("--alpha", type=float, default=ALPHA, help="two-sided level (default: %(default).3g, of Holm)")
    command.add_argument("--seeds-max", type=int, default=32, help="most seeds tried (default: %(default)s)")
    command.add_argument("--seed", type=int, default=0, help="seed of the simulation (default: %(default)s)")
    command.add_argument("--out", type=Path, help="write the result as JSON")


def _add_common(command: argparse.ArgumentParser) -> None:
    command.add_argument("table", type=Path, help="CSV, one row per run")
    command.add_argument("--n", default="n_params", help="column behind N (default: %(default)s)")
    command.add_argument("--d", default="records_seen", help="column behind D (default: %(default)s)")
    command.add_argument("--c", help="column of the compute (default: 6 N D, or train_flops where there is one)")
    command.add_argument(
        "--column", action="append", default=[], metavar="LETTER=COLUMN", help="column behind another letter"
    )
    command.add_argument("--loss", "--response", default="loss", help="column of the loss (default: %(default)s)")
    command.add_argument("--where", action="append", default=[], metavar="COLUMN=VALUE", help="keep such rows")
    command.add_argument("--seed", type=int, default=0, help="seed of everything random (default: %(default)s)")
    command.add_argument("--quiet", action="store_true", help="no progress bar")
    command.add_argument("--out", type=Path, help="write the result as JSON")


def _add_fitting(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--estimator", choices=("huber", "squares", "quantile", "student"), default="huber", help="default: %(default)s"
    )
    command.add_argument("--delta", type=float, default=1e-3, help="Huber delta on ln residuals (default: %(default)s)")
    command.add_argument("--tau", type=float, default=0.5, help="quantile; 0.5: least absolute deviation")
    command.add_argument(
        "--nu", type=float, default=4.0, help="degrees of freedom of Student's t (default: %(default)s)"
    )
    command.add_argument("--link", choices=("log", "logit"), default="log", help="logit for AUROC and the like")
    command.add_argument("--trunk", default="trunk_id", help="column that groups dependent rows (default: %(default)s)")
    command.add_argument("--weight", help="column of row weights, relative: only their ratios count")
    command.add_argument(
        "--sd", help="column of standard deviations of ln loss, relative: the noise's scale is that of the residuals"
    )
    command.add_argument("--replicates", type=int, default=1000, help="bootstrap draws (default: %(default)s)")


if __name__ == "__main__":
    sys.exit(main())
