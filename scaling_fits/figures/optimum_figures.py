"""Figures of what follows from runs and laws: compute-optimal sizes, and the worth of a synthetic record."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from scaling_fits.compute_optimal.allocation import Allocation, Optimum
from scaling_fits.figures.look import PLAIN, Look
from scaling_fits.figures.style import (
    DASHES,
    GREY,
    MARKERS,
    NAMES,
    PALETTE,
    STYLE,
    WARNING,
    Canvas,
    Width,
    cycle,
    shades,
    short,
)
from scaling_fits.mixing.best_mix import ExchangeRate
from scaling_fits.tables.run_table import require_columns

LAW_POINTS = 41
OPEN_END = 1.6  # factor by which an arrow leaves the minimum
RUN: dict[str, Any] = {"ms": 3.2, "mec": "white", "mew": 0.3}
STAR: dict[str, Any] = {"marker": "*", "ms": 6, "color": PALETTE[3], "mec": "black", "mew": 0.3, "zorder": 5}
EXCHANGE_NAMES = {
    "marginal": "worth of a further synthetic record (exposures to the pool)",
    "marginal_new": "worth of a further synthetic record (new real records)",
    "average": "mean worth of a synthetic record (exposures to the pool)",
    "average_new": "mean worth of a synthetic record (new real records)",
}


def optima_table(optima: Sequence[Optimum]) -> pd.DataFrame:
    """Optima as a table: budget, n, n_low, n_high, d, d_low, d_high, loss, reason; NaN is an open end or none."""
    rows = []
    for one in optima:
        ends: dict[str, float | None] = {}
        for letter, interval in (("n", one.n_interval), ("d", one.d_interval)):
            ends |= dict(zip((f"{letter}_low", f"{letter}_high"), interval or (None, None)))
        rows.append(
            {"budget": one.budget, "n": one.n, "d": one.d, "loss": one.loss, **ends, "reason": one.reason or ""}
        )
    columns = ["budget", "n", "n_low", "n_high", "d", "d_low", "d_high", "loss"]
    table = pd.DataFrame(rows, columns=[*columns, "reason"])
    return table.astype(dict.fromkeys(columns, float))


def isoflop_figure(found: Allocation, *, look: Look = PLAIN) -> tuple[Figure, pd.DataFrame]:
    """`isoflops` of what `isoflop.isoflop` found: its runs, fitted curves and minima, and N*(C) with its interval.

    The table beside the figure holds every run, the fitted curves point by point, and the minima. Raises ValueError for
    an allocation without curves (approaches 1 and 3 fit none per budget).
    """
    if not found.curves:
        raise ValueError(f"{found.approach}: no curve was fitted per budget; an isoFLOP figure needs approach 2")
    runs = []
    for one in found.curves:
        names = {"run_id": one.runs} if one.runs else {}
        runs.append(pd.DataFrame({"budget": one.budget, "n": one.run_n, "loss": one.run_loss, **names}))
    curves = [pd.DataFrame({"budget": one.budget, "n": one.n, "loss": one.loss}) for one in found.curves if one.n]
    law = None
    if found.size_law is not None:
        budget = np.geomspace(found.curves[0].budget, found.curves[-1].budget, LAW_POINTS)
        law = pd.DataFrame({"budget": budget, "n": [found.size_law.at(c) for c in budget]})
        ends = [found.size_law.interval_at(c) for c in budget]
        if None not in ends:
            law[["n_low", "n_high"]] = ends
    return isoflops(
        pd.concat(runs, ignore_index=True),
        optima_table(found.optima),
        curves=pd.concat(curves, ignore_index=True) if curves else None,
        law=law,
        n=_quantity(found, "N", "N"),
        loss=_quantity(found, "loss", "L"),
        look=look,
    )


@rc_context(STYLE)
def isoflops(
    runs: pd.DataFrame,
    minima: pd.DataFrame,
    *,
    curves: pd.DataFrame | None = None,
    law: pd.DataFrame | None = None,
    n: str = "parameters N",
    loss: str = "loss L",
    look: Look = PLAIN,
) -> tuple[Figure, pd.DataFrame]:
    """Loss against size per budget with its fitted curve and minimum, and beside it the minima against compute.

    `runs` and `curves` have budget, n, loss (`runs` perhaps run_id); `minima` is as `optima_table` gives it: an
    interval that is NaN at one end is open there, an arrow. Where `reason` is not empty the minimum was refused: none
    is drawn, the curve is dashed, the budget's lowest run is crossed out and the reason stands above the legend. `law`
    is N* = f(C): budget, n and, if there is an interval, n_low and n_high.
    """
    width = look.width or Width.DOUBLE
    require_columns(runs, ["budget", "n", "loss"], "isoFLOP runs")
    require_columns(minima, ["budget", "n", "n_low", "n_high", "loss", "reason"], "isoFLOP minima")
    canvas = Canvas(width, 3.4, 1, 2)
    left, right = canvas.grid[0]
    canvas.panel(left, "isoFLOP", n, loss, title="").set(xscale="log", yscale="log")
    canvas.panel(right, "optimum", "compute C (FLOP)", f"optimal {n}*", title="").set(xscale="log", yscale="log")
    minima = minima.sort_values("budget")
    reasons = list(dict.fromkeys(reason for reason in minima["reason"] if reason))
    if law is not None:
        if "n_low" in law:
            canvas.band(right, law["budget"], law["n_low"], law["n_high"], "law interval", color=GREY)
        canvas.line(right, law["budget"], law["n"], "law", color=GREY, lw=1.0)
    for i, (one, colour) in enumerate(zip(minima.itertuples(), shades(len(minima)))):
        series, style = f"C = {short(one.budget)}", {"color": colour, "marker": cycle(MARKERS, i)}
        mine = runs[np.isclose(runs["budget"], one.budget)].sort_values(["n", "loss"])
        keep = {"name": mine["run_id"]} if "run_id" in mine else None
        canvas.points(left, mine["n"], mine["loss"], "row", series, series, keep=keep, **style, **RUN)
        if curves is not None:
            curve = curves[np.isclose(curves["budget"], one.budget)].sort_values("n")
            dashes = DASHES[0] if one.reason else "-"
            canvas.line(left, curve["n"], curve["loss"], "curve", series, color=colour, lw=0.9, ls=dashes)
        if one.reason:
            sign = chr(ord("a") + reasons.index(one.reason))
            _refused(canvas, left, mine, one.reason, sign, series)
        else:
            _minimum(canvas, (left, right), one, series, style)
    if (minima["reason"] == "").any():
        canvas.entry("minimum with its interval", Line2D([], [], ls="none", **STAR))
    return canvas.finish(look.title, look.note)


def _refused(canvas: Canvas, axes: Axes, mine: pd.DataFrame, reason: str, sign: str, series: str) -> None:
    """The lowest run of a budget whose minimum was refused, crossed out, and the reason under its sign."""
    lowest = mine.loc[[mine["loss"].idxmin()]] if len(mine) else mine
    cross: dict[str, Any] = {"marker": "x", "color": WARNING, "ms": 6, "mew": 1.2, "zorder": 5}
    canvas.remark(f"{sign}: {reason}")
    canvas.points(axes, lowest["n"], lowest["loss"], "refused", series, "refused", keep={"name": reason}, **cross)
    for x, y in zip(lowest["n"], lowest["loss"]):
        canvas.label(axes, x, y, sign)


def _minimum(canvas: Canvas, panels: tuple[Axes, Axes], one: Any, series: str, style: dict[str, Any]) -> None:
    """The minimum of a budget with its interval, against size and against compute; an open end is an arrow."""
    left, right = panels
    colour = style["color"]
    canvas.points(left, one.n, one.loss, "minimum", series, keep={"x_low": one.n_low, "x_high": one.n_high}, **STAR)
    dot: dict[str, Any] = {**style, "ms": 4.5, "mec": "black", "mew": 0.4, "zorder": 5}
    canvas.points(right, one.budget, one.n, "minimum", series, keep={"low": one.n_low, "high": one.n_high}, **dot)
    for end, factor in ((one.n_low, 1 / OPEN_END), (one.n_high, OPEN_END)):
        if np.isfinite(end):
            canvas.bars(left, one.n, one.loss, one.n, end, horizontal=True, color=PALETTE[3], lw=1.2)
            canvas.bars(right, one.budget, one.n, one.n, end, color=colour)
        else:
            canvas.arrow(left, (one.n, one.loss), (one.n * factor, one.loss), "open end", series, color=PALETTE[3])
            canvas.arrow(right, (one.budget, one.n), (one.budget, one.n * factor), "open end", series, color=colour)


@rc_context(STYLE)
def exchange_rates(
    rates: Sequence[ExchangeRate],
    over: str = "N",
    *,
    kind: str = "marginal_new",
    look: Look = PLAIN,
) -> tuple[Figure, pd.DataFrame]:
    """What a synthetic record is worth in real ones, against size (`over` "N") or the real share ("share").

    `rates` are results of `mix.exchange_rate` on a grid, `kind` which of their estimates; one line with its band per
    value of the other axis and of the records in all. 1 is a real record's worth. ValueError for another `over`.
    """
    width = look.width or Width.SINGLE
    if over not in ("N", "share"):
        raise ValueError(f"exchange rates are drawn over 'N' or 'share', not {over!r}")
    rows = []
    for rate in rates:
        at, estimate = rate.at, getattr(rate, kind)
        low, high = estimate.interval or (np.nan, np.nan)
        total = at["R"] + at["S"]
        row = {"N": at["N"], "share": float(f"{at['R'] / total:.6g}"), "records": float(f"{total:.6g}")}
        rows.append({**row, "rate": estimate.value, "low": low, "high": high})
    table = pd.DataFrame(rows)
    canvas = Canvas(width, 0.75 * min(width, Width.MIDDLE))
    what = "real fraction r" if over == "share" else NAMES["n_params"]
    axes = canvas.panel(canvas.grid[0, 0], kind, what, EXCHANGE_NAMES[kind], title="")
    axes.set_xscale("log" if over == "N" else "linear")
    least = np.nanmin(table[["rate", "low"]].to_numpy())
    axes.set_yscale("log" if least > 0 else "linear")
    axes.axhline(1.0, color="black", lw=0.7, ls=DASHES[0])
    other = "share" if over == "N" else "N"
    groups = table.groupby([other, "records"], sort=True)
    for i, (((held, records), group), colour) in enumerate(zip(groups, shades(len(groups)))):
        group = group.sort_values(over)
        held_name = f"r = {held:g}" if other == "share" else f"N = {short(held)}"
        name = f"{held_name}, D = {short(records)}"
        ends = group[["low", "high"]].to_numpy()
        if np.isfinite(ends).all():
            canvas.band(axes, group[over], ends[:, 0], ends[:, 1], "interval", name, color=colour)
        style: dict[str, Any] = {"marker": cycle(MARKERS, i), "ms": 3, "markevery": max(1, len(group) // 6)}
        canvas.line(axes, group[over], group["rate"], "exchange rate", name, name, color=colour, **style)
    if table["low"].isna().all():
        canvas.remark("no band: the fit has no draws")
    return canvas.finish(look.title, look.note)


def _quantity(found: Allocation, key: str, letter: str) -> str:
    column = found.definition[key].removeprefix("column ").strip("'")
    return NAMES.get(column, f"{column} {letter}")
