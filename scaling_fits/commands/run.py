"""What each command of `python -m scaling_fits` does.

A command first looks at all its options and reads its tables, which is quick, and gives back the work that is left.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pandas as pd
from matplotlib.figure import Figure
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from scaling_fits.commands.options import (
    COMPUTE,
    Asked,
    Options,
    asked,
    asked_columns,
    bootstrap,
    compute,
    fitting,
    letters,
    numbers,
    selected,
    with_compute_column,
)
from scaling_fits.compute_optimal.akima import Akima
from scaling_fits.compute_optimal.compute import SIX_N_D, SweepColumns
from scaling_fits.compute_optimal.isoflop import isoflop
from scaling_fits.compute_optimal.parabola import PARABOLA
from scaling_fits.contrasts.contrasts import (
    PAIRED_ON,
    contrasts_json,
    paired_differences,
    protocol_contrasts,
    select_arm,
    unpaired_runs,
)
from scaling_fits.convergence.times import records_to_target
from scaling_fits.errors import nearest
from scaling_fits.estimation.columns import cluster_column
from scaling_fits.estimation.observations import observe
from scaling_fits.figures import diagnostic_figures, law_figures, optimum_figures
from scaling_fits.figures.style import save_figure
from scaling_fits.files import MADE_BY, write_text
from scaling_fits.fit import Fit, fit_observations
from scaling_fits.laws.law import Law
from scaling_fits.laws.named import named_law
from scaling_fits.planning import design
from scaling_fits.planning.fisher_information import Quantity
from scaling_fits.planning.power import Noise, Plan, noise_from_pilot, seeds_needed
from scaling_fits.selection.backtest import Fold, leave_largest_size_out, rolling_cuts
from scaling_fits.selection.compare import compare
from scaling_fits.tables.csv_file import read_csv
from scaling_fits.tables.run_table import RunTable, read_runs, require_columns
from scaling_fits.uncertainty.bootstrap import cluster_noise
from scaling_fits.uncertainty.profile_likelihood import CLUSTERS_MIN


@dataclass(frozen=True)
class Answer:
    """What a command found: `text` for the terminal, `data` for JSON, and notes on the table it read."""

    text: str
    data: dict[str, Any] | list[dict[str, Any]]
    notes: tuple[str, ...] = ()


Work = Callable[[], Answer]


def run_fit(options: Options) -> Work:
    """`fit`: one law, its certificate, intervals, and on request influence and LaTeX."""
    of, fitted = _law(options)
    influence, latex = options.influence, options.latex

    def work() -> Answer:
        law = fitted()
        if latex is not None:
            write_text(latex, f"% made by {MADE_BY}\n{law.to_latex()}")
        text = f"{law}\n{law.identifiability}" if influence else str(law)
        return Answer(text, law.to_dict(), of.notes)

    return work


def run_compare(options: Options) -> Work:
    """`compare`: several laws on the same rows, nested tests, criteria, and a backtest."""
    laws = [named_law(name) for name in options.laws.split(",")]
    if twice := sorted({one.name for one in laws if laws.count(one) > 1}):
        raise ValueError(f"--laws {options.laws!r}: {twice[0]} is given twice")
    of = asked(options, laws)
    folds, told, plan = _folds(options, of), fitting(options, of), bootstrap(options)

    def work() -> Answer:
        found = compare(laws, of.table, folds=folds, bootstrap=plan, replicates=plan.replicates, **told)
        return Answer(str(found), json.loads(found.to_json()), of.notes)

    return work


def run_isoflop(options: Options) -> Work:
    """`isoflop`: minima per budget and how the best size and data grow with compute."""
    of = asked_columns(options, {"N", "D"})
    is_akima = options.method == "akima"
    cluster = cluster_column(of.table, options.trunk) if options.trunk or not is_akima else None
    c = compute(options, of.table)
    columns = SweepColumns(of.columns["N"], of.columns["D"], c, loss=of.response, cluster=cluster)
    method = Akima(options.noise_sd, options.replicates, options.seed) if is_akima else PARABOLA
    budgets = None if options.budgets is None else numbers("--budgets", options.budgets)
    tolerance, stem = options.tolerance, options.figure

    def work() -> Answer:
        found = isoflop(of.table, columns, method=method, budgets=budgets, tolerance=tolerance)
        text = str(found)
        if stem is not None:
            text += _written(stem, *optimum_figures.isoflop_figure(found))
        return Answer(text, found.to_dict(), of.notes)

    return work


def run_design(options: Options) -> Work:
    """`design`: which candidate runs make a quantity tightest under a budget."""
    of, fitted = _law(options)
    quantity = _quantity(options.quantity, named_law(options.law))
    candidates, notes = _candidates(options, of)
    budget = options.budget

    def work() -> Answer:
        law = fitted()
        chosen = design.next_runs(law, candidates, quantity, budget=budget, **_noise_of(law))
        return Answer(f"{law}\n\n{chosen}", chosen.to_dict(), (*of.notes, *notes))

    return work


def _noise_of(law: Fit) -> dict[str, Any]:
    """Standard deviations between rows and between trunks for a design, where the fitted rows share trunks."""
    if not CLUSTERS_MIN <= law.data.clusters < law.data.rows:
        return {}
    within, between = cluster_noise(law.observations, law.theta_KxP[0]).sds
    return {"noise_sd": within, "trunk_sd": between} if within > 0 else {}


def run_plot(options: Options) -> Work:
    """`plot`: one figure as pdf, png and csv."""
    what, stem = options.what, options.figure
    of, fitted = _law(options, profiles=what == "profiles")

    def work() -> Answer:
        law = fitted()
        return Answer(f"{law}{_written(stem, *_figure(what, law))}", law.to_dict(), of.notes)

    return work


def run_contrasts(options: Options) -> Work:
    """`contrasts`: the protocol's P1, P2 and, with curves and a target, P3."""
    if (options.curve is None) != (options.target is None):
        raise ValueError("P3 needs both --curve and --target")
    n = letters(options, {"N"})["N"]
    table = selected(options, positive=[n, "records_seen"])
    times = None if options.curve is None else records_to_target(read_csv(options.curve)[0], options.target)
    asks = {"mix": options.mix, "tier": options.tier, "times": times, "response": options.loss, "n": n}

    def work() -> Answer:
        slopes = protocol_contrasts(table, **asks)
        lines = [str(slope) for slope in slopes]
        lines.append(f"{len(table.rows)} rows; excluded: {table.excluded or 'none'}")
        return Answer("\n".join(lines), json.loads(contrasts_json(slopes)), _notes(table))

    return work


