"""Figures for print: loss against size and records, convergence curves, contrasts; saved as pdf, png and csv.

Colours are Okabe & Ito's (distinct with any colour vision), arms differ in marker too. `note` (for example "stand-in,
not real") stands in the title of every figure it is given to.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.patheffects import withStroke
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter, NullLocator

from scaling_fits.contrasts import SMALLEST_EFFECT, Slope
from scaling_fits.fit import Fit
from scaling_fits.table import require_columns
from scaling_fits.writing import whole_file

# Black last: it also draws the reference lines.
PALETTE = ("#0072B2", "#E69F00", "#009E73", "#D55E00", "#CC79A7", "#56B4E9", "#F0E442", "#000000")
MARKERS = ("o", "s", "D", "^", "v", "P", "X", "*")
DASHES = ((0, (4, 2)), (0, (1, 1.5)), (0, (6, 2, 1, 2)), (0, (3, 1, 1, 1, 1, 1)))
EPOCH_ROW_HEIGHT = 0.06  # of a panel
STYLE = {
    "pdf.fonttype": 42,
    "font.size": 8.0,
    "axes.titlesize": 8.0,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": "#e4e4e4",
    "grid.linewidth": 0.5,
    "legend.frameon": False,
    "lines.linewidth": 1.2,
    "lines.markersize": 4.0,
    "svg.hashsalt": "scaling_fits",
}
PANEL_WIDTH_IN, PANEL_HEIGHT_IN, PANELS_PER_ROW = 2.7, 2.9, 3
NAMES = {"n_params": "parameters N", "n_params_total": "parameters N (total)", "records_seen": "records D"}
# One level for all sizes and budgets, or one per value of the x axis (principal components at a rung's width).
Reference = float | Mapping[float, float]


def loss_against_size(
    summary: pd.DataFrame,
    *,
    arm: str = "real_fraction",
    n: str = "n_params",
    panel: str = "records_seen",
    references: Mapping[str, Reference] | None = None,
    law: Fit | None = None,
    title: str = "",
    note: str | None = None,
) -> Figure:
    """Loss against model size per arm, one panel per budget; bars span the seeds.

    `summary` is `seed_summary(table, [arm, n, panel])`; `references` are drawn as named dashed lines; `law` is a fit in
    N and D (or N) drawn through the panels.
    """
    figure = _panels(summary, arm=arm, x=n, panel=panel, references=references, epochs=False, title=title, note=note)
    for axes, value in zip(figure.axes, sorted(summary[panel].unique())):
        if law is not None:
            at = np.geomspace(summary[n].min(), summary[n].max(), 60)
            variables = {"N": at, "D": np.full_like(at, value)}
            axes.plot(
                at, law.predict(**{v: variables[v] for v in law.form.variables}), color="#666666", lw=0.8, zorder=1
            )
    return figure


def loss_against_records(
    summary: pd.DataFrame,
    *,
    arm: str = "real_fraction",
    panel: str = "n_params",
    references: Mapping[str, Reference] | None = None,
    title: str = "",
    note: str | None = None,
) -> Figure:
    """Loss against records per arm, one panel per size, the epochs of real data written under every point with any.

    `summary` is `seed_summary(table, [arm, panel, "records_seen"])` of a table with `epochs_real`.
    """
    require_columns(summary, ["epochs_real"], "seed summary")
    x = "records_seen"
    return _panels(summary, arm=arm, x=x, panel=panel, references=references, epochs=True, title=title, note=note)


def convergence_curves(
    curves: pd.DataFrame,
    *,
    arm: str = "real_fraction",
    panel: str = "n_params",
    target: float | None = None,
    references: Mapping[str, Reference] | None = None,
    title: str = "",
    note: str | None = None,
) -> Figure:
    """Constant-rate loss curves, one line per trunk, coloured by arm, one panel per size; `target` is marked.

    `curves` has the columns trunk_id, records_seen, loss and the axes `arm` and `panel` of each trunk.
    """
    require_columns(curves, ["trunk_id", "records_seen", "loss", arm, panel], "curve table")
    arms = sorted(curves[arm].unique())
    lines = dict(references or {}) | ({} if target is None else {f"target {target:.3g}": target})

    def draw(axes: Axes, rows: pd.DataFrame) -> None:
        for i, value in enumerate(arms):
            for k, (_, trunk) in enumerate(rows[rows[arm] == value].groupby("trunk_id", sort=True)):
                label = _label(arm, value) if k == 0 else None
                trunk = trunk.sort_values("records_seen")
                axes.plot(
                    trunk["records_seen"], trunk["loss"], color=_cycle(PALETTE, i), lw=0.9, alpha=0.9, label=label
                )

    title = title or "Loss at constant learning rate"
    return _grid(curves, panel, "records_seen", draw, lines, title, note)


def contrast_forest(slopes: Sequence[Slope], *, title: str = "", note: str | None = None) -> Figure:
    """Slopes in ln N with their intervals; primary ones filled, estimates without interval hollow and bare.

    The band is what 3.5 % over a tenfold larger model amounts to: slopes within are unresolved at that lever.
    """
    drawn = [slope for slope in slopes if slope.estimate is not None]
    with rc_context(STYLE):
        figure = _figure(6.2, 1.1 + 0.34 * max(len(drawn), 1))
        axes = figure.subplots()
        band = np.log1p(SMALLEST_EFFECT) / np.log(10)
        axes.axvspan(-band, band, color="#eeeeee", zorder=0, label="3.5 % per tenfold N")
        axes.axvline(0, color="black", lw=0.8)
        for row, slope in enumerate(drawn):
            low, high = slope.interval or (slope.estimate, slope.estimate)
            colour = PALETTE[0] if slope.primary else "#777777"
            axes.plot([low, high], [row, row], color=colour, lw=1.4)
            face = colour if slope.interval else "white"
            axes.plot(slope.estimate, row, marker="o", color=colour, markerfacecolor=face)
        axes.set_yticks(range(len(drawn)), [f"{s.name}  {s.quantity}" for s in drawn])
        axes.set_ylim(len(drawn) - 0.4, -0.6)
        axes.grid(axis="y", visible=False)
        axes.set_xlabel("slope per unit of ln N (95 % interval, clustered on trunks)")
        axes.legend(loc="upper left", bbox_to_anchor=(1.0, 1.0), fontsize=7)
        _title(figure, title or "How the contrasts move with model size", note)
    return figure


def save_figure(figure: Figure, path_stem: Path | str, data: pd.DataFrame) -> tuple[Path, Path, Path]:
    """Write `<stem>.pdf` (TrueType fonts embedded, no date), `.png` (200 dpi) and `.csv`: equal inputs, equal bytes."""
    stem = Path(path_stem)
    paths = tuple(stem.with_name(f"{stem.name}.{suffix}") for suffix in ("pdf", "png", "csv"))
    metadata = ({"CreationDate": None, "Producer": None, "Creator": None}, {"Software": None})
    with rc_context(STYLE):
        for path, entries in zip(paths[:2], metadata):
            with whole_file(path) as temporary:
                figure.savefig(temporary, metadata=entries, dpi=200, bbox_inches="tight")
    with whole_file(paths[2]) as temporary:
        data.to_csv(temporary, index=False, lineterminator="\n")
    return paths


def _panels(
    summary: pd.DataFrame,
    *,
    arm: str,
    x: str,
    panel: str,
    references: Mapping[str, Reference] | None,
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
                color=_cycle(PALETTE, i),
                marker=_cycle(MARKERS, i),
                capsize=1.5,
                elinewidth=0.8,
                label=_label(arm, value),
            )
            if value in repeating:
                _annotate_epochs(axes, line, x, _cycle(PALETTE, i), repeating[::-1].index(value))

    repeating = [value for value in arms if epochs and (summary.loc[summary[arm] == value, "epochs_real"] > 0).any()]
    title = title or ("Loss against model size" if x != "records_seen" else "Loss against records seen")
    if epochs:
        title = f"{title}\n(below: epochs of real data)"
    figure = _grid(summary, panel, x, draw, references or {}, title, note)
    _room_below(figure.axes[0], EPOCH_ROW_HEIGHT * (len(repeating) + 0.5) if repeating else 0.0)
    return figure


def _grid(
    frame: pd.DataFrame,
    panel: str,
    x: str,
    draw: Callable[[Axes, pd.DataFrame], None],
    references: Mapping[str, Reference],
    title: str,
    note: str | None,
) -> Figure:
    """Common frame of the panel figures: shared log axes, references, one legend, title with note."""
    values = sorted(frame[panel].unique())
    rows = -(-len(values) // PANELS_PER_ROW)
    columns = -(-len(values) // rows)
    with rc_context(STYLE):
        figure = _figure(PANEL_WIDTH_IN * columns + 1.3, PANEL_HEIGHT_IN * rows + 0.4)
        grid = figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False)
        for axes, value in zip(grid.ravel(), values):
            axes.set_xscale("log")
            axes.set_yscale("log")
            draw(axes, frame[frame[panel] == value])
            _references(axes, references, value)
            axes.set_title(_label(panel, value))
            _readable_log_axis(axes)
        for axes in grid.ravel()[len(values) :]:
            axes.remove()
        for axes in grid[:, 0]:
            axes.set_ylabel("validation loss L")
        for axes in figure.axes:
            if axes.get_subplotspec().is_last_row():
                axes.set_xlabel(NAMES.get(x, x))
        drawn = [axes.get_legend_handles_labels() for axes in figure.axes]
        handles = {label: handle for handles, labels in drawn for handle, label in zip(handles, labels)}
        names = [name for name in handles if name not in references] + [n for n in references if n in handles]
        figure.legend([handles[name] for name in names], names, loc="outside right upper")
        _title(figure, title, note)
    return figure


def _references(axes: Axes, references: Mapping[str, Reference], panel_value: float) -> None:
    """Horizontal lines; a reference given per value is drawn at its panel's value, or as a curve over the x axis."""
    for i, (name, level) in enumerate(references.items()):
        style = {"color": "black", "lw": 0.8, "ls": _cycle(DASHES, i), "label": name, "zorder": 1}
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


