"""A quality report of a set: what is in it, what was left out and why, and how its recordings look.

Writes OUT/report.html, which stands alone, and its tables: summary.csv, records.csv (a row per record), labels.csv,
spectra.csv, excluded.csv (every record left out, by reason) and repeats.csv (recordings that the set holds twice).
"""

from __future__ import annotations

import argparse
import html
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from ecg_jax.data.ecg import SIMULATED, RecordPool
from ecg_jax.data.exclusions import Exclusion, kind_of
from ecg_jax.data.real.datasets.catalogue import Output, remarks_of
from ecg_jax.data.real.datasets.label_names import common
from ecg_jax.data.real.datasets.registry import list_set
from ecg_jax.data.real.quality import figures, measures
from ecg_jax.data.real.quality.leakage import find_repeats
from ecg_jax.data.storage import shards
from ecg_jax.files.whole_folder import whole_folder
from ecg_jax.terminal.command import command
from ecg_jax.terminal.stage import STDERR, Stage

#: Labels and ids shown on the page before one has to unfold or open a table.
_SHOWN_LABELS = 30
#: Lead-algebra residual above which limb leads do not fit, and the share of such records that a set may have.
MISFIT = 0.05
_STYLE = (
    "body{font:15px/1.5 system-ui,sans-serif;max-width:1100px;margin:2rem auto;padding:0 1rem;color:#1a1a1a}"
    "h1{font-size:1.5rem}h2{font-size:1.15rem;margin-top:2rem;border-bottom:1px solid #ddd}img{max-width:100%}"
    "table{border-collapse:collapse;margin:.6rem 0}td,th{padding:.15rem .8rem .15rem 0;text-align:left;"
    "vertical-align:top}td.n{text-align:right;font-variant-numeric:tabular-nums}.warning{color:#B00020}"
    "details{color:#444}figure{margin:1rem 0}figcaption{color:#555;font-size:.9rem}.columns{columns:3}"
)


def write_report(
    pool: RecordPool, exclusions: Sequence[Exclusion], folder: Path, *, seed: int = 0, notes: Sequence[str] = ()
) -> pd.DataFrame:
    """Writes the report of `pool`, and of what was left out of it, as a new folder; returns the summary.

    `notes` are sentences that who uses the set must know. `seed` draws the records whose heart rate is measured and
    those of the contact sheet. Raises FileExistsError when `folder` is there already, and ValueError for an empty pool.
    """
    if folder.exists():
        raise FileExistsError(f"{folder} exists; a report is not written over: remove it or name another folder")
    if not len(pool):
        raise ValueError(f"{pool.source}: no record is left to report on ({len(exclusions)} were left out)")
    table = measures.per_record(pool, seed)
    tables = {
        "records": table,
        "labels": _labels(pool),
        "spectra": measures.spectra(pool),
        "excluded": _excluded(exclusions),
        "repeats": _repeats(pool),
    }
    tables["summary"] = _summary(pool, tables)
    with whole_folder(folder) as building:
        for name, rows in tables.items():
            rows.to_csv(building / f"{name}.csv", index=False, float_format="%.6g")
        (building / "report.html").write_text(_page(pool, tables, seed, notes), encoding="utf-8")
    return tables["summary"]


def _excluded(exclusions: Iterable[Exclusion]) -> pd.DataFrame:
    rows = [(kind_of(item.reason), item.record_id, item.reason) for item in exclusions]
    return pd.DataFrame(sorted(rows), columns=["kind", "record_id", "reason"])


def _labels(pool: RecordPool) -> pd.DataFrame:
    """How often each label is given, in the set's own codes, with its name in the common vocabulary ("" for none)."""
    counts = Counter(label for labels in pool.labels for label in set(labels))
    rows = [(label, ";".join(common([label])), count) for label, count in counts.items()]
    return pd.DataFrame(sorted(rows, key=lambda row: (-row[2], row[0])), columns=["label", "common", "records"])


def _repeats(pool: RecordPool) -> pd.DataFrame:
    return pd.DataFrame(
        [
            {
                "first": pool.record_id[match.first],
                "second": pool.record_id[match.second],
                "likeness": match.similarity,
                "same_patient": bool(pool.patient_id[match.first] == pool.patient_id[match.second]),
                "folds": f"{pool.fold[match.first]} and {pool.fold[match.second]}",
            }
            for match in find_repeats(pool)
        ],
        columns=["first", "second", "likeness", "same_patient", "folds"],
    )


