"""What a study will take: runs, FLOPs, time and memory, before it is begun.

All but time follows from the configs. Time is FLOPs over a rate: that of runs which are done, else a stated share of
what the devices can do; or, where it is asked for, that of a few real train steps of every size.
"""

from __future__ import annotations

import dataclasses
import math
import os
import statistics
import time
from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax
from rich.console import Console
from rich.table import Table

from ecg_jax.config import ModelConfig, Precision, RunConfig
from ecg_jax.distributed.mesh import make_mesh
from ecg_jax.scaling.cost import duration, flops
from ecg_jax.scaling.flops import parameters, train_flops_per_record, training_bytes
from ecg_jax.scaling.ladder import size_name
from ecg_jax.scaling.time_left import nearest_rate
from ecg_jax.store.layout import Store
from ecg_jax.terminal.stage import Stage
from ecg_jax.train.timing import seconds_per_member

#: Dense matrix products, FLOP/s, as vendors publish them: of bfloat16, and of float32 as JAX multiplies it there (TF32
#: on GPUs, six passes of bfloat16 or fewer on TPUs), by what JAX's name of a device holds.
PEAKS = {
    "H200": (989e12, 495e12),
    "H100": (989e12, 495e12),
    "A100": (312e12, 156e12),
    "L4": (121e12, 60e12),
    "v5 lite": (197e12, 197e12),
    "v5p": (459e12, 459e12),
    "v6 lite": (918e12, 918e12),
}
#: A core with two units of eight multiply-adds at 2.5 GHz; bfloat16 is no faster on most.
CORE_PEAK = 80e9
#: Of the peak, what is assumed unless stated: what large models reach. Small ones, alone on an accelerator, do not.
UTILISATION = 0.3


class Rate(NamedTuple):
    """Training FLOP/s of runs of a size; `own` is False where it was measured on another size."""

    flops: float
    own: bool = True


@dataclasses.dataclass(frozen=True)
class Pace:
    """How fast runs will train, as far as it is known, and in words where that is known from."""

    rate: Callable[[RunConfig], Rate | None]
    note: str


@dataclasses.dataclass(frozen=True)
class Size:
    """What the runs of one model take. `seconds` is None where no rate is known; `own` as in `Rate`."""

    parameters: int
    trunks: int
    runs: int
    flops: float
    seconds: float | None
    own: bool
    memory_bytes: int


def stated(utilisation: float = UTILISATION, peak: float | None = None) -> Pace:
    """A share of the FLOP/s that all devices of this process can do; `peak` of one device, by default the published
    one. Nothing is timed."""
    if not 0 < utilisation <= 1 or (peak is not None and not 0 < peak < math.inf):
        of = "the peak" if peak is None else f"a peak of {peak:g} FLOP/s"
        raise ValueError(f"a utilisation of {utilisation:g} of {of} is none: give a share in (0, 1] of a positive peak")
    device, count = jax.devices()[0], jax.device_count()
    known = next((both for name, both in PEAKS.items() if name in device.device_kind), None)
    if device.platform == "cpu":
        known = (CORE_PEAK * (os.cpu_count() or 1) / count,) * 2
    if peak is not None:
        known = (peak, peak)
    where = f"{count} x {device.device_kind}"
    if known is None:
        return Pace(lambda run: None, f"no time: the peak of {where} is not known; state it (--peak), or --measure")

    def rate(run: RunConfig) -> Rate:
        return Rate(utilisation * count * known[run.model.precision is not Precision.BFLOAT16])

    numbers = " or ".join(f"{number:.3g}" for number in dict.fromkeys(known))
    return Pace(rate, f"time at {utilisation:.0%} of {numbers} FLOP/s on each of {where}: stated, not measured")


