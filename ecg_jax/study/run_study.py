"""Doing a study: every run of it that is not done yet, pack by pack, with progress."""

from __future__ import annotations

import contextlib
import functools
import logging
import math
import os
import signal
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from types import FrameType

import jax

from ecg_jax.codec import fingerprint
from ecg_jax.config import RunConfig
from ecg_jax.distributed.agreement import assert_same_on_all, broadcast_from_primary, code_fingerprint, is_primary
from ecg_jax.distributed.mesh import make_mesh
from ecg_jax.evaluate.response import Response, signals_kept
from ecg_jax.files.lease import LostOwnershipError
from ecg_jax.monitor.progress import StudyProgress
from ecg_jax.scaling.flops import parameters
from ecg_jax.store.layout import Store
from ecg_jax.study.deadline import Slot
from ecg_jax.study.hooks import Hooks, Keep
from ecg_jax.study.options import DEFAULT, StudyOptions
from ecg_jax.study.packing import is_measured, measured_size
from ecg_jax.study.run_pack import run_pack
from ecg_jax.study.scheduler import Scheduler, Taken
from ecg_jax.terminal.command import StoppedError, heeding
from ecg_jax.train.input_pipeline import Placement
from ecg_jax.train.timing import Profiler
from ecg_jax.train.training_data import TrainingData

#: Seconds between looks at packs that other processes train.
LOOK_SECONDS = 2.0


def run_study(
    store: Store,
    targets: Sequence[RunConfig],
    data: TrainingData,
    responses: Mapping[str, Response],
    *,
    keep: Keep = lambda config: False,
    options: StudyOptions = DEFAULT,
) -> int:
    """Does the runs of `targets` that are not done, and returns how many are left. `responses` maps
    `RunConfig.response` to what it names, and `keep` says which runs leave their encoder.

    Several jobs may do one study: each pack has one owner. Sets the mesh over all devices. Raises StoppedError after
    Ctrl-C, SIGTERM or SIGHUP, with everything saved.

    In a job of several processes all call it, with the same store in a folder that all of them see; the first one
    decides and writes. Raises ProcessesError, before the first step, when they do not have the same code or runs.
    """
    slot = Slot(options.minutes)
    _assert_agreed(store, targets, responses)
    # Orbax tells of every save at this level; progress is told by the bars.
    logging.getLogger("absl").setLevel(logging.ERROR)
    placement = options.placement or (Placement.HOST if jax.default_backend() == "cpu" else Placement.DEVICE)
    done = _done(store, targets)
    evaluations = max(math.prod(response.heldout.hidden.shape[:2]) for response in responses.values())
    with jax.set_mesh(make_mesh()), StudyProgress(targets, done, evaluations) as progress, _told_to_stop() as told:
        if done:
            progress.say(f"{len(done)} of {len(targets)} runs are done already: going on with the rest")
        hooks = Hooks(
            on_step=progress.on_step,
            on_run=progress.on_run,
            keep=keep,
            stop=lambda: bool(told) or slot.is_over(),
            slot_left=slot.left,
            profiler=Profiler(options.profile),
        )
        size_of, at_once = _pack_sizes(options.pack_size, progress)
        scheduler = Scheduler(store, targets, slot, size_of, told, at_once=at_once)
        do = functools.partial(_do, store, data, responses, placement, hooks, progress)
        _work(scheduler, do, progress, told, options.wait)
        left = len(targets) - len(_done(store, targets))
        if left:
            progress.say(f"{left} of {len(targets)} runs are left: the same command goes on with what nobody does")
        return left


def _assert_agreed(store: Store, targets: Sequence[RunConfig], responses: Mapping[str, Response]) -> None:
    """Raises ProcessesError where the processes of a job have other code or runs than the first one, and ValueError
    where the store's losses were measured on other signals."""
    assert_same_on_all("code", code_fingerprint())
    assert_same_on_all("runs and data", fingerprint([[target.run_id for target in targets], sorted(responses)]))
    if wrong := broadcast_from_primary(
        signals_kept(store.path / "responses", responses.values()) if is_primary() else ""
    ):
        raise ValueError(wrong)


def _pack_sizes(pack_size: int | None, progress: StudyProgress) -> tuple[Callable[[RunConfig], int], bool]:
    """How many members the packs of a run's shape get, and whether that is known at once: measuring takes long."""
    if pack_size is not None:
        return lambda config: pack_size, True
    at_once = not is_measured()

    def size_of(config: RunConfig) -> int:
        size = measured_size(config)
        if not at_once:
            progress.say(f"{parameters(config.model).blocks:,} parameters: packs of {size} train fastest here")
        return size

    return size_of, at_once


def _done(store: Store, targets: Sequence[RunConfig]) -> list[RunConfig]:
    """The runs that have their record, as the first process sees it."""
    return [targets[k] for k in broadcast_from_primary([k for k, run in enumerate(targets) if store.is_done(run)])]


def _work(
    scheduler: Scheduler, do: Callable[[Taken], bool], progress: StudyProgress, told: Sequence[int], wait: bool
) -> None:
    """Does pack after pack, and waits for those of others, until nothing is left or the slot is over."""
    while (work := scheduler.next()) is not None:
        is_done = True
        if isinstance(work, Taken):
            is_done = do(work)  # one, and then what fits is asked again
        elif wait:
            progress.wait(f"waiting for {work.packs} packs that {work.owners} train")
            time.sleep(LOOK_SECONDS)
        else:
            return
        if numbers := broadcast_from_primary(list(told)):
            raise StoppedError(numbers[0])
        if not is_done:
            return  # its slot is over


def _do(
    store: Store,
    data: TrainingData,
    responses: Mapping[str, Response],
    placement: Placement,
    hooks: Hooks,
    progress: StudyProgress,
    work: Taken,
) -> bool:
    """Does a pack that the first process owns, unless it loses it; False where it was stopped in its midst."""
    response = responses[work.pack.shape.response]
    with work.owner or contextlib.nullcontext():
        try:
            run_pack(store, work.pack, data, response, work.owner, placement=placement, hooks=hooks)
        except LostOwnershipError as error:
            progress.say(str(error))
        except StoppedError:
            return False
    return True


@contextlib.contextmanager
def _told_to_stop() -> Iterator[list[int]]:
    """The signals that told this process to stop, the first one first. A second Ctrl-C stops it where it stands."""
    told: list[int] = []

    def hear(number: int, _: FrameType | None) -> None:
        if told and number == signal.SIGINT:
            raise KeyboardInterrupt
        told.append(number)
        if number == signal.SIGINT:
            with contextlib.suppress(OSError):  # past Python's buffers, which may be in the midst of a line
                os.write(2, b"\nstopping after this step, and saving; Ctrl-C again stops at once\n")

    with heeding(hear):
        yield told
