"""Stores of finished runs that nobody trained: what a study leaves, of made-up losses, in a moment."""

import dataclasses
import functools
import json

import numpy as np

from ecg_jax.config import RunConfig
from ecg_jax.evaluate import heldout as held
from ecg_jax.evaluate.response import Response, response_of
from ecg_jax.files.whole_file import write_json
from ecg_jax.store.curve import curve_steps
from ecg_jax.store.layout import Store, open_store
from ecg_jax.store.metrics_log import LOG, MetricsLog
from ecg_jax.study import sweep
from ecg_jax.study.packing import plan
from ecg_jax.study.write_run import append_segment, write_run
from ecg_jax.train.training_data import TrainingData
from support.configs import make_config
from support.synthetic_pools import made_up_pool

MACHINE = {
    "pack_size": 1,
    "placement": "host",
    "seconds": 1.0,
    "records_per_second": 100.0,
    "flops_per_second": 1e9,
    "utilisation": 0.5,
    "input_wait": 0.1,
    "saving_seconds": 0.0,
    "memory_mib": 100.0,
}


@functools.cache
def data() -> tuple[TrainingData, Response]:
    """Records to train on, and the response."""
    training = TrainingData(real=made_up_pool(20, 2), synthetic={"b": made_up_pool(2000, 1)})
    return training, response_of(held.freeze(made_up_pool(9, 5), 50, masks=2), training.real)


def targets(budgets=(512, 1024), seeds=(0,), **changes) -> list[RunConfig]:
    """Runs of one trunk per seed."""
    base = make_config(study="s", response=data()[1].heldout.identity, **changes)
    return sweep.grid(base, {"seed": seeds, "budget_records": budgets})


def loss_at(config: RunConfig, step: int, machine: float) -> float:
    """A loss that falls with the steps, a little different on every machine."""
    return (1 + config.seed / 10) / (1 + step / 50) * (1 + machine)


def log_steps(folder, config: RunConfig, steps: range, machine: float = 0.0, end: int | None = None) -> None:
    """Logs training as `pack` does: every step, and in a trunk the points of its curve; at step `end` it diverges."""
    folder.mkdir(parents=True, exist_ok=True)
    log, in_trunk = MetricsLog(folder / LOG), folder.parent.name == "trunks"
    for step in steps:
        diverges = step == end
        loss = float("nan") if diverges else loss_at(config, step, machine)
        times = {"perf/step_seconds": 0.01, "perf/input_seconds": 0.001}
        log.add(step, {"train/loss": loss, "norm/grad": loss, "opt/lr": 0.1, **times})
        if diverges:
            break
        if in_trunk and step + 1 in curve_steps(step + 1):
            log.add(step, {"eval/heldout/loss": loss})
    log.flush()


def begin(store: Store, config: RunConfig, steps: int | None = None, machine: float = 0.0) -> None:
    """A trunk that was trained for so many steps; None: it is known by its config alone."""
    write_json(store.trunk(config) / "config.json", config.stored())
    if steps is not None:
        append_segment(store.trunk(config))
        log_steps(store.trunk(config), config, range(steps), machine)


def finish(store: Store, config: RunConfig, *, machine: float = 0.0, end: int | None = None) -> None:
    """Does a run, and as much of its trunk as it needs; at step `end` it diverges."""
    training, response = data()
    append_segment(store.trunk(config))
    write_json(store.trunk(config) / "config.json", config.stored())
    log_steps(store.trunk(config), config, range(config.branch_step), machine, end)
    if end is None or end >= config.branch_step:
        log_steps(store.run(config), config, range(config.branch_step, config.budget_steps), machine, end)
    pool, heldout = training.pool(config), response.heldout
    noise = np.random.default_rng(config.budget_records).uniform(0.9, 1.1, heldout.hidden.shape[:2])
    write_run(
        store,
        config,
        pool,
        response,
        errors_RxM=None if end is not None else loss_at(config, config.budget_steps, machine) * noise,
        diverged="" if end is None else f"the training loss became nan at step {end}",
        machine=MACHINE,
        params=None,
    )


def finished_store(root, wanted, done=None, **how) -> Store:
    """A study that asks for the runs `wanted`, of which `done` (all) are."""
    store = open_store(root, "s", wanted, {"target": "t"})
    plan(store, wanted, lambda config: 1)
    for config in wanted if done is None else done:
        finish(store, config, **how)
    return store


def without_checksums(store: Store) -> None:
    """Makes of the records those of an earlier version."""
    for path in store.path.glob("runs/*/record.json"):
        tree = json.loads(path.read_text())
        write_json(path, {key: value for key, value in tree.items() if key != "checksums"})


def on(store: Store, root) -> Store:
    """The same study elsewhere."""
    return dataclasses.replace(store, root=root)
