"""The options of `scaling-fits`, and one run of a command from words to text."""

from __future__ import annotations

import argparse
import importlib
import math
import re
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NoReturn

from scaling_fits.commands.options import Options
from scaling_fits.commands.outputs import check_outputs, to_json
from scaling_fits.errors import Refused, nearest
from scaling_fits.files import write_text
from scaling_fits.laws.named import LAWS
from scaling_fits.planning.power import ALPHA

#: Options that had another name.
RENAMED = {"--form": "--law", "--forms": "--laws"}
DESCRIPTION = (
    "Command line: laws of loss in size, data and mix from any CSV; the protocol's contrasts from a run table."
)
EXAMPLES = """examples:
  # L = E + A/N^alpha + B/D^beta on the rows with fresh (purely synthetic) data
  scaling-fits fit runs.csv --law chinchilla --where real_fraction=0 --out fit.json

  # any CSV: name the columns behind N, D and the loss
  scaling-fits fit table.csv --law chinchilla --n params --d tokens --loss val_loss --influence

  # the lower envelope of runs that were not all tuned well
  scaling-fits fit table.csv --law coupled --estimator quantile --tau 0.1

  # real and synthetic records: one exchange rate, and whether it depends on size
  scaling-fits compare runs.csv --laws common_rate,rate_of_size

  # the best size per budget from an isoFLOP sweep
  scaling-fits isoflop sweep.csv --n params --d tokens --figure figures/isoflop

  # which of the candidate runs make the loss at 100M parameters most certain for 1e18 FLOPs
  scaling-fits design runs.csv candidates.csv --law chinchilla --quantity 'L(N=1e8, D=1e6)' --budget 1e18

  # a figure: figures/size.pdf, .png and .csv
  scaling-fits plot runs.csv --law chinchilla --what size --figure figures/size

  # P1, P2 (and P3 with a target loss): slopes in ln N, clustered on trunks, Holm-corrected
  scaling-fits contrasts runs.csv --curve curve.csv --target 0.35 --out contrasts.json

  # how many seeds find a gap between arms that changes by 0.02 per unit of ln N, with noise as in a pilot study
  scaling-fits power --sizes 1e5,3e5,1e6 --budgets 1e4,3e4,1e5 --slope -0.02 --pilot runs.csv

laws: """ + ", ".join(sorted(law.name for law in LAWS))

POWER = """How many seeds per size does a slope in ln N need? Studies of the plan (every size x seed x pool draw x
budget, each run of arm a paired with its run of arm b) are simulated and put through the estimator of `contrasts`. A
study claims the slope when p is below alpha, its sign is right and it is more than 3.5 % over the range of sizes."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; 0 when it did what was asked, 2 with one line on stderr when the input is at fault."""
    began = time.monotonic()
    try:
        options = read_options(sys.argv[1:] if arguments is None else arguments)
        check_outputs(options)
        quiet, out = options.quiet, options.out
        work = importlib.import_module(f"scaling_fits.commands.run_{options.name}").run(options)
        options.refuse_unused()
        answer = work()
        if out is not None:
            write_text(out, to_json(answer.data))
    except Refused as error:
        return _refuse(error.command)
    except OSError as error:
        return _refuse(f"{error.filename}: {error.strerror}" if error.strerror else str(error))
    except ValueError as error:
        return _refuse(str(error))
    print("\n".join([answer.text, *(f"note: {note}" for note in answer.notes if note not in answer.text)]), flush=True)
    if not quiet:
        print(f"done in {time.monotonic() - began:.1f} s", file=sys.stderr)
    return 0


def _refuse(reason: str) -> int:
    print(f"error: {' '.join(reason.split())}", file=sys.stderr)
    return 2


def read_options(words: Sequence[str]) -> Options:
    """The options of one command; ValueError for words that are none, with the nearest that is."""
    whole, of_commands = parsers()
    values, unknown = whole.parse_known_args(words)
    parser = of_commands[values.name]
    if unknown:
        known = [flag for action in parser.listed for flag in action.option_strings]
        given = [word.partition("=")[0] for word in unknown if word.startswith("-")]
        for old in RENAMED.keys() & set(given):
            raise ValueError(f"{values.name} knows no {old}: it is {RENAMED[old]} now")
        raise ValueError(f"{values.name} knows no {' '.join(unknown)}{nearest(given, known)}")
    flags = {action.dest: (action.option_strings or [""])[0] for action in parser.listed}
    return Options(values, flags, {action.dest: action.default for action in parser.listed})


class Parser(argparse.ArgumentParser):
    """Whole names of options alone, errors in one line with the nearest choice, and a list of what was added."""

    def __init__(self, **settings: Any) -> None:
        self.listed: list[argparse.Action] = []
        plain: dict[str, Any] = {"epilog": EXAMPLES, "allow_abbrev": False}
        plain["formatter_class"] = argparse.RawDescriptionHelpFormatter
        super().__init__(**plain | settings)

    def add_argument(self, *names: Any, **settings: Any) -> argparse.Action:
        """As argparse's own, and listed."""
        self.listed.append(super().add_argument(*names, **settings))
        return self.listed[-1]

    def error(self, message: str) -> NoReturn:
        """ValueError instead of argparse's many lines."""
        wrong = re.search(r"invalid choice: '(.*?)' \(choose from (.*)\)", message)
        if wrong:
            message += nearest([wrong[1]], re.split(r"[,\s']+", wrong[2]))
        if "expected one argument" in message:
            message += "; a value that begins with - is written after =, as in --slope=-2e-2"
        raise ValueError(message)


