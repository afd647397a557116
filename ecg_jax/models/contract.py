"""The contract of every architecture: an NNX module as pure functions over a nested dict of arrays."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any, Protocol

import jax
import jax.numpy as jnp
import numpy as np

from ecg_jax.config import ModelConfig
from ecg_jax.data.ecg import LEADS
from ecg_jax.extras import needs

with needs("train"):
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

    All but `init` raise ValueError where parameters, records or bits do not fit the model, naming both sides.
    """

    init: Callable[[jax.Array], Params]
    apply: Callable[[Params, jax.Array, jax.Array], jax.Array]
    tokens: Callable[[Params, jax.Array, jax.Array], jax.Array]
    pooled: Callable[[Params, jax.Array, jax.Array], jax.Array]


class Keys:
    """The keys of a model's weights in the order in which they are asked for: those of `nnx.Rngs(key)`.

    `nnx.Rngs` counts with an array, and under a trace every count writes the whole trace so far into the message of an
    error that nobody sees: the time to build a model grew with the square of its depth.
    """

    def __init__(self, key: jax.Array):
        self._key, self._count = key, 0

    def params(self) -> jax.Array:
        """The next key."""
        self._count += 1
        return jax.random.fold_in(self._key, np.uint32(self._count - 1))


class Network(Protocol):
    """What an architecture's NNX module does: see `Model.apply` and `Model.tokens`."""

    def __call__(self, ecg_BxSxE: jax.Array, visible_BxTxE: jax.Array) -> jax.Array:
        """The prediction."""
        ...

    def tokens(self, ecg_BxSxE: jax.Array, visible_BxTxE: jax.Array) -> jax.Array:
        """Features per token."""
        ...


def functional(config: ModelConfig, build: Callable[[Keys], Network]) -> Model:
    """Turns the builder of an NNX module into pure functions. Needs a mesh in force."""
    graphdef, state = nnx.split(nnx.eval_shape(lambda: build(Keys(jax.random.key(0)))), nnx.Param, ...)[:2]
    expected = _shapes(nnx.as_pure(state))

    @jax.jit
    def init(key: jax.Array) -> Params:
        return nnx.as_pure(nnx.state(build(Keys(key)), nnx.Param))

    def apply(params: Params, ecg_BxSxE: jax.Array, visible_BxTxE: jax.Array) -> jax.Array:
        _check(config, expected, params, ecg_BxSxE, visible_BxTxE)
        return nnx.merge(graphdef, params)(ecg_BxSxE, visible_BxTxE)

    def tokens(params: Params, ecg_BxSxE: jax.Array, visible_BxTxE: jax.Array) -> jax.Array:
        _check(config, expected, params, ecg_BxSxE, visible_BxTxE)
        return nnx.merge(graphdef, params).tokens(ecg_BxSxE, visible_BxTxE)

    def pooled(params: Params, ecg_BxSxE: jax.Array, visible_BxTxE: jax.Array) -> jax.Array:
        return tokens(params, ecg_BxSxE, visible_BxTxE).mean(axis=1)

    return Model(init, apply, tokens, pooled)


def _check(
    c: ModelConfig, expected: dict[str, tuple[int, ...]], params: Params, ecg: jax.Array, visible: jax.Array
) -> None:
    """Raises ValueError where an input does not fit the model. Sees shapes and types alone: free once traced."""
    reads = f"the model reads {c.patches} patches of {c.patch_samples} samples from {len(LEADS)} leads"
    if ecg.ndim != 3 or ecg.shape[1:] != (c.samples, len(LEADS)):
        raise ValueError(f"{reads}, (batch, {c.samples}, {len(LEADS)}); the records are {ecg.shape}: another rate?")
    if not jnp.issubdtype(ecg.dtype, jnp.floating):
        raise ValueError(f"{reads}, z-scored, as float32; the records are {ecg.dtype}: use data.ecg.normalise")
    if visible.shape != (ecg.shape[0], c.patches, len(LEADS)) or visible.dtype != bool:
        raise ValueError(
            f"{reads}: what is visible of {ecg.shape[0]} records must be bool {(ecg.shape[0], c.patches, len(LEADS))}, "
            f"not {visible.dtype} {visible.shape}"
        )
    given = _shapes(params)
    if given != expected:
        name = min(name for name in given.keys() | expected.keys() if given.get(name) != expected.get(name))
        raise ValueError(
            f"the parameters are another model's: {name} is {given.get(name, 'absent')} there and "
            f"{expected.get(name, 'absent')} in this model (width {c.width}, depth {c.depth})"
        )


def _shapes(params: Params) -> dict[str, tuple[int, ...]]:
    return {jax.tree_util.keystr(path): leaf.shape for path, leaf in jax.tree.leaves_with_path(params)}
