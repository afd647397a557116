"""What a tier fitted to real recordings knows: the identity of the pool that it was fitted to."""

from __future__ import annotations

import dataclasses
import hashlib

import numpy as np

from ecg_jax.data.ecg import RecordPool, check_folds
from ecg_jax.data.synthetic.constants import declare


@dataclasses.dataclass(frozen=True)
class PoolIdentity:
    """The pool behind fitted numbers. `digest` is a SHA-256 over its record ids and signals, whatever their order."""

    digest: str
    patients: int
    records: int
    sample_rate_hz: int
    seconds: int

    def __post_init__(self) -> None:
        if min(self.patients, self.records, self.sample_rate_hz, self.seconds) < 1:
            raise ValueError(f"not the identity of a pool: {self}")

    @property
    def real_information(self) -> str:
        """As it enters a run's row."""
        return f"pool {self.digest[:12]}, {self.patients} patients"

    def require_format(self, what: str, sample_rate_hz: int, seconds: int) -> None:
        """Raises ValueError unless records of this rate and length are asked for: fitted numbers hold for no other."""
        if (sample_rate_hz, seconds) != (self.sample_rate_hz, self.seconds):
            raise ValueError(
                f"{what} were fitted to records of {self.seconds} s at {self.sample_rate_hz} Hz "
                f"({self.real_information}) and cannot render {seconds} s "
                f"at {sample_rate_hz} Hz; fit to a pool of that format"
            )


#: Limits of `log_ii_to_i`: beyond them one of the two leads is all but flat.
MAX_LOG_RATIO = 2.0


def log_ii_to_i(scaled_Sx12: np.ndarray) -> float:
    """The logarithm of lead II's deviation relative to lead I's, from leads that are scaled each to unit deviation.

    Einthoven's law gives it back: σ_III z_III = σ_II z_II - σ_I z_I, solved for the σ by least squares.
    """
    i, ii, iii = scaled_Sx12[:, :3].T
    of_ii, of_i = np.abs(np.linalg.lstsq(np.column_stack([ii, -i]), iii, rcond=None)[0])
    return float(np.clip(np.log((of_ii + 1e-3) / (of_i + 1e-3)), -MAX_LOG_RATIO, MAX_LOG_RATIO))


def identify(pool: RecordPool) -> PoolIdentity:
    """The identity of `pool`, of records that a generator may know.

    Raises ValueError for an empty pool, records that are not whole seconds long, and held-out records of PTB-XL.
    """
    check_folds(pool, "those that a generator is fitted to")
    if not len(pool):
        raise ValueError(f"{pool.source}: a pool without records says nothing; check its folds and patients")
    samples = pool.ecg.shape[1]
    if samples % pool.sample_rate_hz:
        raise ValueError(f"{pool.source}: {samples} samples at {pool.sample_rate_hz} Hz are not whole seconds")
    digest = hashlib.sha256()
    for index in np.argsort(pool.record_id):
        digest.update(f"{pool.record_id[index]}\n".encode())
        digest.update(np.ascontiguousarray(pool.ecg[index], "<i2").data)
    return PoolIdentity(
        digest=digest.hexdigest(),
        patients=len(np.unique(pool.patient_id)),
        records=len(pool),
        sample_rate_hz=int(pool.sample_rate_hz),
        seconds=samples // pool.sample_rate_hz,
    )


declare("information", vars(), "MAX_LOG_RATIO")
