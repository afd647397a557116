"""Doing a pack: its trunks at a stable rate, then, from saved branch points, the cool-downs of its runs.

Each run is evaluated on the frozen records and gets its record, last. Killed at any moment and started again, a pack
goes on from its last checkpoint and ends with the same numbers. A member whose loss is no longer finite stops alone.
"""

from __future__ import annotations

import dataclasses
import functools
import itertools
import math
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ecg_jax.config import RunConfig
from ecg_jax.distributed.agreement import broadcast_from_primary, is_primary
from ecg_jax.distributed.mesh import check_batch
from ecg_jax.evaluate import heldout as held
from ecg_jax.evaluate.response import Response, check_held_out, check_response
from ecg_jax.files.lease import LostOwnershipError, Ownership
from ecg_jax.files.whole_file import write_json
from ecg_jax.store.curve import curve_steps
from ecg_jax.store.layout import Store
from ecg_jax.store.metrics_log import LOG, MetricsLog, divergence, reach, read_metrics
from ecg_jax.study.packing import Pack
from ecg_jax.study.write_run import append_segment, write_run
from ecg_jax.terminal.command import StoppedError
from ecg_jax.train import schedule
from ecg_jax.train.checkpoint import Checkpoints, abstract
from ecg_jax.train.input_pipeline import Placement, feed_of
from ecg_jax.train.loop import Finished, train
from ecg_jax.train.step import Program, TrainState, member, program, step_of, whole
from ecg_jax.train.timing import Clock, Profiler
from ecg_jax.train.training_data import TrainingData, check_information

#: A pack is saved at its branch points and, where these lie far apart, every so many steps after so long a time.
SAVE_STEPS, SAVE_SECONDS = 500, 60.0
#: A pack that will be done in less keeps its branch points in memory and writes rows only.
SHORT_SECONDS = 30.0
#: Of several processes, how often they ask each other whether to stop.
STEPS_BETWEEN_QUESTIONS = 16

#: Hears of every finished step of a run: config, step, training loss.
OnStep = Callable[[RunConfig, int, float], None]
#: Hears of every finished run: config and record.
OnRun = Callable[[RunConfig, dict[str, Any]], None]
#: Whether the weights of a run are kept, as an encoder.
Keep = Callable[[RunConfig], bool]


@dataclasses.dataclass(frozen=True)
class End:
    """Where a member's training loss was no longer finite."""

    step: int
    loss: float

    @property
    def message(self) -> str:
        """What the record says of it."""
        return f"the training loss became {self.loss} at step {self.step}"


def _never() -> bool:
    return False


@dataclasses.dataclass(frozen=True)
class Hooks:
    """What a study wants to hear and decide: see `OnStep`, `OnRun`, `Keep`.

    `stop()` ends a pack after its step. `slot_left()` are the seconds until it will, infinite where nobody knows: a
    pack that is done sooner writes rows and no checkpoint. `profiler` traces the first steps that are trained.
    """

    on_step: OnStep = lambda config, step, loss: None
    on_run: OnRun = lambda config, record: None
    keep: Keep = lambda config: False
    stop: Callable[[], bool] = _never
    slot_left: Callable[[], float] = lambda: math.inf
    profiler: Profiler = dataclasses.field(default_factory=lambda: Profiler(None))


def run_pack(
    store: Store,
    pack: Pack,
    data: TrainingData,
    response: Response,
    owner: Ownership | None,
    *,
    placement: Placement = Placement.HOST,
    hooks: Hooks = Hooks(),
) -> None:
    """Does every run of a pack that is not done yet. Needs a mesh in force and, in the first process, which alone
    writes and decides, the ownership of the pack's folder.

    A run whose loss becomes non-finite, and those of its trunk that would branch later, are recorded as diverged. Runs
    that `hooks.keep` asks for, and that did not diverge, leave their encoder. Raises StoppedError when `hooks.stop`
    asked to.
    """
    if broadcast_from_primary(all(store.is_done(run) for run in pack.runs)):
        return
    check_batch(pack.shape.batch_records)
    check_held_out(data.real, data.synthetic, response)
    for runs in pack.members:
        check_information(runs[-1], data)
        check_response(runs[-1], response)
        if is_primary():
            write_json(store.trunk(runs[-1]) / "config.json", runs[-1].stored())
    with Checkpoints(store.checkpoints(pack.pack_id)) as checkpoints:
        _PackRun(store, pack, data, response, owner, checkpoints, placement, hooks).run()


