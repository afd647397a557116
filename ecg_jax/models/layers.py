"""Dense and normalising layers: precision, initial scale and sharding, stated once."""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
from jax.sharding import PartitionSpec as P

from ecg_jax.config import ModelConfig, Precision
from ecg_jax.distributed.mesh import shardable
from ecg_jax.extras import needs
from ecg_jax.models.contract import Keys
from ecg_jax.scaling import mup
from ecg_jax.scaling.contract import Role

with needs("train"):
    from flax import nnx

#: Activations: the batch is spread over `data`, all else is whole.
SHARED = P("data")


def compute_dtype(c: ModelConfig) -> jnp.dtype:
    """The type of activations and matrix products."""
    return jnp.dtype(jnp.bfloat16 if c.precision is Precision.BFLOAT16 else jnp.float32)


def linear(c: ModelConfig, role: Role, size_in: int, size_out: int, *, rngs: Keys) -> nnx.Linear:
    """A dense layer without bias, its weights spread over `data` along whichever dimension divides."""
    across = shardable(size_out)
    spec = (None, across) if across else (shardable(size_in), None)
    deviation = mup.initial_deviation(c, role, size_in)
    init = functools.partial(jax.nn.initializers.normal(deviation), out_sharding=P(*spec))
    return nnx.Linear(
        size_in,
        size_out,
        use_bias=False,
        kernel_init=init,
        dtype=compute_dtype(c),
        rngs=rngs,  # type: ignore[arg-type]  # NNX asks of its `Rngs` no more than `Keys` has
    )


def norm(c: ModelConfig, *, rngs: Keys) -> nnx.LayerNorm:
    """Layer normalisation with a gain; statistics in float32."""
    return nnx.LayerNorm(
        c.width,
        use_bias=False,
        dtype=compute_dtype(c),
        rngs=rngs,  # type: ignore[arg-type]  # as above
    )
