"""Scaling laws from run tables: certified fits, open intervals, backtests, the protocol's contrasts, figures.

Works on any CSV and never imports `ecg_jax`. What most users call is found here, and loaded when it is first used:

    from scaling_fits import fit, compare
    law = fit("chinchilla", "runs.csv")
    law.predict(N=1e8, D=1e6)

From the ground up, each room knowing only those before it:

- `files`, `errors`, `tables` (from a CSV to checked rows), `laws` (of size, data, mix and learning curve);
- `estimation` (from rows to a certified optimum) and, beside it, `compute_optimal` (approaches 1 to 3), `contrasts`
  (the protocol's), `convergence` (speed);
- `uncertainty` (bootstrap, profile, sandwich, bounds), `fit_text`, and `fit`, which puts these together;
- `selection` (which law), `mixing` (the best mix), `posterior`;
- `planning` (what to run next), `figures`;
- `commands`, the command line.
"""

from __future__ import annotations

import importlib
import typing

if typing.TYPE_CHECKING:
    from scaling_fits.compute_optimal.akima import Akima as Akima
    from scaling_fits.compute_optimal.allocation import chinchilla_optimum as chinchilla_optimum
    from scaling_fits.compute_optimal.allocation import law_optimum as law_optimum
    from scaling_fits.compute_optimal.compute import SweepColumns as SweepColumns
    from scaling_fits.compute_optimal.envelope import lower_envelope as lower_envelope
    from scaling_fits.compute_optimal.isoflop import isoflop as isoflop
    from scaling_fits.compute_optimal.parabola import Parabola as Parabola
    from scaling_fits.contrasts.contrasts import protocol_contrasts as protocol_contrasts
    from scaling_fits.estimation.columns import Columns as Columns
    from scaling_fits.estimation.columns import Link as Link
    from scaling_fits.estimation.estimators import Huber as Huber
    from scaling_fits.estimation.estimators import LeastSquares as LeastSquares
    from scaling_fits.estimation.estimators import Quantile as Quantile
    from scaling_fits.estimation.estimators import StudentT as StudentT
    from scaling_fits.estimation.multistart import Search as Search
    from scaling_fits.figures.law_figures import loss_against as loss_against
    from scaling_fits.figures.style import save_figure as save_figure
    from scaling_fits.fit import Fit as Fit
    from scaling_fits.fit import fit as fit
    from scaling_fits.laws.law import Law as Law
    from scaling_fits.laws.named import LAWS as LAWS
    from scaling_fits.laws.named import named_law as named_law
    from scaling_fits.mixing.best_mix import best_mix as best_mix
    from scaling_fits.mixing.best_mix import exchange_rate as exchange_rate
    from scaling_fits.planning.design import next_runs as next_runs
    from scaling_fits.planning.power import seeds_needed as seeds_needed
    from scaling_fits.posterior import sample_posterior as sample_posterior
    from scaling_fits.selection.backtest import backtest as backtest
    from scaling_fits.selection.compare import compare as compare
    from scaling_fits.tables.run_table import RunTable as RunTable
    from scaling_fits.tables.run_table import read_runs as read_runs
    from scaling_fits.uncertainty.bootstrap import Bootstrap as Bootstrap

    __version__: str

#: Where the names stand that are found here: importing the package alone loads none of them, and no JAX.
_HOMES = {
    "compute_optimal.akima": ("Akima",),
    "compute_optimal.allocation": ("chinchilla_optimum", "law_optimum"),
    "compute_optimal.compute": ("SweepColumns",),
    "compute_optimal.envelope": ("lower_envelope",),
    "compute_optimal.isoflop": ("isoflop",),
    "compute_optimal.parabola": ("Parabola",),
    "contrasts.contrasts": ("protocol_contrasts",),
    "estimation.columns": ("Columns", "Link"),
    "estimation.estimators": ("Huber", "LeastSquares", "Quantile", "StudentT"),
    "estimation.multistart": ("Search",),
    "figures.law_figures": ("loss_against",),
    "figures.style": ("save_figure",),
    "fit": ("Fit",),
    "laws.law": ("Law",),
    "laws.named": ("LAWS", "named_law"),
    "mixing.best_mix": ("best_mix", "exchange_rate"),
    "planning.design": ("next_runs",),
    "planning.power": ("seeds_needed",),
    "posterior": ("sample_posterior",),
    "selection.backtest": ("backtest",),
    "selection.compare": ("compare",),
    "tables.run_table": ("RunTable", "read_runs"),
    "uncertainty.bootstrap": ("Bootstrap",),
}
_FACE = {name: home for home, names in _HOMES.items() for name in names}


def __getattr__(name: str) -> typing.Any:
    if name == "__version__":
        from importlib.metadata import version

        return version("ecg-jax")
    if name == "fit":  # the module is callable, so that the name means one thing however it was imported
        return importlib.import_module("scaling_fits.fit")
    if name in _FACE:
        return getattr(importlib.import_module(f"scaling_fits.{_FACE[name]}"), name)
    raise AttributeError(f"module 'scaling_fits' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *_FACE, "fit", "__version__"})
