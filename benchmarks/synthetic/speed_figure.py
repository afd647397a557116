"""The figure of the speed benchmark: records per second per core on a log axis, with the ratios."""

from __future__ import annotations

import pandas as pd
from matplotlib.figure import Figure

from benchmarks.harness.writing import PALETTE, new_figure
from benchmarks.synthetic import contenders

_PEERS = (contenders.MULTILEADS, contenders.ECGSYN, contenders.RK4)


def draw(speed: pd.DataFrame, processor: str) -> Figure:
    """Bars of median records per second (line: best), one panel per sample rate, ratios to multileads at the ends."""
    rates = sorted(speed.sample_rate_hz.unique())
    figure = new_figure(8.5, 0.6 + 0.27 * len(speed))
    heights = [(speed.sample_rate_hz == rate).sum() for rate in rates]
    panels = figure.subplots(len(rates), 1, sharex=True, squeeze=False, height_ratios=heights)[:, 0]
    for axes, rate in zip(panels, rates, strict=True):
        table = speed[speed.sample_rate_hz == rate].sort_values("median_per_s").reset_index(drop=True)
        colours = [_colour(name) for name in table.contender]
        axes.barh(table.index, table.median_per_s, color=colours, height=0.72)
        axes.hlines(table.index, table.median_per_s, table.best_per_s, color="black", lw=1)
        for row in table.itertuples():
            ratio = f"×{row.ratio_median:,.0f}" if row.ratio_median >= 1.5 else "1"
            axes.annotate(
                f"{row.median_per_s:,.4g}/s  {ratio}"
                if row.median_per_s < 1e4
                else f"{row.median_per_s:,.0f}/s  {ratio}",
                (row.best_per_s, row.Index),
                (4, 0),
                textcoords="offset points",
                va="center",
                fontsize=7,
            )
        axes.set(xscale="log", yticks=table.index, yticklabels=table.contender, title=f"{rate} Hz")
        axes.set_xlim(0.5 * speed.median_per_s.min(), 30 * speed.best_per_s.max())
        axes.tick_params(labelsize=8)
        axes.spines[["top", "right"]].set_visible(False)
    panels[-1].set_xlabel(
        f"12-lead records of 10 s per second on one core (median; line: best). × NeuroKit2 multileads\n{processor}"
    )
    return figure


def _colour(name: str) -> str:
    if name in _PEERS:
        return PALETTE[1]
    return "#b0b0b0" if name == contenders.WRITE else PALETTE[0]
