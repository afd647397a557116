"""The loop over train steps: one in flight, one heard of."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Iterable
from typing import Any

import jax
import numpy as np

from ecg_jax.distributed.mesh import place_members
from ecg_jax.train.step import Program, TrainState, step_of


@dataclasses.dataclass(frozen=True)
class Finished:
    """What is heard of a finished step: `losses` and `norms` of gradients `(K,)`, and where its time went."""

    step: int
    losses: np.ndarray
    norms: np.ndarray
    seconds: float
    waited: float  # of these, for the input


def train(
    program: Program,
    state: TrainState,
    batches: Iterable[jax.Array],
    rates: Callable[[int], np.ndarray],
    decays: np.ndarray,
    *,
    resident: Any = None,
    on_step: Callable[[Finished], None] = lambda finished: None,
    stop: Callable[[], bool] = lambda: False,
) -> TrainState:
    """Takes one step per batch, from `state.step` on, until there are no more or `stop()` says so.

    `rates(step)` are the members' learning rates `(K,)`. `on_step` hears of each finished step, one step late, so that
    the host never waits for the step it has just begun and at most two are in flight.
    """
    step, decays_K, stream = step_of(state), place_members(decays), iter(batches)
    pending: tuple[int, dict[str, jax.Array], float] | None = None
    began = time.perf_counter()

    def finish(step: int, metrics: dict[str, jax.Array], waited: float) -> None:
        nonlocal began
        losses, norms = jax.device_get((metrics["train/loss"], metrics["norm/grad"]))
        now = time.perf_counter()
        on_step(Finished(step, losses, norms, now - began, waited))
        began = now

    while not stop():
        asked = time.perf_counter()
        batch = next(stream, None)
        waited = time.perf_counter() - asked
        if batch is None:
            break
        state, metrics = program.train_step(state, resident, batch, place_members(rates(step)), decays_K)
        if pending is not None:
            finish(*pending)
        pending = (step, metrics, waited)
        step += 1
    if pending is not None:
        finish(*pending)
    return state
