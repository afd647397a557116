"""Writes a 12-lead record and its annotations in the WFDB format, some hundred times faster than wfdb's own writer.

Formats: WFDB Applications Guide, header(5), signal(5), annot(5). The tests reopen everything with wfdb.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from ecg_jax.data.ecg import LEADS

COUNTS_PER_MV = 1000
#: What the header of every synthetic record says: readers of real recordings refuse what does.
SYNTHETIC = "synthetic ECG, not a patient"
#: -32768 means "missing" in format 16.
MAX_COUNT = 32767
#: Annotation codes (annot(5), ecgcodes.h) of the symbols used here.
CODES = {
    "N": 1, "V": 5, "A": 8, "E": 10, "j": 11, "/": 12, "p": 24, "t": 27, "+": 28, "(": 39, ")": 40,
}  # fmt: skip
_SKIP, _NUM, _AUX = 59, 60, 63
_LONGEST_STEP = 1023  # samples from one annotation to the next, without a skip


class Annotation(NamedTuple):
    """A symbol at a sample; `num` and `note` are the format's num and aux fields."""

    sample: int
    symbol: str
    num: int = 0
    note: str = ""


def write_signals(folder: Path, name: str, ecg_mv: np.ndarray, sample_rate_hz: int, comments: Sequence[str]) -> None:
    """Writes NAME.dat (16 bit, 1 µV per count, saturating at ±32.767 mV) and NAME.hea from mV `(samples, 12)`.

    Raises ValueError for samples that are not finite.
    """
    if not np.isfinite(ecg_mv).all():
        raise ValueError(f"{name}: {int((~np.isfinite(ecg_mv)).sum())} samples are not finite")
    counts = np.clip(np.rint(COUNTS_PER_MV * ecg_mv.astype(np.float64)), -MAX_COUNT, MAX_COUNT).astype("<i2")
    (folder / f"{name}.dat").write_bytes(counts.tobytes())
    checksums = counts.sum(axis=0, dtype=np.int64) % 65536
    lines = [f"{name} {len(LEADS)} {sample_rate_hz} {len(counts)}"]
    for lead, first, checksum in zip(LEADS, counts[0], checksums, strict=True):
        lines.append(f"{name}.dat 16 {COUNTS_PER_MV}(0)/mV 16 0 {first} {checksum} 0 {lead}")
    lines += [f"# {comment}" for comment in comments]
    (folder / f"{name}.hea").write_text("\n".join(lines) + "\n", encoding="utf-8")


def write_annotations(path: Path, annotations: Iterable[Annotation]) -> None:
    """Writes annotations, in the order of their samples, as words of six bits of code and ten of time since the last.

    Raises ValueError when a sample comes before the one ahead of it, KeyError for a symbol outside `CODES`.
    """
    data, at = bytearray(), 0
    for sample, symbol, num, note in annotations:
        step, at = sample - at, sample
        if step < 0:
            raise ValueError(f"{path.name}: annotation at sample {sample} comes {-step} samples too late in the file")
        if step > _LONGEST_STEP:  # the high half of the interval goes first
            data += struct.pack("<3H", _SKIP << 10, step >> 16, step & 0xFFFF)
            step = 0
        data += struct.pack("<2H", CODES[symbol] << 10 | step, _NUM << 10 | num)
        if note:
            text = note.encode("ascii")
            data += struct.pack("<H", _AUX << 10 | len(text)) + text + b"\0" * (len(text) % 2)
    path.write_bytes(bytes(data) + b"\0\0")
