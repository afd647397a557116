"""The size ladder: from a nominal parameter count to a model and its optimiser, by formula.

Nothing here depends on the budget, so one trunk serves all budgets. `python -m ecg_jax.ladder` prints the table.

Shape. A block of width w holds 12 w^2 weights (attention 4, feed-forward 8; Vaswani et al. 2017), so depth d and
width w of a size N satisfy 12 d w^2 = N. Of the pairs within 9 % of N, the one whose aspect ratio w / d lies
nearest to 32 (N / 10^6)^0.13 is taken: wide and shallow enough to run fast, deepening as Kaplan et al. (2020,
arXiv:2001.08361, section 3.2) find harmless. Widths are multiples of 16 (4 below 40), of 32 from 256 and of 128 from
512, which tile the matrix units of accelerators.

Rates. One base learning rate serves every size: `mup` gives each weight its multiple of it. One weight decay and one
warm-up, in records, serve every size and budget. [FILLED IN BELOW]
"""

from __future__ import annotations

import argparse
import dataclasses
import math
from typing import Any

from ecg_jax.config import ModelConfig, Objective, OptimConfig, served_by
from ecg_jax.flops import parameters, train_flops_per_record

#: Nominal sizes (parameters in blocks). The first is for tests; studies start at 30k (width 48), since a narrower
#: model is capped by its width: it cannot pass a patch's principal components.
BASE_LEARNING_RATE = 1.2e-2
RUNGS = (10_000, *(digit * 10**power for power in (4, 5, 6, 7) for digit in (3, 10)), 300_000_000, 1_000_000_000)


def model_config(
    size: int,
    *,
    sample_rate_hz: int = 100,
    patch_ms: int = 200,
    record_s: float = 10.0,
    objective: Objective = Objective.MASKED,
    **changes: Any,
) -> ModelConfig:
    """The model whose blocks hold about `size` parameters, for records of `record_s` seconds in patches of `patch_ms`.

    Above 100 Hz a stem maps each lead of a patch to as many numbers as 100 Hz would give, so that all but the stem
    stays as it is. `objective` sets attention and read-out; `changes` replace other fields of the config. Raises
    ValueError when no whole width gives about `size`, or patches do not hold whole samples.
    """
    samples, patches = sample_rate_hz * patch_ms / 1000, record_s * 1000 / patch_ms
    if not (samples.is_integer() and patches.is_integer()):
        raise ValueError(
            f"a record of {record_s:g} s at {sample_rate_hz} Hz is {patches:g} patches of {patch_ms} ms, "
            f"each of {samples:g} samples: both must be whole"
        )
    pairs = [(depth, _width(size, depth)) for depth in range(1, 65)]
    narrowest = 48 if size >= 30_000 else 16
    near = [(d, w) for d, w in pairs if w >= narrowest and abs(math.log(12 * d * w**2 / size)) < 0.09]
    if not near:
        raise ValueError(
            f"no depth and width give about {size} parameters; the rungs are {', '.join(map(size_name, RUNGS))}"
        )
    aspect = 32 * (size / 1e6) ** 0.13
    depth, width = min(near, key=lambda pair: abs(math.log(pair[1] / pair[0] / aspect)))
    head = 16 if width < 256 else 32 if width < 512 else 64
    attention, readout = served_by(objective)
    config = ModelConfig(
        width=width,
        depth=depth,
        heads=max(1, width // head),
        patch_samples=int(samples),
        patches=int(patches),
        stem_samples=patch_ms // 10 if sample_rate_hz > 100 else None,
        attention=attention,
        readout=readout,
    )
    return dataclasses.replace(config, **changes)


def optim_config() -> OptimConfig:
    """The optimiser of every size: see the module's docstring."""
    return OptimConfig(learning_rate=BASE_LEARNING_RATE)


def _width(size: int, depth: int) -> int:
    exact = math.sqrt(size / (12 * depth))
    multiple = 4 if exact < 40 else 16 if exact < 256 else 32 if exact < 512 else 128
    return round(exact / multiple) * multiple


def size_name(size: int) -> str:
    """A nominal size as people write it: 30000 -> "30k", 1000000 -> "1M"."""
    for unit, letter in ((10**9, "B"), (10**6, "M"), (10**3, "k")):
        if size >= unit:
            return f"{size / unit:g}{letter}"
    return str(size)


def main() -> None:
    """Prints the ladder."""
    parser = argparse.ArgumentParser(
        description="Print the size ladder: shape, parameters and training FLOPs of every rung.",
        epilog="n_params counts the blocks; the total adds patch projection, positions, final norm and read-out.",
    )
    parser.parse_args()
    heads = ("rung", 6), ("width", 6), ("depth", 6), ("heads", 6), ("n_params", 14), ("total", 14)
    print(" ".join(f"{head:>{size}}" for head, size in (*heads, ("train FLOP/record", 18), ("rate", 9))))
    for size in RUNGS:
        model = model_config(size)
        counts = parameters(model)
        print(
            f"{size_name(size):>6} {model.width:>6} {model.depth:>6} {model.heads:>6} {counts.blocks:>14,} "
            f"{counts.total:>14,} {train_flops_per_record(model):>18.3e} {optim_config().learning_rate:>9.2e}"
        )


if __name__ == "__main__":
    main()
