"""Warm-up-stable-decay, and AdamW with the learning rate as an argument of every step.

The rate is no part of the optimiser state, so a trunk and all its cool-down branches share one compiled program.
Warm-up-stable-decay: Hu et al. 2024 (arXiv:2404.06395); linear cool-down to zero: Hägele et al. 2024
(arXiv:2405.18392).
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any

import jax

from ecg_jax.config import ModelConfig, OptimConfig, Optimiser
from ecg_jax.extras import needs
from ecg_jax.scaling import mup

with needs("train"):
    import optax
    import optax.contrib


def optimiser(config: OptimConfig, model: ModelConfig) -> optax.GradientTransformation:
    """A clipped step *before* the learning rate, with each weight's multiple of it from `mup`.

    AdamW (Loshchilov & Hutter 2019), or Muon (Jordan et al. 2024) for the matrices of blocks with AdamW for the rest.
    Weight decay acts on matrices only, by learning rate x weight decay per step whatever the size (see `mup`).
    """
    adam = optax.chain(
        # Adam forgets the scale of gradients but for epsilon: dividing them divides what epsilon amounts to.
        _scale_leaves(lambda path: 1 / mup.epsilon_multiplier(model, path)),
        optax.scale_by_adam(b1=0.9, b2=0.95),
        _scale_leaves(lambda path: mup.rate_multiplier(model, path)),
    )
    return optax.chain(
        optax.clip_by_global_norm(config.gradient_clip),
        adam if config.optimiser is Optimiser.ADAMW else _muon_for_blocks(adam),
    )


def _muon_for_blocks(adam: optax.GradientTransformation) -> optax.GradientTransformation:
    """Orthogonalised momentum for the matrices of blocks, scaled by sqrt(fan-out / fan-in); `adam` for the rest.

    Such steps are small: the best base rate is four to eight times AdamW's (results/lr_transfer/README.md).
    """

    def labels(params: Any) -> Any:
        def label(path: tuple[Any, ...], leaf: Any) -> str:
            return "muon" if path[0].key == "blocks" and leaf.ndim == 2 else "adam"

        return jax.tree.map_with_path(label, params)

    return optax.partition({"muon": _muon(), "adam": adam}, labels)


def _muon() -> optax.GradientTransformation:
    numbers = optax.contrib.MuonDimensionNumbers(reduction_axis=0, output_axis=1)
    every = functools.partial(jax.tree.map, lambda _: numbers)  # Optax does not take one for all
    muon = optax.contrib.scale_by_muon(beta=0.95, weight_dimension_numbers=every)

    def update(updates: Any, state: Any, params: Any = None) -> tuple[Any, Any]:
        # Newton-Schulz multiplies a matrix by its own transpose: where its weights lie is left to the compiler.
        placed = jax.tree.map(lambda leaf: jax.typeof(leaf).sharding.spec, (updates, state))
        updates, state = jax.sharding.auto_axes(muon.update, out_sharding=placed)(updates, state)
        return jax.tree.map(lambda u: u * math.sqrt(u.shape[1] / u.shape[0]), updates), state

    return optax.GradientTransformation(muon.init, update)


def apply_updates(params: Any, updates: Any, learning_rate: jax.Array, weight_decay: jax.Array) -> Any:
    """params - learning rate x (updates + weight decay x params), the decay for matrices only."""

    def applied(p: jax.Array, u: jax.Array) -> jax.Array:
        return p - learning_rate * (u + weight_decay * p if p.ndim > 1 else u)

    return jax.tree.map(applied, params, updates)


def _scale_leaves(multiplier: Callable[[tuple[Any, ...]], float]) -> optax.GradientTransformation:
    """Multiplies every update by a constant of its path."""
    return optax.stateless(lambda updates, _: jax.tree.map_with_path(lambda path, u: multiplier(path) * u, updates))
