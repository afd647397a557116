"""From the options of a command to a law and how it is fitted."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from scaling_fits.commands.options import Options
from scaling_fits.commands.rows import Selection, select_for_laws
from scaling_fits.errors import nearest
from scaling_fits.estimation.columns import Columns, Link
from scaling_fits.estimation.estimators import Estimator, Huber, LeastSquares, Quantile, Residual, StudentT
from scaling_fits.estimation.multistart import Search
from scaling_fits.estimation.observations import observe
from scaling_fits.fit import Fit, fit_observations
from scaling_fits.laws.law import Law
from scaling_fits.laws.named import named_law
from scaling_fits.uncertainty.bootstrap import Bootstrap


@dataclass(frozen=True)
class Fitting:
    """How laws are fitted: what is read from which column, with which estimator, search and draws."""

    columns: Columns
    estimator: Estimator
    search: Search
    bootstrap: Bootstrap


def read_fitting(options: Options, of: Selection) -> Fitting:
    """How the options ask laws to be fitted to the rows selected."""
    columns = Columns(
        of.columns,
        response=of.response,
        link=Link[options.link.upper()],
        weight=options.weight,
        sd=options.sd if options.has("sd") else None,
        cluster=options.trunk,
    )
    search = Search(seed=options.seed)
    return Fitting(columns, read_estimator(options), search, Bootstrap(options.replicates, options.seed))


def read_estimator(options: Options) -> Estimator:
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


def read_law_and_fit(options: Options, *, profiles: bool = True) -> tuple[Selection, Callable[[], Fit]]:
    """The rows and columns of the law that is asked for, and its fit, which is still to be done."""
    law = named_law(options.law)
    of = select_for_laws(options, [law])
    how, fixed, quiet = read_fitting(options, of), _read_fixed(options, law), options.quiet

    def do_fit() -> Fit:
        with _Progress("bootstrap", quiet) as follow:
            data = observe(law, of.table, how.estimator, columns=how.columns, fixed=fixed)
            return fit_observations(
                data, bootstrap=how.bootstrap, profiles=profiles, search=how.search, progress=follow
            )

    return of, do_fit


def _read_fixed(options: Options, law: Law) -> dict[str, float]:
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


class _Progress:
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
