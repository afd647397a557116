"""NeuroKit2 (Makowski et al., Behav Res 53:1689, 2021), another generator than ours: a guard against results about one
simulator, and a peer.

It renders about one record a second, so a study's records of it are a finite pool, made once. It is no dependency of
the product: `make` installs it.
"""

from __future__ import annotations

import concurrent.futures
import dataclasses
import importlib.metadata
import multiprocessing
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
from rich.console import Console

from ecg_jax.data.ecg import LEADS, PUBLISHED, RecordPool, Simulated
from ecg_jax.data.preprocess import apply_chain
from ecg_jax.data.storage.pool_file import load_pool, save_pool
from ecg_jax.distributed.workers import end_workers, follow_parent
from ecg_jax.files.whole_folder import making
from ecg_jax.terminal.stage import Stage

#: What stands in the column `tier`, and the method with twelve leads.
GENERATOR, MULTILEADS = "NeuroKit2", "multileads"
SEED = 7
RATE_HZ, SECONDS, NATIVE_RATE_HZ = 100, 10, 500
#: It starts every record at the same phase of a beat: longer ones are rendered and cut at random.
RENDERED_SECONDS = 12


def require_neurokit() -> None:
    """Raises ModuleNotFoundError, with the remedy, where NeuroKit2 is not installed."""
    try:
        import neurokit2  # noqa: F401
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            "neurokit2 is not installed: `pip install --no-deps neurokit2==0.2.13`, and scikit-learn and PyWavelets"
        ) from error


def neurokit_record(
    method: str, sample_rate_hz: int, seconds: float, heart_rate_bpm: float, heart_rate_sd_bpm: float, seed: int
) -> np.ndarray:
    """One record of `ecg_simulate`, `(samples, leads)` in mV: 12 leads of "multileads", the one lead of "ecgsyn"."""
    import neurokit2

    ecg = neurokit2.ecg_simulate(
        duration=seconds,
        sampling_rate=sample_rate_hz,
        method=method,
        heart_rate=heart_rate_bpm,
        heart_rate_std=heart_rate_sd_bpm,
        random_state=seed,
    )
    return np.asarray(ecg, np.float32).reshape(len(ecg), -1)


def varied_records(method: str, count: int, advance: Callable[[int], None] = lambda done: None) -> np.ndarray:
    """Records at 500 Hz through the preprocessing, int16 `(count, 1000, 12)`: heart rate about 72 ± 13 /min, and its
    variation about 1 to 5 /min. `advance(done)` hears of each. Raises ModuleNotFoundError without NeuroKit2."""
    require_neurokit()
    signals = []
    context = multiprocessing.get_context("spawn")  # forked, JAX's threads may hold locks for ever
    with concurrent.futures.ProcessPoolExecutor(os.cpu_count(), context, follow_parent) as workers:
        tasks = [(method, number) for number in range(count)]
        try:
            for done, ecg_mv in enumerate(workers.map(_varied_record, tasks, chunksize=8)):
                signals.append(ecg_mv)
                advance(done + 1)
        except BaseException:
            workers.shutdown(wait=False, cancel_futures=True)
            end_workers()
            raise
    return apply_chain(np.stack(signals), NATIVE_RATE_HZ, RATE_HZ)


def _varied_record(task: tuple[str, int]) -> np.ndarray:
    method, number = task
    rng = np.random.default_rng((SEED, number))
    rate_bpm, sd_bpm = float(np.clip(rng.normal(72, 13), 45, 130)), float(rng.uniform(1, 5))
    ecg = neurokit_record(method, NATIVE_RATE_HZ, RENDERED_SECONDS, rate_bpm, sd_bpm, number)
    start = int(rng.integers(len(ecg) - NATIVE_RATE_HZ * SECONDS))
    return np.broadcast_to(ecg[start : start + NATIVE_RATE_HZ * SECONDS], (NATIVE_RATE_HZ * SECONDS, len(LEADS)))


def neurokit_pool(records: int, path: Path, console: Console) -> RecordPool:
    """A pool of so many records, a patient each, made once and kept at `path`."""
    require_neurokit()
    source = f"{GENERATOR} {importlib.metadata.version('neurokit2')} {MULTILEADS} seed {SEED}, {records} records"
    with making(path):
        if path.exists():
            pool = load_pool(path)
            if pool.source == source:
                return dataclasses.replace(pool, simulated=Simulated(GENERATOR, PUBLISHED))  # older files do not say
            raise ValueError(f"{path} holds {pool.source}, not {source}: delete it, or choose another output folder")
        with Stage(f"rendering {records:,} records with {GENERATOR}", console, "records") as advance:
            pool = _rendered(source, records, lambda done: advance(done, records))
        save_pool(path, pool)
        return pool


def _rendered(source: str, records: int, advance: Callable[[int], None]) -> RecordPool:
    ecg = varied_records(MULTILEADS, records, advance)
    return RecordPool(
        source=source,
        sample_rate_hz=RATE_HZ,
        ecg=ecg,
        record_id=np.array([f"{GENERATOR}/{number:06d}" for number in range(records)]),
        patient_id=np.arange(records),
        fold=np.ones(records, np.int64),
        unit=np.array(["mV"] * records),
        labels=((),) * records,
        simulated=Simulated(GENERATOR, PUBLISHED),
    )
