"""The train state, the train step, and the loop over steps.

The learning rate enters `train_step` as an argument, so a trunk and its cool-down branches share one program. Masks
are drawn inside the step from (seed, step) alone: the same on any number of devices.
"""

from __future__ import annotations

import dataclasses
import functools
import math
import time
from collections.abc import Callable, Iterable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import PartitionSpec as P

from ecg_jax import models, objectives, optim
from ecg_jax.config import ModelConfig, Objective, OptimConfig, RunConfig
from ecg_jax.data.ecg import normalise
from ecg_jax.mesh import place_batch
from ecg_jax.models import Execution, Model, Params
from ecg_jax.models.execution import keep_freed_memory

# Before a first array is made: the threads of the CPU backend take up this setting as they start.
keep_freed_memory()


@functools.partial(
    jax.tree_util.register_dataclass, data_fields=["step", "seed", "params", "opt_state"], meta_fields=[]
)
@dataclasses.dataclass(frozen=True)
class TrainState:
    """Everything that a run carries from step to step."""

    step: jax.Array
    seed: jax.Array
    params: Params
    opt_state: optax.OptState


class DivergedError(RuntimeError):
    """The training loss is no longer finite. Holds the step and the state after it."""

    def __init__(self, step: int, loss: float, state: TrainState):
        super().__init__(f"the training loss became {loss} at step {step}")
        self.step, self.state = step, state


@dataclasses.dataclass(frozen=True)
class Program:
    """The compiled parts of a run that its trunk and branches, and all runs of its shape, share."""

    model: Model
    init: Callable[[int], TrainState]
    train_step: Callable[[TrainState, jax.Array, float], tuple[TrainState, dict[str, jax.Array]]]


def program(config: RunConfig, execution: Execution | None = None) -> Program:
    """The program of a run's shape, carried out as suits the default backend unless told.

    Runs that share model, optimiser and objective share it. Needs a mesh in force.
    """
    mesh = jax.sharding.get_abstract_mesh()
    # Rates and warm-up act outside the program: they are taken out of its identity.
    optimiser = dataclasses.replace(config.optim, learning_rate=1.0, warmup_records=0, cooldown_fraction=0.5)
    return _program(config.model, execution, optimiser, config.objective, config.mask_ratio, mesh)


@functools.lru_cache(maxsize=32)
def _program(
    model_config: ModelConfig,
    execution: Execution | None,
    optim_config: OptimConfig,
    objective: Objective,
    mask_ratio: float,
    mesh: Any,
) -> Program:
    model = models.build(model_config, execution)
    optimiser = optim.optimiser(optim_config, model_config)
    task = objectives.of(objective)

    @jax.jit
    def init(seed: jax.Array) -> TrainState:
        params = model.init(jax.random.fold_in(jax.random.key(seed), 0))
        return TrainState(jnp.zeros((), jnp.int32), seed, params, optimiser.init(params))

    @functools.partial(jax.jit, donate_argnums=0)
    def train_step(
        state: TrainState, ecg_BxSxE: jax.Array, learning_rate: jax.Array
    ) -> tuple[TrainState, dict[str, jax.Array]]:
        key = jax.random.fold_in(jax.random.fold_in(jax.random.key(state.seed), 1), state.step)
        hidden = task.draw(key, ecg_BxSxE.shape[0], model_config.patches, mask_ratio)
        hidden_BxTxU = jax.reshard(hidden, P("data"))
        x_BxSxE = normalise(ecg_BxSxE)
        loss_of = functools.partial(objectives.loss, task, model)
        loss, grads = jax.value_and_grad(loss_of)(state.params, x_BxSxE, hidden_BxTxU)
        updates, opt_state = optimiser.update(grads, state.opt_state, state.params)
        params = optim.apply_updates(state.params, updates, learning_rate)
        metrics = {"train/loss": loss, "norm/grad": optax.tree.norm(grads)}
        return TrainState(state.step + 1, state.seed, params, opt_state), metrics

    return Program(model, lambda seed: init(jnp.asarray(seed, jnp.uint32)), train_step)


def train(
    program: Program,
    state: TrainState,
    batches: Iterable[np.ndarray],
    rate: Callable[[int], float],
    *,
    on_step: Callable[[int, dict[str, float]], None] = lambda step, metrics: None,
) -> TrainState:
    """Takes one step per batch, from `state.step` on, and returns the last state.

    `rate(step)` is the learning rate; `on_step(step, metrics)` hears of each finished step, one step late, so that
    the host never waits for the step it has just begun and at most two are in flight. Raises DivergedError when the
    loss is not finite.
    """
    step, pending, began = int(state.step), None, time.perf_counter()

    def finish(step: int, metrics: dict[str, jax.Array], began: float) -> None:
        values = {name: float(value) for name, value in metrics.items()}
        on_step(step, values | {"opt/lr": rate(step), "perf/step_seconds": time.perf_counter() - began})
        if not math.isfinite(values["train/loss"]):
            raise DivergedError(step, values["train/loss"], state)

    for batch in batches:
        state, metrics = program.train_step(state, place_batch(batch), rate(step))
        if pending is not None:
            finish(*pending, began)
            began = time.perf_counter()
        pending = (step, metrics)
        step += 1
    if pending is not None:
        finish(*pending, began)
    return state
