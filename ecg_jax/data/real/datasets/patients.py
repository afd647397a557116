"""Whose each recording is, and which fold it belongs to: by a table of labels, or else a patient of its own.

A patient who is not known is never shared: each such recording is a patient of its own, and counted.
"""

from __future__ import annotations

import dataclasses
import unicodedata
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path, PurePosixPath
from types import MappingProxyType

from ecg_jax.data.real.datasets.catalogue import fold_of, numbered
from ecg_jax.data.real.formats.segments import root
from ecg_jax.data.real.formats.tables import Table, identity, listed_labels, plain, read_label_table

#: Endings of files by which tables name recordings.
_ENDINGS = (".hea", ".dat", ".mat", ".edf", ".xml", ".dcm", ".scp", ".csv")
_OWN = "each is a patient of its own"


@dataclasses.dataclass(frozen=True, slots=True)
class Row:
    """What a table says of a recording: "" for a patient who is not known, None for a fold or labels not given."""

    patient: str = ""
    fold: int | None = None
    labels: tuple[str, ...] | None = None


@dataclasses.dataclass(frozen=True, slots=True)
class Person:
    """The patient of a recording by number, and the fold that all recordings of that patient are in."""

    patient_id: int
    fold: int


def persons(rows: Mapping[str, Row], same: Mapping[str, str] = MappingProxyType({})) -> dict[str, Person]:
    """The person of each recording; of recordings that are the `same` person's, a patient of one is that of all.

    A fold that is not given is that of the patient's other recordings, or one of ten by the patient's hash, so that it
    never changes with what else is in a set.
    """
    named = {root(same, record): row.patient for record, row in rows.items() if row.patient}
    key = {}
    for record, row in rows.items():
        patient = row.patient or named.get(root(same, record), "")
        key[record] = (patient != "", patient or root(same, record))
    number_of = numbered(key.values())
    given = {key[record]: row.fold for record, row in rows.items() if row.fold is not None}
    return {
        record: Person(number_of[of], given.get(of, fold_of(of[1])) if (fold := rows[record].fold) is None else fold)
        for record, of in key.items()
    }


def without_patient(where: str, rows: Mapping[str, Row]) -> tuple[str, ...]:
    """A sentence that counts the recordings whose patient `where` does not tell, if there are any."""
    lacking = [record for record, row in rows.items() if not row.patient]
    if not lacking:
        return ()
    return (f"{where}: no patient for {_of(lacking, len(rows), 'recordings')}: {_OWN}",)


def read_rows(
    table: Path, records: Sequence[str], part_of: Mapping[str, str]
) -> tuple[dict[str, Row], tuple[str, ...]]:
    """What a table of labels says of each of `records`, and sentences that tell what of it was not used or is missing.

    A row that names a part of a recording (`part_of`) is about the recording. Raises FileNotFoundError and ValueError
    as `read_label_table` does, and ValueError where no row names a recording, or two rows of one contradict each other.
    """
    read = read_label_table(table)
    name_of = _Names(records, part_of)
    found: dict[str, tuple[str, Row]] = {}
    repeated, strange = 0, []
    for where, cells in read.rows:
        row, record = _row(cells, where), name_of(cells["record"])
        if record is None:
            strange.append(cells["record"].strip())
            continue
        first, before = found.setdefault(record, (where, row))
        if before != row:
            raise ValueError(
                f"{where}: record {record!r} is there twice, and {_difference(before, row)}, unlike in "
                f"{first.rpartition(', ')[2]}: leave one row for each recording"
            )
        repeated += first != where
    if not found:
        raise ValueError(
            f"{table}: {len(strange)} of {len(read.rows)} records have no .hea or .edf file, such as {strange[0]!r}; "
            f"the column {read.names['record']!r} holds paths without suffix, as {records[0]!r}"
        )
    rows = {record: found[record][1] if record in found else Row() for record in records}
    bare = [record for record in records if record not in found]
    return rows, (*_of_columns(read), *_of_rows(read, rows, bare, strange, repeated))


