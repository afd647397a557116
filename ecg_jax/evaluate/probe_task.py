"""A labelled task as an evaluator under the contract: what a linear probe of a model's pooled features tells of it."""

from __future__ import annotations

import dataclasses
import functools

import jax
import numpy as np
import pandas as pd

from ecg_jax.data.ecg import RecordPool, check_unsealed, normalise
from ecg_jax.distributed.mesh import data_devices, place_batch
from ecg_jax.evaluate.judge import Probe, answer, protocol
from ecg_jax.evaluate.question import Question
from ecg_jax.models import Model, Params
from ecg_jax.objectives import masked

BATCH_RECORDS = 64


@dataclasses.dataclass(frozen=True)
class ProbeTask:
    """A question on the records of a pool, which the model reads in so many `patches`.

    Raises ValueError for a pool that holds sealed records.
    """

    question: Question
    pool: RecordPool
    patches: int
    name: str = "linear probe"

    def __post_init__(self) -> None:
        check_unsealed(self.pool)

    @property
    def identity(self) -> str:
        """The hash of records, labels and choices."""
        return protocol(self.question, self.pool)

    def rows(self, model: Model, params: Params) -> pd.DataFrame:
        """AUROC and its companions by class, and their mean. Needs a mesh in force."""
        return answer(self.question, pooled_features(model, params, self.pool, self.patches), Probe.LINEAR).rows


def pooled_features(model: Model, params: Params, pool: RecordPool, patches: int) -> np.ndarray:
    """Mean-pooled features of every record with nothing hidden, `(N, D)`. Needs a mesh in force."""
    batch = -(-min(BATCH_RECORDS, len(pool)) // data_devices()) * data_devices()
    parts = []
    for start in range(0, len(pool), batch):
        ecg_BxSxE = pool.read(np.arange(start, start + batch) % len(pool))
        parts.append(np.asarray(_pooled(model, patches, params, place_batch(ecg_BxSxE)))[: len(pool) - start])
    return np.concatenate(parts)


@functools.partial(jax.jit, static_argnums=(0, 1))
def _pooled(model: Model, patches: int, params: Params, ecg_BxSxE: jax.Array) -> jax.Array:
    x_BxSxE = normalise(ecg_BxSxE)
    return model.pooled(params, x_BxSxE, masked.with_nothing_hidden(x_BxSxE, patches))
