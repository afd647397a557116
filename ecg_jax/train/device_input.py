"""Device placement: records are found or rendered inside the training step, from their source and index alone.

Pools of records, real ones and stored synthetic ones, lie in the accelerator's memory as int16; all other synthetic
records are rendered where they are trained on. Only three words per record travel. Shapes are the same for every real
fraction. The same records as the host's placement, to the rounding of one count.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import PartitionSpec as P

from ecg_jax.data.ecg import LEADS, RecordPool, Rows
from ecg_jax.data.factored import factored_chain
from ecg_jax.data.mixture import SYNTHETIC, BatchIds
from ecg_jax.data.preprocess import COUNTS_PER_UNIT
from ecg_jax.data.synthetic.physiology.sampling import Grid
from ecg_jax.data.synthetic.render import generator
from ecg_jax.data.synthetic.render.source import GUARD_SAMPLES, RENDER_RATE_HZ, SyntheticSource, index_keys
from ecg_jax.distributed.mesh import place

_SPREAD = P("member", "data")
#: What an index of 64 bits is cut into on its way: is it to be rendered, the high word, the low word.
WORDS = 3


def words_of(ids: BatchIds, real_rows: Sequence[np.ndarray], synthetic_rows: np.ndarray | None = None) -> np.ndarray:
    """A batch of ids as uint32 `(B, 3)`: is it to be rendered, high and low word of its index.

    The index of a record of a pool becomes its row in the resident pool: of real source i `real_rows[i][index]`, and
    of a stored synthetic one `synthetic_rows[index]` (None: synthetic records are rendered).
    """
    index = ids.index.astype(np.uint64)
    is_real = ids.source != SYNTHETIC
    for code, rows in enumerate(real_rows, start=SYNTHETIC + 1):
        here = ids.source == code
        index[here] = rows[ids.index[here]]
    if synthetic_rows is not None:
        index[~is_real] = synthetic_rows[ids.index[~is_real]]
    is_rendered = ~is_real if synthetic_rows is None else np.zeros_like(is_real)
    words = (is_rendered, index >> np.uint64(32), index & np.uint64(0xFFFFFFFF))
    return np.stack([word.astype(np.uint32) for word in words], axis=1)


@dataclasses.dataclass(frozen=True)
class Reader:
    """Makes records of what travels, inside the training step: `reader(pool, words)`.

    `renders` says which members of the pack draw from which source. Equal readers share a compiled program.
    """

    renders: tuple[tuple[SyntheticSource, tuple[int, ...]], ...]

    def __call__(self, pool: jax.Array | None, words_KxBx3: jax.Array) -> jax.Array:
        """The records `(K, B, samples, 12)` int16 of a pack's batches, spread as these are; traceable. `pool`
        `(records, samples, 12)`, None where nothing is read from one, is an argument so that the compiled program does
        not hold a copy of it."""
        # Every device reads and renders its part for itself: the generator knows nothing of meshes.
        if pool is None:
            return jax.shard_map(lambda words: self._local(None, words), in_specs=_SPREAD, out_specs=_SPREAD)(
                words_KxBx3
            )
        return jax.shard_map(self._local, in_specs=(P(), _SPREAD), out_specs=_SPREAD)(pool, words_KxBx3)

    def _local(self, pool: jax.Array | None, words_KxBx3: jax.Array) -> jax.Array:
        is_rendered_KxB, high_KxB, low_KxB = (words_KxBx3[..., column] for column in range(WORDS))
        found = None if pool is None else pool.at[low_KxB].get(mode="clip")
        everybody = tuple(range(len(high_KxB)))
        for source, members in self.renders:
            part = slice(None) if members == everybody else np.array(members)
            high, low = high_KxB[part], low_KxB[part]
            rendered = _render(source, high.ravel(), low.ravel()).reshape(*high.shape, -1, len(LEADS))
            if found is None:
                found = jnp.zeros((*high_KxB.shape, *rendered.shape[2:]), jnp.int16)
            chosen = jnp.where(is_rendered_KxB[part][:, :, None, None] == 1, rendered, found[part])
            found = chosen if members == everybody else found.at[part].set(chosen)
        if found is None:
            raise ValueError("neither a pool nor a source that renders is given: there is nothing to read")
        return found


def _render(source: SyntheticSource, high_B: jax.Array, low_B: jax.Array) -> jax.Array:
    patient_keys, record_keys = index_keys(jnp.uint32(source.seed), high_B, low_B, source.records_per_patient)
    made_by = source.made_by.compiled
    if made_by.needs_priors:
        grid = Grid(source.sample_rate_hz, source.seconds)
        leads_BxLxS = generator.synthesise(patient_keys, record_keys, made_by, source.fitted, grid)
    else:
        grid = Grid(RENDER_RATE_HZ, source.seconds, GUARD_SAMPLES)
        rendered = generator.synthesise(patient_keys, record_keys, source.made_by, None, grid)
        chain = factored_chain(source.seconds, RENDER_RATE_HZ, source.sample_rate_hz, GUARD_SAMPLES)
        leads_BxLxS = chain(rendered.reshape(-1, rendered.shape[-1])).reshape(*rendered.shape[:2], -1)
    counts = jnp.rint(generator.all_leads(leads_BxLxS) * COUNTS_PER_UNIT)
    return jnp.clip(counts, -32767, 32767).astype(jnp.int16)


def reader(sources: Sequence[SyntheticSource | None]) -> Reader:
    """The reader of a pack whose member k renders from `sources[k]`, or not at all. Needs a mesh in force.

    Raises ValueError when members that lie on different devices render from different sources.
    """
    members: dict[SyntheticSource, tuple[int, ...]] = {}
    for k, source in enumerate(sources):
        if source is not None:
            members[source] = (*members.get(source, ()), k)
    rows = jax.sharding.get_abstract_mesh().shape["member"]
    if rows > 1 and len(members) > 1:
        raise ValueError(
            f"a pack spread over {rows} rows of the mesh renders from one synthetic source, not {len(members)}: give "
            "the mesh one row, or pack runs of one source"
        )
    if rows > 1:  # all devices run one program: what a member does not need is thrown away
        share = tuple(range(len(sources) // rows))
        members = {source: share for source in members}
    return Reader(tuple(members.items()))


def resident(pools: Sequence[RecordPool]) -> jax.Array | None:
    """The records of `pools`, one after the other, on every device of the mesh in force; None of none."""
    if not pools:
        return None
    together = pools[0].ecg if len(pools) == 1 else np.concatenate([pool.ecg for pool in pools])
    return place(np.require(together, requirements="A"), P())  # a mapped file may begin anywhere


def rows_in(pool: RecordPool, part: RecordPool) -> np.ndarray:
    """The rows of `pool` that hold the records of `part`, in its order. Raises ValueError when one is not there."""
    if part is pool:
        return np.arange(len(pool))
    if isinstance(part.ecg, Rows) and part.ecg.whole is pool.ecg:
        return part.ecg.rows
    row_of = {record: row for row, record in enumerate(pool.record_id)}
    missing = [record for record in part.record_id if record not in row_of]
    if missing:
        raise ValueError(f"{len(missing)} of {len(part)} records, such as {missing[0]}, are not in {pool.source}")
    return np.array([row_of[record] for record in part.record_id])
