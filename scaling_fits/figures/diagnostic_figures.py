"""Figures that question a fit: residuals and influence, profiles of its constants."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from scaling_fits.figures.law_figures import axis_name
from scaling_fits.figures.look import PLAIN, Look
from scaling_fits.figures.style import DASHES, PALETTE, SMALL, STYLE, Canvas, Width, short, symbol
from scaling_fits.fit import Fit
from scaling_fits.uncertainty.profile_likelihood import ProfileInterval
from scaling_fits.uncertainty.sandwich import Influence

PROFILE_TOP = 3.0  # thresholds
OPEN_FACTOR = 100.0  # how far from its estimate a positive constant is drawn towards an open end
ROW_NAME_MAX = 24  # letters of a run's name that a panel has room for; the table has all


@rc_context(STYLE)
def residuals(
    fit: Fit,
    *,
    look: Look = PLAIN,
) -> tuple[Figure, pd.DataFrame]:
    """ln law - ln response against the prediction and every variable, and what the most influential rows do.

    The band is twice the residuals' robust spread (median absolute deviation / 0.6745). The five rows of
    `Fit.identifiability` are ringed and named; the bars are the constant that each moves most when it is left out.
    """
    width = look.width or Width.DOUBLE
    influential = fit.identifiability.influential
    shown = ["prediction", *fit.law.letters]
    count = len(shown) + 1
    columns = 2 if count in (2, 4) else 3
    canvas = Canvas(width, 2.0 * -(-count // columns) + 0.4, -(-count // columns), columns)
    values, residual = fit.observations.values, fit.residuals
    row_names = fit.observations.row_names_N
    spread = 2 * float(np.median(np.abs(residual))) / 0.6745
    ringed = {one.row: i + 1 for i, one in enumerate(influential)}
    which = np.array([ringed.get(name, 0) for name in row_names])
    for axes, letter in zip(canvas.grid.flat, shown):
        response = axis_name(fit, "L", look.names)
        quantity = f"{response}, predicted" if letter == "prediction" else axis_name(fit, letter, look.names)
        canvas.panel(axes, letter, quantity, f"ln law − ln {response.split()[0]}", title="")
        x = fit.predict(**values) if letter == "prediction" else values[letter]
        axes.set_xscale("log" if (x > 0).all() else "linear")
        axes.axhspan(-spread, spread, color="#eeeeee", zorder=0)
        canvas.line(axes, [x.min(), x.max()], [0, 0], "zero", color="black", lw=0.6)
        canvas.points(axes, x, residual, "row", keep={"name": row_names}, color=PALETTE[0], ms=2.2, mew=0, alpha=0.7)
        ring: dict[str, Any] = {"mfc": "none", "color": PALETTE[3], "ms": 5}
        canvas.points(
            axes, x[which > 0], residual[which > 0], "influential", keep={"name": row_names[which > 0]}, **ring
        )
        for row in np.flatnonzero(which):
            canvas.label(axes, x[row], residual[row], str(which[row]))
    for axes in canvas.grid.flat[count:]:
        axes.remove()
    _influence_bars(canvas, canvas.grid.flat[count - 1], influential)
    return canvas.finish(look.title, look.note)


def _influence_bars(canvas: Canvas, axes: Axes, influential: Sequence[Influence]) -> None:
    canvas.panel(axes, "influence", "change without the row (%)", "row left out", title="")
    for i, one in enumerate(influential):
        constant, change = max(one.change.items(), key=lambda item: abs(item[1]))
        axes.barh(i + 0.2, 100 * change, color=PALETTE[3], height=0.3, alpha=0.6)
        keep = {"name": one.row, "constant": constant, "leverage": one.leverage, "residual": one.residual}
        canvas.points(axes, 100 * change, i + 0.2, "influence", constant, keep=keep, color=PALETTE[3], ms=2)
        row = (
            one.row
            if len(one.row) <= ROW_NAME_MAX
            else f"{one.row[: ROW_NAME_MAX // 2]}…{one.row[-ROW_NAME_MAX // 2 :]}"
        )
        words = f"{row}: {symbol(constant)} {100 * change:+.2g} %".replace(" -", " −")
        where: dict[str, Any] = {"xycoords": axes.get_yaxis_transform(), "va": "center", "fontsize": SMALL}
        axes.annotate(words, (0.02, i - 0.15), **where)
    axes.axvline(0, color="black", lw=0.6)
    axes.set_yticks(range(len(influential)), [str(i + 1) for i in range(len(influential))])
    axes.set_ylim(len(influential) - 0.4, -0.6)
    axes.margins(x=0.15)
    axes.grid(axis="y", visible=False)


@rc_context(STYLE)
def profiles(
    fit: Fit,
    constants: Sequence[str] | None = None,
    *,
    points: int = 41,
    look: Look = PLAIN,
) -> tuple[Figure, pd.DataFrame]:
    """How the objective rises as each constant is held off its estimate; 1 is the threshold of the interval.

    The curve runs through `Fit.profile`, the estimate (0) and the closed ends (1). Closed ends are verticals; an end
    that stays open is an arrow at the threshold, and the panel's title says so.
    ValueError for a fit made without profiles.
    """
    width = look.width or Width.DOUBLE
    intervals = {interval.name: interval for interval in fit.profiles}
    chosen = list(intervals) if constants is None else list(constants)
    if not chosen or not set(chosen) <= set(intervals):
        raise ValueError(f"{fit.law.name}: profiles exist for {list(intervals)}, not {chosen}; fit with profiles=True")
    columns = min(len(chosen), 3 if width > Width.SINGLE else 2)
    canvas = Canvas(width, 1.75 * -(-len(chosen) // columns) + 0.5, -(-len(chosen) // columns), columns, sharey=True)
    for axes, name in zip(canvas.grid.flat, chosen):
        _profile(canvas, axes, fit, intervals[name], points)
    for axes in canvas.grid.flat[len(chosen) :]:
        axes.remove()
    canvas.grid[0, 0].set_ylim(0, PROFILE_TOP)
    return canvas.finish(look.title, look.note)


def _profile(canvas: Canvas, axes: Axes, fit: Fit, interval: ProfileInterval, points: int) -> None:
    name = interval.name
    curve = fit.profile(name, points=points)
    unit = "" if fit.units[name] == "1" else f" ({symbol(fit.units[name])})"
    low, high = interval.low, interval.high
    if low is None:
        words = "not identified" if high is None else f"< {short(high)}"
    else:
        words = f"> {short(low)}" if high is None else f"{short(low)} to {short(high)}"
    heading = f"{symbol(name)} = {short(interval.estimate)} ({words})"
    canvas.panel(axes, name, f"{symbol(name)}{unit}", "rise / threshold", title=heading)
    known = [(interval.estimate, 0.0), *((end, 1.0) for end in (low, high) if end is not None)]
    drawn = ~np.isclose(curve.values[:, None], [at for at, _ in known], rtol=1e-9).any(axis=1)
    x, rise = np.concatenate([np.stack([curve.values, curve.rise], axis=1)[drawn], known]).T
    order = np.argsort(x, kind="stable")
    shown = (rise <= 2 * PROFILE_TOP) & (x >= interval.estimate / OPEN_FACTOR if low is None and x[0] > 0 else True)
    shown &= x <= interval.estimate * OPEN_FACTOR if high is None and interval.estimate > 0 else True
    order = order[shown[order]]
    x, rise = x[order], rise[order]
    if x.min() > 0 and x.max() > 20 * x.min():
        axes.set_xscale("log")
    canvas.line(axes, x, rise, "profile", name, "profile", color=PALETTE[0])
    level = f"threshold ({100 * interval.level:.0f} %)"
    canvas.line(axes, [x.min(), x.max()], [1, 1], "threshold", name, level, color="black", lw=0.7, ls=DASHES[0])
    canvas.points(axes, interval.estimate, 0, "estimate", name, "estimate", color=PALETTE[3], ms=4, clip_on=False)
    for end, edge, word in ((low, x.min(), "below"), (high, x.max(), "above")):
        if end is None:
            canvas.arrow(
                axes, (interval.estimate, 1), (edge, 1), "open end", name, name=f"open from {word}", color=PALETTE[3]
            )
            canvas.entry("open end", Line2D([], [], color=PALETTE[3], marker=">", ms=3))
        else:
            style: dict[str, Any] = {"color": PALETTE[3], "lw": 0.8}
            canvas.line(axes, [end, end], [0, 1], f"interval from {word}", name, "end of the interval", **style)
