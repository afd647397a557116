"""Folders that appear whole or not at all, each made by one process: filled under a temporary name, renamed at the end.

Of several processes that want the same, one makes it and the others wait, say so, and find it made. One that was killed
is followed by the next, which removes what it left.
"""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import os
import secrets
import shutil
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from ecg_jax.files.lease import OWNER, Ownership, acquire, describe
from ecg_jax.files.whole_file import naming

#: Seconds between two tries to become the maker, and between two lines that say that one waits.
LOOK_SECONDS, TELL_SECONDS = 0.2, 10.0

Say = Callable[[str], None]


@dataclasses.dataclass(frozen=True)
class Maker:
    """The right to make something, and a folder beside it for what is unfinished, which goes at the end."""

    owner: Ownership
    room: Path

    def check(self) -> None:
        """Raises LostOwnershipError when another process has taken over, as from one that slept for minutes."""
        self.owner.check()


def _to_stderr(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


@contextlib.contextmanager
def making(path: Path, say: Say = _to_stderr) -> Iterator[Maker]:
    """The right to make the file or folder `path`, waited for while a living process has it, which `say` hears of.

    Who waited looks first whether it is made by now. Raises LostOwnershipError where the block failed because another
    process has taken over.
    """
    path = path.resolve()  # `.` has no name
    room = path.with_name(f".{path.name}-unfinished")
    try:
        with _owned(room, path, say) as owner:
            _empty(room)
            try:
                yield Maker(owner, room)
            except OSError:
                owner.check()  # what was unfinished is gone since the heir removed it
                raise
            finally:
                with contextlib.suppress(OSError):
                    _empty(room)
    finally:
        with contextlib.suppress(OSError):  # another process is in it already
            room.rmdir()


@contextlib.contextmanager
def whole_folder(folder: Path, *, replaces: bool = False, say: Say = _to_stderr) -> Iterator[Path]:
    """Yields an empty folder to fill, which becomes `folder` when the block ends, and vanishes when it raises.

    Raises FileExistsError when `folder` is there, and not empty, when its turn comes, unless it `replaces` that, and
    DiskFullError with its path where no space is left.
    """
    folder = folder.resolve()
    named = naming(folder, inside=True)  # a full disk may strike the room as well
    with named, making(folder, say) as maker, placed(folder, maker, replaces=replaces) as building:
        yield building


@contextlib.contextmanager
def placed(folder: Path, maker: Maker, *, replaces: bool = False) -> Iterator[Path]:
    """`whole_folder` for who makes many in one place, and has the right to make them all. Raises as it does."""
    with naming(folder, inside=True):
        if not replaces and folder.exists() and not (folder.is_dir() and not any(folder.iterdir())):
            raise FileExistsError(f"{folder} is there: another process has made it")
        building = maker.room / secrets.token_hex(8) / folder.name
        building.mkdir(parents=True)
        yield building
        maker.check()
        if replaces and folder.exists():
            shutil.rmtree(folder)
        folder.parent.mkdir(parents=True, exist_ok=True)
        os.replace(building, folder)
        building.parent.rmdir()


@contextlib.contextmanager
def _owned(room: Path, path: Path, say: Say) -> Iterator[Ownership]:
    told = -TELL_SECONDS
    while (owner := _acquired(room)) is None:
        if time.monotonic() - told >= TELL_SECONDS and (maker := describe(room)):
            told = time.monotonic()
            say(f"waiting for {path}: {maker} is making it")
        time.sleep(LOOK_SECONDS)
    with owner:
        yield owner


def _acquired(room: Path) -> Ownership | None:
    try:
        return acquire(room)
    except OSError as error:
        if error.errno != errno.ENOENT:
            raise
        return None  # who had it removed the folder that was about to be entered


def _empty(room: Path) -> None:
    for left in room.iterdir():
        if left.is_dir():
            shutil.rmtree(left)
        elif OWNER not in left.name and not left.name.startswith(".clock"):  # others are looking for an owner
            left.unlink()
