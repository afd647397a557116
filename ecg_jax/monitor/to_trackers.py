"""Replays the logs of a study to TensorBoard or Weights & Biases. `metrics.jsonl` stays the truth: nothing writes to
either while runs train, and a replay may be done again at any time."""

from __future__ import annotations

import calendar
import dataclasses
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from ecg_jax.codec import to_json
from ecg_jax.config import RunConfig
from ecg_jax.extras import needs
from ecg_jax.files.whole_folder import whole_folder
from ecg_jax.scaling.flops import parameters
from ecg_jax.store.finished import read_log
from ecg_jax.store.layout import Store
from ecg_jax.store.metrics_log import LOG, read_metrics, read_trunk_log
from ecg_jax.store.segments import STAMP, read_segments


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
    """The logs of all trunks and runs that a study has begun.

    Raises ValueError, naming the file, where the log of a run that is done lacks a step, or was damaged.
    """
    by_trunk: dict[str, list[RunConfig]] = {}
    for run in store.targets():
        by_trunk.setdefault(run.trunk_id, []).append(run)
    return [log for runs in by_trunk.values() for log in _logs(store, runs) if log.lines]


def _logs(store: Store, runs: Sequence[RunConfig]) -> Iterator[Log]:
    """The log of the trunk of `runs`, and theirs."""
    folder, lead = store.trunk(runs[0]), runs[0]
    size = f"{parameters(lead.model).blocks:,}".replace(",", "_")
    name = f"{size}-r{lead.data.real_fraction:g}-seed{lead.seed}-{lead.trunk_id}"
    segments = read_segments(folder)
    started = _seconds(segments[0]["started"]) if segments else 0.0
    done = {run: store.finished(run) for run in runs if store.is_done(run)}
    left = max((run.branch_step for run in done if not done[run].record["diverged"]), default=0)
    yield Log(f"{name}/trunk", lead.trunk_id, lead, read_trunk_log(folder / LOG, left), started)
    for run in runs:
        lines = read_log(done[run], run) if run in done else read_metrics(store.run(run) / LOG)
        yield Log(f"{name}/{run.budget_records}-records", run.run_id, run, lines, started)


def to_tensorboard(store: Store, directory: Path) -> int:
    """Writes `directory/<study>/<trunk>/<log>` with one event file each, in place of what stood there, and returns how
    many. Raises ModuleNotFoundError, with the remedy, where TensorBoard is not installed."""
    with needs("watch"):
        from tensorboard.compat.proto.event_pb2 import Event
        from tensorboard.compat.proto.summary_pb2 import Summary
        from tensorboard.summary.writer.event_file_writer import EventFileWriter
    whole = directory / store.study
    written = logs(store)
    with whole_folder(whole, replaces=True) as building:
        for log in written:
            writer = EventFileWriter(str(building / log.name))
            for now, step, metrics in log.timed():
                values = [Summary.Value(tag=name, simple_value=value) for name, value in metrics.items()]
                writer.add_event(Event(wall_time=now, step=step, summary=Summary(value=values)))
            writer.close()
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
    return calendar.timegm(time.strptime(stamp, STAMP))
