"""What of a study is done, running, waiting and failed, and how long the rest will take: from its store alone.

It reads what runs write whole, so it may look at any moment: while runs are being done, were killed, or never began.
"""

from __future__ import annotations

import contextlib
import dataclasses
import io
import statistics
import time
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from ecg_jax.config import Mixing, ModelConfig, RunConfig
from ecg_jax.files.lease import OWNER, describe, has_living_owner
from ecg_jax.scaling.cost import duration, flops
from ecg_jax.scaling.flops import parameters, train_flops_per_record
from ecg_jax.scaling.time_left import FEWEST_STEPS, WARM_UP_STEPS, estimate
from ecg_jax.store.layout import Store
from ecg_jax.store.metrics_log import LOG, read_metrics, whole_lines
from ecg_jax.terminal.command import has_reader

#: Seconds between looks of `watch`.
LOOK_SECONDS = 5.0


@dataclasses.dataclass(frozen=True)
class Running:
    """A pack that a living process trains: who does, and how far its first trunk's log has come, of its last branch
    point or budget."""

    pack_id: str
    owner: str
    members: int
    parameters: int
    step: int
    last_step: int
    flops_per_second: float | None


@dataclasses.dataclass(frozen=True)
class Status:
    """The runs of a study by what became of them; `damaged` are checkpoints that were set aside."""

    study: str
    done: tuple[RunConfig, ...]
    diverged: dict[str, str]  # run_id -> why
    running: tuple[Running, ...]
    being_done: frozenset[str]  # runs of the packs that are running
    waiting: tuple[RunConfig, ...]
    damaged: tuple[Path, ...]
    seconds_left: float | None

    @property
    def targets(self) -> int:
        """How many runs the study asked for."""
        return len(self.done) + len(self.waiting)


def status(store: Store) -> Status:
    """Looks at a study. Raises FileNotFoundError without one, ValueError for a store of another version."""
    targets = store.targets()
    finished = [store.is_done(run) for run in targets]
    done = [run for run, is_done in zip(targets, finished, strict=True) if is_done]
    left = [run for run, is_done in zip(targets, finished, strict=True) if not is_done]
    records = {run.run_id: store.record(run) for run in done}
    running, being_done = [], set()
    by_trunk: dict[str, list[RunConfig]] = {}
    for run in left:
        by_trunk.setdefault(run.trunk_id, []).append(run)
    for folder in sorted(path.parent for path in store.packs.glob(f"*/{OWNER}")):
        if not has_living_owner(folder):
            continue
        leads = store.recorded_pack(folder)
        runs = [run for lead in leads for run in by_trunk.get(lead.trunk_id, ())]
        if runs:
            being_done |= {run.run_id for run in runs}
            running.append(_running(store, folder, leads, runs))
    rates = [(r["n_params"], r["flops_per_second"]) for r in records.values() if r["flops_per_second"]]
    rates += [(pack.parameters, pack.flops_per_second) for pack in running if pack.flops_per_second]
    return Status(
        study=store.study,
        done=tuple(done),
        diverged={run_id: record["message"] for run_id, record in records.items() if record["diverged"]},
        running=tuple(running),
        being_done=frozenset(being_done),
        waiting=tuple(left),
        damaged=tuple(sorted(store.packs.glob("*/checkpoints/*.damaged*"))),
        seconds_left=_left(store, left, running, rates),
    )


def _running(store: Store, folder: Path, leads: Sequence[RunConfig], runs: Sequence[RunConfig]) -> Running:
    lead = leads[0]
    steps = read_metrics(store.trunk(lead) / LOG)
    last_step = max(run.branch_step for run in runs)
    for run in sorted(runs, key=lambda run: run.budget_records):  # the cool-down that is under way, if one is
        cooling = read_metrics(store.run(run) / LOG)
        if cooling and len(steps) and steps[-1]["step"] + 1 >= last_step:
            steps, last_step = cooling, run.budget_steps
    # The first steps compiled; of one alone nobody knows whether it did.
    timed = [line["perf/step_seconds"] for line in steps if "perf/step_seconds" in line][WARM_UP_STEPS:]
    recent = timed[-50:] if len(timed) >= FEWEST_STEPS else []
    work = len(leads) * lead.batch_records * train_flops_per_record(lead.model)
    return Running(
        pack_id=folder.name,
        owner=describe(folder),
        members=len(leads),
        parameters=parameters(lead.model).blocks,
        step=steps[-1]["step"] + 1 if steps else 0,
        last_step=last_step,
        flops_per_second=work / statistics.median(recent) if recent else None,
    )