def _summary(pool: RecordPool, tables: dict[str, pd.DataFrame]) -> pd.DataFrame:
    table, excluded = tables["records"], tables["excluded"]
    known = table.unit == "mV"
    per_patient = table.groupby("patient_id").size()
    rows: list[tuple[str, object]] = [
        ("source", pool.source),
        ("records", len(pool)),
        ("records left out", len(excluded)),
        ("patients", len(per_patient)),
        ("most records of one patient", int(per_patient.max())),
        ("folds", len(set(pool.fold.tolist()))),
        ("distinct labels", len(tables["labels"])),
        ("of them in the common vocabulary", int((tables["labels"].common != "").sum())),
        ("records without a label", sum(not labels for labels in pool.labels)),
        ("recordings held twice", len(tables["repeats"])),
        ("sample rate (Hz)", pool.sample_rate_hz),
        ("duration of a record (s)", pool.ecg.shape[1] / pool.sample_rate_hz),
        ("hours in all", round(pool.ecg.shape[1] / pool.sample_rate_hz * len(pool) / 3600, 2)),
        *((f"records in {unit}", count) for unit, count in sorted(Counter(pool.unit.tolist()).items())),
        ("records with a flat lead", int((table.flat_leads > 0).sum())),
        ("standard deviation, median over mV records", float(table.sd[known].median())),
        ("peak, median over mV records", float(table.peak[known].median())),
        ("largest limb lead, peak to peak, median over mV records", float(table.limb[known].median())),
        ("heart rate, median (per minute)", float(table.heart_rate.median())),
        ("heart rate, records measured", int(table.heart_rate.notna().sum())),
        ("lead-algebra residual, median", float(table.algebra.median())),
        (f"records with a residual above {MISFIT}", int((table.algebra > MISFIT).sum())),
    ]
    return pd.DataFrame(rows, columns=["measure", "value"])


def _page(pool: RecordPool, tables: dict[str, pd.DataFrame], seed: int, notes: Sequence[str]) -> str:
    table = tables["records"]
    folds = table.groupby("fold").agg(records=("record_id", "size"), patients=("patient_id", "nunique")).reset_index()
    labels = tables["labels"]
    caption = (
        f"The {min(_SHOWN_LABELS, len(labels))} most frequent of {len(labels)} labels; all of them are in labels.csv."
    )
    parts = [
        f"<h1>{html.escape(pool.source)}: {len(pool):,} records</h1>",
        "<p>As a model is given them: band-passed 0.5–40 Hz, resampled, before normalisation.</p>",
        _table(tables["summary"]),
        "<h2>What to know of this set</h2>",
        "<p>Of recordings longer than ten seconds the first ten are kept.</p>",
        "".join(f"<p>{html.escape(note)}</p>" for note in notes),
        "<h2>Left out</h2>",
        _left_out(tables["excluded"]),
        "<h2>Recordings held twice</h2>",
        _twice(tables["repeats"]),
        "<h2>Folds and labels</h2>",
        _table(folds),
        f"<p>{caption}</p>{_counts(labels.head(_SHOWN_LABELS))}" if len(labels) else "<p>No labels.</p>",
        "<h2>Amplitude</h2>",
        "".join(f"<p class='warning'>{html.escape(note)}</p>" for note in measures.amplitude_notes(table)),
        _image(figures.amplitudes(pool, table), "Boxes: quartiles; whiskers end at the 1st and 99th percentile."),
        "<h2>Heart rate</h2>",
        _image(
            figures.heart_rates(table),
            f"Median interval of lead II's beats (XQRS), on {measures.HEART_RATE_RECORDS:,} records at most.",
        ),
        "<h2>Spectrum</h2>",
        _image(figures.spectrum(tables["spectra"]), "Line: median; band: 5 to 95 % of the records."),
        "<h2>Lead algebra</h2>",
        _misfit(table),
        _image(
            figures.algebra(table),
            "0 is exact; rounding alone gives about 0.005. Leads that were scaled one by one have none.",
        )
        if table.algebra.notna().any()
        else "<p>None: the leads of these records were scaled one by one.</p>",
        "<h2>Records at random</h2>",
        _image(figures.random_sheet(pool, seed), f"Drawn with seed {seed}; {_scale(pool)}"),
        "<h2>The worst records</h2>",
        _image(
            figures.worst_sheet(pool, table),
            f"Those of the largest lead-algebra residual, peak and share of noise; {_scale(pool)}",
        ),
    ]
    body = "\n".join(part for part in parts if part)
    return (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8"><meta name="viewport" '
        'content="width=device-width, initial-scale=1"><link rel="icon" href="data:,">'
        f"<title>{html.escape(pool.source)}: quality report</title><style>{_STYLE}</style></head>"
        f"<body>\n{body}\n</body></html>\n"
    )


def _misfit(table: pd.DataFrame) -> str:
    """A warning where limb leads in mV do not fit each other: LUDB's, for one, have a gain each."""
    off = int((table.algebra > MISFIT).sum())
    if off <= MISFIT * table.algebra.notna().sum():
        return ""
    return (
        f"<p class='warning'>In {off:,} of {int(table.algebra.notna().sum()):,} records the limb leads do not fit each "
        "other: each was scaled by itself, or leads bear wrong names. Their millivolts are not to be trusted; "
        "normalise per lead.</p>"
    )


