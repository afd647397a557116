"""Random numbers of the generator: threefry keys by record, and one row of uniform draws for each stage of it.

A stage is a deterministic function of its own row, so what one stage draws never moves the others. All rows come from
one call: XLA compiles every threefry call anew.
"""

from __future__ import annotations

import enum
import math

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from ecg_jax.data.synthetic.constants import declare

#: Part of every key: raise it with any change of equations or constants, and no published run changes silently.
GENERATOR_VERSION = 2
#: Uniform draws in one row.
DRAWS_PER_ROW = 128
#: Normal latents are cut at this many standard deviations.
TRUNCATION_SD = 3.0


class Stage(enum.IntEnum):
    """The stages that draw, by the number of their first row. A tier draws the rows of its own stages only."""

    PATIENT = 0
    RHYTHM = 1
    MORPHOLOGY = 2
    LEADS = 3
    RESIDUAL = 4  # two rows
    CONDITIONS = 6
    BEATS = 7
    WIDE = 8
    ACQUISITION = 9
    NOISE = 10


_ROWS = {Stage.RESIDUAL: 2}
#: What differs between two recordings of one patient.
OF_RECORD = (Stage.RHYTHM, Stage.BEATS, Stage.ACQUISITION, Stage.NOISE)
#: Folded into a record's key for the words that seed its sample noise.
_WORDS = 1000
#: Added to a recording's number, so that its key is none of those of the patient's rows.
VISITS = 2000


def record_keys(
    seed: ArrayLike, index_high: ArrayLike, index_low: ArrayLike, version: int = GENERATOR_VERSION
) -> jax.Array:
    """Threefry keys `(B,)` of a generator's records at 64-bit indices given as two uint32 halves `(B,)`."""
    words = jnp.stack([jnp.uint32(version), jnp.asarray(seed, jnp.uint32)])
    base = jax.random.wrap_key_data(words, impl="threefry2x32")
    of_high = jax.vmap(jax.random.fold_in, (None, 0))(base, index_high)
    return jax.vmap(jax.random.fold_in)(of_high, index_low)


def draw_rows(
    patient_keys: jax.Array, record_keys: jax.Array, stages: tuple[Stage, ...]
) -> tuple[dict[Stage, jax.Array], jax.Array]:
    """Uniform draws `(B, draws)` of each stage, from the keys `(B,)` of the patient or of the record, and two uint32
    words per record `(B, 2)` that seed its counter-hash noise.

    Records that share a patient key are recordings of one patient.
    """
    rows = [(stage, stage + i) for stage in stages for i in range(_ROWS.get(stage, 1))]
    keys = [record_keys if stage in OF_RECORD else patient_keys for stage, _ in rows]
    numbers = jnp.array([*(number for _, number in rows), _WORDS])
    fold = jax.vmap(jax.vmap(jax.random.fold_in), (0, None))
    folded = fold(jnp.stack([*keys, record_keys], axis=1), numbers)
    words = jax.random.key_data(folded[:, -1])
    if not rows:
        return {}, words
    uniform = jax.vmap(jax.vmap(lambda key: jax.random.uniform(key, (DRAWS_PER_ROW,))))
    drawn = uniform(folded[:, :-1])
    return {
        stage: drawn[:, [i for i, (of, _) in enumerate(rows) if of is stage]].reshape(len(drawn), -1)
        for stage in stages
    }, words


def truncated_normal(uniform: jax.Array, limit_sd: float = TRUNCATION_SD) -> jax.Array:
    """Turns uniform draws into standard normal ones cut at ±`limit_sd`."""
    edge = math.erf(limit_sd / math.sqrt(2.0))
    return math.sqrt(2.0) * jax.lax.erf_inv(edge * (2.0 * uniform - 1.0))


def cut(draws: jax.Array, *shapes: tuple[int, ...]) -> list[jax.Array]:
    """Cuts consecutive pieces of the given shapes from a stage's row of draws.

    Raises ValueError when the row is too short.
    """
    pieces, start = [], 0
    for shape in shapes:
        stop = start + math.prod(shape)
        if stop > draws.shape[0]:
            raise ValueError(f"a stage asks for {stop} draws, its row holds {draws.shape[0]}: give it more rows")
        pieces.append(draws[start:stop].reshape(shape))
        start = stop
    return pieces


declare("draws", vars(), "GENERATOR_VERSION DRAWS_PER_ROW TRUNCATION_SD _ROWS OF_RECORD _WORDS VISITS")
