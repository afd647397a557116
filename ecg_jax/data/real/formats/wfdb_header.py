"""What a WFDB header says: WFDB Applications Guide, header(5).

    NAME[/SEGMENTS] LEADS [RATE[/COUNTER[(BASE)]] [SAMPLES [TIME [DATE]]]]
    FILE FORMAT[xPER_FRAME][:SKEW][+OFFSET] [GAIN[(BASELINE)][/UNIT] [BITS [ZERO [FIRST [CHECKSUM [BLOCK [NAME]]]]]]]

`wfdb` reads headers too; this reader exists because that one puts 200 where a gain is unknown, drops what is not ASCII
(the "µ" of a microvolt), and stops at dates, of which nothing here depends. It also takes a tenth of the time.
"""

from __future__ import annotations

import dataclasses
import math
import re
from collections.abc import Sequence
from pathlib import Path

from ecg_jax.data.real.formats.text import decoded

#: Samples per second where a header states none, by header(5).
DEFAULT_RATE_HZ = 250.0
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?")
_WHOLE = re.compile(r"[+-]?\d+(\.0*)?")
_FORMAT = re.compile(r"(?P<format>\d{1,9})(?P<more>(x\d{1,9}|:-?\d{1,9}|\+\d{1,18})*)")
_GAIN = re.compile(r"(?P<gain>[^(/]*)(\((?P<baseline>[^()]*)\))?(/(?P<unit>.*))?")
#: What stands around the fields of a line: blanks, and what DOS ends a file with.
_AROUND = " \t\f\v\0\x1a"


@dataclasses.dataclass(frozen=True, slots=True)
class Signal:
    """A signal's line. `gain` (steps per unit) is None where the header gives none, or 0: the amplitude is unknown.

    `checksum` is None where it is not given, or 0: so write those who do not compute it.
    """

    name: str
    file: str
    format: str
    per_frame: int
    skew: int  # frames by which the signal lags behind in its file
    offset: int | None  # bytes before the first sample
    gain: float | None
    baseline: float  # the step of 0 units
    unit: str
    zero: int  # the step of the middle of the converter's range
    first: int  # the value before the first difference, in format 8
    checksum: int | None


@dataclasses.dataclass(frozen=True, slots=True)
class Header:
    """A header. `segments` is 0 for a recording that is one; `frames` is None where the length is not stated, or 0."""

    name: str
    segments: int
    rate_hz: float  # frames per second
    frames: int | None
    signals: tuple[Signal, ...]
    comments: tuple[str, ...]


def read_header(path: Path) -> Header:
    """The header in a file. Raises ValueError, as "header: details", for one that is none, and names the field."""
    header_lines: list[tuple[int, str]] = []
    comments: list[str] = []
    for number, line in enumerate(re.split(rb"\r\n|\n|\r", path.read_bytes()), start=1):
        text = decoded(line).strip(_AROUND)
        if text.startswith("#"):
            comments.append(text.strip(" \t#"))
        elif text:
            header_lines.append((number, text))
    if not header_lines:
        raise ValueError(f"header: {path.name} is empty")
    try:
        return _parsed(header_lines, comments)
    except _FieldError as error:
        raise ValueError(f"header: {path.name} is no WFDB header: {error}") from error


class _FieldError(Exception):
    """A field that is not what it must be."""


def _parsed(lines: Sequence[tuple[int, str]], comments: Sequence[str]) -> Header:
    number, record_line = lines[0]
    words = [*record_line.split(), "", "", ""]
    name, _, segments = words[0].partition("/")
    count = _whole(words[1], f"line {number}: the number of leads")
    rate = re.split(r"[/(]", words[2])[0]
    # What is no number is already the time, or the date: some writers state no length.
    frames = _whole(words[3], f"line {number}: the number of samples") if _NUMBER.fullmatch(words[3]) else 0
    if segments:
        signals: tuple[Signal, ...] = ()
        segment_count = _whole(segments, f"line {number}: the number of segments, after the / in {words[0]!r:.80},")
    else:
        segment_count = 0
        if count != len(lines) - 1:
            raise _FieldError(f"line {number} announces {count} leads, {len(lines) - 1} lines describe some")
        signals = tuple(_signal(text, f"line {number}") for number, text in lines[1:])
    return Header(
        name=name,
        segments=segment_count,
        rate_hz=_number(rate, f"line {number}: the sampling rate") if rate else DEFAULT_RATE_HZ,
        frames=frames or None,
        signals=signals,
        comments=tuple(comments),
    )


def _signal(text: str, where: str) -> Signal:
    """One signal's line. What follows the gain is given from the left, as far as it is; the name is all the rest."""
    file, form, rest = [*re.split(r"\s+", text, maxsplit=2), "", ""][:3]
    found = _FORMAT.fullmatch(form)
    if found is None:
        raise _FieldError(f"{where}: the storage format is {form!r:.80}")
    more = {part[0]: int(part[1:]) for part in re.findall(r"[x:+]-?\d+", found["more"])}
    if more.get("x", 1) < 1 or more.get(":", 0) < 0:
        raise _FieldError(f"{where}: {form!r:.80} holds no frames, or a skew below 0")
    gain, baseline, unit, rest = _gain(rest, where)
    whole: list[int] = []  # resolution, zero, first value, checksum, block size
    while len(whole) < 5 and (word := re.match(r"([+-]?\d{1,18})(\.0*)?(\s+|$)", rest)):
        whole.append(int(word[1]))
        rest = rest[word.end() :]
    _, zero, first, checksum = [*whole, None, None, None, None][:4]
    return Signal(
        name=rest.strip(),
        file=file,
        format=found["format"],
        per_frame=more.get("x", 1),
        skew=more.get(":", 0),
        offset=more.get("+"),
        gain=gain,
        baseline=(zero or 0) if baseline is None else baseline,
        unit=unit,
        zero=zero or 0,
        first=(zero or 0) if first is None else first,
        checksum=checksum or None,
    )


def _gain(rest: str, where: str) -> tuple[float | None, float | None, str, str]:
    """Gain, baseline and unit from the front of `rest`, and what follows; without a gain, all of it follows."""
    word, after = [*re.split(r"\s+", rest, maxsplit=1), ""][:2]
    found = _GAIN.fullmatch(word)
    stated = found["gain"] if found else word
    is_gain = not stated or stated.lower().strip("+-") in ("nan", "inf") or _NUMBER.fullmatch(stated)
    if not word or (not is_gain and not re.search(r"^[\d.+-]|[(/]", word)):
        return None, None, "mV", rest  # a name
    if found is None or not is_gain:
        raise _FieldError(f"{where}: the gain is {word!r:.80}")
    gain = float(stated or 0)
    baseline = None if found["baseline"] in (None, "") else _number(found["baseline"], f"{where}: the baseline")
    return gain if gain and math.isfinite(gain) else None, baseline, found["unit"] or "mV", after


def _number(text: str, what: str) -> float:
    if not _NUMBER.fullmatch(text) or not math.isfinite(float(text)):
        raise _FieldError(f"{what} is {text!r:.80}, which is no number")
    return float(text)


def _whole(text: str, what: str) -> int:
    if not _WHOLE.fullmatch(text) or len(text) > 18 or float(text) < 0:
        raise _FieldError(f"{what} is {text!r:.80}, which is no whole number")
    return int(float(text))
