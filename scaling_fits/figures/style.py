"""One style for every figure, journal widths, readable numbers, and a canvas that keeps each point and line it draws.

Colours of arms are Okabe & Ito's (distinct with any colour vision), those of ordered series are taken from cividis;
series differ in marker too. Fonts are embedded as TrueType, no text is smaller than 6 pt on the printed page.
"""

from __future__ import annotations

import io
import re
import textwrap
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib import colormaps, rc_context
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.patheffects import withStroke
from matplotlib.ticker import FixedLocator, FuncFormatter, LogLocator, MaxNLocator, NullFormatter, NullLocator
from matplotlib.transforms import Bbox

from scaling_fits.files import MADE_BY, figure_paths, whole_file

# Black last: it also draws the reference lines. Yellow, which fades on white, before it.
PALETTE = ("#0072B2", "#E69F00", "#009E73", "#D55E00", "#CC79A7", "#56B4E9", "#F0E442", "#000000")
MARKERS = ("o", "s", "D", "^", "v", "P", "X", "*")
DASHES = ((0, (4, 2)), (0, (1, 1.5)), (0, (6, 2, 1, 2)), (0, (3, 1, 1, 1, 1, 1)))
GREY, WARNING = "#777777", "#B00020"
SMALL = 6.0  # pt, the least that print allows
STYLE: dict[Any, Any] = {
    "pdf.fonttype": 42,
    "font.size": 7.0,
    "axes.titlesize": 7.0,
    "axes.labelsize": 7.0,
    "xtick.labelsize": 6.5,
    "ytick.labelsize": 6.5,
    "legend.fontsize": 6.5,
    "axes.linewidth": 0.6,
    "xtick.major.width": 0.6,
    "ytick.major.width": 0.6,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#e4e4e4",
    "grid.linewidth": 0.5,
    "legend.frameon": False,
    "lines.linewidth": 1.2,
    "lines.markersize": 4.0,
    "svg.hashsalt": "scaling_fits",
}
GREEK = ("alpha", "beta", "gamma", "kappa", "phi", "epsilon", "eta")
#: What an axis is called that shows one of this project's columns.
NAMES = {
    "n_params": "parameters N",
    "n_params_total": "parameters N (total)",
    "records_seen": "records D",
    "real_seen": "real records R",
    "synthetic_seen": "synthetic records S",
    "unique_real_records": "different real records U",
    "real_fraction": "real fraction r",
    "train_flops": "compute C (FLOP)",
    "loss": "loss L",
}
DOTS_PER_INCH = 300
LETTER_PT = 3.6  # mean width of a letter in a legend
POWER_ROOM_IN = 0.6  # what 3×10^18 takes beside its neighbour
TICK_ROOM_IN = {"x": 0.36, "y": 0.24}  # what one tick label takes
LINEAR_BELOW = 3  # ratio of the ends of a logarithmic axis up to which its ticks are evenly spaced
TICK_STEPS = ((1, 1.2, 1.5, 2, 2.5, 3, 4, 5, 6, 7, 8, 9), (1, 1.5, 2, 3, 5, 7), (1, 2, 5), (1, 3), (1,))
# Places to try for a label: gap from its point in pt, and direction.
LABEL_PLACES = tuple((gap, angle) for gap in (4, 8, 14, 22, 34) for angle in np.pi / 6 * np.arange(12))
LEADER_FROM = 10  # pt of gap from which a label has a line to its point


class Width(float, Enum):
    """Widths of a journal's page in inches: one column, one and a half, two."""

    SINGLE = 3.5
    MIDDLE = 5.25
    DOUBLE = 7.2


@dataclass(frozen=True)
class _Label:
    axes: Axes
    x: float
    y: float
    text: str
    colour: str


