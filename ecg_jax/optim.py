"""Warm-up-stable-decay, and AdamW with the learning rate as an argument of every step.

The rate is no part of the optimiser state, so a trunk and all its cool-down branches share one compiled program.
Warm-up-stable-decay: Hu et al. 2024 (arXiv:2404.06395); linear cool-down to zero: Hägele et al. 2024
(arXiv:2405.18392).
"""

from __future__ import annotations

from typing import Any

import jax
import optax

from ecg_jax.config import OptimConfig, RunConfig


def trunk_rate(config: RunConfig, step: int) -> float:
    """The learning rate of the trunk at `step`: a linear rise over the warm-up, then constant."""
    return config.optim.learning_rate * min(1.0, (step + 1) / max(1, config.warmup_steps))


def branch_rate(config: RunConfig, step: int) -> float:
    """The learning rate at `step` of a run, linear to zero from its branch point to the end of its budget."""
    remaining = (config.budget_steps - step) / (config.budget_steps - config.branch_step + 1)
    return trunk_rate(config, step) * min(1.0, remaining)


def optimiser(config: OptimConfig) -> optax.GradientTransformation:
    """Clipped AdamW (Loshchilov & Hutter 2019) *before* the learning rate; decay acts on matrices only."""
    return optax.chain(
        optax.clip_by_global_norm(config.gradient_clip),
        optax.scale_by_adam(b1=0.9, b2=0.95),
        optax.add_decayed_weights(config.weight_decay, mask=_is_matrix),
    )


def apply_updates(params: Any, updates: Any, learning_rate: jax.Array) -> Any:
    """params - learning_rate x updates."""
    return jax.tree.map(lambda p, u: p - learning_rate * u, params, updates)


def _is_matrix(params: Any) -> Any:
    return jax.tree.map(lambda p: p.ndim > 1, params)
