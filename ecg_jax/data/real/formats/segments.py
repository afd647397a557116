"""Recordings in several segments: a header that names records, which follow each other in time and are one person's.

WFDB Applications Guide, header(5). A segment is no recording of its own: it is read as a part of the one that names it.
Of a variable layout, the first segment has length 0 and tells the signals of all; each has those that it names itself.
"""

from __future__ import annotations

import contextlib
import dataclasses
import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import NamedTuple

import numpy as np

from ecg_jax.data.lead_names import Choose, lead_of
from ecg_jax.data.real.formats.amplitude import millivolts
from ecg_jax.data.real.formats.text import decoded
from ecg_jax.data.real.formats.wfdb_header import Header, Signal, read_header
from ecg_jax.data.real.formats.wfdb_record import WfdbRecord, beside, read_record

#: The name of a segment that was not recorded.
GAP = "~"


@dataclasses.dataclass(frozen=True)
class Parts:
    """Which records are segments (`part_of`: of which recording), and which recordings share segments with another
    (`same`: one of them, for each of the others), and so a patient."""

    part_of: Mapping[str, str]
    same: Mapping[str, str]


def segment_lines(header: str) -> list[list[str]]:
    """The words of each line on a segment in the text of a header, first its name, which some write as that of its
    header; none for a recording in one piece."""
    lines = _lines(header)
    segments = lines[1:] if lines and "/" in lines[0][0] else []
    return [[re.sub(r"\.hea$", "", words[0], flags=re.IGNORECASE), *words[1:]] for words in segments]


def _lines(header: str) -> list[list[str]]:
    """The words of each line in the text of a header that is no comment."""
    # Not splitlines, for which a line of a comment ends at what Windows writes for "…".
    return [words for line in re.split("[\r\n]", header) if (words := line.split()) and not words[0].startswith("#")]


def segment_names(header: str) -> tuple[str, ...]:
    """The records that the text of a header names as its segments; none for a recording in one piece."""
    return tuple(words[0] for words in segment_lines(header) if words[0] != GAP)


def named_files(path: Path) -> Iterator[Path]:
    """What the recording with the header `path` lies in beside it, as far as it is there: its files of signals, or its
    segments' headers and files of signals."""
    header = decoded(path.read_bytes())
    segments = segment_names(header)
    for segment in _there(path, [f"{name}.hea" for name in segments]):
        yield segment
        yield from _there(segment, [words[0] for words in _lines(decoded(segment.read_bytes()))[1:]])
    if not segments:
        yield from _there(path, [words[0] for words in _lines(header)[1:]])


def _there(path: Path, names: Iterable[str]) -> Iterator[Path]:
    for name in dict.fromkeys(names):
        with contextlib.suppress(ValueError):
            yield beside(path, name)


def parts_among(records: Collection[str], segments: Mapping[str, tuple[str, ...]]) -> Parts:
    """What belongs together among `records`, paths of headers, some of which name `segments` beside them."""
    spelled: dict[str, list[str]] = {}  # a header may name a file in another case than a system gave it
    for record in records:
        spelled.setdefault(record.lower(), []).append(record)
    owner: dict[str, str] = {}
    same: dict[str, str] = {}
    for record, names in segments.items():
        for name in names:
            segment = "" if "/" in name else PurePosixPath(record).with_name(name).as_posix()
            if segment not in records and len(alike := spelled.get(segment.lower(), [])) == 1:
                segment = alike[0]
            if segment in records and segment not in segments:
                first, second = root(same, owner.setdefault(segment, record)), root(same, record)
                same |= {second: first} if first != second else {}
    return Parts(owner, same)


def root(same: Mapping[str, str], record: str) -> str:
    """The one by which recordings of one person are known."""
    while record in same:
        record = same[record]
    return record


