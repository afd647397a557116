"""Parameters, FLOPs and memory against the model itself and against XLA."""

import itertools

import jax
import numpy as np
import pytest
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P

from ecg_jax import models, objectives
from ecg_jax.config import Objective, Position, Tokens
from ecg_jax.models import Execution
from ecg_jax.scaling import ladder
from ecg_jax.scaling.flops import forward_flops_per_record, parameters, train_flops_per_record, training_bytes
from ecg_jax.train import optimizer

PLAIN = Execution()  # unrolled, nothing computed again: XLA counts the body of a loop once


def counted(tree) -> int:
    return sum(leaf.size for leaf in jax.tree.leaves(tree))


@pytest.mark.parametrize("size", ladder.RUNGS)
def test_parameters_are_exact_for_every_rung(size, mesh):
    check_parameters(ladder.model_config(size))


@pytest.mark.parametrize(
    ("tokens", "position", "objective", "rate"),
    [
        (*variant, (100, 250, 500)[index % 3])
        for index, variant in enumerate(itertools.product(Tokens, Position, (Objective.MASKED, Objective.NEXT_PATCH)))
    ],
)
def test_parameters_are_exact_for_every_variant(tokens, position, objective, rate, mesh):
    check_parameters(
        ladder.model_config(30_000, sample_rate_hz=rate, tokens=tokens, position=position, objective=objective)
    )


def check_parameters(config):
    counts, tree = parameters(config), jax.eval_shape(models.build(config).init, jax.random.key(0))
    embed, head = tree["embed"], tree["head"]
    assert counted(tree["blocks"]) == counts.blocks
    assert counted([embed[name] for name in ("project", "stem") if name in embed]) == counts.embedding
    assert counted([embed[name] for name in ("position", "lead") if name in embed]) == counts.position
    assert counted([head, tree["norm"]]) == counts.readout
    assert counted(tree) == counts.total


def abstract(config, objective, batch=2):
    """Model, task, and the shapes of parameters, records and hidden cells."""
    model = models.build(config, PLAIN)
    sharding = NamedSharding(jax.sharding.get_mesh(), P("data"))
    ecg = jax.ShapeDtypeStruct((batch, config.samples, 12), np.float32, sharding=sharding)
    hidden = jax.ShapeDtypeStruct((batch, config.patches, 7), bool, sharding=sharding)
    return model, objectives.of(objective), jax.eval_shape(model.init, jax.random.key(0)), ecg, hidden


@pytest.mark.parametrize(
    ("size", "tokens", "position", "objective", "rate"),
    [
        (1_000_000, Tokens.TIME, Position.LEARNED, Objective.MASKED, 100),
        (1_000_000, Tokens.LEAD_TIME, Position.ROTARY, Objective.NEXT_PATCH, 500),
        (3_000_000, Tokens.TIME, Position.SINUSOIDAL, Objective.NEXT_PATCH, 250),
    ],
)
def test_flops_agree_with_the_compiler(size, tokens, position, objective, rate, mesh):
    """XLA counts element-wise work too, which shrinks beside the matrix products as width grows: both counts lie within
    6 % from 1M on, forward and for a step of training."""
    config = ladder.model_config(size, sample_rate_hz=rate, tokens=tokens, position=position, objective=objective)
    model, task, params, ecg, hidden = abstract(config, objective)
    sharding = NamedSharding(jax.sharding.get_mesh(), P("data"))
    visible = jax.ShapeDtypeStruct((2, config.patches, 12), bool, sharding=sharding)
    forward = jax.jit(model.apply).lower(params, ecg, visible).cost_analysis()["flops"] / 2
    assert 1.0 <= forward / forward_flops_per_record(config) < 1.06
    step = jax.jit(jax.value_and_grad(lambda p, x, h: objectives.loss(task, model, p, x, h)))
    train = step.lower(params, ecg, hidden).cost_analysis()["flops"] / 2
    assert 1.0 <= train / train_flops_per_record(config) < 1.06


@pytest.mark.parametrize("size", [30_000, 1_000_000])
def test_memory_agrees_with_the_compiler(size, mesh):
    """Within a factor of 1.5 of what XLA plans for a step on a CPU in float32, at batches of 64."""
    config = ladder.model_config(size)
    model, task, params, ecg, hidden = abstract(config, Objective.MASKED, batch=64)
    optimiser = optimizer.optimiser(ladder.optim_config(), config)

    def step(params, state, ecg, hidden):
        grads = jax.grad(lambda p: objectives.loss(task, model, p, ecg, hidden))(params)
        updates, state = optimiser.update(grads, state, params)
        return optimizer.apply_updates(params, updates, 1e-3, 0.0), state

    state = jax.eval_shape(optimiser.init, params)
    lowered = jax.jit(step, donate_argnums=(0, 1)).lower(params, state, ecg, hidden)
    # Memory is planned before code is made: unoptimised code will do.
    compiled = lowered.compile(compiler_options={"xla_backend_optimization_level": 0})
    plan = compiled.memory_analysis()
    planned = plan.argument_size_in_bytes + plan.temp_size_in_bytes
    assert 1 / 1.5 < planned / training_bytes(config, 64) < 1.5
