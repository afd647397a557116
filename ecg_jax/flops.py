"""Exact parameter counts, training FLOPs and memory, from a `ModelConfig` alone.

FLOPs are those of matrix products, a multiply-add counted as two, and three times the forward pass for training
(forward, gradient by activations, gradient by weights), as in Kaplan et al. (2020, arXiv:2001.08361, table 1).
Softmax, norms and other element-wise work are left out. A causal model is counted with whole attention matrices.
"""

from __future__ import annotations

import dataclasses

from ecg_jax.config import ModelConfig, Position, Precision, Readout, Tokens
from ecg_jax.data.ecg import INDEPENDENT_LEADS, LEADS


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
    inputs, outputs = _token_inputs(c), _token_outputs(c)
    stem = c.patch_samples * c.stem_samples if c.stem_samples is not None else 0
    places = c.patches if c.position is Position.LEARNED else 0
    leads = len(INDEPENDENT_LEADS) if c.tokens is Tokens.LEAD_TIME else 0
    return Parameters(
        blocks=c.depth * (12 * c.width**2 + 2 * c.width),
        embedding=stem + inputs * c.width,
        position=(places + leads) * c.width,
        readout=c.width + c.width * outputs + stem,
    )


def forward_flops_per_record(c: ModelConfig) -> int:
    """FLOPs of one forward pass over one record: weights 2 x 12 d w^2 per token, attention 4 d w per token pair."""
    tokens = c.tokens_per_record
    weights = c.depth * 12 * c.width**2 + (_token_inputs(c) + _token_outputs(c)) * c.width
    attention = c.depth * 2 * c.width * tokens
    stem = c.patch_samples * c.stem_samples * c.patches if c.stem_samples is not None else 0
    leads_in = len(LEADS) if c.tokens is Tokens.TIME else len(INDEPENDENT_LEADS)
    return 2 * tokens * (weights + attention) + 2 * stem * (leads_in + len(INDEPENDENT_LEADS) * _numbers(c))


def train_flops_per_record(c: ModelConfig) -> int:
    """FLOPs of one training step, per record."""
    return 3 * forward_flops_per_record(c)


def training_bytes(c: ModelConfig, batch_records: int) -> int:
    """Bytes that training holds, about: weights, gradients and Adam's two moments in float32, and, for the backward
    pass, what each block keeps of every token (34 widths and, per head, two rows of attention; Korthikanti et al.
    2022, arXiv:2205.05198, eq. 2, without dropout's masks) in the model's precision, nothing recomputed."""
    bytes_each = 2 if c.precision is Precision.BFLOAT16 else 4
    kept = c.depth * (16 * c.width + 2 * c.heads * c.tokens_per_record)
    return 16 * parameters(c).total + bytes_each * batch_records * c.tokens_per_record * kept


def _numbers(c: ModelConfig) -> int:
    return 1 if c.readout is Readout.VALUE else 2


def _token_inputs(c: ModelConfig) -> int:
    return (len(LEADS) if c.tokens is Tokens.TIME else 1) * (c.patch_features + 1)


def _token_outputs(c: ModelConfig) -> int:
    return (len(INDEPENDENT_LEADS) if c.tokens is Tokens.TIME else 1) * _numbers(c) * c.patch_features
