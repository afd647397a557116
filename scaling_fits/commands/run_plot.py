"""`plot`: one figure as pdf, png and csv."""

from __future__ import annotations

import pandas as pd
from matplotlib.figure import Figure

from scaling_fits.commands.answer import Answer, Work
from scaling_fits.commands.figure import save_beside
from scaling_fits.commands.fitting import read_law_and_fit
from scaling_fits.commands.options import Options
from scaling_fits.figures import diagnostic_figures, law_figures
from scaling_fits.fit import Fit


def run(options: Options) -> Work:
    """`plot`: one figure as pdf, png and csv."""
    what, stem = options.what, options.figure
    of, do_fit = read_law_and_fit(options, profiles=what == "profiles")

    def work() -> Answer:
        law = do_fit()
        return Answer(f"{law}{save_beside(stem, *_figure(what, law))}", law.to_dict(), of.notes)

    return work


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
