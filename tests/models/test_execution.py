"""How a model is carried out changes speed and memory, and the numbers by rounding alone."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from support.configs import make_config

from ecg_jax import models, objectives
from ecg_jax.config import Attention, ModelConfig, Objective, Precision, Tokens
from ecg_jax.distributed.mesh import make_mesh, place_batch, place_members, place_pack
from ecg_jax.models import Execution, Remat
from ecg_jax.models.transformer import _softmax_attention
from ecg_jax.train import step

CONFIG = ModelConfig(width=32, depth=2, heads=2, patches=10)
BATCH = 4


def batch(rng: np.random.Generator) -> tuple[jax.Array, jax.Array]:
    """Records and what is hidden of them."""
    ecg = rng.normal(size=(BATCH, CONFIG.samples, 12)).astype(np.float32)
    return place_batch(ecg), place_batch(rng.random((BATCH, CONFIG.patches, 7)) < 0.5)


def loss_of(config: ModelConfig, execution: Execution):
    """A loss by parameters, records and what is hidden."""
    return functools.partial(objectives.loss, objectives.of(Objective.MASKED), models.build(config, execution))


@jax.jit
def some_params() -> models.Params:
    """Parameters whose read-out is not zero, so that every weight has a gradient."""
    params = models.build(CONFIG, Execution()).init(jax.random.key(0))
    leaves, tree = jax.tree.flatten(params)
    keys = jax.random.split(jax.random.key(1), len(leaves))
    noise = [0.1 * jax.random.normal(key, leaf.shape) for key, leaf in zip(keys, leaves)]
    return jax.tree.map(jnp.add, params, jax.tree.unflatten(tree, noise))


@pytest.fixture(scope="module")
def plain() -> tuple[float, models.Params]:
    """Loss and gradients of unrolled blocks that keep everything."""
    with jax.set_mesh(make_mesh(jax.devices()[:1])):
        return jax.jit(jax.value_and_grad(loss_of(CONFIG, Execution())))(
            some_params(), *batch(np.random.default_rng(0))
        )


@pytest.mark.parametrize(
    "execution",
    [
        Execution(remat=Remat.BLOCKS),
        Execution(scan=True),
        Execution(scan=True, remat=Remat.ALL_BUT_PRODUCTS),
    ],
)
def test_loss_and_gradients_are_those_of_the_plain_execution(mesh, plain, execution):
    loss_and_gradients = jax.value_and_grad(loss_of(CONFIG, execution))
    inputs = some_params(), *batch(np.random.default_rng(0))
    traced = str(jax.make_jaxpr(loss_and_gradients)(*inputs))
    assert ("scan[" in traced) == execution.scan
    assert ("checkpoint" in traced or "remat" in traced) == (execution.remat is not Remat.NOTHING)
    loss, gradients = jax.jit(loss_and_gradients)(*inputs)
    np.testing.assert_allclose(loss, plain[0], rtol=1e-6)
    largest = max(float(jnp.abs(leaf).max()) for leaf in jax.tree.leaves(plain[1]))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-6 * largest, rtol=1e-4), gradients, plain[1])


def test_bfloat16_stays_within_two_percent_of_float32(mesh, plain):
    config = dataclasses.replace(CONFIG, precision=Precision.BFLOAT16)
    loss, gradients = jax.jit(jax.value_and_grad(loss_of(config, Execution())))(
        some_params(), *batch(np.random.default_rng(0))
    )
    assert loss.dtype == jnp.float32
    assert all(leaf.dtype == jnp.float32 for leaf in jax.tree.leaves(gradients))
    assert loss != plain[0]
    np.testing.assert_allclose(loss, plain[0], rtol=0.01)
    ours, exact = (
        np.concatenate([np.ravel(np.asarray(leaf)) for leaf in jax.tree.leaves(g)]) for g in (gradients, plain[1])
    )
    assert np.linalg.norm(ours - exact) < 0.02 * np.linalg.norm(exact)


@pytest.mark.parametrize("causal", [False, True])
def test_attention_is_that_of_jax(mesh, causal):
    q, k, v = jax.random.normal(jax.random.key(0), (3, 2, 10, 3, 8))
    seen = np.tril(np.ones((10, 10), bool)) if causal else None
    expected = jax.nn.dot_product_attention(q, k, v, scale=0.3, is_causal=causal)
    ours = jax.jit(lambda q, k, v: _softmax_attention(q, k, v, seen, 0.3))(q, k, v)
    np.testing.assert_allclose(ours, expected, rtol=1e-5, atol=1e-6)


def test_leads_of_one_time_see_each_other_and_no_later_ones(mesh):
    config = dataclasses.replace(CONFIG, depth=1, attention=Attention.CAUSAL, tokens=Tokens.LEAD_TIME)
    model = models.build(config, Execution())
    ecg, _ = batch(np.random.default_rng(0))
    params, all_seen = model.init(jax.random.key(0)), place_batch(np.ones((BATCH, CONFIG.patches, 12), bool))
    at = 4 * CONFIG.patch_samples  # the fifth patch of lead I, which is the first of its eight tokens
    tokens_of = jax.jit(model.tokens)
    tokens, changed = (tokens_of(params, x, all_seen) for x in (ecg, ecg.at[:, at, 0].add(5.0)))
    moved = jnp.abs(tokens - changed).max(axis=(0, 2)).reshape(CONFIG.patches, 8) > 1e-6
    assert not moved[:4].any()
    assert moved[4:].all()


def test_a_step_writes_its_state_over_the_one_it_was_given(mesh):
    config = make_config()
    program = step.program(config)
    state = program.init(np.zeros(1))
    ecg = place_pack(np.zeros((1, config.batch_records, config.model.samples, 12), np.int16))
    rate, decay = place_members(np.array([1e-3])), place_members(np.zeros(1))
    held = program.train_step.lower(state, None, ecg, rate, decay).compile().memory_analysis()
    assert held.alias_size_in_bytes >= sum(leaf.nbytes for leaf in jax.tree.leaves((state.params, state.opt_state)))
    after, _ = program.train_step(state, None, ecg, rate, decay)
    assert all(leaf.is_deleted() for leaf in jax.tree.leaves((state.params, state.opt_state)))
    assert not any(leaf.is_deleted() for leaf in jax.tree.leaves(after))
