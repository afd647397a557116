"""Any folder of 12-lead WFDB or EDF recordings: a hospital's own, LUDB, or a family of the PhysioNet Challenge 2021.

Leads are found by name and units are brought to millivolts. Labels are those of a table, or the SNOMED codes that the
Challenge's headers give after `Dx`. What cannot be used is left out, by a named reason.
"""

from __future__ import annotations

import bisect
import functools
import hashlib
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType

import numpy as np
import wfdb

from ecg_jax.data.ecg import LEADS
from ecg_jax.data.real.catalogue import (
    Catalogue,
    Entry,
    Output,
    Raw,
    catalogue,
    check_rate_and_length,
)
from ecg_jax.data.real.edf import read_edf
from ecg_jax.data.real.patients import Row, persons, read_rows
from ecg_jax.data.real.provenance import edf_identity, refuse_synthetic, says_synthetic
from ecg_jax.data.real.recording import SECONDS, first_line, first_words
from ecg_jax.data.real.segments import Parts, parts_among, segment_names
from ecg_jax.data.real.tables import split_labels

#: Millivolts per unit, by its name in lower case.
MILLIVOLTS = {"mv": 1.0, "uv": 1e-3, "\u00b5v": 1e-3, "\u03bcv": 1e-3, "v": 1e3}
#: Gains per mV that publishers wrote by mistake. Georgia's headers say 4880 where 1000 is meant.
WRONG_GAINS = {4880.0: "Georgia's mistake for 1000"}


def list_folder(name: str, folder: Path, output: Output, table: Path | None = None) -> Catalogue:
    """Every WFDB header (.hea) and EDF file (.edf) below `folder`, by its path: `NAME/path/of/record`.

    `table` names the recordings (the column `record`: paths without suffix) and, as far as given, tells their
    `patient`, `fold` and `labels`; see `tables` for what it may look like. Without it each recording is a patient.
    Without folds, patients are spread over ten by their hash, so that a patient's fold never changes.

    Raises FileNotFoundError when there is no folder, table or header, and ValueError for a table that fits none of the
    recordings, contradicts itself, or puts a patient into two folds.
    """
    entries, notes = list_entries(name, folder, table)
    return catalogue(name, entries, load, output, digest=digest(entries), notes=notes)


def list_entries(
    name: str, folder: Path, table: Path | None, same: Mapping[str, str] = MappingProxyType({})
) -> tuple[list[Entry], tuple[str, ...]]:
    """The recordings below `folder`, by their paths, and sentences that who uses them must know.

    `same` names recordings of one person by their files' names, where no table does. Raises as `list_folder` does.
    """
    headers, parts = whole_recordings(folder)
    rows = dict.fromkeys(headers, Row())
    notes: tuple[str, ...] = (f"no table of patients: each of {len(headers):,} recordings is a patient of its own",)
    if table is not None:
        rows, notes = read_rows(table, list(headers), parts.part_of)
    by_name = {Path(record).name: record for record in headers}
    known = {by_name[one]: by_name[other] for one, other in same.items() if one in by_name and other in by_name}
    person = persons(rows, known | dict(parts.same))
    entries = [
        Entry(f"{name}/{record}", header, person[record].patient_id, person[record].fold, rows[record].labels)
        for record, header in headers.items()
    ]
    if parts.part_of:
        notes += (f"{len(parts.part_of):,} records are segments of {len(set(parts.part_of.values())):,} recordings",)
    return entries, notes


def whole_recordings(folder: Path) -> tuple[dict[str, Path], Parts]:
    """The recordings below `folder` by their paths without suffix, and which records are only segments of them.

    Raises as `find_recordings` does, and ValueError where one says that it is synthetic.
    """
    found = find_recordings(folder)
    segments: dict[str, tuple[str, ...]] = {}
    synthetic = []
    for record, path in found.items():
        is_edf = path.suffix.lower() == ".edf"
        text = edf_identity(path) if is_edf else path.read_text(encoding="utf-8", errors="replace")
        if says_synthetic(text):
            synthetic.append(path)
        if not is_edf and (names := segment_names(text)):
            segments[record] = names
    refuse_synthetic(folder, synthetic, len(found))
    parts = parts_among(found, segments)
    return {record: path for record, path in found.items() if record not in parts.part_of}, parts


def find_recordings(folder: Path) -> dict[str, Path]:
    """The WFDB headers and EDF files below `folder`, by their paths without suffix. Raises as `list_folder` does."""
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
    return headers


def digest(entries: Sequence[Entry]) -> str:
    """A hash of what the records of `entries` depend on: headers, sizes of signals, and labels."""
    hashed = hashlib.sha256()
    listed = functools.cache(lambda directory: sorted(os.listdir(directory)))  # each once, however many recordings
    for entry in entries:
        folder, stem, names = entry.file.parent, entry.file.stem, listed(entry.file.parent)
        # All that begins with "stem.": "/", which no name holds, is the character after ".".
        signals = names[bisect.bisect_left(names, f"{stem}.") : bisect.bisect_left(names, f"{stem}/")]
        sizes = [(name, (folder / name).stat().st_size) for name in signals]
        hashed.update(repr((entry.record_id, entry.patient_id, entry.fold, entry.labels, sizes)).encode())
        hashed.update(entry.file.read_bytes())
    return hashed.hexdigest()


def load(entry: Entry) -> Raw:
    """A WFDB or EDF recording. Raises ValueError, as "reason: details", for one that cannot be used."""
    return load_edf(entry) if entry.file.suffix.lower() == ".edf" else load_wfdb(entry)


def load_wfdb(entry: Entry) -> Raw:
    """The first ten seconds of a WFDB recording, with the labels of its header. Raises as `load` does."""
    record = read_record(entry.file)
    return Raw(int(record.fs), twelve_leads(record, entry.file), _dx(record.comments))


