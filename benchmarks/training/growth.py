"""What grows with a study: its bookkeeping with the runs, a pack's host time with its members, a model with its depth.

python -m benchmarks.training.growth --out results/benchmarks/growth          about 5 minutes on two cores
python -m benchmarks.training.growth --quick                                  about 1 minute, to a thousand runs

Nothing is trained: finished runs are written as a study writes them, with made-up losses. Seconds are of the processor,
but for what other processes do, so that a shared machine tells the same.
"""

from __future__ import annotations

import argparse
import contextlib
import gc
import io
import json
import os
import subprocess
import sys
import tempfile
import time
import tracemalloc
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any
from unittest import mock

import jax
import numpy as np
import pandas as pd
from rich.console import Console

from benchmarks.harness import machine
from benchmarks.harness.options import add_out
from benchmarks.harness.writing import write_csv, write_json
from ecg_jax import models
from ecg_jax.config import DataConfig, ModelConfig, RunConfig
from ecg_jax.data.ecg import LEADS, RecordPool
from ecg_jax.data.mixture import Mixture, batch_ids
from ecg_jax.distributed.mesh import make_mesh
from ecg_jax.evaluate.heldout import freeze
from ecg_jax.evaluate.response import Response
from ecg_jax.monitor import status
from ecg_jax.scaling import ladder
from ecg_jax.scaling.cost import flops, trunks
from ecg_jax.store.curve import curve_steps
from ecg_jax.store.layout import Store, open_store
from ecg_jax.store.merge import merge
from ecg_jax.store.tables import export
from ecg_jax.study import run_study
from ecg_jax.study.options import StudyOptions
from ecg_jax.study.packing import Pack, plan
from ecg_jax.study.sweep import grid, replace
from ecg_jax.study.write_run import write_run
from ecg_jax.terminal.command import StoppedError
from ecg_jax.train.input_pipeline import Placement, feed_of
from ecg_jax.train.training_data import TrainingData
from experiments.mixed_vs_pure import PRESETS

RUNS = (100, 1_000, 10_000)
BUDGETS = (4_096, 10_240)
#: Merging copies every run by itself, at a cost that does not depend on the others: larger stores tell nothing new.
MERGED_RUNS = 1_000
#: Packs after which the study of the third measurement is stopped.
PACKS = 12
MEMBERS = (1, 9, 18, 27, 64)
#: The real records of the tpu preset by source, as PTB-XL, CODE-15% and MIMIC-IV-ECG share them.
REAL_RECORDS = (17_000, 345_000, 638_000)
#: A step of the longest budget at which members of different real fractions are in different epochs.
FAR_STEP = 20_000
DEPTHS = (8, 16, 32, 64, 128)
#: Seconds after which a dry run is given up.
PATIENCE_S = 120
MACHINE = {"pack_size": 1, "placement": "host", "seconds": 1.0, "flops_per_second": 1e10, "records_per_second": 100.0}

#: Of a fresh process, which compiles without a cache: processor seconds until the first block is drawn, and rendered.
FIRST_DRAW = """
import os, time
os.environ.pop("JAX_COMPILATION_CACHE_DIR", None)
import jax
from ecg_jax.data.synthetic import source, tiers
made_by = tiers.recipe(tiers.Tier.ACQUISITION)
jax.numpy.zeros(1).block_until_ready()
began = time.process_time()
draft = jax.block_until_ready(source.draw_block(0, 0, made_by, 10))
drawn = time.process_time()
source.record_block(draft, made_by, None, 100, 10)
print(drawn - began, time.process_time() - drawn)
"""


def pool(records: int, seed: int) -> RecordPool:
    """Made-up records of a patient each."""
    rng = np.random.default_rng(seed)
    return RecordPool(
        source=f"made-up {seed}",
        sample_rate_hz=100,
        ecg=rng.integers(-500, 500, (records, 1000, len(LEADS))).astype(np.int16),
        record_id=np.array([f"{seed}/{i:05d}" for i in range(records)]),
        patient_id=np.arange(records, dtype=np.int64) + 100_000 * seed,
        fold=np.ones(records, np.int64),
        unit=np.array(["mV"] * records),
        labels=((),) * records,
    )


