"""A slot of time on a machine that is lent for minutes: what of a study fits into it, and when to leave."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from typing import Any

from ecg_jax.config import RunConfig
from ecg_jax.flops import parameters, train_flops_per_record
from ecg_jax.plan import Pack
from ecg_jax.store import Store

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

    def fitting(self, store: Store, packs: Sequence[Pack]) -> list[int]:
        """Which packs may be begun now: those that will be done in time, of which nobody knows, or that no slot would
        ever hold."""
        if self._whole == math.inf:
            return list(range(len(packs)))
        records = [store.record(run) for run in store.targets() if store.is_done(run)]
        expected = [expected_seconds(records, pack) for pack in packs]
        left = self.left()
        return [k for k, seconds in enumerate(expected) if seconds is None or seconds <= left or seconds > self._whole]


def expected_seconds(records: Sequence[dict[str, Any]], pack: Pack) -> float | None:
    """How long a pack will take, from the rates in the records of runs of its size and pack size, or else of the next
    smaller size, which use the machine no better; None when there are none."""
    size = parameters(pack.shape.model).blocks
    done = [row for row in records if row["pack_size"] == len(pack.members) and 0 < row["n_params"] <= size]
    if not done:
        return None
    nearest = max(row["n_params"] for row in done)
    rates = [row["flops_per_second"] for row in done if row["n_params"] == nearest and row["flops_per_second"]]
    return COMPILING_SECONDS + ALLOWANCE * _flops(pack, pack.shape) / min(rates) if rates else None


def _flops(pack: Pack, shape: RunConfig) -> float:
    return pack.steps * len(pack.members) * shape.batch_records * train_flops_per_record(shape.model)
