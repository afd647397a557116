"""Builds a set of recordings: filtered, resampled, stored once, as ArrayRecord shards that TFDS and Grain open.

    python -m ecg_jax.data.real.build NAME --source DIR --data-dir DIR [--labels TABLE.csv] [--rate 100] [--workers 2]

The set appears in DATA_DIR/NAME-100hz whole or not at all; a build that was killed goes on where it stopped. Recordings
that cannot be used are left out, and named with the reason in DATA_DIR/NAME-100hz.exclusions.csv.
"""

from __future__ import annotations

import argparse
import concurrent.futures
import ctypes
import dataclasses
import multiprocessing
import os
import re
import shutil
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import Any

import pandas as pd
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from ecg_jax.codec import fingerprint as fingerprint_of
from ecg_jax.command import command
from ecg_jax.data import preprocess
from ecg_jax.data.ecg import RecordPool
from ecg_jax.data.npz import load_pool, save_pool
from ecg_jax.data.real import shards
from ecg_jax.data.real.catalogue import Catalogue, Output, ReadSlice
from ecg_jax.data.real.families import FAMILIES, UNTRIED, list_set
from ecg_jax.data.real.prepare import SHARD_RECORDS
from ecg_jax.data.real.recording import Exclusion, kind_of
from ecg_jax.data.real.windows import read_windows, save_windows
from ecg_jax.data.whole_folder import making
from ecg_jax.store import read_json, write_json, write_text
from ecg_jax.workers import end_workers, follow_parent

RATES_HZ = (100, 250, 500)
#: Seconds between two looks at how many recordings the workers have read.
_LOOK_S = 0.2
#: In a worker: how many recordings all of them have read.
_read_so_far: Any = None


def build_set(target: Path, catalogue: Catalogue, *, workers: int, console: Console) -> tuple[list[Exclusion], bool]:
    """Builds a set as the folder `target`; returns what was left out, and whether it was there already.

    Each shard is a fixed slice of the sorted recordings, read by a process of its own and kept, once whole, until all
    are; so memory is that of a slice per worker. Raises ValueError when the set is there, made from something else, and
    when no recording can be used, and OSError when a process of its own was killed.
    """
    if target.exists():
        built = shards.ShardSource(target)
        built.check_fingerprint(catalogue.made_from)
        return [Exclusion(**exclusion) for exclusion in built.metadata["exclusions"]], True
    parts = target.with_name(f".{target.name}.{fingerprint_of(catalogue.made_from)}.parts")
    with making(parts):
        if target.exists():  # another process has built it meanwhile
            return build_set(target, catalogue, workers=workers, console=console)
        return _built(target, parts, catalogue, workers, console), False


def _built(target: Path, parts: Path, catalogue: Catalogue, workers: int, console: Console) -> list[Exclusion]:
    recordings = catalogue.recordings
    parts.mkdir(parents=True, exist_ok=True)
    slices = [recordings[start : start + SHARD_RECORDS] for start in range(0, len(recordings), SHARD_RECORDS)]
    _make_parts(catalogue.read, parts, slices, workers, console)
    excluded = [
        Exclusion(**found) for k in range(len(slices)) for found in read_json(_exclusions_of(parts, k), of=list)
    ]
    if len(excluded) == len(recordings):
        shutil.rmtree(parts)
        raise ValueError(f"none of {len(recordings)} recordings can be used; {_why(excluded)}")
    shards.write_shards(target, _pools(parts, len(slices)), fingerprint=catalogue.made_from, exclusions=excluded)
    shutil.rmtree(parts)
    return excluded


