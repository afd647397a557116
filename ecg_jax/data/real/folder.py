"""Any folder of 12-lead WFDB or EDF recordings: a hospital's own, LUDB, or a family of the PhysioNet Challenge 2021.

Leads are found by name, units are brought to millivolts, the first ten seconds are kept. Labels are those of a CSV
file, or the SNOMED codes that the Challenge's headers give after `Dx`. What cannot be used is left out, by a named
reason.
"""

from __future__ import annotations

import bisect
import csv
import dataclasses
import functools
import hashlib
import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import wfdb

from ecg_jax.data import preprocess
from ecg_jax.data.ecg import LEADS, RecordPool
from ecg_jax.data.real.edf import read_edf
from ecg_jax.data.real.recording import SECONDS, Exclusion, OnBad, first_line, flaw

#: To be raised when a change of this code changes the records.
VERSION = 1
#: Millivolts per unit, by its name in lower case.
MILLIVOLTS = {"mv": 1.0, "uv": 1e-3, "\u00b5v": 1e-3, "\u03bcv": 1e-3, "v": 1e3}
#: Peak to peak of a filtered record's largest lead in mV; outside, gain or unit are wrong.
PLAUSIBLE_MV = (0.1, 20.0)
#: Gains per mV that publishers wrote by mistake. Georgia's headers say 4880 where 1000 is meant.
WRONG_GAINS = {4880.0: "Georgia's mistake for 1000"}
SLOWEST_HZ, FASTEST_HZ = 100, 2000
FOLDS = 10


@dataclasses.dataclass(frozen=True)
class Entry:
    """A recording of a folder: its WFDB header or EDF file, and what a table of labels says of it (None: nothing)."""

    record_id: str
    header: Path
    patient: str
    fold: int
    labels: tuple[str, ...] | None


def list_folder(name: str, folder: Path, table: Path | None = None) -> tuple[Entry, ...]:
    """Every WFDB header (.hea) and EDF file (.edf) below `folder`, by its path: `NAME/path/of/record`.

    `table` is a CSV file with the column `record` (its path without suffix), and, as far as given, `patient`, `fold`
    and `labels` (separated by ";"). Without it each recording is a patient. Without folds, patients are spread over ten
    by their hash, so that a patient's fold never changes.

    Raises FileNotFoundError when there is no folder, table or header, and ValueError for a table that names recordings
    which are not there, or one twice, or has other columns.
    """
    if not folder.is_dir():
        raise FileNotFoundError(f"{folder} is not a folder")
    root = folder.resolve()
    headers: dict[str, Path] = {}
    for path in sorted(folder.rglob("*")):
        # a link may lead anywhere
        if path.suffix.lower() in (".hea", ".edf") and path.is_file() and path.resolve().is_relative_to(root):
            record = path.relative_to(folder).with_suffix("").as_posix()
            if record in headers:
                raise ValueError(f"{headers[record]} and {path} are one name for two recordings: rename one of them")
            headers[record] = path
    if not headers:
        raise FileNotFoundError(f"{folder} holds no recording: not one .hea or .edf file")
    rows = _read_table(table, headers) if table is not None else {}
    entries = []
    for record, header in headers.items():
        row = rows.get(record, {})
        patient = row.get("patient") or record
        labels = _split(row["labels"], ";") if "labels" in row else None
        entries.append(Entry(f"{name}/{record}", header, patient, _fold(row, patient, record, table), labels))
    _check_patients(entries)
    return tuple(entries)


def _read_table(table: Path, records: dict[str, Path]) -> dict[str, dict[str, str]]:
    if not table.is_file():
        raise FileNotFoundError(f"{table} does not exist")
    with table.open(newline="", encoding="utf-8-sig") as file:
        reader = csv.DictReader(file)
        if "record" not in (reader.fieldnames or ()):
            raise ValueError(f"{table}: there is no column 'record'; found {reader.fieldnames}")
        rows: dict[str, dict[str, str]] = {}
        for row in reader:
            record = row["record"] or ""
            if record in rows:
                raise ValueError(f"{table}, line {reader.line_num}: record {record!r} is there twice")
            rows[record] = {key: value for key, value in row.items() if key and value is not None}
    unknown = [record for record in rows if record not in records]
    if unknown:
        raise ValueError(
            f"{table}: {len(unknown)} of {len(rows)} records have no .hea or .edf file, such as {unknown[0]!r}; the "
            f"column holds paths without suffix, as {next(iter(records))!r}"
        )
    return rows


def _fold(row: dict[str, str], patient: str, record: str, table: Path | None) -> int:
    if "fold" not in row:
        return 1 + int.from_bytes(hashlib.sha256(patient.encode()).digest()[:4], "big") % FOLDS
    if not row["fold"].isdigit():
        raise ValueError(f"{table}: fold of {record} is {row['fold']!r}, expected a whole number")
    return int(row["fold"])


