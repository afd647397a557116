"""One recording from an EDF file (Kemp et al., Electroencephalogr Clin Neurophysiol 82:391, 1992) or an EDF+ file (Kemp
and Olivan, Clin Neurophysiol 114:1755, 2003).

Read field by field, because only some fields decide what the samples are: accents in a name, a start time with colons
or a channel that nobody uses lose no recording.
"""

from __future__ import annotations

import dataclasses
import re
from fractions import Fraction
from pathlib import Path

import numpy as np

from ecg_jax.data.lead_names import Choose
from ecg_jax.data.real.formats.checks import SECONDS, check_rate_and_length
from ecg_jax.data.real.formats.text import decoded

#: Widths of the fields that each signal has, in their order in the file.
_SIGNAL_FIELDS = {
    "label": 16, "transducer": 80, "unit": 8, "physical minimum": 8, "physical maximum": 8, "digital minimum": 8,
    "digital maximum": 8, "prefilter": 80, "samples per data record": 8, "reserved": 32,
}  # fmt: skip
_FIXED_BYTES, _SIGNAL_BYTES = 256, sum(_SIGNAL_FIELDS.values())
#: The time of a data record: the first text of its first annotations (EDF+, 2.2.4).
_RECORD_TIME = re.compile(rb"([+-]\d+(?:\.\d*)?)\x14")
#: A rate may miss a whole number by what the eight characters of a duration cannot hold.
_RATE_TOLERANCE = 1e-5


@dataclasses.dataclass(frozen=True, slots=True)
class Signal:
    """A signal's fields. `gain` (steps per unit) is None where the limits tell none: the amplitude is unknown."""

    name: str
    unit: str
    gain: float | None
    per_record: int
    first: int  # the place of its first sample in a data record
    digital_minimum: float
    physical_minimum: float


@dataclasses.dataclass(frozen=True, slots=True)
class _File:
    """The layout of a file: where its data records begin, their size in samples, number and length."""

    begins: int
    record_samples: int
    records: int
    seconds: Fraction
    is_discontinuous: bool
    fields: tuple[dict[str, str], ...]
    starts: tuple[int, ...]


@dataclasses.dataclass(frozen=True)
class EdfRecord:
    """The first ten seconds of chosen signals: `(samples, signals)` float64 in the unit of each (in steps of the
    converter where it has no gain). `seconds` is how long the recording is."""

    rate_hz: float
    samples: np.ndarray
    signals: tuple[Signal, ...]
    seconds: float


