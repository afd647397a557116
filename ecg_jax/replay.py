"""Replays the logs of a study to TensorBoard or Weights & Biases. `metrics.jsonl` stays the truth: nothing writes to
either while runs train, and a replay may be done again at any time."""

from __future__ import annotations

import calendar
import dataclasses
import os
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ecg_jax.codec import to_json
from ecg_jax.config import RunConfig
from ecg_jax.flops import parameters
from ecg_jax.store import Store, read_metrics


@dataclasses.dataclass(frozen=True)
class Log:
    """The log of a trunk, or of the cool-down of a run."""

    name: str
    identity: str
    config: RunConfig
    lines: list[dict[str, Any]]
    started: float  # seconds since 1970

    def timed(self) -> Iterator[tuple[float, int, dict[str, float]]]:
        """Wall time, step and metrics of every line. A line's time is the start plus the step seconds before it."""
        now = self.started
        for line in sorted(self.lines, key=lambda line: line["step"]):
            now += line.get("perf/step_seconds", 0.0)
            yield now, line["step"], {name: value for name, value in line.items() if name != "step"}


def logs(store: Store) -> list[Log]:
    """The logs of all trunks and runs that a study has begun."""
    found, seen = [], set()
    for run in store.targets():
        size = f"{parameters(run.model).blocks:,}".replace(",", "_")
        trunk = f"{size}-r{run.data.real_fraction:g}-seed{run.seed}-{run.trunk_id}"
        segments = read_metrics(store.trunk(run) / "segments.jsonl")
        started = _seconds(segments[0]["started"]) if segments else 0.0
        if run.trunk_id not in seen:
            seen.add(run.trunk_id)
            found.append((f"{trunk}/trunk", run.trunk_id, run, store.trunk(run), started))
        found.append((f"{trunk}/{run.budget_records}-records", run.run_id, run, store.run(run), started))
    read = [
        Log(name, identity, run, read_metrics(folder / "metrics.jsonl"), started)
        for name, identity, run, folder, started in found
    ]
    return [log for log in read if log.lines]


def to_tensorboard(store: Store, directory: Path) -> int:
    """Writes `directory/<study>/<trunk>/<log>` with one event file each, in place of what stood there, and returns how
    many. Raises ModuleNotFoundError, with the remedy, where TensorBoard is not installed."""
    try:
        from tensorboard.compat.proto.event_pb2 import Event
        from tensorboard.compat.proto.summary_pb2 import Summary
        from tensorboard.summary.writer.event_file_writer import EventFileWriter
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(f"TensorBoard is not installed ({error}): pip install 'ecg-jax[watch]'") from error
    whole = directory / store.study
    temporary = whole.with_name(f".{store.study}.{os.getpid()}")
    shutil.rmtree(temporary, ignore_errors=True)
    written = logs(store)
    for log in written:
        writer = EventFileWriter(str(temporary / log.name))
        for now, step, metrics in log.timed():
            values = [Summary.Value(tag=name, simple_value=value) for name, value in metrics.items()]
            writer.add_event(Event(wall_time=now, step=step, summary=Summary(value=values)))
        writer.close()
    shutil.rmtree(whole, ignore_errors=True)
    if written:
        temporary.rename(whole)
    return len(written)


def to_wandb(store: Store, project: str) -> int:
    """Logs every trunk and run as a W&B run of `project`, in one group per study, and returns how many.

    Raises ModuleNotFoundError, with the remedy, where wandb is not installed. A project that holds these runs already
    refuses them: W&B takes no step twice.
    """
    try:
        import wandb
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(f"Weights & Biases is not installed ({error}): pip install wandb") from error
    written = logs(store)
    for log in written:
        with wandb.init(
            project=project,
            group=store.study,
            id=log.identity,
            name=log.name,
            config=to_json(log.config),
            resume="never",
        ) as run:
            for _, step, metrics in log.timed():
                run.log(metrics, step=step)
    return len(written)


def _seconds(stamp: str) -> float:
    return calendar.timegm(time.strptime(stamp, "%Y-%m-%dT%H:%M:%SZ"))
