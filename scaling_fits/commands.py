"""What each command of `python -m scaling_fits` does, from parsed options to text and JSON."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import pandas as pd
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from scaling_fits import design, diagnostic_plots, law_plots, optimum_plots
from scaling_fits.backtest import Fold, leave_largest_size_out, rolling_cuts
from scaling_fits.bootstrap import Bootstrap
from scaling_fits.compare import compare
from scaling_fits.contrasts import PAIRED_ON, contrasts_json, paired_differences, protocol_contrasts, select_arm
from scaling_fits.convergence import records_to_target
from scaling_fits.estimators import Estimator, Huber, LeastSquares, Quantile, StudentT
from scaling_fits.fit import Fit, fit
from scaling_fits.form import Form
from scaling_fits.forms import CHINCHILLA, COUPLED, FARSEER, KAPLAN, REPETITION, TIED, broken_power_law, power_law
from scaling_fits.isoflop import isoflop
from scaling_fits.mixtures import COMMON_RATE, D_CPT, FLOOR_OF_MIX, RATE_OF_SIZE, SATURATING
from scaling_fits.observations import COLUMNS, Link
from scaling_fits.power import Noise, Plan, noise_from_pilot, seeds_needed
from scaling_fits.style import save_figure
from scaling_fits.table import RunTable, read_runs
from scaling_fits.writing import write_text

FORMS: tuple[Form, ...] = (
    power_law("N"),
    power_law("D"),
    KAPLAN,
    TIED,
    CHINCHILLA,
    COUPLED,
    FARSEER,
    REPETITION,
    broken_power_law("D"),
    D_CPT,
    COMMON_RATE,
    RATE_OF_SIZE,
    SATURATING,
    FLOOR_OF_MIX,
)


@dataclass(frozen=True)
class Answer:
    """What a command found: `text` for the terminal, `data` as JSON, and the table it read, if any."""

    table: RunTable | None
    text: str
    data: str


def run_fit(options: argparse.Namespace) -> Answer:
    """`fit`: one law, its certificate, intervals, and on request influence, LaTeX and figures."""
    table = _table(options, _form(options.form))
    law = _fit(options, table)
    parts = [str(law)]
    if options.influence:
        parts.append(str(law.identifiability))
    if options.latex:
        write_text(options.latex, law.to_latex())
    return Answer(table, "\n".join(parts), law.to_json())


def run_compare(options: argparse.Namespace) -> Answer:
    """`compare`: several laws on the same rows, nested tests, criteria, and a backtest."""
    forms = [_form(name) for name in options.forms.split(",")]
    table = _table(options, *forms)
    letters = {letter for form in forms for letter in form.letters}
    columns = {letter: _column(options, letter) for letter in sorted(letters)}
    found = compare(
        forms,
        table,
        folds=_folds(options, table, columns),
        columns=columns,
        bootstrap=Bootstrap(options.replicates, options.seed),
        response=options.loss,
        estimator=_estimator(options),
        cluster=options.trunk,
    )
    return Answer(table, str(found), found.to_json())


def run_isoflop(options: argparse.Namespace) -> Answer:
    """`isoflop`: minima per budget and how the best size and data grow with compute."""
    n, d = _column(options, "N"), _column(options, "D")
    table = _narrowed(read_runs(options.table, response=options.loss, positive=[n, d]), options.where)
    compute = {} if options.c is None else {"c": options.c}
    found = isoflop(
        table,
        n=n,
        d=d,
        loss=options.loss,
        method=options.method,
        tolerance=options.tolerance,
        budgets=None if options.budgets is None else _numbers("--budgets", options.budgets),
        seed=options.seed,
        **compute,
    )
    text = str(found)
    if options.figure is not None:
        figure, data = optimum_plots.isoflop_figure(found)
        paths = save_figure(figure, options.figure, data)
        text += "\nwrote " + ", ".join(path.name for path in paths)
    return Answer(table, text, json.dumps(found.to_dict(), indent=1, allow_nan=False) + "\n")


def run_design(options: argparse.Namespace) -> Answer:
    """`design`: which candidate runs make a quantity tightest under a budget."""
    table = _table(options, _form(options.form))
    law = _fit(options, table)
    if not options.candidates.is_file():
        raise FileNotFoundError(f"{options.candidates}: no such table of candidate runs")
    quantity = _quantity(options.quantity)
    chosen = design.next_runs(law, pd.read_csv(options.candidates), quantity, budget=options.budget)
    return Answer(table, f"{law}\n\n{chosen}", json.dumps(chosen.to_dict(), indent=1, allow_nan=False) + "\n")


def run_plot(options: argparse.Namespace) -> Answer:
    """`plot`: one figure as pdf, png and csv."""
    table = _table(options, _form(options.form))
    law = _fit(options, table, profiles=False)
    figure, data = _figure(options.what, law)
    paths = save_figure(figure, options.figure, data)
    return Answer(table, f"{law}\nwrote " + ", ".join(path.name for path in paths), law.to_json())


def run_contrasts(options: argparse.Namespace) -> Answer:
    """`contrasts`: the protocol's P1, P2 and, with curves and a target, P3."""
    if (options.curve is None) != (options.target is None):
        raise ValueError("P3 needs both --curve and --target")
    n = _column(options, "N")
    table = _narrowed(read_runs(options.table, response=options.loss, positive=[n, "records_seen"]), options.where)
    times = None
    if options.curve is not None:
        if not options.curve.is_file():
            raise FileNotFoundError(f"{options.curve}: no such curve table")
        times = records_to_target(pd.read_csv(options.curve), options.target)
    slopes = protocol_contrasts(table, mix=options.mix, tier=options.tier, times=times, response=options.loss, n=n)
    lines = [str(slope) for slope in slopes]
    lines.append(f"{len(table.rows)} rows; excluded: {table.excluded or 'none'}")
    return Answer(table, "\n".join(lines), contrasts_json(slopes))


