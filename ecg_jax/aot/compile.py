"""Compile before you pay: the real training step, ahead of time, for TPUs that are not here.

    JAX_PLATFORMS=cpu TPU_SKIP_MDS_QUERY=1 ecg-jax compile --topology v5e:4x4 --sizes 1000000 100000000

Compiles every size for every topology on this CPU, with `libtpu` (the `tpu` extra), and prints what a chip has to hold,
what a step costs, and how long it takes at best: a roofline, since nothing is run.
"""

from __future__ import annotations

import argparse
import dataclasses
import os
import re
import sys
import time
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import pandas as pd
from jax.experimental import topologies
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P
from rich.console import Console

from ecg_jax.aot.hlo_collectives import least_bytes, received_bytes
from ecg_jax.config import DataConfig, Precision, RunConfig
from ecg_jax.data.ecg import LEADS
from ecg_jax.distributed.mesh import make_mesh
from ecg_jax.models import Execution
from ecg_jax.models.execution import Remat
from ecg_jax.scaling import ladder
from ecg_jax.scaling.flops import parameters, train_flops_per_record
from ecg_jax.terminal.command import command
from ecg_jax.terminal.stage import STDERR, Stage
from ecg_jax.train.step import program


@dataclasses.dataclass(frozen=True)
class Chip:
    """A TPU chip, as its vendor publishes it (cloud.google.com/tpu/docs): dense bfloat16 FLOP/s, bytes of memory, bytes
    per second to it, and bytes per second to all its neighbours together."""

    flops: float
    memory: float
    bandwidth: float
    links: float


CHIPS = {
    "v5e": Chip(197e12, 16 * 2**30, 819e9, 200e9),
    "v5p": Chip(459e12, 95 * 2**30, 2765e9, 600e9),
    "v6e": Chip(918e12, 32 * 2**30, 1640e9, 448e9),
}
#: As in the slices of all three kinds that have several hosts.
CHIPS_PER_HOST = 4
#: Of a chip's memory, what the runtime leaves to a program.
USABLE = 0.92


@dataclasses.dataclass(frozen=True)
class Compiled:
    """What a training step takes on each chip of a topology. Bytes are per chip and step."""

    topology: str
    chips: int
    parameters: int
    batch_records: int
    argument_bytes: int
    temporary_bytes: int
    flops: float  # of the whole step, analytic
    xla_flops: float  # per chip, XLA's own count: the body of a scan once
    memory_traffic: float  # per chip, XLA's own count: the body of a scan once
    moved_bytes: float  # received by each chip, read off the compiled program
    weight_bytes: int  # of one weight as it travels: the compute precision's
    compile_seconds: float

    @property
    def fits(self) -> bool:
        """Whether a chip can hold it."""
        return self.argument_bytes + self.temporary_bytes <= USABLE * self.chip.memory

    @property
    def chip(self) -> Chip:
        """The chip of the topology."""
        return CHIPS[self.topology.rpartition("*")[2].partition(":")[0]]

    @property
    def gathered_bytes(self) -> float:
        """The least that must be moved to each chip per step: `hlo_collectives.least_bytes`."""
        return least_bytes(self.parameters, self.weight_bytes, self.chips)

    @property
    def step_seconds(self) -> float:
        """The least time of a step: whichever of arithmetic, memory and links takes longest, at full speed."""
        return max(self._seconds.values())

    @property
    def bound(self) -> str:
        """What that time is spent on: arithmetic, links or memory."""
        return max(self._seconds, key=self._seconds.__getitem__)

    @property
    def _seconds(self) -> dict[str, float]:
        return {
            "arithmetic": self.flops / self.chips / self.chip.flops,
            "links": self.moved_bytes / self.chip.links,
            "memory": (self.argument_bytes + self.temporary_bytes) / self.chip.bandwidth,
        }


