"""The members of a pack, trained together: what its trunks and its cool-downs share."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np

from ecg_jax.config import RunConfig
from ecg_jax.distributed.agreement import broadcast_from_primary, is_primary
from ecg_jax.evaluate import heldout as held
from ecg_jax.evaluate.response import Response
from ecg_jax.files.lease import LostOwnershipError, Ownership
from ecg_jax.store.layout import Store
from ecg_jax.store.metrics_log import LOG, MetricsLog, divergence, read_metrics
from ecg_jax.study.hooks import Hooks
from ecg_jax.study.packing import Pack
from ecg_jax.study.write_run import append_segment, write_run
from ecg_jax.train.checkpoint import abstract
from ecg_jax.train.input_pipeline import Placement, feed_of
from ecg_jax.train.loop import Finished, train
from ecg_jax.train.step import Program, TrainState, member, program, whole
from ecg_jax.train.timing import Clock
from ecg_jax.train.training_data import TrainingData

#: Of several processes, how often they ask each other whether to stop.
STEPS_BETWEEN_QUESTIONS = 16


@dataclasses.dataclass(frozen=True)
class End:
    """Where a member's training loss was no longer finite."""

    step: int
    loss: float

    @property
    def message(self) -> str:
        """What the record says of it."""
        return f"the training loss became {self.loss} at step {self.step}"


