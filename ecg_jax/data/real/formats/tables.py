"""The tables that sets come with: text files whose rows name recordings, patients, folds and labels.

Tables are written by people and by spreadsheets: names of columns are compared without case, blanks, quotes and
punctuation, columns may be separated by a comma, semicolon, tab or bar, and what says that nothing is known ("nan",
"Unknown", an empty cell) is nothing. All readers keep to these rules.
"""

from __future__ import annotations

import codecs
import csv
import dataclasses
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path, PurePosixPath

#: What the columns of a table of labels mean, and by which names, as `plain` writes them, they are known.
MEANINGS: Mapping[str, str] = {
    "record": r"(record|recording|ecg|exam)(id|name|no|nr|number)?|studyid|file(name|path)?(hr|lr)?|path",
    "patient": r"(patient|subject|person|participant)s?(id|uid|uuid|hash|no|nr|number|code|key)?|pat(id|no|nr)|pid|mrn",
    "fold": r"(strat|cv)?fold(s|id|no|nr|number)?",
    "labels": r"(labels?|dx|diagnos[ie]s|statements?)(codes?)?|(scp|snomed|snomedct|aha|icd|icd10)?codes?|snomed(ct)?",
}
#: What says that nothing is known.
_NOTHING = frozenset(
    {
        *("", "nan", "na", "n/a", "n.a.", "<na>", "nat", "none", "null", "nil", "?", "-", "--"),
        *("unknown", "unk", "missing", "undefined", "unspecified", "not available", "not known"),
    }
)
_SEPARATORS = ",;\t|"


def known(text: str) -> str:
    """`text` without the blanks around it; "" where it says that nothing is known."""
    bare = text.strip()
    return "" if bare.strip("'\"").strip().lower() in _NOTHING else bare


def identity(text: str) -> str:
    """An id: as `known`, without quotes around it, and whole numbers as such ("15709.0" is "15709")."""
    bare = known(text).strip("'\"").strip()
    return re.sub(r"^([0-9]+)\.0+$", r"\1", bare)


def split_labels(text: str, by: str) -> tuple[str, ...]:
    """The labels in `text`, sorted, each once; malformed lists have empty ones, and "Unknown" is none. Codes that a
    spreadsheet took for numbers ("426783006.0") are whole."""
    return tuple(sorted({identity(part) for part in text.split(by)} - {""}))


def listed_labels(cell: str) -> tuple[str, ...]:
    """The labels in a cell of a table that people made, sorted, each once.

    They are separated by ";" or "|", or by "," where single words are ("AFIB,LBBB", not "Sinus rhythm, slow"), or
    written as Python writes lists and dictionaries, of which the keys count.
    """
    quoted = re.findall(r"""'([^']*)'|"([^"]*)\"""", cell) if cell[:1] in ("[", "{", "(") else []
    if quoted:
        return split_labels(";".join(map("".join, quoted)), ";")
    bare = cell.strip("[]{}()") if cell[:1] in ("[", "{", "(") else cell
    if not re.search("[;|]", bare) and all(len(part.split()) <= 1 for part in bare.split(",")):
        return split_labels(bare, ",")
    return split_labels(bare.replace("|", ";"), ";")


def plain(name: str) -> str:
    """The name of a column as it is compared: letters and digits in lower case."""
    return re.sub(r"[\W_]+", "", name).lower()


@dataclasses.dataclass(frozen=True)
class Table:
    """A table of labels: its rows, each the words that name it in an error and its cells by meaning (see `MEANINGS`).

    `names` are the table's own names of the columns that were understood, by meaning; `others` are the rest.
    """

    path: Path
    names: Mapping[str, str]
    others: tuple[str, ...]
    rows: tuple[tuple[str, dict[str, str]], ...]


def read_label_table(path: Path) -> Table:
    """A table with a column that names recordings and, as far as there are any, columns of patients, folds and labels.

    Raises FileNotFoundError, and ValueError as `read_table` does.
    """
    if not path.is_file():
        raise FileNotFoundError(f"{path} does not exist")
    layout = _layout(path, MEANINGS)
    if "record" not in layout.places:
        raise ValueError(
            f"{path}: there is no column 'record'; found {layout.header}. It may also be called recording, filename, "
            "ecg_id, …, and names the recordings by their paths without suffix"
        )
    names = {meaning: layout.header[place] for meaning, place in layout.places.items()}
    others = [name for place, name in enumerate(layout.header) if name and place not in layout.places.values()]
    return Table(path, names, tuple(others), tuple(_rows(path, layout)))


