"""Text files: the one door through which JSON, JSONL and CSV are written and read.

What is written appears whole or not at all, under a temporary name that no other process makes. What cannot be read is
a ValueError that names file, line and remedy. A full disk is named with the path, wherever it strikes.
"""

from __future__ import annotations

import contextlib
import csv
import errno
import hashlib
import io
import json
import os
import secrets
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas as pd

#: What helps where nothing better is known.
RESTORE = "copy it again from where it came, or delete it"


class DiskFullError(OSError):
    """No space is left, or no quota: `filename` could not be written, and what stood there stays."""

    def __str__(self) -> str:
        return f"{self.strerror}: {self.filename}: free some, and the same command goes on"


def disk_full(path: os.PathLike[str] | str, what: str = "no space left on the disk") -> DiskFullError:
    """The error of a full disk that struck `path`."""
    return DiskFullError(errno.ENOSPC, what, str(path))


def is_disk_full(error: BaseException | None) -> bool:
    """Whether a full disk is behind an error; libraries wrap it in kinds of their own."""
    while error is not None:
        texts = ("No space left", "Disk quota exceeded")
        if getattr(error, "errno", None) in (errno.ENOSPC, errno.EDQUOT) or any(text in str(error) for text in texts):
            return True
        error = error.__cause__ or error.__context__
    return False


@contextlib.contextmanager
def naming(path: os.PathLike[str] | str, *, inside: bool = False) -> Iterator[None]:
    """Lets errors of the file system name `path`: those that name nothing, and a full disk whatever reports it; with
    `inside`, a full disk that has a name already as well, of what lies in `path` until it is whole."""
    try:
        yield
    except Exception as error:
        if isinstance(error, DiskFullError) and not inside:
            raise
        if is_disk_full(error):
            raise disk_full(path) from error
        if isinstance(error, OSError) and error.errno and error.filename is None:
            raise OSError(error.errno, error.strerror, str(path)) from error
        raise


# ---- writing --------------------------------------------------------------------------------------------------------


def beside(path: Path) -> Path:
    """A temporary name in the folder of `path`, of the same kind of file. Random: containers that share a file system
    may share process numbers and names."""
    return path.with_name(f".{path.stem}.{secrets.token_hex(8)}{path.suffix}")


@contextlib.contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """A temporary path that replaces `path` when the block succeeds, on the disk by then, and vanishes when it fails.

    Makes the folder. Raises DiskFullError, and other errors of the file system with the path.
    """
    temporary = beside(path)
    with naming(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            yield temporary
            with temporary.open("rb+") as file:
                os.fsync(file.fileno())
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)  # there only where the disk is full, or the write was broken off


def write_text(path: Path, text: str) -> None:
    """Writes a file atomically: readers see the old content or the new, never a part. Raises as `whole_file` does."""
    with whole_file(path) as temporary:
        temporary.write_text(text, encoding="utf-8", newline="\n")


def write_texts(texts: Mapping[Path, str]) -> None:
    """Writes several files that belong together: none is replaced before all are on the disk."""
    with contextlib.ExitStack() as stack:
        for path, text in texts.items():
            temporary = stack.enter_context(whole_file(path))
            with naming(path):
                temporary.write_text(text, encoding="utf-8", newline="\n")


def write_json(path: Path, tree: Any) -> None:
    """Writes a JSON file atomically; raises ValueError on NaN or infinity."""
    write_text(path, json.dumps(tree, indent=1, allow_nan=False) + "\n")


def jsonl(trees: Iterable[Any]) -> str:
    """The text of a JSONL file that holds these, one a line."""
    return "".join(json.dumps(tree) + "\n" for tree in trees)


def append_text(path: Path, text: str) -> None:
    """Appends to a file all of `text`, or nothing where the disk is full. Raises as `whole_file` does."""
    rest = text.encode()
    with naming(path), path.open("ab", buffering=0) as file:
        end = file.tell()
        try:
            while rest:  # a disk that is nearly full takes a part
                rest = rest[file.write(rest) :]
        except OSError:
            file.truncate(end)
            raise


# ---- reading --------------------------------------------------------------------------------------------------------


def damaged(path: Path, what: str, *, line: int = 0, remedy: str = RESTORE) -> ValueError:
    """The error of a file that is not as this program wrote it, in one sentence."""
    where = f" in line {line}" if line else ""
    return ValueError(f"{path} {what}{where}: it was damaged outside this program; {remedy}")


def checksum(text: str) -> str:
    """Sixteen hex digits of the SHA-256 of a file's text."""
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def read_text(path: Path, *, remedy: str = RESTORE) -> str:
    """The text of a file. Raises OSError with the path, and ValueError where it is not UTF-8."""
    with naming(path):
        return _decoded(path, path.read_bytes(), remedy)


def read_json(path: Path, *, of: type = dict, remedy: str = RESTORE) -> Any:
    """The tree in a JSON file: a dict, or of the type `of` (object: of any). Raises ValueError, with file, line and
    remedy, for anything else: NaN and infinity are no JSON."""
    return parse_json(path, read_text(path, remedy=remedy), of=of, remedy=remedy)


def parse_json(path: Path, text: str, *, of: type = dict, remedy: str = RESTORE) -> Any:
    """The tree in the text of the JSON file at `path`. Raises as `read_json` does."""
    tree = _parsed(path, text, 0, remedy, parse_constant=_refuse)
    if of is not object and type(tree) is not of:
        raise damaged(path, f"holds {_kind(tree)}, not {_KINDS[of]}", remedy=remedy)
    return tree


