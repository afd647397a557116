"""`isoflop`: minima per budget and how the best size and data grow with compute."""

from __future__ import annotations

from scaling_fits.commands.answer import Answer, Work
from scaling_fits.commands.figure import save_beside
from scaling_fits.commands.options import Options, read_numbers
from scaling_fits.commands.rows import compute_of, select_columns
from scaling_fits.compute_optimal.akima import Akima
from scaling_fits.compute_optimal.compute import SweepColumns
from scaling_fits.compute_optimal.isoflop import isoflop
from scaling_fits.compute_optimal.parabola import PARABOLA
from scaling_fits.estimation.columns import cluster_column
from scaling_fits.figures import optimum_figures


def run(options: Options) -> Work:
    """`isoflop`: minima per budget and how the best size and data grow with compute."""
    of = select_columns(options, {"N", "D"})
    is_akima = options.method == "akima"
    cluster = cluster_column(of.table, options.trunk) if options.trunk or not is_akima else None
    c = compute_of(options, of.table)
    columns = SweepColumns(of.columns["N"], of.columns["D"], c, loss=of.response, cluster=cluster)
    method = Akima(options.noise_sd, options.replicates, options.seed) if is_akima else PARABOLA
    budgets = None if options.budgets is None else read_numbers("--budgets", options.budgets)
    tolerance, stem = options.tolerance, options.figure

    def work() -> Answer:
        found = isoflop(of.table, columns, method=method, budgets=budgets, tolerance=tolerance)
        text = str(found)
        if stem is not None:
            text += save_beside(stem, *optimum_figures.isoflop_figure(found))
        return Answer(text, found.to_dict(), of.notes)

    return work
