"""A finite synthetic pool rendered once and stored like a real set, as ArrayRecord shards that TFDS opens."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

from ecg_jax.data.ecg import STORED, RecordPool
from ecg_jax.data.storage import shards
from ecg_jax.data.synthetic.physiology.conditions import SCP_CODES, Morphology, Rhythm
from ecg_jax.data.synthetic.render.source import BLOCK_RECORDS, SyntheticSource, draw_block, on_host

FOLDS = 10
#: Records rendered and written at a time: 25 MB at 100 Hz.
SHARD_RECORDS = 1024


def store_pool(
    source: SyntheticSource, folder: Path, *, progress: Callable[[int, int], None] | None = None
) -> RecordPool:
    """Renders every record of a finite source into shards in `folder`, or opens the shards already there.

    Labels are the SCP codes of what was intended; patients are dealt to ten folds. Raises ValueError when the shards
    there came from another source, and TypeError for an unbounded one.
    """
    identity = {"source": STORED, "identity": source.identity, "records": len(source)}
    if not folder.exists():
        shards.write_shards(folder, _parts(source, progress), fingerprint=identity)
    pool = shards.open_shards(folder, fingerprint=identity)
    return dataclasses.replace(pool, simulated=source.simulated)  # which older shards do not say


def _parts(source: SyntheticSource, progress: Callable[[int, int], None] | None) -> Iterator[RecordPool]:
    for start in range(0, len(source), SHARD_RECORDS):
        index = np.arange(start, min(start + SHARD_RECORDS, len(source)))
        patient = index // source.records_per_patient
        yield RecordPool(
            source=STORED,
            sample_rate_hz=source.sample_rate_hz,
            ecg=source.read(index),
            record_id=np.array([f"{STORED}/{number:08d}" for number in index]),
            patient_id=patient.astype(np.int64),
            fold=(patient % FOLDS + 1).astype(np.int64),
            unit=np.full(len(index), "NU" if source.fitted else "mV"),
            labels=_labels(source, index),
            simulated=source.simulated,
        )
        if progress is not None:
            progress(int(index[-1]) + 1, len(source))


def _labels(source: SyntheticSource, index: np.ndarray) -> tuple[tuple[str, ...], ...]:
    """SCP codes of what was intended, none for recipes without conditions."""
    if source.made_by.conditions is None:
        return ((),) * len(index)
    codes = []
    for block in range(int(index[0]) // BLOCK_RECORDS, int(index[-1]) // BLOCK_RECORDS + 1):
        arguments = (source.seed, block, source.made_by, source.seconds, source.records_per_patient)
        drawn = on_host(draw_block, *arguments).result().hearts.conditions
        if drawn is None:
            raise ValueError(f"{source.made_by} has conditions, and its hearts none")
        pairs = zip(np.asarray(drawn.rhythm), np.asarray(drawn.morphology))
        codes += [SCP_CODES[Rhythm(int(rhythm))] + SCP_CODES[Morphology(int(shape))] for rhythm, shape in pairs]
    return tuple(codes[i - int(index[0]) // BLOCK_RECORDS * BLOCK_RECORDS] for i in index)
