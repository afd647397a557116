"""What a pack is fed: for every step, the batches of its members, by either placement.

Host placement reads records ahead by threads and sends them; device placement sends three words per record, and the
training step finds or renders the records itself. Same ids exactly, same values to the rounding of one count.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import jax
import numpy as np

from ecg_jax.config import RunConfig, mixture_of
from ecg_jax.data.ecg import RecordPool, Source
from ecg_jax.data.mixture import Mixture, batch_ids, read_batch
from ecg_jax.distributed.mesh import host_slice, place_pack
from ecg_jax.train.step import Read
from ecg_jax.train.training_data import TrainingData

_Result = TypeVar("_Result")


class Placement(enum.StrEnum):
    """Where batches are put together."""

    HOST = "host"
    DEVICE = "device"


@dataclass(frozen=True)
class _Rows:
    """Some rows of a pool as a source of their own."""

    pool: RecordPool
    rows: np.ndarray

    def read(self, indices: np.ndarray) -> np.ndarray:
        return self.pool.read(self.rows[indices])


@dataclass(frozen=True, eq=False)
class Feed:
    """`read` and `resident` are for `train.program` and `train.train`; `batches(steps)` yields what travels.

    `rows` are, per member, the rows of the resident pool that hold the records of each of its real sources, and its
    stored synthetic ones.
    """

    members: Sequence[tuple[Mixture, RecordPool, Source]]
    read: Read | None = None
    resident: Any = None
    rows: Sequence[tuple[Sequence[np.ndarray], np.ndarray | None]] = ()

    def batches(self, steps: range) -> Iterator[jax.Array]:
        """The batches of a pack at `steps`, `(K, B, ...)`."""
        part = host_slice(self.members[0][0].batch_records)
        return self._words(steps, part) if self.read is not None else self._records(steps, part)

    def _records(self, steps: range, part: slice) -> Iterator[jax.Array]:
        from ecg_jax.train.read_ahead import read_ahead  # Grain, which device placement does without

        parts = _of_pools(self.members, lambda pool: [_Rows(pool, part.rows) for part in pool.parts])
        members = [(m, source, parts[id(pool)]) for m, pool, source in self.members]

        def read(step: int) -> np.ndarray:
            return np.stack([read_batch(batch_ids(m, step), source, real, part) for m, source, real in members])

        return (place_pack(batch) for batch in read_ahead(read, steps))

    def _words(self, steps: range, part: slice) -> Iterator[jax.Array]:
        from ecg_jax.train.device_input import words_of

        for step in steps:
            words = [
                words_of(batch_ids(m, step), *rows) for (m, _, _), rows in zip(self.members, self.rows, strict=True)
            ]
            yield place_pack(np.stack(words)[:, part])


def _of_pools(
    members: Sequence[tuple[Mixture, RecordPool, Source]], of: Callable[[RecordPool], _Result]
) -> dict[int, _Result]:
    """`of(pool)` by the `id` of the pool, once for all members that share it: its index may have a million rows."""
    return {number: of(pool) for number, pool in {id(pool): pool for _, pool, _ in members}.items()}


def feed_of(configs: Sequence[RunConfig], data: TrainingData, placement: Placement) -> Feed:
    """The feed of a pack with one run per member. Needs a mesh in force.

    Raises ValueError in device placement for a synthetic source that is neither rendered nor a pool in memory, and for
    several rendered ones over several rows of a mesh.
    """
    pools = [data.pool(config) for config in configs]
    # A run that uses no synthetic records names a source all the same; it need not be there.
    sources = [data.source(c) if c.data.ratio < 1 else pool for c, pool in zip(configs, pools, strict=True)]
    mixtures = [mixture_of(config, pool) for config, pool in zip(configs, pools, strict=True)]
    members = list(zip(mixtures, pools, sources, strict=True))
    if placement is Placement.HOST:
        return Feed(members)
    return _on_device(configs, data.real, members)


def _on_device(
    configs: Sequence[RunConfig], real: RecordPool, members: Sequence[tuple[Mixture, RecordPool, Source]]
) -> Feed:
    from ecg_jax.data.synthetic.render.source import SyntheticSource
    from ecg_jax.train.device_input import reader, resident, rows_in

    renderers: list[SyntheticSource | None] = []
    held = [real] if any(config.data.ratio > 0 for config in configs) else []
    stored: list[tuple[int, int] | None] = []  # where a member's stored synthetic records begin and end
    start_of: dict[int, int] = {}
    for config, (_, _, source) in zip(configs, members, strict=True):
        is_mixed = config.data.ratio < 1
        renderers.append(source if is_mixed and isinstance(source, SyntheticSource) else None)
        stored.append(None)
        if not is_mixed or isinstance(source, SyntheticSource):
            continue
        if not isinstance(source, RecordPool):
            raise ValueError(
                f"run {config.run_id} draws from a {type(source).__name__}: device placement renders a SyntheticSource "
                "and holds a RecordPool; give others host placement"
            )
        if id(source) not in start_of:
            start_of[id(source)] = sum(map(len, held))
            held.append(source)
        stored[-1] = (start_of[id(source)], start_of[id(source)] + len(source))
    parts = _of_pools(members, lambda pool: [rows_in(real, pool)[part.rows] for part in pool.parts])
    spans = {span: None if span is None else np.arange(*span) for span in stored}
    rows = [(parts[id(pool)], spans[span]) for (_, pool, _), span in zip(members, stored, strict=True)]
    return Feed(members, reader(renderers), resident(held), rows)
