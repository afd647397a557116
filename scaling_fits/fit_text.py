"""A fit in words: for a terminal, a paper, and a notebook."""

from __future__ import annotations

import html
from dataclasses import dataclass

from scaling_fits.uncertainty.profile_likelihood import ProfileInterval

Ends = tuple[float | None, float | None]  # None: open on that side


@dataclass(frozen=True)
class ConstantText:
    """A constant as it is written: its value, its unit, whether it was held, and its intervals where there are any."""

    name: str
    value: float
    unit: str
    is_held: bool
    drawn: Ends | None
    profile: ProfileInterval | None


@dataclass(frozen=True)
class FitText:
    """What is written of a fit.

    `heading` is the equation with its source, `objective` what was minimised and its value; `drawn` says how the
    bootstrap went, at `level`, and `has_draws` whether it gave intervals; `interval_notes` also speak of profiles.
    `misfits` are the warnings that belong into a paper; `facts` are lines on residuals, data and certificate.
    """

    heading: str
    objective: str
    constants: tuple[ConstantText, ...]
    drawn: str
    has_draws: bool
    level: float
    interval_notes: tuple[str, ...]
    misfits: tuple[str, ...]
    facts: tuple[str, ...]
    notes: tuple[str, ...]
    warnings: tuple[str, ...]


def as_plain_text(fit: FitText) -> str:
    """Lines for a terminal."""
    lines = [fit.heading, fit.objective]
    for one in fit.constants:
        parts = [f"  {one.name:<7} {one.value:<12.6g}"]
        if one.is_held:
            parts.append("held")
        elif one.drawn is not None:
            parts.append(f"{100 * fit.level:.0f} % bootstrap {_between(one.drawn)}")
        if one.profile is not None:
            parts.append(f"profile {str(one.profile).partition(': ')[2]}")
        lines.append("   ".join(parts) + f"   [{one.unit}]")
    lines += [f"  {note}" for note in fit.interval_notes]
    lines += [*fit.facts, *(f"note: {note}" for note in fit.notes)]
    return "\n".join([*lines, *(f"WARNING: {warning}" for warning in fit.warnings)])


def as_latex(fit: FitText) -> str:
    """A `booktabs` table of the constants with their intervals, for a paper, and what the intervals are."""
    lines = [r"\begin{tabular}{lrll}", r"\toprule", r"constant & estimate & 95\,\% interval & unit \\", r"\midrule"]
    for one in fit.constants:
        ends = "held" if one.is_held else _ends(one, fit.has_draws) or "---"
        lines.append(rf"{_latex(one.name)} & {one.value:.6g} & {ends} & {_latex(one.unit)} \\")
    of_profile = not fit.has_draws and any(one.profile is not None for one in fit.constants)
    said = [*fit.misfits, *([fit.drawn] if fit.has_draws else fit.interval_notes)]
    said += ["intervals of the profile"] if of_profile else []
    notes = [rf"\multicolumn{{4}}{{l}}{{\footnotesize {_latex(one)}}} \\" for one in said]
    return "\n".join([*lines, r"\midrule", *notes, r"\bottomrule", r"\end{tabular}"]) + "\n"


def as_html(fit: FitText) -> str:
    """A table of the constants for a notebook, with what the terminal says around it."""
    head = "".join(f"<th>{word}</th>" for word in ("constant", "estimate", "interval", "unit"))
    rows = []
    for one in fit.constants:
        ends = "held" if one.is_held else _ends(one, fit.has_draws) or "none"
        cells = (html.escape(one.name), f"{one.value:.6g}", ends, html.escape(one.unit))
        rows.append("<tr>" + "".join(f"<td>{cell}</td>" for cell in cells) + "</tr>")
    around = [fit.objective, *fit.interval_notes, *fit.facts, *(f"note: {note}" for note in fit.notes)]
    around += [f"WARNING: {warning}" for warning in fit.warnings]
    below = "<br>".join(html.escape(line) for line in around)
    table = f"<table><thead><tr>{head}</tr></thead><tbody>{''.join(rows)}</tbody></table>"
    return f"<p><b>{html.escape(fit.heading)}</b></p>{table}<p>{below}</p>"


def _ends(one: ConstantText, has_draws: bool) -> str | None:
    """The bootstrap's interval where draws gave any, else the profile's."""
    if has_draws:
        return None if one.drawn is None else _between(one.drawn)
    return None if one.profile is None else _between((one.profile.low, one.profile.high))


def _between(ends: Ends) -> str:
    low, high = ("open" if end is None else f"{end:.4g}" for end in ends)
    return f"{low} to {high}"


def _latex(words: str) -> str:
    """Text as LaTeX sets it."""
    written = {"_": r"\_", "%": r"\%", "^": r"\textasciicircum ", "<": r"\textless ", ">": r"\textgreater "}
    return "".join(written.get(letter, letter) for letter in words)
