"""What a finished run must have in its folder, and the reading of it: a run of which anything is missing, cut or of
another shape is an error that names the file, never a shorter table.

A record keeps checksums: of itself, and of the tables and the log that were written before it. Records of earlier
versions have none; their tables are held to what the record says.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from ecg_jax.codec import fingerprint
from ecg_jax.config import RunConfig
from ecg_jax.files.whole_file import checksum, damaged, read_csv, read_json, read_text, write_json
from ecg_jax.store.curve import COLUMNS, CURVE, curve_fault, curve_until
from ecg_jax.store.metrics_log import LOG, lacks, read_metrics

RECORD, CONFIG, PATIENTS, SOURCES = "record.json", "config.json", "patients.csv", "sources.csv"
_PATIENTS = {"run_id": str, "patient_id": int, "mask": int, "loss": float}
_SOURCES = {"run_id": str, "source": str, "records": int, "patients": int, "seen": int, "epochs": float}
#: What readers of records count on, with its types.
_FIELDS = {
    "run_id": (str,),
    "trunk_id": (str,),
    "response": (str,),
    "n_params": (int,),
    "loss": (float, int, type(None)),
    "diverged": (bool,),
    "message": (str,),
    "pack_size": (int,),
    "flops_per_second": (float, int, type(None)),
}
#: A mean of the losses in a table and the loss in its record are one number, but for the order of the sum.
SAME = 1e-9


@dataclasses.dataclass(frozen=True)
class Finished:
    """A run that is done: its folder, its record, and the checksums of its files, by name."""

    folder: Path
    record: dict[str, Any]
    checksums: dict[str, str]


def write_record(folder: Path, record: dict[str, Any], *, curve: str) -> None:
    """Writes the record of a run, last, with checksums of what its folder holds, and of its trunk's `curve` up to where
    it left."""
    names = [name for name in (PATIENTS, SOURCES, LOG) if (folder / name).exists()]
    checksums = {name: checksum(read_text(folder / name)) for name in names} | {RECORD: fingerprint(record)}
    checksums[CURVE] = checksum(curve)
    write_json(folder / RECORD, record | {"checksums": checksums})


def read_record(folder: Path) -> Finished:
    """The record in the folder of a finished run. Raises FileNotFoundError where it is not done, and ValueError where
    the record was damaged, or is of another run than the folder."""
    path, remedy = folder / RECORD, again(folder)
    record = read_json(path, remedy=remedy)
    has_checksums, checksums = "checksums" in record, record.pop("checksums", {})
    if has_checksums and (type(checksums) is not dict or checksums.get(RECORD) != fingerprint(record)):
        raise damaged(path, "is not what was written: its checksum is another", remedy=remedy)
    for name, kinds in _FIELDS.items():
        value = record.get(name, "nothing")
        if type(value) not in kinds or name not in record:
            raise damaged(path, f"says {name} = {value!r}", remedy=remedy)
    if record["run_id"] != folder.name:
        raise damaged(path, f"is of run {record['run_id']}", remedy=remedy)
    if (record["loss"] is None) != record["diverged"]:
        raise damaged(path, f"says loss = {record['loss']}, diverged = {record['diverged']}", remedy=remedy)
    return Finished(folder, record, checksums)


def read_config(folder: Path) -> RunConfig:
    """The config in the folder of a run, whose name is its identity. Raises ValueError where it is of another."""
    path, remedy = folder / CONFIG, again(folder)
    tree = read_json(path, remedy=remedy)
    try:
        config = RunConfig.from_json(tree)
    except ValueError as error:
        raise damaged(path, f"is no config ({error})", remedy=remedy) from error
    if config.run_id != folder.name:
        raise damaged(path, f"is of run {config.run_id}", remedy=remedy)
    return config


def check_alike(runs: Sequence[Finished]) -> None:
    """Raises ValueError, naming the record, where a field holds text in one run and a number in others: a record of an
    earlier version has no checksum."""
    texts: dict[str, list[Finished]] = {}
    for run in runs:
        for name in (name for name, value in run.record.items() if type(value) is str):
            texts.setdefault(name, []).append(run)
    for name, having in texts.items():
        others = [run for run in runs if type(run.record.get(name, "")) in (int, float, bool)]
        if others:
            few, many = sorted((having, others), key=len)
            what = f"says {name} = {few[0].record[name]!r}, unlike {many[0].folder / RECORD}"
            raise damaged(few[0].folder / RECORD, what, remedy=again(few[0].folder))


def read_patients(runs: Sequence[Finished]) -> pd.DataFrame:
    """The losses of all patients of finished runs, one below the other: columns run_id, patient_id, mask, loss; the
    index numbers the run. Raises OSError or ValueError, naming the file, unless every run has one row per patient and
    mask, the same for all runs of a response, whose mean is the loss in its record."""
    frame = _read(runs, PATIENTS, _PATIENTS)
    parts = _parts(frame, len(runs))
    ids, masks, losses = (frame[name].to_numpy() for name in ("patient_id", "mask", "loss"))
    grids: dict[str, tuple[Path, np.ndarray]] = {}
    for run, part in zip(runs, parts, strict=True):
        path, grid, loss = run.folder / PATIENTS, np.stack([masks[part], ids[part]]), run.record["loss"]
        first, expected = grids.setdefault(run.record["response"], (path, grid))
        fault = ""
        if path == first or not np.array_equal(grid, expected):
            fault = _grid_fault(grid) or (f"has not the rows of {first}, of the same response" if path != first else "")
        if not fault and loss is not None and not math.isclose(losses[part].mean(), loss, rel_tol=SAME, abs_tol=SAME):
            fault = f"has the mean loss {losses[part].mean():.9g}, its record {loss:.9g}"
        if fault:
            raise damaged(path, fault, remedy=again(run.folder))
    return frame


def read_sources(runs: Sequence[Finished]) -> pd.DataFrame | None:
    """What each real source gave the runs, as `read_patients`; None where none of them has it.

    Runs of earlier versions had no such table: those are left out, and only those.
    """
    having = [run for run in runs if SOURCES in run.checksums or (run.folder / SOURCES).exists()]
    if not having:
        return None
    frame = _read(having, SOURCES, _SOURCES)
    wrong = (frame["records"] < 1) | ~np.isclose(frame["epochs"] * frame["records"], frame["seen"], rtol=SAME)
    empty = np.setdiff1d(np.arange(len(having)), frame.index)
    twice = frame.index[frame.duplicated(["run_id", "source"])]
    for k in (*frame.index[wrong], *empty, *twice):
        what = "has no row" if k in empty else "has epochs that are not seen / records"
        what = "has two rows of one source" if k in twice else what
        raise damaged(having[k].folder / SOURCES, what, remedy=again(having[k].folder))
    return frame


def read_curves(trunks: Mapping[Path, Sequence[tuple[RunConfig, Finished]]]) -> pd.DataFrame:
    """The curves of the trunks in these folders, each with the runs of it that are done: columns trunk_id,
    records_seen, loss. Raises OSError or ValueError, naming the file, unless a curve reaches to where the last of its
    runs that did not diverge left it."""
    paths = [folder / CURVE for folder in trunks]
    # Of the runs that did not diverge, the one that left last.
    lasts = [
        max((c for c, run in runs if not run.record["diverged"]), key=lambda c: c.branch_step, default=None)
        for runs in trunks.values()
    ]
    remedies = {
        path: again(max(runs, key=lambda pair: pair[0].branch_step)[1].folder)
        for path, runs in zip(paths, trunks.values(), strict=True)
    }
    frame = read_csv(paths, COLUMNS, remedy=remedies.__getitem__)
    expected = np.array([runs[0][0].trunk_id for runs in trunks.values()])[frame.index]
    for k in frame.index[frame["trunk_id"].to_numpy() != expected]:
        raise damaged(paths[k], "has rows of another trunk", remedy=remedies[paths[k]])
    seen, losses = frame["records_seen"].tolist(), frame["loss"].tolist()
    for path, last, part in zip(paths, lasts, _parts(frame, len(paths)), strict=True):
        if last is not None and (fault := curve_fault(seen[part], losses[part], last)):
            raise damaged(path, fault, remedy=remedies[path])
    return frame


def check_curves(trunks: Mapping[Path, Sequence[tuple[RunConfig, Finished]]]) -> None:
    """Raises OSError or ValueError, naming the file, where the curve of a trunk is not what the last of all its runs
    that are done left there. Of several that left it at one step, on several machines, one must know it; records of
    earlier versions know none."""
    for folder, runs in trunks.items():
        whole = [(config.branch_step, run) for config, run in runs if not run.record["diverged"]]
        last = max((step for step, _ in whole), default=0)
        lasts = [run for step, run in whole if step == last]
        if not lasts or not all(CURVE in run.checksums for run in lasts):
            continue
        text = curve_until(read_text(folder / CURVE), last)
        if checksum(text) not in {run.checksums[CURVE] for run in lasts}:
            what = "is not what it was when its last run was recorded"
            raise damaged(folder / CURVE, what, remedy=again(lasts[0].folder))


def read_log(run: Finished, config: RunConfig) -> list[dict[str, Any]]:
    """The log of the cool-down of a finished run. Raises ValueError, naming it, unless it holds every step."""
    path = run.folder / LOG
    lines = read_metrics(path)
    fault = lacks(lines, range(config.branch_step, config.budget_steps), diverged=run.record["diverged"])
    if not fault and LOG in run.checksums and checksum(read_text(path)) != run.checksums[LOG]:
        fault = "is not what it was when its run was recorded"
    if fault:
        raise damaged(path, fault, remedy=again(run.folder))
    return lines


def again(folder: Path) -> str:
    """What helps where a file of a run is damaged."""
    return f"copy it again from where it came, or delete {folder}: the next start does that run again"


def _read(runs: Sequence[Finished], name: str, columns: dict[str, type]) -> pd.DataFrame:
    """One table of all runs, whose `run_id` is theirs."""
    checksums = [run.checksums.get(name) for run in runs]
    paths = [run.folder / name for run in runs]
    frame = read_csv(paths, columns, checksums=checksums, remedy=lambda path: again(path.parent))
    expected = np.array([run.record["run_id"] for run in runs])[frame.index]
    wrong = np.flatnonzero(frame["run_id"].to_numpy() != expected)
    if len(wrong):
        path = paths[frame.index[wrong[0]]]
        raise damaged(path, f"has rows of run {frame['run_id'].iloc[wrong[0]]}", remedy=again(path.parent))
    return frame


def _parts(frame: pd.DataFrame, files: int) -> list[slice]:
    """The rows of every file of a table that `read_csv` read."""
    ends = np.searchsorted(frame.index, np.arange(files), side="right")
    return [slice(start, end) for start, end in zip([0, *ends], ends)]


def _grid_fault(grid: np.ndarray) -> str:
    """What is wrong with the masks and patients `(2, rows)` of a table, "" if it is every patient under every mask."""
    masks, ids = (len(np.unique(values)) for values in grid)
    if not grid.size or masks * ids != grid.shape[1] or len(np.unique(grid, axis=1).T) != grid.shape[1]:
        return f"has {grid.shape[1]} rows, where {ids} patients under {masks} masks are due"
    return ""
