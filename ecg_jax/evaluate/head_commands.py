"""The commands about heads: `ecg-jax evaluate fit`, `predict` and `validate`."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType

import matplotlib.figure
import numpy as np
import pandas as pd

from ecg_jax.data.ecg import RecordPool
from ecg_jax.data.storage.shards import open_shards
from ecg_jax.evaluate import metrics
from ecg_jax.evaluate.features import extract, of_encoder
from ecg_jax.evaluate.head import SENSITIVITY, Head, fit_head, load_head, save_head
from ecg_jax.evaluate.intervals import newcombe
from ecg_jax.evaluate.labels import FEWEST_SCORED, Labels, find_rows, read_labels
from ecg_jax.files.whole_file import whole_file, write_text

#: Bins of the calibration plot, of equally many records.
_BINS = 8


def fit(arguments: Sequence[str]) -> None:
    """Fits a head to a site's own labels."""
    p = _parser("fit", fit)
    p.add_argument("encoder", type=Path, metavar="ENCODER")
    p.add_argument("--records", type=Path, required=True, metavar="SHARDS", help="a set that ecg-jax build made")
    _add_labels(p)
    p.add_argument("--save", type=Path, required=True, metavar="DIR", help="the folder to make")
    p.add_argument("--sensitivity", type=float, default=SENSITIVITY, help="that thresholds are set for (%(default)s)")
    options = p.parse_args(arguments)
    if options.save.exists():
        raise FileExistsError(f"{options.save} exists: name another folder")
    pool, labels = _records(options.records), read_labels(options.labels, options.prefix)
    rows = find_rows(labels, pool)
    pool = pool.take(rows.row_N)
    features = extract(of_encoder(options.encoder), pool)
    head = fit_head(features, rows.positive_NxC, pool.patient_id, labels.classes, sensitivity=options.sensitivity)
    save_head(options.save, head, options.encoder, f"{pool.source}, labels of {options.labels.name}")
    print(f"{options.save}: {len(labels.classes)} labels, fitted to {len(pool):,} records; {rows.unlabelled} had none")


def predict(arguments: Sequence[str]) -> None:
    """Writes the probability of every label for every record."""
    p = _parser("predict", predict)
    p.add_argument("head", type=Path, metavar="DIR")
    p.add_argument("records", type=Path, metavar="SHARDS")
    p.add_argument("--out", type=Path, required=True, metavar="CSV")
    options = p.parse_args(arguments)
    head, extractor = load_head(options.head)
    pool = _records(options.records)
    write_text(options.out, _predictions(head, pool, extract(extractor, pool)).to_csv(index=False, lineterminator="\n"))
    print(f"{options.out}: {len(pool):,} records, {len(head.probe.classes)} labels")


def validate(arguments: Sequence[str]) -> None:
    """Scores a head on records of elsewhere: figures with intervals, and a calibration plot."""
    p = _parser("validate", validate)
    p.add_argument("head", type=Path, metavar="DIR")
    p.add_argument("records", type=Path, metavar="SHARDS")
    _add_labels(p)
    p.add_argument("--out", type=Path, required=True, metavar="DIR")
    options = p.parse_args(arguments)
    head, extractor = load_head(options.head)
    pool, labels = _records(options.records), read_labels(options.labels, options.prefix)
    rows = find_rows(labels, pool)
    pool = pool.take(rows.row_N)
    probability_NxC = head.probabilities(extract(extractor, pool))
    table = validation(head, probability_NxC, labels, rows.positive_NxC)
    write_text(options.out / "validation.csv", table.to_csv(index=False, lineterminator="\n", float_format="%.6g"))
    with whole_file(options.out / "calibration.png") as path:
        _calibration_plot(head, probability_NxC, labels, rows.positive_NxC).savefig(path, format="png", dpi=150)
    print(table.to_string(index=False))
    print(f"{len(pool):,} records of {pool.source}; {rows.unlabelled} had no label", file=sys.stderr)


