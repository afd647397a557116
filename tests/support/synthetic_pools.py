"""Small made-up pools of records, for tests that need no recordings."""

import numpy as np

from ecg_jax.data.ecg import LEADS, RecordPool


def made_up_pool(records: int, seed: int = 0, *, name: str = "made-up", folds: int = 1) -> RecordPool:
    """Records of two sinusoids per lead and a little noise; a patient each."""
    rng = np.random.default_rng(seed)
    time = np.arange(1000) / 100
    rate, phase = rng.uniform(0.8, 2.0, (2, records, 1))
    sources = np.stack([np.sin(2 * np.pi * rate * time + phase), np.cos(4 * np.pi * rate * time + phase)], axis=-1)
    mixing = np.random.default_rng(1).normal(size=(2, len(LEADS)))
    ecg = 300 * sources @ mixing + rng.normal(0, 20, (records, 1000, len(LEADS)))
    return RecordPool(
        source=name,
        sample_rate_hz=100,
        ecg=ecg.round().astype(np.int16),
        record_id=np.array([f"{name}/{i:05d}" for i in range(records)]),
        patient_id=np.arange(records, dtype=np.int64) + 10_000 * seed,
        fold=1 + np.arange(records) % folds,
        unit=np.array(["mV"] * records),
        labels=((),) * records,
    )
