"""The machines and versions that parts of a trunk ran on, as the store keeps them."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from ecg_jax.files.whole_file import damaged, read_lines

SEGMENTS = "segments.jsonl"
#: A moment, in UTC.
STAMP = "%Y-%m-%dT%H:%M:%SZ"


def read_segments(folder: Path) -> list[dict[str, Any]]:
    """What `append_segment` noted of a trunk. Raises ValueError, with file and line, where it was damaged."""
    path = folder / SEGMENTS
    remedy = "copy it again from where it came, or delete it: it tells of machines, and no result stands on it"
    lines = read_lines(path, remedy=remedy)
    for number, line in enumerate(lines, 1):
        try:
            time.strptime(line.get("started", ""), STAMP)
        except (TypeError, ValueError) as error:
            what = f"says started = {line.get('started')!r}"
            raise damaged(path, what, line=number, remedy=remedy) from error
    return lines