def devices_of(topology: str) -> list[Any]:
    """The devices of a topology such as "v5e:4x4", or "2*v5e:4x4" for two such slices.

    Raises ValueError for one that does not exist, RuntimeError where `libtpu` is missing.
    """
    form = re.fullmatch(r"(?:([1-9]\d*)\*)?((\w+):\d+(?:x\d+)+)", topology)
    if form is None or form[3] not in CHIPS:
        raise ValueError(
            f"{topology!r} is no topology: give one as v5e:4x4, v5p:2x4x4, v6e:4x4 or 2*v5e:4x4; kinds: "
            f"{', '.join(CHIPS)}"
        )
    try:
        found = topologies.get_topology_desc(platform="tpu", topology_name=form[2], num_slices=int(form[1] or 1))
    except Exception as error:  # the runtime raises one kind for all that is wrong
        if "libtpu" in str(error).lower() and "not" in str(error).lower():
            raise RuntimeError(f"libtpu is not installed: pip install 'ecg-jax[tpu]' ({error})") from error
        raise ValueError(f"the topology {topology} cannot be made: {error}") from error
    return list(found.devices)


def compile_step(config: RunConfig, topology: str, *, scan: bool = True) -> Compiled:
    """Compiles the training step of a run for a topology, fed by its hosts. Raises as `devices_of` does, and ValueError
    where the batch does not divide by the chips."""
    devices = devices_of(topology)
    if config.batch_records % len(devices):
        raise ValueError(
            f"batch_records = {config.batch_records} does not divide by the {len(devices)} chips of {topology}"
        )
    execution = Execution(scan=scan, remat=Remat.ALL_BUT_PRODUCTS if scan else Remat.NOTHING)
    began = time.perf_counter()
    mesh = make_mesh(devices)
    with jax.set_mesh(mesh):
        made = program(config, execution=execution)

        def shape(dimensions: tuple[int, ...], dtype: Any, spec: P) -> jax.ShapeDtypeStruct:
            return jax.ShapeDtypeStruct(dimensions, dtype, sharding=NamedSharding(mesh, spec))

        seeds = shape((1,), jnp.uint32, P("member"))
        state = jax.eval_shape(made.init_pack, seeds)
        state = jax.tree.map(lambda leaf: shape(leaf.shape, leaf.dtype, leaf.sharding.spec), state)
        batch = (1, config.batch_records, config.model.samples, len(LEADS))
        scalar = shape((1,), jnp.float32, P("member"))
        lowered = made.train_step.lower(state, None, shape(batch, jnp.int16, P("member", "data")), scalar, scalar)
        compiled = lowered.compile()
    memory, costs, text = compiled.memory_analysis(), compiled.cost_analysis(), compiled.as_text()
    if memory is None or costs is None or text is None:
        raise RuntimeError(f"the compiler for {topology} tells nothing of what it made")
    return Compiled(
        topology=topology,
        chips=len(devices),
        parameters=parameters(config.model).total,
        batch_records=config.batch_records,
        argument_bytes=memory.argument_size_in_bytes,
        temporary_bytes=memory.temp_size_in_bytes,
        flops=config.batch_records * train_flops_per_record(config.model),
        xla_flops=costs.get("flops", float("nan")),
        memory_traffic=costs.get("bytes accessed", float("nan")),
        moved_bytes=sum(received_bytes(text).values()),
        weight_bytes=2 if config.model.precision is Precision.BFLOAT16 else 4,
        compile_seconds=time.perf_counter() - began,
    )


