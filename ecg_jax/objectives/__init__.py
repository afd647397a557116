"""Pretraining objectives as pure functions, a file each, under one contract, `Task`."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from ecg_jax.config import Objective
from ecg_jax.models import Model, Params
from ecg_jax.objectives.contract import HeldOut, Task, Words
from ecg_jax.objectives.masked import MASKED
from ecg_jax.objectives.next_patch import NEXT_PATCH
from ecg_jax.objectives.whole_time import WHOLE_TIME

__all__ = ["HeldOut", "Task", "Words", "loss", "of"]


def of(objective: Objective) -> Task:
    """The functions of an objective."""
    match objective:
        case Objective.MASKED:
            return MASKED
        case Objective.WHOLE_TIME:
            return WHOLE_TIME
        case Objective.NEXT_PATCH:
            return NEXT_PATCH


def loss(task: Task, model: Model, params: Params, ecg_BxSxE: jax.Array, hidden_BxTxU: jax.Array) -> jax.Array:
    """The training loss of a batch: the mean over all its scored samples."""
    sums, counts = task.errors(model, params, ecg_BxSxE, hidden_BxTxU)
    return jnp.sum(sums) / jnp.maximum(jnp.sum(counts), 1)