def read_edf(path: Path, choose: Choose) -> EdfRecord:
    """The first ten seconds of the signals that `choose` picks by their names.

    Raises ValueError, as "reason: details", for a file that is no EDF, is cut off, or has a gap in these seconds, and
    for chosen signals that differ in rate, or whose fields are not what they must be.
    """
    file = _read_layout(path)
    chosen = list(choose([fields["label"] for fields in file.fields]))
    signals = tuple(_signal(file, k, path) for k in chosen)
    per_record = {signal.per_record for signal in signals}
    if len(per_record) > 1:
        rates = sorted(float(count / file.seconds) for count in per_record)
        raise ValueError(f"rate: the leads of {path.name} have {rates} Hz")
    count = per_record.pop()
    rate_hz = float(count / file.seconds)
    if abs(rate_hz - round(rate_hz)) < _RATE_TOLERANCE * rate_hz:
        rate_hz = round(rate_hz)
    check_rate_and_length(rate_hz, file.records * count, path.name)
    records = -(-SECONDS * int(rate_hz) // count)
    data = np.fromfile(path, "<i2", records * file.record_samples, offset=file.begins).reshape(records, -1)
    if file.is_discontinuous:
        _check_continuous(file, data, 0.5 / rate_hz, path)
    columns = [_physical(signal, data[:, signal.first : signal.first + count].ravel()) for signal in signals]
    samples = np.stack(columns, axis=1)[: SECONDS * int(rate_hz)]
    return EdfRecord(rate_hz, samples, signals, seconds=file.records * count / rate_hz)


def _read_layout(path: Path) -> _File:
    with path.open("rb") as opened:
        fixed = opened.read(_FIXED_BYTES)
        if len(fixed) < _FIXED_BYTES or _text(fixed[:8]) != "0":
            raise ValueError(f"unreadable: {path.name} is no EDF file: it does not begin with the version 0")
        count = _whole(fixed[252:256], "the number of signals", path)
        described = opened.read(count * _SIGNAL_BYTES)
    begins = _whole(fixed[184:192], "the size of the header", path)
    if begins < _FIXED_BYTES + count * _SIGNAL_BYTES or len(described) < count * _SIGNAL_BYTES:
        raise ValueError(f"unreadable: {path.name} is no EDF file: its header of {begins} bytes has {count} signals")
    fields = _signal_fields(described, count)
    samples = [_whole(each["samples per data record"], f"the samples of {each['label']}", path) for each in fields]
    record_samples = sum(samples)
    seconds = _number(_text(fixed[244:252]))
    if not record_samples or not seconds or seconds < 0:
        raise ValueError(
            f"header: {path.name}: data records of {record_samples} samples and {_text(fixed[244:252])!r} s"
        )
    held = (path.stat().st_size - begins) // (2 * record_samples)
    stated = _number(_text(fixed[236:244]) or "-1")
    if stated is None:
        raise ValueError(f"header: {path.name} announces {_text(fixed[236:244])!r} data records, expected a number")
    if stated > held:
        raise ValueError(f"truncated: {path.name} announces {_text(fixed[236:244])!r} data records, {held} are there")
    return _File(
        begins=begins,
        record_samples=record_samples,
        records=int(stated) if stated > 0 else held,  # -1 while it was being recorded
        seconds=seconds,
        is_discontinuous=_text(fixed[192:236]).upper().startswith("EDF+D"),
        fields=fields,
        starts=tuple(sum(samples[:k]) for k in range(count)),
    )


def _signal_fields(described: bytes, count: int) -> tuple[dict[str, str], ...]:
    """Every signal's fields: a file has each field of all signals, then the next."""
    fields: list[dict[str, str]] = [{} for _ in range(count)]
    place = 0
    for name, width in _SIGNAL_FIELDS.items():
        for signal in fields:
            signal[name] = _text(described[place : place + width])
            place += width
    return tuple(fields)


def _signal(file: _File, k: int, path: Path) -> Signal:
    fields = file.fields[k]
    low, high = _number(fields["digital minimum"]), _number(fields["digital maximum"])
    bottom, top = _number(fields["physical minimum"]), _number(fields["physical maximum"])
    stated = [limit for limit in (low, high) if limit is not None]
    if sorted(stated) != stated or any(limit.denominator > 1 or not -32768 <= limit <= 32767 for limit in stated):
        raise ValueError(
            f"header: {path.name}: the digital limits of {fields['label']} are {fields['digital minimum']!r} to "
            f"{fields['digital maximum']!r}, expected a minimum and a maximum of 16 bits"
        )
    gain, lowest = None, (0.0, 0.0)
    if not (low is None or high is None or bottom is None or top is None or low == high or bottom == top):
        gain, lowest = float((high - low) / (top - bottom)), (float(low), float(bottom))
    return Signal(
        name=fields["label"],
        unit=fields["unit"],
        gain=gain,
        per_record=int(fields["samples per data record"]),
        first=file.starts[k],
        digital_minimum=lowest[0],
        physical_minimum=lowest[1],
    )


def _physical(signal: Signal, steps: np.ndarray) -> np.ndarray:
    return (steps - signal.digital_minimum) / (signal.gain or 1.0) + signal.physical_minimum


def _check_continuous(file: _File, data: np.ndarray, tolerance_s: float, path: Path) -> None:
    """Raises ValueError unless each data record of a discontinuous file begins where the one before it ends."""
    marks = [k for k, fields in enumerate(file.fields) if fields["label"].upper() == "EDF ANNOTATIONS"]
    if not marks:
        raise ValueError(f"discontinuous: {path.name} is an EDF+D without the times of its data records")
    first = file.starts[marks[0]]
    length = int(file.fields[marks[0]]["samples per data record"])
    times = []
    for number, record in enumerate(data):
        found = _RECORD_TIME.match(record[first : first + length].tobytes())
        if found is None:
            raise ValueError(f"discontinuous: {path.name} does not tell when its data record {number} begins")
        times.append(float(found[1]))
        expected = times[0] + number * float(file.seconds)
        if abs(times[-1] - expected) > tolerance_s:
            raise ValueError(
                f"discontinuous: data record {number} of {path.name} begins at {times[-1]:g} s, the one before it "
                f"ends at {expected:g} s"
            )


def _text(raw: bytes) -> str:
    return decoded(raw).strip(" \t\0")


def _number(text: str) -> Fraction | None:
    """A number as EDF writes it, or with a decimal comma, as some systems do; None for anything else.

    "1,000" may be one or a thousand: it is none.
    """
    if re.fullmatch(r"[+-]?\d*,\d*", text) and not re.fullmatch(r"[+-]?[1-9]\d{0,2},\d{3}", text):
        text = text.replace(",", ".")
    return Fraction(text) if re.fullmatch(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?0*\d{1,2})?", text) else None


def _whole(raw: bytes | str, what: str, path: Path) -> int:
    text = raw if isinstance(raw, str) else _text(raw)
    if not re.fullmatch(r"\d{1,8}", text):
        raise ValueError(f"unreadable: {path.name} is no EDF file: {what} is {text!r:.80}, expected a whole number")
    return int(text)
