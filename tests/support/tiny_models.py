"""Small models whose every output counts: at the start the read-out is zero, and would hide any leak."""

import functools

import jax
import jax.numpy as jnp
import numpy as np

from ecg_jax import models
from ecg_jax.config import Objective
from ecg_jax.distributed.mesh import place_batch
from ecg_jax.scaling import ladder

PATCHES = 5

#: `jax.jit` for programs that run a few times: what is tested holds for any code, and this code compiles in half the
#: time.
jit = functools.partial(jax.jit, compiler_options={"xla_backend_optimization_level": 0})


def small_model(*, sample_rate_hz=100, objective=Objective.MASKED, **changes):
    """A model of one narrow block over records of one second, its config, and weights that are nowhere zero."""
    changes = {"width": 16, "depth": 1, "heads": 2} | changes
    config = ladder.model_config(
        10_000, record_s=0.2 * PATCHES, sample_rate_hz=sample_rate_hz, objective=objective, **changes
    )
    model = models.build(config)
    shapes, rng = jax.eval_shape(model.init, jax.random.key(0)), np.random.default_rng(0)
    return config, model, jax.tree.map(lambda leaf: jnp.asarray(rng.normal(0, 0.3, leaf.shape), leaf.dtype), shapes)


def noise_batch(config, records=2, seed=0):
    """Records of white noise, every sample of which is news."""
    shape = (records, config.samples, 12)
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def placed(*arrays):
    """The arrays as batches of the mesh in force."""
    return tuple(place_batch(array) for array in arrays)
