"""The first phase of a pack: its trunks at a stable rate, to the branch points that are wanting."""

from __future__ import annotations

import itertools
import math
import time
from collections.abc import Sequence

from ecg_jax.distributed.agreement import broadcast_from_primary
from ecg_jax.store.curve import curve_steps
from ecg_jax.store.metrics_log import MetricsLog, reach, read_metrics
from ecg_jax.study.branch_points import BranchPoints
from ecg_jax.study.members import Members
from ecg_jax.terminal.command import StoppedError
from ecg_jax.train import schedule
from ecg_jax.train.step import TrainState, step_of

#: A pack is saved at its branch points and, where these lie far apart, every so many steps after so long a time.
SAVE_STEPS, SAVE_SECONDS = 500, 60.0
#: A pack that will be done in less keeps its branch points in memory and writes rows only.
SHORT_SECONDS = 30.0


def set_aside_unlogged(members: Members, branch_points: BranchPoints) -> None:
    """Checkpoints that a trunk's log does not reach are set aside: what is missing of it is trained again."""
    if not branch_points.saved_steps:
        return
    reached = {path: reach(path, read_metrics(path)) for path in map(members.log_path, members.trunks)}
    behind = min(reached, key=reached.__getitem__)
    after = [[step, str(behind)] for step in branch_points.saved_steps if step > reached[behind]]
    for step, path in broadcast_from_primary(after):
        branch_points.set_aside(step, f"{path} lacks a part of what was trained before it")


def train_trunks(members: Members, branch_points: BranchPoints, wanting: Sequence[int]) -> None:
    """Trains from the newest usable state to the last of the branch points `wanting`, leaving each."""
    state, step = branch_points.newest(wanting[0]) or (members.init(), 0)
    members.find_ends(step)
    # What stands at a checkpointed step is logged before the save, so a later start finds it there.
    logs = [members.open_log(members.store.trunk(config)) for config in members.trunks]
    curve = {s for s in curve_steps(wanting[-1]) if s > step}
    stream = members.feed.batches(range(step, wanting[-1]))
    stops = sorted({*curve, *range(step + SAVE_STEPS, wanting[-1], SAVE_STEPS), *(s for s in wanting if s >= step)})
    saved = time.monotonic()
    for stop in stops:
        batches = itertools.islice(stream, stop - step)
        state = members.train(state, batches, logs, schedule.trunk_rate, members.trunks, members.ends)
        step = step_of(state)
        if step < stop:
            _save(members, branch_points, step, state, logs)
            raise StoppedError
        if stop in curve:
            _log_losses(members, state, logs)
        is_short, is_due = broadcast_from_primary(
            [_is_short(members, branch_points), time.monotonic() - saved > SAVE_SECONDS]
        )
        if stop in wanting and is_short:
            branch_points.hold(stop, state)
        elif stop in wanting or is_due:
            _save(members, branch_points, step, state, logs)
            saved = time.monotonic()
        if len(members.ends) == len(members.trunks):
            break
    for log in logs:
        log.flush()


def _log_losses(members: Members, state: TrainState, logs: Sequence[MetricsLog]) -> None:
    """Logs a point of the learning curve: the loss under the first mask of each held-out record."""
    errors_KxRxM = members.errors(state.params, masks=1)
    for k, log in enumerate(logs):
        if k not in members.ends:
            log.add(step_of(state) - 1, {"eval/heldout/loss": members.loss(errors_KxRxM[k])})


def _save(
    members: Members, branch_points: BranchPoints, step: int, state: TrainState, logs: Sequence[MetricsLog]
) -> None:
    for log in logs:
        log.flush()
    with members.clock.saving():
        branch_points.save(step, state)


def _is_short(members: Members, branch_points: BranchPoints) -> bool:
    """Whether the pack, at the rate of its steps so far, ends before a checkpoint pays, or within its slot."""
    seconds = members.clock.step_seconds * members.pack.steps
    fits_slot = seconds < members.hooks.slot_left() < math.inf
    return (seconds < SHORT_SECONDS or fits_slot) and not branch_points.saved_steps
