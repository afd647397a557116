"""Any 12-lead record as the sheet of paper a clinician reads: 25 mm/s, 10 mm/mV, true to size on A4 landscape.

Everything is drawn on one axes whose unit is the millimetre of paper, so that what is drawn is what is printed.
"""

from __future__ import annotations

import dataclasses
import os
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.transforms import Bbox, TransformedBbox

from ecg_jax.data.ecg import LEADS

MM_PER_S, MM_PER_MV = 25.0, 10.0
SECONDS = 10.0
FORMAT = (("I", "aVR", "V1", "V4"), ("II", "aVL", "V2", "V5"), ("III", "aVF", "V3", "V6"))
RHYTHM_LEAD = "II"
SUFFIXES = (".png", ".pdf", ".svg")

_PAGE_MM = (297.0, 210.0)
_GRID_MM = (270.0, 160.0)
_GRID_LEFT_MM, _GRID_BOTTOM_MM = 13.5, 12.0
_ROW_MM = 40.0
#: Room before the traces for the calibration pulse.
_LEAD_IN_MM = 15.0
#: How far a trace may run into the neighbouring rows, from its own baseline.
_REACH_MM = 30.0
_PIXELS_PER_MM = 10.0  # a whole number keeps all lines of the grid alike
_MM_PER_INCH = 25.4
_POINTS_PER_MM = 72.0 / _MM_PER_INCH

_INK, _FINE, _COARSE, _GREY = "#101010", "#f8d9d9", "#e9a3a3", "#5c5c5c"
#: Okabe & Ito's colours; the waves differ in letter too.
_WAVES = (("P", "#0072B2"), ("QRS", "#B34700"), ("T", "#007A5A"))

#: Contact sheet, in millimetres of paper before it is scaled to the page.
_MINI_ROW_MM, _MINI_TITLE_MM, _MINI_GAP_MM = 24.0, 12.0, 12.0
_CONTACT_INCHES, _CONTACT_PIXELS = 16.0, 1600


@dataclasses.dataclass(frozen=True)
class _Row:
    """Where a row of strips stands on the page, in millimetres, and how far its traces may reach."""

    left_mm: float  # of the record's first sample
    baseline_mm: float
    lowest_mm: float
    highest_mm: float
    mini_scale: float | None = None  # of the page, on a contact sheet


def draw(
    ecg_mv: np.ndarray,
    sample_rate_hz: float,
    *,
    title: str,
    header: Sequence[Sequence[str]] = (),
    note: str = "",
    fiducials_s: np.ndarray | None = None,
) -> Figure:
    """A standard sheet of the first 10 s of `ecg_mv` (samples, 12), leads in the record's order, NaN where missing.

    Three rows of four leads, 2.5 s each and continuous in time, above 10 s of lead II. A lead's median is its baseline,
    as behind the input capacitor of a recorder. `header` holds columns of lines below the title, `note` ends the
    footer. `fiducials_s` (beats, 3, 3) marks P, QRS and T by onset, peak and offset in seconds (NaN: no such wave).

    Raises ValueError for another shape, a rate that is not positive, less than 10 s, or infinite samples.
    """
    ecg_mv = _checked(ecg_mv, sample_rate_hz)
    figure, axes = _page(_PAGE_MM)
    _draw_grid(axes, _GRID_LEFT_MM, _GRID_BOTTOM_MM, *_GRID_MM)
    _draw_header(axes, title, header)
    top_mm = _GRID_BOTTOM_MM + _GRID_MM[1]
    for i, leads in enumerate((*FORMAT, (RHYTHM_LEAD,))):
        baseline_mm = top_mm - _ROW_MM * (i + 0.5)
        lowest_mm, highest_mm = max(baseline_mm - _REACH_MM, _GRID_BOTTOM_MM), min(baseline_mm + _REACH_MM, top_mm)
        row = _Row(_GRID_LEFT_MM + _LEAD_IN_MM, baseline_mm, lowest_mm, highest_mm)
        _draw_pulse(axes, row)
        for lead, span_s in _spans(leads):
            _draw_strip(axes, ecg_mv, sample_rate_hz, lead, span_s, row)
            if fiducials_s is not None:
                _mark(axes, fiducials_s, span_s, row, letters=len(leads) == 1)
    settings = f"{MM_PER_S:g} mm/s   {MM_PER_MV:g} mm/mV   {sample_rate_hz:g} Hz"
    _write(axes, _GRID_LEFT_MM, 6.0, settings, 2.9, color=_GREY)
    _write(axes, _GRID_LEFT_MM + _GRID_MM[0], 6.0, note, 2.9, color=_GREY, ha="right")
    return figure


