"""The contract of every architecture: an NNX module as pure functions over a nested dict of arrays."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
from flax import nnx

Params = Any  # a nested dict of arrays


@dataclasses.dataclass(frozen=True)
class Model:
    """A model as pure functions of its parameters, of records and of what is visible of them.

    `ecg_BxSxE` are z-scored records `(B, samples, 12)`; `visible_BxTxE` says of every patch and lead whether the model
    may see it `(B, patches, 12)`: what it may not see never reaches a number it computes. A lead that a record lacks
    is nowhere visible. Letters: B batch, S samples, E leads, T patches, L tokens of a record, M width.

    - `init(key)`: the parameters, float32.
    - `apply(params, ecg, visible)`: a prediction of every sample of the eight independent leads, `(B, T, patch_samples,
      8)`, or `(B, T, patch_samples, 8, 2)` where the read-out is Gaussian (mean, log scale).
    - `tokens(params, ecg, visible)`: features per token `(B, L, M)`. `pooled(…)`: their mean over a record `(B, M)`.
    """

    init: Callable[[jax.Array], Params]
    apply: Callable[[Params, jax.Array, jax.Array], jax.Array]
    tokens: Callable[[Params, jax.Array, jax.Array], jax.Array]
    pooled: Callable[[Params, jax.Array, jax.Array], jax.Array]


def functional(build: Callable[[nnx.Rngs], nnx.Module]) -> Model:
    """Turns the builder of an NNX module with `__call__` and `tokens` into pure functions. Needs a mesh in force."""
    graphdef = nnx.graphdef(nnx.eval_shape(lambda: build(nnx.Rngs(0))))

    @jax.jit
    def init(key: jax.Array) -> Params:
        return nnx.as_pure(nnx.state(build(nnx.Rngs(key)), nnx.Param))

    def apply(params: Params, ecg_BxSxE: jax.Array, visible_BxTxE: jax.Array) -> jax.Array:
        return nnx.merge(graphdef, params)(ecg_BxSxE, visible_BxTxE)

    def tokens(params: Params, ecg_BxSxE: jax.Array, visible_BxTxE: jax.Array) -> jax.Array:
        return nnx.merge(graphdef, params).tokens(ecg_BxSxE, visible_BxTxE)

    def pooled(params: Params, ecg_BxSxE: jax.Array, visible_BxTxE: jax.Array) -> jax.Array:
        return tokens(params, ecg_BxSxE, visible_BxTxE).mean(axis=1)

    return Model(init, apply, tokens, pooled)