def parsers() -> tuple[Parser, dict[str, Parser]]:
    """The whole, and every command's by its name: what a command does not list, it does not know."""
    whole = Parser(prog="scaling-fits", description=DESCRIPTION)
    added = whole.add_subparsers(dest="name", required=True, metavar="COMMAND", parser_class=Parser)
    _add_fit(added.add_parser("fit", help="fit a law to a table", description="Fit a law to any CSV."))
    text = "Compare laws: nested tests, backtests."
    _add_compare(added.add_parser("compare", help="several laws on the same rows", description=text))
    _add_isoflop(added.add_parser("isoflop", help="approach 2", description="Best size per compute budget."))
    _add_design(added.add_parser("design", help="which runs to do next", description="Choose the next runs."))
    _add_plot(added.add_parser("plot", help="a figure of a law", description="Draw a fitted law."))
    _add_contrasts(added.add_parser("contrasts", help="P1, P2, P3", description="The protocol's contrasts."))
    _add_power(added.add_parser("power", help="how many runs", description=POWER))
    return whole, dict(added.choices)


def _add_fit(command: Parser) -> None:
    command.add_argument("--influence", action="store_true", help="conditioning, and the five rows that matter most")
    command.add_argument("--latex", type=Path, help="write the constants as a LaTeX table")
    _add_table(command)
    _add_columns(command)
    _add_law(command)
    _add_fitting(command)


def _add_compare(command: Parser) -> None:
    command.add_argument("--laws", default="tied,chinchilla,coupled", help="comma-separated (default: %(default)s)")
    command.add_argument(
        "--backtest",
        choices=("largest-size", "size", "records", "compute"),
        default="largest-size",
        help="what is held out: the largest size, or rolling cuts (default: %(default)s)",
    )
    _add_table(command)
    _add_columns(command)
    _add_fitting(command)


def _add_isoflop(command: Parser) -> None:
    command.add_argument("--method", choices=("parabola", "akima"), default="parabola", help="default: %(default)s")
    command.add_argument("--budgets", help="comma-separated FLOPs that runs are put to (default: found in the table)")
    command.add_argument(
        "--tolerance", type=positive, default=0.1, help="runs within this share of a budget belong to it"
    )
    command.add_argument(
        "--noise-sd",
        type=positive,
        help="relative s.d. of the loss between seeds, for akima (default: from replicates)",
    )
    command.add_argument(
        "--figure", type=Path, help="stem of a .pdf and .png, and a .csv of the runs and fitted curves"
    )
    _add_table(command)
    _add_n(command)
    _add_d(command)
    _add_c(command)
    command.add_argument("--trunk", help="column that groups dependent rows (default: trunk_id, where there is one)")
    command.add_argument("--replicates", type=draws, default=1000, help="draws of minima (default: %(default)s)")
    command.add_argument("--seed", type=whole, default=0, help="seed of the draws (default: %(default)s)")


def _add_design(command: Parser) -> None:
    command.add_argument("--quantity", required=True, help="a constant's name, or a loss like 'L(N=1e8, D=1e6)'")
    command.add_argument("--budget", type=positive, required=True, help="FLOPs to spend in all")
    _add_table(command)
    command.add_argument("candidates", type=Path, help="CSV of runs that could be done: the law's columns, and compute")
    _add_columns(command)
    _add_law(command)
    _add_fitting(command, known_sd=False)


def _add_plot(command: Parser) -> None:
    command.add_argument(
        "--what",
        choices=("size", "data", "compute", "contours", "mix", "residuals", "profiles"),
        default="size",
        help="default: %(default)s",
    )
    command.add_argument("--figure", type=Path, required=True, help="stem of the .pdf, .png and .csv")
    _add_table(command)
    _add_columns(command)
    _add_law(command)
    _add_fitting(command)


def _add_contrasts(command: Parser) -> None:
    command.add_argument("--mix", type=share, default=0.5, help="the mixed arm (default: %(default)s)")
    command.add_argument("--tier", help="generator tier of the synthetic records, where the table has several")
    command.add_argument("--curve", type=Path, help="curve.csv of constant-rate losses, for P3")
    command.add_argument("--target", type=positive, help="loss to reach in P3, fixed in advance")
    _add_table(command)
    _add_n(command)


