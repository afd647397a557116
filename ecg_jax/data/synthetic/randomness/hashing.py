"""Noise from an integer hash of a counter: any sample of it alone, at a fiftieth of threefry's cost.

A record's two key words come from threefry; only the thousands of samples within it are hashed. Everything is integer
arithmetic but for one multiplication at the end, so the same words give the same bytes on every device.
"""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp

from ecg_jax.data.synthetic.constants import declare

#: Raise it with any change below, and no published run changes silently.
HASH_VERSION = 1
#: The golden ratio's fraction in 32 bits: spreads neighbouring counters (Weyl sequence).
_WEYL = 0x9E3779B9
#: Multipliers and shifts of a 32-bit bijection with little bias, found by search: C. Wellons, hash-prospector (public
#: domain), "16 21f0aaad 15 d35a2d97 15".
_MULTIPLIERS = (0x21F0AAAD, 0xD35A2D97)
_SHIFTS = (16, 15, 15)
#: Variance of the sum of four independent bytes.
_BYTE_SUM_VARIANCE = 4 * (256**2 - 1) / 12


def _mixed(x: jax.Array) -> jax.Array:
    """A bijection of uint32 in which every bit of the argument moves every bit of the result."""
    x = (x ^ (x >> _SHIFTS[0])) * jnp.uint32(_MULTIPLIERS[0])
    x = (x ^ (x >> _SHIFTS[1])) * jnp.uint32(_MULTIPLIERS[1])
    return x ^ (x >> _SHIFTS[2])


def hashed_bits(words: jax.Array, count: int, first: jax.Array | int = 0) -> jax.Array:
    """Hashes `count` counters from `first` on of each record with its two words: uint32 `(B, 2)` to `(B, count)`.

    Both words are mixed first, so that keys which differ by a bit start their counters far apart and enter the rounds
    differently.
    """
    second = _mixed(words[:, 1:] + jnp.uint32(_WEYL))
    start = _mixed(words[:, :1] ^ second)
    x = (jnp.arange(count, dtype=jnp.uint32) + jnp.uint32(first)) * jnp.uint32(_WEYL) + start
    x = (x ^ (x >> _SHIFTS[0])) * jnp.uint32(_MULTIPLIERS[0]) + second
    x = (x ^ (x >> _SHIFTS[1])) * jnp.uint32(_MULTIPLIERS[1])
    return x ^ (x >> _SHIFTS[2])


def forked(words: jax.Array, stream: int) -> jax.Array:
    """Words `(B, 2)` of another, unrelated stream of the same records; `stream` counts from 0."""
    return hashed_bits(words ^ jnp.uint32(_mixed(jnp.uint32(stream + 1))), 2)


def normals(words: jax.Array, count: int, first: jax.Array | int = 0) -> jax.Array:
    """Standard normal noise, float32 `(B, count)`, of records keyed by uint32 `words` `(B, 2)`, from counter `first`.

    The sum of a hash's four bytes, standardised: Irwin–Hall's distribution of order 4, which is normal but for its
    tails (it ends at ±3.45; excess kurtosis -0.3).
    """
    bits = hashed_bits(words, count, first)
    pairs = (bits & jnp.uint32(0x00FF00FF)) + ((bits >> 8) & jnp.uint32(0x00FF00FF))
    byte_sum = (pairs & jnp.uint32(0xFFFF)) + (pairs >> 16)
    # 2 sum - 1020 is an exact integer: the one rounding is that of the multiplication.
    centred = (byte_sum.astype(jnp.int32) * 2 - 4 * 255).astype(jnp.float32)
    return centred * jnp.float32(0.5 / math.sqrt(_BYTE_SUM_VARIANCE))


def standard_normal(words: jax.Array, channels: int, samples: int) -> jax.Array:
    """Standard normal noise of a batch of records: uint32 words `(B, 2)` to float32 `(B, samples, channels)`."""
    return normals(words, samples * channels).reshape(words.shape[0], samples, channels)


declare("hashing", vars(), "HASH_VERSION _WEYL _MULTIPLIERS _SHIFTS _BYTE_SUM_VARIANCE")
