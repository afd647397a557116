"""The tables that sets are published with: CSV files whose rows name recordings."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath


def read_table(path: Path, columns: Sequence[str]) -> Iterator[tuple[str, dict[str, str]]]:
    """The rows of a CSV file, one after the other: the words that name a row in an error, and its `columns` alone; what
    is absent is "".

    Raises FileNotFoundError, and ValueError when it is no text, columns are missing, or there is no row.
    """
    if not path.is_file():
        raise FileNotFoundError(f"{path} does not exist: the folder is not a whole copy of what was published")
    return _rows(path, columns)


def _rows(path: Path, columns: Sequence[str]) -> Iterator[tuple[str, dict[str, str]]]:
    row = None
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file)
            names = reader.fieldnames or ()
            absent = [name for name in columns if name not in names]
            if absent:
                raise ValueError(f"{path}: columns {absent} are missing; found {list(names)}")
            for row in reader:
                yield f"{path}, line {reader.line_num}", {name: row[name] or "" for name in columns}
    except (UnicodeDecodeError, csv.Error) as error:
        raise ValueError(f"{path} is no table of comma-separated text ({error}): fetch it again") from error
    if row is None:
        raise ValueError(f"{path}: the table has no rows")


def plain_path(value: str, where: str) -> PurePosixPath:
    """A path inside a set's folder, as a table gives it. Raises ValueError for one that leaves it."""
    path = PurePosixPath(value)
    if not value or path.is_absolute() or ".." in path.parts or "\\" in value or ":" in value:
        raise ValueError(f"{where} is {value!r:.200}, expected a relative path inside the set's folder")
    return path


def plain_name(value: str, where: str) -> str:
    """The name of a file beside a table. Raises ValueError for one that lies elsewhere."""
    if plain_path(value, where).name != value:
        raise ValueError(f"{where} is {value!r:.200}, expected a name without a folder")
    return value