def recorded(stores: Sequence[Store]) -> Pace | None:
    """What the finished runs of these studies reached, of their own size or the nearest, smaller ones first; None where
    there are none."""
    rates: dict[int, list[float]] = {}
    for store in stores:
        for record in map(store.record, filter(store.is_done, store.targets())):
            if record["flops_per_second"]:
                rates.setdefault(record["n_params"], []).append(record["flops_per_second"])
    if not rates:
        return None

    typical = {size: statistics.median(of_size) for size, of_size in rates.items()}

    def rate(run: RunConfig) -> Rate | None:
        size = parameters(run.model).blocks
        known = nearest_rate(typical, size)
        return known and Rate(known.flops, own=known.parameters == size)

    done, where = sum(map(len, rates.values())), ", ".join(str(store.path) for store in stores)
    return Pace(rate, f"time at the rate of the {done} runs that are done in {where}, with what trained beside them")


def measured(console: Console, *, seconds: float = 60.0) -> Pace:
    """A few real train steps on the devices of this process, one run at a time: of sizes as they are asked for, until
    `seconds` are spent; others are priced at the rate of the last one, which uses the machine no better. Sets the mesh.
    """
    known: dict[ModelConfig, Rate] = {}
    began = time.monotonic()

    def rate(run: RunConfig) -> Rate:
        if run.model in known:
            return known[run.model]
        if known and time.monotonic() - began >= seconds:
            known[run.model] = next(reversed(known.values()))._replace(own=False)
        else:
            name = size_name(float(f"{parameters(run.model).blocks:.1g}"))
            with Stage(f"timing a few steps of {name} parameters", console), jax.set_mesh(make_mesh()):
                step = seconds_per_member(run, 1)
            known[run.model] = Rate(run.batch_records * train_flops_per_record(run.model) / step)
        return known[run.model]

    note = f"time on {jax.device_count()} x {jax.devices()[0].device_kind}, one run at a time, without input"
    return Pace(rate, f"{note} and compilation: measured")


def forecast(targets: Sequence[RunConfig], evaluations_per_run: int, pace: Pace) -> list[Size]:
    """What every size takes, smallest first."""
    groups: dict[ModelConfig, list[RunConfig]] = {}
    for target in targets:
        groups.setdefault(target.model, []).append(target)
    sizes = []
    for model in sorted(groups, key=lambda model: parameters(model).blocks):
        runs = groups[model]
        work, rate = flops(runs, evaluations_per_run), pace.rate(runs[0])
        sizes.append(
            Size(
                parameters=parameters(model).blocks,
                trunks=len({run.trunk_id for run in runs}),
                runs=len(runs),
                flops=work,
                seconds=work / rate.flops if rate else None,
                own=rate is None or rate.own,
                memory_bytes=training_bytes(model, runs[0].batch_records),
            )
        )
    return sizes


def table(sizes: Sequence[Size], note: str) -> Table:
    """A forecast for reading, with its total; `note` is its pace's."""
    near = "" if all(size.own for size in sizes) else "; ~: at the rate of the nearest size that is known"
    shown = Table("size", "parameters", "trunks", "runs", "FLOPs", "time", "memory", caption=f"{note}{near}")
    for size in sizes:
        shown.add_row(
            size_name(float(f"{size.parameters:.1g}")),
            f"{size.parameters:,}",
            str(size.trunks),
            str(size.runs),
            f"{size.flops:.2e}",
            "?" if size.seconds is None else f"{'' if size.own else '~'}{duration(size.seconds)}",
            f"{size.memory_bytes / 2**30:.2g} GiB",
        )
    seconds = [size.seconds for size in sizes if size.seconds is not None]
    shown.add_section()
    shown.add_row(
        "all",
        "",
        str(sum(size.trunks for size in sizes)),
        str(sum(size.runs for size in sizes)),
        f"{sum(size.flops for size in sizes):.2e}",
        "?" if len(seconds) < len(sizes) else duration(sum(seconds)),
        "",
    )
    for column in shown.columns:
        column.justify = "right"
    return shown
