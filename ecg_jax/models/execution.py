"""How a model is carried out. The numbers are the same up to rounding, so this is no part of a run's identity."""

from __future__ import annotations

import dataclasses
import enum

import jax

from ecg_jax.config import ModelConfig, Precision

#: From this depth on an accelerator scans over one compiled block. A CPU never does: unrolled blocks run faster, and
#: even compile faster there (18 blocks of the 300M rung: 11 s of processor time against 24 s).
SCAN_DEPTH = 16


class Remat(enum.Enum):
    """What the backward pass computes again instead of keeping: nothing, all but matrix products, or whole blocks."""

    NOTHING = enum.auto()
    ALL_BUT_PRODUCTS = enum.auto()
    BLOCKS = enum.auto()


@dataclasses.dataclass(frozen=True)
class Execution:
    """`scan` runs the blocks as one compiled loop over their stacked weights; else they are unrolled.

    `fused_attention` asks for cuDNN's kernel, which a GPU runs in bfloat16 and for head sizes that 8 divides.
    """

    scan: bool = False
    remat: Remat = Remat.NOTHING
    fused_attention: bool = False


def best(config: ModelConfig) -> Execution:
    """What suits a model on JAX's default backend."""
    backend = jax.default_backend()
    fused = backend == "gpu" and config.precision is Precision.BFLOAT16 and config.head_size % 8 == 0
    deep = backend != "cpu" and config.depth >= SCAN_DEPTH
    return Execution(scan=deep, remat=Remat.ALL_BUT_PRODUCTS if deep else Remat.NOTHING, fused_attention=fused)