def contact_sheet(panels: Sequence[tuple[str, np.ndarray]], sample_rate_hz: float, *, columns: int = 3) -> Figure:
    """Many records on one page, 1600 pixels wide: per (title, `ecg_mv` (samples, 12)) a sheet of 10 s in miniature.

    Time and voltage keep the proportion of the standard sheet; a square is 200 ms by 0.5 mV. Raises ValueError as
    `draw` does, and for no panels.
    """
    if not panels:
        raise ValueError("a contact sheet of no panels: give at least one (title, ecg_mv)")
    records = [(title, _checked(ecg_mv, sample_rate_hz)) for title, ecg_mv in panels]
    width_mm, rows = SECONDS * MM_PER_S, -(-len(records) // columns)
    grid_mm = _MINI_ROW_MM * (len(FORMAT) + 1)
    pitch_mm = (width_mm + _MINI_GAP_MM, grid_mm + _MINI_TITLE_MM + _MINI_GAP_MM)
    page_mm = (columns * pitch_mm[0] + _MINI_GAP_MM, rows * pitch_mm[1] + _MINI_GAP_MM)
    scale = _CONTACT_INCHES * _MM_PER_INCH / page_mm[0]
    figure, axes = _page(page_mm, scale, dpi=_CONTACT_PIXELS / _CONTACT_INCHES)
    for i, (title, ecg_mv) in enumerate(records):
        left_mm = _MINI_GAP_MM + (i % columns) * pitch_mm[0]
        top_mm = page_mm[1] - _MINI_GAP_MM - (i // columns) * pitch_mm[1] - _MINI_TITLE_MM
        _write(axes, left_mm, top_mm + 4.0, title, 8.0 * scale, weight="bold")
        _draw_grid(axes, left_mm, top_mm - grid_mm, width_mm, grid_mm, scale, fine=False)
        for j, leads in enumerate((*FORMAT, (RHYTHM_LEAD,))):
            row = _Row(left_mm, top_mm - _MINI_ROW_MM * (j + 0.55), top_mm - grid_mm, top_mm, scale)
            for lead, span_s in _spans(leads):
                _draw_strip(axes, ecg_mv, sample_rate_hz, lead, span_s, row)
    return figure


def check_path(path: Path) -> None:
    """Raises FileExistsError when `path` is there already, ValueError when its ending names no format of a sheet."""
    if path.suffix.lower() not in SUFFIXES:
        raise ValueError(f"{path}: a sheet is written as one of {', '.join(SUFFIXES)}; end the name in one of them")
    if path.exists():
        raise FileExistsError(f"{path} exists; it is not written over: remove it or name another file")


def save(figure: Figure, path: Path) -> None:
    """Writes a sheet as PNG, PDF or SVG, by the ending of `path`, whole or not at all. Raises as `check_path`."""
    check_path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=f".{path.name}-") as scratch:
        building = Path(scratch) / path.name
        with rc_context({"pdf.fonttype": 42, "svg.fonttype": "none"}):
            figure.savefig(building, dpi="figure")
        os.replace(building, path)


def _checked(ecg_mv: np.ndarray, sample_rate_hz: float) -> np.ndarray:
    """The first 10 s with every lead's median at 0."""
    if not 0 < sample_rate_hz < float("inf"):
        raise ValueError(f"sample_rate_hz is {sample_rate_hz}: a positive number is needed")
    if ecg_mv.ndim != 2 or ecg_mv.shape[1] != len(LEADS):
        raise ValueError(f"ecg_mv has shape {ecg_mv.shape}, expected (samples, {len(LEADS)})")
    samples = round(SECONDS * sample_rate_hz)
    if len(ecg_mv) < samples:
        raise ValueError(f"{len(ecg_mv) / sample_rate_hz:g} s of ECG: a sheet shows {SECONDS:g} s")
    ecg_mv = np.asarray(ecg_mv[:samples], np.float64)
    if np.isinf(ecg_mv).any():
        raise ValueError(f"{int(np.isinf(ecg_mv).sum())} infinite samples; mark missing ones by NaN")
    medians_mv = [np.median(lead[~np.isnan(lead)]) if not np.isnan(lead).all() else 0.0 for lead in ecg_mv.T]
    return ecg_mv - np.array(medians_mv)


def _page(
    size_mm: tuple[float, float], scale: float = 1.0, dpi: float = _PIXELS_PER_MM * _MM_PER_INCH
) -> tuple[Figure, Axes]:
    """A figure of `scale` times `size_mm`, and an axes over all of it in millimetres."""
    width, height = (scale * side / _MM_PER_INCH for side in size_mm)
    figure = Figure(figsize=(width, height), dpi=dpi, facecolor="white")
    FigureCanvasAgg(figure)
    axes = figure.add_axes((0, 0, 1, 1), xlim=(0, size_mm[0]), ylim=(0, size_mm[1]))
    axes.set_axis_off()
    return figure, axes


def _draw_grid(
    axes: Axes, left: float, bottom: float, width: float, height: float, scale: float = 1.0, *, fine: bool = True
) -> None:
    """The paper's ruling every 5 mm, and every 1 mm if `fine`."""
    axes.add_patch(Rectangle((left, bottom), width, height, fc="#fffafa", lw=0, zorder=0))
    for step_mm, colour, weight_mm in ((1.0, _FINE, 0.1), (5.0, _COARSE, 0.2))[0 if fine else 1 :]:
        x = left + np.arange(0.0, width + 0.5, step_mm)
        y = bottom + np.arange(0.0, height + 0.5, step_mm)
        lines = [((at, bottom), (at, bottom + height)) for at in x] + [((left, at), (left + width, at)) for at in y]
        line_pt = max(weight_mm * (1.0 if fine else 2.0) * scale * _POINTS_PER_MM, 0.25)
        axes.add_collection(LineCollection(lines, colors=colour, linewidths=line_pt, zorder=step_mm / 10))


def _draw_header(axes: Axes, title: str, header: Sequence[Sequence[str]]) -> None:
    _write(axes, _GRID_LEFT_MM, _PAGE_MM[1] - 10.0, title, 4.6, weight="bold")
    width_mm = _GRID_MM[0] / max(len(header), 1)
    for column, lines in enumerate(header):
        for row, line in enumerate(lines):
            _write(axes, _GRID_LEFT_MM + column * width_mm, _PAGE_MM[1] - 15.6 - 4.3 * row, line, 3.1)


def _draw_pulse(axes: Axes, row: _Row) -> None:
    """The calibration pulse before a row: 1 mV for 200 ms."""
    width_mm, height_mm = 0.2 * MM_PER_S, 1.0 * MM_PER_MV
    x = row.left_mm - 10.0 + np.array([-1.5, 0.0, 0.0, width_mm, width_mm, width_mm + 1.5])
    y = row.baseline_mm + height_mm * np.array([0, 0, 1, 1, 0, 0])
    axes.plot(x, y, color=_INK, lw=0.3 * _POINTS_PER_MM, solid_joinstyle="miter", zorder=3)


def _spans(leads: Sequence[str]) -> list[tuple[str, tuple[float, float]]]:
    """Each lead of a row with the seconds that it is shown for, one after the other."""
    seconds = SECONDS / len(leads)
    return [(lead, (i * seconds, (i + 1) * seconds)) for i, lead in enumerate(leads)]


def _draw_strip(
    axes: Axes, ecg_mv: np.ndarray, sample_rate_hz: float, lead: str, span_s: tuple[float, float], row: _Row
) -> None:
    """One lead over `span_s`, cut off where the row ends, with its name and a stroke where the lead changes."""
    samples = np.arange(round(span_s[0] * sample_rate_hz), min(round(span_s[1] * sample_rate_hz) + 1, len(ecg_mv)))
    x = row.left_mm + MM_PER_S * samples / sample_rate_hz
    y = row.baseline_mm + MM_PER_MV * ecg_mv[samples, LEADS.index(lead)]
    is_mini = row.mini_scale is not None
    line_pt = 0.55 if is_mini else 0.28 * _POINTS_PER_MM
    (trace,) = axes.plot(x, y, color=_INK, lw=line_pt, solid_joinstyle="round", zorder=3, gid=lead)
    begin_mm, end_mm = (row.left_mm + MM_PER_S * edge for edge in span_s)
    window = Bbox.from_extents(begin_mm - 0.5, row.lowest_mm, end_mm + 0.5, row.highest_mm)
    trace.set_clip_box(TransformedBbox(window, axes.transData))
    if span_s[0] > 0:
        half_mm = 1.5 if is_mini else 2.5
        y = [row.baseline_mm - half_mm, row.baseline_mm + half_mm]
        axes.plot([begin_mm, begin_mm], y, color=_INK, lw=line_pt, zorder=3)
    if row.mini_scale is not None:
        _write(axes, begin_mm + 1.5, row.baseline_mm + 7.0, lead, 4.8 * row.mini_scale, color=_GREY)
    else:
        _write(axes, begin_mm + 1.5, row.baseline_mm + 12.0, lead, 3.6, weight="bold")


def _mark(axes: Axes, fiducials_s: np.ndarray, span_s: tuple[float, float], row: _Row, *, letters: bool) -> None:
    """Brackets from onset to offset below a strip, a tick at the peak, and letters where there is room."""
    begin_mm, end_mm = (row.left_mm + MM_PER_S * edge for edge in span_s)
    for wave, (letter, colour) in enumerate(_WAVES):
        level_mm = row.baseline_mm - 12.5 - 2.5 * wave  # of its own: in AV block a P wave may fall on any other
        for onset, peak, offset in row.left_mm + MM_PER_S * fiducials_s[:, wave]:
            if not (begin_mm <= onset and offset <= end_mm):  # also where there is no such wave (NaN)
                continue
            bracket = [((onset, level_mm), (offset, level_mm)), ((peak, level_mm), (peak, level_mm + 1.6))]
            bracket += [((edge, level_mm - 0.8), (edge, level_mm + 0.8)) for edge in (onset, offset)]
            lines = LineCollection(bracket, colors=colour, linewidths=0.3 * _POINTS_PER_MM, zorder=4, gid=letter)
            axes.add_collection(lines)
            if letters:
                _write(axes, offset + 0.6, level_mm, letter, 2.2, color=colour, va="center", weight="bold")


def _write(axes: Axes, x_mm: float, y_mm: float, text: str, height_mm: float, **style: str) -> None:
    """Text of a font size given in millimetres of paper; `$` stands for itself."""
    font = {"color": _INK, "ha": "left", **style}
    axes.text(x_mm, y_mm, text, font, fontsize=height_mm * _POINTS_PER_MM, parse_math=False, zorder=5)
