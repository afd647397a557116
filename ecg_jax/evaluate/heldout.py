"""The response: held-out loss on frozen real records under frozen masks, and the reference lines beside it.

Averaged over masks, then records, then patients. `HeldOut.identity` hashes the record ids and the masks, so that
every loss ever compared is known to stand on the same question.
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
from jax.sharding import PartitionSpec as P

from ecg_jax import objectives
from ecg_jax.config import Objective
from ecg_jax.data.ecg import INDEPENDENT_LEAD_INDICES, LEADS, RecordPool, normalise
from ecg_jax.mesh import data_devices, host_slice, place_batch
from ecg_jax.models import Model, Params
from ecg_jax.objectives import masked

MASKS = 8
MASK_SEED = 20_260_601
#: A run whose loss stays above this share of the mean baseline has not begun to learn the task.
PRE_TRANSITION = 0.95


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


def freeze(
    pool: RecordPool,
    patches: int,
    *,
    objective: Objective = Objective.MASKED,
    ratio: float = 0.6,
    masks: int = MASKS,
) -> HeldOut:
    """Draws the frozen masks of `pool`: each from (seed, record id, mask) alone, so a smaller set of records or of
    masks sees the same ones. The next-patch objective hides nothing, under one mask."""
    units = 1 if objective is Objective.WHOLE_TIME else len(masked.UNITS)
    if objective is Objective.NEXT_PATCH:
        return HeldOut(pool, np.zeros((len(pool), 1, patches, units), bool))
    hidden = np.empty((len(pool), masks, patches, len(masked.UNITS)), bool)
    for row, record in enumerate(pool.record_id):
        word = int.from_bytes(hashlib.sha256(str(record).encode()).digest()[:8], "big")
        for mask in range(masks):
            bits = np.random.Generator(np.random.Philox(np.random.SeedSequence((MASK_SEED, word, mask))))
            hidden[row, mask] = bits.random((patches, units)) < ratio
    return HeldOut(pool, hidden)


def model_errors(
    model: Model,
    params: Params,
    heldout: HeldOut,
    *,
    objective: Objective = Objective.MASKED,
    masks: int | None = None,
    batch_records: int = 64,
) -> np.ndarray:
    """The objective's mean loss on every record under every mask (or its first `masks`), `(R, masks)` float64.

    Needs a mesh in force. The batch is rounded up to a multiple of the devices, and the last one is padded; what the
    padding gives is dropped.
    """
    hidden = heldout.hidden[:, :masks]
    rows, columns = (index.ravel() for index in np.indices(hidden.shape[:2]))
    batch = -(-batch_records // data_devices()) * data_devices()
    values: list[np.ndarray] = []
    for start in range(0, len(rows), batch):
        part = (np.arange(start, start + batch) % len(rows))[host_slice(batch)]
        ecg = place_batch(heldout.pool.ecg[rows[part]])
        # Waits for each batch: on virtual CPU devices many programs in flight stop each other for good.
        bits = place_batch(hidden[rows[part], columns[part]])
        values.append(np.asarray(_record_errors(model, objective, params, ecg, bits)))
    return np.concatenate(values)[: len(rows)].reshape(hidden.shape[:2]).astype(np.float64)


@functools.partial(jax.jit, static_argnums=(0, 1))
def _record_errors(
    model: Model, objective: Objective, params: Params, ecg_BxSxE: jax.Array, hidden_BxTxU: jax.Array
) -> jax.Array:
    sums, counts = objectives.of(objective).errors(model, params, normalise(ecg_BxSxE), hidden_BxTxU)
    return jax.reshard(sums / jnp.maximum(counts, 1), P())  # every host gets all of them


def per_patient(errors: np.ndarray, heldout: HeldOut) -> pd.DataFrame:
    """Loss per patient and mask, averaged over the patient's records: columns `patient_id, mask, loss`."""
    frame = pd.DataFrame(errors, index=pd.Index(heldout.pool.patient_id, name="patient_id"))
    means = frame.groupby("patient_id", sort=True).mean()
    return means.reset_index().melt("patient_id", var_name="mask", value_name="loss")


def overall(errors: np.ndarray, heldout: HeldOut) -> float:
    """The loss: errors averaged over masks, then records, then patients."""
    return float(pd.Series(errors.mean(axis=1)).groupby(heldout.pool.patient_id).mean().mean())


# ---- reference lines -------------------------------------------------------------------------------------------