def _check_patients(entries: Sequence[Entry]) -> None:
    first: dict[str, Entry] = {}
    for entry in entries:
        before = first.setdefault(entry.patient, entry)
        if before.fold != entry.fold:
            raise ValueError(
                f"patient {entry.patient} is in fold {before.fold} ({before.record_id}) and {entry.fold} "
                f"({entry.record_id}): a split by fold would leak"
            )


def fingerprint(entries: Sequence[Entry], sample_rate_hz: int) -> dict[str, object]:
    """What a set made of `entries` depends on: headers, sizes of signals, labels, and how they are processed."""
    digest = hashlib.sha256()
    listed = functools.cache(lambda directory: sorted(os.listdir(directory)))  # each once, however many recordings
    for entry in entries:
        folder, stem, names = entry.header.parent, entry.header.stem, listed(entry.header.parent)
        # All that begins with "stem.": "/", which no name holds, is the character after ".".
        signals = names[bisect.bisect_left(names, f"{stem}.") : bisect.bisect_left(names, f"{stem}/")]
        sizes = [(name, (folder / name).stat().st_size) for name in signals]
        digest.update(repr((entry.record_id, entry.patient, entry.fold, entry.labels, sizes)).encode())
        digest.update(entry.header.read_bytes())
    return {
        "recordings": digest.hexdigest(),
        "version": VERSION,
        "sample_rate_hz": sample_rate_hz,
        "seconds": SECONDS,
        **preprocess.parameters(),
    }


def read_entries(
    source: str,
    entries: Sequence[Entry],
    numbers: Sequence[int],
    sample_rate_hz: int,
    on_bad: OnBad,
) -> RecordPool:
    """The records of `entries`, whose patients have these `numbers`, less those that `on_bad` gets with a reason."""
    kept, signals, labels = [], [], []
    for place, entry in enumerate(entries):
        try:
            ecg, codes = read_entry(entry, sample_rate_hz)
        except ValueError as error:
            on_bad(Exclusion(entry.record_id, str(error)))
        else:
            kept.append(place)
            signals.append(ecg)
            labels.append(codes)
    return RecordPool(
        source=source,
        sample_rate_hz=sample_rate_hz,
        ecg=np.array(signals, np.int16).reshape(len(kept), SECONDS * sample_rate_hz, len(LEADS)),
        record_id=np.array([entries[k].record_id for k in kept], np.str_),
        patient_id=np.array([numbers[k] for k in kept], np.int64),
        fold=np.array([entries[k].fold for k in kept], np.int64),
        unit=np.array(["mV"] * len(kept), np.str_),
        labels=tuple(labels),
    )


def read_entry(entry: Entry, sample_rate_hz: int) -> tuple[np.ndarray, tuple[str, ...]]:
    """A recording through the preprocessing, int16 `(10 s, 12)`, and its labels.

    Raises ValueError, as "reason: details", for one that cannot be used.
    """
    read = _read_edf if entry.header.suffix.lower() == ".edf" else _read_wfdb
    rate_hz, ecg_mv, comments = read(entry.header)
    if ecg_mv.shape != (SECONDS * rate_hz, len(LEADS)):
        raise ValueError(f"truncated: {len(ecg_mv)} samples in {entry.header.name}, at {rate_hz} Hz")
    ecg_mv[~np.isfinite(ecg_mv)] = np.nan
    if reason := flaw(ecg_mv):
        raise ValueError(reason.replace("missing samples in", "missing samples:").replace("flat lead", "flat lead:"))
    span_mv = float(np.ptp(ecg_mv, axis=0).max())
    if span_mv > 100 * PLAUSIBLE_MV[1]:  # even with the widest drift of its baseline
        raise ValueError(f"amplitude: {span_mv:.3g} mV peak to peak; gain or unit are wrong")
    counts = preprocess.apply_chain(ecg_mv.astype(np.float32), rate_hz, sample_rate_hz)
    span_mv = float(np.ptp(counts.astype(int), axis=0).max()) / preprocess.COUNTS_PER_UNIT
    if not PLAUSIBLE_MV[0] <= span_mv <= PLAUSIBLE_MV[1]:
        raise ValueError(
            f"amplitude: {span_mv:.3g} mV peak to peak after filtering, expected {PLAUSIBLE_MV[0]:g} to "
            f"{PLAUSIBLE_MV[1]:g}; gain or unit are wrong"
        )
    return counts, entry.labels if entry.labels is not None else _dx(comments)


