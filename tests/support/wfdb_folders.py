"""Folders of recordings in WFDB and EDF, made and damaged."""

import shutil
from pathlib import Path

import numpy as np
import pyedflib

from ecg_jax.data.ecg import LEADS
from ecg_jax.data.real.datasets import any_folder
from ecg_jax.data.real.datasets.catalogue import Entry, Output, checked, to_records
from ecg_jax.data.storage.wfdb_writer import write_signals

KEEP = {"on_bad": lambda _: None}


def listed(source: Path, table: Path | None = None) -> tuple[Entry, ...]:
    return any_folder.list_folder("x", source, Output(), table).recordings


def read(entry: Entry) -> tuple[np.ndarray, tuple[str, ...]]:
    raw = checked(any_folder.load(entry))
    (record,) = to_records([raw], Output())
    if isinstance(record, ValueError):
        raise record
    return record, raw.labels


def copied(data_dir: Path, to: Path, *records: str) -> Path:
    """Recordings of the real data, each with all its files, in one folder."""
    to.mkdir(exist_ok=True)
    for record in records:
        for path in sorted((data_dir / record).parent.glob(f"{Path(record).name}.*")):
            shutil.copy(path, to / path.name)
    return to


def made(to: Path, name: str, rate_hz: int = 500, seconds: float = 10, change=lambda ecg: ecg) -> np.ndarray:
    to.mkdir(exist_ok=True, parents=True)
    rng = np.random.default_rng(3)
    t = np.arange(int(rate_hz * seconds))[:, None] / rate_hz
    ecg = np.sin(2 * np.pi * rng.uniform(1, 9, len(LEADS)) * t) * rng.uniform(0.5, 1.5, len(LEADS))
    write_signals(to, name, change(ecg), rate_hz, ["Dx: 59118001,426783006"])
    return ecg


def edf(path: Path, ecg: np.ndarray, rate_hz: int = 500, unit: str = "mV", names=LEADS) -> None:
    path.parent.mkdir(exist_ok=True)
    with pyedflib.EdfWriter(str(path), len(names), file_type=pyedflib.FILETYPE_EDF) as file:
        limit = 5000 if unit == "uV" else 5
        ends = {"physical_max": limit, "physical_min": -limit, "digital_max": 32767, "digital_min": -32768}
        kind = {"dimension": unit, "sample_frequency": rate_hz, "transducer": "", "prefilter": ""}
        file.setSignalHeaders([{"label": f"ECG {name}", **kind, **ends} for name in names])
        file.writeSamples([np.ascontiguousarray(ecg[:, k]) for k in range(len(names))])


def damaged(content: bytes, rng: np.random.Generator) -> bytes:
    """A copy with bytes flipped, cut off, doubled, or numbers changed."""
    match rng.integers(4):
        case 0:
            changed = bytearray(content)
            for place in rng.integers(len(changed), size=rng.integers(1, 9)):
                changed[place] ^= 1 << int(rng.integers(8))
            return bytes(changed)
        case 1:
            return content[: rng.integers(len(content))]
        case 2:
            start = int(rng.integers(len(content)))
            return content[:start] + content[start // 2 :]
        case _:
            words = content.split(b" ")
            words[rng.integers(len(words))] = [b"-1", b"1e999", b"nan", b"0", b"99999999999", b""][rng.integers(6)]
            return b" ".join(words)