#: From the visible cells of a z-scored record `(S, 12)`, the others zeroed, and the hidden units `(S, 7)`: all samples.
Predict = Callable[[np.ndarray, np.ndarray], np.ndarray]


def baseline_errors(heldout: HeldOut, predict_of: Callable[[np.ndarray], Predict]) -> np.ndarray:
    """Errors `(R, masks)` of a predictor that needs no training steps.

    `predict_of` makes the predictor of one z-scored record `(S, 12)`, once for all its masks; what it takes from the
    whole record, hidden cells included, must be said of the line.
    """
    patches = heldout.hidden.shape[2]
    target = np.array(INDEPENDENT_LEAD_INDICES)
    errors = np.empty(heldout.hidden.shape[:2])
    for row, ecg in enumerate(heldout.pool.ecg):
        x_SxE = normalise(ecg)
        predict = predict_of(x_SxE)
        for mask, hidden_TxU in enumerate(heldout.hidden[row]):
            hidden_SxU = np.repeat(hidden_TxU, len(x_SxE) // patches, axis=0)
            visible_SxE = x_SxE * ~hidden_SxU[:, masked.UNIT_OF_LEAD]
            error_SxL = (predict(visible_SxE, hidden_SxU) - x_SxE)[:, target]
            hidden_SxL = hidden_SxU[:, masked.UNIT_OF_TARGET]
            errors[row, mask] = np.square(error_SxL[hidden_SxL]).mean()
    return errors


def mean_errors(heldout: HeldOut) -> np.ndarray:
    """Errors `(R, masks)` of predicting every lead's mean."""
    return baseline_errors(heldout, lambda _: lambda visible_SxE, hidden_SxU: np.zeros_like(visible_SxE))


def linear_errors(heldout: HeldOut, training: RecordPool) -> np.ndarray:
    """Errors `(R, masks)` of the best linear map from the leads visible in a patch to the hidden ones, sample by
    sample, fitted to the second moments of the training records."""
    moment_ExE = np.zeros((len(LEADS), len(LEADS)))
    for ecg in training.ecg:
        x_SxE = normalise(ecg)
        moment_ExE += x_SxE.T.astype(np.float64) @ x_SxE / len(x_SxE)
    moment_ExE /= len(training)
    maps = _linear_maps(moment_ExE)

    def predict(visible_SxE: np.ndarray, hidden_SxU: np.ndarray) -> np.ndarray:
        pattern_S = hidden_SxU @ (1 << np.arange(len(masked.UNITS)))
        return np.einsum("se,sef->sf", visible_SxE, maps[pattern_S])

    return baseline_errors(heldout, lambda _: predict)


def component_residual(
    heldout: HeldOut, training: RecordPool, patch_samples: int, widths: list[int]
) -> dict[int, float]:
    """The share of a patch's energy (eight independent leads) that its first `width` principal components leave.

    Components come from the training records, the residual from the held-out ones: about how well a model can know a
    patch that squeezes it through so few numbers. A reference, not a bound: the loss counts hidden samples only.
    """
    train, test = _patches(training, patch_samples), _patches(heldout.pool, patch_samples)
    _, vectors = np.linalg.eigh(train.T.astype(np.float64) @ train)
    energy = ((test @ vectors[:, ::-1]) ** 2).sum(axis=0)
    kept = np.concatenate([[0.0], np.cumsum(energy)]) / energy.sum()
    return {width: float(max(0.0, 1 - kept[min(width, len(energy))])) for width in widths}


def _linear_maps(moment_ExE: np.ndarray) -> np.ndarray:
    """For each of the 2^7 patterns of hidden units, the map `(12, 12)` from visible leads to all leads."""
    maps = np.zeros((2 ** len(masked.UNITS), *moment_ExE.shape), np.float32)
    for pattern in range(len(maps)):
        visible = np.flatnonzero(~(pattern >> masked.UNIT_OF_LEAD & 1).astype(bool))
        block = moment_ExE[np.ix_(visible, visible)]
        # The six limb leads have rank 2, hence the pseudo-inverse.
        maps[pattern, visible] = np.linalg.pinv(block, rcond=1e-6, hermitian=True) @ moment_ExE[visible]
    return maps


def _patches(pool: RecordPool, patch_samples: int) -> np.ndarray:
    x_RxSxL = normalise(pool.ecg)[:, :, np.array(INDEPENDENT_LEAD_INDICES)]
    return x_RxSxL.reshape(-1, patch_samples * x_RxSxL.shape[2])
