"""Pretraining objectives as pure functions: what is hidden of a record, and how a prediction is scored."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable

import jax
import jax.numpy as jnp

from ecg_jax.config import Objective
from ecg_jax.models import Model, Params
from ecg_jax.objectives import masked, next_patch

__all__ = ["Task", "loss", "of", "share"]


@dataclasses.dataclass(frozen=True)
class Task:
    """`draw(key, batch, patches, ratio)` says what is hidden, `(B, T, 7)`; `errors(model, params, ecg, hidden)` gives
    the sum of the losses of all scored samples and their number, per record `(B,)` each."""

    draw: Callable[[jax.Array, int, int, float], jax.Array]
    errors: Callable[[Model, Params, jax.Array, jax.Array], tuple[jax.Array, jax.Array]]


def of(objective: Objective) -> Task:
    """The functions of an objective."""
    match objective:
        case Objective.MASKED:
            return Task(masked.draw_cells, masked.errors)
        case Objective.WHOLE_TIME:
            return Task(masked.draw_patches, masked.errors)
        case Objective.NEXT_PATCH:
            return Task(next_patch.draw_nothing, next_patch.errors)


def loss(task: Task, model: Model, params: Params, ecg_BxSxE: jax.Array, hidden_BxTxU: jax.Array) -> jax.Array:
    """The training loss of a batch: the mean over all its scored samples."""
    sums, counts = task.errors(model, params, ecg_BxSxE, hidden_BxTxU)
    return jnp.sum(sums) / jnp.maximum(jnp.sum(counts), 1)


def share(objective: Objective, loss: float, reference: float) -> float:
    """The squared error behind a loss as a share of that behind a reference's loss.

    For the masked objectives the ratio of the losses. A log likelihood may be negative, and its unit shifts it: there
    it is the ratio of entropy powers, exp(2 (loss - reference)) (Shannon 1948, section 21), which for two Gaussians is
    the ratio of their variances.
    """
    match objective:
        case Objective.MASKED | Objective.WHOLE_TIME:
            return loss / reference
        case Objective.NEXT_PATCH:
            return math.exp(min(2 * (loss - reference), 700.0))  # e^710 overflows
