"""What the engine adds to a bare train step: packing, waiting for input, checkpoints, the loop, and starting up.

python -m benchmarks.training.engine --out results/benchmarks/engine          about 15 minutes on two cores
python -m benchmarks.training.engine --quick                                  about 2 minutes

Packs are run as a study runs them (`pack.run_pack`), in turn, and their own records say what they reached. The peer is
measured as a variant of ours: nanodo trains one run at a time, and every host reads the whole batch.
"""

from __future__ import annotations

import argparse
import dataclasses
import itertools
import math
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pandas as pd
from rich.console import Console

from benchmarks.harness import machine
from benchmarks.harness.options import add_out
from benchmarks.harness.writing import write_csv, write_json
from ecg_jax.config import DataConfig, RunConfig, mixture_of
from ecg_jax.data.mixture import batch_ids, read_batch
from ecg_jax.data.synthetic import SyntheticSource, Tier, recipe
from ecg_jax.distributed import backend
from ecg_jax.distributed.mesh import make_mesh, place_members
from ecg_jax.evaluate.heldout import freeze
from ecg_jax.evaluate.response import Response
from ecg_jax.files.lease import acquire
from ecg_jax.scaling import ladder
from ecg_jax.store.layout import open_store
from ecg_jax.study.packing import plan
from ecg_jax.study.run_pack import run_pack
from ecg_jax.study.sweep import grid
from ecg_jax.study.trunk import SAVE_SECONDS
from ecg_jax.train import schedule
from ecg_jax.train.checkpoint import Checkpoints
from ecg_jax.train.input_pipeline import Placement, feed_of
from ecg_jax.train.step import program
from ecg_jax.train.training_data import TrainingData
from experiments.protocol.data import load_standin
from experiments.protocol.data_files import export_data

BATCH_RECORDS = 64
SIZES = (30_000, 100_000, 1_000_000)
CHECKPOINT_SIZE = 10_000_000
POOL = 400
#: Of real records in the packs; the loop alone is timed on real records only, which cost next to nothing to read.
FRACTION = 0.5
COLUMNS = ("records_per_second", "utilisation", "input_wait", "memory_mib")


@dataclasses.dataclass(frozen=True)
class Bench:
    """What all measurements share; the records are a generator's, which changes no timing."""

    data: TrainingData
    response: Response
    base: RunConfig

    def configs(
        self, size: int, members: int, steps: int, seed: int = 0, *, fraction: float = FRACTION
    ) -> list[RunConfig]:
        """Runs of one shape that differ in their seeds and have as many steps."""
        base = dataclasses.replace(self.base, model=ladder.model_config(size), budget_records=BATCH_RECORDS * steps)
        return grid(base, {"data.real_fraction": [fraction], "seed": range(seed, seed + members)})


def bench() -> Bench:
    """A pool of stand-in records, and an unbounded synthetic source of tier T1d."""
    standin, source = load_standin(POOL), SyntheticSource(0, recipe(Tier.ACQUISITION))
    few = freeze(standin.heldout.pool.take(np.arange(4)), standin.heldout.hidden.shape[2], masks=1)
    base = RunConfig(
        study="engine",
        model=ladder.model_config(SIZES[0]),
        data=DataConfig(FRACTION, standin.identity, source.identity),
        optim=ladder.optim_config(),
        budget_records=BATCH_RECORDS * 8,
        batch_records=BATCH_RECORDS,
        response=few.identity,
    )
    references = {f"{kind}loss_{name}": 1.0 for kind in ("", "curve_") for name in ("mean", "linear")}
    return Bench(TrainingData(standin.training, {source.identity: source}), Response(few, references), base)


def run_once(b: Bench, configs: list[RunConfig], placement: Placement) -> dict[str, Any]:
    """The record of a pack that is trained in a store of its own."""
    with tempfile.TemporaryDirectory() as folder:
        store = open_store(Path(folder), "engine", configs, {})
        (pack,) = plan(store, configs, lambda config: len(configs))
        with acquire(store.pack(pack.pack_id)) as owner:
            run_pack(store, pack, b.data, b.response, owner, placement=placement)
        return store.record(configs[0])


