"""What a study hears of its runs while they train, and what it decides about them."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from typing import Any

from ecg_jax.config import RunConfig
from ecg_jax.train.timing import Profiler

#: Hears of every finished step of a run: config, step, training loss.
OnStep = Callable[[RunConfig, int, float], None]
#: Hears of every finished run: config and record.
OnRun = Callable[[RunConfig, dict[str, Any]], None]
#: Whether the weights of a run are kept, as an encoder.
Keep = Callable[[RunConfig], bool]


def _never() -> bool:
    return False


@dataclasses.dataclass(frozen=True)
class Hooks:
    """What a study wants to hear and decide: see `OnStep`, `OnRun`, `Keep`.

    `stop()` ends a pack after its step. `slot_left()` are the seconds until it will, infinite where nobody knows: a
    pack that is done sooner writes rows and no checkpoint. `profiler` traces the first steps that are trained.
    """

    on_step: OnStep = lambda config, step, loss: None
    on_run: OnRun = lambda config, record: None
    keep: Keep = lambda config: False
    stop: Callable[[], bool] = _never
    slot_left: Callable[[], float] = lambda: math.inf
    profiler: Profiler = dataclasses.field(default_factory=lambda: Profiler(None))


#: Hears and decides nothing.
NO_HOOKS = Hooks()