def _make_parts(read: ReadSlice, parts: Path, slices: Sequence[Sequence[Any]], workers: int, console: Console) -> None:
    """Reads the slices that are not in `parts` yet, several at a time."""
    waiting = [k for k in range(len(slices)) if not _exclusions_of(parts, k).is_file()]
    total, left = sum(map(len, slices)), sum(len(slices[k]) for k in waiting)
    context = multiprocessing.get_context("spawn")  # forked, threads of libraries may hold locks for ever
    read_so_far = context.Value(ctypes.c_int64, total - left)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with (
        Progress(*columns, console=console) as progress,
        concurrent.futures.ProcessPoolExecutor(
            max(1, min(workers, len(waiting))), context, initializer=_share, initargs=(read_so_far,)
        ) as pool,
    ):
        task = progress.add_task("reading recordings", total=total, completed=total - left)
        tasks = {pool.submit(_make_part, read, parts, k, slices[k]) for k in waiting}
        try:
            while tasks:
                finished, tasks = concurrent.futures.wait(tasks, _LOOK_S, concurrent.futures.FIRST_COMPLETED)
                for part in finished:
                    part.result()
                progress.update(task, completed=read_so_far.value)
        except BrokenProcessPool as error:
            raise OSError(
                f"a process that read recordings was killed, perhaps for want of memory ({workers} workers): the same "
                "command goes on; give it fewer --workers"
            ) from error
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            end_workers()
            raise


def _share(read_so_far: Any) -> None:
    global _read_so_far
    follow_parent()
    _read_so_far = read_so_far


def _make_part(read: ReadSlice, parts: Path, k: int, recordings: Sequence[Any]) -> None:
    """One slice: its records, and then, which says that it is whole, what was left out."""
    excluded: list[Exclusion] = []
    before = 0

    def advance(done: int, _: int) -> None:
        nonlocal before
        with _read_so_far.get_lock():
            _read_so_far.value += done - before
        before = done

    pool = read(recordings, on_bad=excluded.append, progress=advance)
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
    known = "\n".join(
        f"  {family.name:<14} {family.about}{'' if family.is_tried else f' ({UNTRIED})'}"
        for family in FAMILIES.values()
    )
    p = argparse.ArgumentParser(
        prog="python -m ecg_jax.data.real.build",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog=f"""sets known by name, as their publishers lay them out; download fetches them:
{known}
  any other NAME a folder of 12-lead recordings, WFDB (.hea with .dat or .mat) or EDF, to any depth: your own, or a
                 family of the PhysioNet Challenge 2021, whose SNOMED codes become the labels

the table of labels:    record,patient,fold,labels      all but the first may be left out
                        ward7/0001,p12,3,AFIB;LBBB      the path without suffix; labels separated by ;
  separated by , ; tabs or |; columns may have other names (patient_id, Subject, filename, ecg_id, strat_fold, Dx, …);
  what was not understood, and how many recordings have no patient (each is then one of its own), is printed

examples:
  python -m ecg_jax.data.real.build ptbxl --source data/ptbxl --data-dir data/built
  python -m ecg_jax.data.real.build mine --source my_ecgs --data-dir data/built --labels my_labels.csv
  python -m ecg_jax.data.real.report mine --source data/built/mine-100hz --out reports/mine""",
    )
    p.add_argument("name", metavar="NAME", help="a known set, or a name for yours: lower-case letters, digits and _")
    p.add_argument("--source", type=Path, required=True, metavar="DIR", help="the recordings")
    p.add_argument("--data-dir", type=Path, required=True, metavar="DIR", help="where the set is to lie")
    p.add_argument("--labels", type=Path, metavar="TABLE", help="table of patients, folds and labels, see below")
    p.add_argument("--rate", type=int, choices=RATES_HZ, default=100, help="samples per second (%(default)s)")
    p.add_argument(
        "--unit", choices=("mV", "NU"), default="mV", help="NU: standard deviations of a lead (%(default)s; ludb: NU)"
    )
    p.add_argument(
        "--band",
        type=float,
        nargs=2,
        metavar=("LOW", "HIGH"),
        default=preprocess.BAND_HZ,
        help="pass band in Hz (0.5 40); studies take sets of the standard steps only",
    )
    p.add_argument("--order", type=int, default=preprocess.BUTTERWORTH_ORDER, help="of its Butterworth (%(default)s)")
    p.add_argument("--workers", type=int, default=os.cpu_count() or 1, metavar="N", help="processes (%(default)s)")
    p.add_argument("--pack", action="store_true", help="also write NAME-100hz.npz, for nodes without the data stack")
    p.add_argument(
        "--windows",
        action="store_true",
        help="cut long recordings of any leads (MIT-BIH) into windows of 10 s with a mask of leads, NAME-windows-100hz"
        ".npz: never part of 12-lead training",
    )
    return p