def _read_wfdb(path: Path) -> tuple[int, np.ndarray, Sequence[str]]:
    """Rate, the first ten seconds in mV `(samples, 12)`, and the header's comments."""
    header = _header(path)
    order = _lead_order(header.sig_name)
    scale = np.array([_millivolts(header.units[k]) for k in order])
    _check_gains([float(header.adc_gain[k]) for k in order], path)
    try:
        record = wfdb.rdrecord(str(path.with_suffix("")), physical=False)
        ecg_mv = record.dac()[: SECONDS * int(header.fs), order] * scale
    except Exception as error:  # a damaged file fails anywhere in its parser
        raise ValueError(f"unreadable: {path.name}: {type(error).__name__}: {first_line(error)}") from error
    for lead, total, stated in zip(record.sig_name, record.d_signal.sum(axis=0), record.checksum, strict=True):
        if stated is not None and (int(total) - stated) % 65536:
            raise ValueError(f"damaged: checksum of lead {lead} is {total % 65536}, stated {stated % 65536}")
    return int(header.fs), ecg_mv, header.comments


def _read_edf(path: Path) -> tuple[int, np.ndarray, Sequence[str]]:
    rate_hz, units, gains, signals = read_edf(path, _lead_order)
    _check_gains(gains, path)
    _check_rate_and_length(rate_hz, len(signals), path)
    return int(rate_hz), signals[: SECONDS * int(rate_hz)] * [_millivolts(unit) for unit in units], ()


def _check_gains(gains: Sequence[float], path: Path) -> None:
    for gain in sorted(set(gains)):
        if not np.isfinite(gain) or gain == 0:
            raise ValueError(f"gain: {gain} per unit in {path.name}; the amplitude is unknown")
        if gain in WRONG_GAINS:
            raise ValueError(f"gain: {gain:g} per unit in {path.name}, {WRONG_GAINS[gain]}; correct the header")


def _check_rate_and_length(rate_hz: float | None, samples: int | None, path: Path) -> None:
    if not rate_hz or not float(rate_hz).is_integer() or not SLOWEST_HZ <= rate_hz <= FASTEST_HZ:
        raise ValueError(f"rate: {rate_hz} Hz in {path.name}, expected whole {SLOWEST_HZ} to {FASTEST_HZ} Hz")
    if not samples or samples < SECONDS * rate_hz:
        raise ValueError(f"too short: {(samples or 0) / rate_hz:.2f} s in {path.name}, expected {SECONDS} s")


def _header(path: Path) -> wfdb.Record:
    """A header that can be used: one segment, its signals beside it, a rate and a length that suffice."""
    try:
        header = wfdb.rdheader(str(path.with_suffix("")))
    except Exception as error:  # headers fail in as many ways as there are fields
        raise ValueError(
            f"header: {path.name} is no WFDB header: {type(error).__name__}: {first_line(error)}"
        ) from error
    if not isinstance(header, wfdb.Record) or not header.n_sig or not header.sig_name:
        raise ValueError(f"header: {path.name} describes no signals, or several segments")
    for name in sorted(set(map(str, header.file_name))):
        if Path(name).name != name or "\\" in name or ":" in name:
            raise ValueError(f"header: {path.name} names {name!r} as its signals; only a file beside it is read")
        if not (path.parent / name).is_file() or (path.parent / name).is_symlink():
            raise ValueError(f"no signals: {path.name} names {name!r}, which is no file beside it")
    if None in header.sig_name or None in header.units or None in header.adc_gain:
        raise ValueError(f"header: {path.name} does not name every lead with its unit and gain")
    _check_rate_and_length(header.fs, header.sig_len, path)
    return header


def _lead_order(names: Sequence[str]) -> list[int]:
    """Where each lead stands, by name, case aside; further leads are left."""
    upper = [name.strip().upper() for name in names]
    lacking = [lead for lead in LEADS if upper.count(lead.upper()) != 1]
    if lacking:
        raise ValueError(f"leads: {', '.join(lacking)} not there exactly once; found {', '.join(names)}")
    return [upper.index(lead.upper()) for lead in LEADS]


def _millivolts(unit: str) -> float:
    if unit.strip().lower() not in MILLIVOLTS:
        raise ValueError(f"unit: {unit!r}, expected mV, uV or V")
    return MILLIVOLTS[unit.strip().lower()]


def _dx(comments: Sequence[str]) -> tuple[str, ...]:
    """The SNOMED codes after `Dx` in a Challenge header."""
    found = [line.partition(":")[2] for line in comments if line.strip().lower().startswith("dx:")]
    return _split(",".join(found), ",")


def _split(text: str, by: str) -> tuple[str, ...]:
    return tuple(sorted({part.strip() for part in text.split(by)} - {""}))
