"""Builds a set of recordings: filtered, resampled, stored once, as ArrayRecord shards that TFDS and Grain open.

    python -m ecg_jax.data.real.build NAME --source DIR --data-dir DIR [--labels TABLE.csv] [--rate 100] [--workers 2]

The set appears in DATA_DIR/NAME-100hz whole or not at all; a build that was killed goes on where it stopped. Recordings
that cannot be used are left out, and named with the reason in DATA_DIR/NAME-100hz.exclusions.csv.
"""

from __future__ import annotations

import argparse
import concurrent.futures
import dataclasses
import functools
import multiprocessing
import os
import re
import shutil
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

import pandas as pd
from rich.console import Console
from rich.progress import Progress

from ecg_jax.config import fingerprint as fingerprint_of
from ecg_jax.data.ecg import RecordPool
from ecg_jax.data.npz import load_pool, save_pool
from ecg_jax.data.real import folder as any_folder
from ecg_jax.data.real import shards
from ecg_jax.data.real.prepare import SHARD_RECORDS, prepare_ptbxl
from ecg_jax.data.real.recording import Exclusion, kind_of
from ecg_jax.store import read_json, write_json, write_text

RATES_HZ = (100, 250, 500)


def build_folder(
    name: str, source: Path, data_dir: Path, *, table: Path | None, sample_rate_hz: int, workers: int, console: Console
) -> tuple[Path, list[Exclusion]]:
    """Builds a folder of recordings as the set `name`; returns where it lies, and what was left out.

    Each shard is a fixed slice of the sorted recordings, read by a process of its own and kept, once whole, until all
    are; so memory is that of a slice per worker. Raises FileExistsError when the set is there, made from something
    else, and as `folder.list_folder` does.
    """
    if not re.fullmatch(r"[a-z]\w*", name):
        raise ValueError(f"the name is {name!r}: lower-case letters, digits and _ only, a letter first")
    entries = any_folder.list_folder(name, source, table)
    made_from = any_folder.fingerprint(entries, sample_rate_hz)
    target = data_dir / f"{name}-{sample_rate_hz}hz"
    if target.exists():
        built = shards.ShardSource(target)
        built.check_fingerprint(made_from)
        console.print(f"{target} is there already, made from the same recordings", soft_wrap=True)
        return target, [Exclusion(**exclusion) for exclusion in built.metadata["exclusions"]]
    number_of = {patient: number for number, patient in enumerate(sorted({entry.patient for entry in entries}))}
    parts = data_dir / f".{target.name}.{fingerprint_of(made_from)}.parts"
    parts.mkdir(parents=True, exist_ok=True)
    slices = [entries[start : start + SHARD_RECORDS] for start in range(0, len(entries), SHARD_RECORDS)]
    waiting = [k for k in range(len(slices)) if not _exclusions_of(parts, k).is_file()]
    with Progress(console=console) as progress:
        task = progress.add_task(f"reading {len(entries):,} recordings", total=len(entries))
        progress.advance(task, sum(len(chosen) for k, chosen in enumerate(slices) if k not in waiting))
        make = functools.partial(_make_part, name, parts, sample_rate_hz)
        context = multiprocessing.get_context("spawn")  # forked, threads of libraries may hold locks for ever
        with concurrent.futures.ProcessPoolExecutor(max(1, min(workers, len(waiting))), context) as pool:
            tasks = {
                pool.submit(make, k, slices[k], [number_of[entry.patient] for entry in slices[k]]): k for k in waiting
            }
            for done in concurrent.futures.as_completed(tasks):
                done.result()
                progress.advance(task, len(slices[tasks[done]]))
    excluded = [Exclusion(**found) for k in range(len(slices)) for found in read_json(_exclusions_of(parts, k))]
    if len(excluded) == len(entries):
        shutil.rmtree(parts)
        raise ValueError(f"{source}: none of {len(entries)} recordings can be used; {reasons(excluded)}")
    shards.write_shards(target, _pools(parts, len(slices)), fingerprint=made_from, exclusions=excluded)
    shutil.rmtree(parts)
    return target, excluded