def build_windows(options: argparse.Namespace, output: Output, console: Console) -> int:
    """Writes a set of windows and what was left out of it; returns the exit status.

    Raises as `read_windows` does; what was left out is written then, too.
    """
    if options.unit != "mV":
        raise ValueError("windows are in mV: leave out --unit")
    target = options.data_dir / f"{options.name}-windows-{options.rate}hz.npz"
    left_out = target.with_suffix(".exclusions.csv")
    excluded: list[Exclusion] = []
    with Progress(console=console) as progress:
        task = progress.add_task("cutting recordings", total=None)
        try:
            windows = read_windows(
                options.name,
                options.source,
                output,
                excluded.append,
                lambda done, total: progress.update(task, completed=done, total=total),
                options.labels,
            )
        except ValueError as error:
            if not excluded:
                raise
            write_exclusions(left_out, excluded)
            raise ValueError(f"{error}; {_why(excluded)}; each is named in {left_out}") from error
    save_windows(target, windows)
    write_exclusions(left_out, excluded)
    counts = ", ".join(
        f"{lead} {count:,}" for lead, count in zip(windows.leads, windows.present.sum(axis=0), strict=True)
    )
    console.print(f"{target}: {len(windows):,} windows of 10 s ({counts}); {len(excluded):,} left out")
    if excluded:
        console.print(f"left out: {reasons(excluded)}; each is named in {left_out}")
    for note in windows.notes:
        console.print(note)
    return 0


def _why(excluded: Sequence[Exclusion]) -> str:
    """How many were left out, by reason, and the first of them."""
    return f"{reasons(excluded)}, such as {excluded[0].record_id}: {excluded[0].reason}"


@command
def main(arguments: Sequence[str] | None = None) -> int:
    """The command line's entry; returns the exit status."""
    options = parser().parse_args(arguments)
    console = Console(highlight=False, soft_wrap=True)
    try:
        if not re.fullmatch(r"[a-z]\w*", options.name):
            raise ValueError(f"the name is {options.name!r}: lower-case letters, digits and _ only, a letter first")
        steps = preprocess.Steps(tuple(options.band), options.order)
        output = Output(options.rate, options.unit, steps)
        if options.windows:
            return build_windows(options, output, console)
        with console.status(f"listing {options.source}"):
            listed = list_set(options.name, options.source, output, options.labels)
        target = options.data_dir / f"{options.name}-{options.rate}hz"
        excluded, was_there = build_set(target, listed, workers=options.workers, console=console)
        write_exclusions(target.with_name(f"{target.name}.exclusions.csv"), excluded)
        with console.status("reading annotations"):
            tables = listed.beside()
        for name, table in tables.items():
            path = target.with_name(f"{target.name}.{name}.csv")
            write_text(path, table.to_csv(index=False, lineterminator="\n", float_format="%.6g"))
            console.print(f"{path}: {len(table):,} {name}")
        if options.pack:
            save_pool(target.with_name(f"{target.name}.npz"), shards.open_shards(target, on_bad=lambda _: None))
    except (OSError, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    if was_there:
        console.print(f"{target} is there already, made from the same recordings")
    for note in listed.notes:
        console.print(note)
    kept = len(shards.ShardSource(target))
    console.print(f"{target}: {kept:,} records; {len(excluded):,} recordings left out")
    if excluded:
        console.print(f"left out: {reasons(excluded)}; each is named in {target}.exclusions.csv")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
