"""The second phase of a pack: from a branch point, the cool-downs of the runs of one budget, to their records."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from ecg_jax.config import RunConfig
from ecg_jax.store.metrics_log import MetricsLog
from ecg_jax.study.branch_points import BranchPoints
from ecg_jax.study.members import End, Members
from ecg_jax.terminal.command import StoppedError
from ecg_jax.train import schedule
from ecg_jax.train.step import TrainState, step_of


def cool_down(
    members: Members, branch_points: BranchPoints, runs: Sequence[tuple[int, RunConfig]], state: TrainState
) -> None:
    """Takes the runs of one budget, each with its member, from their branch point to the end, and writes them.

    All members of the pack are trained, since they are one program; only those of `runs` are heard of.
    """
    first = runs[0][1]
    members.find_ends(first.branch_step)
    configs = [dataclasses.replace(config, budget_records=first.budget_records) for config in members.trunks]
    logs: list[MetricsLog | None] = [None] * len(members.trunks)
    for k, config in runs:
        logs[k] = members.open_log(members.store.run(config))
    ends: dict[int, End] = {}
    stream = members.feed.batches(range(first.branch_step, first.budget_steps))
    state = members.train(state, stream, logs, schedule.branch_rate, configs, ends)
    if step_of(state) < first.budget_steps:
        branch_points.save_held()  # it begins again at its own
        raise StoppedError
    for log in logs:
        if log is not None:
            log.flush()
    errors_KxRxM = members.errors(state.params)
    times = members.clock.lap(first, len(members.trunks), len(runs))
    for k, config in runs:
        in_trunk = members.ends.get(k)
        end = in_trunk if in_trunk and in_trunk.step < first.branch_step else ends.get(k)
        members.finish(k, config, end or (errors_KxRxM[k], state.params), times)
