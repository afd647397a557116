"""Random numbers of the generator: threefry keys by record, and one row of uniform draws for each stage of it.

A stage is a deterministic function of its own row, so what one stage draws never moves the others. All rows come from
one call: XLA compiles every threefry call anew, at about a second each on a CPU.
"""

from __future__ import annotations

import enum
import math

import jax
import jax.numpy as jnp

#: Part of every key: raise it with any change of equations or constants, and no published run changes silently.
GENERATOR_VERSION = 1
#: Room for the stage that needs most (the lead field).
DRAWS_PER_STAGE = 128
#: Normal latents are cut at this many standard deviations.
TRUNCATION_SD = 3.0


class Stage(enum.IntEnum):
    """The stages that draw, in the order in which a record is made."""

    PATIENT = 0
    RHYTHM = 1
    MORPHOLOGY = 2
    LEADS = 3


def record_keys(seed: jax.Array, index_high: jax.Array, index_low: jax.Array) -> jax.Array:
    """Threefry keys `(B,)` of the records at 64-bit indices given as two uint32 halves `(B,)`."""
    words = jnp.stack([jnp.uint32(GENERATOR_VERSION), jnp.asarray(seed, jnp.uint32)])
    base = jax.random.wrap_key_data(words, impl="threefry2x32")
    of_high = jax.vmap(jax.random.fold_in, (None, 0))(base, index_high)
    return jax.vmap(jax.random.fold_in)(of_high, index_low)


def stage_uniforms(patient_keys: jax.Array, record_keys: jax.Array) -> jax.Array:
    """Uniform draws `(B, stages, DRAWS_PER_STAGE)`; the rhythm's from `record_keys`, the others' from `patient_keys`.

    Records that share a patient key are recordings of one patient.
    """

    def of_stage(key: jax.Array, stage: jax.Array) -> jax.Array:
        return jax.random.uniform(jax.random.fold_in(key, stage), (DRAWS_PER_STAGE,))

    keys = jnp.stack([record_keys if stage is Stage.RHYTHM else patient_keys for stage in Stage], axis=1)
    return jax.vmap(jax.vmap(of_stage, (0, 0)), (0, None))(keys, jnp.arange(len(Stage)))


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
            raise ValueError(f"a stage asks for {stop} draws, its row holds {draws.shape[0]}: raise DRAWS_PER_STAGE")
        pieces.append(draws[start:stop].reshape(shape))
        start = stop
    return pieces
