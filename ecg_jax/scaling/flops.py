"""Parameter counts, training FLOPs and memory of a model, from its config alone; each architecture has its own."""

from __future__ import annotations

from ecg_jax.config import Architecture, ModelConfig
from ecg_jax.scaling.contract import Arithmetic, Parameters
from ecg_jax.scaling.transformer import TRANSFORMER

__all__ = [
    "Parameters",
    "arithmetic",
    "forward_flops_per_record",
    "parameters",
    "train_flops_per_record",
    "training_bytes",
]


def arithmetic(architecture: Architecture) -> Arithmetic:
    """The numbers of an architecture."""
    match architecture:
        case Architecture.TRANSFORMER:
            return TRANSFORMER


def parameters(c: ModelConfig) -> Parameters:
    """Counts the parameters of a model, exactly."""
    return arithmetic(c.architecture).parameters(c)


def forward_flops_per_record(c: ModelConfig) -> int:
    """FLOPs of one forward pass over one record."""
    return arithmetic(c.architecture).forward_flops(c)


def train_flops_per_record(c: ModelConfig) -> int:
    """FLOPs of one training step, per record."""
    return arithmetic(c.architecture).train_flops(c)


def training_bytes(c: ModelConfig, batch_records: int) -> int:
    """Bytes that training holds, about."""
    return arithmetic(c.architecture).training_bytes(c, batch_records)
