"""Exact parameter counts and training FLOPs, from a `ModelConfig` alone.

FLOPs are those of matrix products, a multiply-add counted as two, and three times the forward pass for training
(forward, gradient by activations, gradient by weights), as in Kaplan et al. (2020, arXiv:2001.08361, table 1).
Softmax, norms and other element-wise work are left out.
"""

from __future__ import annotations

import dataclasses

from ecg_jax.config import ModelConfig, Position
from ecg_jax.data.ecg import INDEPENDENT_LEADS, LEADS
from ecg_jax.objectives.masked import UNITS


@dataclasses.dataclass(frozen=True)
class Parameters:
    """Parameter counts. `blocks` is the N of a scaling law; the rest depends on the input and output format."""

    blocks: int
    embedding: int
    position: int
    readout: int

    @property
    def total(self) -> int:
        """All parameters."""
        return self.blocks + self.embedding + self.position + self.readout


def parameters(c: ModelConfig) -> Parameters:
    """Counts the parameters of `models.transformer`, exactly."""
    return Parameters(
        blocks=c.depth * (12 * c.width**2 + 2 * c.width),
        embedding=_token_inputs(c) * c.width,
        position=c.patches * c.width if c.position is Position.LEARNED else 0,
        readout=c.width + c.width * _token_outputs(c),
    )


def forward_flops_per_record(c: ModelConfig) -> int:
    """FLOPs of one forward pass over one record: weights 2 x 12 d w^2 per token, attention 4 d w per token pair."""
    weights = c.depth * 12 * c.width**2 + (_token_inputs(c) + _token_outputs(c)) * c.width
    attention = c.depth * 2 * c.width * c.patches
    return 2 * c.patches * (weights + attention)


def train_flops_per_record(c: ModelConfig) -> int:
    """FLOPs of one training step, per record."""
    return 3 * forward_flops_per_record(c)


def _token_inputs(c: ModelConfig) -> int:
    return c.patch_samples * len(LEADS) + len(UNITS)


def _token_outputs(c: ModelConfig) -> int:
    return c.patch_samples * len(INDEPENDENT_LEADS)
