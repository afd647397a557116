"""Reading a CSV that anybody wrote: its encoding, separator and header are looked at before a number is believed."""

from __future__ import annotations

import codecs
import csv
import io
import re
from collections import Counter
from pathlib import Path

import pandas as pd

#: Names of things, which a table may write with digits alone.
NAMES = ("run_id", "trunk_id")
SEPARATORS = {",": "','", ";": "';'", "\t": "a tab"}
WIDE = (
    (codecs.BOM_UTF32_LE, "UTF-32"),
    (codecs.BOM_UTF32_BE, "UTF-32"),
    (codecs.BOM_UTF16_LE, "UTF-16"),
    (codecs.BOM_UTF16_BE, "UTF-16"),
)
PADDED = re.compile(r"\s*0\d+\s*")  # 007 is a name, and another than 7
BLANKS_OR_BARS = re.compile(r"[\s|]+")
DECIMAL_COMMA, DECIMAL_POINT = re.compile(r"[-+]?\d*,\d+([eE][-+]?\d+)?"), re.compile(r"[-+]?\d*\.\d+([eE][-+]?\d+)?")


def read_csv(path: Path | str) -> tuple[pd.DataFrame, tuple[str, ...]]:
    """The table in a CSV of UTF-8 separated by commas, semicolons or tabs, and notes on how it was read.

    Blanks around names of columns do not count. Columns of digits of which some begin with 0 hold names. Where commas
    do not separate, numbers may have decimal commas. Raises FileNotFoundError, or ValueError naming file and line: for
    another encoding, an empty file, two columns of one name, lines of other length than the header's.
    """
    path = Path(path)
    text = _text(path)
    separator = _separator(text)
    lines = _lines(text, separator, path.name)
    header = _header(lines, path.name)
    comma = separator != "," and _has_decimal_commas(lines[1:], path.name)
    padded = [name for name, *fields in zip(header, *lines[1:]) if any(map(PADDED.fullmatch, fields))]
    kinds = {name: str for name in (*NAMES, *padded) if name in header}
    frame = pd.read_csv(
        io.StringIO(text),
        sep=separator,
        decimal="," if comma else ".",
        header=0,
        names=header,
        index_col=False,
        dtype=kinds,
        skipinitialspace=True,
        low_memory=False,
    )
    if separator == ",":
        return frame, ()
    words = ", with decimal commas" if comma else ""
    return frame, (f"{path.name} is separated by {SEPARATORS[separator]}{words}",)


def require_distinct(names: list[str], source: str) -> None:
    """ValueError when two columns have one name: nobody could say which is meant."""
    twice = sorted(name for name, count in Counter(names).items() if count > 1)
    if twice:
        raise ValueError(f"{source}: has two columns named {twice[0]!r}; rename or remove one of them")


def _text(path: Path) -> str:
    if path.is_dir():
        raise ValueError(f"{path}: is a folder; give the CSV itself")
    if not path.exists():
        raise FileNotFoundError(f"{path}: no such table; give a CSV with a header and a row per run")
    try:
        raw = path.read_bytes()
    except OSError as error:
        raise ValueError(f"{path}: cannot be read ({error.strerror})") from error
    if not raw.strip():
        raise ValueError(f"{path.name}: is empty; a table has a header and a row per run")
    for mark, encoding in WIDE:
        if raw.startswith(mark):
            raise ValueError(f"{path.name}: is {encoding}; save it as UTF-8 (iconv -f {encoding} -t UTF-8)")
    if b"\0" in raw:
        line = raw[: raw.index(b"\0")].count(b"\n") + 1
        raise ValueError(f"{path.name}, line {line}: holds a zero byte, so it is no CSV of UTF-8, or it is damaged")
    try:
        return raw.decode("utf-8-sig").replace("\r\n", "\n").replace("\r", "\n")
    except UnicodeDecodeError as error:
        line = raw[: error.start].count(b"\n") + 1
        raise ValueError(
            f"{path.name}, line {line}: byte {raw[error.start]:#04x} is not UTF-8; save it as UTF-8"
        ) from error


def _separator(text: str) -> str:
    """The one of comma, semicolon and tab that the header has most of."""
    header = next(line for line in text.splitlines() if line.strip())
    return max(SEPARATORS, key=header.count)


def _lines(text: str, separator: str, name: str) -> list[list[str]]:
    """The fields of every line that is not blank; ValueError for one of another length than the header."""
    reader = csv.reader(io.StringIO(text), delimiter=separator, strict=True)
    lines: list[list[str]] = []
    try:
        for fields in reader:
            if not any(field.strip() for field in fields) and len(fields) <= 1:
                continue
            if lines and len(fields) != len(lines[0]):
                raise ValueError(
                    f"{name}, line {reader.line_num}: has {len(fields)} fields, the header {len(lines[0])}; "
                    + (
                        f"the header is the first line, here {separator.join(lines[0])[:40]!r}"
                        if len(lines) == 1
                        else "is the file cut, or a separator inside a field?"
                    )
                )
            lines.append(fields)
    except csv.Error as error:
        raise ValueError(f"{name}, line {reader.line_num}: {error}") from error
    return lines


def _header(lines: list[list[str]], name: str) -> list[str]:
    """Names of the columns without the blanks around them; those without a name are numbered."""
    header = [field.strip() or f"Unnamed: {at}" for at, field in enumerate(lines[0])]
    require_distinct(header, name)
    if len(header) == 1 and len(BLANKS_OR_BARS.split(header[0].strip("| "))) > 1:
        raise ValueError(
            f"{name}: has one column, {header[0]!r}; columns are separated by commas, semicolons or tabs, not by "
            f"{'bars' if '|' in header[0] else 'blanks'}"
        )
    if len(lines) == 1:
        raise ValueError(f"{name}: has a header and no rows")
    return header


def _has_decimal_commas(rows: list[list[str]], name: str) -> bool:
    fields = [field.strip() for row in rows for field in row]
    commas = [field for field in fields if DECIMAL_COMMA.fullmatch(field)]
    points = [field for field in fields if DECIMAL_POINT.fullmatch(field)]
    if commas and points:
        raise ValueError(
            f"{name}: has numbers with decimal commas ({commas[0]}) and with decimal points ({points[0]}); write all "
            "of them one way"
        )
    return bool(commas)
