"""From records to tokens and back: patches, the stem, positions, read-out.

Letters: B batch, S samples, E leads (12), I independent leads (8), T patches, P samples of a patch, Q its features
behind the stem (P without one), L tokens of a record (T, or T x 8), M width, K head size.
"""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
import numpy as np

from ecg_jax.config import ModelConfig, Position, Readout, Tokens
from ecg_jax.data.ecg import INDEPENDENT_LEAD_INDICES, INDEPENDENT_LEADS, LEADS
from ecg_jax.extras import needs
from ecg_jax.models.contract import Keys
from ecg_jax.models.layers import SHARED, linear
from ecg_jax.scaling import mup
from ecg_jax.scaling.contract import Role

with needs("train"):
    from flax import nnx

_INDEPENDENT = np.array(INDEPENDENT_LEAD_INDICES)


class Embed(nnx.Module):
    """Samples that may be seen, and the bits that say which, to tokens `(B, L, M)` that know their place."""

    def __init__(self, c: ModelConfig, *, rngs: Keys):
        self.config = c
        if c.stem_samples is not None:
            self.stem = linear(c, Role.INPUT, c.patch_samples, c.stem_samples, rngs=rngs)
        leads = len(LEADS) if c.tokens is Tokens.TIME else 1
        self.project = linear(c, Role.INPUT, leads * (c.patch_features + 1), c.width, rngs=rngs)
        if c.tokens is Tokens.LEAD_TIME:
            self.lead = nnx.Param(0.02 * jax.random.normal(rngs.params(), (len(INDEPENDENT_LEADS), c.width)))
        if c.position is Position.LEARNED:
            self.position = nnx.Param(0.02 * jax.random.normal(rngs.params(), (c.patches, c.width)))

    def __call__(self, ecg_BxSxE: jax.Array, visible_BxTxE: jax.Array) -> jax.Array:
        """The tokens, in the model's precision."""
        c, batch = self.config, ecg_BxSxE.shape[0]
        if c.tokens is Tokens.LEAD_TIME:
            ecg_BxSxE, visible_BxTxE = ecg_BxSxE[:, :, _INDEPENDENT], visible_BxTxE[:, :, _INDEPENDENT]
        shape = (batch, c.patches, c.patch_samples, ecg_BxSxE.shape[2])
        x_BxTxPxE = ecg_BxSxE.reshape(shape, out_sharding=SHARED)
        x_BxTxPxE = jnp.where(visible_BxTxE[:, :, None], x_BxTxPxE, 0.0)
        x_BxTxExP = jnp.swapaxes(x_BxTxPxE, 2, 3)
        x_BxTxExQ = x_BxTxExP if c.stem_samples is None else self.stem(x_BxTxExP, out_sharding=SHARED)
        bits_BxTxEx1 = visible_BxTxE[..., None].astype(x_BxTxExQ.dtype)
        cells = jnp.concatenate([x_BxTxExQ, bits_BxTxEx1], axis=-1)
        if c.tokens is Tokens.TIME:
            cells = cells.reshape(batch, c.patches, -1, out_sharding=SHARED)
        x = self.project(cells, out_sharding=SHARED)
        if c.tokens is Tokens.LEAD_TIME:
            x = x + self.lead[...].astype(x.dtype)
        places_TxM = self._places()
        if places_TxM is not None:
            places = places_TxM if c.tokens is Tokens.TIME else places_TxM[:, None]
            x = x + places.astype(x.dtype)
        return x.reshape(batch, c.tokens_per_record, c.width, out_sharding=SHARED)

    def _places(self) -> jax.Array | None:
        match self.config.position:
            case Position.LEARNED:
                return self.position[...]
            case Position.SINUSOIDAL:
                return _sinusoids(self.config.patches, self.config.width)
            case Position.ROTARY:
                return None  # attention turns queries and keys instead


class Head(nnx.Module):
    """Tokens to a prediction of every sample of the independent leads, `(B, T, P, I)` or `(B, T, P, I, 2)`, float32."""

    def __init__(self, c: ModelConfig, *, rngs: Keys):
        self.config = c
        self.numbers = 1 if c.readout is Readout.VALUE else 2
        leads = len(INDEPENDENT_LEADS) if c.tokens is Tokens.TIME else 1
        self.project = linear(c, Role.OUTPUT, c.width, leads * self.numbers * c.patch_features, rngs=rngs)
        if c.stem_samples is not None:
            self.unstem = linear(c, Role.INPUT, c.stem_samples, c.patch_samples, rngs=rngs)

    def __call__(self, x_BxLxM: jax.Array) -> jax.Array:
        """The prediction."""
        c, batch = self.config, x_BxLxM.shape[0]
        out = self.project(x_BxLxM, out_sharding=SHARED) * mup.readout_multiplier(c)
        shape = (batch, c.patches, len(INDEPENDENT_LEADS), self.numbers, c.patch_features)
        out_BxTxIxNxQ = out.reshape(shape, out_sharding=SHARED)
        out_BxTxIxNxP = out_BxTxIxNxQ if c.stem_samples is None else self.unstem(out_BxTxIxNxQ, out_sharding=SHARED)
        out_BxTxPxIxN = jnp.moveaxis(out_BxTxIxNxP, -1, 2).astype(jnp.float32)
        return out_BxTxPxIxN[..., 0] if c.readout is Readout.VALUE else out_BxTxPxIxN


def times(c: ModelConfig) -> np.ndarray:
    """The patch that each token of a record belongs to, `(L,)`."""
    return np.arange(c.tokens_per_record) // (c.tokens_per_record // c.patches)


def rotate(x_BxLxHxK: jax.Array, times_L: np.ndarray) -> jax.Array:
    """Rotary positions (Su et al. 2021, arXiv:2104.09864): each pair of channels turned by its token's angle."""
    angles = _angles(int(times_L[-1]) + 1, x_BxLxHxK.shape[3] // 2)[times_L][:, None, :]
    cos, sin = jnp.asarray(np.cos(angles), x_BxLxHxK.dtype), jnp.asarray(np.sin(angles), x_BxLxHxK.dtype)
    a, b = jnp.split(x_BxLxHxK, 2, axis=-1)
    return jnp.concatenate([a * cos - b * sin, a * sin + b * cos], axis=-1)


@functools.cache
def _angles(positions: int, pairs: int) -> np.ndarray:
    """Angles `(positions, pairs)` with periods from 2 pi to 2 pi x 1000 tokens (Vaswani et al. 2017, section 3.5)."""
    return np.arange(positions)[:, None] * 1000.0 ** (-np.arange(pairs) / pairs)


def _sinusoids(positions: int, width: int) -> jax.Array:
    angles = _angles(positions, width // 2)
    return jnp.asarray(np.concatenate([np.sin(angles), np.cos(angles)], axis=-1), jnp.float32)
