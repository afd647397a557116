"""What every architecture tells of itself without being built: its counts, its costs, and what its weights do."""

from __future__ import annotations

import dataclasses
import enum
from collections.abc import Callable
from typing import Any

from ecg_jax.config import ModelConfig


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


class Role(enum.Enum):
    """What a weight does. `BRANCH_END` is the hidden matrix that ends a residual branch."""

    INPUT = enum.auto()
    HIDDEN = enum.auto()
    BRANCH_END = enum.auto()
    OUTPUT = enum.auto()
    GAIN = enum.auto()


@dataclasses.dataclass(frozen=True)
class Place:
    """Where a weight stands: its role, whether within a block, and whether neither of its sides grows with the model
    (a stem's)."""

    role: Role
    in_block: bool
    fixed: bool = False


@dataclasses.dataclass(frozen=True)
class Arithmetic:
    """An architecture as numbers, from its config alone: nothing here loads JAX.

    - `parameters(config)`: exact counts.
    - `forward_flops(config)`, `train_flops(config)`: FLOPs of matrix products, per record, of a forward pass and of a
      training step.
    - `training_bytes(config, batch_records)`: bytes that training holds, about.
    - `place(path)`: what the parameter at a path of the model's tree does.
    """

    parameters: Callable[[ModelConfig], Parameters]
    forward_flops: Callable[[ModelConfig], int]
    train_flops: Callable[[ModelConfig], int]
    training_bytes: Callable[[ModelConfig, int], int]
    place: Callable[[tuple[Any, ...]], Place]