def run_power(options: argparse.Namespace) -> Answer:
    """`power`: how many seeds per size, and trunks in all, claim a slope in ln N of a paired difference."""
    sizes, budgets = (_numbers(f"--{name}", getattr(options, name)) for name in ("sizes", "budgets"))
    plan = Plan(sizes, budgets, 1, options.pool_draws, options.shared_reference)
    assumed = options.trunk_sd, options.residual_sd
    if (options.pilot is None) == (None in assumed) or (options.pilot and assumed != (None, None)):
        raise ValueError("the noise is either --trunk-sd and --residual-sd, or a --pilot table's")
    table = None if options.pilot is None else read_runs(options.pilot, positive=PAIRED_ON[:2])
    noise = Noise(*assumed) if table is None else _pilot_noise(options, table)
    found = seeds_needed(
        plan,
        noise,
        options.slope,
        power=options.power,
        alpha=options.alpha,
        seeds_max=options.seeds_max,
        seed=options.seed,
    )
    return Answer(table, str(found), json.dumps(asdict(found) | {"firm": found.firm}, indent=1, allow_nan=False) + "\n")


def _pilot_noise(options: argparse.Namespace, table: RunTable) -> Noise:
    """Noise of the pilot's differences, r = mix of its largest pool minus r = 0, at the upper 80 % limit."""
    mixed = select_arm(table, options.mix)
    if "unique_real_patients" in mixed.frame:
        mixed = mixed.where(unique_real_patients=mixed.rows["unique_real_patients"].max())
    draws = ["pool_shuffle"] if "pool_shuffle" in table.frame else []
    return noise_from_pilot(paired_differences(mixed, select_arm(table, 0.0), beside_a=draws), confidence=0.8)


def _numbers(name: str, text: str) -> tuple[float, ...]:
    try:
        return tuple(float(value) for value in text.split(","))
    except ValueError as error:
        raise ValueError(f"{name} {text!r} must be numbers with commas, like 1e5,1e6") from error