def packing(b: Bench, size: int, sizes: list[int], rounds: int, seconds: float, placement: Placement) -> pd.DataFrame:
    """A row per pack size: median rate, its ratio to a run alone within each round, and where the time went."""
    alone = run_once(b, b.configs(size, 1, 40), placement)["records_per_second"]
    steps = max(20, int(seconds * alone / BATCH_RECORDS))
    seeds, rows = itertools.count(0, 1000), {members: [] for members in sizes}
    for turn in range(rounds):
        for members in sizes if turn % 2 == 0 else sizes[::-1]:
            configs = b.configs(size, members, max(20, steps // members), next(seeds))
            rows[members].append(run_once(b, configs, placement))
    first = np.array([row["records_per_second"] for row in rows[sizes[0]]])
    table = []
    for members, records in rows.items():
        rates = np.array([row["records_per_second"] for row in records])
        medians = {name: float(np.median([row[name] for row in records])) for name in COLUMNS}
        ratios = rates / first
        table.append(
            {"rung": ladder.size_name(size), "members": members, "placement": placement.value, **medians}
            | {"ratio": np.median(ratios), "least_ratio": ratios.min(), "greatest_ratio": ratios.max()}
        )
    return pd.DataFrame(table)


def loop_overhead(b: Bench, size: int, steps: int, rounds: int, placement: Placement) -> dict[str, Any]:
    """The seconds of a step in a study over those of the bare compiled step on a batch that is there."""
    ratios, bare, ours = [], [], []
    (config,) = b.configs(size, 1, steps, fraction=1.0)
    feed = feed_of([config], b.data, placement)
    made = program(config, feed.read)
    batch = next(feed.batches(range(1)))
    rates = place_members(np.array([schedule.trunk_rate(config, 100)]))
    decays = place_members(np.array([config.optim.weight_decay]))
    for turn in range(rounds):
        record = run_once(b, b.configs(size, 1, steps, turn, fraction=1.0), placement)
        ours.append(BATCH_RECORDS / record["records_per_second"])
        state, before, began = made.init(np.zeros(1)), None, 0.0
        for step in range(steps):
            if step == 2:
                began = time.perf_counter()
            state, metrics = made.train_step(state, feed.resident, batch, rates, decays)
            if before is not None:  # at most two in flight, as in the loop
                float(before["train/loss"][0])
            before = metrics
        jax.block_until_ready(metrics)
        bare.append((time.perf_counter() - began) / (steps - 2))
        ratios.append(ours[-1] / bare[-1])
    return {
        "what": f"loop over bare step, {ladder.size_name(size)}, {placement}",
        "ours_s": np.median(ours),
        "limit_s": np.median(bare),
        "ratio": np.median(ratios),
        "least_ratio": min(ratios),
        "target": 1.03,
    }


def checkpoint_overhead(b: Bench, size: int, rounds: int) -> dict[str, Any]:
    """What a save in the background costs a run that saves as often as a study does: 1 + extra / interval."""
    (config,) = b.configs(size, 1, 40)
    feed = feed_of([config], b.data, Placement.HOST)
    made = program(config, feed.read)
    batch = next(feed.batches(range(1)))
    rates, decays = place_members(np.array([1e-4])), place_members(np.zeros(1))
    state = made.init(np.zeros(1))

    def steps(number: int) -> float:
        nonlocal state
        began = time.perf_counter()
        for _ in range(number):
            state, metrics = made.train_step(state, feed.resident, batch, rates, decays)
            float(metrics["train/loss"][0])
        return time.perf_counter() - began

    steps(2)
    number = max(3, math.ceil(4.0 / steps(1)))
    plain, saving = [], []
    with tempfile.TemporaryDirectory() as folder, Checkpoints(Path(folder)) as checkpoints:
        checkpoints.save(0, state)  # the first compiles its digests
        checkpoints.wait()
        for turn in range(1, rounds + 1):
            plain.append(steps(number))
            began = time.perf_counter()
            checkpoints.save(turn, state)
            steps(number)
            checkpoints.wait()
            saving.append(time.perf_counter() - began)
    extra = np.maximum(np.subtract(saving, plain), 0)
    return {
        "what": f"checkpoint every {SAVE_SECONDS:g} s, {ladder.size_name(size)}",
        "ours_s": np.median(extra),
        "limit_s": SAVE_SECONDS,
        "ratio": 1 + np.median(extra) / SAVE_SECONDS,
        "least_ratio": 1 + extra.min() / SAVE_SECONDS,
        "target": 1.02,
    }


def whole_batches(b: Bench, hosts: int, steps: int) -> dict[str, Any]:
    """Reading this host's part of a batch of 64 records per host, over reading the whole of it, as every host of nanodo
    does; seconds per step."""
    (config,) = b.configs(SIZES[0], 1, steps)
    config = dataclasses.replace(config, batch_records=hosts * BATCH_RECORDS, budget_records=4 * hosts * BATCH_RECORDS)
    mixture, pool, source = mixture_of(config, b.data.real), b.data.real, b.data.source(config)

    def seconds(part: slice, start: int) -> float:
        began = time.perf_counter()
        for step in range(start, start + steps):
            read_batch(batch_ids(mixture, step), source, [pool], part)
        return (time.perf_counter() - began) / steps

    seconds(slice(None), 0)  # compiles the renderer
    ours = seconds(slice(0, BATCH_RECORDS), 10_000)
    theirs = seconds(slice(None), 20_000)
    return {
        "what": f"input per host of {hosts}: its part over the whole batch (nanodo)",
        "ours_s": ours,
        "limit_s": theirs,
        "ratio": ours / theirs,
        "least_ratio": ours / theirs,
        "target": 1 / hosts,
    }


#: A study that ends with its first finished step and prints how long that took.
START_UP = """
import os, sys, time
from ecg_jax.monitor import progress
def first(self, config, step, loss):
    print(f"first {time.time() - float(sys.argv[1]):.3f}", flush=True)
    os._exit(0)
progress.StudyProgress.on_step = first
from experiments import mixed_vs_pure
mixed_vs_pure.main(["--data-files", sys.argv[2], "--out", sys.argv[3], "--blocks", "1"])
"""


def start_up() -> list[dict[str, Any]]:
    """Seconds from the command to the first finished step of a study, without and with a compilation cache."""
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        export_data(root / "data", load_standin(POOL))
        environment = os.environ | {"JAX_COMPILATION_CACHE_DIR": str(root / "cache")}
        for turn, name in enumerate(("cold", "warm", "warm")):
            arguments = [str(time.time()), str(root / "data"), str(root / f"out{turn}")]
            command = [sys.executable, "-c", START_UP, *arguments]
            printed = subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout
            line = next(line for line in printed.splitlines() if line.startswith("first "))
            rows.append({"what": f"start-up to the first step, {name} cache", "ours_s": float(line.split()[1])})
    return [
        row | {"limit_s": 30.0, "ratio": row["ours_s"] / 30, "least_ratio": row["ours_s"] / 30, "target": 1.0}
        for row in rows
    ]


def run(out: Path, *, quick: bool) -> None:
    """Measures everything and writes `packing.csv`, `overheads.csv` and `notes.json`."""
    console, before = Console(highlight=False), machine.describe()
    on_gpu = jax.default_backend() != "cpu"
    placement = Placement.DEVICE if on_gpu else Placement.HOST
    sizes = [2**k for k in range(7 if on_gpu else 4)]
    rounds, seconds = (2, 1.0) if quick else (3, 4.0)
    with jax.set_mesh(make_mesh()):
        b = bench()
        tables = []
        for size in SIZES[:1] if quick else SIZES:
            tables.append(packing(b, size, sizes[:3] if quick else sizes, rounds, seconds, placement))
            console.print(tables[-1].to_string(index=False))
            write_csv(pd.concat(tables), out / "packing.csv")
        rows = [loop_overhead(b, size, 60, rounds, placement) for size in (SIZES[:1] if quick else SIZES)]
        if on_gpu:
            waits = packing(b, SIZES[-1], [1], rounds, seconds, Placement.HOST)
            console.print(waits.to_string(index=False))
            write_csv(pd.concat([*tables, waits]), out / "packing.csv")
        rows.append(whole_batches(b, 4, 10))
        if not quick:
            rows.append(checkpoint_overhead(b, CHECKPOINT_SIZE, rounds))
    rows += start_up()
    table = pd.DataFrame(rows)
    console.print(table.to_string(index=False))
    write_csv(table, out / "overheads.csv")
    device = jax.devices()[0]
    notes = {"device": device.device_kind, "devices": jax.device_count(), "load_after": list(os.getloadavg())}
    write_json(before | notes | {"quick": quick, "batch_records": BATCH_RECORDS}, out / "notes.json")


def main() -> None:
    """Reads the options and runs."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_out(parser, "engine")
    parser.add_argument("--quick", action="store_true", help="one size, few rounds, no 10M checkpoint")
    options = parser.parse_args()
    backend.configure()
    run(options.out, quick=options.quick)


if __name__ == "__main__":
    main()
