"""PTB-XL (Wagner et al., Scientific Data 7:154, 2020): the raw 500 Hz recordings, and the z-scored 100 Hz sample.

The raw set is read as downloaded from its publisher. Both variants name the same recording alike ("ptbxl/00001").
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ecg_jax.data import preprocess
from ecg_jax.data.ecg import LEADS, RecordPool
from ecg_jax.data.exclusions import Exclusion, OnBad, first_line, raise_first
from ecg_jax.data.lead_names import lead_order
from ecg_jax.data.preprocess import STANDARD, Steps
from ecg_jax.data.real.datasets.catalogue import Catalogue, Output
from ecg_jax.data.real.datasets.ptbxl_tables import (
    DATABASE,
    STATEMENTS,
    Z100_DATABASE,
    read_statements,
    record_name,
    scp_labels,
    whole_number,
    z100_labels,
)
from ecg_jax.data.real.formats.checks import SECONDS, flaw
from ecg_jax.data.real.formats.tables import plain_path, read_table
from ecg_jax.data.real.formats.wfdb_record import WfdbRecord, read_record

Progress = Callable[[int, int], None]

RAW_RATE_HZ = 500
Z100_RATE_HZ = 100
FOLDS = range(1, 11)
#: To be raised when a change of this code changes the records: shards made before are then refused.
VERSION = 1
#: Recordings filtered together: 64 at 500 Hz are 15 MB.
BLOCK = 64


def read_ptbxl(
    data_dir: Path, *, sample_rate_hz: int = 100, on_bad: OnBad = raise_first, progress: Progress | None = None
) -> RecordPool:
    """Reads the raw recordings from `records500/`, filtered at 500 Hz, resampled, in the order of their ids.

    `data_dir` holds `ptbxl/`, or is a PTB-XL folder as downloaded. `on_bad` is called with each recording that has a
    flat lead or missing samples; it is left out then, unless `on_bad` raises, as it does by default. `progress` is
    called with (done, total). Raises FileNotFoundError or ValueError at the first thing that is not as published.
    """
    return read_recordings(list_raw(data_dir), sample_rate_hz, on_bad=on_bad, progress=progress)


def read_ptbxl_z100(data_dir: Path, *, on_bad: OnBad = raise_first, progress: Progress | None = None) -> RecordPool:
    """Reads the z-scored 100 Hz sample from `data_dir/ptbxl_z100` as it is: unit NU, 1000 counts per deviation.

    `on_bad`, `progress` and errors as in `read_ptbxl`.
    """
    return read_recordings(list_z100(data_dir), Z100_RATE_HZ, on_bad=on_bad, progress=progress)


def load_ptbxl(
    data_dir: Path, *, sample_rate_hz: int = 100, on_bad: OnBad = raise_first, progress: Progress | None = None
) -> RecordPool:
    """Reads both variants as one pool; a recording that has both is taken from the raw set. See `read_ptbxl`."""
    recordings = list_joined(data_dir, sample_rate_hz)
    return read_recordings(recordings, sample_rate_hz, on_bad=on_bad, progress=progress)


def list_joined(data_dir: Path, sample_rate_hz: int) -> tuple[Recording, ...]:
    """The recordings of both variants, each once and raw where it can be, by id; the raw set alone where it is alone.

    Raises ValueError when a patient is in two folds, or the z-scored sample is there and `sample_rate_hz` is not its
    rate.
    """
    recordings = {recording.record_id: recording for recording in list_raw(data_dir)}
    if (data_dir / "ptbxl_z100").is_dir():
        if sample_rate_hz != Z100_RATE_HZ:
            raise ValueError(
                f"sample_rate_hz is {sample_rate_hz}: {data_dir / 'ptbxl_z100'} exists at {Z100_RATE_HZ} Hz only; for "
                f"the raw recordings alone name their folder, {data_dir / 'ptbxl'}"
            )
        recordings = {recording.record_id: recording for recording in list_z100(data_dir)} | recordings
    return _checked(recordings.values(), data_dir)


def list_ptbxl(data_dir: Path, output: Output) -> Catalogue:
    """The recordings of `list_joined`, for a builder: files that are missing or damaged are left out as well.

    Raises ValueError as `list_joined` does, and for other steps where the z-scored sample, filtered already, is there.
    """
    recordings = list_joined(data_dir, output.sample_rate_hz)
    if output.steps != STANDARD and any(recording.unit == "NU" for recording in recordings):
        raise ValueError(
            f"{data_dir / 'ptbxl_z100'} was filtered by its publisher: it takes no other steps than the standard ones; "
            f"for the raw recordings alone name their folder, {data_dir / 'ptbxl'}"
        )
    if output.factor is not None:
        raise ValueError("the amplitudes of PTB-XL are known: leave out --factor")
    rate_hz, steps, normalised = output.sample_rate_hz, output.steps, output.unit == "NU"
    read = functools.partial(
        _read_slice, sample_rate_hz=rate_hz, leave_out_damaged=True, steps=steps, normalised=normalised
    )
    return Catalogue(recordings, read, fingerprint(data_dir, rate_hz, steps, normalised=normalised))


def _read_slice(
    recordings: Sequence[Recording], *, on_remark: Callable[[str], None] | None = None, **how: Any
) -> RecordPool:
    """`read_recordings` for a builder: of recordings that all last ten seconds there is nothing to remark."""
    return read_recordings(recordings, **how)


def list_raw(data_dir: Path) -> tuple[Recording, ...]:
    """The rows of `ptbxl_database.csv`, by id. Labels: SCP codes with their diagnostic classes and subclasses."""
    folder = raw_folder(data_dir)
    statements = read_statements(folder / STATEMENTS)
    rows = read_table(folder / DATABASE, ("ecg_id", "patient_id", "scp_codes", "strat_fold", "filename_hr"))
    return _checked(
        (
            _recording(
                row, where, folder, "filename_hr", scp_labels(row["scp_codes"], statements, where), RAW_RATE_HZ, "mV"
            )
            for where, row in rows
        ),
        folder / DATABASE,
    )


def list_z100(data_dir: Path) -> tuple[Recording, ...]:
    """The rows of `ptbxl_z100_database.csv`, by id. Labels: classes, subclasses, form and rhythm, as far as given."""
    folder = data_dir / "ptbxl_z100"
    columns = ("super_class", "sub_class", "form", "rhythm")
    rows = read_table(folder / Z100_DATABASE, ("ecg_id", "patient_id", "strat_fold", "filename_zr", *columns))
    return _checked(
        (
            _recording(row, where, folder, "filename_zr", z100_labels(row, columns), Z100_RATE_HZ, "NU")
            for where, row in rows
        ),
        folder / Z100_DATABASE,
    )


def raw_folder(data_dir: Path) -> Path:
    """Where `ptbxl_database.csv` lies: `data_dir/ptbxl` or `data_dir`. Raises FileNotFoundError when in neither."""
    if not data_dir.is_dir():
        raise FileNotFoundError(f"{data_dir} is not a folder: name the one that holds ptbxl/ (ECG_DATA_DIR)")
    for folder in (data_dir / "ptbxl", data_dir):
        if (folder / DATABASE).is_file():
            return folder
    found = sorted(path.name for path in data_dir.iterdir())[:8]
    raise FileNotFoundError(
        f"{data_dir} holds neither ptbxl/{DATABASE} nor {DATABASE}, but {found or 'nothing'}: name the folder that "
        "holds ptbxl/ (ECG_DATA_DIR), or a PTB-XL folder as downloaded"
    )


def fingerprint(
    data_dir: Path, sample_rate_hz: int, steps: Steps = STANDARD, *, normalised: bool = False
) -> dict[str, object]:
    """What a pool made by `load_ptbxl` depends on, part by part: tables (SHA-256), code version, rate, filter."""
    folder = raw_folder(data_dir)
    tables = [folder / DATABASE, folder / STATEMENTS]
    if (data_dir / "ptbxl_z100").is_dir():
        tables.append(data_dir / "ptbxl_z100" / Z100_DATABASE)
    digests = {table.name: hashlib.sha256(table.read_bytes()).hexdigest() for table in tables}
    return {
        **digests,
        "version": VERSION,
        "sample_rate_hz": sample_rate_hz,
        "seconds": SECONDS,
        **steps.parameters(),
        **({"unit": "NU"} if normalised else {}),
    }


def read_recordings(
    recordings: Sequence[Recording],
    sample_rate_hz: int,
    *,
    on_bad: OnBad = raise_first,
    progress: Progress | None = None,
    leave_out_damaged: bool = False,
    steps: Steps = STANDARD,
    normalised: bool = False,
) -> RecordPool:
    """Reads `recordings` in their order, as `read_ptbxl` says; without those that `on_bad` took.

    `leave_out_damaged`: `on_bad` gets files that are missing or damaged as well. `steps`, `normalised`: how raw
    recordings are made into records (`preprocess.apply_chain`).
    """
    ecg_RxSxL = np.empty((len(recordings), SECONDS * sample_rate_hz, len(LEADS)), np.int16)
    kept: list[Recording] = []
    for start in range(0, len(recordings), BLOCK):
        block = recordings[start : start + BLOCK]
        sound, signals = _read_sound(block, on_bad, leave_out_damaged)
        for recording, ecg in zip(sound, _filtered(sound, signals, sample_rate_hz, steps), strict=True):
            try:
                ecg_RxSxL[len(kept)] = _to_counts(ecg, scale=normalised and recording.unit == "mV")
            except ValueError as error:
                if not leave_out_damaged:
                    raise ValueError(f"{recording.record_id}: {error}") from error
                on_bad(Exclusion(recording.record_id, f"amplitude: {error}"))
            else:
                kept.append(recording)
        if progress is not None:
            progress(start + len(block), len(recordings))
    return RecordPool(
        source="ptbxl",
        sample_rate_hz=sample_rate_hz,
        ecg=ecg_RxSxL[: len(kept)],
        record_id=np.array([recording.record_id for recording in kept], np.str_),
        patient_id=np.array([recording.patient_id for recording in kept], np.int64),
        fold=np.array([recording.fold for recording in kept], np.int64),
        unit=np.array(["NU" if normalised else recording.unit for recording in kept], np.str_),
        labels=tuple(recording.labels for recording in kept),
    )


def _read_sound(
    recordings: Sequence[Recording], on_bad: OnBad, leave_out_damaged: bool
) -> tuple[list[Recording], list[np.ndarray]]:
    """The recordings without a flaw, and their signals; `on_bad` gets the others."""
    sound: list[Recording] = []
    signals: list[np.ndarray] = []
    for recording in recordings:
        try:
            ecg = read_signal(recording)
        except (OSError, ValueError) as error:
            if not leave_out_damaged:
                raise
            on_bad(Exclusion(recording.record_id, f"unreadable: {first_line(error)}"))
            continue
        reason = flaw(ecg)
        if reason is None:
            sound.append(recording)
            signals.append(ecg)
        else:
            on_bad(Exclusion(recording.record_id, reason))
    return sound, signals


def read_signal(recording: Recording) -> np.ndarray:
    """Reads a recording in its physical unit: float32 `(10 s, 12)`, leads in the contract's order, NaN where missing.

    Raises FileNotFoundError for a missing file and ValueError for one that cannot be used (`wfdb_record.read_record`),
    or has another rate, length, unit or file of signals than the database and its publisher say.
    """
    header, signals = (recording.signal.with_name(recording.signal.name + end) for end in (".hea", ".dat"))
    for path in (header, signals):
        if not path.is_file():
            raise FileNotFoundError(
                f"{recording.record_id}: {recording.place}{path.suffix} does not exist, though the database lists it"
            )
    try:
        record = read_record(header, lead_order)
        _check_as_published(record, recording)
    except ValueError as error:
        raise ValueError(f"{recording.place}: {error}; fetch it again") from error
    return record.samples.astype(np.float32)


def _check_as_published(record: WfdbRecord, recording: Recording) -> None:
    """Raises ValueError, as "header: details", when a recording is not what the database and the publisher say."""
    samples = SECONDS * recording.sample_rate_hz
    if (record.rate_hz, len(record.samples)) != (recording.sample_rate_hz, samples):
        raise ValueError(
            f"header: {len(record.samples)} samples at {record.rate_hz:g} Hz, expected {samples} at "
            f"{recording.sample_rate_hz} Hz"
        )
    files, units = ({getattr(signal, of) for signal in record.signals} for of in ("file", "unit"))
    if files != {f"{recording.signal.name}.dat"}:
        raise ValueError(f"header: its signals lie in {sorted(files)}, expected {recording.signal.name}.dat")
    if units != {recording.unit}:
        raise ValueError(f"header: unit {sorted(units)}, expected {recording.unit} for every lead")
    if None in {signal.gain for signal in record.signals}:
        raise ValueError("header: a gain is 0 or not stated; the amplitude is unknown")


def _filtered(
    recordings: Sequence[Recording], signals: Sequence[np.ndarray], sample_rate_hz: int, steps: Steps
) -> list[np.ndarray]:
    """Raw signals through the chain, in one matrix product; z-scored ones, filtered already, as they are."""
    raw = [i for i, recording in enumerate(recordings) if recording.unit == "mV"]
    found = list(signals)
    if raw:
        together = preprocess.filtered(np.stack([signals[i] for i in raw]), RAW_RATE_HZ, sample_rate_hz, steps)
        for i, ecg in zip(raw, together, strict=True):
            found[i] = ecg
    return found


def _to_counts(ecg: np.ndarray, *, scale: bool) -> np.ndarray:
    counts = preprocess.to_counts(preprocess.scaled(ecg) if scale else ecg)
    lost = [lead for lead, span in zip(LEADS, np.ptp(counts.astype(int), axis=0), strict=True) if span == 0]
    if lost:
        raise ValueError(f"nothing is left of {', '.join(lost)} after filtering; the gain in the header is wrong")
    return counts


def _checked(recordings: Iterable[Recording], where: Path) -> tuple[Recording, ...]:
    """The recordings by id. Raises ValueError for a repeated id, a patient in two folds, or none at all."""
    ordered = sorted(recordings, key=lambda recording: recording.record_id)
    if not ordered:
        raise ValueError(f"{where}: the table has no rows")
    fold_of: dict[int, Recording] = {}
    for previous, recording in zip([None, *ordered], ordered):
        if previous is not None and previous.record_id == recording.record_id:
            raise ValueError(f"{where}: ecg_id of {recording.record_id} appears twice; ids must be unique")
        first = fold_of.setdefault(recording.patient_id, recording)
        if first.fold != recording.fold:
            raise ValueError(
                f"{where}: patient_id {recording.patient_id} is in strat_fold {first.fold} ({first.record_id}) and "
                f"{recording.fold} ({recording.record_id}); a split by fold would leak. Use the published table"
            )
    return tuple(ordered)


def _recording(
    row: dict[str, str], where: str, folder: Path, column: str, labels: tuple[str, ...], rate_hz: int, unit: str
) -> Recording:
    fold = whole_number(row, "strat_fold", where)
    if fold not in FOLDS:
        raise ValueError(f"{where}: strat_fold is {fold}, expected {FOLDS[0]} to {FOLDS[-1]}")
    place = plain_path(row[column], f"{where}, {column}")
    return Recording(
        record_id=record_name(row, where),
        patient_id=whole_number(row, "patient_id", where),
        fold=fold,
        labels=labels,
        signal=folder / place,
        sample_rate_hz=rate_hz,
        unit=unit,
        place=str(place),
    )


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
    place: str = ""  # of the signal within the set, for messages
