"""Builds a set of recordings: filtered, resampled, stored once, as ArrayRecord shards that TFDS and Grain open.

    ecg-jax build NAME --source DIR --data-dir DIR [--labels TABLE.csv] [--rate 100] [--workers 2]

The set appears in DATA_DIR/NAME-100hz whole or not at all; a build that was killed goes on where it stopped. Recordings
that cannot be used are left out, and named with the reason in DATA_DIR/NAME-100hz.exclusions.csv. Of recordings longer
than ten seconds only the first ten are kept, and such recordings counted; --windows keeps all, cut into windows.
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
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import Any

import pandas as pd
from rich.console import Console

from ecg_jax.codec import fingerprint as fingerprint_of
from ecg_jax.data import preprocess
from ecg_jax.data.ecg import RecordPool
from ecg_jax.data.exclusions import Exclusion, kind_of
from ecg_jax.data.real.datasets.catalogue import Catalogue, Output, ReadSlice, remarks_of
from ecg_jax.data.real.datasets.prepare import SHARD_RECORDS
from ecg_jax.data.real.datasets.registry import FAMILIES, UNTRIED, list_set
from ecg_jax.data.real.datasets.windows import read_windows, save_windows
from ecg_jax.data.storage import shards
from ecg_jax.data.storage.pool_file import load_pool, save_pool
from ecg_jax.distributed.workers import end_workers, follow_parent
from ecg_jax.files.whole_file import read_json, write_json, write_text
from ecg_jax.files.whole_folder import making
from ecg_jax.terminal.command import command
from ecg_jax.terminal.renamed import add_renamed
from ecg_jax.terminal.stage import Stage

RATES_HZ = (100, 250, 500)
#: Seconds between two looks at how many recordings the workers have read.
_LOOK_S = 0.2
#: In a worker: how many recordings all of them have read.
_read_so_far: Any = None


@dataclasses.dataclass(frozen=True)
class Built:
    """A set that is there: what was left out of it, what who uses it must know, and whether it was there before."""

    excluded: Sequence[Exclusion]
    notes: Sequence[str]
    was_there: bool = False


def build_set(target: Path, catalogue: Catalogue, *, workers: int, console: Console) -> Built:
    """Builds a set as the folder `target`.

    Each shard is a fixed slice of the sorted recordings, read by a process of its own and kept, once whole, until all
    are; so memory is that of a slice per worker. Raises ValueError when the set is there, made from something else, and
    when no recording can be used, and OSError when a process of its own was killed.
    """
    if target.exists():
        built = shards.ShardSource(target)
        built.check_fingerprint(catalogue.made_from)
        excluded = [Exclusion(**exclusion) for exclusion in built.metadata["exclusions"]]
        return Built(excluded, built.metadata.get("notes", ()), was_there=True)
    parts = target.with_name(f".{target.name}.{fingerprint_of(catalogue.made_from)}.parts")
    with making(parts):
        if target.exists():  # another process has built it meanwhile
            return build_set(target, catalogue, workers=workers, console=console)
        return _built(target, parts, catalogue, workers, console)


def _built(target: Path, parts: Path, catalogue: Catalogue, workers: int, console: Console) -> Built:
    recordings = catalogue.recordings
    parts.mkdir(parents=True, exist_ok=True)
    slices = [recordings[start : start + SHARD_RECORDS] for start in range(0, len(recordings), SHARD_RECORDS)]
    _make_parts(catalogue.read, parts, slices, workers, console)
    told = [read_json(_told_of(parts, k), of=dict) for k in range(len(slices))]
    excluded = [Exclusion(**found) for part in told for found in part["excluded"]]
    if len(excluded) == len(recordings):
        shutil.rmtree(parts)
        raise ValueError(f"none of {len(recordings)} recordings can be used; {_why(excluded)}")
    remarks = sum((Counter(part["remarks"]) for part in told), Counter())
    notes = (*catalogue.notes, *remarks_of(remarks, len(recordings) - len(excluded)))
    with Stage(f"writing {target}", console, "shards") as stage:
        pools = _pools(parts, len(slices), stage)
        shards.write_shards(target, pools, fingerprint=catalogue.made_from, exclusions=excluded, notes=notes)
    shutil.rmtree(parts)
    return Built(excluded, notes)


def _make_parts(read: ReadSlice, parts: Path, slices: Sequence[Sequence[Any]], workers: int, console: Console) -> None:
    """Reads the slices that are not in `parts` yet, several at a time."""
    waiting = [k for k in range(len(slices)) if not _told_of(parts, k).is_file()]
    total, left = sum(map(len, slices)), sum(len(slices[k]) for k in waiting)
    context = multiprocessing.get_context("spawn")  # forked, threads of libraries may hold locks for ever
    read_so_far = context.Value(ctypes.c_int64, total - left)
    with (
        Stage("reading recordings", console) as stage,
        concurrent.futures.ProcessPoolExecutor(
            max(1, min(workers, len(waiting))), context, initializer=_share, initargs=(read_so_far,)
        ) as pool,
    ):
        tasks = {pool.submit(_make_part, read, parts, k, slices[k]) for k in waiting}
        try:
            while tasks:
                finished, tasks = concurrent.futures.wait(tasks, _LOOK_S, concurrent.futures.FIRST_COMPLETED)
                for part in finished:
                    part.result()
                stage(read_so_far.value, total)
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
    """One slice: its records, and then, which says that it is whole, what was left out and what is to be counted."""
    excluded: list[Exclusion] = []
    remarks: list[str] = []
    before = 0

    def advance(done: int, _: int) -> None:
        nonlocal before
        with _read_so_far.get_lock():
            _read_so_far.value += done - before
        before = done

    pool = read(recordings, on_bad=excluded.append, progress=advance, on_remark=remarks.append)
    save_pool(parts / f"{k:05d}.npz", pool)
    told = {"excluded": [dataclasses.asdict(exclusion) for exclusion in excluded], "remarks": Counter(remarks)}
    write_json(_told_of(parts, k), told)


def _told_of(parts: Path, k: int) -> Path:
    return parts / f"{k:05d}.told.json"


def _pools(parts: Path, count: int, progress: Callable[[int, int], None]) -> Iterator[RecordPool]:
    for k in range(count):
        yield load_pool(parts / f"{k:05d}.npz")
        progress(k + 1, count)


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
        prog="ecg-jax build",
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
  ecg-jax build ptbxl --source data/ptbxl --data-dir data/built
  ecg-jax build mine --source my_ecgs --data-dir data/built --labels my_labels.csv
  ecg-jax report mine --source data/built/mine-100hz --out reports/mine""",
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
    p.add_argument(
        "--factor",
        type=float,
        metavar="F",
        help="what the published millivolts are to be multiplied by; without one those of code15, some two times too "
        "large, are kept as published, as of unknown amplitude",
    )
    p.add_argument("--order", type=int, default=preprocess.BUTTERWORTH_ORDER, help="of its Butterworth (%(default)s)")
    p.add_argument("--workers", type=int, default=os.cpu_count() or 1, metavar="N", help="processes (%(default)s)")
    p.add_argument("--export-data", action="store_true", help="also write NAME-100hz.npz, for bare nodes")
    add_renamed(p, {"--pack": "--export-data"})
    p.add_argument(
        "--windows",
        action="store_true",
        help="cut long recordings of any leads (MIT-BIH), from beginning to end, into windows of 10 s with a mask of "
        "leads, NAME-windows-100hz.npz: never part of 12-lead training",
    )
    return p


