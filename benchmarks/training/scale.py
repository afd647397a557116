"""From one process to a pod: weak scaling on this machine, what a step sends, and what TPUs would take.

python -m benchmarks.training.scale --out results/benchmarks/scale                              weak scaling, 5 minutes
JAX_PLATFORMS=cpu TPU_SKIP_MDS_QUERY=1 python -m benchmarks.training.scale --aot --out …    TPU tables, an hour; libtpu

Weak scaling: 64 records per process and step, each on a core of its own where there are enough. The limit is the
same step with no word exchanged: as many processes that know nothing of each other, in the same rounds.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from rich.console import Console

from benchmarks.harness import machine
from benchmarks.harness.options import add_out
from benchmarks.harness.writing import PALETTE, new_figure, write_csv, write_figure, write_json
from experiments.launch import local

SIZES = (100_000, 1_000_000)
PROCESSES = (1, 2, 4)
TOPOLOGIES = ("v5e:4x4", "v5e:16x16", "v5p:2x4x4", "v6e:4x4")
#: The tpu preset's ladder, with its batch and the records of its longest run.
AOT_SIZES = (1_000_000, 10_000_000, 100_000_000, 300_000_000, 1_000_000_000)
AOT_BATCH, AOT_RECORDS = 1024, 30_720_000


def answers(processes: int, size: int, *, together: bool) -> list[dict[str, Any]]:
    """What each of `processes` workers measured; alone together: at the same time, but apart."""
    command = ["-m", "benchmarks.training.scale_worker", str(size)]
    if together:
        started = local.start(command, processes)
    else:
        started = [
            subprocess.Popen(
                [sys.executable, *command],
                env=os.environ | {"SCALE_PROCESS": str(process)},
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
            )
            for process in range(processes)
        ]
    printed = [process.communicate()[0] for process in started]
    for process, text in zip(started, printed, strict=True):
        if process.returncode:
            raise RuntimeError(f"a worker ended with {process.returncode}: {text[-2000:]}")
    return [json.loads(text.splitlines()[-1]) for text in printed]


def weak_scaling(size: int, rounds: int, console: Console) -> pd.DataFrame:
    """A row per number of processes: seconds of a step together and apart, their ratio, and what a step sends."""
    rows = []
    for processes in PROCESSES:
        ratios, together, apart = [], [], []
        for turn in range(rounds):
            console.print(f"{size:,} parameters, {processes} processes, round {turn + 1} of {rounds}")
            ours = answers(processes, size, together=True)
            limit = answers(processes, size, together=False)
            together.append(max(answer["step_s"] for answer in ours))
            apart.append(np.mean([answer["step_s"] for answer in limit]))
            ratios.append(together[-1] / apart[-1])
        moved, least = ours[0]["moved_bytes"], ours[0]["least_bytes"]
        rows.append(
            {
                "parameters": ours[0]["parameters"],
                "processes": processes,
                "cores": min(processes, os.cpu_count() or 1),
                "step_s": np.median(together),
                "apart_s": np.median(apart),
                "ratio": np.median(ratios),
                "least_ratio": min(ratios),
                "greatest_ratio": max(ratios),
                "moved_mib": moved / 2**20,
                "least_mib": least / 2**20,
                "moved_over_least": moved / least if least else float("nan"),
                "compile_s": np.median([answer["compile_s"] for answer in ours]),
            }
        )
    return pd.DataFrame(rows)


def tpu_tables(out: Path, topologies: Sequence[str], sizes: Sequence[int], price: float, console: Console) -> None:
    """Compiles every size for every topology, adding to `aot.csv` after each; what is there is not done again."""
    from ecg_jax.aot import compile  # here, since it wants an environment of its own
    from ecg_jax.config import Precision

    compile.check_environment()
    path = out / "aot.csv"
    done = pd.read_csv(path) if path.is_file() else pd.DataFrame({"topology": [], "size": []})
    for size in sizes:  # small ones first, everywhere
        for topology in topologies:
            if ((done["topology"] == topology) & (done["size"] == size)).any():
                continue
            config = compile.run_config(size, AOT_BATCH, Precision.BFLOAT16)
            table = compile.table(compile.compile_all([config], [topology], console), [AOT_RECORDS], price)
            table.insert(0, "size", size)
            done = pd.concat([done, table]) if len(done) else table
            write_csv(done.sort_values(["topology", "size"]), path)
            console.print(table.to_string(index=False, float_format="%.4g"), soft_wrap=True)
    write_figure(figure(done), out / "aot")


def figure(table: pd.DataFrame) -> Any:
    """Step time, memory and cost of a run against size, a line per topology."""
    drawn = new_figure(10, 3.4)
    axes = drawn.subplots(1, 3)
    table = table.assign(gib=(table["args_mib"] + table["temp_mib"]) / 1024)
    columns = {
        "step_ms": "least step time (ms)",
        "gib": "held by a chip (GiB)",
        "cost": f"a run of {AOT_RECORDS / 1e6:.0f}M records ($)",
    }
    for axis, (column, label) in zip(axes, columns.items(), strict=True):
        for color, (topology, rows) in zip(PALETTE, table.groupby("topology"), strict=False):
            rows = rows.sort_values("size")
            axis.loglog(rows["parameters"], rows[column], "o-", color=color, label=topology, markersize=4)
        axis.set_xlabel("parameters")
        axis.set_ylabel(label)
        axis.grid(alpha=0.3, which="both")
    axes[0].legend(frameon=False, fontsize=8)
    return drawn


def main() -> None:
    """Reads the options and runs."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_out(parser, "scale")
    parser.add_argument("--rounds", type=int, default=3, help="rounds, each side once (%(default)s)")
    parser.add_argument("--sizes", type=int, nargs="+", metavar="N", help="parameters in blocks")
    parser.add_argument("--aot", nargs="*", metavar="TOPOLOGY", help=f"TPU tables (default {' '.join(TOPOLOGIES)})")
    parser.add_argument("--price", type=float, default=1.2, help="of a chip-hour (%(default)s)")
    options = parser.parse_args()
    console = Console(highlight=False)
    if options.aot is not None:
        tpu_tables(options.out, options.aot or TOPOLOGIES, options.sizes or AOT_SIZES, options.price, console)
        return
    before = machine.describe()
    tables = []
    for size in options.sizes or SIZES:
        tables.append(weak_scaling(size, options.rounds, console))
        console.print(tables[-1].to_string(index=False, float_format="%.4g"), soft_wrap=True)
        write_csv(pd.concat(tables), options.out / "weak.csv")
    write_json(before | {"load_after": list(os.getloadavg())}, options.out / "notes.json")


if __name__ == "__main__":
    main()
