"""Recordings in several segments: a header that names records, which follow each other in time and are one person's.

WFDB Applications Guide, header(5). A segment is no recording of its own: it is read as a part of the one that names it.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Mapping
from pathlib import PurePosixPath

#: The name of a segment that was not recorded.
GAP = "~"


@dataclasses.dataclass(frozen=True)
class Parts:
    """Which records are segments (`part_of`: of which recording), and which recordings share segments with another
    (`same`: one of them, for each of the others), and so a patient."""

    part_of: Mapping[str, str]
    same: Mapping[str, str]


def segment_names(header: str) -> tuple[str, ...]:
    """The records that the text of a header names as its segments; none for a recording in one piece."""
    lines = [line.split() for line in header.splitlines()]
    first, *others = [words[0] for words in lines if words and not words[0].startswith("#")] or [""]
    return tuple(name for name in others if name != GAP) if "/" in first else ()


def parts_among(records: Collection[str], segments: Mapping[str, tuple[str, ...]]) -> Parts:
    """What belongs together among `records`, paths of headers, some of which name `segments` beside them."""
    owner: dict[str, str] = {}
    same: dict[str, str] = {}
    for record, names in segments.items():
        for name in names:
            segment = "" if "/" in name else PurePosixPath(record).with_name(name).as_posix()
            if segment in records and segment not in segments:
                first, second = root(same, owner.setdefault(segment, record)), root(same, record)
                same |= {second: first} if first != second else {}
    return Parts(owner, same)


def root(same: Mapping[str, str], record: str) -> str:
    """The one by which recordings of one person are known."""
    while record in same:
        record = same[record]
    return record