def _fit(options: argparse.Namespace, table: RunTable, *, profiles: bool = True) -> Fit:
    form = _form(options.form)
    with _progress("bootstrap", options.quiet) as follow:
        return fit(
            form,
            table,
            response=options.loss,
            columns={letter: _column(options, letter) for letter in form.letters},
            estimator=_estimator(options),
            link=Link[options.link.upper()],
            weight=options.weight,
            sd=options.sd,
            cluster=options.trunk,
            bootstrap=Bootstrap(options.replicates, options.seed),
            profiles=profiles,
            progress=follow,
        )


class _progress:
    """A bar on stderr for long work; none when asked to be quiet or not at a terminal."""

    def __init__(self, what: str, quiet: bool) -> None:
        console = Console(stderr=True)
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
        self.bar = Progress(*columns, console=console, transient=True, disable=quiet or not console.is_terminal)
        self.task = self.bar.add_task(what, total=None)

    def __enter__(self) -> Callable[[int, int], None]:
        self.bar.start()
        return lambda done, total: self.bar.update(self.task, completed=done, total=total)

    def __exit__(self, *error: object) -> None:
        self.bar.stop()


def _form(name: str) -> Form:
    wanted = name.strip().replace("-", "_").lower()
    for form in FORMS:
        if form.name.lower() == wanted:
            return form
    raise ValueError(f"no form {name!r}; there are {', '.join(form.name for form in FORMS)}")


def _estimator(options: argparse.Namespace) -> Estimator:
    match options.estimator:
        case "huber":
            return Huber(options.delta)
        case "squares":
            return LeastSquares()
        case "quantile":
            return Quantile(options.tau)
        case _:
            return StudentT(options.nu)


def _column(options: argparse.Namespace, letter: str) -> str:
    given = {"N": options.n, "D": options.d}
    for pair in options.column:
        name, equals, column = pair.partition("=")
        if not equals:
            raise ValueError(f"--column {pair!r} must read LETTER=COLUMN")
        given[name] = column
    return given.get(letter) or COLUMNS.get(letter, letter)


def _table(options: argparse.Namespace, *forms: Form) -> RunTable:
    logs = {v.name for form in forms for v in form.variables if v.log}
    plain = {v.name for form in forms for v in form.variables} - logs
    table = read_runs(
        options.table,
        response=options.loss,
        positive=[_column(options, letter) for letter in sorted(logs)],
        numeric=[_column(options, letter) for letter in sorted(plain)],
    )
    return _narrowed(table, options.where)


def _folds(options: argparse.Namespace, table: RunTable, columns: dict[str, str]) -> Sequence[Fold]:
    match options.backtest:
        case "largest-size":
            return leave_largest_size_out(table, size=columns["N"], response=options.loss)
        case "size":
            return rolling_cuts(table, columns["N"], response=options.loss)
        case "records":
            return rolling_cuts(table, columns["D"], response=options.loss)
        case _:
            return rolling_cuts(table, options.c or "train_flops", response=options.loss)


def _quantity(text: str) -> design.Quantity:
    """`alpha`, or `L(N=1e8, D=1e6)`."""
    if not text.startswith("L("):
        return design.constant(text)
    inside = text.removeprefix("L(").removesuffix(")")
    try:
        return design.prediction(**{k.strip(): float(v) for k, v in (pair.split("=") for pair in inside.split(","))})
    except ValueError as error:
        raise ValueError(f"--quantity {text!r} must be a constant's name or like 'L(N=1e8, D=1e6)'") from error


def _figure(what: str, law: Fit) -> tuple[object, pd.DataFrame]:
    match what:
        case "compute":
            return law_plots.loss_against_compute(law)
        case "contours":
            return law_plots.contours(law)
        case "mix":
            return law_plots.mix_curves(law)
        case "residuals":
            return diagnostic_plots.residuals(law)
        case "profiles":
            return diagnostic_plots.profiles(law)
        case "size":
            return law_plots.loss_against(law, "N")
        case _:
            return law_plots.loss_against(law, "D")


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


def write_answer(answer: Answer, path: Path | None) -> None:
    """The JSON of an answer, whole or not at all, when a path is given."""
    if path is not None:
        write_text(path, answer.data)
