"""One file from a server: resumed where the connection broke, checked, and given its name only when it is whole."""

from __future__ import annotations

import dataclasses
import hashlib
import http.client
import os
import re
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from http.client import HTTPMessage
from pathlib import Path, PurePosixPath
from typing import IO

#: Seconds without a byte after which a connection counts as broken.
TIMEOUT_S = 30.0
#: Attempts in a row that bring nothing new before a file is given up.
ATTEMPTS = 5
#: The longest wait between two attempts; the first is 1 s, each further one twice as long.
LONGEST_WAIT_S = 30.0
_CHUNK = 1 << 18
#: Answers worth another try: the server's own trouble, or too many requests.
_PASSING = {408, 425, 429, 500, 502, 503, 504}

OnBytes = Callable[[int], None]


class TransferError(OSError):
    """A file could not be fetched; the message names its address, what happened, and what to do."""


@dataclasses.dataclass(frozen=True)
class RemoteFile:
    """A file as its publisher lists it. `path` is relative to the set's folder; `digest` is ("sha256", hex) or None."""

    path: str
    url: str
    digest: tuple[str, str] | None = None
    size: int | None = None


def safe_path(path: str, source: str) -> PurePosixPath:
    """A path that a server or an archive named, if it stays inside the folder it is meant for.

    Raises ValueError, naming `source`, for one that is absolute, climbs, or is none on some system.
    """
    parts = PurePosixPath(path)
    odd = set(path) & set('\\:*?"<>|') or any(ord(letter) < 32 for letter in path)
    if not path or odd or parts.is_absolute() or ".." in parts.parts or not parts.parts or len(path) > 512:
        raise ValueError(
            f"{source} names a file {path!r:.200}, which is no plain path inside the set; nothing is written"
        )
    return parts


def read_small(url: str, *, timeout_s: float = TIMEOUT_S, limit: int = 1 << 30, attempts: int = ATTEMPTS) -> bytes:
    """The content at `url`, a listing. Raises TransferError, also when it is longer than `limit` bytes."""
    trouble = ""
    for attempt in range(attempts):
        _wait(attempt)
        try:
            with _open(url, 0, timeout_s) as answer:
                content = answer.read(limit + 1)
                length = answer.headers.get("Content-Length")
            if len(content) > limit:
                raise TransferError(f"{url}: longer than {limit:,} bytes, which no listing is")
            if length is None or len(content) == int(length):
                return content
            trouble = f"{len(content):,} of {length} bytes came"
        except (OSError, http.client.HTTPException) as error:
            trouble = _explained(url, error)
    times = f", {attempts} times" if attempts > 1 else ""
    raise TransferError(f"{url}: {trouble}{times}; try again later")


def fetch(
    file: RemoteFile,
    target: Path,
    *,
    on_bytes: OnBytes = lambda _: None,
    timeout_s: float = TIMEOUT_S,
    attempts: int = ATTEMPTS,
) -> None:
    """Brings `file` to `target`, which appears only when it is whole and its checksum is right.

    A file that is there already and whole is left alone, another one is replaced. What an earlier call got lies beside
    it (`.NAME.part`) and is gone on with. `on_bytes` hears of every byte gained, and, negative, of those thrown away.
    Raises TransferError.
    """
    if target.is_file() and _whole(target, file) is None:
        on_bytes(target.stat().st_size)
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    part = target.with_name(f".{target.name}.part")
    held = part.stat().st_size if part.is_file() else 0
    on_bytes(held)
    trouble, idle, spoilt = "", 0, 0
    while idle < attempts:
        _wait(idle)
        try:
            done = _append(file, part, timeout_s, on_bytes)
            trouble = "the connection ended early"
        except (OSError, http.client.HTTPException) as error:
            done, trouble = False, _explained(file.url, error)
        now = part.stat().st_size if part.is_file() else 0
        idle, held = (0 if now > held else idle + 1), now
        if not done:
            continue
        wrong = _whole(part, file)
        if wrong is None:
            os.replace(part, target)
            return
        part.unlink()
        on_bytes(-now)
        trouble, held, spoilt = wrong, 0, spoilt + 1
        if spoilt == 2:  # once may be a bad resume; twice is the server's file
            raise TransferError(f"{file.url}: {wrong}, twice; the publisher's file or its listing is damaged")
    raise TransferError(
        f"{file.url}: {trouble}; {attempts} attempts in a row brought nothing. The same command goes on"
    )