def _left(
    store: Store, left: Sequence[RunConfig], running: Sequence[Running], rates: Sequence[tuple[int, float]]
) -> float | None:
    """Seconds for the rest, at the median rates by number of parameters of what runs and what is done, all processes
    together."""
    by_size: dict[int, list[float]] = {}
    for size, rate in rates:
        by_size.setdefault(size, []).append(rate)
    by_model: dict[ModelConfig, list[RunConfig]] = {}
    for run in left:
        by_model.setdefault(run.model, []).append(run)
    work = [(parameters(model).blocks, flops(runs, 0) - _trained(store, runs)) for model, runs in by_model.items()]
    whole = estimate(work, {size: statistics.median(of_size) for size, of_size in by_size.items()})
    return None if whole is None else max(0.0, whole.seconds) / max(1, len(running))


def _trained(store: Store, runs: Sequence[RunConfig]) -> float:
    """The FLOPs that the logs of these runs' trunks tell of."""
    return sum(
        whole_lines(store.trunk(run) / LOG) * run.batch_records * train_flops_per_record(run.model)
        for run in {run.trunk_id: run for run in runs}.values()
    )


def shown(status: Status) -> Group:
    """A status for reading."""
    failed = f", {len(status.diverged)} of them diverged"
    head = f"{status.study}: {len(status.done)} of {status.targets} runs done{failed}"
    if status.seconds_left:
        head += f"; about {duration(status.seconds_left)} left"
    parts: list[Table | Text] = [Text(head), _groups(status)]
    for pack in status.running:
        what = f"{pack.members} x {pack.parameters:,} parameters, step {pack.step:,} of {pack.last_step:,}"
        parts.append(Text(f"running: {what}: {pack.owner}"))
    reasons: dict[str, list[str]] = {}
    for run_id, reason in status.diverged.items():
        reasons.setdefault(reason, []).append(run_id)
    parts += [Text(f"diverged: {', '.join(ids)}: {reason}") for reason, ids in reasons.items()]
    parts += [Text(f"set aside, and done again: {path}") for path in status.damaged]
    return Group(*parts)


def _groups(status: Status) -> Table:
    """Runs by size, real fraction and whatever else of the data varies over the study."""
    every = [*status.done, *status.waiting]
    always = {
        "size": lambda run: f"{parameters(run.model).blocks:,}",
        "real": lambda run: f"{run.data.real_fraction:g}",
    }
    sometimes = {
        "patients": lambda run: "all" if run.data.real_patients is None else str(run.data.real_patients),
        "synthetic": lambda run: run.data.tier + (" repeated" if run.data.synthetic_records else ""),
        "mixing": lambda run: "" if run.data.mixing is Mixing.REPLACEMENT else run.data.mixing.value,
    }
    columns = always | {name: of for name, of in sometimes.items() if len(set(map(of, every))) > 1}
    table = Table(box=None, pad_edge=False, collapse_padding=True)
    for name in (*columns, "done", "running", "waiting", "diverged"):
        table.add_column(name, justify="right", no_wrap=True)
    cells: dict[tuple[str, ...], list[int]] = {}
    done = {run.run_id for run in status.done}
    for run in sorted(every, key=lambda run: (parameters(run.model).blocks, run.data.real_fraction)):
        counts = cells.setdefault(tuple(of(run) for of in columns.values()), [0, 0, 0, 0])
        counts[0 if run.run_id in done else 1 if run.run_id in status.being_done else 2] += 1
        counts[3] += run.run_id in status.diverged
    for cell, counts in cells.items():
        table.add_row(*cell, *(str(count) if count else "" for count in counts))
    return table


def watch(stores: Sequence[Store], console: Console) -> None:
    """Shows the studies until all their runs are done, or nobody reads it any more: again every few seconds in a
    terminal, and elsewhere when something has changed."""
    before = ""
    with Live(console=console, auto_refresh=False) if console.is_terminal else contextlib.nullcontext() as live:
        while has_reader():
            looks = [status(store) for store in stores]
            now = Group(*map(shown, looks))
            if live is not None:
                live.update(now, refresh=True)
            elif (text := _text(now)) != before:
                console.print(now, soft_wrap=True)
                before = text
            if not any(look.waiting for look in looks):
                return
            time.sleep(LOOK_SECONDS)


def _text(group: Group) -> str:
    file = io.StringIO()
    Console(file=file, width=120).print(group)
    return file.getvalue()
