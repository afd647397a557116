"""Watching a pack: where its time goes, a trace of it, the machine it runs on, and the curve of its trunks."""

from __future__ import annotations

import contextlib
import functools
import platform
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
from ecg_jax.distributed.backend import is_deterministic
from ecg_jax.distributed.mesh import make_mesh
from ecg_jax.files import damaged, jsonl, read_lines, write_text
from ecg_jax.scaling.flops import train_flops_per_record
from ecg_jax.scaling.throughput import WARM_UP_STEPS
from ecg_jax.train import Finished

SEGMENTS = "segments.jsonl"
#: A moment, in UTC.
STAMP = "%Y-%m-%dT%H:%M:%SZ"


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


def append_segment(folder: Path) -> None:
    """Notes the hardware and versions under which this part of a trunk ran: no part of its identity."""
    device = jax.devices()[0]
    segment = {
        "started": time.strftime(STAMP, time.gmtime()),
        "platform": device.platform,
        "device": device.device_kind,
        "devices": jax.device_count(),
        "hosts": jax.process_count(),
        "python": platform.python_version(),
        "jax": jax.__version__,
        "deterministic": is_deterministic(),
    }
    write_text(folder / SEGMENTS, jsonl([*read_segments(folder), segment]))


def read_segments(folder: Path) -> list[dict[str, Any]]:
    """What `append_segment` noted of a trunk. Raises ValueError, with file and line, where it was damaged."""
    path = folder / SEGMENTS
    remedy = "copy it again from where it came, or delete it: it tells of machines, and no result stands on it"
    lines = read_lines(path, remedy=remedy)
    for number, line in enumerate(lines, 1):
        try:
            time.strptime(line.get("started", ""), STAMP)
        except (TypeError, ValueError) as error:
            what = f"says started = {line.get('started')!r}"
            raise damaged(path, what, line=number, remedy=remedy) from error
    return lines
