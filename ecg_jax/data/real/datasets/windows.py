"""Long recordings of few leads, such as MIT-BIH's, cut into windows of ten seconds with a mask of leads.

Leads keep their own names: MLII is no lead II. Signals that are no voltage, such as a pressure, are not kept. A set
of windows is no pool of records and enters no 12-lead training; who trains on it chooses to, and how.
"""

from __future__ import annotations

import dataclasses
import json
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np

from ecg_jax.data import preprocess
from ecg_jax.data.exclusions import Exclusion, OnBad, first_line
from ecg_jax.data.real.datasets.any_folder import list_entries
from ecg_jax.data.real.datasets.catalogue import (
    UNCHECKED,
    Entry,
    Output,
    check_amplitude,
    check_entries,
    remarks_of,
    without_paths,
)
from ecg_jax.data.real.formats.amplitude import is_voltage, scale_of
from ecg_jax.data.real.formats.checks import SECONDS, flaw
from ecg_jax.data.real.formats.segments import read_wfdb
from ecg_jax.data.real.formats.wfdb_header import read_header
from ecg_jax.data.storage import arrays
from ecg_jax.data.storage.arrays import field
from ecg_jax.extras import needs
from ecg_jax.files.whole_file import whole_file

with needs("real"):
    import wfdb

#: Records of one person in sets that are known by name (MIT-BIH: Moody & Mark, IEEE Eng Med Biol 20(3):45, 2001: 48
#: records of 47 subjects).
SAME_PATIENT = {"mitdb": {"202": "201"}}
_ARRAYS = ("ecg", "present", "record_id", "patient_id", "fold")
#: What is remarked of windows, beside what is of records, and counted.
OTHERS = "are of recordings that hold signals of other units than volts, which are not kept"
_TEXTS = ("source", "sample_rate_hz", "leads", "labels", "diagnoses", "notes")


@dataclasses.dataclass(frozen=True)
class Windows:
    """Windows of ten seconds: int16 `ecg` `(windows, samples, leads)`, 1 µV per count, 0 where a lead is not `present`.

    `leads` are all that any recording has, by their own names. `labels` are the beats in a window, by the annotators'
    symbols ("N", "V", …), where there are annotations; `diagnoses` what a table says of the whole recording. `notes`
    are sentences that who uses the set must know.
    """

    source: str
    sample_rate_hz: int
    leads: tuple[str, ...]
    ecg: np.ndarray
    present: np.ndarray  # (windows, leads) bool
    record_id: np.ndarray  # (windows,) str: NAME/record@second
    patient_id: np.ndarray  # (windows,) int64
    fold: np.ndarray  # (windows,) int64
    labels: tuple[tuple[str, ...], ...]
    diagnoses: tuple[tuple[str, ...], ...]
    notes: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.ecg)


class Window(NamedTuple):
    """One window: the recording and second that it begins at, int16 `(samples, leads)`, the beats in it."""

    entry: Entry
    second: int
    leads: tuple[str, ...]
    ecg: np.ndarray
    beats: tuple[str, ...]


def read_windows(
    name: str,
    folder: Path,
    output: Output,
    on_bad: OnBad,
    progress: Callable[[int, int], None],
    table: Path | None = None,
) -> Windows:
    """Every recording below `folder`, whatever its leads, cut into windows; what is left at its end is dropped.

    `table` tells patients, folds and labels as that of `list_folder` does. `on_bad` gets recordings that cannot be
    used, and windows with missing samples or a flat lead. Raises as `list_folder` does, and ValueError when no
    recording can be used.
    """
    entries, notes = list_entries(name, folder, table, SAME_PATIENT.get(name, {}))
    check_entries(entries)
    found: list[Window] = []
    remarks: list[str] = []
    for done, entry in enumerate(entries, start=1):
        found += _windows_of(entry, output, on_bad, remarks.append)
        progress(done, len(entries))
    if not found:
        raise ValueError(f"{folder}: none of {len(entries)} recordings gives a window of {SECONDS} s")
    leads = tuple(sorted({lead for window in found for lead in window.leads}))
    ecg = np.zeros((len(found), SECONDS * output.sample_rate_hz, len(leads)), np.int16)
    present = np.zeros((len(found), len(leads)), bool)
    for row, window in enumerate(found):
        places = [leads.index(lead) for lead in window.leads]
        ecg[row][:, places], present[row, places] = window.ecg, True
    return Windows(
        source=name,
        sample_rate_hz=output.sample_rate_hz,
        leads=leads,
        ecg=ecg,
        present=present,
        record_id=np.array([f"{window.entry.record_id}@{window.second}" for window in found]),
        patient_id=np.array([window.entry.patient_id for window in found], np.int64),
        fold=np.array([window.entry.fold for window in found], np.int64),
        labels=tuple(window.beats for window in found),
        diagnoses=tuple(window.entry.labels or () for window in found),
        notes=(*notes, *remarks_of(Counter(remarks), len(found))),
    )