class Members:
    """One call's members: `trunks[k]` is the longest run of member k, and `ends[k]` where its trunk diverged.

    Needs a mesh in force. `owner` is the pack's ownership in the first process, which alone writes.
    """

    def __init__(
        self,
        store: Store,
        pack: Pack,
        data: TrainingData,
        response: Response,
        owner: Ownership | None,
        placement: Placement,
        hooks: Hooks,
    ):
        self.store, self.pack, self.hooks = store, pack, hooks
        self.trunks = [runs[-1] for runs in pack.members]
        self.feed = feed_of(self.trunks, data, placement)
        self.clock = Clock()
        self.ends: dict[int, End] = {}
        self._response, self._owner, self._placement = response, owner, placement
        self._pools = [data.pool(config) for config in self.trunks]
        self._program: Program = program(self.trunks[0], self.feed.read)
        self._decays = np.array([config.optim.weight_decay for config in self.trunks])
        self._steps_heard = 0
        if is_primary():
            for config in self.trunks:
                append_segment(store.trunk(config))

    def init(self) -> TrainState:
        """The members' states before their first step."""
        return self._program.init(np.array([config.seed for config in self.trunks]))

    def like(self) -> TrainState:
        """Shapes and shardings of the members' states."""
        return abstract(self._program.init(np.zeros(len(self.trunks))))

    # ---- runs -----------------------------------------------------------------------------------------------------

    def runs_left(self) -> list[tuple[int, RunConfig]]:
        """The runs that have no record, with their members. Those of a trunk that diverged before them get theirs."""
        runs = [(k, config) for k, of_member in enumerate(self.pack.members) for config in of_member]
        for k, config in runs:
            ended = k in self.ends and config.branch_step > self.ends[k].step
            if ended and not broadcast_from_primary(self.store.is_done(config)):
                self.finish(k, config, self.ends[k], self.clock.lap(config, len(self.trunks), 1))
        left = [number for number, (_, config) in enumerate(runs) if not self.store.is_done(config)]
        return [runs[number] for number in broadcast_from_primary(left)]

    def find_ends(self, before: int) -> None:
        """Members whose trunk diverged before a step that is on disk already diverged there."""
        found = [divergence(path, read_metrics(path)) for path in map(self.log_path, self.trunks)]
        ended = [[k, end[0], str(end[1])] for k, end in enumerate(found) if end and end[0] < before]
        for k, step, loss in broadcast_from_primary(ended):
            self.ends.setdefault(k, End(step, float(loss)))

    def log_path(self, trunk: RunConfig) -> Path:
        """The log of a trunk."""
        return self.store.trunk(trunk) / LOG

    def open_log(self, folder: Path) -> MetricsLog:
        """The log in a folder, which the owner alone may write."""
        may_write = self._owner.is_held if self._owner is not None else lambda: True
        return MetricsLog(folder / LOG, writes=is_primary(), may_write=may_write)

    # ---- training -------------------------------------------------------------------------------------------------

    def train(
        self,
        state: TrainState,
        batches: Iterator[Any],
        logs: Sequence[MetricsLog | None],
        rate: Callable[[RunConfig, int], float],
        configs: Sequence[RunConfig],
        ends: dict[int, End],
    ) -> TrainState:
        """Takes a step per batch unless the study says stop. `logs[k]`, if there is one, hears of member k until it
        diverges, which `ends` then tells."""

        def heard(finished: Finished) -> None:
            self.clock.heard(finished)
            for k, (log, config) in enumerate(zip(logs, configs, strict=True)):
                if log is None or k in ends:
                    continue
                loss = float(finished.losses[k])
                log.add(finished.step, _columns(finished, k, rate(config, finished.step)))
                if not math.isfinite(loss):
                    ends[k] = End(finished.step, loss)
                self.hooks.on_step(config, finished.step, loss)

        return train(
            self._program,
            state,
            self.hooks.profiler.around(batches),
            lambda step: np.array([rate(config, step) for config in configs]),
            self._decays,
            resident=self.feed.resident,
            on_step=heard,
            stop=self._stop,
        )

    def _stop(self) -> bool:
        """Whether to stop, at the same step on all processes; several ask now and then, since it takes them time."""
        self._steps_heard += 1
        if jax.process_count() == 1:
            return self.hooks.stop()
        return self._steps_heard % STEPS_BETWEEN_QUESTIONS == 0 and broadcast_from_primary(self.hooks.stop())

    # ---- results --------------------------------------------------------------------------------------------------

    def errors(self, params_K: Any, masks: int | None = None) -> np.ndarray:
        """The errors of all members on the frozen records, `(K, R, masks)`."""
        model, heldout = self._program.model, self._response.heldout
        objective = self.trunks[0].objective
        if len(self.trunks) == 1:  # without an axis of one, as in the train step
            return held.model_errors(model, member(params_K, 0), heldout, objective=objective, masks=masks)[None]
        return held.pack_errors(model, params_K, heldout, objective=objective, masks=masks)

    def loss(self, errors_RxM: np.ndarray) -> float:
        """The held-out loss of a member's errors."""
        return held.overall(errors_RxM, self._response.heldout)

    def finish(
        self,
        k: int,
        config: RunConfig,
        outcome: End | tuple[np.ndarray, Any],
        times: dict[str, float | None],
    ) -> None:
        """Writes a run of member k: where it diverged, or its errors `(R, masks)` and the parameters of all members."""
        diverged, errors_RxM, kept = "", None, None
        if isinstance(outcome, End):
            diverged = outcome.message
        else:
            errors_RxM, params_K = outcome
            kept = whole(member(params_K, k)) if self.hooks.keep(config) else None
        self.check_owner()
        if not is_primary():
            return
        record = write_run(
            self.store,
            config,
            self._pools[k],
            self._response,
            errors_RxM=errors_RxM,
            diverged=diverged,
            machine={"pack_size": len(self.trunks), "placement": self._placement.value} | times,
            params=kept,
        )
        self.hooks.on_run(config, record)

    def check_owner(self) -> None:
        """Raises LostOwnershipError, on all processes, when the first one has lost the pack."""
        lost = ""
        try:
            if self._owner is not None:
                self._owner.check()
        except LostOwnershipError as error:
            lost = str(error)
        if lost := broadcast_from_primary(lost):
            raise LostOwnershipError(lost)


def _columns(finished: Finished, k: int, rate: float) -> dict[str, float]:
    """What the log says of a member's step."""
    return {
        "train/loss": float(finished.losses[k]),
        "norm/grad": float(finished.norms[k]),
        "opt/lr": rate,
        "perf/step_seconds": finished.seconds,
        "perf/input_seconds": finished.waited,
    }
