"""The figures of the realism benchmark: the climb of the ladder, the audit, profiles, spectra, example records."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from benchmarks.harness.writing import PALETTE, new_figure
from benchmarks.realism.features import RATE_HZ, Described
from benchmarks.realism.report import HEADLINE, Measured
from ecg_jax.data.ecg import INDEPENDENT_LEADS, LEADS

_SHORT = {"NeuroKit2 multileads": "NK2 multileads", "NeuroKit2 ecgsyn": "NK2 ecgsyn"}
_SHOWN_LEADS = ("I", "II", "V1", "V2", "V5")
_SPACING_SD, _SHOWN_S = 8.0, 5


def all_figures(tables: dict[str, pd.DataFrame], measured: Measured, floor: str) -> dict[str, Figure]:
    """Every figure by the name of its file."""
    known = {name: value for name, (_, value) in measured.items()}
    return {
        "ladder": ladder(tables["realism"], floor),
        "shortcuts": shortcuts(tables["shortcuts"], floor),
        "singular_values": singular_values(tables["singular_values"], floor),
        "spectra": spectra(tables["spectra"], floor),
        "records": records(known, floor),
    }


def _label(source: str) -> str:
    return _SHORT.get(source, source)


def ladder(realism: pd.DataFrame, floor: str) -> Figure:
    """One panel per metric: sources from left to right, 95 % intervals, the two real halves as a band."""
    figure = new_figure(10, 9)
    order = [source for source in dict.fromkeys(realism.source) if "other half" not in source]
    for axes, (metric, title) in zip(figure.subplots(4, 2, sharex=True).flat, HEADLINE.items(), strict=True):
        for reference, colour, shift in (("PTB-XL", PALETTE[0], -0.1), ("LUDB", PALETTE[3], 0.1)):
            table = realism[(realism.reference == reference) & (realism.metric == metric)]
            _points(axes, table[table.source.isin(order)], order, colour, shift, f"against {reference}")
            among_real = table[table.source == f"{reference}, other half"]
            if len(among_real):
                row = among_real.iloc[0]
                axes.axhspan(row.low, row.high, color=colour, alpha=0.15, lw=0)
        if metric.startswith("network"):
            axes.axhline(0.5, color="black", lw=0.6, ls=":")
            axes.set_ylim(0.4, 1.03)
        if metric == "mmd2":
            axes.set_yscale("symlog", linthresh=0.01)
        axes.set_title(title + (" (higher is better; band: trained on real)" if metric == "transfer_auroc" else ""))
        axes.set_xticks(range(len(order)), [_label(source) for source in order], rotation=35, ha="right")
        axes.tick_params(labelsize=8)
        axes.spines[["top", "right"]].set_visible(False)
    figure.axes[0].legend(fontsize=7, frameon=False)
    figure.suptitle("Distance from real records; bands: the two halves of each real set, by patients", fontsize=10)
    return figure


def _points(axes: Axes, table: pd.DataFrame, order: list[str], colour: str, shift: float, label: str) -> None:
    """Points with intervals; where a source has several (sizes of a training set), side by side."""
    if not len(table):
        return
    x = np.array([order.index(source) for source in table.source]) + shift
    x = x + 0.2 * table.groupby("source").cumcount().to_numpy()
    error = np.stack([table.value - table.low, table.high - table.value]).clip(0)
    axes.errorbar(x, table.value, yerr=error, fmt="o", ms=4, color=colour, lw=1, label=label)


def shortcuts(audits: pd.DataFrame, floor: str) -> Figure:
    """How well each set of features tells each source from PTB-XL, and by which single feature best."""
    table = audits[audits.reference == "PTB-XL"]
    sets, order = list(dict.fromkeys(table.features)), list(dict.fromkeys(table.source))
    value = table.pivot(index="source", columns="features", values="value").loc[order, sets].to_numpy()
    figure = new_figure(13, 1.2 + 0.55 * len(order))
    axes = figure.subplots()
    image = axes.imshow(value, vmin=0.5, vmax=1.0, cmap="YlOrRd", aspect="auto")
    for row in table.itertuples():
        y, x = order.index(row.source), sets.index(row.features)
        text = f"{row.value:.2f} ± {(row.high - row.low) / 2:.2f}\n{row.telling} {row.telling_auroc:.2f}"
        axes.text(x, y, text, ha="center", va="center", fontsize=6.5, color="white" if row.value > 0.85 else "black")
    axes.set_xticks(range(len(sets)), sets)
    axes.set_yticks(range(len(order)), [_label(source) for source in order])
    axes.set_title(
        "Told apart from PTB-XL by a linear classifier: AUROC ± half of its interval;\n"
        "below, the single feature that tells most, and whether the source's is higher or lower",
        fontsize=9,
    )
    figure.colorbar(image, ax=axes, label="AUROC")
    return figure


def _styles(order: list[str], floor: str) -> dict[str, dict[str, object]]:
    """Line styles: real records black, NeuroKit2 dashed, the tiers in colours."""
    styles: dict[str, dict[str, object]] = {}
    colours = iter((*PALETTE[:6], "#8c564b", "#7f7f7f"))
    for source in order:
        if source == "PTB-XL":
            styles[source] = {"color": "black", "lw": 2.2}
        elif source == floor:
            styles[source] = {"color": "black", "lw": 1, "ls": ":"}
        elif source == "LUDB":
            styles[source] = {"color": "#606060", "lw": 1.4, "ls": "--"}
        elif source.startswith("NeuroKit2"):
            styles[source] = {"color": "#c44e9c" if source.endswith("leads") else "#9467bd", "lw": 1.2, "ls": "--"}
        else:
            styles[source] = {"color": next(colours), "lw": 1.2}
    return styles


def singular_values(table: pd.DataFrame, floor: str) -> Figure:
    """The mean share of energy of each singular value over the eight independent leads."""
    figure = new_figure(6.5, 4.2)
    axes = figure.subplots()
    for source, style in _styles(list(dict.fromkeys(table.source)), floor).items():
        own = table[table.source == source]
        axes.plot(own.order, own["mean"], label=_label(source), **style)
    real = table[table.source == "PTB-XL"]
    axes.fill_between(real.order, real.p05, real.p95, color="black", alpha=0.1, lw=0, label="PTB-XL, 5–95 %")
    axes.set(xlabel="singular value of leads I, II, V1–V6", ylabel="log10 of its share of the energy, mean")
    axes.legend(fontsize=7, frameon=False)
    axes.spines[["top", "right"]].set_visible(False)
    return figure


def spectra(table: pd.DataFrame, floor: str) -> Figure:
    """Mean log spectra of each independent lead."""
    figure = new_figure(11, 5.6)
    styles = _styles(list(dict.fromkeys(table.source)), floor)
    for axes, lead in zip(figure.subplots(2, 4, sharex=True, sharey=True).flat, INDEPENDENT_LEADS, strict=True):
        for source, style in styles.items():
            own = table[(table.source == source) & (table.lead == lead)]
            axes.plot(own.frequency_hz, own.mean_db, label=_label(source), **style)
        axes.set(title=lead, xscale="log", ylim=(-65, 5), xticks=[1, 3, 10, 30], xticklabels=["1", "3", "10", "30"])
        axes.spines[["top", "right"]].set_visible(False)
    figure.supxlabel("Hz", fontsize=9)
    figure.supylabel("mean log power of z-scored leads, dB per Hz", fontsize=9)
    figure.legend(*figure.axes[0].get_legend_handles_labels(), loc="outside right center", fontsize=7, frameon=False)
    return figure


def records(known: dict[str, Described], floor: str) -> Figure:
    """The same number of records, the first ones, of every source."""
    order = [name for name in known if name != floor]
    figure = new_figure(2.0 * len(order), 6.5)
    grid = figure.subplots(2, len(order), sharey=True, squeeze=False)
    time_s = np.arange(_SHOWN_S * RATE_HZ) / RATE_HZ
    for column, name in enumerate(order):
        for row in range(2):
            axes, z = grid[row, column], known[name].z[row]
            for place, lead in enumerate(_SHOWN_LEADS):
                axes.plot(time_s, z[: len(time_s), LEADS.index(lead)] - _SPACING_SD * place, lw=0.5, color="black")
            axes.set_yticks(-_SPACING_SD * np.arange(len(_SHOWN_LEADS)), _SHOWN_LEADS)
            axes.tick_params(labelsize=7)
            axes.spines[["top", "right"]].set_visible(False)
        grid[0, column].set_title(_label(name), fontsize=9)
    figure.supxlabel("s; each lead in its own standard deviations, the first two records of every source", fontsize=8)
    return figure
