"""The response: held-out loss on frozen real records under frozen masks.

Averaged over masks, then records, then patients. `HeldOut.identity` hashes the record ids and the masks, so that
every loss ever compared is known to stand on the same question.
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
from jax.sharding import PartitionSpec as P

from ecg_jax import objectives
from ecg_jax.config import Objective
from ecg_jax.data.ecg import RecordPool, check_unsealed, normalise
from ecg_jax.data.real.quality.leakage import THRESHOLD, signature
from ecg_jax.distributed.mesh import data_devices, host_slice, place_batch
from ecg_jax.evaluate.contract import COLUMNS
from ecg_jax.evaluate.intervals import mean_over_patients
from ecg_jax.models import Model, Params
from ecg_jax.objectives import HeldOut, masked

MASKS = 8
MASK_SEED = 20_260_601
#: Numbers of a record's sketch: two recordings that are not alike get past `THRESHOLD` once in ten million.
SKETCH = 16
#: A run whose loss stays above this share of the mean baseline has not begun to learn the task.
PRE_TRANSITION = 0.95


def sketches(pool: RecordPool) -> list[str]:
    """What tells each record's signal from any other, in 16 numbers: random projections of its signature
    (`leakage.signature`). They depend on no gain, filter, or rounding of the machine that made the record.

    Of two records the mean square of their differences is, on average, twice what their likeness lacks of 1 (Johnson &
    Lindenstrauss 1984).
    """
    return [" ".join(f"{number:.2f}" for number in row) for row in _projected(pool)]


def differing(pool: RecordPool, known: Sequence[str]) -> list[str]:
    """The ids of records whose signal is not the one that `sketches` gave the numbers of. Raises ValueError for `known`
    of another form."""
    try:
        kept = np.array([line.split() for line in known], float).reshape(len(pool), SKETCH)
    except (ValueError, AttributeError) as error:
        raise ValueError(f"sketches are {SKETCH} numbers for each of {len(pool)} records: {error}") from error
    likeness = 1 - ((_projected(pool) - kept) ** 2).mean(axis=1) / 2
    return pool.record_id[~(likeness >= THRESHOLD)].tolist()


def _projected(pool: RecordPool) -> np.ndarray:
    signatures = signature(pool.read(np.arange(len(pool))), pool.sample_rate_hz).reshape(len(pool), -1)
    size = np.sqrt((signatures**2).sum(axis=1, keepdims=True))
    signs = np.random.Generator(np.random.Philox(MASK_SEED)).choice([-1.0, 1.0], (signatures.shape[1], SKETCH))
    return signatures @ signs / np.where(size > 0, size, 1)


def freeze(
    pool: RecordPool,
    patches: int,
    *,
    objective: Objective = Objective.MASKED,
    ratio: float = 0.6,
    masks: int = MASKS,
) -> HeldOut:
    """Draws the frozen masks of `pool`: each from (seed, record id, mask) alone, so a smaller set of records or of
    masks sees the same ones. An objective that hides nothing has one mask, which hides nothing.

    Raises ValueError for sealed records, a ratio outside (0, 1], or records that do not divide into `patches`.
    """
    check_unsealed(pool)
    if pool.ecg.shape[1] % patches:
        raise ValueError(f"{pool.source}: records of {pool.ecg.shape[1]} samples do not divide into {patches} patches")
    if not 0 < ratio <= 1:
        raise ValueError(f"ratio = {ratio} lies outside (0, 1]: no cell would ever be hidden, or more than all")
    draw = objectives.of(objective).draw_frozen
    if draw is None:
        return HeldOut(pool, np.zeros((len(pool), 1, patches, len(masked.UNITS)), bool))
    hidden = np.zeros((len(pool), masks, patches, len(masked.UNITS)), bool)
    for row, record in enumerate(pool.record_id):
        word = int.from_bytes(hashlib.sha256(str(record).encode()).digest()[:8], "big")
        for mask in range(masks):
            bits = np.random.Generator(np.random.Philox(np.random.SeedSequence((MASK_SEED, word, mask))))
            while not hidden[row, mask].any():  # a mask that hides nothing asks nothing
                hidden[row, mask] = draw(bits, patches, ratio)
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
    padding gives is dropped. Raises ValueError where a mask leaves nothing of a record to be scored.
    """
    return _errors(functools.partial(_record_errors, model, objective, params), heldout, masks, batch_records)


def pack_errors(
    model: Model,
    params_K: Params,
    heldout: HeldOut,
    *,
    objective: Objective = Objective.MASKED,
    masks: int | None = None,
    batch_records: int = 64,
) -> np.ndarray:
    """`model_errors` of all members of a pack together, `(K, R, masks)`; every array of `params_K` is `(K, ...)`."""
    return _errors(functools.partial(_pack_record_errors, model, objective, params_K), heldout, masks, batch_records)