def read_lines(path: Path, *, allow_nan: bool = False, remedy: str = RESTORE) -> list[dict[str, Any]]:
    """The objects in a JSONL file, one a line; [] where there is no file. A last line that a kill cut short is left
    out. Raises ValueError with the line of any other damage."""
    try:
        with naming(path):
            raw = path.read_bytes()
    except FileNotFoundError:
        return []
    lines = _decoded(path, raw[: raw.rfind(b"\n") + 1], remedy).split("\n")[:-1]
    options = {} if allow_nan else {"parse_constant": _refuse}
    trees = [_parsed(path, line, number, remedy, **options) for number, line in enumerate(lines, 1)]
    for number, tree in enumerate(trees, 1):
        if type(tree) is not dict:
            raise damaged(path, f"holds {_kind(tree)}, not {_KINDS[dict]}", line=number, remedy=remedy)
    return trees


def read_csv(
    paths: Sequence[Path],
    columns: Mapping[str, type],
    *,
    checksums: Sequence[str | None] | None = None,
    remedy: Callable[[Path], str] = lambda path: RESTORE,
) -> pd.DataFrame:
    """The rows of CSV files that have these columns, of text, int or float; the index numbers the file of a row.

    An empty cell is text, or a float that is not a number. `remedy` says what helps where a file is damaged. Raises
    FileNotFoundError where one is missing, and ValueError with file and line where one is empty, cut short, has other
    columns or cells of another kind, or another checksum than `checksums` says.
    """
    import numpy as np  # here, and Pandas below: who owns a folder or writes a text waits for neither

    header, bodies = ",".join(columns) + "\n", []
    for path, expected in zip(paths, checksums or [None] * len(paths), strict=True):
        try:
            text = read_text(path, remedy=remedy(path))
        except FileNotFoundError as error:
            raise FileNotFoundError(f"{path} is missing: {remedy(path)}") from error
        if not text.startswith(header) or text[-1] != "\n" or (expected and checksum(text) != expected):
            line, what = _fault(text, columns) or (0, "is not what it was when its run was recorded")
            raise damaged(path, what, line=line, remedy=remedy(path))
        bodies.append(text[len(header) :])
    counts = [body.count("\n") for body in bodies]
    try:
        frame = _table(header + "".join(bodies), columns, sum(counts))
    except ValueError as error:
        for path, body in zip(paths, bodies, strict=True):
            if found := _fault(header + body, columns):
                raise damaged(path, found[1], line=found[0], remedy=remedy(path)) from error
        raise ValueError(f"{', '.join(map(str, paths[:3]))}: no table can be made of them ({error})") from error
    frame.index = np.repeat(np.arange(len(paths)), counts)
    for k in frame.index[frame.isna().any(axis=1)].unique():  # a cell that is empty, or not there
        if found := _fault(header + bodies[k], columns):
            raise damaged(paths[k], found[1], line=found[0], remedy=remedy(paths[k]))
    return frame


def _table(text: str, columns: Mapping[str, type], rows: int) -> pd.DataFrame:
    import pandas as pd

    numbers = {name: ["", "nan", "NaN"] for name, kind in columns.items() if kind is float}
    options = {"dtype": dict(columns), "keep_default_na": False, "na_values": numbers, "skip_blank_lines": False}
    try:
        frame = pd.read_csv(io.StringIO(text), **options)
    except OverflowError as error:
        raise ValueError(str(error)) from error
    if len(frame) != rows or list(frame.columns) != list(columns) or not isinstance(frame.index, pd.RangeIndex):
        raise ValueError(f"{len(frame)} rows in {rows} lines")
    return frame


_KINDS = {dict: "an object", list: "a list", str: "text", bool: "true or false", type(None): "null"}


def _kind(tree: Any) -> str:
    return _KINDS.get(type(tree), "a number")


def _decoded(path: Path, raw: bytes, remedy: str) -> str:
    try:
        return raw.decode()
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        raise damaged(path, f"is not UTF-8 at byte {error.start:,}", line=line, remedy=remedy) from error


def _parsed(path: Path, text: str, line: int, remedy: str, **options: Any) -> Any:
    try:
        return json.loads(text, **options)
    except json.JSONDecodeError as error:
        what = "is empty" if not text.strip() else f"is not JSON ({error.msg}, column {error.colno})"
        raise damaged(path, what, line=line or error.lineno, remedy=remedy) from error
    except (_RefusedError, RecursionError, ValueError) as error:
        what = "is nested too deep" if isinstance(error, RecursionError) else "holds a number of thousands of digits"
        what = f"holds {error}" if isinstance(error, _RefusedError) else what
        raise damaged(path, what, line=line, remedy=remedy) from error


class _RefusedError(Exception):
    pass


def _refuse(constant: str) -> Any:
    raise _RefusedError(f"{constant}, which is no number")


def _fault(text: str, columns: Mapping[str, type]) -> tuple[int, str] | None:
    """The first line of a table that is not as its columns say, and what is wrong there."""
    if not text:
        return 0, "is empty"
    rows = csv.reader(text.splitlines())
    for number, cells in enumerate(rows, 1):
        if number == 1 and cells != list(columns):
            return number, f"has the columns {', '.join(cells)}; expected {', '.join(columns)}"
        if len(cells) != len(columns):
            return number, f"has {len(cells)} of {len(columns)} cells"
        for cell, (name, kind) in zip(cells, columns.items(), strict=True):
            if number > 1 and not _is(kind, cell):
                return number, f"has {name} {cell!r}, which is no {'whole ' if kind is int else ''}number"
    return None if text.endswith("\n") else (text.count("\n") + 1, "is cut short")


def _is(kind: type, cell: str) -> bool:
    if kind is str or (kind is float and not cell):
        return True
    try:
        return abs(kind(cell)) < 2**63 or kind is float
    except ValueError:
        return False
