"""What a study will take: runs, FLOPs, time and memory, before it is begun.

Time is measured: a few real train steps of every size, smallest first, until a minute is spent; larger sizes are
priced at the rate of the last one measured, which uses the machine no better than they will.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Sequence

import jax
from rich.table import Table

from ecg_jax.config import RunConfig
from ecg_jax.flops import forward_flops_per_record, parameters, train_flops_per_record, training_bytes
from ecg_jax.ladder import size_name
from ecg_jax.mesh import make_mesh
from ecg_jax.plan import seconds_per_member
from ecg_jax.sweep import trunks


def flops(targets: Sequence[RunConfig], evaluations_per_run: int) -> float:
    """FLOPs of the trunks, cool-downs and evaluations of `targets`. Curves of trunks are left out: below 1 %."""
    total = 0.0
    for group in trunks(targets):
        model = group[0].model
        steps = max(c.branch_step for c in group) + sum(c.budget_steps - c.branch_step for c in group)
        total += steps * group[0].batch_records * train_flops_per_record(model)
        total += len(group) * evaluations_per_run * forward_flops_per_record(model)
    return total


@dataclasses.dataclass(frozen=True)
class Size:
    """What the runs of one model take. `measured` is False where its rate is that of a smaller size."""

    parameters: int
    trunks: int
    runs: int
    flops: float
    seconds: float
    measured: bool
    memory_bytes: int


def forecast(targets: Sequence[RunConfig], evaluations_per_run: int, *, seconds: float = 60.0) -> list[Size]:
    """What every size takes on the devices of this process, one run at a time; `seconds` are spent on measuring.

    Sets the mesh.
    """
    models = sorted({target.model for target in targets}, key=lambda model: parameters(model).blocks)
    sizes, rate, began = [], 0.0, time.monotonic()
    for model in models:
        runs = [target for target in targets if target.model == model]
        measured = not rate or time.monotonic() - began < seconds
        if measured:
            with jax.set_mesh(make_mesh()):
                step = seconds_per_member(runs[0], 1)
            rate = runs[0].batch_records * train_flops_per_record(model) / step
        work = flops(runs, evaluations_per_run)
        sizes.append(
            Size(
                parameters=parameters(model).blocks,
                trunks=len({run.trunk_id for run in runs}),
                runs=len(runs),
                flops=work,
                seconds=work / rate,
                measured=measured,
                memory_bytes=training_bytes(model, runs[0].batch_records),
            )
        )
    return sizes


def table(sizes: Sequence[Size]) -> Table:
    """A forecast for reading, with its total."""
    shown = Table("size", "parameters", "trunks", "runs", "FLOPs", "time", "memory", caption=_caption(sizes))
    for size in sizes:
        shown.add_row(
            size_name(float(f"{size.parameters:.1g}")),
            f"{size.parameters:,}",
            str(size.trunks),
            str(size.runs),
            f"{size.flops:.2e}",
            f"{'' if size.measured else '~'}{duration(size.seconds)}",
            f"{size.memory_bytes / 2**30:.2g} GiB",
        )
    shown.add_section()
    shown.add_row(
        "all",
        "",
        str(sum(size.trunks for size in sizes)),
        str(sum(size.runs for size in sizes)),
        f"{sum(size.flops for size in sizes):.2e}",
        duration(sum(size.seconds for size in sizes)),
        "",
    )
    for column in shown.columns:
        column.justify = "right"
    return shown


def duration(seconds: float) -> str:
    """Seconds as people say them."""
    for unit, length in (("d", 86_400), ("h", 3_600), ("min", 60)):
        if seconds >= 2 * length:
            return f"{seconds / length:.1f} {unit}"
    return f"{seconds:.0f} s"


def _caption(sizes: Sequence[Size]) -> str:
    device = jax.devices()[0].device_kind
    note = f"time on {jax.device_count()} x {device}, one run at a time, without input and compilation"
    return note if all(size.measured for size in sizes) else f"{note}; ~: at the rate of the size above"