def _make_part(
    name: str, parts: Path, sample_rate_hz: int, k: int, entries: Sequence[any_folder.Entry], numbers: Sequence[int]
) -> None:
    """One slice: its records, and then, which says that it is whole, what was left out."""
    excluded: list[Exclusion] = []
    pool = any_folder.read_entries(name, entries, numbers, sample_rate_hz, excluded.append)
    save_pool(parts / f"{k:05d}.npz", pool)
    write_json(_exclusions_of(parts, k), [dataclasses.asdict(exclusion) for exclusion in excluded])


def _exclusions_of(parts: Path, k: int) -> Path:
    return parts / f"{k:05d}.exclusions.json"


def _pools(parts: Path, count: int) -> Iterator[RecordPool]:
    for k in range(count):
        yield load_pool(parts / f"{k:05d}.npz")


def reasons(excluded: Sequence[Exclusion]) -> str:
    """How many were left out, by reason, the most frequent first."""
    kinds = Counter(kind_of(exclusion.reason) for exclusion in excluded)
    return ", ".join(f"{kind} {count}" for kind, count in kinds.most_common())


def write_exclusions(path: Path, excluded: Sequence[Exclusion]) -> None:
    """Writes a CSV file with a row per recording that was left out."""
    rows = [(exclusion.record_id, exclusion.reason) for exclusion in excluded]
    table = pd.DataFrame(rows, columns=["record_id", "reason"])
    write_text(path, table.to_csv(index=False, lineterminator="\n"))


def parser() -> argparse.ArgumentParser:
    """The command line."""
    p = argparse.ArgumentParser(
        prog="python -m ecg_jax.data.real.build",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="""sources:
  NAME = ptbxl          PTB-XL as its publisher lays it out, with its folds and SCP codes
  any other NAME        a folder of 12-lead recordings, WFDB (.hea with .dat or .mat) or EDF, to any depth: your own,
                        LUDB, or a family of the PhysioNet Challenge 2021, whose SNOMED codes become the labels

the table of labels:    record,patient,fold,labels      all but the first may be left out
                        ward7/0001,p12,3,AFIB;LBBB      the path without suffix; labels separated by ;

examples:
  python -m ecg_jax.data.real.build ptbxl --source data/ptbxl --data-dir data/built
  python -m ecg_jax.data.real.build mine --source my_ecgs --data-dir data/built --labels my_labels.csv
  python -m ecg_jax.data.real.report mine --source data/built/mine-100hz --out reports/mine""",
    )
    p.add_argument("name", metavar="NAME", help="of the set: lower-case letters, digits and _")
    p.add_argument("--source", type=Path, required=True, metavar="DIR", help="the recordings")
    p.add_argument("--data-dir", type=Path, required=True, metavar="DIR", help="where the set is to lie")
    p.add_argument("--labels", type=Path, metavar="TABLE", help="CSV file of patients, folds and labels")
    p.add_argument("--rate", type=int, choices=RATES_HZ, default=100, help="samples per second (%(default)s)")
    p.add_argument("--workers", type=int, default=os.cpu_count() or 1, metavar="N", help="processes (%(default)s)")
    return p


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line's entry; returns the exit status."""
    options = parser().parse_args(arguments)
    console = Console(highlight=False)
    try:
        if options.name == "ptbxl":
            excluded: list[Exclusion] = []
            prepare_ptbxl(options.source, options.data_dir, sample_rate_hz=options.rate, on_bad=excluded.append)
            target = options.data_dir / f"ptbxl-{options.rate}hz"
        else:
            target, excluded = build_folder(
                options.name,
                options.source,
                options.data_dir,
                table=options.labels,
                sample_rate_hz=options.rate,
                workers=options.workers,
                console=console,
            )
        write_exclusions(target.with_name(f"{target.name}.exclusions.csv"), excluded)
    except (OSError, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    kept = len(shards.ShardSource(target))
    console.print(f"{target}: {kept:,} records; {len(excluded):,} recordings left out", soft_wrap=True)
    if excluded:
        console.print(f"left out: {reasons(excluded)}; each is named in {target}.exclusions.csv", soft_wrap=True)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
