"""A set as it lies on a disk: its recordings listed in a fixed order, and read one slice at a time.

Each family of sets has a module that lists its recordings (`Entry`) and loads one of them in millivolts (`Raw`). What
follows is the same for all: the first ten seconds, checked, through the preprocessing, as int16.
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import pandas as pd

from ecg_jax.data import preprocess
from ecg_jax.data.ecg import LEADS, RecordPool
from ecg_jax.data.exclusions import Exclusion, OnBad
from ecg_jax.data.preprocess import STANDARD, Steps
from ecg_jax.data.real.formats.checks import SECONDS, check_rate_and_length, flaw

#: To be raised when a change of this code changes the records.
VERSION = 3
#: Peak to peak of a filtered record's largest lead in mV; outside, gain or unit are wrong.
PLAUSIBLE_MV = (0.1, 20.0)
FOLDS = 10
#: Recordings filtered together: 64 at 500 Hz are 15 MB.
BLOCK = 64
#: What is remarked of records that are kept, and counted.
LONGER = f"are the first {SECONDS} s of longer recordings: the rest is not kept"
UNCHECKED = "come from files that state no checksum: damaged samples would go unnoticed"


@dataclasses.dataclass(frozen=True, slots=True)
class Entry:
    """A recording of a set: the file that holds it (at `row`, where it holds many), and what is known of it.

    `labels` are None where the recording itself bears them.
    """

    record_id: str
    file: Path
    patient_id: int
    fold: int
    labels: tuple[str, ...] | None
    row: int = 0


@dataclasses.dataclass(frozen=True)
class Raw:
    """What a file holds: at least ten seconds of `(samples, 12)` in mV, leads in the contract's order; its labels.

    `unknown` says why the amplitude is not known, where it is not: each lead of `ecg_mv` is then in some unit of its
    own, and good for records in standard deviations only. `seconds` is how long the recording is, where `ecg_mv` is
    only its beginning; `remarks` are to be counted.
    """

    rate_hz: int
    ecg_mv: np.ndarray
    labels: tuple[str, ...] = ()
    unknown: str | None = None
    seconds: float | None = None
    remarks: tuple[str, ...] = ()


Load = Callable[[Entry], Raw]


@dataclasses.dataclass(frozen=True)
class Output:
    """What recordings are made into: a rate, a unit, and the steps between.

    `unit`: "mV"; "NU", standard deviations; "AU", millivolts as published, which are not to be trusted. `factor`, where
    the user states one, is what published millivolts are multiplied by to be millivolts.
    """

    sample_rate_hz: int = 100
    unit: str = "mV"
    steps: Steps = STANDARD
    factor: float | None = None

    def __post_init__(self) -> None:
        if self.factor is not None and not (np.isfinite(self.factor) and self.factor > 0):
            raise ValueError(f"factor is {self.factor:g}: a number above 0 is needed")
        if self.factor is not None and self.unit == "NU":
            raise ValueError("standard deviations have no factor: state a factor or the unit NU")
        if self.sample_rate_hz <= 2 * self.steps.band_hz[1]:
            raise ValueError(
                f"{self.sample_rate_hz} Hz hold no band up to {self.steps.band_hz[1]:g} Hz: more than twice as many "
                "samples per second are needed"
            )

    def parameters(self) -> dict[str, object]:
        """What the records of a set depend on, by name; kept with it, and compared when it is read."""
        return {
            "sample_rate_hz": self.sample_rate_hz,
            "unit": self.unit,
            "seconds": SECONDS,
            **self.steps.parameters(),
            **({} if self.factor is None else {"factor": self.factor}),
        }


class ReadSlice(Protocol):
    """Reads some recordings of a set in their order; picklable, since processes share the work."""

    def __call__(
        self,
        recordings: Sequence[Any],
        *,
        on_bad: OnBad,
        progress: Callable[[int, int], None],
        on_remark: Callable[[str], None],
    ) -> RecordPool:
        """The records, less those that `on_bad` gets with a reason; `progress(done, total)` hears of each, and
        `on_remark` what is to be counted of those that are kept."""
        ...


@dataclasses.dataclass(frozen=True)
class Catalogue:
    """A set listed. `made_from` is what its records depend on; `beside` are tables to be written beside the set.

    `notes` are sentences that who uses the set must know, such as how many recordings have no patient.
    """

    recordings: tuple[Any, ...]
    read: ReadSlice
    made_from: Mapping[str, object]
    beside: Callable[[], Mapping[str, pd.DataFrame]] = dict
    notes: tuple[str, ...] = ()


def catalogue(
    source: str,
    entries: Iterable[Entry],
    load: Load,
    output: Output,
    *,
    digest: str,
    beside: Callable[[], Mapping[str, pd.DataFrame]] = dict,
    notes: tuple[str, ...] = (),
) -> Catalogue:
    """The catalogue of `entries`, sorted by id. `digest` stands for all that was read to list them.

    Raises ValueError for an id that appears twice, a patient in two folds, or none at all.
    """
    ordered = tuple(sorted(entries, key=lambda entry: entry.record_id))
    if not ordered:
        raise ValueError(f"{source}: no recording is listed")
    check_entries(ordered)
    made_from = {"recordings": digest, "version": VERSION, **output.parameters()}
    return Catalogue(ordered, functools.partial(read_entries, source, load, output), made_from, beside, notes)


def check_entries(entries: Sequence[Entry]) -> None:
    """Raises ValueError for an id that appears twice among `entries`, sorted by id, and for a patient in two folds."""
    first: dict[int, Entry] = {}
    for previous, entry in zip([None, *entries], entries):
        if previous is not None and previous.record_id == entry.record_id:
            raise ValueError(f"{entry.record_id} is there twice: {previous.file} and {entry.file}")
        before = first.setdefault(entry.patient_id, entry)
        if before.fold != entry.fold:
            raise ValueError(
                f"one patient is in fold {before.fold} ({before.record_id}) and {entry.fold} ({entry.record_id}): a "
                "split by fold would leak"
            )


def fold_of(patient: str) -> int:
    """One of ten folds by a patient's hash, so that it never changes with what else is in a set."""
    return 1 + int.from_bytes(hashlib.sha256(patient.encode()).digest()[:4], "big") % FOLDS


