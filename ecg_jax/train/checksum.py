"""A digest of every leaf of a tree, computed where the leaf lies: the same on any number of devices.

Orbax notices a file cut short, not a flipped bit. Two words per leaf are sums, modulo 2^32, of its 32-bit words, each
scrambled with its place. Every scramble is a bijection of the word, so a change of a single word always shows.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import PartitionSpec as P


def digests(tree: Any) -> dict[str, str]:
    """Sixteen hex digits for every array of `tree`, by its path. Needs a mesh in force."""
    leaves, _ = jax.tree.flatten_with_path(tree)
    words = jax.device_get(_words([leaf for _, leaf in leaves]))
    return {jax.tree_util.keystr(path): f"{a:08x}{b:08x}" for (path, _), (a, b) in zip(leaves, words, strict=True)}


@jax.jit
def _words(leaves: list[jax.Array]) -> list[jax.Array]:
    # Where parts of a sum are taken is left to the compiler: whole-number sums do not depend on it.
    return [jax.sharding.auto_axes(_leaf_words, out_sharding=P())(leaf) for leaf in leaves]


def _leaf_words(leaf: jax.Array) -> jax.Array:
    kinds = {1: jnp.uint8, 2: jnp.uint16, 4: jnp.uint32}
    as_bytes = leaf.astype(jnp.uint8) if leaf.dtype == bool else leaf
    words = jax.lax.bitcast_convert_type(as_bytes, kinds[as_bytes.dtype.itemsize]).astype(jnp.uint32)
    place = jnp.zeros(words.shape, jnp.uint32)
    for axis, size in enumerate(words.shape):
        place = place * jnp.uint32(size) + jax.lax.broadcasted_iota(jnp.uint32, words.shape, axis)
    return jnp.stack([_scramble(words ^ _scramble(place + jnp.uint32(salt))).sum() for salt in (1, 0x9E3779B9)])


def _scramble(x: jax.Array) -> jax.Array:
    """The finaliser of MurmurHash3 (Appleby 2011), a bijection of 32-bit words."""
    x = (x ^ (x >> 16)) * jnp.uint32(0x85EBCA6B)
    x = (x ^ (x >> 13)) * jnp.uint32(0xC2B2AE35)
    return x ^ (x >> 16)
