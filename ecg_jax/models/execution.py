"""How a model is carried out. The numbers are the same up to rounding, so this is no part of a run's identity."""

from __future__ import annotations

import ctypes
import dataclasses
import enum
import sys

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


def keep_freed_memory() -> None:
    """Lets this process keep the memory that it frees for its next allocation. A no-op where libc is not glibc.

    XLA allocates a step's scratch memory anew for every step on a CPU, and glibc hands blocks of that size back to the
    system at once: a quarter of a step at 1M parameters, and almost half at 100k, went into page faults. Acts only in a
    process whose libraries have started no threads of their own yet. The sure way is to start the process with
    `MALLOC_ARENA_MAX=1 MALLOC_MMAP_MAX_=0 MALLOC_TRIM_THRESHOLD_=-1` in its environment.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if sys.platform == "linux" else None
    if mallopt is not None:
        trim_threshold, mmap_max, arena_max = -1, -4, -8  # their numbers in malloc.h
        mallopt(trim_threshold, -1)
        mallopt(mmap_max, 0)
        mallopt(arena_max, 1)