def table(rows: Sequence[Compiled], records: Sequence[float], price: float) -> pd.DataFrame:
    """What was compiled, with the chip-hours and cost of so many `records` each at `price` per chip-hour, all at the
    roofline; and the records per second that each host must then be fed."""
    found = []
    for row, number in zip(rows, records, strict=True):
        hours = number / row.batch_records * row.step_seconds * row.chips / 3600
        found.append(
            {
                "topology": row.topology,
                "chips": row.chips,
                "parameters": row.parameters,
                "batch": row.batch_records,
                "args_mib": row.argument_bytes / 2**20,
                "temp_mib": row.temporary_bytes / 2**20,
                "fits": row.fits,
                "step_flops": row.flops,
                "moved_mib": row.moved_bytes / 2**20,
                "over_least": row.moved_bytes / row.gathered_bytes if row.gathered_bytes else float("nan"),
                "bound": row.bound,
                "step_ms": 1e3 * row.step_seconds,
                "records_per_s": row.batch_records / row.step_seconds,
                "per_host": row.batch_records / row.step_seconds / max(1, row.chips // CHIPS_PER_HOST),
                "chip_hours": hours,
                "cost": hours * price,
                "compile_s": row.compile_seconds,
            }
        )
    return pd.DataFrame(found)


def run_config(size: int, batch_records: int, precision: Precision) -> RunConfig:
    """A run of a size, whatever its data."""
    return RunConfig(
        study="aot",
        model=ladder.model_config(size, precision=precision),
        data=DataConfig(0.5, "any", "any"),
        optim=ladder.optim_config(),
        budget_records=8 * batch_records,
        batch_records=batch_records,
    )


def compile_all(configs: Sequence[RunConfig], topology_names: Sequence[str], console: Console) -> list[Compiled]:
    """Compiles every run for every topology, saying how far it is."""
    rows = []
    for topology in topology_names:
        for config in configs:
            with Stage(f"compiling {parameters(config.model).total:,} parameters for {topology}", console):
                rows.append(compile_step(config, topology))
    return rows


def tell(rows: Sequence[Compiled], records: Sequence[float], price: float) -> int:
    """Prints the table and, for each size that does not fit, one line; returns the exit status."""
    print(table(rows, records, price).to_string(index=False, float_format="%.4g"))
    for row in rows:
        if not row.fits:
            need = (row.argument_bytes + row.temporary_bytes) / 2**30
            print(
                f"error: {row.parameters:,} parameters do not fit {row.topology}: {need:.1f} GiB per chip of "
                f"{row.chip.memory / 2**30:.0f}; take more chips, or a smaller batch",
                file=sys.stderr,
            )
    return 0 if all(row.fits for row in rows) else 1


def check_environment() -> None:
    """Raises RuntimeError unless this process keeps to the CPU: libtpu would look for a TPU, and wait."""
    wanted = {"JAX_PLATFORMS": "cpu", "TPU_SKIP_MDS_QUERY": "1"}
    # libtpu complains loudly where the first two are not set, and, thinking of a TPU that only one process may have, it
    # refuses a second process without the third.
    ours = {
        "TPU_ACCELERATOR_TYPE": "v5litepod-1",
        "TPU_WORKER_HOSTNAMES": "localhost",
        "ALLOW_MULTIPLE_LIBTPU_LOAD": "1",
    }
    for name, value in ours.items():
        os.environ.setdefault(name, value)
    lacking = [f"{name}={value}" for name, value in wanted.items() if os.environ.get(name) != value]
    if lacking:
        raise RuntimeError(f"set {' '.join(lacking)} before this command: it compiles on the CPU and looks for no TPU")


@command
def main(arguments: Sequence[str] | None = None) -> int:
    """The command line's entry; exit status 1 when a size does not fit."""
    parser = argparse.ArgumentParser(
        prog="ecg-jax compile",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="""columns:
  args, temp MiB    what each chip holds: weights, optimiser and batch; and what a step needs besides
  fits              whether both are within 92 % of the chip's memory
  moved_mib         what each chip receives per step, read off the compiled program, without what slices exchange
  over_least        that, over the least that fully sharded data parallelism must move
  step_ms           at best: the longest of FLOPs at peak, one pass over what is held, and what is moved: see bound
  per_host          records per second that each host must supply for that
  chip_hours, cost  of --records at that speed, and --price per chip-hour""",
    )
    parser.add_argument("--topology", nargs="+", default=["v5e:4x4"], metavar="KIND:SHAPE", help="(default v5e:4x4)")
    parser.add_argument("--sizes", type=int, nargs="+", default=[1_000_000], metavar="N", help="parameters in blocks")
    parser.add_argument("--batch", type=int, default=1024, metavar="B", help="records per step (default %(default)s)")
    parser.add_argument("--precision", type=Precision, choices=list(Precision), default=Precision.BFLOAT16)
    parser.add_argument(
        "--records", type=float, default=1e8, help="records of a study, for its cost (default %(default)g)"
    )
    parser.add_argument(
        "--price", type=float, default=1.2, help="of a chip-hour, in any currency (default %(default)g)"
    )
    options = parser.parse_args(arguments)
    check_environment()
    configs = [run_config(size, options.batch, options.precision) for size in options.sizes]
    rows = compile_all(configs, options.topology, STDERR)
    return tell(rows, [options.records] * len(rows), options.price)


if __name__ == "__main__":
    raise SystemExit(main())
