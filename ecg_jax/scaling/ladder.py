"""The size ladder: from a nominal parameter count to a model and its optimiser, by formula.

Nothing here depends on the budget, so one trunk serves all budgets.
`ecg-jax ladder` prints the table.

Shape. A block of width w holds 12 w^2 weights (attention 4, feed-forward 8; Vaswani et al. 2017), so depth d and
width w of a size N satisfy 12 d w^2 = N. Of the pairs within 9 % of N, the one whose aspect ratio w / d lies
nearest to 32 (N / 10^6)^0.13 is taken: wide and shallow enough to run fast, deepening as Kaplan et al. (2020,
arXiv:2001.08361, section 3.2) find harmless. Widths are multiples of 16 (4 below 40), of 32 from 256 and of 128 from
512, which tile the matrix units of accelerators.

Rates. One base learning rate serves every size: `mup` gives each weight its multiple of it. 1.6e-2 costs at most 0.4 %
of the loss in the cells of results/lr_transfer from width 32 on (sizes, arms, batches; best rates 1.4e-2 to 2.7e-2),
but for one: 300k parameters in 64 steps of 64 (1.9 %, best rate 1.0e-2). At equal records the best rate does not rise
with the batch from 16 to 64, so it is not scaled with it; the loss rises by a tenth, so all sizes of a study share one
batch.

Weight decay. A matrix shrinks by rate x decay per step at every size, so it is a moving average of its updates over
1 / (rate x decay) steps (Wang & Aitchison 2024, arXiv:2405.13698): batch / (rate x decay) records. At decay 0.05 and
batch 64 these are 80,000, more than most budgets: decay hardly acts. Their rule holds this timescale fixed in epochs;
arms that repeat a small pool try 0.5 as well: 8,000 records, 5 epochs of 1,520.

Warm-up. 256 records for all sizes and budgets, since budgets share a trunk: 4 steps of 64. The 2 / (1 - b2) = 40 steps
of Ma & Yarats (2021, arXiv:1910.04209) would be much of the shortest budgets, and lose there: 1,280 records instead of
256 end 1 % higher after 4,096 (results/lr_transfer/README.md).
"""

from __future__ import annotations

import argparse
import dataclasses
import math
from collections.abc import Sequence
from typing import Any

import pandas as pd

from ecg_jax.config import ModelConfig, Objective, OptimConfig, Precision, Tokens
from ecg_jax.scaling.flops import forward_flops_per_record, parameters, train_flops_per_record, training_bytes
from ecg_jax.terminal.command import command

