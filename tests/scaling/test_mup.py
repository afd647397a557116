"""The coordinate check of Yang et al. (2022, appendix D.1), and the roles and multipliers behind it."""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from ecg_jax import models, objectives
from ecg_jax.config import ModelConfig, Objective, OptimConfig, Parametrisation, Position, Readout, Tokens
from ecg_jax.distributed.mesh import place_batch
from ecg_jax.models import Execution
from ecg_jax.models.layers import SHARED
from ecg_jax.models.transformer import Transformer, _scanned, transformer
from ecg_jax.objectives import masked
from ecg_jax.scaling import mup
from ecg_jax.scaling.contract import Role
from ecg_jax.train import optimizer

OURS, STANDARD = Parametrisation.COMPLETE_P, Parametrisation.STANDARD
PATCHES, BATCH, STEPS, RATE = 10, 4, 4, 1.2e-2
#: A coordinate is flat where it changes by a smaller power of width or depth: by less than double over a factor of 16.
FLAT = 0.25
#: Compiling costs more here than running: LLVM need not optimise.
QUICK = {"xla_backend_optimization_level": 0, "xla_llvm_disable_expensive_passes": True}


def shaped(width, depth, parametrisation):
    """Two heads at every width, so that head sizes grow as widths do."""
    return ModelConfig(width, depth, 2, patches=PATCHES, parametrisation=parametrisation)


def activations(c, params, ecg, visible):
    """Every activation of a model by name; those inside of a block, of its last one."""
    graph = nnx.graphdef(nnx.eval_shape(lambda: Transformer(c, Execution(), rngs=nnx.Rngs(0))))
    model, found = nnx.merge(graph, params), {}
    x_RxM = found["tokens"] = model.embed(ecg, visible).reshape(-1, c.width, out_sharding=SHARED)
    if c.depth > 1:  # one compiled block
        x_RxM = found["residual stream"] = _scanned(model, x_RxM)
        return found | {"output": model.head(model.norm(x_RxM).reshape(BATCH, PATCHES, c.width, out_sharding=SHARED))}
    share = mup.residual_multiplier(c)
    for block in model.blocks:
        normed = block.attention_norm(x_RxM)
        qkv = block.qkv(normed, out_sharding=SHARED).reshape(BATCH, PATCHES, 3, 2, c.head_size, out_sharding=SHARED)
        found["attention logits"] = jnp.einsum("bqhk,bjhk->bhqj", qkv[:, :, 0], qkv[:, :, 1]) * mup.attention_scale(c)
        found["attention"] = block.attention(normed)
        x_RxM = x_RxM + share * found["attention"]
        fed = jax.nn.gelu(block.up(block.feed_norm(x_RxM), out_sharding=SHARED))
        found["feed-forward"] = block.down(fed, out_sharding=SHARED)
        x_RxM = x_RxM + share * found["feed-forward"]
    found["residual stream"] = x_RxM
    return found | {"output": model.head(model.norm(x_RxM).reshape(BATCH, PATCHES, c.width, out_sharding=SHARED))}


def initial(c, model):
    """Weights as `model.init` draws them (see below), but drawn by NumPy, which compiles nothing."""
    rng = np.random.default_rng(0)

    def draw(path, leaf):
        if leaf.ndim == 1:
            return jnp.ones(leaf.shape)
        placed = path[-1].key == "kernel"
        deviation = mup.initial_deviation(c, mup.place_of(c, path).role, leaf.shape[0]) if placed else 0.02
        return jax.device_put((deviation * rng.normal(size=leaf.shape)).astype(np.float32), leaf.sharding.spec)

    return jax.tree.map_with_path(draw, jax.eval_shape(model.init, jax.random.key(0)))


