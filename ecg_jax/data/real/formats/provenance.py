"""What the project's own generator exported says so in every header, and is refused as a recording of a patient."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from ecg_jax.data.storage.wfdb_writer import SYNTHETIC

#: What an EDF file says of its patient and recording, where converters put a WFDB record's name: bytes of its header.
_EDF_IDENTITY = slice(8, 168)
#: The name of an exported record, which other tools keep where they drop the comments.
_NAME = re.compile(r"\bsynthetic_[0-9]{6}\b")


def says_synthetic(header: str) -> bool:
    """Whether the text of a WFDB header, or of what an EDF file says of its patient, is that of a synthetic ECG."""
    return SYNTHETIC.lower() in header.lower() or _NAME.search(header) is not None


def edf_identity(path: Path) -> str:
    """What an EDF file says of its patient and recording."""
    with path.open("rb") as file:
        return file.read(_EDF_IDENTITY.stop)[_EDF_IDENTITY].decode("latin-1")


def refuse_synthetic(folder: Path, files: Sequence[Path], of: int) -> None:
    """Raises ValueError where any of a folder's `of` recordings, `files`, are synthetic."""
    if files:
        first = files[0].relative_to(folder).as_posix()
        raise ValueError(
            f"{folder}: {len(files):,} of {of:,} recordings say that they are synthetic, exported by this project's "
            f"generator, such as {first}: they are of no patient and no part of a real set; take them out of the folder"
        )
