"""How well a patch can be known through few numbers: a reference that is no objective's own."""

from __future__ import annotations

import numpy as np

from ecg_jax.data.ecg import RecordPool, normalise
from ecg_jax.objectives.contract import HeldOut
from ecg_jax.objectives.masked import patches_of


def component_residual(
    heldout: HeldOut, training: RecordPool, patch_samples: int, widths: list[int]
) -> dict[int, float]:
    """The share of a patch's energy (eight independent leads) that its first `width` principal components leave.

    Components come from the training records, the residual from the held-out ones: about how well a model can know a
    patch that squeezes it through so few numbers. A reference, not a bound: the loss counts hidden samples only.
    """
    train, test = (patches_of(normalise(pool.ecg[:]), patch_samples) for pool in (training, heldout.pool))
    _, vectors = np.linalg.eigh(train.T.astype(np.float64) @ train)
    energy = ((test @ vectors[:, ::-1]) ** 2).sum(axis=0)
    kept = np.concatenate([[0.0], np.cumsum(energy)]) / energy.sum()
    return {width: float(max(0.0, 1 - kept[min(width, len(energy))])) for width in widths}