@functools.cache
def coordinates(c):
    """Root mean squares: of every activation after `STEPS` steps at one rate, and of its change since the start."""
    model, task = transformer(c, Execution(scan=c.depth > 1)), objectives.of(Objective.MASKED)
    adam = optimizer.optimiser(OptimConfig(RATE, weight_decay=0.0), c)
    rng = np.random.default_rng(0)
    walk = np.cumsum(rng.normal(size=(BATCH, PATCHES * c.patch_samples, 12)), axis=1).astype(np.float32)
    x = place_batch((walk - walk.mean(axis=1, keepdims=True)) / walk.std(axis=1, keepdims=True))
    hidden = place_batch(rng.random((BATCH, PATCHES, 7)) < 0.6)

    quick = functools.partial(jax.jit, compiler_options=QUICK)
    gradients = quick(jax.grad(lambda params: objectives.loss(task, model, params, x, hidden)))
    # The optimiser of many blocks takes long to compile whole; its operations one by one are compiled already.
    update = adam.update if c.depth > 1 else quick(adam.update)
    look = quick(lambda params: activations(c, params, x, masked.visible(x, hidden)))
    params = initial(c, model)
    before, state = look(params), adam.init(params)
    for _ in range(STEPS):
        updates, state = update(gradients(params), state, params)
        params = optimizer.apply_updates(params, updates, RATE, 0.0)
    after = look(params)
    found = {name: np.sqrt(np.mean(np.square(after[name]))) for name in after}
    return found | {f"change of {n}": np.sqrt(np.mean(np.square(after[n] - before[n]))) for n in after}


def powers(sizes, found):
    """The power of the size that every coordinate grows with: the slope of its logarithm."""
    return {name: np.polyfit(np.log(sizes), np.log([f[name] for f in found]), 1)[0] for name in found[0]}


def test_activations_and_their_changes_are_flat_in_width(mesh):
    widths = (32, 128, 512)
    ours = powers(widths, [coordinates(shaped(width, 1, OURS)) for width in widths])
    # At the start, logits are a sum of K random signs x 4 / K: they fall as 1 / sqrt(K) until learning outgrows them.
    logits = [ours.pop("attention logits"), ours.pop("change of attention logits")]
    assert {name: power for name, power in ours.items() if abs(power) > FLAT} == {}
    assert all(-0.5 < power < FLAT for power in logits)


def test_in_the_standard_parametrisation_they_grow_with_width(mesh):
    widths = (32, 512)
    standard = powers(widths, [coordinates(shaped(width, 1, STANDARD)) for width in widths])
    names = ("attention logits", "attention", "feed-forward", "residual stream")
    assert all(standard[f"change of {name}"] > 0.75 for name in names), standard


def test_the_change_of_the_residual_stream_is_flat_in_depth_in_ours_alone(mesh):
    depths, shared = (1, 16), ("tokens", "residual stream", "output")
    names = (*shared, *(f"change of {name}" for name in shared))

    def grown(parametrisation):
        found = [coordinates(shaped(32, depth, parametrisation)) for depth in depths]
        return powers(depths, [{name: one[name] for name in names} for one in found])

    ours, standard = grown(OURS), grown(STANDARD)
    assert {name: power for name, power in ours.items() if abs(power) > FLAT} == {}
    assert standard["residual stream"] > FLAT and standard["change of residual stream"] > FLAT


# ---- roles and multipliers -------------------------------------------------------------------------------------------

BLOCK = {
    "attention_norm.scale": Role.GAIN,
    "feed_norm.scale": Role.GAIN,
    "qkv.kernel": Role.HIDDEN,
    "up.kernel": Role.HIDDEN,
    "mix.kernel": Role.BRANCH_END,
    "down.kernel": Role.BRANCH_END,
}
ROLES = {
    "embed.project.kernel": Role.INPUT,
    "head.project.kernel": Role.OUTPUT,
    "norm.scale": Role.GAIN,
    **{f"blocks.{number}.{name}": role for number in range(4) for name, role in BLOCK.items()},
}
STEMS = {"embed.stem.kernel": Role.INPUT, "head.unstem.kernel": Role.INPUT}
PLACES = {"embed.position": Role.INPUT}
#: Twice as wide and four times as deep as the base.
VARIANTS = {
    "time tokens": ({}, ROLES | PLACES),
    "rotary": ({"position": Position.ROTARY}, ROLES),
    "stem": ({"patch_samples": 100, "stem_samples": 20}, ROLES | PLACES | STEMS),
    "lead x time tokens": ({"tokens": Tokens.LEAD_TIME}, ROLES | PLACES | {"embed.lead": Role.INPUT}),
    "Gaussian": ({"readout": Readout.GAUSSIAN}, ROLES | PLACES),
}


