"""EDF files as the standard and the wild write them."""

from pathlib import Path

import numpy as np
import pyedflib

from ecg_jax.data.ecg import LEADS
from support.wfdb_writing import counts

ECG = counts(limit=1000) / 1000
#: Where the fields of a file lie, and how wide those are that each signal has (Kemp et al., 1992).
FIXED = {
    "patient": 8,
    "recording": 88,
    "date": 168,
    "time": 176,
    "size": 184,
    "kind": 192,
    "records": 236,
    "seconds": 244,
}
WIDTHS = {
    "label": 16,
    "transducer": 80,
    "unit": 8,
    "physical minimum": 8,
    "physical maximum": 8,
    "digital minimum": 8,
    "digital maximum": 8,
    "prefilter": 80,
    "samples": 8,
}


def write(path: Path, ecg=ECG, unit="mV", names=LEADS, kind=pyedflib.FILETYPE_EDF, rate_hz=500) -> Path:
    path.parent.mkdir(exist_ok=True)
    limits = {"physical_max": 5.0, "physical_min": -5.0, "digital_max": 32767, "digital_min": -32768}
    with pyedflib.EdfWriter(str(path), len(names), file_type=kind) as file:
        same = {"dimension": unit, "sample_frequency": rate_hz, "transducer": "", "prefilter": "", **limits}
        file.setSignalHeaders([{"label": name, **same} for name in names])
        file.writeSamples([np.ascontiguousarray(column) for column in ecg.T])
        if kind == pyedflib.FILETYPE_EDFPLUS:
            file.writeAnnotation(1.0, -1, "mark")
    return path


def put(path: Path, field: str, value: str | bytes, signal: int = 0) -> Path:
    """Writes a field of a file's header, of `signal` where each has one."""
    content = bytearray(path.read_bytes())
    signals = int(content[252:256])
    place, width = FIXED.get(field), 8
    if place is None:
        width, before = WIDTHS[field], list(WIDTHS)[: list(WIDTHS).index(field)]
        place = 256 + signals * sum(WIDTHS[name] for name in before) + width * signal
    raw = value if isinstance(value, bytes) else value.encode("latin-1")
    content[place : place + max(width, len(raw))] = raw.ljust(width)
    path.write_bytes(content)
    return path


def discontinuous(path: Path, gap_after: int | None) -> Path:
    """An EDF+ file of 20 data records that says it is discontinuous, with a gap of three seconds, or without one."""
    content = bytearray(write(path, np.tile(ECG, (2, 1)), kind=pyedflib.FILETYPE_EDFPLUS).read_bytes())
    content[192:197] = b"EDF+D"
    if gap_after is not None:
        for second in reversed(range(gap_after, 20)):
            old, new = (f"+{at}\x14\x14".encode() for at in (second, second + 3))
            begins = content.index(old, 256 * 14)
            content[begins : begins + len(old) + 1] = new.ljust(len(old) + 1, b"\0")[: len(old) + 1]
    path.write_bytes(content)
    return path
