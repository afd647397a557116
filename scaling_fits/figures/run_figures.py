"""Figures of run tables: loss against size and records, convergence, contrasts; style and saving are in `style`.

Arms differ in colour and marker. `note` (for example "stand-in,
not real") stands in the title of every figure it is given to.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patheffects import withStroke

from scaling_fits.contrasts.slopes import SMALLEST_EFFECT, Slope
from scaling_fits.convergence.times import BEFORE_FIRST, NOT_REACHED, REACHED
from scaling_fits.figures.style import (
    DASHES,
    GREY,
    MARKERS,
    NAMES,
    PALETTE,
    STYLE,
    Canvas,
    Width,
    cycle,
    new_figure,
    set_title,
    settle,
    short,
)
from scaling_fits.figures.style import save_figure as save_figure  # found here together with the figures
from scaling_fits.fit import Fit
from scaling_fits.tables.run_table import require_columns

EPOCH_ROW_HEIGHT = 0.06  # of a panel
PANEL_HEIGHT_IN, PANELS_PER_ROW = 2.6, 3
ARM_STEP = 1.06  # factor between arms of one size
# One level for all sizes and budgets, or one per value of the x axis (principal components at a rung's width).
Baseline = float | Mapping[float, float]


@rc_context(STYLE)
def loss_against_size(
    summary: pd.DataFrame,
    *,
    arm: str = "real_fraction",
    n: str = "n_params",
    panel: str = "records_seen",
    baselines: Mapping[str, Baseline] | None = None,
    fit: Fit | None = None,
    title: str = "",
    note: str | None = None,
) -> Figure:
    """Loss against model size per arm, one panel per budget; bars span the seeds.

    `summary` is `seed_summary(table, [arm, n, panel])`; `baselines` are drawn as named dashed lines; `fit` is a law of
    N and D (or N) drawn through the panels.
    """
    figure = _panels(summary, arm=arm, x=n, panel=panel, baselines=baselines, epochs=False, title=title, note=note)
    for axes, value in zip(figure.axes, sorted(summary[panel].unique())):
        if fit is not None:
            at = np.geomspace(summary[n].min(), summary[n].max(), 60)
            variables = {"N": at, "D": np.full_like(at, value)}
            axes.plot(at, fit.predict(**{v: variables[v] for v in fit.law.letters}), color="#666666", lw=0.8, zorder=1)
    settle(figure)
    return figure


@rc_context(STYLE)
def loss_against_records(
    summary: pd.DataFrame,
    *,
    arm: str = "real_fraction",
    panel: str = "n_params",
    baselines: Mapping[str, Baseline] | None = None,
    title: str = "",
    note: str | None = None,
) -> Figure:
    """Loss against records per arm, one panel per size, the epochs of real data written under every point with any.

    `summary` is `seed_summary(table, [arm, panel, "records_seen"])` of a table with `epochs_real`.
    """
    require_columns(summary, ["epochs_real"], "seed summary")
    x = "records_seen"
    figure = _panels(summary, arm=arm, x=x, panel=panel, baselines=baselines, epochs=True, title=title, note=note)
    settle(figure)
    return figure


@rc_context(STYLE)
def convergence_curves(
    curves: pd.DataFrame,
    *,
    arm: str = "real_fraction",
    panel: str = "n_params",
    target: float | None = None,
    baselines: Mapping[str, Baseline] | None = None,
    title: str = "",
    note: str | None = None,
) -> Figure:
    """Constant-rate loss curves, one line per trunk, coloured by arm, one panel per size; `target` is marked.

    `curves` has the columns trunk_id, records_seen, loss and the axes `arm` and `panel` of each trunk.
    """
    require_columns(curves, ["trunk_id", "records_seen", "loss", arm, panel], "curve table")
    arms = sorted(curves[arm].unique())
    lines = dict(baselines or {}) | ({} if target is None else {f"target {target:.3g}": target})

    def draw(axes: Axes, rows: pd.DataFrame) -> None:
        for i, value in enumerate(arms):
            for k, (_, trunk) in enumerate(rows[rows[arm] == value].groupby("trunk_id", sort=True)):
                label = _label(arm, value) if k == 0 else None
                trunk = trunk.sort_values("records_seen")
                style: dict[str, Any] = {"color": cycle(PALETTE, i), "lw": 0.9, "alpha": 0.9, "label": label}
                last = {"marker": cycle(MARKERS, i), "markevery": [-1]}
                axes.plot(trunk["records_seen"], trunk["loss"], **style, **last)

    title = title or "Loss at constant learning rate"
    figure = _grid(curves, panel, "records_seen", draw, lines, title, note)
    settle(figure)
    return figure


@rc_context(STYLE)
def contrast_forest(slopes: Sequence[Slope], *, title: str = "", note: str | None = None) -> Figure:
    """Slopes in ln N with their intervals; primary ones filled, estimates without interval hollow and bare.

    The band is what 3.5 % over a tenfold larger model amounts to: slopes within are unresolved at that lever.
    """
    drawn = [(slope, slope.estimate) for slope in slopes if slope.estimate is not None]
    figure = new_figure(Width.MIDDLE, 1.1 + 0.34 * max(len(drawn), 1))
    axes = figure.subplots()
    band = np.log1p(SMALLEST_EFFECT) / np.log(10)
    axes.axvspan(-band, band, color="#eeeeee", zorder=0, label="3.5 % per tenfold N")
    axes.axvline(0, color="black", lw=0.8)
    for row, (slope, estimate) in enumerate(drawn):
        low, high = slope.interval or (estimate, estimate)
        colour = PALETTE[0] if slope.primary else "#777777"
        axes.plot([low, high], [row, row], color=colour, lw=1.4)
        face = colour if slope.interval else "white"
        axes.plot(estimate, row, marker="o", color=colour, markerfacecolor=face)
    axes.set_yticks(range(len(drawn)), [f"{s.name}  {s.quantity}" for s, _ in drawn])
    axes.set_ylim(len(drawn) - 0.4, -0.6)
    axes.grid(axis="y", visible=False)
    axes.set_xlabel("slope per unit of ln N (95 % interval, clustered on trunks)")
    figure.legend(loc="outside lower right")
    set_title(figure, title or "How the contrasts move with model size", note)
    settle(figure)
    return figure


@rc_context(STYLE)
def target_times(
    times: pd.DataFrame,
    *,
    arm: str = "real_fraction",
    n: str = "n_params",
    measure: str = "records",
    width: Width = Width.SINGLE,
    title: str = "",
    note: str | None = None,
) -> tuple[Figure, pd.DataFrame]:
    """Records to a target loss against size, per arm: a mark per trunk, a line through the geometric means.

    `times` is as `convergence.add_axes` gives it (status, records, first_records, last_records and the axes). A trunk
    that had not reached the target is a hollow mark at its last record with an arrow up; one that was below it at its
    first point, with an arrow down. The line stops where a trunk is censored: a mean over the others would flatter.
    """
    require_columns(times, [arm, n, measure, "status", "first_records", "last_records", "target"], "times to target")
    arms = sorted(times[arm].unique())
    targets = [short(target) for target in sorted(times["target"].unique())]
    canvas = Canvas(width, 0.8 * min(width, Width.MIDDLE))
    quantity = f"records to loss {targets[0]}" if len(targets) == 1 else "records to each trunk's own target"
    axes = canvas.panel(canvas.grid[0, 0], "convergence", NAMES.get(n, n), quantity, title="")
    axes.set(xscale="log", yscale="log")
    for i, value in enumerate(arms):
        rows = times[times[arm] == value].sort_values([n, "trunk_id"] if "trunk_id" in times else [n])
        colour, marker, name = cycle(PALETTE, i), cycle(MARKERS, i), _label(arm, value)
        aside = ARM_STEP ** (i - (len(arms) - 1) / 2)  # arms side by side: their marks would cover each other
        keep = {"name": rows["trunk_id"]} if "trunk_id" in rows else {}
        for status, column, factor in (
            (REACHED, measure, 1),
            (NOT_REACHED, "last_records", 1.35),
            (BEFORE_FIRST, "first_records", 1 / 1.35),
        ):
            mine = (rows["status"] == status).to_numpy()
            x, y = rows[n].to_numpy(float)[mine], rows[column].to_numpy(float)[mine]
            kept = {**{key: column[mine] for key, column in keep.items()}, "size": x}
            face = colour if status == REACHED else "white"
            style: dict[str, Any] = {"color": colour, "marker": marker, "mfc": face, "ms": 3.6, "mew": 0.7, "zorder": 3}
            canvas.points(axes, x * aside, y, status, name, name if status == REACHED else "", keep=kept, **style)
            for at_x, at_y in zip(x, y):
                if status != REACHED:
                    canvas.arrow(
                        axes, (at_x * aside, at_y), (at_x * aside, at_y * factor), f"{status} arrow", name, color=colour
                    )
        whole = rows.groupby(n).filter(lambda group: (group["status"] == REACHED).all())
        if len(whole):
            mean = np.exp(np.log(whole[measure]).groupby(whole[n]).mean())
            canvas.line(axes, mean.index * aside, mean, "geometric mean", name, color=colour, lw=1.0)
    if (times["status"] == NOT_REACHED).any():
        canvas.entry(
            "arrow up: target not reached",
            Line2D([], [], ls="none", marker="^", mfc="white", color=GREY),
        )
    if (times["status"] == BEFORE_FIRST).any():
        canvas.entry(
            "arrow down: reached before the first point",
            Line2D([], [], ls="none", marker="v", mfc="white", color=GREY),
        )
    return canvas.finish(title, note)


def _panels(
    summary: pd.DataFrame,
    *,
    arm: str,
    x: str,
    panel: str,
    baselines: Mapping[str, Baseline] | None,
    epochs: bool,
    title: str,
    note: str | None,
) -> Figure:
    require_columns(summary, [arm, x, panel, "geometric_mean", "low", "high"], "seed summary")
    arms = sorted(summary[arm].unique())

    def draw(axes: Axes, rows: pd.DataFrame) -> None:
        for i, value in enumerate(arms):
            line = rows[rows[arm] == value].sort_values(x)
            mean = line["geometric_mean"]
            axes.errorbar(
                line[x],
                mean,
                yerr=np.clip([mean - line["low"], line["high"] - mean], 0, None),
                color=cycle(PALETTE, i),
                marker=cycle(MARKERS, i),
                capsize=1.5,
                elinewidth=0.8,
                label=_label(arm, value),
            )
            if value in repeating:
                _annotate_epochs(axes, line, x, cycle(PALETTE, i), repeating[::-1].index(value))

    repeating = [value for value in arms if epochs and (summary.loc[summary[arm] == value, "epochs_real"] > 0).any()]
    title = title or ("Loss against model size" if x != "records_seen" else "Loss against records seen")
    if epochs:
        title = f"{title}\n(below: epochs of real data)"
    figure = _grid(summary, panel, x, draw, baselines or {}, title, note)
    _room_below(figure.axes[0], EPOCH_ROW_HEIGHT * (len(repeating) + 0.5) if repeating else 0.0)
    return figure


def _grid(
    frame: pd.DataFrame,
    panel: str,
    x: str,
    draw: Callable[[Axes, pd.DataFrame], None],
    baselines: Mapping[str, Baseline],
    title: str,
    note: str | None,
) -> Figure:
    """Common frame of the panel figures: shared log axes, baselines, one legend, title with note."""
    values = sorted(frame[panel].unique())
    rows = -(-len(values) // PANELS_PER_ROW)
    columns = -(-len(values) // rows)
    figure = new_figure((Width.MIDDLE, Width.DOUBLE)[columns > 1], PANEL_HEIGHT_IN * rows + 0.4)
    grid = figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False)
    for axes, value in zip(grid.ravel(), values):
        axes.set_xscale("log")
        axes.set_yscale("log")
        axes.margins(x=0.09)
        draw(axes, frame[frame[panel] == value])
        _baselines(axes, baselines, value)
        axes.set_title(_label(panel, value))
    for axes in grid.ravel()[len(values) :]:
        axes.remove()
    for axes in grid[:, 0]:
        axes.set_ylabel("validation loss L")
    for axes in figure.axes:
        where = axes.get_subplotspec()
        if where is not None and where.is_last_row():
            axes.set_xlabel(NAMES.get(x, x))
    drawn = [axes.get_legend_handles_labels() for axes in figure.axes]
    handles = {label: handle for handles, labels in drawn for handle, label in zip(handles, labels)}
    names = [name for name in handles if name not in baselines] + [n for n in baselines if n in handles]
    figure.legend([handles[name] for name in names], names, loc="outside right upper")
    set_title(figure, title, note)
    return figure


def _baselines(axes: Axes, baselines: Mapping[str, Baseline], panel_value: float) -> None:
    """Horizontal lines; one given per value is drawn at its panel's value, or as a curve over the x axis."""
    for i, (name, level) in enumerate(baselines.items()):
        style: dict[str, Any] = {"color": "black", "lw": 0.8, "ls": cycle(DASHES, i), "label": name, "zorder": 1}
        if isinstance(level, Mapping) and panel_value in level:
            axes.axhline(level[panel_value], **style)
        elif isinstance(level, Mapping):
            at = sorted(level)
            axes.plot(at, [level[key] for key in at], **style)
        else:
            axes.axhline(level, **style)


def _annotate_epochs(axes: Axes, line: pd.DataFrame, x: str, colour: str, row: int) -> None:
    """Epochs under every point in the arm's colour, one row per arm at the foot of the panel: arms may lie close."""
    for _, point in line[line["epochs_real"] > 0].iterrows():
        axes.annotate(
            f"{point['epochs_real']:.3g}",
            (point[x], 0.02 + EPOCH_ROW_HEIGHT * row),
            xycoords=axes.get_xaxis_transform(),
            ha="center",
            fontsize=6,
            color=colour,
            path_effects=[withStroke(linewidth=1.5, foreground="white")],
            zorder=5,
        )


def _room_below(axes: Axes, share: float) -> None:
    """Lower the loss axis so that the lowest `share` of the panel is free."""
    low, high = axes.get_ylim()
    axes.set_ylim(low * (low / high) ** (share / (1 - share)), high)


def _label(column: str, value: Any) -> str:
    if column == "real_fraction":
        return f"r = {value:g}"
    if column in ("n_params", "n_params_total"):
        return f"N = {short(value)}"
    if column == "records_seen":
        return f"D = {short(value)} records"
    return str(value)