def read_table(path: Path, columns: Sequence[str]) -> Iterator[tuple[str, dict[str, str]]]:
    """The rows of a published table, one after the other: the words that name a row in an error, and its `columns`
    alone; what is absent is "".

    Raises FileNotFoundError, and ValueError when it is no text, a column is missing or there twice, a row has more
    cells than there are columns, or there is no row.
    """
    if not path.is_file():
        raise FileNotFoundError(f"{path} does not exist: the folder is not a whole copy of what was published")
    layout = _layout(path, {name: re.escape(plain(name)) for name in columns})
    absent = [name for name in columns if name not in layout.places]
    if absent:
        raise ValueError(f"{path}: columns {absent} are missing; found {layout.header}")
    return _rows(path, layout)


@dataclasses.dataclass(frozen=True)
class _Layout:
    encoding: str
    separator: str
    header: list[str]
    places: dict[str, int]  # by meaning


def _layout(path: Path, wanted: Mapping[str, str]) -> _Layout:
    """How a table is written, and which of its columns is each of `wanted`, patterns by meaning.

    The separator is the one that yields most columns that are wanted. Raises ValueError as `read_table` does.
    """
    with path.open("rb") as file:
        encoding = "utf-16" if file.read(2) in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE) else "utf-8-sig"
    headers = {separator: _header(path, encoding, separator) for separator in _SEPARATORS}
    found = {separator: _places(header, wanted) for separator, header in headers.items()}
    separator = max(_SEPARATORS, key=lambda separator: sum(map(bool, found[separator].values())))
    header = headers[separator]
    for meaning, places in found[separator].items():
        if len(places) > 1:
            raise ValueError(
                f"{path}: columns {[header[place] for place in places]} both mean {meaning!r}: remove all but one of "
                "them, or give the others names of their own"
            )
    return _Layout(encoding, separator, header, {name: at[0] for name, at in found[separator].items() if at})


def _header(path: Path, encoding: str, separator: str) -> list[str]:
    # Not strict: separated by something else, quotes stand where they must not.
    return [
        name.strip().strip("'\"").strip() for name in next(_cells(path, encoding, separator, strict=False), (0, []))[1]
    ]


def _places(header: Sequence[str], wanted: Mapping[str, str]) -> dict[str, list[int]]:
    return {
        meaning: [place for place, name in enumerate(header) if re.fullmatch(pattern, plain(name))]
        for meaning, pattern in wanted.items()
    }


def _rows(path: Path, layout: _Layout) -> Iterator[tuple[str, dict[str, str]]]:
    cells = _cells(path, layout.encoding, layout.separator)
    next(cells, None)
    line = None
    for line, row in cells:
        if any(map(str.strip, row[len(layout.header) :])):
            raise ValueError(
                f"{path}, line {line}: {len(row)} cells for {len(layout.header)} columns; put a cell that holds "
                f"{layout.separator!r} in double quotes"
            )
        yield (
            f"{path}, line {line}",
            {meaning: row[place] if place < len(row) else "" for meaning, place in layout.places.items()},
        )
    if line is None:
        raise ValueError(f"{path}: the table has no rows")


def _cells(path: Path, encoding: str, separator: str, *, strict: bool = True) -> Iterator[tuple[int, list[str]]]:
    """The lines that hold anything, by number: their cells."""
    try:
        with path.open(newline="", encoding=encoding) as file:
            reader = csv.reader(file, delimiter=separator, skipinitialspace=True, strict=strict)
            for row in reader:
                tells_separator = reader.line_num == 1 and row and re.match("sep=", row[0], re.IGNORECASE)  # Excel's
                if any(map(str.strip, row)) and not tells_separator:
                    yield reader.line_num, row
    except (UnicodeError, csv.Error) as error:
        raise ValueError(
            f"{path} is no table of separated text ({error}): save or fetch it again, as CSV in UTF-8"
        ) from error


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
