"""Reading ahead by threads: the only module of training that needs Grain."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np

from ecg_jax.extras import needs

with needs("train"):
    import grain


def read_ahead(read: Callable[[int], np.ndarray], steps: range) -> Iterator[np.ndarray]:
    """`read(step)` for all `steps`, in order, a few of them ahead of the one that is asked for."""
    dataset = grain.MapDataset.range(steps.start, steps.stop).map(lambda step: read(int(step)))
    return iter(dataset.to_iter_dataset(grain.ReadOptions(num_threads=2, prefetch_buffer_size=4)))
