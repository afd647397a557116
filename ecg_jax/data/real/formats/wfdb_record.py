"""A WFDB recording from its header and the signal files beside it.

Samples are decoded by `wfdb`; what they mean (length, skew, frames, checksums, missing ones) is said by the header and
done here, where `wfdb` averages missing samples with others, or stops.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import numpy as np

from ecg_jax.data.exclusions import first_line
from ecg_jax.data.lead_names import Choose
from ecg_jax.data.real.formats.checks import FASTEST_HZ, SECONDS, check_rate_and_length
from ecg_jax.data.real.formats.provenance import says_synthetic
from ecg_jax.data.real.formats.wfdb_header import Header, Signal, read_header
from ecg_jax.extras import needs

with needs("real"):
    import soundfile
    from wfdb.io import _signal as decoder

#: Bytes per sample of the storage formats, signal(5); 508, 516 and 524 are FLAC, of any length.
_BYTES = {
    "8": Fraction(1), "80": Fraction(1), "16": Fraction(2), "61": Fraction(2), "160": Fraction(2), "24": Fraction(3),
    "32": Fraction(4), "212": Fraction(3, 2), "310": Fraction(4, 3), "311": Fraction(4, 3),
}  # fmt: skip
_FLAC = ("508", "516", "524")
#: Of a skewed signal the last samples lie beyond the end of its file: so much is continued, more is missing.
CONTINUED_S = 0.01


@dataclasses.dataclass(frozen=True)
class WfdbRecord:
    """Chosen signals of a recording: `(samples, signals)` float64 in the unit of each (in steps of the converter where
    it has no gain), NaN where missing, and the lines that describe them."""

    rate_hz: float
    samples: np.ndarray
    signals: tuple[Signal, ...]
    comments: tuple[str, ...]

    @property
    def seconds(self) -> float:
        """How long it is."""
        return len(self.samples) / self.rate_hz


def read_record(path: Path, choose: Choose, seconds: float = SECONDS) -> WfdbRecord:
    """The signals that `choose` picks by their names from the recording whose header is `path`.

    Skewed signals are aligned. Signals of several samples per frame are read at their own rate where all that are
    chosen have the same (and are more than copies of one), and otherwise averaged over each frame.

    Raises ValueError, as "reason: details", for a recording that cannot be used: several segments, signals that do not
    lie beside the header, a rate or a length (of `seconds`) that does not suffice, a checksum that is not that of the
    file's samples, a synthetic ECG.
    """
    header = checked_header(path)
    if says_synthetic("\n".join((header.name, *header.comments))):
        raise ValueError(f"synthetic: {path.name} says that it was exported by this project's generator")
    chosen = list(choose([signal.name for signal in header.signals]))
    files = {file: _members(header, file, path) for file in dict.fromkeys(header.signals[k].file for k in chosen)}
    places = {file: beside(path, file) for file in files}
    frames = header.frames or _frames_held(header, files, places, path)
    signals = tuple(header.signals[k] for k in chosen)
    per_frame = _kept_per_frame(signals, header.rate_hz)
    check_rate_and_length(header.rate_hz * per_frame, frames * per_frame, path.name, seconds)
    decoded: dict[int, np.ndarray] = {}
    for file, members in files.items():
        described = [header.signals[k] for k in members]
        for k, steps in zip(members, _decoded(described, frames, places[file], path), strict=True):
            _compare_checksum(header.signals[k], steps)
            decoded[k] = steps
    signals = tuple(_without_shift(signal, decoded[k]) for signal, k in zip(signals, chosen, strict=True))
    values = [_physical(signal, decoded[k], header.rate_hz) for signal, k in zip(signals, chosen, strict=True)]
    if per_frame > 1 and all(_is_repeated(column.reshape(frames, per_frame)) for column in values):
        per_frame = 1
    samples = np.empty((frames * per_frame, len(chosen)))
    for column, of_signal in enumerate(values):
        samples[:, column] = of_signal.reshape(frames * per_frame, -1).mean(axis=1)
    return WfdbRecord(header.rate_hz * per_frame, samples, signals, header.comments)


def _kept_per_frame(signals: Sequence[Signal], rate_hz: float) -> int:
    """The samples of each frame that are kept apart: all, where every signal has as many and no rate is too fast."""
    per_frame = {signal.per_frame for signal in signals}
    return per_frame.pop() if len(per_frame) == 1 and rate_hz * max(per_frame) <= FASTEST_HZ else 1


def _is_repeated(frames_FxN: np.ndarray) -> bool:
    """Whether each frame holds one sample, written several times."""
    return bool((frames_FxN == frames_FxN[:, :1]).all())


def checked_header(path: Path) -> Header:
    """The header of a recording in one segment, every signal with a name. Raises ValueError as `read_record` does."""
    header = read_header(path)
    if header.segments:
        raise ValueError(f"header: {path.name} describes several segments")
    if not header.signals:
        raise ValueError(f"header: {path.name} describes no signals")
    nameless = [str(k) for k, signal in enumerate(header.signals, start=1) if not signal.name]
    if nameless:
        raise ValueError(f"header: {path.name} does not name lead {', '.join(nameless)}")
    return header


def beside(path: Path, name: str) -> Path:
    """The file that a header names as its signals, in any case that a system may have turned its name to.

    Raises ValueError, as `read_record` does, unless it lies beside the header: a header may name any file.
    """
    name = name.removeprefix("./")
    if Path(name).name != name or "\\" in name or ":" in name or "\0" in name:
        raise ValueError(f"header: {path.name} names {name!r:.80} as its signals; only a file beside it is read")
    stem, end = Path(name).stem, Path(name).suffix
    stems = [stem, stem.upper(), stem.lower(), *([path.stem] if path.stem.lower() == stem.lower() else [])]
    for other in dict.fromkeys((name, *(a + b for a in stems for b in (end, end.upper(), end.lower())))):
        found = path.with_name(other)
        if found.is_symlink():
            raise ValueError(f"no signals: {path.name} names {name!r:.80}, which is a link; only a file is read")
        if found.is_file():
            return found
    raise ValueError(f"no signals: {path.name} names {name!r:.80}, which is no file beside it")


def _members(header: Header, file: str, path: Path) -> list[int]:
    """The places of the signals in one file, which must be one group of one format."""
    members = [k for k, signal in enumerate(header.signals) if signal.file == file]
    formats = sorted({header.signals[k].format for k in members})
    offsets = sorted({offset for k in members if (offset := header.signals[k].offset) is not None})
    if len(formats) > 1 or len(offsets) > 1:
        raise ValueError(f"header: {path.name} gives {file} the formats {formats} and offsets {offsets}, not one each")
    if formats[0] not in (*_BYTES, *_FLAC):
        raise ValueError(
            f"header: {path.name}: {formats[0]} is no storage format with samples, {file} is said to be so"
        )
    if members[-1] - members[0] != len(members) - 1:
        raise ValueError(f"header: {path.name}: the leads of {file} are not on lines that follow each other")
    return members


def _frames_held(header: Header, files: dict[str, list[int]], places: dict[str, Path], path: Path) -> int:
    """The frames that the files hold, of a recording whose length is not stated."""
    held = set()
    for file, members in files.items():
        signals = [header.signals[k] for k in members]
        held.add(_samples_held(signals, places[file]) // sum(signal.per_frame for signal in signals))
    if len(held) > 1:
        raise ValueError(f"truncated: {path.name} states no length, and its files hold {sorted(held)} frames")
    return held.pop()


def _samples_held(signals: Sequence[Signal], file: Path) -> int:
    """The samples of all signals together that a file has room for, behind its offset."""
    offset, form = _offset(signals), signals[0].format
    if form in _BYTES:
        return max(0, int((file.stat().st_size - offset) / _BYTES[form]))
    try:
        about = soundfile.info(str(file))
    except soundfile.SoundFileError as error:
        raise ValueError(f"unreadable: {file.name}: {first_line(error)}") from error
    return max(0, about.frames - offset) * about.channels


def _offset(signals: Sequence[Signal]) -> int:
    return next((signal.offset for signal in signals if signal.offset is not None), 0)


def _decoded(signals: Sequence[Signal], frames: int, file: Path, path: Path) -> list[np.ndarray]:
    """The steps of each signal of a file, in the file's own order of time."""
    held = _samples_held(signals, file) // sum(signal.per_frame for signal in signals)
    if held < frames:
        raise ValueError(f"truncated: {path.name} announces {frames} samples, {file.name} holds {held}")
    try:
        return decoder._rd_segment(
            file_name=[file.name] * len(signals),
            dir_name=str(file.parent),
            pn_dir=None,
            fmt=[signals[0].format] * len(signals),
            n_sig=len(signals),
            sig_len=frames,
            byte_offset=[_offset(signals)] * len(signals),
            samps_per_frame=[signal.per_frame for signal in signals],
            skew=[0] * len(signals),
            init_value=[signal.first for signal in signals],
            sampfrom=0,
            sampto=frames,
            channels=list(range(len(signals))),
            ignore_skew=True,
        )
    except Exception as error:  # a damaged file fails anywhere in its decoder
        raise ValueError(f"unreadable: {file.name}: {type(error).__name__}: {first_line(error)}") from error


