"""NNX modules as pure functions: `(init, apply)` over a nested dict of arrays."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
from flax import nnx

Params = Any  # a nested dict of arrays


@dataclasses.dataclass(frozen=True)
class Model:
    """A model as pure functions.

    `init(key)` gives the parameters; `apply(params, ecg_BxSxE, hidden_BxTxU)` the reconstruction
    `(B, T, patch_samples, 8)`; `features(params, ecg, hidden)` the tokens after the last block `(B, T, width)`.
    """

    init: Callable[[jax.Array], Params]
    apply: Callable[..., jax.Array]
    features: Callable[..., jax.Array]


def functional(build: Callable[[nnx.Rngs], nnx.Module]) -> Model:
    """Turns the builder of an NNX module into pure functions. Needs a mesh in force."""
    graphdef = nnx.graphdef(nnx.eval_shape(lambda: build(nnx.Rngs(0))))

    @jax.jit
    def init(key: jax.Array) -> Params:
        return nnx.as_pure(nnx.state(build(nnx.Rngs(key)), nnx.Param))

    def apply(params: Params, *args: jax.Array) -> jax.Array:
        return nnx.merge(graphdef, params)(*args)

    def features(params: Params, *args: jax.Array) -> jax.Array:
        return nnx.merge(graphdef, params).features(*args)

    return Model(init, apply, features)
