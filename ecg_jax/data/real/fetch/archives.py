"""Takes the files out of a published archive; nothing in it can write outside the folder, or anything but a file."""

from __future__ import annotations

import io
import os
import shutil
import stat
import tarfile
import zipfile
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import IO

from ecg_jax.data.real.fetch.resumable import safe_path

SUFFIXES = (".zip", ".tar", ".tar.gz", ".tgz")
#: Bytes left free on the disk.
_RESERVE = 1 << 28


def is_archive(path: str) -> bool:
    """Whether a file's name says that it is an archive."""
    return path.endswith(SUFFIXES)


def extract(archive: Path, folder: Path) -> int:
    """Writes the files of a zip or tar archive below `folder` and returns how many; a file is there whole or not.

    Every name is checked before anything is written. Raises ValueError for a damaged archive, a name that leaves the
    folder, a link or a device, and OSError when the disk has no room for what it holds.
    """
    try:
        if zipfile.is_zipfile(archive):
            with zipfile.ZipFile(archive) as opened:
                return _extract_all(archive, folder, [_zip_member(archive, opened, info) for info in opened.infolist()])
        with tarfile.open(archive) as opened:
            return _extract_all(archive, folder, [_tar_member(archive, opened, info) for info in opened])
    except (zipfile.BadZipFile, tarfile.TarError, EOFError, NotImplementedError, RuntimeError) as error:
        raise ValueError(
            f"{archive} is damaged, or no zip or tar archive ({error}): remove it and fetch it again"
        ) from error


_Member = tuple[str, int, Callable[[], IO[bytes]]]  # path, bytes, and what opens it


def _zip_member(archive: Path, opened: zipfile.ZipFile, info: zipfile.ZipInfo) -> _Member | None:
    if info.is_dir():
        return None
    if stat.S_ISLNK(info.external_attr >> 16):
        raise ValueError(f"{archive}: {info.filename!r:.200} is a link; nothing is written")
    return str(safe_path(info.filename, str(archive))), info.file_size, lambda: opened.open(info)


def _tar_member(archive: Path, opened: tarfile.TarFile, info: tarfile.TarInfo) -> _Member | None:
    if info.isdir():
        return None
    if not info.isfile():
        raise ValueError(f"{archive}: {info.name!r:.200} is a link or a device; nothing is written")
    # None only for what is no file, and refused above.
    return str(safe_path(info.name, str(archive))), info.size, lambda: opened.extractfile(info) or io.BytesIO()


def _extract_all(archive: Path, folder: Path, members: Iterable[_Member | None]) -> int:
    files = [member for member in members if member is not None]
    needed, free = sum(size for _, size, _ in files), shutil.disk_usage(folder).free
    if needed + _RESERVE > free:
        raise OSError(f"{archive} holds {needed / 1e9:.1f} GB, {free / 1e9:.1f} GB are free in {folder}: make room")
    root = folder.resolve()
    for path, size, source in files:
        target = folder / path
        target.parent.mkdir(parents=True, exist_ok=True)
        if not target.parent.resolve().is_relative_to(root):  # a link that lay there before
            raise ValueError(f"{archive}: {path!r:.200} would be written outside {folder}; nothing more is written")
        _write(source(), target, size, archive)
    return len(files)


def _write(source: IO[bytes], target: Path, size: int, archive: Path) -> None:
    part = target.with_name(f".{target.name}.part")
    with source, part.open("wb") as out:
        for chunk in _chunks(source):
            if out.tell() + len(chunk) > size:
                raise ValueError(f"{archive}: {target.name} is longer than the {size:,} bytes announced")
            out.write(chunk)
        written = out.tell()
    if written != size:
        raise ValueError(f"{archive}: {target.name} has {written:,} of {size:,} bytes; remove it and fetch it again")
    os.replace(part, target)


def _chunks(source: IO[bytes]) -> Iterator[bytes]:
    while chunk := source.read(1 << 20):
        yield chunk
