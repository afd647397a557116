"""Where runs live on disk, and the tables that are made of them.

    STORE/<study>/study.json                     the runs that the study asked for, and its settings
    STORE/<study>/packs/<pack_id>/               pack.json owner.json checkpoints/: trunks that train together
                                                 (checkpoints may lie elsewhere, such as in a bucket)
    STORE/<study>/trunks/<trunk_id>/             config.json metrics.jsonl curve.csv segments.jsonl
    STORE/<study>/runs/<run_id>/                 config.json metrics.jsonl patients.csv sources.csv record.json
    STORE/<study>/runs/<run_id>/encoder/         of the runs whose weights the study keeps; see `encoder`

`record.json` is written last, atomically: a run that has one is done.
"""

from __future__ import annotations

import dataclasses
import json
import os
import secrets
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
from etils import epath

from ecg_jax.codec import differences
from ecg_jax.config import RunConfig

#: Columns that tell of the machine and not of the result: equal runs may differ in them.
MACHINE_COLUMNS = (
    "seconds",
    "segments",
    "pack_size",
    "placement",
    "records_per_second",
    "flops_per_second",
    "utilisation",
    "input_wait",
    "saving_seconds",
    "memory_mib",
)
#: What the layout above is called in `study.json`.
FORMAT = 3
#: Columns to be read as text.
IDENTITIES = {"run_id": str, "trunk_id": str}


@dataclasses.dataclass(frozen=True)
class Store:
    """The folder of one study. `checkpoint_root` is another place for its checkpoints: a folder, or `gs://…`."""

    root: Path
    study: str
    checkpoint_root: str | None = None

    @property
    def path(self) -> Path:
        """`root/study`."""
        return self.root / self.study

    @property
    def packs(self) -> Path:
        """The folder of all packs."""
        return self.path / "packs"

    def pack(self, pack_id: str) -> Path:
        """The folder of a pack."""
        return self.packs / pack_id

    def checkpoints(self, pack_id: str) -> epath.Path:
        """The folder of a pack's checkpoints."""
        if self.checkpoint_root is None:
            return epath.Path(self.pack(pack_id) / "checkpoints")
        return epath.Path(self.checkpoint_root) / self.study / pack_id

    def trunk(self, config: RunConfig) -> Path:
        """The folder of the run's trunk."""
        return self.path / "trunks" / config.trunk_id

    def run(self, config: RunConfig) -> Path:
        """The folder of the run."""
        return self.path / "runs" / config.run_id

    def encoder(self, config: RunConfig) -> Path:
        """The folder of the run's encoder, where the study keeps it."""
        return self.run(config) / "encoder"

    def is_done(self, config: RunConfig) -> bool:
        """Whether the run has its record."""
        return (self.run(config) / "record.json").exists()

    def record(self, config: RunConfig) -> dict[str, Any]:
        """The record of a finished run."""
        return read_json(self.run(config) / "record.json")

    def targets(self) -> list[RunConfig]:
        """The runs that the study asked for."""
        return [RunConfig.from_json(tree) for tree in read_json(self.path / "study.json")["targets"]]


@dataclasses.dataclass(frozen=True)
class Run:
    """A finished run as tables: its config, its record, the loss of every patient under every mask, what was logged of
    its cool-down, and its trunk's curve and log (None where the store does not hold the trunk)."""

    config: RunConfig
    record: dict[str, Any]
    patients: pd.DataFrame
    metrics: pd.DataFrame
    trunk_metrics: pd.DataFrame | None
    curve: pd.DataFrame | None


def load_run(folder: Path) -> Run:
    """The run in `STORE/<study>/runs/<run_id>`. Raises FileNotFoundError when no finished run is there."""
    if not (folder / "record.json").is_file():
        raise FileNotFoundError(f"{folder} holds no finished run: it has no record.json")
    config = RunConfig.from_json(read_json(folder / "config.json"))
    trunk = Store(folder.parents[2], folder.parents[1].name).trunk(config)
    curve, log = trunk / "curve.csv", trunk / "metrics.jsonl"
    return Run(
        config=config,
        record=read_json(folder / "record.json"),
        patients=pd.read_csv(folder / "patients.csv", dtype=IDENTITIES),
        metrics=pd.DataFrame(read_metrics(folder / "metrics.jsonl")),
        trunk_metrics=pd.DataFrame(read_metrics(log)) if log.exists() else None,
        curve=pd.read_csv(curve, dtype=IDENTITIES) if curve.exists() else None,
    )


def check_folder(path: Path) -> None:
    """Raises OSError when `path` cannot be made or written to; makes nothing."""
    standing = next(parent for parent in (path, *path.absolute().parents) if parent.exists())
    if not standing.is_dir() or not os.access(standing, os.W_OK):
        reason = "is not writable" if standing.is_dir() else "is not a folder"
        raise OSError(f"cannot write to {path}: {standing} {reason}; choose another output folder")


def check_checkpoints(root: str) -> None:
    """Raises OSError when nothing can be written to where checkpoints are to lie: a folder, or `gs://…`, where only
    writing shows what is permitted."""
    if "://" not in root:
        check_folder(Path(root))
        return
    probe = epath.Path(root) / f".probe-{os.getpid()}-{secrets.token_hex(4)}"
    try:
        probe.write_text("can checkpoints be written here?")
        probe.unlink()
    except Exception as error:  # every backend of a bucket has kinds of its own
        told = str(error).partition("\n")[0][:300]  # some say nothing
        raise OSError(
            f"cannot write checkpoints to {root}: {type(error).__name__}: {told}; does the "
            "bucket exist, and may this machine's account create and delete objects in it?"
        ) from error


