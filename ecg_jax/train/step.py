"""The train state of a pack, the train step, and the loop over steps.

A pack is K runs of one shape that train together in one program: every array of the state has their axis in front,
sharded over `member`. A solo run is a pack of one. Rates and weight decay enter `train_step` as arguments, so trunks,
cool-downs and members share one compiled program. Masks are drawn inside the step from (seed, step) alone: the same on
any number of devices and in any pack.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import PartitionSpec as P

from ecg_jax import models, objectives
from ecg_jax.config import ModelConfig, Objective, OptimConfig, RunConfig
from ecg_jax.data.ecg import normalise
from ecg_jax.distributed.mesh import place_members
from ecg_jax.extras import needs
from ecg_jax.models import Execution, Model, Params
from ecg_jax.train import optimizer

with needs("train"):
    import optax


@functools.partial(
    jax.tree_util.register_dataclass, data_fields=["step", "seed", "params", "opt_state"], meta_fields=[]
)
@dataclasses.dataclass(frozen=True)
class TrainState:
    """Everything that a pack carries from step to step; every array `(K, ...)`."""

    step: jax.Array
    seed: jax.Array
    params: Params
    opt_state: optax.OptState


def step_of(state: TrainState) -> int:
    """The step that a pack has reached, which its members share. Waits for the state."""
    return int(jax.device_get(state.step)[0])


#: From what is resident and what travels, `(K, B, ...)`, to records `(K, B, samples, 12)` int16; traceable.
Read = Callable[[Any, jax.Array], jax.Array]


@dataclasses.dataclass(frozen=True)
class Program:
    """The compiled parts that all packs of a shape share.

    `init(seeds)` gives the state of a pack; `train_step(state, resident, batch, rates, decays)` takes one step:
    `batch` `(K, B, …)` is what `read` was told to expect, `rates` and `decays` are `(K,)`; its metrics are `(K,)`.
    `init_pack` is `init` on seeds that are placed, or abstract.
    """

    model: Model
    init_pack: Callable[[jax.Array], TrainState]
    train_step: jax.stages.Wrapped

    def init(self, seeds: np.ndarray) -> TrainState:
        """The state of a pack with these seeds, `(K,)`."""
        return self.init_pack(place_members(seeds.astype(np.uint32)))


def program(config: RunConfig, read: Read | None = None, *, execution: Execution | None = None) -> Program:
    """The program of a run's shape. Runs that share model, optimiser and objective share it. Needs a mesh in force.

    `read(resident, batch)` makes records of what travels; None: the records themselves travel. It is carried out
    as suits the default backend unless told.
    """
    mesh = jax.sharding.get_abstract_mesh()
    # Rates, decay and warm-up act outside the program: they are taken out of its identity.
    optimiser = dataclasses.replace(
        config.optim, learning_rate=1.0, weight_decay=0.0, warmup_records=0, cooldown_fraction=0.5
    )
    return _program(config.model, optimiser, config.objective, config.mask_ratio, read, execution, mesh)


@functools.lru_cache(maxsize=32)
def _program(
    model_config: ModelConfig,
    optim_config: OptimConfig,
    objective: Objective,
    mask_ratio: float,
    read: Read | None,
    execution: Execution | None,
    mesh: Any,
) -> Program:
    model = models.build(model_config, execution)
    optimiser = optimizer.optimiser(optim_config, model_config)
    task = objectives.of(objective)

    def init(seed: jax.Array) -> TrainState:
        params = model.init(jax.random.fold_in(jax.random.key(seed), 0))
        return TrainState(jnp.zeros((), jnp.int32), seed, params, optimiser.init(params))

    def step(
        state: TrainState, ecg_BxSxE: jax.Array, rate: jax.Array, decay: jax.Array
    ) -> tuple[TrainState, dict[str, jax.Array]]:
        key = jax.random.fold_in(jax.random.fold_in(jax.random.key(state.seed), 1), state.step)
        hidden = task.draw(key, ecg_BxSxE.shape[0], model_config.patches, mask_ratio)
        hidden_BxTxU = jax.reshard(hidden, P("data"))
        loss_of = functools.partial(objectives.loss, task, model)
        loss, grads = jax.value_and_grad(loss_of)(state.params, normalise(ecg_BxSxE), hidden_BxTxU)
        updates, opt_state = optimiser.update(grads, state.opt_state, state.params)
        params = optimizer.apply_updates(state.params, updates, rate, decay)
        metrics = {"train/loss": loss, "norm/grad": optax.tree.norm(grads)}
        return TrainState(state.step + 1, state.seed, params, opt_state), metrics

    @jax.jit
    def init_pack(seeds_K: jax.Array) -> TrainState:
        return jax.tree.map(_over_members, jax.vmap(init)(seeds_K))

    @functools.partial(jax.jit, donate_argnums=0)
    def train_step(
        state: TrainState, resident: Any, batch: jax.Array, rate_K: jax.Array, decay_K: jax.Array
    ) -> tuple[TrainState, dict[str, jax.Array]]:
        ecg_KxBxSxE = batch if read is None else read(resident, batch)
        if ecg_KxBxSxE.shape[0] > 1:
            return jax.vmap(step)(state, ecg_KxBxSxE, rate_K, decay_K)
        # Alone, without an axis of one: on a CPU batched products are slower, and take more memory.
        one = jax.tree.map(lambda leaf: leaf[0], (state, ecg_KxBxSxE, rate_K, decay_K))
        return jax.tree.map(lambda leaf: _over_members(leaf[None]), step(*one))

    return Program(model, init_pack, train_step)


def _over_members(leaf: jax.Array) -> jax.Array:
    """Spreads a leaf over `member`, which counters that no key reached are not yet."""
    return jax.reshard(leaf, P("member", *jax.typeof(leaf).sharding.spec[1:]))


def member(tree: Any, index: int) -> Any:
    """The arrays of one member of a pack."""
    return _member(tree, index)


@jax.jit
def _member(tree: Any, index: jax.Array) -> Any:
    def picked(leaf: jax.Array) -> jax.Array:
        # Which device holds the member is known only when the index is: moving it is left to the compiler.
        pick = jax.sharding.auto_axes(
            lambda leaf, index: leaf[index], out_sharding=P(*jax.typeof(leaf).sharding.spec[1:])
        )
        return pick(leaf, index)

    return jax.tree.map(picked, tree)


@jax.jit
def whole(tree: Any) -> Any:
    """The arrays of a tree, whole on every device: so that every process can read them."""
    return jax.tree.map(lambda leaf: jax.reshard(leaf, P()), tree)