def _compare_checksum(signal: Signal, steps: np.ndarray) -> None:
    total = int(steps.sum(dtype=np.int64))
    if signal.checksum is not None and (total - signal.checksum) % 65536:
        raise ValueError(
            f"damaged: checksum of lead {signal.name} is {total % 65536}, stated {signal.checksum % 65536}"
        )


def _without_shift(signal: Signal, steps: np.ndarray) -> Signal:
    """The signal without a gain where its line leaves out the gain, but not what follows.

    Then each field was taken for the one before it: the bits for the gain, the first sample for the zero, and the
    checksum for the first sample.
    """
    is_shifted = (
        signal.checksum is None
        and signal.zero == steps[0] != signal.first
        and (int(steps.sum(dtype=np.int64)) - signal.first) % 65536 == 0
    )
    return dataclasses.replace(signal, gain=None, baseline=0.0) if is_shifted else signal


def _physical(signal: Signal, steps: np.ndarray, rate_hz: float) -> np.ndarray:
    """A signal in its unit, aligned with the others, NaN where a sample is missing or lies beyond the file's end.

    The few samples that a skew leaves beyond the end are continued by the signal's odd reflection, as the filter goes
    on beyond every end.
    """
    values = (steps.astype(np.float64) - signal.baseline) / (signal.gain or 1.0)
    values[steps == decoder.INVALID_SAMPLE_VALUE[signal.format]] = np.nan
    if not signal.skew:
        return values
    lag = min(signal.skew * signal.per_frame, len(values))
    is_short = signal.skew <= CONTINUED_S * rate_hz
    beyond = 2 * values[-1] - values[-2 : -2 - lag : -1] if is_short else np.full(lag, np.nan)
    return np.concatenate((values[lag:], beyond))
