"""One owner per folder: of several launches on one store, each pack is trained by one.

`owner.json` is created exclusively and touched every few seconds by a thread. A file whose process has ended on this
machine, or that has not been touched for a while, belongs to an owner that was killed: it is taken over by renaming it
away, which succeeds for one taker only. Ages are differences of time stamps that the file system itself gave, so no
clock of a machine matters. An owner checks that it still is one before everything it must not write twice; one that
could not touch its file for as long counts itself among the killed.
"""

from __future__ import annotations

import contextlib
import errno
import json
import logging
import os
import platform
import secrets
import threading
import time
from pathlib import Path
from typing import Any, Self

from ecg_jax.files.whole_file import damaged, naming, parse_json, read_text

REFRESH_SECONDS, STALE_SECONDS = 10.0, 120.0
#: For so long an owner file may be away while a mistaken taker puts it back.
AWAY_SECONDS = 2.0
OWNER = "owner.json"
_REMEDY = "end the process that trains there, if one does, and delete the file"
_log = logging.getLogger(__name__)


class LostOwnershipError(RuntimeError):
    """Another process has taken over: nothing may be written any more."""


class Ownership:
    """The right to write to a folder; a context manager that gives it up at the end. Made by `acquire`."""

    def __init__(self, folder: Path, token: str, refresh_seconds: float, stale_seconds: float = STALE_SECONDS):
        self._path, self._token, self._stale_seconds = folder / OWNER, token, stale_seconds
        self._refreshed, self._trouble = time.monotonic(), ""
        self._leave = threading.Event()
        self._thread = threading.Thread(target=self._refresh, args=(refresh_seconds,), daemon=True)
        self._thread.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._leave.set()
        self._thread.join()
        with contextlib.suppress(OSError, ValueError):  # left behind, the file is taken over: this process has ended
            if _token(self._path) == self._token:
                self._path.unlink(missing_ok=True)

    def check(self) -> None:
        """Raises LostOwnershipError when another process has taken the folder over, or may have: when the file could
        not be touched for so long that it looks like a dead owner's. Raises ValueError when the file was damaged."""
        until = time.monotonic() + AWAY_SECONDS
        while (seen := self._seen())[0] is None and time.monotonic() < until:
            time.sleep(0.05)
        token, trouble = seen
        if token == self._token and self._silent() > self._stale_seconds:  # this process slept, and nobody came
            self._touch()
        if token != self._token and not trouble:
            now = f"now {describe(self._path.parent)}" if token else f"{OWNER} is gone"
            raise LostOwnershipError(f"{self._path.parent} has been taken over by another process ({now}): it goes on")
        if self._silent() > self._stale_seconds:
            raise LostOwnershipError(
                f"{self._path} could not be touched for {self._silent():.0f} s ({trouble or self._trouble}): another "
                "process may have taken it over, so this one stops"
            )

    def is_held(self) -> bool:
        """Whether `check` passes."""
        try:
            self.check()
        except LostOwnershipError:
            return False
        return True

    def _seen(self) -> tuple[str | None, str]:
        """The token in the file, None where it is away or cannot be read now, and what the file system says then."""
        try:
            return _token(self._path), ""
        except OSError as error:
            return None, str(error)

    def _silent(self) -> float:
        return time.monotonic() - self._refreshed

    def _touch(self) -> None:
        """Makes the file young, if it is this owner's; what the file system refuses is said once, and tried again."""
        began, before = time.monotonic(), self._trouble
        try:
            if _token(self._path) == self._token:
                os.utime(self._path)  # never makes it
                self._refreshed, self._trouble = began, ""
        except (OSError, ValueError) as error:
            self._trouble = str(error)
            if not before:
                _log.warning("%s cannot be touched (%s): trying again", self._path, error)

    def _refresh(self, seconds: float) -> None:
        while not self._leave.wait(seconds):
            self._touch()


def acquire(
    folder: Path, *, refresh_seconds: float = REFRESH_SECONDS, stale_seconds: float = STALE_SECONDS
) -> Ownership | None:
    """The right to write to `folder`, or None while a living process has it. Makes the folder.

    Raises ValueError when the folder's `owner.json` was damaged, and OSError, with the path, when it cannot be written.
    """
    path, token = folder / OWNER, secrets.token_hex(8)
    with naming(path):
        folder.mkdir(parents=True, exist_ok=True)
        if path.exists() and not (_is_stale(path, stale_seconds) and _removed(path, stale_seconds)):
            return None
        claim = folder / f".{OWNER}.{token}"
        owner = {"token": token, "pid": os.getpid(), "host": platform.node(), "of": _here()}
        try:
            claim.write_text(json.dumps(owner) + "\n", encoding="utf-8")
            _link(claim, path)
        except FileExistsError:
            return None
        finally:
            claim.unlink(missing_ok=True)
    return Ownership(folder, token, refresh_seconds, stale_seconds)


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
            try:
                file.write(source.read_text())
                file.flush()
            except OSError:
                path.unlink()
                raise


def _is_stale(path: Path, stale_seconds: float) -> bool:
    """Whether its process has ended on this machine, or the file is that old by its file system's clock."""
    owner = _read(path)
    if owner and _has_ended(owner):
        return True
    probe = path.with_name(f".clock.{secrets.token_hex(8)}")
    try:
        probe.touch()
        now = probe.stat().st_mtime
    finally:
        probe.unlink(missing_ok=True)
    try:
        return abs(now - path.stat().st_mtime) > stale_seconds  # in the future: the clock was set back
    except FileNotFoundError:
        return False


def _has_ended(owner: dict[str, Any]) -> bool:
    return owner["host"] == platform.node() and owner["of"] == _here() and not _is_alive(owner["pid"])


def _here() -> str:
    """What process numbers refer to: containers, and machines, may share a file system and a name."""
    namespace, boot = Path("/proc/self/ns/pid"), Path("/proc/sys/kernel/random/boot_id")
    if not namespace.exists() or not boot.exists():
        return ""
    return f"{os.readlink(namespace)} {boot.read_text().strip()}"


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
    """What an owner wrote of itself; None where there is no file, or an empty one. Raises ValueError for any other."""
    try:
        text = read_text(path, remedy=_REMEDY)
    except FileNotFoundError:
        return None
    owner = parse_json(path, text, remedy=_REMEDY) if text else None
    if owner is not None:
        kinds = {"token": str, "pid": int, "host": str, "of": str}
        for name in (name for name, kind in kinds.items() if type(owner.get(name)) is not kind):
            raise damaged(path, f"says {name} = {owner.get(name)!r}", remedy=_REMEDY)
        if not 0 < owner["pid"] < 2**31:
            raise damaged(path, f"says pid = {owner['pid']}", remedy=_REMEDY)
    return owner
