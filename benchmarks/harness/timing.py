"""Interleaved timing: every contender once a round, so that a machine that slows down slows all of them."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Sequence

import numpy as np


@dataclasses.dataclass(frozen=True)
class Contender:
    """Something that makes `records` records of 10 s at a rate per call of `run`."""

    name: str
    sample_rate_hz: int
    records: int
    run: Callable[[], object]


@dataclasses.dataclass(frozen=True)
class Timed:
    """Seconds per record of a contender in each round, and of its very first call."""

    contender: Contender
    seconds_per_record: np.ndarray  # (rounds,)
    first_call_s: float

    @property
    def best_per_s(self) -> float:
        """Records per second in the best round."""
        return float(1 / self.seconds_per_record.min())

    @property
    def median_per_s(self) -> float:
        """Records per second in the median round."""
        return float(1 / np.median(self.seconds_per_record))


def time_call(run: Callable[[], object]) -> float:
    """Wall seconds of one call."""
    began = time.perf_counter()
    run()
    return time.perf_counter() - began


def calls_within(run: Callable[[], object], budget_s: float) -> int:
    """How many calls fit the budget, at least one, judged by a single (warm) call."""
    return max(1, int(budget_s / max(time_call(run), 1e-7)))


def interleaved(
    contenders: Sequence[Contender],
    rounds: int,
    budget_s: float,
    *,
    before_first_call: Callable[[], None] = lambda: None,
    progress: Callable[[str, int, int], None] = lambda what, done, total: None,
) -> list[Timed]:
    """Times all contenders in `rounds` rounds, each for about `budget_s` a round (or one call, where that is longer).

    Every second round goes backwards. First calls (compilation) are timed apart, each after `before_first_call`.
    `progress(what, done, total)` is called before each measurement.
    """
    total = len(contenders) * (rounds + 2)
    first, calls, seconds = [], [], np.empty((len(contenders), rounds))
    for number, contender in enumerate(contenders):
        progress(f"first call: {contender.name}", number, total)
        before_first_call()
        first.append(time_call(contender.run))
    for number, contender in enumerate(contenders):
        progress(f"warm-up: {contender.name}", len(contenders) + number, total)
        contender.run()
        calls.append(calls_within(contender.run, budget_s))
    for turn in range(rounds):
        order = range(len(contenders)) if turn % 2 == 0 else reversed(range(len(contenders)))
        for place, i in enumerate(order):
            progress(f"round {turn + 1}: {contenders[i].name}", len(contenders) * (turn + 2) + place, total)
            elapsed_s = time_call(lambda i=i: [contenders[i].run() for _ in range(calls[i])])
            seconds[i, turn] = elapsed_s / (calls[i] * contenders[i].records)
    progress("done", total, total)
    return [Timed(*row) for row in zip(contenders, seconds, first, strict=True)]
