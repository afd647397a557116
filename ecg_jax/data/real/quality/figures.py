"""The figures of a quality report."""

from __future__ import annotations

import base64
import io

import numpy as np
import pandas as pd
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullLocator, StrMethodFormatter

from ecg_jax.data import ecg_plot
from ecg_jax.data.ecg import LEADS, RecordPool
from ecg_jax.data.preprocess import COUNTS_PER_UNIT

#: Okabe & Ito.
_BLUE, _ORANGE, _GREEN = "#0072B2", "#D55E00", "#009E73"
RANDOM_RECORDS = 9
#: What makes a record one of the worst, and how its panel says so; the first few of each are shown.
WORST = (
    ("algebra", "algebra off by {:.1%}"),
    ("peak", "peak {:.1f} {}"),
    ("noise", "{:.0%} above 25 Hz"),
)
_WORST_EACH = 3
#: Units as figures name them.
_UNITS = {"mV": "mV", "NU": "SD of its lead", "AU": "mV as published"}


def amplitudes(pool: RecordPool, table: pd.DataFrame) -> Figure:
    """Distribution of the standard deviation per lead, and of the peak per record; this alone where every lead was
    scaled to its own deviation."""
    rows = measured(pool)
    unit = _UNITS[str(pool.unit[rows[0]])]
    if unit == "mV":
        figure = _figure(10, 3.6)
        left, right = figure.subplots(1, 2, width_ratios=(3, 2))
        deviations = pool.ecg[rows[:: max(1, len(rows) // 4000)]].std(axis=1) / COUNTS_PER_UNIT
        left.boxplot(
            list(deviations.T), tick_labels=LEADS, whis=(1, 99), sym="", patch_artist=True,
            boxprops={"facecolor": "#d7e7f3", "edgecolor": _BLUE}, medianprops={"color": _ORANGE},
            whiskerprops={"color": _BLUE}, capprops={"color": _BLUE},
        )  # fmt: skip
        left.set_ylabel("standard deviation (mV)", fontsize=9)
        left.set_title(f"Amplitude per lead, {len(rows):,} records", fontsize=10)
    else:
        figure = _figure(5, 3.6)
        right = figure.subplots()
    peaks = table.peak[rows]
    right.hist(peaks, bins=np.geomspace(max(peaks.min(), 0.05), max(peaks.max(), 0.1) * 1.01, 40), color=_BLUE)
    right.set_xscale("log")
    right.xaxis.set_major_locator(LogLocator(subs=(1, 1.5, 2, 3, 5, 7)))
    right.xaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
    right.xaxis.set_minor_locator(NullLocator())
    right.set_xlabel(f"largest absolute value of a record ({unit})", fontsize=9)
    right.set_ylabel("records")
    right.set_title("Peaks", fontsize=10)
    return figure


def heart_rates(table: pd.DataFrame) -> Figure:
    """Distribution of the heart rate."""
    figure = _figure(5, 3.2)
    axes = figure.subplots()
    known = table.heart_rate.dropna()
    axes.hist(known.clip(20, 220), bins=list(range(20, 222, 4)), color=_GREEN)
    axes.axvspan(60, 100, color="#eeeeee", zorder=0)
    axes.set_xlabel("heart rate (per minute; grey: 60 to 100)")
    axes.set_ylabel("records")
    axes.set_title(
        f"{len(known):,} records, median {known.median():.0f}" if len(known) else "no record has three beats"
    )
    return figure


def algebra(table: pd.DataFrame) -> Figure:
    """Distribution of the lead-algebra residual."""
    figure = _figure(5, 3.2)
    axes = figure.subplots()
    known = table.algebra.dropna()
    if len(known):
        axes.hist(known.clip(1e-5, 10), bins=np.geomspace(1e-5, 10, 49).tolist(), color=_ORANGE)
    axes.set_xscale("log")
    axes.set_xlim(1e-5, 10)
    axes.set_xlabel("III, aVR, aVL, aVF: miss of what I and II say (relative RMS)")
    axes.set_ylabel("records")
    axes.set_title(f"{len(known):,} of {len(table):,} records, those in mV")
    return figure


def spectrum(table: pd.DataFrame) -> Figure:
    """Median and 5–95 % of the spectra of four leads."""
    figure = _figure(10, 3.0)
    for axes, lead in zip(figure.subplots(1, 4, sharey=True), ("I", "II", "V2", "V5"), strict=True):
        rows = table[table.lead == lead]
        axes.fill_between(rows.hz, rows["0.05"], rows["0.95"], color="#d7e7f3", lw=0)
        axes.plot(rows.hz, rows["0.5"], color=_BLUE, lw=1.2)
        axes.set_title(lead, fontsize=10)
        axes.set_xlabel("Hz")
        axes.set_ylim(-70, 5)
        axes.grid(color="#eeeeee")
    figure.axes[0].set_ylabel("dB per Hz, variance 1")
    return figure


def measured(pool: RecordPool) -> np.ndarray:
    """The records whose amplitude is that of the patient (mV); all, where the whole set was scaled per lead."""
    known = np.flatnonzero(pool.unit == "mV")
    return known if len(known) else np.arange(len(pool))


def random_sheet(pool: RecordPool, seed: int) -> Figure:
    """Records drawn at random, as miniature sheets."""
    drawn = np.random.default_rng(seed).permutation(len(pool))[:RANDOM_RECORDS]
    return _sheet(pool, {int(i): "" for i in np.sort(drawn)})


def worst_sheet(pool: RecordPool, table: pd.DataFrame) -> Figure:
    """The records that are worst in one respect or another, each with the respect."""
    chosen: dict[int, str] = {}
    for column, words in WORST:
        ranked = (
            (table[column].iloc[measured(pool)] if column == "peak" else table[column])
            .dropna()
            .sort_values(ascending=False, kind="stable")
        )
        fresh = [index for index in ranked.index if index not in chosen][:_WORST_EACH]
        unit = {index: _UNITS[str(table.unit[index])] for index in fresh}
        chosen |= {int(index): words.format(table.loc[index, column], unit[index]) for index in fresh}
    return _sheet(pool, chosen)


def as_image(figure: Figure) -> str:
    """A figure as the address of a PNG inside a page."""
    made = io.BytesIO()
    figure.savefig(made, format="png", dpi="figure")
    return f"data:image/png;base64,{base64.b64encode(made.getvalue()).decode()}"


def _sheet(pool: RecordPool, why: dict[int, str]) -> Figure:
    panels = []
    for index, words in why.items():
        ecg = pool.ecg[index] / COUNTS_PER_UNIT
        if pool.unit[index] == "NU":  # per deviation: drawn as though one were 0.2 mV, which looks like ECG
            ecg = ecg * 0.2
        name = str(pool.record_id[index]).rpartition("/")[2]
        panels.append((": ".join(filter(None, (name, words))), ecg))
    return ecg_plot.contact_sheet(panels, pool.sample_rate_hz)


def _figure(width_in: float, height_in: float) -> Figure:
    figure = Figure(figsize=(width_in, height_in), dpi=110, layout="constrained")
    FigureCanvasAgg(figure)
    return figure
