"""A quality report of a set: what is in it, what was left out and why, and how its recordings look.

Writes OUT/report.html, which stands alone, and its tables: summary.csv, records.csv (a row per record), labels.csv,
spectra.csv, excluded.csv (every record left out, by reason) and repeats.csv (recordings that the set holds twice).
"""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Iterable, Sequence
from importlib.resources import files
from pathlib import Path

import pandas as pd

from ecg_jax.data.ecg import SIMULATED, RecordPool
from ecg_jax.data.exclusions import Exclusion, kind_of
from ecg_jax.data.real.datasets.catalogue import Output, remarks_of
from ecg_jax.data.real.datasets.label_names import common
from ecg_jax.data.real.datasets.registry import list_set
from ecg_jax.data.real.quality import figures, measures
from ecg_jax.data.real.quality.leakage import find_repeats
from ecg_jax.data.storage import shards
from ecg_jax.files.html_page import fill
from ecg_jax.files.whole_folder import whole_folder
from ecg_jax.terminal.command import command
from ecg_jax.terminal.stage import STDERR, Stage

#: Labels and ids shown on the page before one has to unfold or open a table.
_SHOWN_LABELS = 30
#: Lead-algebra residual above which limb leads do not fit, and the share of such records that a set may have.
MISFIT = 0.05
_TEMPLATE = files(__package__) / "report.html.jinja"


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
    table, repeats = tables["records"], tables["repeats"]
    folds = table.groupby("fold").agg(records=("record_id", "size"), patients=("patient_id", "nunique"))
    with_algebra = int(table.algebra.notna().sum())
    return fill(
        _TEMPLATE,
        pool=pool,
        tables=tables,
        notes=notes,
        apart=int((~repeats.same_patient.astype(bool)).sum()),
        folds=folds.reset_index(),
        labels=tables["labels"].head(_SHOWN_LABELS),
        amplitude_notes=measures.amplitude_notes(table),
        heart_rate_records=measures.HEART_RATE_RECORDS,
        algebra_records=with_algebra,
        misfits=_misfits(table, with_algebra),
        images=_images(pool, tables, seed),
        seed=seed,
        scale=_scale(pool),
    )


def _images(pool: RecordPool, tables: dict[str, pd.DataFrame], seed: int) -> dict[str, str]:
    table = tables["records"]
    drawn = {
        "amplitudes": figures.amplitudes(pool, table),
        "heart_rates": figures.heart_rates(table),
        "spectrum": figures.spectrum(tables["spectra"]),
        "random": figures.random_sheet(pool, seed),
        "worst": figures.worst_sheet(pool, table),
    }
    if table.algebra.notna().any():
        drawn["algebra"] = figures.algebra(table)
    return {name: figures.as_image(figure) for name, figure in drawn.items()}


def _misfits(table: pd.DataFrame, with_algebra: int) -> int:
    """How many records' limb leads in mV do not fit each other, where they are too many: LUDB's, for one, have a gain
    each."""
    off = int((table.algebra > MISFIT).sum())
    return off if off > MISFIT * with_algebra else 0


def _scale(pool: RecordPool) -> str:
    scaled = int((pool.unit == "NU").sum())
    note = f" {scaled:,} records were scaled per lead by their publisher: one deviation is drawn as 0.2 mV."
    return f"a square is 200 ms by 0.5 mV.{note if scaled else ''}"


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