def twelve_leads(record: wfdb.Record, path: Path) -> np.ndarray:
    """The first ten seconds of a recording in mV, `(samples, 12)`, NaN where missing. Raises as `load` does."""
    order = _lead_order(record.sig_name)
    scale = np.array([millivolts(record.units[k]) for k in order])
    check_gains([float(record.adc_gain[k]) for k in order], path)
    return physical(record, path)[: SECONDS * int(record.fs), order] * scale


def physical(record: wfdb.Record, path: Path) -> np.ndarray:
    """The signals of a recording `(samples, leads)` in its header's units, NaN where missing. Raises as `load` does."""
    try:
        return record.dac()
    except Exception as error:  # for one, a storage format that is none
        raise ValueError(f"unreadable: {path.name}: {type(error).__name__}: {first_line(error)}") from error


def read_record(path: Path) -> wfdb.Record:
    """A WFDB recording as its file holds it: one segment, its signals beside the header, a rate and a length that
    suffice, every lead with its unit and gain, the checksums right.

    Raises ValueError, as `load` does. The header is parsed once: that takes as long as all else.
    """
    beside = _signals_beside(path)
    try:
        record = wfdb.rdrecord(str(path.with_suffix("")), physical=False)
    except Exception as error:  # a damaged file fails anywhere in its parser
        read_header(path)  # raises, and says more, where it is the header
        raise ValueError(f"unreadable: {path.name}: {type(error).__name__}: {first_line(error)}") from error
    if not isinstance(record, wfdb.Record) or set(record.file_name or ()) - beside:
        raise ValueError(f"header: {path.name} describes no signals, several segments, or files elsewhere")
    _check_header(record, path)
    for lead, total, stated in zip(record.sig_name, record.d_signal.sum(axis=0), record.checksum, strict=True):
        if stated is not None and (int(total) - stated) % 65536:
            raise ValueError(f"damaged: checksum of lead {lead} is {total % 65536}, stated {stated % 65536}")
    return record


def read_header(path: Path) -> wfdb.Record:
    """A header that can be used, without its signals, as `read_record` says. Raises ValueError as `load` does."""
    _signals_beside(path)
    try:
        header = wfdb.rdheader(str(path.with_suffix("")))
    except Exception as error:  # headers fail in as many ways as there are fields
        raise ValueError(
            f"header: {path.name} is no WFDB header: {type(error).__name__}: {first_line(error)}"
        ) from error
    if not isinstance(header, wfdb.Record):
        raise ValueError(f"header: {path.name} describes several segments")
    _check_header(header, path)
    return header


def _signals_beside(path: Path) -> set[str]:
    """The files that a header names, read before anything opens one. Raises ValueError unless all lie beside it."""
    words = first_words(path)
    if not words or "/" in words[0]:
        raise ValueError(f"header: {path.name} describes no signals, or several segments")
    names = set(words[1:])
    for name in sorted(names):
        if Path(name).name != name or "\\" in name or ":" in name:
            raise ValueError(f"header: {path.name} names {name!r:.80} as its signals; only a file beside it is read")
        if not (path.parent / name).is_file() or (path.parent / name).is_symlink():
            raise ValueError(f"no signals: {path.name} names {name!r:.80}, which is no file beside it")
    return names


def _check_header(header: wfdb.Record, path: Path) -> None:
    if not header.n_sig or not header.sig_name:
        raise ValueError(f"header: {path.name} describes no signals")
    if None in header.sig_name or None in header.units or None in header.adc_gain:
        raise ValueError(f"header: {path.name} does not name every lead with its unit and gain")
    check_rate_and_length(header.fs, header.sig_len, path.name)


def load_edf(entry: Entry) -> Raw:
    """The first ten seconds of an EDF recording, which bears no labels. Raises as `load` does."""
    path = entry.file
    rate_hz, units, gains, signals = read_edf(path, _lead_order)
    check_gains(gains, path)
    check_rate_and_length(rate_hz, len(signals), path.name)
    return Raw(int(rate_hz), signals[: SECONDS * int(rate_hz)] * [millivolts(unit) for unit in units])


def check_gains(gains: Sequence[float], path: Path) -> None:
    """Raises ValueError, as `load` does, for a gain (steps per unit) that is none, or known to be wrong."""
    for gain in sorted(set(gains)):
        if not np.isfinite(gain) or gain == 0:
            raise ValueError(f"gain: {gain} per unit in {path.name}; the amplitude is unknown")
        if gain in WRONG_GAINS:
            raise ValueError(f"gain: {gain:g} per unit in {path.name}, {WRONG_GAINS[gain]}; correct the header")


def _lead_order(names: Sequence[str]) -> list[int]:
    """Where each lead stands, by name, case aside; further leads are left."""
    upper = [name.strip().upper() for name in names]
    lacking = [lead for lead in LEADS if upper.count(lead.upper()) != 1]
    if lacking:
        raise ValueError(f"leads: {', '.join(lacking)} not there exactly once; found {', '.join(names)}")
    return [upper.index(lead.upper()) for lead in LEADS]


def millivolts(unit: str) -> float:
    """Millivolts per `unit`. Raises ValueError, as `load` does, for one that is no voltage."""
    if unit.strip().lower() not in MILLIVOLTS:
        raise ValueError(f"unit: {unit!r}, expected mV, uV or V")
    return MILLIVOLTS[unit.strip().lower()]


def _dx(comments: Sequence[str]) -> tuple[str, ...]:
    """The SNOMED codes after `Dx` in a Challenge header."""
    found = [line.partition(":")[2] for line in comments if line.strip().lower().startswith("dx:")]
    return split_labels(",".join(found), ",")
