"""Whole-or-nothing files: written under a temporary name, then renamed."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

#: Stands in every file of results that the command line writes, so that it knows its own.
MADE_BY = "python -m scaling_fits"


@contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """A temporary path beside `path` that replaces it when the block succeeds and is removed when it fails.

    Its name is random: containers that share a file system may share process numbers. Raises OSError with the path.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.stem}.{secrets.token_hex(8)}.part{path.suffix}")
    try:
        yield temporary
        os.replace(temporary, path)
    except Exception as error:
        found = _refusal(error, temporary)
        if found is None:
            raise
        raise OSError(found.errno, found.strerror, str(path)) from error
    finally:
        temporary.unlink(missing_ok=True)


def _refusal(error: BaseException | None, temporary: Path) -> OSError | None:
    """What the file system said to a write to `temporary`: a full disk names no file, and a figure's writer stumbles
    over it once more."""
    while error is not None:
        named = getattr(error, "filename", None)
        if isinstance(error, OSError) and error.errno and (named is None or Path(named) == temporary):
            return error
        error = error.__cause__ or error.__context__
    return None


def figure_paths(stem: Path | str) -> tuple[Path, Path, Path]:
    """The files of a figure: `<stem>.pdf`, `.png`, and the table `.csv` of what is drawn."""
    stem = Path(stem)
    pdf, png, csv = (stem.with_name(f"{stem.name}.{end}") for end in ("pdf", "png", "csv"))
    return pdf, png, csv


def write_text(path: Path, text: str) -> None:
    """Write `text` to `path`, whole or not at all."""
    with whole_file(path) as temporary:
        temporary.write_text(text, encoding="utf-8")
