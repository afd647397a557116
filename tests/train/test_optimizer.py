"""Rates, multipliers and Muon; in processes of their own where devices are many."""

import json
import math
import os
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from support.configs import make_config
from support.places import REPOSITORY, TESTS
from support.synthetic_pools import made_up_pool

from ecg_jax import models
from ecg_jax.config import ModelConfig, OptimConfig, Optimiser, Parametrisation
from ecg_jax.distributed.mesh import place_pack
from ecg_jax.scaling import mup
from ecg_jax.train import optimizer
from ecg_jax.train.loop import train
from ecg_jax.train.step import program

WIDE = ModelConfig(96, 1, 6, patches=4)
#: What Adam divides by beside the gradient's size.
EPSILON = 1e-8


def names_and_paths(params):
    return [(".".join(str(key.key) for key in path), path, leaf) for path, leaf in jax.tree.leaves_with_path(params)]


def zeros_like_weights(c):
    shapes = jax.eval_shape(models.build(c).init, jax.random.key(0))
    return jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, out_sharding=leaf.sharding.spec), shapes)


def first_update(config, c, params, gradients):
    chain = optimizer.optimiser(config, c)
    return jax.jit(lambda p, g: chain.update(g, chain.init(p), p)[0])(params, gradients)


@pytest.mark.parametrize("size", [1.0, 0.01])
def test_adams_first_step_is_each_weights_multiple_of_the_rate(size, mesh):
    """Gradients equal to epsilon's multiple for `size` 1: half a step everywhere, so both multipliers are as stated."""
    params = zeros_like_weights(WIDE)
    gradients = jax.tree.map_with_path(lambda path, p: p + size * EPSILON * mup.epsilon_multiplier(WIDE, path), params)
    updates = first_update(OptimConfig(1.0, weight_decay=0.0), WIDE, params, gradients)
    for name, path, update in names_and_paths(updates):
        expected = mup.rate_multiplier(WIDE, path) * size / (1 + size)
        np.testing.assert_allclose(update, expected, rtol=1e-3, err_msg=name)


@pytest.mark.parametrize("parametrisation", Parametrisation)
def test_decay_is_the_same_at_every_width(parametrisation, mesh):
    """Every matrix shrinks by rate x decay, whatever its multiple of the rate; gains are left alone."""
    for width in (48, 96):
        c = ModelConfig(width, 1, 3, patches=4, parametrisation=parametrisation)
        zeros = zeros_like_weights(c)
        ones = jax.tree.map(lambda leaf: leaf + 1.0, zeros)
        updates = first_update(OptimConfig(1.0), c, ones, zeros)
        decayed = optimizer.apply_updates(ones, updates, 0.5, 0.3)
        for name, _, weight in names_and_paths(decayed):
            np.testing.assert_allclose(weight, 1.0 if name.endswith("scale") else 0.85, rtol=1e-6, err_msg=name)


def test_muons_steps_have_the_stated_spectral_norm(mesh):
    """sqrt(fan-out / fan-in), as far as five Newton-Schulz iterations go, whatever the gradient's scale."""
    params, rng = zeros_like_weights(WIDE), np.random.default_rng(0)

    def draw(p):  # far from 0, where epsilon would count
        return p + (1e-4 * rng.choice([-1, 1], p.shape) * rng.uniform(0.5, 1.5, p.shape)).astype(np.float32)

    gradients = jax.tree.map(draw, params)
    updates = first_update(OptimConfig(1.0, Optimiser.MUON, weight_decay=0.0), WIDE, params, gradients)
    for name, path, update in names_and_paths(updates):
        if name.startswith("blocks") and update.ndim == 2:
            norm = np.linalg.norm(update, ord=2) / math.sqrt(update.shape[1] / update.shape[0])
            assert 0.6 < norm < 1.3, name
        else:  # Adam's first step
            expected = mup.rate_multiplier(WIDE, path) * np.sign(gradients_at(gradients, path))
            np.testing.assert_allclose(update, expected, rtol=0.02, err_msg=name)


def gradients_at(tree, path):
    for key in path:
        tree = tree[key.key]
    return tree


def muon_run():
    """Losses of a few steps with Muon under the mesh in force, and the largest share of a momentum on one device."""
    config = make_config(**{"optim.optimiser": Optimiser.MUON, "batch_records": 8, "budget_records": 512})
    ecg, losses, p = place_pack(made_up_pool(8, 2).ecg[None]), [], program(config)
    rate, decay = np.array([0.02]), np.array([config.optim.weight_decay])
    state = train(p, p.init(np.zeros(1)), [ecg] * 12, lambda _: rate, decay, on_step=lambda f: losses.append(f.losses))
    losses = [float(loss[0]) for loss in losses]
    leaves = [leaf for path, leaf in jax.tree.leaves_with_path(state.opt_state) if "qkv" in jax.tree_util.keystr(path)]
    return losses, max(leaf.addressable_shards[0].data.size / leaf.size for leaf in leaves)


ON_FOUR = """
import json, jax
jax.config.update("jax_num_cpu_devices", 4)
from test_optimizer import muon_run
from ecg_jax.distributed.mesh import make_mesh
with jax.set_mesh(make_mesh()):
    print(json.dumps(muon_run()))
"""


@pytest.mark.long
def test_muon_trains_alike_on_one_device_and_on_four(mesh):
    command = [sys.executable, "-c", ON_FOUR]
    path = {"PYTHONPATH": os.pathsep.join(map(str, (REPOSITORY, TESTS, TESTS / "train")))}
    process = subprocess.Popen(
        command, env=os.environ | path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    try:
        one, share = muon_run()
        printed, errors = process.communicate(timeout=300)
    finally:
        process.kill()
    assert process.returncode == 0, errors[-3000:]
    four, quarter = json.loads(printed.splitlines()[-1])
    assert one[-1] < 0.9 * one[0] and share == 1.0
    np.testing.assert_allclose(four, one, rtol=1e-3)
    assert quarter == 0.25  # its state is spread over the devices
