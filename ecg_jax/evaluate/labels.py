"""What probes are to tell of a record: the six tasks of PTB-XL, and any table of records and labels.

A statement of PTB-XL counts where it stands in `scp_codes`, *whatever its likelihood*: 0 means that none was given, and
462 of 475 rhythm statements carry it (Wagner et al., Scientific Data 7:154, 2020; the rule of Strodthoff et al., IEEE
JBHI 25:1519, 2021). Records without a statement of a task are no negatives of it: they are left out, and counted.
"""

from __future__ import annotations

import dataclasses
import enum
import hashlib
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np

from ecg_jax.data.ecg import RecordPool
from ecg_jax.data.real.datasets.ptbxl import raw_folder
from ecg_jax.data.real.datasets.ptbxl_tables import (
    DATABASE,
    STATEMENTS,
    Z100_DATABASE,
    record_name,
    scp_codes,
    z100_classes,
)
from ecg_jax.data.real.formats.tables import identity, listed_labels, read_label_table, read_table

#: A class is scored where the scored records hold so many with it and so many without, and training so many with it;
#: a task with fewer scored classes than the last has no macro figure.
FEWEST_SCORED, FEWEST_IN_TRAINING, FEWEST_CLASSES = 15, 30, 3


class Task(enum.StrEnum):
    """A task of PTB-XL."""

    ALL = "all"
    DIAGNOSTIC = "diagnostic"
    SUBDIAGNOSTIC = "subdiagnostic"
    SUPERDIAGNOSTIC = "superdiagnostic"
    FORM = "form"
    RHYTHM = "rhythm"


#: Columns of the z-scored sample that hold a task's classes; it has no diagnostic statements as such.
_OF_Z100 = {
    Task.SUPERDIAGNOSTIC: "super_class",
    Task.SUBDIAGNOSTIC: "sub_class",
    Task.FORM: "form",
    Task.RHYTHM: "rhythm",
}


@dataclasses.dataclass(frozen=True)
class Labels:
    """The classes of a task and which of them each labelled record has; `without` counts records that have none."""

    task: str
    classes: tuple[str, ...]
    record_id_N: np.ndarray  # sorted
    positive_NxC: np.ndarray  # bool
    without: int = 0

    @property
    def fingerprint(self) -> str:
        """Sixteen hex digits over task, classes, records and labels."""
        digest = hashlib.sha256("\0".join([self.task, *self.classes, *self.record_id_N.tolist()]).encode())
        digest.update(np.packbits(self.positive_NxC).tobytes())
        return digest.hexdigest()[:16]


@dataclasses.dataclass(frozen=True)
class Rows:
    """The labelled records of a pool: their rows, what each has, and how many records of the pool have no label."""

    row_N: np.ndarray
    positive_NxC: np.ndarray
    unlabelled: int


@dataclasses.dataclass(frozen=True)
class Scored:
    """The classes that a split can score, by name, and why each other one is left out."""

    classes: tuple[str, ...]
    left_out: Mapping[str, str]

    @property
    def has_macro(self) -> bool:
        """Whether enough classes are scored for a mean over them."""
        return len(self.classes) >= FEWEST_CLASSES


def read_ptbxl_labels(data_dir: Path, task: Task) -> Labels:
    """The labels of all PTB-XL records in `data_dir` (`ptbxl/`, and `ptbxl_z100/` where it is there and has the task).

    A record that stands in both is labelled by the raw table. Raises FileNotFoundError or ValueError for a table that
    is not as published.
    """
    folder = raw_folder(data_dir)
    classes_of = read_classes(folder / STATEMENTS, task)
    found: dict[str, frozenset[str]] = {}
    if task in _OF_Z100 and (data_dir / "ptbxl_z100" / Z100_DATABASE).is_file():
        column = _OF_Z100[task]
        for where, row in read_table(data_dir / "ptbxl_z100" / Z100_DATABASE, ("ecg_id", column)):
            found[record_name(row, where)] = frozenset(z100_classes(row[column]))
    for where, row in read_table(folder / DATABASE, ("ecg_id", "scp_codes")):
        codes = scp_codes(row["scp_codes"], classes_of, where)
        found[record_name(row, where)] = frozenset(name for code in codes for name in classes_of[code])
    return gather(f"ptbxl {task}", found)


