"""Transfer across sizes: how initial weights, multipliers and rates depend on width and depth.

One base learning rate, tuned at a small size, serves all sizes. With m = width / 48 and L = depth, relative to the
30k rung (width 48, depth 1), COMPLETE_P is the maximal-update parametrisation in width (Yang et al. 2022,
arXiv:2203.03466, table 8) with the depth rule of Dey et al. (2025, arXiv:2505.01618, table 1, alpha = 1):

    weight       initial variance   multiplier of its output   rate (Adam)   epsilon (Adam)   rate (Muon)
    input        1 / fan-in         1                          1             1 / m            as Adam
    hidden       1 / fan-in         1 / L where a branch ends  1 / m         1 / (m L)        1
    read-out     0                  1 / m                      1             1 / m            as Adam
    gain         -                  -                          1             as its place's   as Adam

Positions and leads count as input, and so does the stem, but its epsilon is 1: neither of its sides grows. Epsilons
follow the gradients: 1 / m times smaller at the read-out, its input and all below, and 1 / L within a block. Attention
logits are q k' x 4 / K for head size K: 1 / sqrt(K) at K = 16, the base's, and falling as 1 / K beyond. The read-out
begins at 0, as Yang et al. (appendix D.2) advise. Muon's update has spectral norm about sqrt(fan-out / fan-in) whatever
the size, so its rate needs no rule (Yang et al. 2023, arXiv:2310.17813). Weight decay does not see these multipliers:
every matrix shrinks by rate x decay per step, which is CompleteP's rule for AdamW, decay x m beside a rate / m.

STANDARD is what most code does: variance 1 / fan-in, branch ends scaled by 1 / sqrt(2 L) at the start (Radford et al.
2019, section 2.3), logits q k' / sqrt(K), and one rate and epsilon for all weights. Depth 1 as the base is a choice: at
width 64 and depth 4, multipliers twice and four times as large end within the noise (results/lr_transfer/README.md).
"""

from __future__ import annotations

import math
from typing import Any

from ecg_jax.config import ModelConfig, Parametrisation
from ecg_jax.scaling.contract import Place, Role
from ecg_jax.scaling.flops import arithmetic

BASE_WIDTH, BASE_HEAD_SIZE = 48, 16


def initial_deviation(c: ModelConfig, role: Role, fan_in: int) -> float:
    """Standard deviation of the initial weights of a matrix."""
    if c.parametrisation is Parametrisation.COMPLETE_P:
        return 0.0 if role is Role.OUTPUT else 1 / math.sqrt(fan_in)
    return 1 / math.sqrt(fan_in * (2 * c.depth if role is Role.BRANCH_END else 1))


def residual_multiplier(c: ModelConfig) -> float:
    """What a block's branches are multiplied by before they are added."""
    return 1 / c.depth if c.parametrisation is Parametrisation.COMPLETE_P else 1.0


def attention_scale(c: ModelConfig) -> float:
    """What q k' is multiplied by."""
    if c.parametrisation is Parametrisation.COMPLETE_P:
        return math.sqrt(BASE_HEAD_SIZE) / c.head_size
    return 1 / math.sqrt(c.head_size)


def readout_multiplier(c: ModelConfig) -> float:
    """What the read-out's output is multiplied by."""
    return BASE_WIDTH / c.width if c.parametrisation is Parametrisation.COMPLETE_P else 1.0


def rate_multiplier(c: ModelConfig, path: tuple[Any, ...]) -> float:
    """What Adam's rate is multiplied by for the parameter at `path`."""
    hidden = place_of(c, path).role in (Role.HIDDEN, Role.BRANCH_END)
    return BASE_WIDTH / c.width if hidden and c.parametrisation is Parametrisation.COMPLETE_P else 1.0


def epsilon_multiplier(c: ModelConfig, path: tuple[Any, ...]) -> float:
    """What Adam's epsilon is multiplied by for the parameter at `path`: as its gradients grow with width and depth."""
    place = place_of(c, path)
    if c.parametrisation is Parametrisation.STANDARD or place.fixed:
        return 1.0
    return BASE_WIDTH / c.width / (c.depth if place.in_block else 1)


def place_of(c: ModelConfig, path: tuple[Any, ...]) -> Place:
    """What the parameter at a path of the model's tree does."""
    return arithmetic(c.architecture).place(path)
