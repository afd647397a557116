"""A bidirectional transformer over time patches of all leads.

One token is one patch of all twelve leads, its hidden units zeroed, with the seven mask bits beside the samples.
Pre-normalised blocks without biases (Xiong et al. 2020, arXiv:2002.04745); the read-out predicts the patch's eight
independent leads. Letters: B batch, S samples, E leads (12), T tokens, U mask units (7), M width, H heads, K head
size, F feed-forward width (4 M), R read-out (patch samples x 8).
"""

from __future__ import annotations

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax.sharding import PartitionSpec as P

from ecg_jax.config import ModelConfig, Position
from ecg_jax.data.ecg import INDEPENDENT_LEADS, LEADS
from ecg_jax.mesh import shardable
from ecg_jax.models.functional import Model, functional
from ecg_jax.objectives.masked import UNITS

_SHARED = P("data")  # activations: the batch is spread over `data`, all else is whole


def transformer(config: ModelConfig) -> Model:
    """The model of `config` as pure functions. Needs a mesh in force."""
    return functional(lambda rngs: Transformer(config, rngs=rngs))


class Transformer(nnx.Module):
    """Patches and mask bits -> tokens -> blocks -> reconstruction of the eight independent leads."""

    def __init__(self, c: ModelConfig, *, rngs: nnx.Rngs):
        self.config = c
        self.embed = _linear(c.patch_samples * len(LEADS) + len(UNITS), c.width, rngs=rngs)
        if c.position is Position.LEARNED:
            self.position = nnx.Param(0.02 * jax.random.normal(rngs.params(), (c.patches, c.width)))
        self.blocks = nnx.List([Block(c, rngs=rngs) for _ in range(c.depth)])
        self.norm = nnx.LayerNorm(c.width, use_bias=False, rngs=rngs)
        self.readout = _linear(c.width, c.patch_samples * len(INDEPENDENT_LEADS), rngs=rngs)

    def features(self, ecg_BxSxE: jax.Array, hidden_BxTxU: jax.Array) -> jax.Array:
        """The normalised tokens after the last block, `(B, T, M)`. Hidden samples must already be zero."""
        c = self.config
        batch = ecg_BxSxE.shape[0]
        patches = ecg_BxSxE.reshape(batch, c.patches, c.patch_samples * len(LEADS), out_sharding=_SHARED)
        tokens = jnp.concatenate([patches, hidden_BxTxU.astype(patches.dtype)], axis=-1)
        x_BxTxM = self.embed(tokens, out_sharding=_SHARED)
        if c.position is Position.LEARNED:
            x_BxTxM = x_BxTxM + self.position[...]
        elif c.position is Position.SINUSOIDAL:
            x_BxTxM = x_BxTxM + _sinusoids(c.patches, c.width)
        for block in self.blocks:
            x_BxTxM = block(x_BxTxM)
        return self.norm(x_BxTxM)

    def __call__(self, ecg_BxSxE: jax.Array, hidden_BxTxU: jax.Array) -> jax.Array:
        """The reconstruction `(B, T, patch_samples, 8)` of all patches, hidden or not."""
        c = self.config
        out_BxTxR = self.readout(self.features(ecg_BxSxE, hidden_BxTxU), out_sharding=_SHARED)
        shape = (out_BxTxR.shape[0], c.patches, c.patch_samples, len(INDEPENDENT_LEADS))
        return out_BxTxR.reshape(shape, out_sharding=_SHARED)


class Block(nnx.Module):
    """x + attention(norm(x)), then x + feed-forward(norm(x)): 12 M^2 + 2 M parameters."""

    def __init__(self, c: ModelConfig, *, rngs: nnx.Rngs):
        residual = 1 / math.sqrt(2 * c.depth)  # keeps the residual stream's variance independent of depth
        self.heads = c.heads
        self.rotary = c.position is Position.ROTARY
        self.attention_norm = nnx.LayerNorm(c.width, use_bias=False, rngs=rngs)
        self.qkv = _linear(c.width, 3 * c.width, rngs=rngs)
        self.mix = _linear(c.width, c.width, scale=residual, rngs=rngs)
        self.feed_norm = nnx.LayerNorm(c.width, use_bias=False, rngs=rngs)
        self.up = _linear(c.width, 4 * c.width, rngs=rngs)
        self.down = _linear(4 * c.width, c.width, scale=residual, rngs=rngs)

    def __call__(self, x_BxTxM: jax.Array) -> jax.Array:
        """One block."""
        x_BxTxM = x_BxTxM + self.attention(self.attention_norm(x_BxTxM))
        h_BxTxF = jax.nn.gelu(self.up(self.feed_norm(x_BxTxM), out_sharding=_SHARED))
        return x_BxTxM + self.down(h_BxTxF, out_sharding=_SHARED)

    def attention(self, x_BxTxM: jax.Array) -> jax.Array:
        """Softmax attention over all tokens of a record."""
        batch, tokens, width = x_BxTxM.shape
        shape = (batch, tokens, 3, self.heads, width // self.heads)
        qkv = self.qkv(x_BxTxM, out_sharding=_SHARED).reshape(shape, out_sharding=_SHARED)
        q_BxTxHxK, k_BxTxHxK, v_BxTxHxK = qkv[:, :, 0], qkv[:, :, 1], qkv[:, :, 2]
        if self.rotary:
            q_BxTxHxK, k_BxTxHxK = _rotate(q_BxTxHxK), _rotate(k_BxTxHxK)
        logits = jnp.einsum("bqhk,bthk->bhqt", q_BxTxHxK, k_BxTxHxK) / math.sqrt(width // self.heads)
        mixed = jnp.einsum("bhqt,bthk->bqhk", jax.nn.softmax(logits), v_BxTxHxK)
        return self.mix(mixed.reshape(batch, tokens, width, out_sharding=_SHARED), out_sharding=_SHARED)


def _linear(size_in: int, size_out: int, *, scale: float = 1.0, rngs: nnx.Rngs) -> nnx.Linear:
    """Weights of variance scale^2 / size_in, spread over `data` along whichever dimension divides."""
    across = shardable(size_out)
    spec = (None, across) if across else (shardable(size_in), None)
    init = jax.nn.initializers.variance_scaling(scale**2, "fan_in", "normal")
    kernel_init = functools.partial(init, out_sharding=P(*spec))
    return nnx.Linear(size_in, size_out, use_bias=False, kernel_init=kernel_init, rngs=rngs)


@functools.cache
def _angles(positions: int, pairs: int) -> np.ndarray:
    """Angles `(positions, pairs)` with periods from 2 pi to 2 pi x 1000 tokens (Vaswani et al. 2017, section 3.5)."""
    return np.arange(positions)[:, None] * 1000.0 ** (-np.arange(pairs) / pairs)


def _sinusoids(positions: int, width: int) -> jax.Array:
    angles = _angles(positions, width // 2)
    return jnp.asarray(np.concatenate([np.sin(angles), np.cos(angles)], axis=-1), jnp.float32)


def _rotate(x_BxTxHxK: jax.Array) -> jax.Array:
    """Rotary positions (Su et al. 2021, arXiv:2104.09864): each pair of channels turned by its token's angle."""
    angles = _angles(x_BxTxHxK.shape[1], x_BxTxHxK.shape[3] // 2)[:, None, :]
    cos, sin = jnp.asarray(np.cos(angles), jnp.float32), jnp.asarray(np.sin(angles), jnp.float32)
    a, b = jnp.split(x_BxTxHxK, 2, axis=-1)
    return jnp.concatenate([a * cos - b * sin, a * sin + b * cos], axis=-1)