def numbered(patients: Iterable[Any]) -> dict[Any, int]:
    """A number for each patient, by name."""
    return {patient: number for number, patient in enumerate(sorted(set(patients)))}


def digest_of(root: Path, *, tables: Iterable[Path] = (), files: Iterable[Path] = ()) -> str:
    """A hash of what a set lies in below `root`: its tables, and the places and sizes of those files that are there."""
    digest = hashlib.sha256()
    for path in tables:
        digest.update(repr((path.relative_to(root).as_posix(), path.stat().st_size)).encode())
        with path.open("rb") as content:
            while block := content.read(1 << 20):
                digest.update(block)
    for path in files:
        try:
            size = path.stat().st_size
        except OSError:
            size = None  # listed, and not there
        digest.update(repr((path.relative_to(root).as_posix(), size)).encode())
    return digest.hexdigest()


def read_entries(
    source: str,
    load: Load,
    output: Output,
    entries: Sequence[Entry],
    *,
    on_bad: OnBad,
    progress: Callable[[int, int], None] = lambda done, total: None,
    on_remark: Callable[[str], None] = lambda remark: None,
) -> RecordPool:
    """The records of `entries`, less those that `on_bad` gets with a reason."""
    kept: list[Entry] = []
    labels: list[tuple[str, ...]] = []
    ecg_RxSxL = np.empty((len(entries), SECONDS * output.sample_rate_hz, len(LEADS)), np.int16)
    for start in range(0, len(entries), BLOCK):
        raws: list[tuple[Entry, Raw]] = []
        for place, entry in enumerate(entries[start : start + BLOCK], start=start + 1):
            try:
                raws.append((entry, checked(load(entry), output.factor or 1.0)))
            except ValueError as error:
                on_bad(Exclusion(entry.record_id, without_paths(str(error), entry.file)))
            progress(place, len(entries))
        for (entry, raw), record in zip(raws, to_records([raw for _, raw in raws], output), strict=True):
            if isinstance(record, ValueError):
                on_bad(Exclusion(entry.record_id, str(record)))
            else:
                ecg_RxSxL[len(kept)] = record
                kept.append(entry)
                for remark in raw.remarks:
                    on_remark(remark)
                labels.append(raw.labels if entry.labels is None else entry.labels)
    return RecordPool(
        source=source,
        sample_rate_hz=output.sample_rate_hz,
        ecg=ecg_RxSxL[: len(kept)],
        record_id=np.array([entry.record_id for entry in kept], np.str_),
        patient_id=np.array([entry.patient_id for entry in kept], np.int64),
        fold=np.array([entry.fold for entry in kept], np.int64),
        unit=np.array([output.unit] * len(kept), np.str_),
        labels=tuple(labels),
    )


