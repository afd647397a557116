"""The whole-time objective: as the masked one, but patches are hidden in all units at once.

Rhythm and the memory of beats decide it: nothing of a hidden moment is visible in any lead.
"""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np

from ecg_jax.objectives.masked import MASKED, UNITS


def draw_patches(key: jax.Array, batch: int, patches: int, ratio: float) -> jax.Array:
    """Hides each of `batch x patches` patches in all seven units with probability `ratio`; True is hidden."""
    hidden = jax.random.bernoulli(key, ratio, (batch, patches, 1))
    return jnp.broadcast_to(hidden, (batch, patches, len(UNITS)))


def draw_frozen_patches(bits: np.random.Generator, patches: int, ratio: float) -> np.ndarray:
    """Hides each of so many patches in all seven units with probability `ratio`; True is hidden."""
    return np.broadcast_to(bits.random((patches, 1)) < ratio, (patches, len(UNITS)))


WHOLE_TIME = dataclasses.replace(
    MASKED,
    draw=draw_patches,
    draw_frozen=draw_frozen_patches,
    ratio=0.3,
    words=dataclasses.replace(
        MASKED.words, task="reconstructs {} of all time patches, hidden in all leads", title="whole patches hidden"
    ),
)