def run_power(options: Options) -> Work:
    """`power`: how many seeds per size, and trunks in all, claim a slope in ln N of a paired difference."""
    sizes, budgets = (numbers(f"--{name}", getattr(options, name)) for name in ("sizes", "budgets"))
    plan = Plan(sizes, budgets, 1, options.pool_draws, options.pool_draws > 1 and options.shared_reference)
    assumed = options.trunk_sd, options.residual_sd
    if (options.pilot is None) == (None in assumed) or (options.pilot and assumed != (None, None)):
        raise ValueError("the noise is either --trunk-sd and --residual-sd, or a --pilot table's")
    table = None if options.pilot is None else read_runs(options.pilot, positive=PAIRED_ON[:2])
    noise, unpaired = (Noise(*assumed), ()) if table is None else _pilot_noise(options.mix, table)
    asks = {name: getattr(options, name) for name in ("power", "alpha", "seeds_max", "seed")}
    slope = options.slope

    def work() -> Answer:
        found = seeds_needed(plan, noise, slope, **asks)
        return Answer(
            str(found), asdict(found) | {"firm": found.firm}, () if table is None else (*_notes(table), *unpaired)
        )

    return work


def _law(options: Options, *, profiles: bool = True) -> tuple[Asked, Callable[[], Fit]]:
    """The rows and columns of the law that is asked for, and its fit."""
    law = named_law(options.law)
    of = asked(options, [law])
    told, fixed, plan, quiet = fitting(options, of), _fixed(options, law), bootstrap(options), options.quiet

    def fitted() -> Fit:
        with _progress("bootstrap", quiet) as follow:
            data = observe(law, of.table, told["estimator"], columns=told["columns"], fixed=fixed)
            return fit_observations(data, bootstrap=plan, profiles=profiles, search=told["search"], progress=follow)

    return of, fitted


def _fixed(options: Options, law: Law) -> dict[str, float]:
    """Constants held at the values given."""
    found = {}
    for pair in options.fix:
        name, _, text = (part.strip() for part in pair.partition("="))
        if name not in law.names:
            raise ValueError(
                f"--fix {pair!r}: {law.name} has the constants {', '.join(sorted(law.names))}, not {name!r}"
                f"{nearest([name], law.names)}"
            )
        if name in found:
            raise ValueError(f"--fix {pair!r}: {name} is given twice")
        try:
            found[name] = float(text)
        except ValueError as error:
            raise ValueError(f"--fix {pair!r} must read CONSTANT=NUMBER") from error
    return found


