"""A slot of time on a machine that is lent for minutes: what of a study fits into it, and when to leave."""

from __future__ import annotations

import math
import time
from typing import Any

from ecg_jax.config import RunConfig
from ecg_jax.scaling.flops import parameters, train_flops_per_record
from ecg_jax.scaling.time_left import nearest_rate
from ecg_jax.study.packing import Pack

#: Seconds that are kept back for saving and leaving, and that a new shape may take to compile.
LEAVING_SECONDS, COMPILING_SECONDS = 15.0, 45.0
#: What a pack may take beyond its rate: evaluations, and the machine's moods.
ALLOWANCE = 1.2


class Slot:
    """So many minutes from now, or without an end."""

    def __init__(self, minutes: float | None):
        if minutes is not None and not 60 * minutes > LEAVING_SECONDS:
            raise ValueError(f"a slot of {minutes:g} minutes is none: {LEAVING_SECONDS:g} s of it are for leaving")
        self._whole = math.inf if minutes is None else 60 * minutes - LEAVING_SECONDS
        self._end = time.monotonic() + self._whole

    def left(self) -> float:
        """Seconds until it is time to leave."""
        return max(0.0, self._end - time.monotonic())

    def is_over(self) -> bool:
        """Whether it is time to leave."""
        return self.left() == 0

    @property
    def ends(self) -> bool:
        """Whether it has an end."""
        return self._whole < math.inf

    def holds(self, seconds: float | None) -> bool:
        """Whether what takes so long may be begun now: it will be done in time, or nobody knows how long it takes, or
        no slot of this length would ever hold it."""
        left = self.left()
        return left > 0 and (seconds is None or seconds <= left or seconds > self._whole)


class Rates:
    """How fast runs trained, from their records: the lowest rate by pack size and number of parameters."""

    def __init__(self) -> None:
        self._lowest: dict[int, dict[int, float]] = {}

    def add(self, record: dict[str, Any]) -> None:
        """Learns from the record of a run."""
        by_size = self._lowest.setdefault(record["pack_size"], {})
        size, rate = record["n_params"], record["flops_per_second"] or math.inf
        by_size[size] = min(rate, by_size.get(size, math.inf))

    def expected_seconds(self, pack: Pack) -> float | None:
        """How long a pack will take, at the rate of runs of its size and pack size, or else of the next smaller size,
        which use the machine no better; None where there are none."""
        size = parameters(pack.shape.model).blocks
        known = {n: rate for n, rate in self._lowest.get(len(pack.members), {}).items() if 0 < n <= size}
        rate = nearest_rate(known, size)
        if rate is None or rate.flops == math.inf:
            return None
        return COMPILING_SECONDS + ALLOWANCE * _flops(pack, pack.shape) / rate.flops


def _flops(pack: Pack, shape: RunConfig) -> float:
    return pack.steps * len(pack.members) * shape.batch_records * train_flops_per_record(shape.model)