COMMANDS: Mapping[str, Callable[[Sequence[str]], None]] = MappingProxyType(
    {"fit": fit, "predict": predict, "validate": validate}
)


def validation(head: Head, probability_NxC: np.ndarray, labels: Labels, positive_NxK: np.ndarray) -> pd.DataFrame:
    """A row per label: AUROC with its interval, sensitivity and specificity at the head's threshold, Brier score,
    calibration error; a label that cannot be scored says why instead.

    Raises ValueError where head and table have no label in common.
    """
    if not set(head.probe.classes) & set(labels.classes):
        raise ValueError(f"the head tells {', '.join(head.probe.classes)}; the table has {', '.join(labels.classes)}")
    rows = []
    for column, name in enumerate(head.probe.classes):
        told_N = probability_NxC[:, column]
        has_N = positive_NxK[:, labels.classes.index(name)] if name in labels.classes else np.zeros(len(told_N), bool)
        positives, negatives = int(has_N.sum()), int((~has_N).sum())
        row = {"label": name, "n": len(told_N), "positives": positives}
        if min(positives, negatives) < FEWEST_SCORED:
            few = f"{positives} positive and {negatives} negative records, {FEWEST_SCORED} wanted"
            rows.append(row | {"left_out": few})
            continue
        area = newcombe(metrics.auroc(told_N, has_N), positives, negatives)
        called_N = told_N >= head.threshold_C[column]
        rows.append(
            row
            | {"auroc": area.value, "low": area.low, "high": area.high}
            | {"sensitivity": float(called_N[has_N].mean()), "specificity": float((~called_N[~has_N]).mean())}
            | {"brier": metrics.brier(told_N, has_N), "calibration_error": metrics.calibration_error(told_N, has_N)}
            | {"left_out": ""}
        )
    return pd.DataFrame(rows)


def _predictions(head: Head, pool: RecordPool, features: np.ndarray) -> pd.DataFrame:
    """Per record and label the probability, and whether it reaches the label's threshold."""
    probability_NxC = head.probabilities(features)
    columns: dict[str, np.ndarray] = {"record": pool.record_id}
    for column, name in enumerate(head.probe.classes):
        columns[name] = np.round(probability_NxC[:, column], 6)
        columns[f"{name}, called"] = probability_NxC[:, column] >= head.threshold_C[column]
    return pd.DataFrame(columns)


def _calibration_plot(
    head: Head, probability_NxC: np.ndarray, labels: Labels, positive_NxK: np.ndarray
) -> matplotlib.figure.Figure:
    figure = matplotlib.figure.Figure(figsize=(4.5, 4.5), layout="constrained")
    axes = figure.subplots()
    axes.plot([0, 1], [0, 1], color="0.7", linewidth=1)
    for column, name in enumerate(head.probe.classes):
        if name in labels.classes:
            order = np.argsort(probability_NxC[:, column], kind="stable")
            bins = [part for part in np.array_split(order, _BINS) if len(part)]
            told = [probability_NxC[part, column].mean() for part in bins]
            found = [positive_NxK[part, labels.classes.index(name)].mean() for part in bins]
            axes.plot(told, found, marker="o", markersize=4, linewidth=1, label=name)
    axes.set(xlabel="probability told", ylabel="share of records with the label", xlim=(0, 1), ylim=(0, 1))
    axes.legend(frameon=False)
    return figure


def _records(folder: Path) -> RecordPool:
    return open_shards(folder, on_bad=lambda exclusion: None)


def _parser(name: str, does: Callable[[Sequence[str]], None]) -> argparse.ArgumentParser:
    return argparse.ArgumentParser(prog=f"ecg-jax evaluate {name}", description=does.__doc__)


def _add_labels(p: argparse.ArgumentParser) -> None:
    p.add_argument("--labels", type=Path, required=True, metavar="TABLE", help="columns record and label")
    p.add_argument("--prefix", default="", help="put before each name of a record in the table, such as mine/")