def _candidates(options: Options, of: Asked) -> tuple[pd.DataFrame, tuple[str, ...]]:
    """The runs that could be done, their columns named by the law's letters and `flops`, and how they were read.

    A letter's column is called as in the table of runs, or by the letter; compute as --c says, `flops`, or it is 6 N D.
    """
    frame, notes = read_csv(options.candidates)
    source = Path(options.candidates).name
    columns = {letter: column if column in frame else letter for letter, column in of.columns.items()}
    require_columns(frame, [of.columns[x] if x not in frame else column for x, column in columns.items()], source)
    chosen = frame.rename(columns={column: letter for letter, column in columns.items()})
    named = options.c or next((name for name in ("flops", "train_flops") if name in frame), None)
    if named is not None:
        require_columns(frame, [named], source)
        return chosen.assign(flops=frame[named]), notes
    if not {"N", "D"} <= set(of.columns):
        raise ValueError(f"{source}: no column of compute; name it with --c")
    flops = SIX_N_D.flops(chosen["N"].to_numpy(dtype=float), chosen["D"].to_numpy(dtype=float))
    return chosen.assign(flops=flops), (*notes, f"{source} has no column of compute: a run costs 6 N D FLOPs")


def _notes(table: RunTable) -> tuple[str, ...]:
    return table.notes if table.law_refusal is None else (*table.notes, table.law_refusal)


def _pilot_noise(mix: float, table: RunTable) -> tuple[Noise, tuple[str, ...]]:
    """Noise of the pilot's differences, r = mix of its largest pool minus r = 0, at the upper 80 % limit.

    Beside it the runs that have no partner, counted by name.
    """
    mixed = select_arm(table, mix)
    if "unique_real_patients" in mixed.frame:
        mixed = mixed.where(unique_real_patients=mixed.rows["unique_real_patients"].max())
    draws = ["pool_shuffle"] if "pool_shuffle" in table.frame else []
    pure = select_arm(table, 0.0)
    alone = unpaired_runs(mixed, pure, labels=(f"r = {mix:g}", "r = 0"))
    return noise_from_pilot(paired_differences(mixed, pure, beside_a=draws), confidence=0.8), tuple(map(str, alone))


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


def _folds(options: Options, of: Asked) -> Sequence[Fold]:
    """What the backtest holds out."""
    match options.backtest:
        case "largest-size":
            return leave_largest_size_out(of.table, size=_behind(of, "N"), response=of.response)
        case "size":
            return rolling_cuts(of.table, _behind(of, "N"), response=of.response)
        case "records":
            return rolling_cuts(of.table, _behind(of, "D"), response=of.response)
        case _:
            table = with_compute_column(of, compute(options, of.table))
            return rolling_cuts(table, COMPUTE, response=of.response)


def _behind(of: Asked, letter: str) -> str:
    if letter not in of.columns:
        raise ValueError(f"--backtest cuts in {letter}, and none of the laws has {letter}; choose another backtest")
    return of.columns[letter]


def _quantity(text: str, law: Law) -> Quantity:
    """`alpha`, or `L(N=1e8, D=1e6)`."""
    if not text.startswith("L("):
        if text not in law.names:
            raise ValueError(
                f"--quantity {text!r}: {law.name} has the constants {', '.join(sorted(law.names))}"
                f"{nearest([text], law.names)}, and a loss reads 'L(N=1e8, D=1e6)'"
            )
        return design.constant(text)
    inside = text.removeprefix("L(").removesuffix(")")
    try:
        at = {k.strip(): float(v) for k, v in (pair.split("=") for pair in inside.split(","))}
    except ValueError as error:
        raise ValueError(f"--quantity {text!r} must be a constant's name or like 'L(N=1e8, D=1e6)'") from error
    if set(at) != set(law.letters):
        raise ValueError(f"--quantity {text!r}: {law.name} needs exactly {', '.join(sorted(law.letters))}")
    return design.prediction(**at)


def _written(stem: Path, figure: Figure, data: pd.DataFrame) -> str:
    """What was written, as a line; a folder that was made for it is named."""
    made = "" if stem.parent.exists() else f" (made the folder {stem.parent})"
    return "\nwrote " + ", ".join(path.name for path in save_figure(figure, stem, data)) + made


def _figure(what: str, law: Fit) -> tuple[Figure, pd.DataFrame]:
    match what:
        case "compute":
            return law_figures.loss_against_compute(law)
        case "contours":
            return law_figures.contours(law)
        case "mix":
            return law_figures.mix_curves(law)
        case "residuals":
            return diagnostic_figures.residuals(law)
        case "profiles":
            return diagnostic_figures.profiles(law)
        case "size":
            return law_figures.loss_against(law, "N")
        case _:
            return law_figures.loss_against(law, "D")