def _windows_of(entry: Entry, output: Output, on_bad: OnBad, on_remark: Callable[[str], None]) -> Iterator[Window]:
    """The windows of a recording that can be used; `on_bad` gets the others, or the recording."""
    try:
        leads, rate_hz, windows, remarks = _cut(entry.file)
    except ValueError as error:
        on_bad(Exclusion(entry.record_id, without_paths(str(error), entry.file)))
        return
    for second, ecg_mv, beats in windows:
        there = ~np.isnan(ecg_mv).all(axis=0)  # not every segment of a recording has every lead
        held = tuple(lead for lead, is_there in zip(leads, there, strict=True) if is_there) or leads
        try:
            counts = _to_counts(ecg_mv[:, [leads.index(lead) for lead in held]], held, rate_hz, output)
        except ValueError as error:
            on_bad(Exclusion(f"{entry.record_id}@{second}", str(error)))
            continue
        for remark in remarks:
            on_remark(remark)
        yield Window(entry, second, held, counts, beats)


def _cut(header: Path) -> tuple[tuple[str, ...], int, list[tuple[int, np.ndarray, tuple[str, ...]]], list[str]]:
    """A recording's leads and rate, its windows (the second each begins at, `(samples, leads)` in mV, its beats), and
    what is to be remarked of each."""
    if header.suffix.lower() != ".hea":
        raise ValueError(f"format: {header.name} is no WFDB header")
    record = read_wfdb(header, lambda names: range(len(names)))
    voltages = [k for k, signal in enumerate(record.signals) if is_voltage(signal.unit)]
    kept = voltages or range(len(record.signals))  # without any, the first unit is refused
    signals = [record.signals[k] for k in kept]
    leads, rate_hz = tuple(signal.name for signal in signals), int(record.rate_hz)
    if len(set(leads)) < len(leads):
        raise ValueError(f"leads: {', '.join(leads)} are not all different")
    scale, unknown = scale_of(signals, header)
    if unknown is not None:
        raise ValueError(unknown)
    ecg_mv = record.samples[:, kept] * scale
    samples, symbols = _beats(header, rate_hz)
    length, windows = SECONDS * rate_hz, []
    for start in range(0, len(ecg_mv) - length + 1, length):
        beats = symbols[(samples >= start) & (samples < start + length)]
        windows.append((start // rate_hz, ecg_mv[start : start + length], tuple(sorted(set(beats.tolist())))))
    remarks = [OTHERS] * (len(signals) < len(record.signals))
    return leads, rate_hz, windows, remarks + [UNCHECKED] * any(signal.checksum is None for signal in signals)


def _to_counts(ecg_mv: np.ndarray, leads: tuple[str, ...], rate_hz: int, output: Output) -> np.ndarray:
    """A window through the preprocessing. Raises ValueError, as "reason: details", for one that cannot be used."""
    if reason := flaw(ecg_mv, leads):
        raise ValueError(reason)
    filtered_mv = (output.factor or 1.0) * preprocess.filtered(ecg_mv, rate_hz, output.sample_rate_hz, output.steps)
    check_amplitude(filtered_mv, leads)
    return preprocess.to_counts(filtered_mv)


def _beats(header: Path, rate_hz: int) -> tuple[np.ndarray, np.ndarray]:
    """Places in samples at `rate_hz`, and symbols, of the reference annotations of beats; none where there is no
    `.atr`. Annotations count frames, or what they say themselves, annot(5)."""
    file = next((path for end in (".atr", ".ATR") if (path := header.with_suffix(end)).is_file()), None)
    if file is None:
        return np.empty(0, int), np.empty(0, "<U1")
    try:
        marks = wfdb.rdann(str(header.with_suffix("")), file.suffix[1:])
    except Exception as error:
        raise ValueError(f"annotations: {file.name}: {type(error).__name__}: {first_line(error)}") from error
    symbols = np.array(marks.symbol, np.str_)
    is_beat = np.isin(symbols, list("NLRBAaJSVrFejnE/fQ?"))
    places = np.asarray(marks.sample)[is_beat] * (rate_hz / (marks.fs or read_header(header).rate_hz))
    return places.astype(int), symbols[is_beat]


def save_windows(path: Path, windows: Windows) -> None:
    """Writes windows as one `.npz`, whole or not at all."""
    about = {name: getattr(windows, name) for name in _TEXTS}
    with whole_file(path) as temporary, temporary.open("wb") as file:
        np.savez(file, about=json.dumps(about), **{name: getattr(windows, name) for name in _ARRAYS})


def load_windows(path: Path) -> Windows:
    """Reads what `save_windows` wrote. Raises FileNotFoundError, and ValueError for another or a damaged file."""
    try:
        stored = arrays.stored_arrays(path)
        about = json.loads(str(stored["about"].read()) if "about" in stored else "null")
        leads, rate_hz = field(about, "leads", list), field(about, "sample_rate_hz", int, least=1)
        count = len(field(about, "labels", list))
        expected = {"ecg": ("i", (count, SECONDS * rate_hz, len(leads))), "present": ("b", (count, len(leads)))}
        expected |= {"about": ("U", ()), "record_id": ("U", (count,))}
        expected |= {name: ("iu", (count,)) for name in ("patient_id", "fold")}
        arrays.check(stored, expected)
        arrays.checksums(path)
        held = {name: stored[name].read() for name in _ARRAYS} | {name: about[name] for name in _TEXTS}
        by_window = {name: tuple(map(tuple, held[name])) for name in ("labels", "diagnoses")}
        return Windows(**held | by_window | {"leads": tuple(leads), "notes": tuple(held["notes"])})
    except (KeyError, ValueError, TypeError, RecursionError) as error:
        raise ValueError(f"{path} is not a whole set of windows ({error}): build it again") from error
