"""The transformer as numbers: exact parameter counts, training FLOPs, memory, and the places of its weights.

FLOPs are those of matrix products, a multiply-add counted as two. Training takes three times the forward pass
(forward, gradient by activations, gradient by weights; Kaplan et al. 2020, arXiv:2001.08361, table 1), less the
gradient by the records, which nobody asks for: 8 % at 30k parameters, below 0.5 % from 3M on. Softmax, norms and other
element-wise work are left out, and so is what rematerialisation computes again. A causal model is counted with whole
attention matrices, which is what is computed. XLA's own count of an unrolled model is higher by up to 5 % from 1M on.
"""

from __future__ import annotations

from typing import Any

from ecg_jax.config import ModelConfig, Position, Precision, Readout, Tokens
from ecg_jax.data.ecg import INDEPENDENT_LEADS, LEADS
from ecg_jax.scaling.contract import Arithmetic, Parameters, Place, Role


def parameters(c: ModelConfig) -> Parameters:
    """Counts the parameters of `models.transformer`, exactly."""
    inputs, outputs = _token_inputs(c), _token_outputs(c)
    stem = _stem_weights(c)
    places = c.patches if c.position is Position.LEARNED else 0
    leads = len(INDEPENDENT_LEADS) if c.tokens is Tokens.LEAD_TIME else 0
    return Parameters(
        blocks=c.depth * (12 * c.width**2 + 2 * c.width),
        embedding=stem + inputs * c.width,
        position=(places + leads) * c.width,
        readout=c.width + c.width * outputs + stem,
    )


def forward_flops(c: ModelConfig) -> int:
    """FLOPs of one forward pass over one record: weights 2 x 12 d w^2 per token, attention 4 d w per token pair."""
    tokens = c.tokens_per_record
    weights = c.depth * 12 * c.width**2 + (_token_inputs(c) + _token_outputs(c)) * c.width
    attention = c.depth * 2 * c.width * tokens
    stem = _stem_weights(c) * c.patches * (_leads_in(c) + len(INDEPENDENT_LEADS) * _numbers(c))
    return 2 * tokens * (weights + attention) + 2 * stem


def train_flops(c: ModelConfig) -> int:
    """FLOPs of one training step, per record."""
    stem = _stem_weights(c) * c.patches * _leads_in(c)
    first = stem if c.stem_samples is not None else c.tokens_per_record * _token_inputs(c) * c.width
    return 3 * forward_flops(c) - 2 * first


def training_bytes(c: ModelConfig, batch_records: int) -> int:
    """Bytes that training holds, about: weights, gradients and Adam's two moments in float32, and, in the model's
    precision, what the backward pass needs.

    That is 16 widths of every token and block (the 34 bytes at two each of Korthikanti et al. 2022, arXiv:2205.05198,
    eq. 2, less dropout's mask), 3 attention matrices per head, half a block more for gradients in flight, and 4 copies
    of the records and 3 of the prediction. The last three were set by XLA's memory analysis of unrolled models on a
    CPU in float32, 30k to 1M, both kinds of tokens, which they meet within a factor of 1.3. Nothing is recomputed:
    rematerialisation and fused attention need less.
    """
    bytes_each = 2 if c.precision is Precision.BFLOAT16 else 4
    blocks = (2 * c.depth + 1) * c.tokens_per_record * (16 * c.width + 3 * c.heads * c.tokens_per_record) // 2
    ends = c.samples * (4 * _leads_in(c) + 3 * len(INDEPENDENT_LEADS) * _numbers(c))
    return 16 * parameters(c).total + bytes_each * batch_records * (blocks + ends)


def place(path: tuple[Any, ...]) -> Place:
    """The place of the parameter at a path of `models.transformer`'s tree."""
    names = [key.key for key in path]
    in_block = names[0] == "blocks"
    if names[-1] == "scale":
        return Place(Role.GAIN, in_block)
    if in_block:
        return Place(Role.BRANCH_END if names[-2] in ("mix", "down") else Role.HIDDEN, in_block)
    role = Role.OUTPUT if names[:2] == ["head", "project"] else Role.INPUT
    return Place(role, in_block, fixed=len(names) > 1 and names[-2] in ("stem", "unstem"))


def _stem_weights(c: ModelConfig) -> int:
    return c.patch_samples * c.stem_samples if c.stem_samples is not None else 0


def _leads_in(c: ModelConfig) -> int:
    return len(LEADS) if c.tokens is Tokens.TIME else len(INDEPENDENT_LEADS)


def _numbers(c: ModelConfig) -> int:
    return 1 if c.readout is Readout.VALUE else 2


def _token_inputs(c: ModelConfig) -> int:
    return (len(LEADS) if c.tokens is Tokens.TIME else 1) * (c.patch_features + 1)


def _token_outputs(c: ModelConfig) -> int:
    return (len(INDEPENDENT_LEADS) if c.tokens is Tokens.TIME else 1) * _numbers(c) * c.patch_features


TRANSFORMER = Arithmetic(parameters, forward_flops, train_flops, training_bytes, place)
