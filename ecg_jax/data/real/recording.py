"""One 12-lead WFDB recording from disk, checked against its header and what its database says of it."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import wfdb

from ecg_jax.data.ecg import LEADS, Exclusion

SECONDS = 10


@dataclasses.dataclass(frozen=True)
class Recording:
    """A row of a database: what identifies a recording, and where its signal lies."""

    record_id: str
    patient_id: int
    fold: int
    labels: tuple[str, ...]
    signal: Path  # of the .hea and .dat, without suffix
    sample_rate_hz: int
    unit: str  # "mV", or "NU": filtered and z-scored by the publisher


OnBad = Callable[[Exclusion], None]


def raise_first(exclusion: Exclusion) -> None:
    """The default answer to a flawed recording. Raises ValueError."""
    raise ValueError(
        f"{exclusion.record_id}: {exclusion.reason}; repair the file, or have such recordings left out, named and "
        "counted (--leave-out-flawed; in code, on_bad=excluded.append)"
    )


def kind_of(reason: str) -> str:
    """The name of a reason, without what is particular to the record: "flat lead V1 (all samples 0)" → "flat lead"."""
    words = re.split(r"[:;(,]", reason)[0].split()
    plain: list[str] = []
    for word in words:
        if re.search(r"[0-9A-Z/\\=<>']", word):
            break
        plain.append(word)
    while plain and plain[-1] in ("in", "of", "is", "at", "as", "for", "the", "a"):
        plain.pop()
    return " ".join(plain) or reason


def first_line(error: BaseException) -> str:
    """The first line of what a parser says of a file, cut to what a reason has room for."""
    return (str(error).splitlines() or [""])[0][:200]


def flaw(ecg: np.ndarray) -> str | None:
    """What makes `(samples, 12)` unusable though its file is sound: missing (NaN) samples or a flat lead, or None."""
    missing = np.isnan(ecg).sum(axis=0)
    if missing.any():
        return "missing samples in " + ", ".join(f"{LEADS[i]} ({missing[i]})" for i in np.flatnonzero(missing))
    flat = np.flatnonzero(np.ptp(ecg, axis=0) == 0)
    if len(flat):
        return "flat lead " + ", ".join(f"{LEADS[i]} (all samples {ecg[0, i]:g})" for i in flat)
    return None


def read_signal(recording: Recording) -> np.ndarray:
    """Reads a recording in its physical unit: float32 `(10 s, 12)`, leads in the contract's order, NaN where missing.

    Leads are put in order by name, whatever their order in the file. Raises FileNotFoundError for a missing file and
    ValueError for one that is truncated, damaged, or has other leads, rate, length or unit than expected.
    """
    header_path, signal_path = (recording.signal.with_name(recording.signal.name + end) for end in (".hea", ".dat"))
    for path in (header_path, signal_path):
        if not path.is_file():
            raise FileNotFoundError(f"{recording.record_id}: {path} does not exist, though the database lists it")
    _check_signal_file(header_path, signal_path)
    try:
        record = wfdb.rdrecord(str(recording.signal), physical=False)
    except Exception as error:  # a damaged file fails anywhere in its parser
        raise ValueError(
            f"{signal_path}: {signal_path.stat().st_size} bytes do not hold what {header_path.name} announces, or the "
            f"header is no WFDB header ({first_line(error)}); the copy is truncated or damaged: fetch it again"
        ) from error
    _check_header(record, recording, header_path)
    for lead, total, stated in zip(record.sig_name, record.d_signal.sum(axis=0), record.checksum, strict=True):
        if stated is None or (int(total) - stated) % 65536:
            raise ValueError(
                f"{signal_path}: checksum of lead {lead} is {total % 65536}, {header_path.name} says "
                f"{'nothing' if stated is None else stated % 65536}; the copy is damaged: fetch it again"
            )
    order = _lead_order(record.sig_name, header_path)
    try:
        return record.dac(return_res=32)[:, order]
    except Exception as error:  # for one, a storage format that is none
        raise ValueError(f"{header_path}: {type(error).__name__}: {first_line(error)}; fetch it again") from error


def first_words(header_path: Path) -> list[str]:
    """The first word of each line of a WFDB header that is no comment: the record's name, then where each lead lies."""
    lines = [line.split() for line in header_path.read_text(encoding="utf-8", errors="replace").splitlines()]
    return [line[0] for line in lines if line and not line[0].startswith("#")]


def _check_signal_file(header_path: Path, signal_path: Path) -> None:
    """A header may name any file as its signals, at any path: only the one beside it is read."""
    found = sorted(set(first_words(header_path)[1:]))
    if found != [signal_path.name]:
        raise ValueError(f"{header_path}: its signals lie in {found}, expected {signal_path.name} for every lead")


def _check_header(record: wfdb.Record, recording: Recording, header_path: Path) -> None:
    """Raises ValueError when rate, length, unit or gain are not what the database and the publisher say."""
    samples = SECONDS * recording.sample_rate_hz
    if record.fs != recording.sample_rate_hz:
        raise ValueError(f"{header_path}: sampling rate {record.fs:g} Hz, expected {recording.sample_rate_hz} Hz")
    if record.sig_len != samples:
        raise ValueError(f"{header_path}: {record.sig_len} samples, expected {samples} ({SECONDS} s)")
    if set(record.units) != {recording.unit}:
        raise ValueError(
            f"{header_path}: unit {sorted(set(map(str, record.units)))}, expected {recording.unit} for every lead"
        )
    if None in record.adc_gain or not np.isfinite(record.adc_gain).all() or 0 in record.adc_gain:
        raise ValueError(f"{header_path}: gains {record.adc_gain}; the amplitude is unknown")


def _lead_order(names: list[str | None], header_path: Path) -> list[int]:
    """Where each lead of the contract stands in the file, by name; case aside (files write AVR for aVR)."""
    names = [name or "" for name in names]  # a damaged header may lack them
    upper = [name.upper() for name in names]
    wanted = [lead.upper() for lead in LEADS]
    if sorted(upper) != sorted(wanted):
        absent = [lead for lead in LEADS if lead.upper() not in upper]
        odd = sorted({name for name in names if name.upper() not in wanted or upper.count(name.upper()) > 1})
        raise ValueError(
            f"{header_path}: {len(names)} leads, expected the {len(LEADS)} standard leads once each; missing {absent}, "
            f"unknown or repeated {odd}"
        )
    return [upper.index(lead) for lead in wanted]