def _errors(
    errors_of: Callable[[jax.Array, jax.Array], jax.Array],
    heldout: HeldOut,
    masks: int | None,
    batch_records: int,
) -> np.ndarray:
    """The errors `(..., R, masks)` from `errors_of(ecg, hidden)`: sums and counts, `(2, ..., B)`."""
    hidden = heldout.hidden[:, :masks]
    rows, columns = (index.ravel() for index in np.indices(hidden.shape[:2]))
    batch = -(-batch_records // data_devices()) * data_devices()
    sums, counts = [], []
    for start in range(0, len(rows), batch):
        part = (np.arange(start, start + batch) % len(rows))[host_slice(batch)]
        ecg = place_batch(heldout.pool.ecg[rows[part]])
        # Waits for each batch: on virtual CPU devices many programs in flight stop each other for good.
        sum_B, count_B = np.asarray(errors_of(ecg, place_batch(hidden[rows[part], columns[part]])), np.float64)
        sums.append(sum_B)
        counts.append(count_B)
    sums_R, counts_R = (np.concatenate(parts, axis=-1)[..., : len(rows)] for parts in (sums, counts))
    if not counts_R.all():
        unscored = np.flatnonzero(counts_R == 0)[0] % len(rows)
        raise ValueError(heldout.nothing_scored(rows[unscored], columns[unscored]))
    return (sums_R / counts_R).reshape(*sums_R.shape[:-1], *hidden.shape[:2])


@functools.partial(jax.jit, static_argnums=(0, 1))
def _record_errors(
    model: Model, objective: Objective, params: Params, ecg_BxSxE: jax.Array, hidden_BxTxU: jax.Array
) -> jax.Array:
    of_records = objectives.of(objective).errors(model, params, normalise(ecg_BxSxE), hidden_BxTxU)
    return _everywhere(*of_records)


@functools.partial(jax.jit, static_argnums=(0, 1))
def _pack_record_errors(
    model: Model, objective: Objective, params_K: Params, ecg_BxSxE: jax.Array, hidden_BxTxU: jax.Array
) -> jax.Array:
    errors = functools.partial(objectives.of(objective).errors, model)
    members = len(jax.tree.leaves(params_K)[0])

    def for_all(x_BxX: jax.Array) -> jax.Array:
        # Products of a mapped and an unmapped operand have no rule for where their result lies.
        return jnp.broadcast_to(x_BxX, (members, *x_BxX.shape), out_sharding=P("member", "data"))

    return _everywhere(*jax.vmap(errors)(params_K, for_all(normalise(ecg_BxSxE)), for_all(hidden_BxTxU)))


def _everywhere(sums: jax.Array, counts: jax.Array) -> jax.Array:
    """Sums and counts on every host, in one transfer: two may pass each other, and hosts then wait for ever."""
    return jax.reshard(jnp.stack([sums, counts.astype(sums.dtype)]), P())


def per_patient(errors: np.ndarray, heldout: HeldOut) -> pd.DataFrame:
    """Loss per patient and mask, averaged over the patient's records: columns `patient_id, mask, loss`."""
    frame = pd.DataFrame(errors, index=pd.Index(heldout.pool.patient_id, name="patient_id"))
    means = frame.groupby("patient_id", sort=True).mean()
    return means.reset_index().melt("patient_id", var_name="mask", value_name="loss")


def overall(errors: np.ndarray, heldout: HeldOut) -> float:
    """The loss: errors averaged over masks, then records, then patients."""
    return float(pd.Series(errors.mean(axis=1)).groupby(heldout.pool.patient_id).mean().mean())


@dataclasses.dataclass(frozen=True)
class HeldOutLoss:
    """The response as an evaluator: the loss, and its interval over patients (normal, 95 %)."""

    heldout: HeldOut
    objective: Objective = Objective.MASKED
    name: str = "held-out loss"

    @property
    def identity(self) -> str:
        """That of the records and masks."""
        return self.heldout.identity

    def rows(self, model: Model, params: Params) -> pd.DataFrame:
        """One row. Needs a mesh in force."""
        errors = model_errors(model, params, self.heldout, objective=self.objective)
        of_patient = pd.Series(errors.mean(axis=1)).groupby(self.heldout.pool.patient_id).mean()
        loss, n = mean_over_patients(of_patient), len(errors)
        row = (self.objective.value, "all", "", "loss", loss.value, loss.low, loss.high, n, n)
        return pd.DataFrame([row], columns=list(COLUMNS))
