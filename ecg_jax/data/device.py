"""Device placement: records are found or rendered inside the training step, from their source and index alone.

Pools of records lie in the accelerator's memory as int16; synthetic records are rendered where they are trained on.
Only three words per record travel. Shapes are the same for every real fraction. The same records as the host's
placement, to the rounding of one count.
"""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import PartitionSpec as P

from ecg_jax.data.ecg import LEADS, RecordPool
from ecg_jax.data.factored import factored_chain
from ecg_jax.data.mixture import SYNTHETIC, BatchIds
from ecg_jax.data.preprocess import COUNTS_PER_UNIT
from ecg_jax.data.synthetic import generator
from ecg_jax.data.synthetic.sampling import Grid
from ecg_jax.data.synthetic.source import GUARD_SAMPLES, RENDER_RATE_HZ, SyntheticSource, index_keys

_SPREAD = P("member", "data")
#: What an index of 64 bits is cut into on its way: is it synthetic, the high word, the low word.
WORDS = 3


def words_of(ids: BatchIds, rows: np.ndarray) -> np.ndarray:
    """A batch of ids as uint32 `(B, 3)`: is it synthetic, high and low word of its index.

    The index of a real record becomes its row in the resident pool: `rows[index]`.
    """
    index = ids.index.astype(np.uint64)
    is_real = ids.source != SYNTHETIC
    index[is_real] = rows[ids.index[is_real]]
    words = (~is_real, index >> np.uint64(32), index & np.uint64(0xFFFFFFFF))
    return np.stack([word.astype(np.uint32) for word in words], axis=1)


@dataclasses.dataclass(frozen=True, eq=False)
class Resident:
    """What the training step takes records from: a resident pool, a renderer, or both (None: not needed)."""

    pool: jax.Array | None  # (records, samples, 12) int16, whole on every device
    synthetic: SyntheticSource | None

    def read(self, pool: jax.Array | None, words_KxBx3: jax.Array) -> jax.Array:
        """The records `(K, B, samples, 12)` int16 of a pack's batches, spread as these are; traceable. `pool` is an
        argument so that the compiled program does not hold a copy of it."""
        is_synthetic_KxB, high_KxB, low_KxB = (words_KxBx3[..., column] for column in range(WORDS))
        if pool is None:
            return self._rendered(high_KxB, low_KxB)
        real_KxBxSxE = pool.at[low_KxB].get(out_sharding=_SPREAD, mode="clip")
        if self.synthetic is None:
            return real_KxBxSxE
        return jnp.where(is_synthetic_KxB[:, :, None, None] == 1, self._rendered(high_KxB, low_KxB), real_KxBxSxE)

    def _rendered(self, high_KxB: jax.Array, low_KxB: jax.Array) -> jax.Array:
        def local(high: jax.Array, low: jax.Array) -> jax.Array:
            return self._render(high.ravel(), low.ravel()).reshape(*high.shape, -1, len(LEADS))

        # Every device renders its part for itself: the generator knows nothing of meshes.
        return jax.shard_map(local, in_specs=(_SPREAD, _SPREAD), out_specs=_SPREAD)(high_KxB, low_KxB)

    def _render(self, high_B: jax.Array, low_B: jax.Array) -> jax.Array:
        source = self.synthetic
        keys = index_keys(jnp.uint32(source.seed), high_B, low_B, source.records_per_patient)
        made_by = source.made_by.compiled
        if made_by.needs_priors:
            grid = Grid(source.sample_rate_hz, source.seconds)
            leads_BxLxS = generator.synthesise(*keys, made_by, source.fitted, grid)
        else:
            grid = Grid(RENDER_RATE_HZ, source.seconds, GUARD_SAMPLES)
            rendered = generator.synthesise(*keys, source.made_by, None, grid)
            chain = factored_chain(source.seconds, RENDER_RATE_HZ, source.sample_rate_hz, GUARD_SAMPLES)
            leads_BxLxS = chain(rendered.reshape(-1, rendered.shape[-1])).reshape(*rendered.shape[:2], -1)
        counts = jnp.rint(generator.all_leads(leads_BxLxS) * COUNTS_PER_UNIT)
        return jnp.clip(counts, -32767, 32767).astype(jnp.int16)


def resident(real: RecordPool | None, synthetic: SyntheticSource | None) -> Resident:
    """Puts a pool on every device of the mesh in force."""
    pool = None if real is None else jax.device_put(real.ecg, jax.NamedSharding(jax.sharding.get_mesh(), P()))
    return Resident(pool, synthetic)


def rows_in(pool: RecordPool, part: RecordPool) -> np.ndarray:
    """The rows of `pool` that hold the records of `part`, in its order. Raises ValueError when one is not there."""
    row_of = {record: row for row, record in enumerate(pool.record_id)}
    missing = [record for record in part.record_id if record not in row_of]
    if missing:
        raise ValueError(f"{len(missing)} of {len(part)} records, such as {missing[0]}, are not in {pool.source}")
    return np.array([row_of[record] for record in part.record_id])