class _PackRun:
    """The state of one call of `run_pack`."""

    def __init__(
        self,
        store: Store,
        pack: Pack,
        data: TrainingData,
        response: Response,
        owner: Ownership | None,
        checkpoints: Checkpoints,
        placement: Placement,
        hooks: Hooks,
    ):
        self.store, self.pack, self.response, self.owner = store, pack, response, owner
        self.checkpoints, self.placement, self.hooks = checkpoints, placement, hooks
        self.leads = [runs[-1] for runs in pack.members]
        self.pools = [data.pool(config) for config in self.leads]
        self.feed = feed_of(self.leads, data, placement)
        self.program: Program = program(self.leads[0], self.feed.read)
        self.decays = np.array([config.optim.weight_decay for config in self.leads])
        self.ends: dict[int, End] = {}  # members that diverged in their trunk
        self.branches: dict[int, TrainState] = {}  # branch points held in memory, by step
        self.clock = Clock()
        self.steps_heard = 0
        if is_primary():
            for config in self.leads:
                append_segment(store.trunk(config))

    def run(self) -> None:
        """Trains the trunks to the branch points that are wanting, then cools down run after run."""
        self._set_aside_unlogged()
        while left := self._left():
            steps = {config.branch_step for _, config in left}
            if wanting := broadcast_from_primary(sorted(steps - {*self.branches, *self.checkpoints.steps})):
                self._train_trunks(wanting)
            for budget in sorted({config.budget_records for _, config in left}):
                group = [(k, config) for k, config in left if config.budget_records == budget]
                state = self._branch_point(group[0][1].branch_step)
                if state is None:
                    break  # it proved damaged: the trunk goes there once more
                self._cool_down(group, state)
                self._forget()

    def _left(self) -> list[tuple[int, RunConfig]]:
        """The runs that have no record, with their members. Those of a trunk that diverged before them get theirs."""
        for k, runs in enumerate(self.pack.members):
            for config in runs:
                ended = k in self.ends and config.branch_step > self.ends[k].step
                if ended and not broadcast_from_primary(self.store.is_done(config)):
                    times = self.clock.lap(config, len(self.leads), 1)
                    self._finish(k, config, None, self.ends[k].message, times)
        runs = [(k, config) for k, runs in enumerate(self.pack.members) for config in runs]
        left = [number for number, (_, config) in enumerate(runs) if not self.store.is_done(config)]
        return [runs[number] for number in broadcast_from_primary(left)]

    def _set_aside_unlogged(self) -> None:
        """Checkpoints that a trunk's log does not reach are set aside: what is missing of it is trained again."""
        if not self.checkpoints.steps:
            return
        reached = {path: reach(path, read_metrics(path)) for path in map(self._log_path, self.leads)}
        behind = min(reached, key=reached.__getitem__)
        after = [[s, str(behind)] for s in self.checkpoints.steps if s > reached[behind]]
        for step, path in broadcast_from_primary(after):
            self.checkpoints.set_aside(step, f"{path} lacks a part of what was trained before it")

    # ---- the trunks ---------------------------------------------------------------------------------------------

    def _train_trunks(self, wanting: list[int]) -> None:
        """Trains from the newest usable state to the last of the branch points `wanting`, saving each."""
        state, step = self._start(wanting[0])
        self._find_ends(step)
        # What stands at a checkpointed step is logged before the save, so a later start finds it there.
        logs = [self._log(self.store.trunk(config)) for config in self.leads]
        curve = {s for s in curve_steps(wanting[-1]) if s > step}
        stream = self.feed.batches(range(step, wanting[-1]))
        stops = sorted({*curve, *range(step + SAVE_STEPS, wanting[-1], SAVE_STEPS), *(s for s in wanting if s >= step)})
        saved = time.monotonic()
        for stop in stops:
            state = self._train(state, itertools.islice(stream, stop - step), logs, schedule.trunk_rate, self.leads)
            step = step_of(state)
            if step < stop:
                self._save(step, state, logs)
                raise StoppedError
            if stop in curve:
                errors_KxRxM = self._errors(state.params, masks=1)
                for k, log in enumerate(logs):
                    if k not in self.ends:
                        loss = held.overall(errors_KxRxM[k], self.response.heldout)
                        log.add(step - 1, {"eval/heldout/loss": loss})
            is_short, is_due = broadcast_from_primary([self._is_short(), time.monotonic() - saved > SAVE_SECONDS])
            if stop in wanting and is_short:
                self.branches[stop] = jax.tree.map(jnp.copy, state)
            elif stop in wanting or is_due:
                self._save(step, state, logs)
                saved = time.monotonic()
            if len(self.ends) == len(self.leads):
                break
        for log in logs:
            log.flush()

    def _start(self, first: int) -> tuple[TrainState, int]:
        """The newest state from which all branch points from `first` on can be reached, and its step."""
        state = self.program.init(np.array([config.seed for config in self.leads]))
        if held := [step for step in self.branches if step <= first]:
            return jax.tree.map(jnp.copy, self.branches[max(held)]), max(held)
        found = self.checkpoints.restore(abstract(state), at_most=first)
        return (state, 0) if found is None else (found, step_of(found))

    def _find_ends(self, before: int) -> None:
        """Members whose trunk diverged before a step that is on disk already diverged there."""
        found = [divergence(path, read_metrics(path)) for path in map(self._log_path, self.leads)]
        ended = [[k, end[0], str(end[1])] for k, end in enumerate(found) if end and end[0] < before]
        for k, step, loss in broadcast_from_primary(ended):
            self.ends.setdefault(k, End(step, float(loss)))

    def _save(self, step: int, state: TrainState, logs: Sequence[MetricsLog]) -> None:
        for log in logs:
            log.flush()
        self._save_branches()
        with self.clock.saving():
            self.checkpoints.save(step, state)

    def _save_branches(self) -> None:
        """Saves the branch points that were held in memory only, before the pack is left."""
        self._check_owner()
        for step, branch in self.branches.items():
            self.checkpoints.save(step, branch)

    def _is_short(self) -> bool:
        """Whether the pack, at the rate of its steps so far, ends before a checkpoint pays, or within its slot."""
        seconds = self.clock.step_seconds * self.pack.steps
        fits_slot = seconds < self.hooks.slot_left() < math.inf
        return (seconds < SHORT_SECONDS or fits_slot) and not self.checkpoints.steps

    # ---- the cool-downs -----------------------------------------------------------------------------------------

    def _branch_point(self, step: int) -> TrainState | None:
        """The state at a branch point; None when what was saved is no longer whole."""
        if step in self.branches:
            return jax.tree.map(jnp.copy, self.branches[step])  # the train step consumes its argument
        return self.checkpoints.restore(abstract(self.program.init(np.zeros(len(self.leads)))), exactly=step)

    def _cool_down(self, group: list[tuple[int, RunConfig]], state: TrainState) -> None:
        """Takes the runs of one budget from their branch point to its end."""
        self._find_ends(group[0][1].branch_step)
        budget, branch = group[0][1].budget_steps, group[0][1].branch_step
        configs = [dataclasses.replace(config, budget_records=group[0][1].budget_records) for config in self.leads]
        logs: list[MetricsLog | None] = [None] * len(self.leads)
        for k, config in group:
            logs[k] = self._log(self.store.run(config))
        ends: dict[int, End] = {}
        stream = self.feed.batches(range(branch, budget))
        state = self._train(state, stream, logs, schedule.branch_rate, configs, ends)
        if step_of(state) < budget:
            self._save_branches()  # it begins again at its own
            raise StoppedError
        for log in logs:
            if log is not None:
                log.flush()
        errors_KxRxM = self._errors(state.params)
        times = self.clock.lap(group[0][1], len(self.leads), len(group))
        for k, config in group:
            end = self.ends[k] if k in self.ends and self.ends[k].step < branch else ends.get(k)
            if end:
                self._finish(k, config, None, end.message, times)
            else:
                self._finish(k, config, errors_KxRxM[k], "", times, functools.partial(member, state.params, k))

    def _forget(self) -> None:
        """Drops the branch points that no run needs any more; the newest checkpoint stays to go on from."""
        needed = {config.branch_step for _, config in self._left()}
        self.branches = {step: state for step, state in self.branches.items() if step in needed}
        self.checkpoints.keep({*needed, *self.checkpoints.steps[-1:]})

    # ---- both ---------------------------------------------------------------------------------------------------

    def _train(
        self,
        state: TrainState,
        stream: Any,
        logs: Sequence[MetricsLog | None],
        rate: Callable[[RunConfig, int], float],
        configs: Sequence[RunConfig],
        ends: dict[int, End] | None = None,
    ) -> TrainState:
        ends = self.ends if ends is None else ends

        def heard(finished: Finished) -> None:
            self.clock.heard(finished)
            for k, (log, config) in enumerate(zip(logs, configs, strict=True)):
                if log is None or k in ends:
                    continue
                loss = float(finished.losses[k])
                log.add(
                    finished.step,
                    {
                        "train/loss": loss,
                        "norm/grad": float(finished.norms[k]),
                        "opt/lr": rate(config, finished.step),
                        "perf/step_seconds": finished.seconds,
                        "perf/input_seconds": finished.waited,
                    },
                )
                if not math.isfinite(loss):
                    ends[k] = End(finished.step, loss)
                self.hooks.on_step(config, finished.step, loss)

        def rates(step: int) -> np.ndarray:
            return np.array([rate(config, step) for config in configs])

        return train(
            self.program,
            state,
            self.hooks.profiler.around(stream),
            rates,
            self.decays,
            resident=self.feed.resident,
            on_step=heard,
            stop=self._stop,
        )

    def _stop(self) -> bool:
        """Whether to stop, at the same step on all processes; several ask now and then, since it takes them time."""
        self.steps_heard += 1
        if jax.process_count() == 1:
            return self.hooks.stop()
        return self.steps_heard % STEPS_BETWEEN_QUESTIONS == 0 and broadcast_from_primary(self.hooks.stop())

    def _log(self, folder: Path) -> MetricsLog:
        may_write = self.owner.is_held if self.owner is not None else lambda: True
        return MetricsLog(folder / LOG, writes=is_primary(), may_write=may_write)

    def _log_path(self, trunk: RunConfig) -> Path:
        return self.store.trunk(trunk) / LOG

    def _check_owner(self) -> None:
        """Raises LostOwnershipError, on all processes, when the first one has lost the pack."""
        lost = ""
        try:
            if self.owner is not None:
                self.owner.check()
        except LostOwnershipError as error:
            lost = str(error)
        if lost := broadcast_from_primary(lost):
            raise LostOwnershipError(lost)

    def _errors(self, params_K: Any, masks: int | None = None) -> np.ndarray:
        """The errors of all members on the frozen records, `(K, R, masks)`."""
        model, heldout = self.program.model, self.response.heldout
        options = {"objective": self.leads[0].objective, "masks": masks}
        if len(self.leads) == 1:  # without an axis of one, as in the train step
            return held.model_errors(model, member(params_K, 0), heldout, **options)[None]
        return held.pack_errors(model, params_K, heldout, **options)

    def _finish(
        self,
        k: int,
        config: RunConfig,
        errors_RxM: np.ndarray | None,
        diverged: str,
        times: dict[str, float | None],
        params: Callable[[], Any] = dict,
    ) -> None:
        """Writes a run. `errors_RxM` is None, and `diverged` says why, where it diverged."""
        kept = whole(params()) if self.hooks.keep(config) and errors_RxM is not None else None
        self._check_owner()
        if not is_primary():
            return
        record = write_run(
            self.store,
            config,
            self.pools[k],
            self.response,
            errors_RxM=errors_RxM,
            diverged=diverged,
            machine={"pack_size": len(self.leads), "placement": self.placement.value} | times,
            params=kept,
        )
        self.hooks.on_run(config, record)
