"""A transformer over patches of ECG, bidirectional or causal.

Pre-normalised blocks without biases (Xiong et al. 2020, arXiv:2002.04745), each adding its share to the residual
stream: x + attention(norm(x)) / depth, then x + feed-forward(norm(x)) / depth (Dey et al. 2025, arXiv:2505.01618).
Letters: B batch, L tokens of a record, M width, H heads, K head size, F feed-forward width (4 M), R = B x L rows.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ecg_jax.config import Attention, ModelConfig, Position, Tokens
from ecg_jax.extras import needs
from ecg_jax.models.contract import Keys, Model, functional
from ecg_jax.models.execution import Execution, Remat
from ecg_jax.models.layers import SHARED, linear, norm
from ecg_jax.models.tokens import Embed, Head, rotate, times
from ecg_jax.scaling import mup
from ecg_jax.scaling.contract import Role

with needs("train"):
    from flax import nnx

#: A block as a function of its weights and its input.
_Run = Callable[[nnx.State[Any, Any], jax.Array], jax.Array]


def transformer(config: ModelConfig, execution: Execution) -> Model:
    """The model of `config` as pure functions. Needs a mesh in force."""
    return functional(config, lambda rngs: Transformer(config, execution, rngs=rngs))


class Transformer(nnx.Module):
    """Tokens, blocks, a last normalisation, and the read-out."""

    def __init__(self, c: ModelConfig, execution: Execution, *, rngs: Keys):
        self.config, self.execution = c, execution
        self.embed = Embed(c, rngs=rngs)
        self.blocks = nnx.List([Block(c, execution, rngs=rngs) for _ in range(c.depth)])
        self.norm = norm(c, rngs=rngs)
        self.head = Head(c, rngs=rngs)

    def __call__(self, ecg_BxSxE: jax.Array, visible_BxTxE: jax.Array) -> jax.Array:
        """The prediction of all patches, visible or not."""
        return self.head(self.tokens(ecg_BxSxE, visible_BxTxE))

    def tokens(self, ecg_BxSxE: jax.Array, visible_BxTxE: jax.Array) -> jax.Array:
        """The normalised tokens after the last block, `(B, L, M)`."""
        x_BxLxM = self.embed(ecg_BxSxE, visible_BxTxE)
        # Rows of tokens instead of records of tokens: a plain matrix product is the fastest there is.
        x_RxM = x_BxLxM.reshape(-1, self.config.width, out_sharding=SHARED)
        x_RxM = _scanned(self, x_RxM) if self.execution.scan else _unrolled(self, x_RxM)
        return self.norm(x_RxM).reshape(x_BxLxM.shape, out_sharding=SHARED)


class Block(nnx.Module):
    """Attention, then feed-forward: 12 M^2 + 2 M parameters."""

    def __init__(self, c: ModelConfig, execution: Execution, *, rngs: Keys):
        self.config, self.execution = c, execution
        self.attention_norm = norm(c, rngs=rngs)
        self.qkv = linear(c, Role.HIDDEN, c.width, 3 * c.width, rngs=rngs)
        self.mix = linear(c, Role.BRANCH_END, c.width, c.width, rngs=rngs)
        self.feed_norm = norm(c, rngs=rngs)
        self.up = linear(c, Role.HIDDEN, c.width, 4 * c.width, rngs=rngs)
        self.down = linear(c, Role.BRANCH_END, 4 * c.width, c.width, rngs=rngs)

    def __call__(self, x_RxM: jax.Array) -> jax.Array:
        """One block."""
        share = mup.residual_multiplier(self.config)
        x_RxM = x_RxM + share * self.attention(self.attention_norm(x_RxM))
        h_RxF = jax.nn.gelu(self.up(self.feed_norm(x_RxM), out_sharding=SHARED))
        return x_RxM + share * self.down(h_RxF, out_sharding=SHARED)

    def attention(self, x_RxM: jax.Array) -> jax.Array:
        """Softmax attention over the tokens of a record."""
        c = self.config
        shape = (-1, c.tokens_per_record, 3, c.heads, c.head_size)
        qkv = self.qkv(x_RxM, out_sharding=SHARED).reshape(shape, out_sharding=SHARED)
        q_BxLxHxK, k_BxLxHxK, v_BxLxHxK = qkv[:, :, 0], qkv[:, :, 1], qkv[:, :, 2]
        if c.position is Position.ROTARY:
            q_BxLxHxK, k_BxLxHxK = rotate(q_BxLxHxK, times(c)), rotate(k_BxLxHxK, times(c))
        mixed_BxLxHxK = _attend(c, self.execution, q_BxLxHxK, k_BxLxHxK, v_BxLxHxK)
        return self.mix(mixed_BxLxHxK.reshape(x_RxM.shape, out_sharding=SHARED), out_sharding=SHARED)


def _attend(
    c: ModelConfig, execution: Execution, q_BxLxHxK: jax.Array, k_BxLxHxK: jax.Array, v_BxLxHxK: jax.Array
) -> jax.Array:
    """softmax(q k' x scale) v per head, `(B, L, H, K)`; softmax in float32."""
    scale, seen_LxL = mup.attention_scale(c), None
    if c.attention is Attention.CAUSAL:  # leads of one time see each other
        seen_LxL = np.less_equal.outer(times(c), times(c)).T
    if not execution.fused_attention:
        return _softmax_attention(q_BxLxHxK, k_BxLxHxK, v_BxLxHxK, seen_LxL, scale)

    def local(q: jax.Array, k: jax.Array, v: jax.Array) -> jax.Array:
        causal = c.attention is Attention.CAUSAL and c.tokens is Tokens.TIME
        seen = None if causal or seen_LxL is None else jnp.asarray(seen_LxL[None, None])
        return jax.nn.dot_product_attention(q, k, v, mask=seen, scale=scale, is_causal=causal, implementation="cudnn")

    # cuDNN's kernel loses its sharding outside a manual region.
    return jax.shard_map(local, in_specs=(SHARED,) * 3, out_specs=SHARED)(q_BxLxHxK, k_BxLxHxK, v_BxLxHxK)


def _softmax_attention(
    q_BxLxHxK: jax.Array, k_BxLxHxK: jax.Array, v_BxLxHxK: jax.Array, seen_LxL: np.ndarray | None, scale: float
) -> jax.Array:
    # Heads before tokens, so that every product of one head and record is of contiguous matrices: up to twice as fast
    # on a CPU as `jax.nn.dot_product_attention`.
    q_BxHxLxK, k_BxHxLxK, v_BxHxLxK = (jnp.swapaxes(x, 1, 2) for x in (scale * q_BxLxHxK, k_BxLxHxK, v_BxLxHxK))
    logits_BxHxLxL = jnp.matmul(q_BxHxLxK, jnp.swapaxes(k_BxHxLxK, 2, 3), preferred_element_type=jnp.float32)
    if seen_LxL is not None:
        logits_BxHxLxL = jnp.where(seen_LxL, logits_BxHxLxL, -jnp.inf)
    weights_BxHxLxL = jax.nn.softmax(logits_BxHxLxL).astype(v_BxHxLxK.dtype)
    return jnp.swapaxes(weights_BxHxLxL @ v_BxHxLxK, 1, 2)


def _unrolled(model: Transformer, x_RxM: jax.Array) -> jax.Array:
    for block in model.blocks:
        graph, params = nnx.split(block)
        x_RxM = _kept(model.execution.remat, functools.partial(_block, graph))(params, x_RxM)
    return x_RxM


def _scanned(model: Transformer, x_RxM: jax.Array) -> jax.Array:
    """The blocks as one loop. Weights are stacked here, so that checkpoints know nothing of it."""
    graphs, params = zip(*(nnx.split(block) for block in model.blocks))
    stacked = jax.tree.map(lambda *leaves: jnp.stack(leaves), *params)
    run = _kept(model.execution.remat, functools.partial(_block, graphs[0]))
    return jax.lax.scan(lambda x, p: (run(p, x), None), x_RxM, stacked)[0]


def _block(graph: nnx.GraphDef[Block], params: nnx.State[Any, Any], x_RxM: jax.Array) -> jax.Array:
    return nnx.merge(graph, params)(x_RxM)


def _kept(remat: Remat, run: _Run) -> _Run:
    """`run`, with what its backward pass keeps."""
    match remat:
        case Remat.NOTHING:
            return run
        case Remat.ALL_BUT_PRODUCTS:
            return jax.checkpoint(run, policy=jax.checkpoint_policies.dots_with_no_batch_dims_saveable)
        case Remat.BLOCKS:
            return jax.checkpoint(run)