class Canvas:
    """A figure in the making: what is drawn through it is also kept, one row per point or vertex.

    `data` has the columns panel, layer (what the mark means), series, x_quantity, x, y_quantity, y and, where they
    apply, low and high (of y), x_low and x_high, name (of a run, or a reason) and whatever else a figure adds.
    """

    def __init__(self, width: float, height: float, rows: int = 1, columns: int = 1, **shared: Any) -> None:
        self.figure = new_figure(width, height)
        self.grid = self.figure.subplots(rows, columns, squeeze=False, **shared)
        self._tables: list[pd.DataFrame] = []
        self._quantities: dict[Axes, tuple[str, str]] = {}
        self._labels: list[_Label] = []
        self._legend: dict[str, Any] = {}
        self._remarks: list[str] = []

    @property
    def data(self) -> pd.DataFrame:
        """Every point and line drawn so far."""
        first = ["panel", "layer", "series", "x_quantity", "x", "y_quantity", "y"]
        table = pd.concat(self._tables, ignore_index=True)
        return table[first + [column for column in table if column not in first]]

    def panel(self, axes: Axes, name: str, x: str, y: str, *, title: str | None = None) -> Axes:
        """Name a panel and the quantities on its axes, which are written beside the outer panels where shared."""
        axes.set_label(name)
        self._quantities[axes] = (x, y)
        axes.set_title(name if title is None else title)
        where = axes.get_subplotspec()
        if not axes.get_shared_x_axes().get_siblings(axes)[1:] or (where and where.is_last_row()):
            axes.set_xlabel(textwrap.fill(x, 44))
        if not axes.get_shared_y_axes().get_siblings(axes)[1:] or (where and where.is_first_col()):
            axes.set_ylabel(textwrap.fill(y, 32))
        return axes

    def line(self, axes: Axes, x: Any, y: Any, layer: str, series: str = "", label: str = "", **style: Any) -> None:
        """A line through the points, with a legend entry if `label`."""
        (drawn,) = axes.plot(x, y, **style)
        self._keep(axes, layer, series, x=x, y=y)
        self.entry(label, drawn)

    def band(self, axes: Axes, x: Any, low: Any, high: Any, layer: str, series: str = "", **style: Any) -> None:
        """The area between `low` and `high`."""
        axes.fill_between(x, low, high, **{"lw": 0, "alpha": 0.2, **style})
        self._keep(axes, layer, series, x=x, low=low, high=high)

    def points(
        self,
        axes: Axes,
        x: Any,
        y: Any,
        layer: str,
        series: str = "",
        label: str = "",
        *,
        keep: dict[str, Any] | None = None,
        **style: Any,
    ) -> None:
        """Markers; `keep` holds further columns of the points (name, interval) for the table."""
        (drawn,) = axes.plot(x, y, **{"ls": "none", "marker": "o", **style})
        self._keep(axes, layer, series, x=x, y=y, **(keep or {}))
        self.entry(label, drawn)

    def bars(self, axes: Axes, x: Any, y: Any, low: Any, high: Any, *, horizontal: bool = False, **style: Any) -> None:
        """Intervals from `low` to `high` through points drawn (and kept) by `points`."""
        spans = np.broadcast_arrays(*(np.atleast_1d(np.asarray(v, dtype=float)) for v in (x, y, low, high)))
        for at_x, at_y, start, end in zip(*spans):
            ends = ([start, end], [at_y, at_y]) if horizontal else ([at_x, at_x], [start, end])
            axes.plot(*ends, **{"lw": 0.8, "zorder": 2, **style})

    def arrow(
        self,
        axes: Axes,
        start: tuple[float, float],
        end: tuple[float, float],
        layer: str,
        series: str = "",
        **kept: Any,
    ) -> None:
        """An arrow: an open end, or a point beyond what was measured; `color` is its colour."""
        colour = kept.pop("color", GREY)
        style: dict[str, Any] = {"arrowstyle": "-|>,head_width=0.18,head_length=0.35", "color": colour, "lw": 0.9}
        axes.annotate("", end, start, arrowprops={**style, "shrinkA": 0, "shrinkB": 0}, zorder=4)
        axes.plot(*zip(start, end), alpha=0)  # so that the axes make room for it
        self._keep(axes, layer, series, x=start[0], y=start[1], x_end=end[0], y_end=end[1], **kept)

    def contour(self, axes: Axes, x: Any, y: Any, z: Any, levels: Sequence[float], layer: str, **style: Any) -> Any:
        """Lines of equal `z` (rows: y, columns: x) at rising `levels`, kept with their level."""
        drawn = axes.contour(x, y, z, levels=levels, **style)
        for level, segments in zip(drawn.levels, drawn.allsegs):
            for part, segment in enumerate(segments):
                self._keep(axes, layer, f"{level:.6g} part {part}", x=segment[:, 0], y=segment[:, 1], level=level)
        return drawn

    def entry(self, label: str, handle: Any) -> None:
        """A legend entry, once per label; long labels are wrapped."""
        if label:
            wide = self.figure.get_figwidth() > Width.SINGLE
            unbroken = label.replace(" = ", "\u00a0=\u00a0")
            self._legend.setdefault(textwrap.fill(unbroken, 34 if wide else 25), handle)

    def remark(self, text: str) -> None:
        """A sentence above the legend."""
        if text not in self._remarks:
            self._remarks.append(text)

    def label(self, axes: Axes, x: float, y: float, text: str, colour: str = "black") -> None:
        """A word beside a point, placed by `finish` where it hits no other; left out where there is no such place."""
        self._labels.append(_Label(axes, float(x), float(y), text, colour))

    def finish(self, title: str = "", note: str | None = None) -> tuple[Figure, pd.DataFrame]:
        """Ticks, legend, title, labels; the figure and everything drawn on it."""
        if title or note:
            set_title(self.figure, title, note)
        self._write_legend()
        settle(self.figure)
        _place(self._labels)
        return self.figure, self.data

    def _write_legend(self) -> None:
        if not self._legend and not self._remarks:
            return
        room = self.figure.get_figwidth() * 72 / LETTER_PT
        lines = [re.sub(r"[${}\\^]|times", "", line) for label in self._legend for line in label.split("\n")]
        longest = max(map(len, lines), default=1)
        columns = min(max(1, int(room / (longest + 9))), max(len(self._legend), 1))
        self.figure.legend(
            list(self._legend.values()),
            list(self._legend),
            loc="outside lower center",
            ncols=columns,
            title="\n".join(textwrap.fill(remark, int(room * 0.95)) for remark in self._remarks) or None,
            title_fontsize=SMALL,
            handlelength=1.6,
            columnspacing=1.2,
        )

    def _keep(self, axes: Axes, layer: str, series: str, **columns: Any) -> None:
        arrays = dict(zip(columns, np.broadcast_arrays(*(np.atleast_1d(value) for value in columns.values()))))
        where = {"panel": axes.get_label(), "layer": layer, "series": series}
        where |= dict(zip(("x_quantity", "y_quantity"), self._quantities[axes]))
        self._tables.append(pd.DataFrame({**where, **arrays}))


