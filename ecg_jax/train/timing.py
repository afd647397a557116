"""Where the time of a pack goes, a trace of it, and what a step costs on this machine."""

from __future__ import annotations

import contextlib
import functools
import resource
import sys
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ecg_jax.config import Precision, RunConfig
from ecg_jax.distributed.mesh import make_mesh, place_members, place_pack
from ecg_jax.scaling.flops import train_flops_per_record
from ecg_jax.scaling.time_left import WARM_UP_STEPS
from ecg_jax.train.loop import Finished
from ecg_jax.train.step import program

TIMED_STEPS = 5


def seconds_per_member(config: RunConfig, members: int) -> float:
    """Measured seconds of a train step, per run, of a pack of so many. Needs a mesh in force."""
    made = program(config)
    state = made.init(np.arange(members))
    shape = (members, config.batch_records, config.model.samples, 12)
    batch = place_pack(np.random.default_rng(0).integers(-1000, 1000, shape).astype(np.int16))
    rates, decays = place_members(np.full(members, 1e-4)), place_members(np.zeros(members))
    state, metrics = made.train_step(state, None, batch, rates, decays)
    jax.block_until_ready(metrics)
    began = time.perf_counter()
    for _ in range(TIMED_STEPS):
        state, metrics = made.train_step(state, None, batch, rates, decays)
    jax.block_until_ready(metrics)
    return (time.perf_counter() - began) / TIMED_STEPS / members


class Clock:
    """Adds up the steps of a pack since the last record."""

    def __init__(self) -> None:
        self._began = time.perf_counter()
        self._steps, self._seconds, self._waited, self._saving = 0, 0.0, 0.0, 0.0
        self._all: list[float] = []

    def heard(self, finished: Finished) -> None:
        """Hears of a finished step. The first ones, which compile, count in the pack's seconds and not in its rates."""
        self._all.append(finished.seconds)
        if len(self._all) <= WARM_UP_STEPS:
            return
        self._steps += 1
        self._seconds += finished.seconds
        self._waited += finished.waited

    @contextlib.contextmanager
    def saving(self) -> Iterator[None]:
        """Times a save, as far as training waits for it."""
        began = time.perf_counter()
        yield
        self._saving += time.perf_counter() - began

    @property
    def step_seconds(self) -> float:
        """Median seconds of a step so far."""
        seen = sorted(self._all[WARM_UP_STEPS:]) or self._all
        return seen[len(seen) // 2] if seen else 0.0

    def lap(self, config: RunConfig, members: int, runs: int) -> dict[str, float | None]:
        """The columns of the records of so many runs that tell of time, since the last lap.

        Seconds are a run's share of its pack's; rates are of the whole pack while it trained, None where it did not.
        """
        now = time.perf_counter()
        rate = self._steps * config.batch_records * members / self._seconds if self._steps else None
        flops = rate * train_flops_per_record(config.model) if rate else None
        columns = {
            "seconds": round((now - self._began) / runs, 3),
            "records_per_second": round(rate, 1) if rate else None,
            "flops_per_second": flops,
            "utilisation": round(flops / peak_flops(config.model.precision) / jax.device_count(), 4) if flops else None,
            "input_wait": round(self._waited / self._seconds, 4) if self._steps else None,
            "saving_seconds": round(self._saving / runs, 3),
            "memory_mib": memory_mib(),
        }
        self._began, self._steps, self._seconds, self._waited, self._saving = now, 0, 0.0, 0.0, 0.0
        return columns


@functools.cache
def peak_flops(precision: Precision) -> float:
    """FLOP/s of the best square matrix product on one device, measured once: what utilisation is a share of."""
    size, tries = (1024, 10) if jax.default_backend() == "cpu" else (8192, 20)
    ones = np.ones((size, size), jnp.bfloat16 if precision is Precision.BFLOAT16 else np.float32)
    device, seconds = jax.local_devices()[0], []
    with jax.set_mesh(make_mesh([device])):  # the mesh in force may spread over others
        a, product = jax.device_put(ones, device), jax.jit(lambda a: a @ a)
        for _ in range(tries + 1):  # the first compiles
            began = time.perf_counter()
            jax.block_until_ready(product(a))
            seconds.append(time.perf_counter() - began)
    return 2 * size**3 / min(seconds)


class Profiler:
    """Traces a few steps of the first training it sees into a folder, to be opened with XProf or TensorBoard."""

    #: Steps before the trace begins, which compile, and steps it holds.
    AFTER, STEPS = 5, 5

    def __init__(self, folder: Path | None):
        self._folder = folder  # None: nothing is traced

    def around(self, batches: Iterable[Any]) -> Iterator[Any]:
        """The batches, the first time with a trace of what happens between them."""
        folder, self._folder = self._folder, None
        if folder is None:
            yield from batches
            return
        tracing = False
        try:
            for number, batch in enumerate(batches):
                if number == self.AFTER:
                    jax.profiler.start_trace(folder)
                    tracing = True
                if number == self.AFTER + self.STEPS:
                    jax.profiler.stop_trace()
                    tracing = False
                yield batch
        finally:
            if tracing:
                jax.profiler.stop_trace()


def memory_mib() -> float:
    """The most memory used so far: of the first device where it counts it, of this process otherwise."""
    stats = jax.local_devices()[0].memory_stats() or {}
    if "peak_bytes_in_use" in stats:
        return round(stats["peak_bytes_in_use"] / 2**20, 1)
    unit = 1 if sys.platform == "darwin" else 1024
    return round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 2**20, 1)