def read_labels(path: Path, prefix: str = "") -> Labels:
    """The labels of a user's table of records and labels; several rows of a record add up. `prefix` is put before each
    name of a record, as a set's name ("mine/").

    Raises FileNotFoundError, and ValueError for a table without such columns, or without a label.
    """
    table = read_label_table(path)
    if "labels" not in table.names:
        raise ValueError(f"{path}: there is no column 'label'; found {[*table.names.values(), *table.others]}")
    found: dict[str, frozenset[str]] = {}
    for _, row in table.rows:
        name = prefix + identity(row["record"])
        found[name] = found.get(name, frozenset()) | frozenset(listed_labels(row["labels"]))
    return gather(path.stem, found)


def gather(task: str, classes_of: Mapping[str, Collection[str]]) -> Labels:
    """Labels from the classes of each record. Raises ValueError where no record has any."""
    labelled = sorted(name for name, has in classes_of.items() if has)
    if not labelled:
        raise ValueError(f"{task}: none of {len(classes_of)} records has a label")
    classes = sorted({name for record in labelled for name in classes_of[record]})
    positive = np.array([[name in classes_of[record] for name in classes] for record in labelled])
    return Labels(task, tuple(classes), np.array(labelled), positive, len(classes_of) - len(labelled))


def find_rows(labels: Labels, pool: RecordPool) -> Rows:
    """The records of a pool that have labels, in the pool's order. Raises ValueError when none has."""
    at = np.searchsorted(labels.record_id_N, pool.record_id)
    known = labels.record_id_N[np.minimum(at, len(labels.record_id_N) - 1)] == pool.record_id
    row_N = np.flatnonzero(known)
    if not len(row_N):
        raise ValueError(
            f"none of the {len(pool)} records has a label of {labels.task!r}: records are named like "
            f"{pool.record_id[0]!r}, labels like {labels.record_id_N[0]!r}"
        )
    return Rows(row_N, labels.positive_NxC[at[row_N]], int(len(pool) - len(row_N)))


def choose_classes(classes: Sequence[str], training_NxC: np.ndarray, scored_MxC: np.ndarray) -> Scored:
    """Which classes can be scored, from the labels of the training records and of the scored ones."""
    left_out = {}
    for name, training, scored in zip(classes, training_NxC.T, scored_MxC.T, strict=True):
        positives, negatives = int(scored.sum()), int((~scored).sum())
        if min(positives, negatives) < FEWEST_SCORED:
            left_out[name] = f"{positives} positive and {negatives} negative records scored, {FEWEST_SCORED} wanted"
        elif training.sum() < FEWEST_IN_TRAINING:
            left_out[name] = f"{int(training.sum())} positive records in training, {FEWEST_IN_TRAINING} wanted"
    return Scored(tuple(name for name in classes if name not in left_out), left_out)


def read_classes(path: Path, task: Task) -> dict[str, tuple[str, ...]]:
    """The classes of a task that each SCP code stands for, from PTB-XL's table of statements; none where a code is no
    statement of the task. Raises as `read_ptbxl_labels` does."""
    columns = ("", "diagnostic", "form", "rhythm", "diagnostic_class", "diagnostic_subclass")
    return {row[""]: tuple(_classes(row, task)) for _, row in read_table(path, columns)}


def _classes(row: Mapping[str, str], task: Task) -> Iterable[str]:
    match task:
        case Task.ALL:
            return [row[""]]
        case Task.SUBDIAGNOSTIC:
            return filter(None, [row["diagnostic_subclass"]])
        case Task.SUPERDIAGNOSTIC:
            return filter(None, [row["diagnostic_class"]])
        case Task.DIAGNOSTIC | Task.FORM | Task.RHYTHM:
            return [row[""]] if row[task] else []