def _append(file: RemoteFile, part: Path, timeout_s: float, on_bytes: OnBytes) -> bool:
    """Asks for what is missing and writes what comes; whether that is all. The part never holds a byte out of place."""
    have = part.stat().st_size if part.is_file() else 0
    if file.size is not None and have == file.size and have:
        return True
    try:
        answer = _open(file.url, have, timeout_s)
    except urllib.error.HTTPError as error:
        if error.code != 416 or not have:
            raise
        if error.headers.get("Content-Range", "").strip() == f"bytes */{have}":
            return True  # the whole file is here; its checksum is still to come
        part.unlink()
        on_bytes(-have)
        return False
    with answer:
        start, total = _placed(answer, have)
        if start != have:  # the server begins anew, or somewhere else
            part.unlink(missing_ok=True)
            on_bytes(-have)
            have = 0
            if start:
                return False
        limit = file.size if file.size is not None else total
        with part.open("ab") as out:
            while chunk := answer.read(_CHUNK):
                if limit is not None and have + len(chunk) > limit:
                    raise TransferError(f"{file.url}: more than the {limit:,} bytes announced")
                out.write(chunk)
                have += len(chunk)
                on_bytes(len(chunk))
    return limit is None or have == limit


def _placed(answer: http.client.HTTPResponse, have: int) -> tuple[int, int | None]:
    """Where in the file an answer begins, and the length of the whole file where it says so."""
    length = answer.headers.get("Content-Length")
    if answer.status != 206:
        return 0, int(length) if length is not None and length.isdigit() else None
    found = re.fullmatch(r"bytes (\d+)-(\d+)/(\d+|\*)", answer.headers.get("Content-Range", "").strip())
    if found is None:
        return -1, None
    return int(found[1]), None if found[3] == "*" else int(found[3])


def _whole(path: Path, file: RemoteFile) -> str | None:
    """What is wrong with a file that should be whole, or None."""
    size = path.stat().st_size
    if file.size is not None and size != file.size:
        return f"{size:,} bytes, the publisher lists {file.size:,}"
    if file.digest is None:
        return None
    name, expected = file.digest
    with path.open("rb") as content:
        found = hashlib.file_digest(content, name).hexdigest()
    return None if found == expected.lower() else f"{name} is {found}, the publisher lists {expected}"


class _SafeRedirects(urllib.request.HTTPRedirectHandler):
    """Follows a redirection to the web only, and never from https to plain http."""

    def redirect_request(
        self, req: urllib.request.Request, fp: IO[bytes], code: int, msg: str, headers: HTTPMessage, newurl: str
    ) -> urllib.request.Request | None:
        allowed = ("https://",) if req.full_url.startswith("https://") else ("https://", "http://")
        if not newurl.startswith(allowed):
            raise TransferError(f"{req.full_url}: redirected to {newurl!r:.200}, which is not followed")
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def _open(url: str, start: int, timeout_s: float) -> http.client.HTTPResponse:
    headers = {"User-Agent": "ecg-jax", "Accept-Encoding": "identity"}
    if start:
        headers["Range"] = f"bytes={start}-"
    opener = urllib.request.build_opener(_SafeRedirects)
    return opener.open(urllib.request.Request(url, headers=headers), timeout=timeout_s)


def _explained(url: str, error: Exception) -> str:
    """An error in words, where another try may help. Raises TransferError where none will."""
    if isinstance(error, TransferError):
        raise error
    if isinstance(error, urllib.error.HTTPError):
        error.close()
        if error.code in (401, 403):
            raise TransferError(f"{url}: the server refuses access ({error.code}); the set may need an account there")
        if error.code not in _PASSING:
            raise TransferError(f"{url}: the server answers {error.code} {error.reason}; its address may have changed")
        return f"the server answers {error.code} {error.reason}"
    reason = getattr(error, "reason", None) or error
    return f"no connection ({reason})" if isinstance(error, urllib.error.URLError) else f"broken off ({reason})"


def _wait(idle: int) -> None:
    if idle:
        time.sleep(min(2.0 ** (idle - 1), LONGEST_WAIT_S))
