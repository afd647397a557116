"""LUDB 1.0.1 (Kalyakulina et al., IEEE Access 8:186181, 2020): 200 recordings with the boundaries of every wave.

Each lead has a gain of its own that does not bring them to one scale: the limb leads do not fit each other. So the
amplitude is unknown, and leads are scaled to their standard deviations (unit "NU"). Labels are the diagnoses of the
headers, as they word them.
"""

from __future__ import annotations

import dataclasses
import functools
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd

from ecg_jax.data.ecg import LEADS
from ecg_jax.data.exclusions import first_line
from ecg_jax.data.lead_names import lead_order
from ecg_jax.data.real.datasets.any_folder import digest, raw_of, whole_recordings
from ecg_jax.data.real.datasets.catalogue import Catalogue, Entry, Output, Raw, catalogue, fold_of
from ecg_jax.data.real.formats.tables import known
from ecg_jax.data.real.formats.wfdb_record import checked_header, read_record
from ecg_jax.extras import needs

with needs("real"):
    import wfdb

#: What the annotators call a wave, by its symbol.
WAVES = {"p": "P", "N": "QRS", "t": "T"}


def list_ludb(name: str, folder: Path, output: Output) -> Catalogue:
    """The recordings below `folder` by number; a table of their waves is written beside the set.

    Each recording is a patient of their own, as published. Raises FileNotFoundError when there is none.
    """
    if output.factor is not None:
        raise ValueError("LUDB's amplitudes are of another scale in each lead: no factor makes them millivolts")
    headers, _ = whole_recordings(folder)
    entries = [
        Entry(f"{name}/{Path(record).name.zfill(3)}", header, place, fold_of(Path(record).name), None)
        for place, (record, header) in enumerate(sorted(headers.items(), key=lambda item: Path(item[0]).name.zfill(3)))
    ]
    return catalogue(
        name,
        entries,
        load,
        dataclasses.replace(output, unit="NU"),
        digest=digest(entries),
        beside=functools.partial(_tables, tuple(entries)),
    )


def load(entry: Entry) -> Raw:
    """A recording and its diagnoses. Raises ValueError, as "reason: details", for one that cannot be used."""
    record = read_record(entry.file, lead_order)
    after = next((k for k, line in enumerate(record.comments) if "<diagnoses>" in line), len(record.comments))
    said = {known(line.strip().rstrip(".")) for line in record.comments[after + 1 :]} - {""}
    return raw_of(record, entry.file, tuple(sorted(said)))


def read_waves(header: Path) -> pd.DataFrame:
    """The waves of a recording: `lead`, `wave` (P, QRS, T), and `onset_s`, `peak_s`, `offset_s` from its beginning.

    A boundary that the annotators left out is NaN. Raises ValueError for a file of annotations that cannot be read.
    """
    about = checked_header(header)
    last = (about.frames or sys.maxsize) - 1
    rows: list[tuple[str, str, float, float, float]] = []
    for lead in LEADS:
        try:
            marks = wfdb.rdann(str(header.with_suffix("")), lead.lower())
        except Exception as error:  # annotations fail in as many ways as headers
            raise ValueError(f"{header.stem}.{lead.lower()}: {type(error).__name__}: {first_line(error)}") from error
        inside = np.concatenate(([0], marks.sample, [last]))
        if (np.diff(inside) < 0).any():
            raise ValueError(f"{header.stem}.{lead.lower()}: its marks are not in order within {last + 1} samples")
        for wave, place in _waves(marks.symbol, marks.sample):
            onset_s, peak_s, offset_s = (mark / about.rate_hz for mark in place)
            rows.append((lead, wave, onset_s, peak_s, offset_s))
    return pd.DataFrame(rows, columns=["lead", "wave", "onset_s", "peak_s", "offset_s"])


def _waves(symbols: list[str], samples: list[int]) -> Iterator[tuple[str, tuple[float, float, float]]]:
    """Each peak with the "(" just before it and the ")" just after it."""
    nowhere = float("nan")
    for place, symbol in enumerate(symbols):
        if symbol in WAVES:
            onset = samples[place - 1] if place and symbols[place - 1] == "(" else nowhere
            offset = samples[place + 1] if symbols[place + 1 : place + 2] == [")"] else nowhere
            yield WAVES[symbol], (onset, samples[place], offset)


def _tables(entries: tuple[Entry, ...]) -> dict[str, pd.DataFrame]:
    """The waves of all recordings, and, where there are any, those whose annotations cannot be read."""
    parts, left_out = [], []
    for entry in entries:
        try:
            waves = read_waves(entry.file)
        except ValueError as error:
            left_out.append((entry.record_id, str(error)))
        else:
            waves.insert(0, "record_id", entry.record_id)
            parts.append(waves)
    tables = {"waves": pd.concat(parts, ignore_index=True)} if parts else {}
    return tables | ({"waves_left_out": pd.DataFrame(left_out, columns=["record_id", "reason"])} if left_out else {})
