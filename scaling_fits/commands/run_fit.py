"""`fit`: one law, its certificate, intervals, and on request influence and LaTeX."""

from __future__ import annotations

from scaling_fits.commands.answer import Answer, Work
from scaling_fits.commands.fitting import read_law_and_fit
from scaling_fits.commands.options import Options
from scaling_fits.files import MADE_BY, write_text


def run(options: Options) -> Work:
    """`fit`: one law, its certificate, intervals, and on request influence and LaTeX."""
    of, do_fit = read_law_and_fit(options)
    influence, latex = options.influence, options.latex

    def work() -> Answer:
        law = do_fit()
        if latex is not None:
            write_text(latex, f"% made by {MADE_BY}\n{law.to_latex()}")
        text = f"{law}\n{law.identifiability}" if influence else str(law)
        return Answer(text, law.to_dict(), of.notes)

    return work