def save_figure(figure: Figure, path_stem: Path | str, data: pd.DataFrame) -> tuple[Path, Path, Path]:
    """Write `<stem>.pdf` (TrueType fonts embedded, no date), `.png` (300 dpi) and `.csv`: equal inputs, equal bytes.

    The page is as wide as the figure, so that what is made for a column fits the column.
    """
    paths = figure_paths(path_stem)
    metadata = ({"CreationDate": None, "Producer": None, "Creator": MADE_BY}, {"Software": MADE_BY})
    with rc_context(STYLE):
        for path, entries in zip(paths[:2], metadata):
            with whole_file(path) as temporary:
                figure.savefig(temporary, metadata=entries, dpi=DOTS_PER_INCH)
    with whole_file(paths[2]) as temporary:
        data.to_csv(temporary, index=False, lineterminator="\n")
    return paths


class _Figure(Figure):
    """A figure that a notebook shows, whether or not it has loaded pyplot."""

    def _repr_png_(self) -> bytes:
        image = io.BytesIO()
        self.savefig(image, format="png", dpi=DOTS_PER_INCH / 2)
        return image.getvalue()


def new_figure(width_in: float, height_in: float) -> Figure:
    """A figure that belongs to no window system, so that figures are drawn the same anywhere."""
    figure = _Figure(figsize=(float(width_in), height_in), layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def settle(figure: Figure) -> None:
    """Lay the figure out, give it readable ticks, and keep it so: saving it twice need not lay it out twice."""
    figure.draw_without_rendering()
    for axes in figure.axes:
        if axes.get_label() != "<colorbar>":
            readable_ticks(axes)
    figure.draw_without_rendering()
    figure.set_layout_engine("none")


def set_title(figure: Figure, title: str, note: str | None) -> None:
    """The title, with a note (for example "stand-in, not real") under it that cannot be missed."""
    figure.suptitle(f"{title}\n{note or ''}".strip(), fontsize=8, color=WARNING if note else "black")


def shades(count: int) -> list[tuple[float, float, float]]:
    """Colours of `count` ordered series, dark to light, from cividis without its palest end."""
    return [colormaps["cividis"](at)[:3] for at in np.linspace(0.0, 0.88, max(count, 2))[:count]]


def cycle(values: Sequence[Any], index: int) -> Any:
    """`values[index]`, from the start again where they end."""
    return values[index % len(values)]


def short(value: float) -> str:
    """A number as axes show it: 0.25, 30k, 1.5M, 3G, and powers of ten from 1e13 on and below 1e-3."""
    value = float(value)
    if value and not 1e-3 <= abs(value) < 1e13:
        mantissa, exponent = f"{value:.2e}".split("e")
        digits = f"{float(mantissa):g}"
        power = f"10^{{{int(exponent)}}}"
        return f"${power}$" if digits == "1" else f"${digits}\\times{power}$"
    sign = "−" if value < 0 else ""
    for scale, letter in ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= scale * 0.9995:
            return f"{sign}{abs(value) / scale:.3g}{letter}"
    return f"{sign}{abs(value):.3g}"


def symbol(name: str) -> str:
    """A constant or unit in mathematical type: kappa_1 is κ with the index 1, "loss N^alpha" has a power."""

    def typeset(word: str) -> str:
        base, caret, power = re.sub(rf"({'|'.join(GREEK)})", r"\\\1 ", word).partition("^")
        base = re.sub(r"_(\w+)", r"_{\1}", base)
        power = re.sub(r"_(\w+)", r"_{\1}", power)
        return f"${base}{caret}{{{power}}}$" if caret else f"${base}$"

    return " ".join(word if word == "loss" else typeset(word) for word in name.split())


def readable_ticks(axes: Axes) -> None:
    """Few plain numbers (0.25, 30k, 1M) on both axes, as many as there is room for; the figure must be laid out."""
    size = np.asarray(axes.get_window_extent().size) / axes.figure.dpi
    for axis, name, length in ((axes.xaxis, "x", size[0]), (axes.yaxis, "y", size[1])):
        if isinstance(axis.get_major_locator(), FixedLocator):
            continue
        powers = name == "x" and "$" in "".join(short(end) for end in axis.get_view_interval())
        most = max(2, int(length / (POWER_ROOM_IN if powers else TICK_ROOM_IN[name])))
        if axis.get_scale() == "log":
            _log_ticks(axis, most)
        else:
            axis.set_major_locator(FixedLocator(_even_ticks(axis, most)))
        axis.set_major_formatter(FuncFormatter(lambda value, _: short(0.0 if abs(value) < 1e-12 else value)))


def _log_ticks(axis: Axis, most: int) -> None:
    low, high = sorted(axis.get_view_interval())
    axis.set_minor_locator(NullLocator())
    axis.set_minor_formatter(NullFormatter())
    candidates = [_within(LogLocator(subs=s, numticks=1000).tick_values(low, high), low, high) for s in TICK_STEPS]
    fitting = [ticks for ticks in candidates if 2 <= len(ticks) <= most]
    if high < LINEAR_BELOW * low or len(candidates[0]) < 2:
        ticks = _even_ticks(axis, most)
    elif fitting:
        ticks = fitting[0]
    else:
        ticks = candidates[-1][:: max(1, -(-len(candidates[-1]) // most))]
    axis.set_major_locator(FixedLocator(ticks))


def _even_ticks(axis: Axis, most: int) -> list[float]:
    low, high = sorted(axis.get_view_interval())
    return _within(MaxNLocator(min(most, 6), steps=[1, 2, 5, 10]).tick_values(low, high), low, high)


def _within(ticks: Iterable[float], low: float, high: float) -> list[float]:
    slack = 1e-9 * (high - low)
    return [float(tick) for tick in ticks if low - slack <= tick <= high + slack]


def _place(labels: Sequence[_Label]) -> None:
    """Write the labels where they overlap no label, stay inside their panel and cover the fewest points."""
    taken: list[Bbox] = []
    for label in labels:
        axes = label.axes
        frame = axes.get_window_extent()
        points = np.concatenate([axes.transData.transform(np.column_stack(ln.get_data())) for ln in axes.lines])
        style: dict[str, Any] = {"ha": "center", "va": "center", "fontsize": SMALL, "color": label.colour, "zorder": 6}
        text = axes.annotate(label.text, (label.x, label.y), (0, 0), textcoords="offset points", **style)
        text.set(path_effects=[withStroke(linewidth=1.5, foreground="white")], in_layout=False)
        points_per_dot = 72 / axes.figure.dpi
        size = np.asarray(text.get_window_extent().size) * points_per_dot / 2
        best = None
        for gap, angle in LABEL_PLACES:
            offset = (size + gap) * (np.cos(angle), np.sin(angle))
            middle = axes.transData.transform((label.x, label.y)) + offset / points_per_dot
            box = Bbox((middle - size / points_per_dot, middle + size / points_per_dot))
            outside = np.any(box.min < frame.min) or np.any(frame.max < box.max)
            if outside or any(box.overlaps(other) for other in taken):
                continue
            covered = int(box.count_contains(points))
            if best is None or covered < best[0]:
                best = (covered, offset, gap, box)
        if best is None:
            text.remove()
            continue
        text.set_position(best[1])
        taken.append(best[3])
        if best[2] >= LEADER_FROM:
            start = np.sign(best[1]) * np.maximum(np.abs(best[1]) - size, 0)
            line: dict[str, Any] = {"arrowstyle": "-", "color": GREY, "lw": 0.4, "shrinkA": 0, "shrinkB": 2}
            style = {"textcoords": "offset points", "arrowprops": line, "zorder": 5}
            axes.annotate("", (label.x, label.y), start, **style).set_in_layout(False)
