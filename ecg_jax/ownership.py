"""One owner per folder: of several launches on one store, each pack is trained by one.

`owner.json` is created exclusively and touched every few seconds by a thread. A file whose process has ended on this
machine, or that has not been touched for a while, belongs to an owner that was killed: it is taken over by renaming it
away, which succeeds for one taker only. Ages are differences of time stamps that the file system itself gave, so no
clock of a machine matters. An owner checks that it still is one before everything it must not write twice.
"""

from __future__ import annotations

import errno
import json
import os
import platform
import secrets
import threading
import time
from pathlib import Path
from typing import Any, Self

REFRESH_SECONDS, STALE_SECONDS = 10.0, 120.0
#: For so long an owner file may be away while a mistaken taker puts it back.
AWAY_SECONDS = 2.0
OWNER = "owner.json"


class LostOwnershipError(RuntimeError):
    """Another process has taken over: nothing may be written any more."""


class Ownership:
    """The right to write to a folder; a context manager that gives it up at the end. Made by `acquire`."""

    def __init__(self, folder: Path, token: str, refresh_seconds: float):
        self._path, self._token = folder / OWNER, token
        self._leave = threading.Event()
        self._thread = threading.Thread(target=self._refresh, args=(refresh_seconds,), daemon=True)
        self._thread.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._leave.set()
        self._thread.join()
        if _token(self._path) == self._token:
            self._path.unlink(missing_ok=True)

    def check(self) -> None:
        """Raises LostOwnershipError when another process has taken the folder over."""
        until = time.monotonic() + AWAY_SECONDS
        while (token := _token(self._path)) is None and time.monotonic() < until:
            time.sleep(0.05)
        if token != self._token:
            now = f"now {describe(self._path.parent)}" if token else f"{OWNER} is gone"
            raise LostOwnershipError(f"{self._path.parent} has been taken over by another process ({now}): it goes on")

    def _refresh(self, seconds: float) -> None:
        while not self._leave.wait(seconds):
            if _token(self._path) == self._token:
                self._path.touch()


def acquire(
    folder: Path, *, refresh_seconds: float = REFRESH_SECONDS, stale_seconds: float = STALE_SECONDS
) -> Ownership | None:
    """The right to write to `folder`, or None while a living process has it. Makes the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    path, token = folder / OWNER, secrets.token_hex(8)
    if path.exists() and not _is_stale(path, stale_seconds):
        return None
    if path.exists() and not _removed(path, stale_seconds):
        return None
    claim = folder / f".{OWNER}.{token}"
    claim.write_text(json.dumps({"token": token, "pid": os.getpid(), "host": platform.node(), "of": _here()}) + "\n")
    try:
        _link(claim, path)
    except FileExistsError:
        return None
    finally:
        claim.unlink()
    return Ownership(folder, token, refresh_seconds)


def has_living_owner(folder: Path) -> bool:
    """Whether a process has the folder that neither ended on this machine nor has been silent for long; only looks."""
    path = folder / OWNER
    owner = _read(path)
    if owner is None or _has_ended(owner):
        return False
    return abs(time.time() - path.stat().st_mtime) < STALE_SECONDS  # its clock may differ: a look may be mistaken


def describe(folder: Path) -> str:
    """The owner of a folder in words, "" if it has none."""
    owner = _read(folder / OWNER)
    return f"process {owner['pid']} on {owner['host']}" if owner else ""


def _removed(path: Path, stale_seconds: float) -> bool:
    """Renames a stale owner file away; False when another was quicker."""
    aside = path.with_name(f".{OWNER}.{secrets.token_hex(8)}")
    try:
        path.rename(aside)
    except FileNotFoundError:
        return False
    stale = _is_stale(aside, stale_seconds)
    if not stale:  # between the look and the rename another took over: it gets its file back
        try:
            _link(aside, path)
        except FileExistsError:
            stale = False
    aside.unlink()
    return stale


def _link(source: Path, path: Path) -> None:
    """Gives a file a second name, whole from its first moment. Raises FileExistsError where the name is taken."""
    try:
        os.link(source, path)
    except OSError as error:
        if error.errno not in (errno.EPERM, errno.ENOTSUP, errno.ENOSYS):
            raise
        with path.open("x") as file:  # a bucket mounted as a folder knows no links; empty for a moment
            file.write(source.read_text())


def _is_stale(path: Path, stale_seconds: float) -> bool:
    """Whether its process has ended on this machine, or the file is that old by its file system's clock."""
    owner = _read(path)
    if owner and _has_ended(owner):
        return True
    probe = path.with_name(f".clock.{secrets.token_hex(8)}")
    probe.touch()
    now = probe.stat().st_mtime
    probe.unlink()
    try:
        return abs(now - path.stat().st_mtime) > stale_seconds  # in the future: the clock was set back
    except FileNotFoundError:
        return False


def _has_ended(owner: dict[str, Any]) -> bool:
    return owner["host"] == platform.node() and owner["of"] == _here() and not _is_alive(owner["pid"])


def _here() -> str:
    """What process numbers refer to: containers may share a file system and a name."""
    namespace = Path("/proc/self/ns/pid")
    return os.readlink(namespace) if namespace.exists() else ""


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _token(path: Path) -> str | None:
    owner = _read(path)
    return owner["token"] if owner else None


def _read(path: Path) -> dict[str, Any] | None:
    try:
        text = path.read_text()
    except FileNotFoundError:
        return None
    return json.loads(text) if text else None