def _readable_log_axis(axes: Axes) -> None:
    """Plain numbers on the loss axis, which rarely spans a decade, and short ones (30k, 1M) on the other."""
    low, high = axes.get_ylim()
    fine = high < 6 * low
    axes.yaxis.set_major_locator(LogLocator(subs=(1, 1.2, 1.5, 2, 2.5, 3, 4, 5, 6, 7, 8) if fine else (1, 2, 5)))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.yaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 3)))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: _short(value)))
    axes.xaxis.set_minor_formatter(NullFormatter())


def _short(value: float) -> str:
    for scale, letter in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= scale:
            return f"{value / scale:.3g}{letter}"
    return f"{value:.3g}"


def _label(column: str, value: object) -> str:
    if column == "real_fraction":
        return f"r = {value:g}"
    if column in ("n_params", "n_params_total"):
        return f"N = {_short(value)}"
    if column == "records_seen":
        return f"D = {_short(value)} records"
    return str(value)


def _title(figure: Figure, title: str, note: str | None) -> None:
    if note:
        figure.suptitle(f"{title}\n{note}", fontsize=9, color="#B00020")
    else:
        figure.suptitle(title, fontsize=9)


def _figure(width_in: float, height_in: float) -> Figure:
    """A figure that belongs to no window system, so that figures are drawn the same anywhere."""
    figure = Figure(figsize=(width_in, height_in), layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def _cycle(values: Sequence[Any], index: int) -> Any:
    return values[index % len(values)]
