"""PTB-XL prepared once, then read from shards."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from ecg_jax.data.ecg import RecordPool
from ecg_jax.data.exclusions import Exclusion, OnBad, raise_first
from ecg_jax.data.real.datasets import ptbxl
from ecg_jax.data.real.datasets.ptbxl import Recording
from ecg_jax.data.storage import shards

#: Rows of the table per shard: 25 MB at 100 Hz.
SHARD_RECORDS = 1024


def prepare_ptbxl(
    data_dir: Path,
    cache_dir: Path,
    *,
    sample_rate_hz: int = 100,
    on_bad: OnBad = raise_first,
    progress: ptbxl.Progress | None = None,
) -> RecordPool:
    """The pool of `ptbxl.load_ptbxl`, kept as shards in `cache_dir`: made by the first call, opened by later ones, and
    by those that were made at the same time, which wait.

    Memory while making is that of one shard. Every call tells `on_bad` which recordings are left out; `progress` is
    called while shards are made. Raises ValueError when the shards there were made from other tables or settings, and
    what `load_ptbxl` raises.
    """
    folder = cache_dir / f"ptbxl-{sample_rate_hz}hz"
    fingerprint = ptbxl.fingerprint(data_dir, sample_rate_hz)
    if folder.exists():
        return shards.open_shards(folder, fingerprint=fingerprint, on_bad=on_bad)
    excluded: list[Exclusion] = []

    def exclude(exclusion: Exclusion) -> None:
        on_bad(exclusion)
        excluded.append(exclusion)

    recordings = ptbxl.list_joined(data_dir, sample_rate_hz)
    pools = _read_slices(recordings, sample_rate_hz, exclude, progress)
    try:
        shards.write_shards(folder, pools, fingerprint=fingerprint, exclusions=excluded)
    except FileExistsError:  # another process has made them meanwhile
        return shards.open_shards(folder, fingerprint=fingerprint, on_bad=on_bad)
    return shards.open_shards(folder, on_bad=lambda _: None)  # told already


def _read_slices(
    recordings: Sequence[Recording], sample_rate_hz: int, on_bad: OnBad, progress: ptbxl.Progress | None
) -> Iterator[RecordPool]:
    """The records of one shard after the other: fixed slices of the list, less what `on_bad` took."""
    for start in range(0, len(recordings), SHARD_RECORDS):
        chosen = recordings[start : start + SHARD_RECORDS]

        def advance(done: int, _: int, start: int = start) -> None:
            if progress is not None:
                progress(start + done, len(recordings))

        yield ptbxl.read_recordings(chosen, sample_rate_hz, on_bad=on_bad, progress=advance)
