"""Arrays of an `.npz` that anyone may have written: what each one is, is read and compared before any content is.

Only what NumPy's `savez` writes is taken: stored, not compressed, so that nothing can be larger in memory than on the
disk; numbers and text, never Python objects.
"""

from __future__ import annotations

import dataclasses
import hashlib
import math
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, TypeVar

import numpy as np

_READ_HEADER = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
_PIECE = 1 << 22

Kind = TypeVar("Kind")


@dataclasses.dataclass(frozen=True)
class Stored:
    """An array of an `.npz`: its form, and where its content begins in the file."""

    path: Path
    name: str
    dtype: np.dtype
    shape: tuple[int, ...]
    order: Literal["C", "F"]
    offset: int

    def mapped(self) -> np.ndarray:
        """The array, read from the disk as it is used; not to be written."""
        return np.memmap(self.path, self.dtype, "r", self.offset, self.shape, self.order)

    def read(self) -> np.ndarray:
        """The array in memory."""
        with self.path.open("rb") as file:
            file.seek(self.offset)
            flat = np.fromfile(file, self.dtype, math.prod(self.shape))
        return flat.reshape(self.shape, order=self.order)


def stored_arrays(path: Path) -> dict[str, Stored]:
    """What the archive at `path` holds, by name; no content is read.

    Raises FileNotFoundError, and ValueError for what is no archive, is damaged or compressed, or holds other things
    than arrays of numbers or text.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            entries = sorted(archive.infolist(), key=lambda entry: entry.filename != "ecg.npy")
            names = [entry.filename.removesuffix(".npy") for entry in entries]
            if len(set(names)) < len(names) or not all(entry.filename.endswith(".npy") for entry in entries):
                raise ValueError(f"it holds {', '.join(entry.filename for entry in entries)[:200]}: arrays, once each")
            for name, entry in zip(names, entries, strict=True):
                if entry.compress_type != zipfile.ZIP_STORED or entry.compress_size != entry.file_size:
                    raise ValueError(f"its {'signals' if name == 'ecg' else name} are compressed")
            return {name: _stored(path, archive, entry, name) for name, entry in zip(names, entries, strict=True)}
    except (zipfile.BadZipFile, EOFError, RuntimeError, NotImplementedError, SyntaxError, TypeError) as error:
        raise ValueError(str(error)) from error


def _stored(path: Path, archive: zipfile.ZipFile, entry: zipfile.ZipInfo, name: str) -> Stored:
    with archive.open(entry) as content:
        version = np.lib.format.read_magic(content)
        if version not in _READ_HEADER:
            raise ValueError(f"{name} is written in NumPy's format {version}, which is not read here")
        shape, fortran, dtype = _READ_HEADER[version](content)
        begins = content.tell()
    if dtype.hasobject or dtype.kind not in "biufcU":
        raise ValueError(f"{name} is an array of {dtype}: no numbers, no text; nothing is unpickled (allow_pickle)")
    if not all(type(count) is int and count >= 0 for count in shape):
        raise ValueError(f"{name} says that it is of shape {shape}")
    size = dtype.itemsize * math.prod(shape)
    if size != entry.file_size - begins:
        raise ValueError(
            f"{name} of shape {shape} is {size:,} bytes, the file holds {entry.file_size - begins:,} of it"
        )
    with path.open("rb") as file:  # the entry's own header is of any length
        file.seek(entry.header_offset + 26)
        lengths = int.from_bytes(file.read(2), "little") + int.from_bytes(file.read(2), "little")
    return Stored(path, name, dtype, shape, "F" if fortran else "C", entry.header_offset + 30 + lengths + begins)


def checksums(path: Path) -> dict[str, str]:
    """The SHA-256 of every array in the archive at `path`, its form included, read a piece at a time.

    Raises ValueError where the archive's own checksums do not fit its content.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            return {entry.filename.removesuffix(".npy"): _digest(archive, entry) for entry in archive.infolist()}
    except (zipfile.BadZipFile, EOFError, RuntimeError, NotImplementedError) as error:
        raise ValueError(str(error)) from error


def _digest(archive: zipfile.ZipFile, entry: zipfile.ZipInfo) -> str:
    digest = hashlib.sha256()
    with archive.open(entry) as content:
        while piece := content.read(_PIECE):
            digest.update(piece)
    return digest.hexdigest()


def check(arrays: Mapping[str, Stored], expected: Mapping[str, tuple[str, tuple[int | None, ...]]]) -> None:
    """Raises ValueError unless `arrays` are those named, each of one of the kinds given ("iu": whole numbers) and of
    the shape given, where None is any length."""
    if arrays.keys() != expected.keys():
        missing, more = sorted(expected.keys() - arrays.keys()), sorted(arrays.keys() - expected.keys())
        raise ValueError(f"it lacks {', '.join(missing) or 'nothing'} and holds {', '.join(more) or 'nothing'} besides")
    for name, (kinds, shape) in expected.items():
        found = arrays[name]
        fits = len(found.shape) == len(shape) and all(n in (None, m) for n, m in zip(shape, found.shape))
        if found.dtype.kind not in kinds or not fits:
            wanted = ", ".join("any" if n is None else str(n) for n in shape)
            raise ValueError(f"{name} is {found.dtype}{found.shape}, expected numpy kind {kinds!r} of shape ({wanted})")


def field(tree: Any, name: str, kind: type[Kind], *, least: int | None = None) -> Kind:
    """`tree[name]` of exactly that type, and not less than `least`. Raises ValueError, naming the field, otherwise."""
    if not isinstance(tree, dict):
        raise ValueError(f"its description is {type(tree).__name__}, no set of fields")
    if name not in tree:
        raise ValueError(f"its description has no {name}")
    value = tree[name]
    if type(value) is not kind or (least is not None and isinstance(value, int) and value < least):
        bound = "" if least is None else f" of at least {least}"
        raise ValueError(f"its {name} is {value!r:.60}, expected {kind.__name__}{bound}")
    return value