#: The base rate that every size takes its multiples of; see "Rates" above.
BASE_LEARNING_RATE = 1.6e-2
#: Nominal sizes (parameters in blocks). The first is for tests; studies start at 30k (width 48), since a narrower
#: model is capped by its width: it cannot pass a patch's principal components.
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
    if min(sample_rate_hz, patch_ms, record_s) <= 0:
        raise ValueError(
            f"sample_rate_hz = {sample_rate_hz}, patch_ms = {patch_ms} and record_s = {record_s:g} must be positive"
        )
    samples, patches = sample_rate_hz * patch_ms / 1000, record_s * 1000 / patch_ms
    if not (samples.is_integer() and patches.is_integer()):
        raise ValueError(
            f"a record of {record_s:g} s at {sample_rate_hz} Hz is {patches:g} patches of {patch_ms} ms, "
            f"each of {samples:g} samples: both must be whole"
        )
    if size < 1:
        raise ValueError(f"a size of {size} parameters is none; the rungs are {', '.join(map(size_name, RUNGS))}")
    pairs = [(depth, _width(size, depth)) for depth in range(1, 65)]
    narrowest = 48 if size >= 30_000 else 16
    near = [(d, w) for d, w in pairs if w >= narrowest and abs(math.log(12 * d * w**2 / size)) < 0.09]
    if not near:
        raise ValueError(
            f"no depth and width give about {size} parameters; the rungs are {', '.join(map(size_name, RUNGS))}"
        )
    aspect = 32 * (size / 1e6) ** 0.13
    depth, width = min(near, key=lambda pair: abs(math.log(pair[1] / pair[0] / aspect)))
    attention, readout = objective.attention, objective.readout
    config = ModelConfig(
        width=width,
        depth=depth,
        heads=max(1, width // head_size(width)),
        patch_samples=int(samples),
        patches=int(patches),
        stem_samples=patch_ms // 10 if sample_rate_hz > 100 else None,
        attention=attention,
        readout=readout,
    )
    return dataclasses.replace(config, **changes)


def head_size(width: int) -> int:
    """Channels per attention head at a width."""
    return 16 if width < 256 else 32 if width < 512 else 64


def optim_config() -> OptimConfig:
    """The optimiser of every size: see the module's docstring."""
    return OptimConfig(learning_rate=BASE_LEARNING_RATE)


def _width(size: int, depth: int) -> int:
    exact = math.sqrt(size / (12 * depth))
    multiple = 4 if exact < 40 else 16 if exact < 256 else 32 if exact < 512 else 128
    return round(exact / multiple) * multiple


def size_name(size: float) -> str:
    """A nominal size as people write it: 30000 -> "30k", 1000000 -> "1M"."""
    for unit, letter in ((10**9, "B"), (10**6, "M"), (10**3, "k")):
        if size >= unit:
            return f"{size / unit:g}{letter}"
    return str(size)


def table(batch_records: int = 64, **model: Any) -> pd.DataFrame:
    """A row per rung: shape, parameters, FLOPs and memory. `model` as for `model_config`."""
    rows = []
    for size in RUNGS:
        config = model_config(size, **model)
        counts = parameters(config)
        rows.append(
            {
                "rung": size_name(size),
                "width": config.width,
                "depth": config.depth,
                "heads": config.heads,
                "head_size": config.head_size,
                "tokens": config.tokens_per_record,
                "n_blocks": counts.blocks,
                "n_embedding": counts.total - counts.blocks,
                "n_total": counts.total,
                "forward_flops": forward_flops_per_record(config),
                "train_flops": train_flops_per_record(config),
                "train_gib": training_bytes(config, batch_records) / 2**30,
            }
        )
    return pd.DataFrame(rows)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="ecg-jax ladder",
        description="Print the size ladder: shape, exact parameter counts, FLOPs and memory of every rung.",
        epilog="""columns:
  rung           nominal size: parameters in blocks, within 10 %; studies start at 30k, 10k is for tests
  width, depth   channels of a token, and blocks
  heads x size   attention heads and channels per head; their product is the width
  tokens         tokens of one record
  n_blocks       parameters in blocks: the N of a scaling law ("non-embedding")
  n_embedding    all others: patch projection, stem, positions, last norm, read-out
  forward, train FLOPs of matrix products for one record, and for one record of a training step
  GiB            memory of training, about, at the batch given: weights, gradients, Adam's moments and activations,
                 with nothing recomputed and plain attention (flops.training_bytes)

examples:
  ecg-jax ladder                                     the protocol's models: 100 Hz, patches of 200 ms
  ecg-jax ladder --rate 500                          the same blocks behind a stem for 500 Hz
  ecg-jax ladder --tokens lead_time --precision bfloat16 --batch 256
  ecg-jax ladder --objective next_patch --patch-ms 100""",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--rate", type=int, default=100, metavar="HZ", help="sample rate of the records (default 100)")
    parser.add_argument("--patch-ms", type=int, default=200, metavar="MS", help="length of a patch (default 200)")
    parser.add_argument(
        "--objective",
        choices=list(Objective),
        default=Objective.MASKED,
        help="what the model is trained for: next_patch has a Gaussian read-out of two numbers per sample "
        "(default masked)",
    )
    parser.add_argument(
        "--tokens",
        choices=list(Tokens),
        default=Tokens.TIME,
        help="a token is a time patch of all leads, or of one of the eight independent ones (default time)",
    )
    parser.add_argument(
        "--precision",
        choices=list(Precision),
        default=Precision.FLOAT32,
        help="what activations are held in (default float32); weights are float32 always",
    )
    parser.add_argument("--batch", type=int, default=64, metavar="RECORDS", help="records per batch (default 64)")
    return parser


@command
def main(arguments: Sequence[str] | None = None) -> None:
    """Prints the ladder."""
    parser = _parser()
    options = parser.parse_args(arguments)
    if options.batch < 1:
        parser.error(f"--batch {options.batch}: at least one record is needed")
    try:
        rungs = table(
            options.batch,
            sample_rate_hz=options.rate,
            patch_ms=options.patch_ms,
            objective=Objective(options.objective),
            tokens=Tokens(options.tokens),
            precision=Precision(options.precision),
        )
    except ValueError as error:
        parser.error(str(error))
    _print_rungs(rungs, options)


def _print_rungs(rungs: pd.DataFrame, options: argparse.Namespace) -> None:
    print(
        f"Records of 10 s at {options.rate} Hz in patches of {options.patch_ms} ms, objective {options.objective}, "
        f"tokens {options.tokens}, {options.precision}; memory at batches of {options.batch}"
    )
    shape = ("rung", 5), ("width", 6), ("depth", 6), ("heads x size", 13), ("tokens", 7), ("n_blocks", 14)
    costs = ("n_embedding", 12), ("n_total", 14), ("forward FLOP", 13), ("train FLOP", 11), ("GiB", 9)
    print(" ".join(f"{head:>{size}}" for head, size in (*shape, *costs)))
    for row in rungs.itertuples():
        print(
            f"{row.rung:>5} {row.width:>6} {row.depth:>6} {f'{row.heads} x {row.head_size}':>13} {row.tokens:>7} "
            f"{row.n_blocks:>14,} {row.n_embedding:>12,} {row.n_total:>14,} {row.forward_flops:>13.3e} "
            f"{row.train_flops:>11.3e} {row.train_gib:>9.3g}"
        )


if __name__ == "__main__":
    raise SystemExit(main())