def _left_out(excluded: pd.DataFrame) -> str:
    if excluded.empty:
        return "<p>No record was left out.</p>"
    parts = []
    for kind, rows in excluded.groupby("kind"):
        lines = "".join(f"<li>{html.escape(f'{row.record_id}: {row.reason}')}</li>" for row in rows.itertuples())
        parts.append(f"<details><summary>{html.escape(str(kind))}: {len(rows):,}</summary><ul>{lines}</ul></details>")
    return "\n".join(parts)


def _twice(repeats: pd.DataFrame) -> str:
    if repeats.empty:
        return "<p>None: no two records are the same recording.</p>"
    apart = int((~repeats.same_patient).sum())
    warning = (
        f"<p class='warning'>{apart} of them under two patients: a split by patient does not keep these apart.</p>"
    )
    return (warning if apart else "") + _table(repeats.head(50))


def _scale(pool: RecordPool) -> str:
    scaled = int((pool.unit == "NU").sum())
    note = f" {scaled:,} records were scaled per lead by their publisher: one deviation is drawn as 0.2 mV."
    return f"a square is 200 ms by 0.5 mV.{note if scaled else ''}"


def _counts(labels: pd.DataFrame) -> str:
    items = "".join(
        f"<li>{html.escape(row.label if row.common in ('', row.label) else f'{row.label} = {row.common}')}: "
        f"{row.records:,}</li>"
        for row in labels.itertuples()
    )
    return f"<ul class='columns'>{items}</ul>"


def _table(rows: pd.DataFrame) -> str:
    head = "".join(f"<th>{html.escape(str(name))}</th>" for name in rows.columns)
    lines = "".join(f"<tr>{''.join(_cell(value) for value in row)}</tr>" for row in rows.itertuples(index=False))
    return f"<table><tr>{head}</tr>{lines}</table>"


def _cell(value: object) -> str:
    if isinstance(value, (bool, np.bool_)):
        return f"<td>{'yes' if value else 'no'}</td>"
    if isinstance(value, (int, np.integer)):
        return f"<td class='n'>{value:,}</td>"
    if isinstance(value, (float, np.floating)):
        return f"<td class='n'>{'–' if np.isnan(value) else format(value, ',.4g')}</td>"
    return f"<td>{html.escape(str(value))}</td>"


def _image(figure: Figure, caption: str) -> str:
    text = html.escape(caption)
    address = figures.as_image(figure)
    return f'<figure><img alt="{text}" src="{address}"><figcaption>{text}</figcaption></figure>'


def read_set(name: str, source: Path) -> tuple[RecordPool, list[Exclusion], Sequence[str]]:
    """The records of a set, what was left out of it, and what who uses it must know: from shards that were built, or
    from its publisher's files.

    Raises FileNotFoundError and ValueError as the readers do, and ValueError for shards of another set.
    """
    excluded: list[Exclusion] = []
    if (source / "dataset_info.json").is_file():
        pool = shards.open_shards(source, on_bad=excluded.append)
        if pool.source not in (name, name + SIMULATED):
            raise ValueError(f"{source} holds shards of {pool.source!r}, not of {name!r}")
        return pool, excluded, shards.ShardSource(source).metadata.get("notes", ())
    listed = list_set(name, source, Output())
    remarks: list[str] = []
    with Stage("reading recordings", STDERR) as stage:
        pool = listed.read(listed.recordings, on_bad=excluded.append, progress=stage, on_remark=remarks.append)
    return pool, excluded, (*listed.notes, *remarks_of(Counter(remarks), len(pool)))


def parser() -> argparse.ArgumentParser:
    """The command line."""
    p = argparse.ArgumentParser(
        prog="ecg-jax report",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="Example: ecg-jax report ptbxl --source data/ptbxl --out reports/ptbxl",
    )
    p.add_argument("name", metavar="NAME", help="the set, as build knows it")
    p.add_argument(
        "--source", type=Path, required=True, metavar="DIR", help="shards that were built, or a publisher's files"
    )
    p.add_argument("--out", type=Path, required=True, metavar="DIR", help="the folder to write; it must not exist")
    p.add_argument("--seed", type=int, default=0, help="draws the records shown and measured (%(default)s)")
    return p


@command
def main(arguments: Sequence[str] | None = None) -> None:
    """The command line's entry."""
    options = parser().parse_args(arguments)
    if options.out.exists():
        raise FileExistsError(f"{options.out} exists; a report is not written over: name another folder")
    pool, excluded, notes = read_set(options.name, options.source)
    with Stage(f"measuring and drawing {len(pool):,} records", STDERR):
        summary = write_report(pool, excluded, options.out, seed=options.seed, notes=notes)
    print(summary.to_string(index=False, header=False))
    for note in (*notes, *measures.amplitude_notes(pd.read_csv(options.out / "records.csv"))):
        print(note)
    print(f"{options.out / 'report.html'} tells it in full.")


if __name__ == "__main__":
    raise SystemExit(main())
