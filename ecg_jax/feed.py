"""What a pack is fed: for every step, the batches of its members, by either placement.

Host placement reads records ahead by threads and sends them; device placement sends three words per record, and the
training step finds or renders the records itself. Same ids exactly, same values to the rounding of one count.
"""

from __future__ import annotations

import enum
import functools
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import jax
import numpy as np

from ecg_jax.config import RunConfig
from ecg_jax.data.ecg import SIMULATED, STORED, RecordPool, Source, check_folds
from ecg_jax.data.mixture import SEED_STRIDE, Mixture, batch_ids, read_batch
from ecg_jax.data.synthetic.fitted.pool_identity import identify
from ecg_jax.distributed.mesh import host_slice, place_pack
from ecg_jax.train import Read

_Result = TypeVar("_Result")


class Placement(enum.StrEnum):
    """Where batches are put together."""

    HOST = "host"
    DEVICE = "device"


@dataclass(frozen=True)
class TrainingData:
    """The sources that runs draw from: all real training records, of one source or of several that `ecg.join` made one
    pool, and the synthetic sources by their identity, which is what `DataConfig.synthetic_source` names.

    Raises ValueError for simulated recordings among the real ones, for real ones in a synthetic pool, and for records
    of the folds of PTB-XL that are held out.
    """

    real: RecordPool
    synthetic: Mapping[str, Source]

    def __post_init__(self) -> None:
        check_trained_on(self.real)
        for name, source in self.synthetic.items():
            if isinstance(source, RecordPool):
                check_folds(source, f"the synthetic pool {name!r}")
                _check_not_real(name, source, self.real)

    def pool(self, config: RunConfig) -> RecordPool:
        """The real records of a run: all, or its first patients, as a view that all runs of them share."""
        if config.data.real_patients is None:
            return self.real
        cut = (config.data.real_patients, config.data.pool_shuffle)
        if cut not in self._nested:
            self._nested[cut] = self.real.first_patients(*cut)
        return self._nested[cut]

    @functools.cached_property
    def _nested(self) -> dict[tuple[int, int], RecordPool]:
        return {}

    def source(self, config: RunConfig) -> Source:
        """The synthetic source of a run. Raises ValueError when it is not there, or has less records than the run
        draws from it."""
        name, wanted = config.data.synthetic_source, config.data.synthetic_records
        if name not in self.synthetic:
            raise ValueError(f"run {config.run_id} draws from {name!r}; there are {sorted(self.synthetic)}")
        source = self.synthetic[name]
        held = _length(source)
        if held is not None and _last_synthetic(config) > held:
            raise ValueError(
                f"run {config.run_id} (seed {config.seed}) draws {'fresh' if wanted is None else f'{wanted:,}'} "
                f"records from {name!r}, a pool of {held:,}: say synthetic_records = {held}"
            )
        return source

    @functools.cached_property
    def _known(self) -> dict[tuple[int | None, int], str]:
        return {}

    def real_information(self, config: RunConfig) -> str:
        """What a generator knows that was fitted to the run's own real pool, as it enters a run's row."""
        key = (config.data.real_patients, config.data.pool_shuffle if config.data.real_patients else 0)
        if key not in self._known:  # a hash over all its signals
            self._known[key] = identify(self.pool(config)).real_information
        return self._known[key]


def check_trained_on(real: RecordPool) -> None:
    """Raises ValueError, by name, for records that are no recordings, or that PTB-XL's protocol holds out."""
    names = [part.source for part in real.parts if part.source.endswith(SIMULATED) or part.source == STORED]
    if names or real.simulated is not None:
        made_by = "" if real.simulated is None else f" of tier {real.simulated.tier or 'of their own make'}"
        raise ValueError(
            f"{', '.join(names) or real.source}: simulated ECG{made_by} is no real source; give it as a synthetic one"
        )
    check_folds(real, "the training records")


def _check_not_real(name: str, synthetic: RecordPool, real: RecordPool) -> None:
    """Raises ValueError for a synthetic pool that holds records of the real one, under the same names."""
    shared, ours, theirs = np.intersect1d(synthetic.record_id, real.record_id, return_indices=True)
    if synthetic.ecg.shape[1:] != real.ecg.shape[1:]:
        return
    for record, i, j in zip(shared, ours, theirs, strict=True):
        if np.array_equal(synthetic.ecg[i], real.ecg[j]):
            raise ValueError(f"the synthetic pool {name!r} holds {record} of the real records: it is no synthetic one")


def _last_synthetic(config: RunConfig) -> int:
    """The records that a run's synthetic source must hold."""
    if config.data.synthetic_records is not None:
        return config.data.synthetic_records
    ratio, records = config.data.ratio, config.budget_records
    return config.seed * SEED_STRIDE + records - records * ratio.numerator // ratio.denominator


def _length(source: Source) -> int | None:
    """How many records a source holds; None for an unbounded one."""
    try:
        return len(source) if hasattr(source, "read") else None
    except TypeError:
        return None


def mixture_of(config: RunConfig, pool: RecordPool) -> Mixture:
    """The mixture of a run over its pool, whose sources share the real stream."""
    weights = [part.weight for part in pool.parts]
    return Mixture(
        seed=config.seed,
        batch_records=config.batch_records,
        ratio=config.data.ratio,
        real_records=tuple(len(part.rows) for part in pool.parts),
        synthetic_records=config.data.synthetic_records,
        real_weights=None if None in weights else tuple(weights),
    )


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
        from ecg_jax.data.stream import read_ahead  # Grain, which device placement does without

        parts = _of_pools(self.members, lambda pool: [_Rows(pool, part.rows) for part in pool.parts])
        members = [(m, source, parts[id(pool)]) for m, pool, source in self.members]

        def read(step: int) -> np.ndarray:
            return np.stack([read_batch(batch_ids(m, step), source, real, part) for m, source, real in members])

        return (place_pack(batch) for batch in read_ahead(read, steps))

    def _words(self, steps: range, part: slice) -> Iterator[jax.Array]:
        from ecg_jax.data.device import words_of

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
    from ecg_jax.data.device import reader, resident, rows_in
    from ecg_jax.data.synthetic.render.source import SyntheticSource

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