def check_settings(store: Store, settings: dict[str, Any]) -> None:
    """Raises ValueError when the study was made with other values of these settings, naming each difference."""
    path = store.path / "study.json"
    if not path.exists():
        return
    ours, theirs = json.loads(json.dumps(settings)), read_study(path)["settings"]
    changed = differences(ours, {key: value for key, value in theirs.items() if key in ours})
    if changed:
        raise ValueError(
            f"{path} was made with other settings ({'; '.join(changed)}): choose another output folder, "
            "or the settings it was made with"
        )


def open_store(root: Path, study: str, targets: Sequence[RunConfig], settings: dict[str, Any]) -> Store:
    """Makes the study's folder, or finds it again.

    `settings` says what the study is, in JSON values; `settings["target"]`, where given, is the name of the recordings
    that losses are measured on, and becomes a column of every exported table. Raises ValueError, naming each
    difference, when the folder was made with other settings, and OSError when it cannot be written.
    """
    check_folder(root)
    store = Store(root, study)
    check_settings(store, settings)
    tree = {"format": FORMAT, "settings": settings, "targets": [target.stored() for target in targets]}
    write_json(store.path / "study.json", tree)
    return store


def export(store: Store, directory: Path) -> dict[str, Path]:
    """Writes `runs.csv` (a row per finished run), `patients.csv`, `sources.csv` (what each real source gave a run) and
    `curve.csv` of a study, in a fixed order.

    Raises FileNotFoundError when no run is done yet.
    """
    done = [target for target in store.targets() if store.is_done(target)]
    if not done:
        raise FileNotFoundError(f"no run of {store.path} is done yet: nothing to export")
    runs = pd.DataFrame([store.record(config) for config in done])
    keys = [key for key in ("n_params", "real_fraction", "seed", "records_seen", "run_id") if key in runs]
    runs = runs.sort_values(keys, kind="stable")
    patients = _stack(store.run(config) / "patients.csv" for config in done)
    curves = _stack(store.trunk(c) / "curve.csv" for c in {c.trunk_id: c for c in done}.values())
    tables = {"runs": runs, "patients": patients, "curve": curves.sort_values(["trunk_id", "records_seen"])}
    given = [store.run(config) / "sources.csv" for config in done]
    if all(path.exists() for path in given):  # runs of earlier versions have none
        tables["sources"] = _stack(given)
    target = read_json(store.path / "study.json")["settings"].get("target")
    if target:
        tables = {name: table.assign(target=target) for name, table in tables.items()}
    directory.mkdir(parents=True, exist_ok=True)
    for name, table in tables.items():
        write_text(directory / f"{name}.csv", table.to_csv(index=False, lineterminator="\n"))
    return {name: directory / f"{name}.csv" for name in tables}


def read_study(path: Path) -> dict[str, Any]:
    """Reads a `study.json`. Raises ValueError when it is of another layout, with the remedy."""
    tree = read_json(path)
    found = tree.get("format", 1)
    if found != FORMAT:
        older = "export it with the version that wrote it and choose another output folder"
        remedy = older if found < FORMAT else "upgrade"
        raise ValueError(f"{path} has format {found}, this ecg-jax reads {FORMAT}: {remedy}")
    return tree


def read_json(path: Path) -> Any:
    """Reads a JSON file; a ValueError names the file when it is not JSON."""
    try:
        return json.loads(path.read_text())
    except json.JSONDecodeError as error:
        raise ValueError(f"{path} is not JSON ({error}): it was damaged outside this program; delete it") from error


def write_json(path: Path, tree: Any) -> None:
    """Writes a JSON file atomically; raises ValueError on NaN or infinity."""
    write_text(path, json.dumps(tree, indent=1, allow_nan=False) + "\n")


def write_text(path: Path, text: str) -> None:
    """Writes a file atomically: readers see the old content or the new, never a part."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with temporary.open("w") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)  # there only where the disk is full, or the write was broken off


class MetricsLog:
    """A JSONL file of metrics by step.

    What it holds already stays, and is not logged again when a part of a run is done once more. With `writes` False,
    for a process that follows another, it changes nothing.
    """

    def __init__(self, path: Path, *, writes: bool = True):
        lines = read_metrics(path)
        if writes:
            write_text(path, "".join(json.dumps(line) + "\n" for line in lines))  # without a line that a kill cut short
        self._path, self._pending, self._writes = path, [], writes
        self._held = {_names(line) for line in lines}

    def add(self, step: int, values: dict[str, float]) -> None:
        """Adds a line; it reaches the disk with the next `flush`, or after 50 lines."""
        line = {"step": step} | values
        if not self._writes or _names(line) in self._held:
            return
        self._held.add(_names(line))
        self._pending.append(json.dumps(line))
        if len(self._pending) >= 50:
            self.flush()

    def flush(self) -> None:
        """Writes all lines to disk."""
        if not self._pending:
            return
        with self._path.open("a") as file:
            file.writelines(line + "\n" for line in self._pending)
        self._pending = []


def read_metrics(path: Path) -> list[dict[str, Any]]:
    """The whole lines of a metrics file; a last line cut short by a kill is left out."""
    lines = path.read_text().splitlines(keepends=True) if path.exists() else []
    return [json.loads(line) for line in lines if line.endswith("\n")]


def _names(line: dict[str, Any]) -> tuple[int, str]:
    """A line's step and the first of its metrics, which tell it from any other."""
    return line["step"], next(name for name in line if name != "step")


def _stack(paths: Iterable[Path]) -> pd.DataFrame:
    # Identities are hex digits, some of which read as numbers.
    frames = [pd.read_csv(path, dtype=IDENTITIES) for path in paths if path.exists()]
    return pd.concat(frames, ignore_index=True)
