"""Any folder of 12-lead WFDB or EDF recordings: a hospital's own, LUDB, or a family of the PhysioNet Challenge 2021.

Leads are found by name and units are brought to millivolts. Labels are those of a table, or the SNOMED codes that the
Challenge's headers give after `Dx`. What cannot be used is left out, by a named reason.
"""

from __future__ import annotations

import dataclasses
import hashlib
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType

from ecg_jax.data.lead_names import lead_order
from ecg_jax.data.real.datasets.catalogue import UNCHECKED, Catalogue, Entry, Output, Raw, catalogue
from ecg_jax.data.real.datasets.patients import Row, persons, read_rows
from ecg_jax.data.real.formats.amplitude import scale_of
from ecg_jax.data.real.formats.checks import SECONDS, check_rate_and_length
from ecg_jax.data.real.formats.edf import EdfRecord, read_edf
from ecg_jax.data.real.formats.provenance import edf_identity, refuse_synthetic, says_synthetic
from ecg_jax.data.real.formats.segments import Parts, named_files, parts_among, read_wfdb, segment_names
from ecg_jax.data.real.formats.tables import split_labels
from ecg_jax.data.real.formats.text import decoded
from ecg_jax.data.real.formats.wfdb_record import WfdbRecord


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
        parents = len(set(parts.part_of.values()))
        notes += (f"{len(parts.part_of):,} records are segments, read as parts of what names them ({parents:,})",)
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
        text = edf_identity(path) if is_edf else decoded(path.read_bytes())
        if says_synthetic(text):
            synthetic.append(path)
        if not is_edf and (names := segment_names(text)):
            segments[record] = names
    refuse_synthetic(folder, synthetic, len(found))
    parts = parts_among(found, segments)
    return {record: path for record, path in found.items() if record not in parts.part_of}, parts


def find_recordings(folder: Path) -> dict[str, Path]:
    """The WFDB headers and EDF files below `folder`, but for hidden ones, by their paths without suffix. Raises as
    `list_folder` does."""
    if not folder.is_dir():
        raise FileNotFoundError(f"{folder} is not a folder")
    root = folder.resolve()
    headers: dict[str, Path] = {}
    for path in sorted(folder.rglob("*")):
        # "._NAME" is what macOS keeps beside a file on other systems; hidden folders hold copies and what was removed.
        if any(part.startswith(".") for part in path.relative_to(folder).parts):
            continue
        # a link may lead anywhere
        if path.suffix.lower() in (".hea", ".edf") and path.is_file() and path.resolve().is_relative_to(root):
            record = path.relative_to(folder).with_suffix("").as_posix()
            if record in headers:
                names = f"{headers[record].name} and {path.relative_to(folder)}"
                raise ValueError(f"{folder}: {names} are one name for two recordings: rename one of them")
            headers[record] = path
    if not headers:
        raise FileNotFoundError(f"{folder} holds no recording: not one .hea or .edf file")
    return headers


def digest(entries: Sequence[Entry]) -> str:
    """A hash of what the records of `entries` depend on: headers, sizes of the signals that these name, and labels."""
    hashed = hashlib.sha256()
    for entry in entries:
        hashed.update(repr((entry.record_id, entry.patient_id, entry.fold, entry.labels)).encode())
        hashed.update(entry.file.read_bytes())
        for file in named_files(entry.file) if entry.file.suffix.lower() == ".hea" else ():
            hashed.update(repr((file.name, file.stat().st_size)).encode())
            if file.suffix.lower() == ".hea":
                hashed.update(file.read_bytes())
    return hashed.hexdigest()


def load(entry: Entry) -> Raw:
    """A WFDB or EDF recording. Raises ValueError, as "reason: details", for one that cannot be used."""
    return load_edf(entry) if entry.file.suffix.lower() == ".edf" else load_wfdb(entry)


def load_wfdb(entry: Entry) -> Raw:
    """The first ten seconds of a WFDB recording, with the labels of its header. Raises as `load` does."""
    record = read_wfdb(entry.file, lead_order, SECONDS)
    raw = raw_of(record, entry.file, _dx(record.comments))
    is_checked = all(signal.checksum is not None for signal in record.signals)
    return raw if is_checked else dataclasses.replace(raw, remarks=(UNCHECKED,))


def load_edf(entry: Entry) -> Raw:
    """The first ten seconds of an EDF recording, which bears no labels. Raises as `load` does."""
    return raw_of(read_edf(entry.file, lead_order), entry.file)


def raw_of(record: WfdbRecord | EdfRecord, path: Path, labels: tuple[str, ...] = ()) -> Raw:
    """The first ten seconds of a recording of twelve leads in mV. Raises as `load` does."""
    check_rate_and_length(record.rate_hz, len(record.samples), path.name)
    scale, unknown = scale_of(record.signals, path)
    rate_hz = int(record.rate_hz)
    return Raw(rate_hz, record.samples[: SECONDS * rate_hz] * scale, labels, unknown, record.seconds)


def _dx(comments: Sequence[str]) -> tuple[str, ...]:
    """The SNOMED codes after `Dx` in a Challenge header, however they are separated."""
    found = [dx[1] for line in comments if (dx := re.match(r"\s*dx\s*:(.*)", line, re.IGNORECASE))]
    return split_labels(re.sub(r"[;|\[\]]", ",", ",".join(found)), ",")