class _Names:
    """Finds the recording that a table means: its path, with or without the ending of a file, from any folder above or
    below the set's, where only one fits, if need be in another case and with accents as macOS writes them; numbers
    with or without zeros in front ("1" may be "00001")."""

    def __init__(self, records: Iterable[str], part_of: Mapping[str, str]) -> None:
        self._paths: dict[str, str] = {record: record for record in records} | dict(part_of)
        self._by_name: dict[str, list[str]] = {}
        for path in self._paths:
            self._by_name.setdefault(_number(PurePosixPath(_folded(path)).name), []).append(path)

    def __call__(self, said: str) -> str | None:
        for name in _spellings(said):
            if name in self._paths:
                return self._paths[name]
            if ".." in PurePosixPath(name).parts:
                continue
            alike = self._by_name.get(_number(PurePosixPath(_folded(name)).name), ())
            for written in (str, _folded):
                fitting = {self._paths[path] for path in alike if _end_alike(written(name), written(path))}
                if len(fitting) == 1:
                    return fitting.pop()
        return None


def _folded(path: str) -> str:
    return unicodedata.normalize("NFC", path).lower()


def _end_alike(one: str, other: str) -> bool:
    """Whether two paths are the same, as far as both tell folders."""
    (*folders, name), (*others, last) = PurePosixPath(one).parts, PurePosixPath(other).parts
    return _number(name) == _number(last) and all(a == b for a, b in zip(reversed(folders), reversed(others)))


def _spellings(said: str) -> Iterator[str]:
    """How a recording may be written where a table says `said`: as it is, and without the ending of a file."""
    path = said.strip().strip("'\"").replace("\\", "/").removeprefix("./")
    yield path
    yield identity(path)
    if path.lower().endswith(_ENDINGS):
        yield path.rpartition(".")[0]


def _number(name: str) -> str:
    return name.lstrip("0") or "0" if name.isdigit() else name


def _row(cells: Mapping[str, str], where: str) -> Row:
    fold = identity(cells.get("fold", ""))
    if fold and not (fold.isascii() and fold.isdigit()):
        raise ValueError(f"{where}: fold of {cells['record']} is {cells['fold']!r}, expected a whole number")
    labels = listed_labels(cells["labels"]) if "labels" in cells else None
    return Row(identity(cells.get("patient", "")), int(fold) if fold else None, labels)


def _difference(before: Row, row: Row) -> str:
    for field in ("patient", "fold", "labels"):
        if getattr(before, field) != getattr(row, field):
            return f"its {field} {'are' if field == 'labels' else 'is'} {getattr(row, field)!r}"
    raise AssertionError


def _of_columns(table: Table) -> tuple[str, ...]:
    """What a reader must know of how the columns were understood."""
    name, notes = table.path.name, []
    renamed = [f"{own!r} as {meaning}" for meaning, own in table.names.items() if plain(own) != meaning]
    if renamed:
        notes.append(f"{name}: read {', '.join(renamed)}")
    if table.others:
        notes.append(f"{name}: columns not understood, and not read: {', '.join(map(repr, table.others))}")
    return tuple(notes)


def _of_rows(
    table: Table, rows: Mapping[str, Row], bare: Sequence[str], strange: Sequence[str], repeated: int
) -> tuple[str, ...]:
    """What a reader must know of how the rows fit the recordings."""
    name, notes = table.path.name, []
    known = rows.keys() - bare
    said = {record: row for record, row in rows.items() if record in known}
    lacking = [record for record, row in said.items() if row.fold is None] if "fold" in table.names else []
    if repeated:
        notes.append(f"{name}: {repeated:,} rows say again what another row says")
    if strange:
        notes.append(f"{name}: no recording is here for {_of(strange, len(table.rows), 'rows')}")
    if bare:
        notes.append(f"{name}: no row for {_of(bare, len(rows), 'recordings')}: {_OWN}")
    if "patient" in table.names:
        notes += without_patient(name, said)
    else:
        notes.append(f"{name}: no column of patients: {_OWN}")
    if lacking:
        notes.append(f"{name}: no fold for {_of(lacking, len(said), 'recordings')}: that of the patient, or by hash")
    return tuple(notes)


def _of(some: Sequence[str], count: int, what: str) -> str:
    return f"{len(some):,} of {count:,} {what} (such as {some[0]!r})"
