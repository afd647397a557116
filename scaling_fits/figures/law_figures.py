"""Figures of fitted laws: against size, data and compute, contours, mixes, exchange rate, residuals, profiles.

Each returns the figure and a table of every point and line on it (`style.Canvas`), both for `save_figure`. Bands are
the bootstrap's percentile intervals of the law (`Fit.interval`); a fit without draws has none, and says so.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from scaling_fits.compute_optimal.allocation import law_optimum
from scaling_fits.compute_optimal.compute import SIX_N_D, Compute
from scaling_fits.estimation.columns import Link
from scaling_fits.estimation.observations import row_names
from scaling_fits.figures.look import PLAIN, Look
from scaling_fits.figures.optimum_figures import optima_table
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
from scaling_fits.fit import Fit
from scaling_fits.tables.run_table import RunTable

LINES_MAX, LEVELS, LEVELS_MAX = 8, 5, 10
GRID, OPTIMA = 61, 17
SAME_SIZE = 1e-5  # relative: what six digits of a size leave open
OTHERS = "#999999"
SIZE_STEP = 0.016  # by which the marks of sizes stand beside each other in r
SEARCH_BEYOND = 1e3  # factor outside the data's sizes in which the law's optimum is sought


@rc_context(STYLE)
def loss_against(
    fit: Fit,
    letter: str,
    *,
    at: Sequence[Mapping[str, float]] | None = None,
    until: float | None = None,
    table: RunTable | None = None,
    look: Look = PLAIN,
) -> tuple[Figure, pd.DataFrame]:
    """The response against one variable of the law, a line with its band per value of the others, and the rows.

    `at` gives the other variables of every line; without it these are the combinations in the data, or the centres of
    five classes of one variable with more than eight values. With one other variable every row is drawn at its nearest
    line, moved along the law to the line's value where its own is another (the legend says so, the table keeps what was
    `measured`): its distance from the line is its residual. With more, only rows with the line's own values are drawn.
    Beyond the data, up to `until`, lines are dashed. Rows that `table` excludes are hollow, named, and as measured.
    ValueError for a letter that the law does not have.
    """
    width = look.width or Width.SINGLE
    if letter not in fit.law.letters:
        raise ValueError(f"{fit.law.name} has the variables {list(fit.law.letters)}, not {letter!r}")
    at = _levels(fit, letter) if at is None else [dict(one) for one in at]
    values = fit.observations.values
    canvas = Canvas(width, 0.72 * min(width, Width.MIDDLE) + 0.13 * len(at) / 2)
    quantities = (axis_name(fit, one, look.names) for one in (letter, "L"))
    axes = canvas.panel(canvas.grid[0, 0], "law", *quantities, title="")
    axes.set(xscale="log", yscale="log" if fit.link is Link.LOG else "linear")
    end = max(float(values[letter].max()), until or 0.0)
    x = np.geomspace(values[letter][values[letter] > 0].min(), end, GRID)
    points = [np.broadcast_arrays(x, *one.values()) for one in at]
    letters = [(letter, *one) for one in at]
    grids = [dict(zip(keys, columns)) for keys, columns in zip(letters, points)]
    loss_LxX, band = _law(fit, {key: np.stack([grid[key] for grid in grids]) for key in fit.law.letters}, canvas)
    nearest = _nearest(values, at)
    on_line = {other: np.array([at[i][other] for i in nearest]) for other in at[0]}
    if len(on_line) > 1:
        nearest[~np.all([np.isclose(values[other], value) for other, value in on_line.items()], axis=0)] = -1
        on_line = {other: values[other] for other in on_line}
    moved = fit.link.forward(fit.predict(**{letter: values[letter]}, **on_line)) / fit.link.forward(
        fit.predict(**values)
    )
    y = fit.link.backward(fit.link.forward(measured(fit)) * moved)
    if not np.allclose(moved, 1.0, rtol=1e-3):
        canvas.remark(f"rows moved along the law to their line's {', '.join(on_line)}")
    seen = x <= values[letter].max() * (1 + 1e-9)
    for i, (one, colour) in enumerate(zip(at, shades(len(at)))):
        name = ", ".join(f"{key} = {short(value)}" for key, value in one.items())
        if band is not None:
            canvas.band(axes, x, band[0, i], band[1, i], "law interval", name, color=colour)
        canvas.line(axes, x[seen], loss_LxX[i, seen], "law", name, color=colour)
        if not seen.all():
            beyond = ~seen | (np.arange(GRID) == seen.sum() - 1)
            canvas.line(axes, x[beyond], loss_LxX[i, beyond], "law beyond data", name, color=colour, ls=DASHES[0])
        _rows(canvas, axes, fit, values[letter], nearest == i, _Series(name or "runs", i, colour), y)
    _excluded(canvas, axes, fit, table, lambda columns: columns[letter])
    return canvas.finish(look.title, look.note)


@rc_context(STYLE)
def loss_against_compute(
    fit: Fit,
    *,
    compute: Compute = SIX_N_D,
    sizes: Sequence[float] | None = None,
    until: float | None = None,
    table: RunTable | None = None,
    look: Look = PLAIN,
) -> tuple[Figure, pd.DataFrame]:
    """The response against compute C(N, D): a line per size, and the law's least loss at every C with its band.

    `sizes` are those of the lines: the data's own if not given, or five of them where there are more than eight. Rows
    of no line's size are grey. The frontier runs from the smallest C of the data to the largest, dashed from there to
    `until` (FLOPs). Needs a law in N and D.
    """
    width = look.width or Width.SINGLE
    values = _sized(fit)
    flops = compute.flops(values["N"], values["D"])
    size_L = _some(_distinct(values["N"])) if sizes is None else np.asarray(sizes, dtype=float)
    canvas = Canvas(width, 0.85 * min(width, Width.MIDDLE))
    label = f"compute C = {compute.name} (FLOP)"
    axes = canvas.panel(canvas.grid[0, 0], "compute", label, axis_name(fit, "L", look.names), title="")
    axes.set(xscale="log", yscale="log")
    of_line = np.isclose(values["N"], size_L[:, None], rtol=SAME_SIZE, atol=0.0)
    for i, (size, colour) in enumerate(zip(size_L, shades(len(size_L)))):
        name = f"N = {short(size)}"
        _rows(canvas, axes, fit, flops, of_line[i], _Series(name, i, colour))
        d = np.geomspace(values["D"].min(), values["D"].max(), GRID)
        n = np.full(GRID, size)
        canvas.line(axes, compute.flops(n, d), fit.predict(N=n, D=d), "law", name, color=colour, lw=0.8)
    others = ~np.any(of_line, axis=0)
    if others.any():
        _rows(canvas, axes, fit, flops, others, _Series("other sizes", len(size_L), OTHERS))
    best = _optima(fit, np.geomspace(flops.min(), max(flops.max(), until or 0.0), GRID), compute)
    loss, band = _law(fit, {"N": best["n"].to_numpy(), "D": best["d"].to_numpy()}, canvas)
    budget, seen = best["budget"].to_numpy(), best["budget"].to_numpy() <= flops.max() * (1 + 1e-9)
    if band is not None:
        canvas.band(axes, budget, band[0], band[1], "least loss interval", color=PALETTE[3])
    style: dict[str, Any] = {"color": PALETTE[3], "lw": 1.2, "zorder": 4}
    canvas.line(axes, budget[seen], loss[seen], "least loss", label="least loss of the law", **style)
    if not seen.all():
        beyond = ~seen | (np.arange(len(seen)) == seen.sum() - 1)
        canvas.line(axes, budget[beyond], loss[beyond], "least loss beyond data", **style, ls=DASHES[0])
    _excluded(canvas, axes, fit, table, lambda columns: compute.flops(columns["N"], columns["D"]))
    return canvas.finish(look.title, look.note)


@rc_context(STYLE)
def contours(
    fit: Fit,
    *,
    compute: Compute = SIX_N_D,
    levels: Sequence[float] | None = None,
    until: Mapping[str, float] | None = None,
    look: Look = PLAIN,
) -> tuple[Figure, pd.DataFrame]:
    """Lines of equal loss over N and D, the compute-optimal line, lines of equal compute, and the runs by their loss.

    `until` extends the plane beyond the data, {"N": ..., "D": ...}. Needs a law in N and D.
    """
    width = look.width or Width.SINGLE
    values, loss = _sized(fit), measured(fit)
    ends = {k: (0.8 * values[k].min(), 1.25 * max(values[k].max(), (until or {}).get(k, 0.0))) for k in ("N", "D")}
    n, d = (np.geomspace(*ends[k], 121) for k in ("N", "D"))
    plane = fit.predict(N=n[None, :], D=d[:, None])
    if levels is None:
        ticks = MaxNLocator(LEVELS_MAX, steps=[1, 2, 2.5, 5, 10]).tick_values(plane.min(), plane.max())
        levels = [tick for tick in ticks if plane.min() < tick < plane.max()]
    canvas = Canvas(width, 0.9 * min(width, Width.MIDDLE))
    axes = canvas.panel(canvas.grid[0, 0], "plane", *(axis_name(fit, one, look.names) for one in "ND"), title="")
    axes.set(xscale="log", yscale="log", xlim=ends["N"], ylim=ends["D"])
    axes.grid(visible=False)
    norm = LogNorm(min(plane.min(), loss.min()), max(plane.max(), loss.max()))
    scale: dict[str, Any] = {"cmap": "cividis", "norm": norm}
    drawn = canvas.contour(axes, n, d, plane, np.unique(levels).tolist(), "law", linewidths=0.8, **scale)
    decades = compute.flops(np.array([n[0], n[-1]]), np.array([d[0], d[-1]]))
    for power in range(int(np.ceil(np.log10(decades[0]))), int(np.log10(decades[1])) + 1):
        along = compute.data(10.0**power, n)
        inside = (along >= d[0]) & (along <= d[-1])
        if inside.sum() > 1:
            style: dict[str, Any] = {"color": "#bbbbbb", "lw": 0.5, "ls": DASHES[1], "zorder": 0}
            words = ("equal compute", f"{10.0**power:g}", "equal compute (FLOP)")
            canvas.line(axes, n[inside], along[inside], *words, **style)
            canvas.label(axes, n[inside][-1], along[inside][-1], short(10.0**power), GREY)
    best = _optima(fit, np.geomspace(decades[0], decades[1], OPTIMA), compute, fit.draws.reason is None)
    ends_of = {"n": "compute-optimal", "n_low": "interval from below", "n_high": "interval from above"}
    for column, layer in ends_of.items():
        size = best[column].to_numpy(dtype=float)
        data = np.array([compute.data(c, np.array([one]))[0] for c, one in zip(best["budget"], size)])
        inside = (size >= n[0]) & (size <= n[-1]) & (data >= d[0]) & (data <= d[-1])
        style = {"lw": 1.6} if column == "n" else {"lw": 0.8, "ls": DASHES[0]}
        label = "compute-optimal" if column == "n" else f"its {100 * fit.draws.plan.level:.0f} % interval in N"
        if inside.any():
            canvas.line(axes, size[inside], data[inside], layer, label=label, color=PALETTE[3], zorder=4, **style)
    marks = axes.scatter(values["N"], values["D"], c=loss, s=9, edgecolor="black", linewidth=0.3, zorder=3, **scale)
    keep = {"name": fit.observations.row_names_N, "loss": loss}
    canvas.points(axes, values["N"], values["D"], "row", keep=keep, alpha=0)
    canvas.entry("runs", marks)
    bar = canvas.figure.colorbar(marks, ax=axes, aspect=30, pad=0.02)
    bar.add_lines(drawn)
    bar.set_ticks(drawn.levels, labels=[f"{level:.4g}" for level in drawn.levels])
    bar.ax.minorticks_off()
    bar.set_label(axis_name(fit, "L", look.names))
    return canvas.finish(look.title, look.note)


@rc_context(STYLE)
def mix_curves(
    fit: Fit,
    *,
    sizes: Sequence[float] | None = None,
    budgets: Sequence[float] | None = None,
    pool: float | None = None,
    look: Look = PLAIN,
) -> tuple[Figure, pd.DataFrame]:
    """The response against the real fraction r = R / (R + S): a panel per budget R + S, a line with band per size.

    For laws in N, R, S, U; `pool` is U, the largest if not given, and rows of other pools are not drawn. At r = 0,
    where such laws may jump, the law is a bar of its own; the marks of sizes stand a little beside each other.
    Budgets: all up to three, else the smallest, middle, largest.
    """
    width = look.width or Width.DOUBLE
    if set(fit.law.letters) != {"N", "R", "S", "U"}:
        raise ValueError(f"{fit.law.name} is a law in {list(fit.law.letters)}; mix curves need one in N, R, S, U")
    values = fit.observations.values
    total = values["R"] + values["S"]
    share = values["R"] / total
    pool = float(values["U"].max()) if pool is None else pool
    size_L = _distinct(values["N"]) if sizes is None else np.asarray(sizes, dtype=float)
    budget_B = _three(_distinct(total)) if budgets is None else np.asarray(budgets, dtype=float)
    canvas = Canvas(width, 2.6 if len(budget_B) > 1 else 0.85 * width, 1, len(budget_B), sharex=True, sharey=True)
    r = np.concatenate([[0.0], np.geomspace(0.01, 1.0, GRID - 1)])
    shape = np.ones((len(budget_B), len(size_L), len(r)))
    grid = {"N": size_L[None, :, None] * shape, "R": budget_B[:, None, None] * r * shape}
    grid |= {"S": budget_B[:, None, None] * (1 - r) * shape, "U": pool * np.where(r > 0, shape, 0)}
    loss, band = _law(fit, grid, canvas)
    for b, (axes, budget) in enumerate(zip(canvas.grid[0], budget_B)):
        panel = f"D = {short(budget)} records"
        canvas.panel(axes, panel, "real fraction r", axis_name(fit, "L", look.names)).set(yscale="log")
        for i, (size, colour) in enumerate(zip(size_L, shades(len(size_L)))):
            name = f"N = {short(size)}"
            aside = SIZE_STEP * (i - (len(size_L) - 1) / 2)
            if band is not None:
                canvas.band(axes, r[1:], band[0, b, i, 1:], band[1, b, i, 1:], "law interval", name, color=colour)
                canvas.bars(
                    axes, aside, loss[b, i, 0], band[0, b, i, 0], band[1, b, i, 0], color=colour, lw=2.5, alpha=0.3
                )
            canvas.line(axes, r[1:], loss[b, i, 1:], "law", name, color=colour)
            keep = {} if band is None else {"low": band[0, b, i, 0], "high": band[1, b, i, 0]}
            pure: dict[str, Any] = {"color": colour, "marker": "_", "ms": 9, "mew": 1.2}
            canvas.points(axes, aside, loss[b, i, 0], "law at r = 0", name, keep=keep, **pure)
            mine = np.isclose(values["N"], size) & np.isclose(total, budget)
            mine &= (values["R"] == 0) | np.isclose(values["U"], pool)
            _rows(canvas, axes, fit, share + aside, mine, _Series(name, i, colour))
    canvas.remark(f"pool: {short(pool)} different real records")
    return canvas.finish(look.title, look.note)


def measured(fit: Fit) -> np.ndarray:
    """(rows,): the response as the table has it."""
    data = fit.observations
    return fit.link.backward(np.exp(data.problem.log_y_N + data.references["L"]))


def _law(fit: Fit, grid: Mapping[str, np.ndarray], canvas: Canvas) -> tuple[np.ndarray, np.ndarray | None]:
    """The law and its interval (2, ...) on a grid, None without draws, for which the legend gives the reason."""
    if fit.draws.reason is not None:
        canvas.remark(f"no band, {fit.draws.reason}".replace("band, no intervals:", "band:"))
        return fit.predict(**grid), None
    variables: dict[str, Any] = dict(grid)
    return fit.predict(**grid), fit.interval(level=fit.draws.plan.level, **variables)


class _Series(NamedTuple):
    """A named series of rows, in which place of its panel, and its colour."""

    name: str
    place: int
    colour: object


def _rows(
    canvas: Canvas,
    axes: Axes,
    fit: Fit,
    x: np.ndarray,
    mine: np.ndarray,
    series: _Series,
    y: np.ndarray | None = None,
) -> None:
    """The rows of one series, with their names; `y` where they are not drawn as measured."""
    style: dict[str, Any] = {"color": series.colour, "marker": cycle(MARKERS, series.place), "ms": 3.2}
    style |= {"mec": "white", "mew": 0.3, "zorder": 3}
    keep = {"name": fit.observations.row_names_N[mine], "measured": measured(fit)[mine]}
    drawn = keep["measured"] if y is None else y[mine]
    canvas.points(axes, x[mine], drawn, "row", series.name, series.name, keep=keep, **style)


def _excluded(
    canvas: Canvas, axes: Axes, fit: Fit, table: RunTable | None, x_of: Callable[[dict[str, np.ndarray]], np.ndarray]
) -> None:
    """Rows left out, hollow, one marker per reason, with their names where there is room."""
    if table is None:
        return
    frame = table.frame[table.frame["excluded_because"] != ""]
    columns = {letter: frame[column].to_numpy(dtype=float) for letter, column in fit.data.columns.items()}
    x, y = x_of(columns), frame[fit.data.response].to_numpy(dtype=float)
    names = row_names(frame)
    for i, (reason, count) in enumerate(table.excluded.items()):
        mine = (frame["excluded_because"] == reason).to_numpy() & np.isfinite(x) & np.isfinite(y) & (x > 0) & (y > 0)
        unseen = "" if mine.sum() == count else f", {count - mine.sum()} not drawable"
        style: dict[str, Any] = {"marker": cycle(MARKERS, i), "mfc": "none", "color": WARNING, "ms": 4}
        style |= {"mew": 0.7, "zorder": 4}
        keep = {"name": names[mine]}
        canvas.points(
            axes, x[mine], y[mine], "excluded", reason, f"left out: {reason} ({count}{unseen})", keep=keep, **style
        )
        for at_x, at_y, name in zip(x[mine], y[mine], names[mine]):
            canvas.label(axes, at_x, at_y, name)


def _levels(fit: Fit, letter: str) -> list[dict[str, float]]:
    """Values of the other variables at which lines are drawn."""
    values = fit.observations.values
    others = [other for other in fit.law.letters if other != letter]
    if not others:
        return [{}]
    points = np.unique(np.stack([values[other] for other in others], axis=1), axis=0)
    if len(points) <= LINES_MAX:
        return [dict(zip(others, map(float, point))) for point in points]
    if len(others) > 1:
        raise ValueError(f"{len(points)} combinations of {others} are too many lines; say which with at=[{{...}}, ...]")
    logs = np.sort(np.log(values[others[0]][values[others[0]] > 0]))
    return [{others[0]: float(np.exp(part.mean()))} for part in np.array_split(logs, LEVELS)]


def _nearest(values: Mapping[str, np.ndarray], at: Sequence[Mapping[str, float]]) -> np.ndarray:
    """Index (rows,) of the nearest of `at`, in ln(1 + value / typical value)."""

    def gap(letter: str, value: float) -> np.ndarray:
        typical = np.exp(np.mean(np.log(values[letter][values[letter] > 0]))) * 1e-3
        return (np.log1p(values[letter] / typical) - np.log1p(value / typical)) ** 2

    rows = len(next(iter(values.values())))
    distances = [sum((gap(letter, value) for letter, value in one.items()), np.zeros(rows)) for one in at]
    return np.argmin(distances, axis=0)


def _sized(fit: Fit) -> Mapping[str, np.ndarray]:
    """The variables of a law in N and D; ValueError for any other."""
    if set(fit.law.letters) != {"N", "D"}:
        raise ValueError(f"{fit.law.name} is a law in {list(fit.law.letters)}; this figure needs one in N and D")
    return fit.observations.values


def _optima(fit: Fit, budgets: np.ndarray, compute: Compute, draws: bool = False) -> pd.DataFrame:
    """Compute-optimal n, d per budget, with n_low, n_high (NaN: open or no draws); budgets refused are left out."""
    sizes = fit.observations.values["N"]
    search = float(sizes.min()) / SEARCH_BEYOND, float(sizes.max()) * SEARCH_BEYOND
    predict_draws = fit.predict_draws if draws else None
    found = law_optimum(fit.predict, budgets.tolist(), search, compute=compute, predict_draws=predict_draws).accepted
    if not found:
        raise ValueError(f"{fit.law.name}: at no budget has the law its least loss inside N = {search}")
    return optima_table(found)


def axis_name(fit: Fit, letter: str, names: Mapping[str, str] | None) -> str:
    """What an axis is called: as given, by this project's columns, or by the column's own name."""
    column = fit.data.response if letter == "L" else fit.data.columns[letter]
    own = column if letter == "L" else f"{column} ({letter})"
    return (names or {}).get(letter) or NAMES.get(column) or own


def _distinct(values: np.ndarray) -> np.ndarray:
    return np.unique([float(f"{value:.6g}") for value in values])


def _some(values: np.ndarray) -> np.ndarray:
    """All of few values, five spread over them of many."""
    if len(values) <= LINES_MAX:
        return values
    return values[np.linspace(0, len(values) - 1, LEVELS).round().astype(int)]


def _three(values: np.ndarray) -> np.ndarray:
    return values if len(values) <= 3 else values[[0, len(values) // 2, -1]]