class Bench:
    """What all measurements share, and the rows of what was measured."""

    def __init__(self, console: Console):
        self.console, self.rows = console, []
        self.data = TrainingData(pool(40, 1), {"b": pool(100, 2)})
        heldout = freeze(pool(20, 3), 50, masks=2)
        references = {f"{kind}loss_{name}": 1.0 for kind in ("", "curve_") for name in ("mean", "linear")}
        self.response = Response(heldout, references)
        self.base = RunConfig(
            study="growth",
            model=ladder.model_config(30_000),
            data=DataConfig(0.5, "a", "b", synthetic_records=100),
            optim=ladder.optim_config(),
            budget_records=BUDGETS[0],
            response=heldout.identity,
        )

    def targets(self, runs: int) -> list[RunConfig]:
        """So many runs, two to a trunk, of two sizes and five real fractions."""
        axes = {
            "model": [ladder.model_config(size) for size in (30_000, 100_000)],
            "data.real_fraction": (0.0, 0.1, 0.5, 0.9, 1.0),
            "seed": range(runs // 10 // len(BUDGETS)),
            "budget_records": BUDGETS,
        }
        return grid(self.base, axes)

    def measure(self, what: str, size: int, work: Callable[[], Any], target: float = float("nan")) -> None:
        """Adds a row: the processor and wall seconds of `work`."""
        gc.collect()
        wall, cpu = time.perf_counter(), time.process_time()
        work()
        self.add(what, size, time.process_time() - cpu, time.perf_counter() - wall, target)

    def add(self, what: str, size: int, cpu_s: float, wall_s: float, target_s: float = float("nan")) -> None:
        """Adds a row."""
        self.rows.append({"what": what, "size": size, "cpu_s": cpu_s, "wall_s": wall_s, "target_s": target_s})
        self.console.print(f"{what}, {size:,}: {cpu_s:.3g} s of the processor, {wall_s:.3g} s", soft_wrap=True)


@contextlib.contextmanager
def unsynced() -> Iterator[None]:
    """Files that are made for a measurement need not outlive a power cut."""
    with mock.patch("os.fsync", lambda file: None):
        yield


def finished_store(b: Bench, root: Path, targets: Sequence[RunConfig]) -> Store:
    """A store of runs that are all done."""
    store, rng = open_store(root, "growth", targets, {"target": "made-up"}), np.random.default_rng(0)
    shape = b.response.heldout.hidden.shape[:2]
    with unsynced():
        for group in trunks(targets):
            last = max(run.branch_step for run in group)
            points = [{"step": step - 1, "eval/heldout/loss": 1.0} for step in curve_steps(last)]
            steps = [{"step": step, "train/loss": 1.0, "perf/step_seconds": 0.1} for step in range(last)]
            log(store.trunk(group[0]), sorted([*steps, *points], key=lambda line: line["step"]))
            for run in group:
                log(
                    store.run(run),
                    [{"step": step, "train/loss": 1.0} for step in range(run.branch_step, run.budget_steps)],
                )
                errors = rng.uniform(0.3, 0.9, shape)
                write_run(
                    store, run, b.data.real, b.response, errors_RxM=errors, diverged="", machine=MACHINE, params=None
                )
    return store


def log(folder: Path, lines: Sequence[dict[str, Any]]) -> None:
    """Writes a log as a run does."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))


def bookkeeping(b: Bench, runs: int, root: Path) -> None:
    """A study of so many runs: planned, followed, exported, merged."""
    targets = b.targets(runs)
    empty = open_store(root / "empty", "growth", targets, {"target": "made-up"})
    b.measure("planning, the first time", runs, lambda: plan(empty, targets, lambda run: 1), 5.0)
    fresh = b.targets(runs)  # of which no identity is known yet, as in a new process
    b.measure("planning, again", runs, lambda: plan(empty, fresh, lambda run: 1), 5.0)
    between_packs(b, empty, targets)
    store = finished_store(b, root / "done", targets)
    shown = Console(file=io.StringIO())
    plan(store, targets, lambda run: 1)

    def look() -> None:
        shown.print(status.shown(status.status(store)))

    b.measure("status", runs, look, 2.0)
    b.measure("export", runs, lambda: export(store, root / "tables"), 20.0)
    if runs <= MERGED_RUNS:
        half = open_store(root / "half", "growth", targets, {"target": "made-up"})
        with unsynced():
            b.measure("merge into an empty store", runs, lambda: merge(store, half))
    for run in targets[:: len(BUDGETS)]:
        (store.run(run) / "record.json").unlink()
    b.measure("status, half of the runs done", runs, look, 2.0)
    fresh = b.targets(runs)
    b.measure("FLOPs of a study", runs, lambda: flops(fresh, 1808))


def between_packs(b: Bench, store: Store, targets: Sequence[RunConfig]) -> None:
    """What a study does between two packs: of so many that take no time, the median of what lies between them."""
    ends: list[tuple[float, float]] = []
    gaps: list[tuple[float, float]] = []

    def at_once(store: Store, pack: Pack, *_: object, **__: object) -> None:
        if ends:
            gaps.append((time.process_time() - ends[-1][0], time.perf_counter() - ends[-1][1]))
        if len(gaps) == PACKS:
            raise StoppedError
        for run in pack.runs:
            write_json({"pack_size": 1, "n_params": 1, "flops_per_second": 1e9}, store.run(run) / "record.json")
        ends.append((time.process_time(), time.perf_counter()))

    with mock.patch.object(run_study, "run_pack", at_once), contextlib.redirect_stdout(io.StringIO()):
        run_study.run_study(
            store, targets, b.data, {b.response.heldout.identity: b.response}, options=StudyOptions(pack_size=1)
        )
    cpu, wall = np.median(gaps, axis=0)
    b.add("between two packs", len(targets), cpu, wall, 0.05)


def members(b: Bench, numbers: Sequence[int]) -> None:
    """Host time of a step of a pack of the tpu preset: which records its members read."""
    preset = PRESETS["tpu"]
    leads = [
        Mixture(seed, preset.batch_records, ratio, REAL_RECORDS, sum(REAL_RECORDS))
        for seed in range(16)
        for ratio in (DataConfig(fraction, "", "").ratio for fraction in (0.1, 0.5, 0.9, 1.0))
    ]
    for number in numbers:
        pack = leads[:number]

        def steps(first: int, count: int, pack: Sequence[Mixture] = pack) -> None:
            for step in range(first, first + count):
                for mixture in pack:
                    batch_ids(mixture, step)

        steps(FAR_STEP, 1)
        cpu, wall = time.process_time(), time.perf_counter()
        steps(FAR_STEP + 1, 4)
        cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
        b.add("ids of a step, by members", number, cpu / 4, wall / 4)


def pools(b: Bench, numbers: Sequence[int]) -> pd.DataFrame:
    """Bytes that the nested pools of a pack hold beside the real records, by members."""
    whole, rows = pool(4_000, 4), []
    for number in numbers:
        data = TrainingData(whole, b.data.synthetic)
        configs = [
            replace(b.base, {"seed": k, "data.real_patients": 3_000, "data.pool_shuffle": k % 3}) for k in range(number)
        ]
        tracemalloc.start()
        feed = feed_of(configs, data, Placement.HOST)
        held = tracemalloc.get_traced_memory()[0]
        tracemalloc.stop()
        del feed
        rows.append({"members": number, "held_mib": held / 2**20, "real_records_mib": whole.ecg.nbytes / 2**20})
    return pd.DataFrame(rows)


def build(b: Bench, depths: Sequence[int]) -> None:
    """Building a model, by its depth."""
    models.build(ModelConfig(width=64, depth=1, heads=4))
    for depth in depths:
        b.measure(
            "models.build, by depth",
            depth,
            lambda depth=depth: models.build(ModelConfig(width=64, depth=depth, heads=4)),
        )


def first_draw(b: Bench) -> None:
    """The first block of the synthetic source in a fresh process."""
    wall = time.perf_counter()
    environment = {name: value for name, value in os.environ.items() if name != "JAX_COMPILATION_CACHE_DIR"}
    printed = subprocess.run(
        [sys.executable, "-c", FIRST_DRAW], env=environment, capture_output=True, text=True, check=True
    ).stdout
    drawn, rendered = map(float, printed.split())
    b.add("first draw of the generator", 1, drawn, time.perf_counter() - wall)
    b.add("first rendering after it", 1, rendered, float("nan"))


def dry_runs(b: Bench, root: Path, presets: Sequence[str]) -> None:
    """`--dry-run` of every preset, imports included; one that takes longer than `PATIENCE_S` has not ended."""
    for number, preset in enumerate(presets, start=1):
        command = ["-m", "experiments.mixed_vs_pure", "--preset", preset, "--dry-run", "--out", str(root / "none")]
        wall, before = time.perf_counter(), os.times()
        try:
            subprocess.run([sys.executable, *command], capture_output=True, check=True, timeout=PATIENCE_S)
        except subprocess.TimeoutExpired:
            b.console.print(f"the dry run of {preset} was given up")
        after = os.times()
        cpu = after.children_user + after.children_system - before.children_user - before.children_system
        b.add(f"dry run of the {preset} preset", number, cpu, time.perf_counter() - wall, 20.0)


def run(out: Path, *, quick: bool) -> None:
    """Measures everything and writes `growth.csv`, `pools.csv` and `notes.json`."""
    console, before = Console(highlight=False), machine.describe()
    b = Bench(console)
    with jax.set_mesh(make_mesh()), tempfile.TemporaryDirectory() as folder:
        members(b, MEMBERS[:4] if quick else MEMBERS)
        write_csv(pools(b, (1, 4, 16)), out / "pools.csv")
        build(b, DEPTHS[:3] if quick else DEPTHS)
        first_draw(b)
        dry_runs(b, Path(folder), list(PRESETS))
        for runs in RUNS[:2] if quick else RUNS:
            bookkeeping(b, runs, Path(folder) / str(runs))
            write_csv(pd.DataFrame(b.rows), out / "growth.csv")
    device = jax.devices()[0]
    write_json(
        before | {"device": device.device_kind, "load_after": list(os.getloadavg()), "quick": quick}, out / "notes.json"
    )


def main() -> None:
    """Reads the options and runs."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_out(parser, "growth")
    parser.add_argument("--quick", action="store_true", help="to a thousand runs and depth 32")
    options = parser.parse_args()
    run(options.out, quick=options.quick)


if __name__ == "__main__":
    main()