def variant(name, **changes):
    return ModelConfig(**{"width": 96, "depth": 4, "heads": 6, "patches": PATCHES} | VARIANTS[name][0] | changes)


def by_name(tree):
    """Leaves by dotted path, beside their paths."""
    leaves = jax.tree.leaves_with_path(tree)
    return {".".join(str(key.key) for key in path): (path, leaf) for path, leaf in leaves}


@pytest.mark.parametrize("name", VARIANTS)
def test_every_weight_has_its_role(name, mesh):
    model = models.build(variant(name))
    leaves = by_name(jax.eval_shape(model.init, jax.random.key(0)))
    assert {leaf: mup.place_of(variant(name), path).role for leaf, (path, _) in leaves.items()} == VARIANTS[name][1]


def test_initial_deviations(mesh):
    """Of the real draw: 1 / sqrt(fan-in), and nothing in the read-out."""
    config = variant("stem", depth=1)
    leaves = by_name(models.build(config).init(jax.random.key(0)))
    for name, (path, leaf) in leaves.items():
        if name.endswith("kernel"):
            expected = 0.0 if mup.place_of(config, path).role is Role.OUTPUT else 1 / math.sqrt(leaf.shape[0])
            np.testing.assert_allclose(np.std(leaf), expected, rtol=0.1, err_msg=name)
    standard = variant("stem", depth=8, parametrisation=STANDARD)
    assert {mup.initial_deviation(standard, role, 25) for role in (Role.INPUT, Role.HIDDEN, Role.OUTPUT)} == {1 / 5}
    assert mup.initial_deviation(standard, Role.BRANCH_END, 25) == 1 / 5 / 4


def test_multipliers_of_rate_and_epsilon(mesh):
    """The table of `mup`."""
    c = variant("stem")
    leaves = by_name(jax.eval_shape(models.build(c).init, jax.random.key(0)))
    matrices = {f"blocks.0.{name}.kernel" for name in ("qkv", "mix", "up", "down")}
    for name, (path, _) in leaves.items():
        if name.startswith("blocks.0"):
            assert mup.rate_multiplier(c, path) == (0.5 if name in matrices else 1.0), name
            assert mup.epsilon_multiplier(c, path) == 0.5 / 4, name
        elif not name.startswith("blocks"):
            assert mup.rate_multiplier(c, path) == 1.0, name
            assert mup.epsilon_multiplier(c, path) == (1.0 if "stem" in name else 0.5), name
    standard = variant("stem", parametrisation=STANDARD)
    assert {mup.rate_multiplier(standard, path) for path, _ in leaves.values()} == {1.0}
    assert {mup.epsilon_multiplier(standard, path) for path, _ in leaves.values()} == {1.0}


def test_multipliers_of_activations():
    ours, standard = (ModelConfig(192, 4, 3, parametrisation=p) for p in (OURS, STANDARD))
    assert (mup.residual_multiplier(ours), mup.readout_multiplier(ours)) == (1 / 4, 1 / 4)
    assert (mup.residual_multiplier(standard), mup.readout_multiplier(standard)) == (1.0, 1.0)
    assert mup.attention_scale(ours) == 4 / 64 and mup.attention_scale(standard) == 1 / 8
    at_base = ModelConfig(48, 1, 3)
    assert mup.attention_scale(at_base) == 1 / 4  # the standard one
