"""The tables of the realism benchmark: long ones for files, a wide one to read."""

from __future__ import annotations

import numpy as np
import pandas as pd
from rich.console import Console
from rich.table import Table

from benchmarks.realism.beats import MEASURES
from benchmarks.realism.features import Described
from benchmarks.realism.metrics import QUANTILES
from benchmarks.realism.sources import Records
from ecg_jax.data.ecg import INDEPENDENT_LEADS

HEADLINE = {
    "spectrum_db": "spectrum, dB",
    "spectrum_spread_db": "spread of spectra, dB",
    "morphology": "beat quantiles",
    "singular_values": "singular values",
    "mmd2": "MMD²",
    "network_auroc": "network AUROC",
    "network_accuracy": "network accuracy",
    "transfer_auroc": "transfer AUROC",
}
Measured = dict[str, tuple[Records, Described]]


def console() -> Console:
    """A console wide enough for the tables where the output is a file."""
    found = Console(highlight=False)
    return found if found.is_terminal else Console(highlight=False, width=180)


def tables(
    found: list[dict[str, object]], audits: list[dict[str, object]], against: Measured, others: dict[str, Measured]
) -> dict[str, pd.DataFrame]:
    """Every table by the name of its file."""
    everything = others["PTB-XL"] | {name: value for name, value in against.items()}
    return {
        "realism": pd.DataFrame(found)[["reference", "source", "metric", "value", "low", "high", "records"]],
        "shortcuts": pd.DataFrame(audits),
        "spectra": _spectra(everything),
        "singular_values": _singular(everything),
        "quantiles": _quantiles(everything),
    }


def rows(table: pd.DataFrame) -> list[dict[str, object]]:
    """A table as JSON writes it: what is not a number is null."""
    clean = table.astype(object).where(table.notna(), None)
    return [{str(key): value for key, value in row.items()} for row in clean.to_dict("records")]


def printed(found: dict[str, pd.DataFrame]) -> list[Table]:
    """For people: per reference one row per source, then the audit."""
    shown = []
    for reference, table in found["realism"].groupby("reference", sort=False):
        printed = Table(
            title=f"Against {reference}: estimate ± half of its 95 % interval (AUROC, accuracy 0.5: not told apart)"
        )
        printed.add_column("source")
        for title in HEADLINE.values():
            printed.add_column(title, justify="right")
        for source, own in table.groupby("source", sort=False):
            printed.add_row(str(source), *(_cell(own[own.metric == metric]) for metric in HEADLINE))
        shown.append(printed)
    for reference, table in found["shortcuts"].groupby("reference", sort=False):
        printed = Table(
            title=f"Told apart from {reference} by a linear classifier on one set of features: AUROC, telling feature"
        )
        for name in ("source", *dict.fromkeys(table.features)):
            printed.add_column(str(name))
        for source, own in table.groupby("source", sort=False):
            cells = [
                f"{r.value:.2f} ± {(r.high - r.low) / 2:.2f}  {r.telling} {r.telling_auroc:.2f}"
                for r in own.itertuples()
            ]
            printed.add_row(str(source), *cells)
        shown.append(printed)
    return shown


def _cell(table: pd.DataFrame) -> str:
    if not len(table):
        return "n/a"
    return "\n".join(
        f"{r.value:.3f} ± {(r.high - r.low) / 2:.3f}" + (f" ({r.records})" if len(table) > 1 else "")
        for r in table.itertuples()
    )


def _spectra(everything: Measured) -> pd.DataFrame:
    parts = []
    for name, (_, known) in everything.items():
        for i, lead in enumerate(INDEPENDENT_LEADS):
            power = known.log_psd[..., i]
            columns = {"mean_db": power.mean(0), "sd_db": power.std(0)}
            parts.append(pd.DataFrame({"source": name, "lead": lead, "frequency_hz": known.frequency_hz, **columns}))
    return pd.concat(parts, ignore_index=True)


def _singular(everything: Measured) -> pd.DataFrame:
    parts = []
    for name, (_, known) in everything.items():
        low, middle, high = np.quantile(known.singular, (0.05, 0.5, 0.95), axis=0)
        columns = {"mean": known.singular.mean(0), "p05": low, "median": middle, "p95": high}
        parts.append(pd.DataFrame({"source": name, "order": np.arange(1, 9), **columns}))
    return pd.concat(parts, ignore_index=True)


def _quantiles(everything: Measured) -> pd.DataFrame:
    parts = []
    for name, (_, known) in everything.items():
        values = np.nanquantile(known.measures, QUANTILES, axis=0)
        for i, measure in enumerate(MEASURES):
            parts.append(
                pd.DataFrame({"source": name, "measure": measure, "quantile": QUANTILES, "value": values[:, i]})
            )
    return pd.concat(parts, ignore_index=True)
