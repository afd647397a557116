"""How long work takes at rates that were seen, and rates from the steps of a study that is being done.

Small models use a machine worse than large ones, so each size has its own rate; one that was not seen is priced at that
of the next smaller one, which uses the machine no better: then it is the most it will take. Below the smallest that was
seen, its rate is all that is known. Steps that compile tell nothing: of every program, and after every jump, the first
ones are left out, and nothing is said of a size before two more.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from ecg_jax.config import ModelConfig, RunConfig
from ecg_jax.scaling.cost import duration, flops
from ecg_jax.scaling.flops import parameters, train_flops_per_record

#: Steps of a pack that are left out of its rates: they compile.
WARM_UP_STEPS = 2
#: Measured steps from which a size's rate is told.
FEWEST_STEPS = 2


class Rate(NamedTuple):
    """Training FLOP/s, and on which number of parameters it was seen."""

    flops: float
    parameters: int


class Estimate(NamedTuple):
    """Seconds; `at_most` where a size's rate had to be borrowed."""

    seconds: float
    at_most: bool


def nearest_rate(rates: Mapping[int, float], size: int) -> Rate | None:
    """The rate of a size, from rates by number of parameters; None where there are none."""
    if not rates:
        return None
    nearest = max((known for known in rates if known <= size), default=min(rates))
    return Rate(rates[nearest], nearest)


def estimate(work: Iterable[tuple[int, float]], rates: Mapping[int, float]) -> Estimate | None:
    """How long work takes that is given as (number of parameters, FLOPs); None where no rate is known."""
    seconds, at_most = 0.0, False
    for size, amount in work:
        rate = nearest_rate(rates, size)
        if rate is None:
            return None
        seconds += amount / rate.flops
        at_most |= rate.parameters != size
    return Estimate(seconds, at_most)


@dataclasses.dataclass
class _Size:
    """The work that is left of a model, and what was measured of it."""

    left: float
    parameters: int
    flops: float = 0.0
    seconds: float = 0.0
    steps: int = 0

    @property
    def rate(self) -> float | None:
        """FLOP/s, once enough steps were measured."""
        return self.flops / self.seconds if self.steps >= FEWEST_STEPS and self.seconds > 0 else None


class TimeLeft:
    """Hears of steps, and says what is left. Work is in FLOPs, times in seconds."""

    def __init__(self, left: Sequence[RunConfig], evaluations_per_run: int):
        by_model: dict[ModelConfig, list[RunConfig]] = {}
        for run in left:
            by_model.setdefault(run.model, []).append(run)
        self._sizes = {
            model: _Size(flops(runs, evaluations_per_run), parameters(model).blocks) for model, runs in by_model.items()
        }
        self._program: tuple[ModelConfig, int] | None = None
        self._step, self._to_skip, self._since = -1, 0, 0.0

    def hear(self, config: RunConfig, step: int, now: float) -> None:
        """Hears of a step of a run, finished `now`; of a pack every member tells of it."""
        work = config.batch_records * train_flops_per_record(config.model)
        size = self._sizes.setdefault(config.model, _Size(0.0, parameters(config.model).blocks))
        size.left -= work
        is_new = step != self._step
        if (config.model, config.batch_records) != self._program or step < self._step:
            self._program, self._to_skip = (config.model, config.batch_records), WARM_UP_STEPS
        elif is_new and self._to_skip:
            self._to_skip -= 1
        if not self._to_skip:
            size.flops += work
            size.seconds += now - self._since
            size.steps += is_new
        self._step, self._since = step, now

    def done(self, config: RunConfig, work: float) -> None:
        """Hears of other work that is done, as a run's evaluation."""
        if config.model in self._sizes:
            self._sizes[config.model].left -= work

    def left(self) -> str:
        """How long the rest will take, in words, "" while nobody knows."""
        rates = {size.parameters: size.rate for size in self._sizes.values() if size.rate is not None}
        left = estimate(((s.parameters, s.left) for s in self._sizes.values() if s.left > 0), rates)
        if not rates or left is None:
            return ""
        told = duration(left.seconds)
        return f"at most {told} left, compiling aside" if left.at_most else f"about {told} left"
