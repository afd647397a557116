"""The contract of every objective: what is hidden, how a prediction is scored, its reference lines, and its words."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Callable

import jax
import numpy as np

from ecg_jax.data.ecg import RecordPool
from ecg_jax.models import Model, Params


@dataclasses.dataclass(frozen=True)
class HeldOut:
    """Frozen records `(R, samples, 12)` int16 and their frozen masks `(R, masks, patches, 7)`; True is hidden."""

    pool: RecordPool
    hidden: np.ndarray

    @property
    def identity(self) -> str:
        """Sixteen hex digits over record ids, patients and masks."""
        digest = hashlib.sha256()
        for record, patient in zip(self.pool.record_id, self.pool.patient_id, strict=True):
            digest.update(f"{record} {patient}\n".encode())
        digest.update(repr(self.hidden.shape).encode())
        digest.update(np.packbits(self.hidden).tobytes())
        return digest.hexdigest()[:16]

    def nothing_scored(self, row: int, mask: int) -> str:
        """The message for a record of which a mask leaves no sample to be scored."""
        return (
            f"record {self.pool.record_id[row]}, mask {mask}: no sample is scored; "
            "its hidden leads are flat, or the mask hides nothing, as those of the next-patch objective do"
        )


@dataclasses.dataclass(frozen=True)
class Words:
    """What cards and figures say of an objective. `task` has a place for the share that is hidden."""

    task: str
    loss: str
    mean: str
    linear: str
    title: str


@dataclasses.dataclass(frozen=True)
class Task:
    """An objective as functions. Shapes: B records, T patches, P samples of a patch, I independent leads, R held-out
    records; of a unit (7) of a patch, True is hidden.

    - `draw(key, batch, patches, ratio)`: what is hidden of a training batch, `(B, T, 7)`.
    - `draw_frozen(bits, patches, ratio)`: what is hidden of a held-out record, `(T, 7)`; None where nothing ever is.
    - `errors(model, params, ecg, hidden)`: the sum of the losses of all scored samples and their number, per record.
    - `mean_errors(heldout)`, `linear_errors(heldout, training)`: the loss of two predictors that need no training
      steps, `(R, masks)`. Raise ValueError where a record has nothing that is scored.
    - `share(loss, reference)`: the squared error behind a loss as a share of that behind a reference's.
    - `expected(out, hidden)`: from the model's output for one record `(T, P, I, …)` and what was hidden `(T, 7)`, what
      it expects of every sample and with which deviation, both `(T, P, I)`; NaN where nothing was asked of it, and a
      deviation of 0 where it gives none.
    - `ratio`: the protocol's share of hidden cells.
    """

    draw: Callable[[jax.Array, int, int, float], jax.Array]
    draw_frozen: Callable[[np.random.Generator, int, float], np.ndarray] | None
    errors: Callable[[Model, Params, jax.Array, jax.Array], tuple[jax.Array, jax.Array]]
    mean_errors: Callable[[HeldOut], np.ndarray]
    linear_errors: Callable[[HeldOut, RecordPool], np.ndarray]
    share: Callable[[float, float], float]
    expected: Callable[[np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]]
    ratio: float
    words: Words