def read_wfdb(path: Path, choose: Choose, seconds: int | None = None) -> WfdbRecord:
    """A WFDB recording as `read_record` gives it, whether it is in one piece or in several segments.

    Of several segments only those are read that begin in the first `seconds` or at their end, all where None. A signal
    that a segment lacks, and a gap between segments, is NaN. Raises ValueError as `read_record` does, and for segments
    that are not there, of another rate or length than stated, or whose signals do not fit each other.
    """
    text = decoded(path.read_bytes())
    if not segment_lines(text):
        return read_record(path, choose)
    header = read_header(path)
    parts = []
    begins = 0
    for segment in _stated(header, segment_lines(text), path):
        if seconds is not None and begins > seconds * header.rate_hz:
            break
        if segment.frames:
            parts.append((segment, None if segment.name == GAP else _read(segment, header, path)))
            begins += segment.frames
    return _joined(parts, header, choose, path)


class Segment(NamedTuple):
    """A segment as its recording states it."""

    name: str
    frames: int


def _stated(header: Header, lines: Sequence[Sequence[str]], path: Path) -> list[Segment]:
    if len(lines) != header.segments:
        raise ValueError(f"header: {path.name} announces {header.segments} segments, {len(lines)} lines name some")
    for words in lines:
        if len(words) < 2 or not words[1].isascii() or not words[1].isdigit():
            raise ValueError(f"header: {path.name} states no length of segment {words[0]!r:.80}")
    segments = [Segment(words[0], int(words[1])) for words in lines]
    total = sum(segment.frames for segment in segments)
    if header.frames not in (None, total):
        raise ValueError(f"header: {path.name} announces {header.frames} samples, its segments have {total}")
    return segments


def _read(segment: Segment, header: Header, path: Path) -> WfdbRecord:
    """All signals of a segment, as long as stated."""
    record = read_record(beside(path, f"{segment.name}.hea"), lambda names: range(len(names)), seconds=0)
    per_frame = record.rate_hz / header.rate_hz
    if not per_frame.is_integer() or len(record.samples) != segment.frames * per_frame:
        raise ValueError(
            f"header: segment {segment.name} has {len(record.samples)} samples at {record.rate_hz:g} Hz, {path.name} "
            f"states {segment.frames} at {header.rate_hz:g} Hz"
        )
    return record


def _joined(
    parts: Sequence[tuple[Segment, WfdbRecord | None]], header: Header, choose: Choose, path: Path
) -> WfdbRecord:
    """Segments one after the other: a column for each signal that any of them has, of which `choose` picks."""
    records = [record for _, record in parts if record is not None]
    rates = {record.rate_hz for record in records}
    if len(rates) != 1:
        raise ValueError(f"rate: the segments of {path.name} have {sorted(rates)} Hz, expected one rate")
    (rate_hz,) = rates
    signals: dict[tuple[str, int], Signal] = {}
    for record in records:
        for key, signal in zip(_keys(record.signals), record.signals, strict=True):
            signals.setdefault(key, signal)
    chosen = [list(signals)[k] for k in choose([signal.name for signal in signals.values()])]
    pieces = []
    for segment, part in parts:
        piece = np.full((round(segment.frames * rate_hz / header.rate_hz), len(chosen)), np.nan)
        pieces.append(piece)
        if part is None:
            continue
        for k, key in enumerate(_keys(part.signals)):
            if key in chosen:
                piece[:, chosen.index(key)] = part.samples[:, k] * _in_unit_of(signals[key], part.signals[k], path)
    comments = (*header.comments, *(comment for record in records for comment in record.comments))
    return WfdbRecord(rate_hz, np.concatenate(pieces), tuple(signals[key] for key in chosen), comments)


def _keys(signals: Sequence[Signal]) -> list[tuple[str, int]]:
    """What each signal is known by in all segments: the lead that it means, or its name, and which one of several."""
    names = [lead_of(signal.name) or signal.name.strip() for signal in signals]
    return [(name, names[:place].count(name)) for place, name in enumerate(names)]


def _in_unit_of(first: Signal, signal: Signal, path: Path) -> float:
    """What brings a signal of a segment to the unit that it has in the first."""
    if (first.gain is None) != (signal.gain is None):
        raise ValueError(f"gain: {signal.name} has one in some segments of {path.name}, and none in others")
    if first.gain is None and (first.baseline, first.unit) != (signal.baseline, signal.unit):
        raise ValueError(f"gain: none for {signal.name}, whose baselines differ between the segments of {path.name}")
    return 1.0 if first.unit == signal.unit else millivolts(signal.unit) / millivolts(first.unit)
