"""Watching a pack: where its time goes, a trace of it, the machine it runs on, and the curve of its trunks."""

from __future__ import annotations

import platform
import time
from pathlib import Path

import jax

from ecg_jax.distributed.backend import is_deterministic
from ecg_jax.files import jsonl, write_text
from ecg_jax.store_.segments import SEGMENTS, STAMP, read_segments


def append_segment(folder: Path) -> None:
    """Notes the hardware and versions under which this part of a trunk ran: no part of its identity."""
    device = jax.devices()[0]
    segment = {
        "started": time.strftime(STAMP, time.gmtime()),
        "platform": device.platform,
        "device": device.device_kind,
        "devices": jax.device_count(),
        "hosts": jax.process_count(),
        "python": platform.python_version(),
        "jax": jax.__version__,
        "deterministic": is_deterministic(),
    }
    write_text(folder / SEGMENTS, jsonl([*read_segments(folder), segment]))
