"""What a command is asked to write, checked before any work: a place that exists, and nothing of others' lost.

What this package writes carries its name: JSON and LaTeX a line, PDF and PNG an entry of their metadata. Only such
files are written over; the table beside a figure goes with the figure.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from scaling_fits.commands.options import Options
from scaling_fits.files import MADE_BY, figure_paths

LOOKED_AT = 1 << 16  # bytes at either end of a file in which its maker's name stands


def check_outputs(options: Options) -> None:
    """ValueError for an output that could not be written, or that would lose what another has made."""
    for name in ("out", "latex", "figure"):
        path = getattr(options, name) if options.has(name) else None
        if path is None:
            continue
        flag = f"--{name} {path}"
        # The folder of figures may be new; a mistyped one of a single file is noticed.
        _check_folder(flag, path.parent, may_be_new=name == "figure")
        if not path.name:
            raise ValueError(f"{flag}: is a folder; give a file in it")
        for one in figure_paths(path) if name == "figure" else (path,):
            _check_file(flag, one)
        force, lost = options.force, _of_others(path, name == "figure")
        if lost and not force:
            raise ValueError(f"{flag}: {lost} exists and was not made by {MADE_BY}; give another name, or --force")


def to_json(values: dict[str, Any] | list[dict[str, Any]]) -> str:
    """JSON with sorted keys under the line that says who made it; NaN and infinity are errors."""
    ordered = json.loads(json.dumps(values, sort_keys=True, allow_nan=False))
    own = {"made_by": MADE_BY}
    return json.dumps([own | one for one in ordered] if isinstance(ordered, list) else own | ordered, indent=2) + "\n"


def _check_folder(flag: str, folder: Path, *, may_be_new: bool) -> None:
    if may_be_new:
        while not folder.exists() and folder != folder.parent:
            folder = folder.parent
    if not folder.exists():
        raise ValueError(f"{flag}: there is no folder {folder}; make it first, or give another")
    if not folder.is_dir():
        raise ValueError(f"{flag}: {folder} is a file, not a folder")
    if not os.access(folder, os.W_OK | os.X_OK):
        raise ValueError(f"{flag}: no permission to write in {folder.resolve()}")


def _check_file(flag: str, path: Path) -> None:
    if path.is_dir():
        raise ValueError(f"{flag}: {path} is a folder; give a file in it")
    if path.exists() and not path.is_file():
        raise ValueError(f"{flag}: {path} is no ordinary file")
    if path.exists() and not os.access(path, os.W_OK):
        raise ValueError(f"{flag}: no permission to write {path}")


def _of_others(path: Path, is_figure: bool) -> Path | None:
    """The first file that would be lost though this package has not made it."""
    if not is_figure:
        return path if path.exists() and not _ours(path) else None
    *pages, table = figure_paths(path)
    there = [page for page in pages if page.exists()]
    foreign = [page for page in there if not _ours(page)]
    return next(iter(foreign), table if table.exists() and not there else None)


def _ours(path: Path) -> bool:
    with path.open("rb") as file:
        start = file.read(LOOKED_AT)
        file.seek(max(0, path.stat().st_size - LOOKED_AT))
        return MADE_BY.encode() in start + file.read()