def build_windows(options: argparse.Namespace, output: Output, console: Console) -> None:
    """Writes a set of windows and what was left out of it, and says what became of it.

    Raises as `read_windows` does; what was left out is written then, too.
    """
    if options.unit != "mV":
        raise ValueError("windows are in mV: leave out --unit")
    if options.export_data:
        raise ValueError("a set of windows is one file already: leave out --export-data")
    target = options.data_dir / f"{options.name}-windows-{options.rate}hz.npz"
    left_out = target.with_suffix(".exclusions.csv")
    excluded: list[Exclusion] = []
    with Stage("cutting recordings into windows", console) as stage:
        try:
            windows = read_windows(options.name, options.source, output, excluded.append, stage, options.labels)
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


def _why(excluded: Sequence[Exclusion]) -> str:
    """How many were left out, by reason, and the first of them."""
    return f"{reasons(excluded)}, such as {excluded[0].record_id}: {excluded[0].reason}"


def build_recordings(options: argparse.Namespace, output: Output, console: Console) -> None:
    """Builds a set of ten-second records, with what lies beside it, and says what became of it."""
    with Stage(f"listing {options.source}", console):
        listed = list_set(options.name, options.source, output, options.labels)
    target = options.data_dir / f"{options.name}-{options.rate}hz"
    built = build_set(target, listed, workers=options.workers, console=console)
    write_exclusions(target.with_name(f"{target.name}.exclusions.csv"), built.excluded)
    if listed.beside is not dict:
        with Stage("reading annotations", console):
            tables = listed.beside()
        for name, table in tables.items():
            path = target.with_name(f"{target.name}.{name}.csv")
            write_text(path, table.to_csv(index=False, lineterminator="\n", float_format="%.6g"))
            console.print(f"{path}: {len(table):,} {name}")
    if options.export_data:
        with Stage(f"packing {target}.npz", console):
            save_pool(target.with_name(f"{target.name}.npz"), shards.open_shards(target, on_bad=lambda _: None))
    if built.was_there:
        console.print(f"{target} is there already, made from the same recordings")
    kept = len(shards.ShardSource(target))
    console.print(f"{target}: {kept:,} records; {len(built.excluded):,} recordings left out")
    if built.excluded:
        console.print(f"left out: {reasons(built.excluded)}; each is named in {target}.exclusions.csv")
    for note in built.notes:
        console.print(note)


@command
def main(arguments: Sequence[str] | None = None) -> None:
    """The command line's entry."""
    options = parser().parse_args(arguments)
    console = Console(highlight=False, soft_wrap=True)
    if not re.fullmatch(r"[a-z]\w*", options.name):
        raise ValueError(f"the name is {options.name!r}: lower-case letters, digits and _ only, a letter first")
    steps = preprocess.Steps(tuple(options.band), options.order)
    output = Output(options.rate, options.unit, steps, options.factor)
    (build_windows if options.windows else build_recordings)(options, output, console)


if __name__ == "__main__":
    raise SystemExit(main())