def without_paths(reason: str, file: Path) -> str:
    """`reason` with what lies beside `file` called by its name alone, not by where the set lies on this machine."""
    for folder in {str(file.parent.absolute()), str(file.parent.resolve()), str(file.parent)} - {"."}:
        reason = re.sub(rf"(?<![\w./-]){re.escape(folder)}/", "", reason)
    return reason


def remarks_of(counts: Mapping[str, int], kept: int) -> tuple[str, ...]:
    """Sentences that tell of how many of the `kept` records what is remarked holds."""
    return tuple(f"{count:,} of {kept:,} records {remark}" for remark, count in sorted(counts.items()))


def checked(raw: Raw, factor: float = 1.0) -> Raw:
    """The first ten seconds of a recording, times `factor`.

    Raises ValueError, as "reason: details", for one that cannot be used.
    """
    check_rate_and_length(raw.rate_hz, len(raw.ecg_mv))
    ecg_mv = factor * np.array(raw.ecg_mv[: SECONDS * raw.rate_hz], np.float64)
    ecg_mv[~np.isfinite(ecg_mv)] = np.nan
    if reason := flaw(ecg_mv):
        raise ValueError(reason)
    spans_mv = np.ptp(ecg_mv, axis=0)
    if raw.unknown is not None:
        ecg_mv = (ecg_mv - ecg_mv[0]) / spans_mv  # so that no lead is lost beside another in a much smaller unit
    elif spans_mv.max() > 100 * PLAUSIBLE_MV[1]:  # even with the widest drift of its baseline
        raise ValueError(f"amplitude: {spans_mv.max():.3g} mV peak to peak; gain or unit are wrong")
    is_longer = (raw.seconds or len(raw.ecg_mv) / raw.rate_hz) > SECONDS
    remarks = (*raw.remarks, LONGER) if is_longer else raw.remarks
    return dataclasses.replace(raw, ecg_mv=ecg_mv.astype(np.float32), remarks=remarks)


def to_records(raws: Sequence[Raw], output: Output) -> list[np.ndarray | ValueError]:
    """Recordings that were `checked` through the preprocessing, int16 `(10 s, 12)`, or why one cannot be used.

    Those of one rate go through one matrix product: a third of the time that they take one by one.
    """
    found: list[np.ndarray | ValueError] = [ValueError("not read")] * len(raws)
    for rate_hz in {raw.rate_hz for raw in raws}:
        places = [place for place, raw in enumerate(raws) if raw.rate_hz == rate_hz]
        ecg_mv = np.stack([raws[place].ecg_mv for place in places])
        filtered_mv = preprocess.filtered(ecg_mv, rate_hz, output.sample_rate_hz, output.steps)
        for place, record_mv in zip(places, filtered_mv, strict=True):
            try:
                if raws[place].unknown is None:
                    check_amplitude(record_mv, LEADS)
                elif output.unit != "NU":
                    raise ValueError(raws[place].unknown)
                found[place] = preprocess.to_counts(preprocess.scaled(record_mv) if output.unit == "NU" else record_mv)
            except ValueError as error:
                found[place] = error
    return found


def check_amplitude(ecg_mv: np.ndarray, leads: Sequence[str]) -> None:
    """Raises ValueError, as "reason: details", where filtered `(samples, leads)` cannot be an ECG in millivolts."""
    spans_mv = np.ptp(ecg_mv, axis=0)
    if not PLAUSIBLE_MV[0] <= spans_mv.max() <= PLAUSIBLE_MV[1]:
        raise ValueError(
            f"amplitude: {spans_mv.max():.3g} mV peak to peak after filtering, expected {PLAUSIBLE_MV[0]:g} to "
            f"{PLAUSIBLE_MV[1]:g}; gain or unit are wrong"
        )
    nothing = ", ".join(leads[k] for k in np.flatnonzero(spans_mv < 1 / preprocess.COUNTS_PER_UNIT).tolist())
    if nothing:
        raise ValueError(f"amplitude: less than 1 µV is left of {nothing} after filtering; gain or unit are wrong")