def _add_power(command: Parser) -> None:
    command.add_argument("--sizes", required=True, help="planned parameters, comma-separated")
    command.add_argument("--budgets", required=True, help="planned records at which every run is scored")
    command.add_argument("--slope", type=number, required=True, help="of the difference of ln L, per unit of ln N")
    command.add_argument("--trunk-sd", type=number, help="s.d. of a paired difference of ln L between trunks")
    command.add_argument("--residual-sd", type=number, help="s.d. between budgets of one pair of trunks")
    command.add_argument("--pilot", type=Path, help="run table that gives both, at the upper 80%% limit, instead")
    command.add_argument("--mix", type=share, default=0.5, help="the pilot's arm beside r = 0 (default: %(default)s)")
    command.add_argument(
        "--pool-draws", type=counting, default=1, help="pool draws per size and seed (default: %(default)s)"
    )
    command.add_argument("--shared-reference", action="store_true", help="one run of arm b serves all pool draws")
    command.add_argument("--power", type=share, default=0.8, help="wanted (default: %(default)s)")
    command.add_argument("--alpha", type=share, default=ALPHA, help="two-sided level (default: %(default).3g, of Holm)")
    command.add_argument("--seeds-max", type=counting, default=32, help="most seeds tried (default: %(default)s)")
    command.add_argument("--seed", type=whole, default=0, help="seed of the simulation (default: %(default)s)")
    _add_output(command)


def _add_table(command: Parser) -> None:
    command.add_argument("table", type=Path, help="CSV, one row per run")
    command.add_argument("--loss", "--response", default="loss", help="column of the loss (default: %(default)s)")
    command.add_argument("--where", action="append", default=[], metavar="COLUMN=VALUE", help="keep such rows")
    command.add_argument("--fresh", action="store_true", help="keep rows of an exported table that repeat no data")
    _add_output(command)


def _add_output(command: Parser) -> None:
    command.add_argument("--quiet", action="store_true", help="no progress bar, and nothing else on stderr")
    command.add_argument("--out", type=Path, help="write the result as JSON")
    command.add_argument("--force", action="store_true", help="write over files that this program has not made")


def _add_columns(command: Parser) -> None:
    _add_n(command)
    _add_d(command)
    _add_c(command)
    command.add_argument(
        "--column", action="append", default=[], metavar="LETTER=COLUMN", help="column behind another letter"
    )


def _add_n(command: Parser) -> None:
    command.add_argument("--n", default="n_params", help="column behind N (default: %(default)s)")


def _add_d(command: Parser) -> None:
    command.add_argument("--d", default="records_seen", help="column behind D (default: %(default)s)")


def _add_c(command: Parser) -> None:
    command.add_argument(
        "--c", help="column of the compute (default: 6 N D, or train_flops of an exported table); compared with 6 N D"
    )


def _add_law(command: Parser) -> None:
    command.add_argument("--law", default="chinchilla", help="see the list below (default: %(default)s)")
    command.add_argument(
        "--fix", action="append", default=[], metavar="CONSTANT=NUMBER", help="hold a constant at this value"
    )


def _add_fitting(command: Parser, *, known_sd: bool = True) -> None:
    command.add_argument(
        "--estimator", choices=("huber", "squares", "quantile", "student"), default="huber", help="default: %(default)s"
    )
    command.add_argument("--residual", choices=("log", "raw"), default="log", help="of ln loss, or of the loss itself")
    command.add_argument("--delta", type=positive, default=1e-3, help="Huber delta on residuals (default: %(default)s)")
    command.add_argument("--tau", type=share, default=0.5, help="quantile; 0.5: least absolute deviation")
    command.add_argument(
        "--nu", type=positive, default=4.0, help="degrees of freedom of Student's t (default: %(default)s)"
    )
    command.add_argument("--link", choices=("log", "logit"), default="log", help="logit for AUROC and the like")
    command.add_argument("--trunk", help="column that groups dependent rows (default: trunk_id, where there is one)")
    command.add_argument("--weight", help="column of row weights, relative: only their ratios count")
    if known_sd:
        words = "column of standard deviations of ln loss, relative: the noise's scale is that of the residuals"
        command.add_argument("--sd", help=words)
    command.add_argument("--replicates", type=draws, default=1000, help="bootstrap draws (default: %(default)s)")
    command.add_argument("--seed", type=whole, default=0, help="seed of everything random (default: %(default)s)")


def number(text: str) -> float:
    """A finite number."""
    return _checked(text, float, math.isfinite, "a finite number")


def positive(text: str) -> float:
    """A finite number above 0."""
    return _checked(text, float, lambda value: 0 < value < math.inf, "a finite number above 0")


def share(text: str) -> float:
    """A number between 0 and 1."""
    return _checked(text, float, lambda value: 0 < value < 1, "a number between 0 and 1")


def whole(text: str) -> int:
    """A whole number from 0."""
    return _checked(text, int, lambda value: value >= 0, "a whole number from 0")


def counting(text: str) -> int:
    """A whole number from 1."""
    return _checked(text, int, lambda value: value >= 1, "a whole number from 1")


def draws(text: str) -> int:
    """A number of draws: none, or enough for a spread."""
    return _checked(text, int, lambda value: value == 0 or value >= 2, "0 (no intervals) or a whole number from 2")


def _checked(text: str, kind: Callable[[str], Any], sound: Callable[[Any], bool], words: str) -> Any:
    try:
        value = kind(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"must be {words}, not {text!r}") from error
    if not sound(value):
        raise argparse.ArgumentTypeError(f"must be {words}, not {text}")
    return value
