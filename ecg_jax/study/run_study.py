"""Doing a study: every run of it that is not done yet, pack by pack, with progress."""

from __future__ import annotations

import contextlib
import logging
import math
import os
import signal
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from types import FrameType

import jax

from ecg_jax.codec import fingerprint
from ecg_jax.config import RunConfig
from ecg_jax.distributed.agreement import assert_same_on_all, broadcast_from_primary, code_fingerprint, is_primary
from ecg_jax.distributed.mesh import make_mesh
from ecg_jax.evaluate.response import Response, signals_kept
from ecg_jax.files.lease import LostOwnershipError, Ownership, acquire, describe
from ecg_jax.monitor.progress import StudyProgress
from ecg_jax.scaling.flops import parameters
from ecg_jax.store.layout import Store
from ecg_jax.study.agenda import NOBODY, Agenda
from ecg_jax.study.deadline import Slot
from ecg_jax.study.packing import Pack, is_measured, measured_size, plan
from ecg_jax.study.run_pack import Hooks, Keep, run_pack
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
    placement: Placement | None = None,
    pack_size: int | None = None,
    minutes: float | None = None,
    profile: Path | None = None,
    wait: bool = True,
) -> int:
    """Does the runs of `targets` that are not done, and returns how many are left. `responses` maps
    `RunConfig.response` to what it names, and `keep` says which runs leave their encoder.

    Several jobs may do one study: each pack has one owner, and who is done early waits for the others, to take over
    what one of them leaves behind, unless `wait` is False. `placement` is the device's on accelerators and the host's
    elsewhere, and `pack_size` is measured, unless they are given. With `minutes`, only packs that will be done in them
    are begun, in their order, and these write rows and no checkpoints; what is left then waits for the next start.
    `profile` is a folder for a trace of the first steps. Sets the mesh over all devices. Raises StoppedError after
    Ctrl-C, SIGTERM or SIGHUP, with everything saved.

    In a job of several processes all call it, with the same store in a folder that all of them see; the first one
    decides and writes. Raises ProcessesError, before the first step, when they do not have the same code or runs.
    """
    slot = Slot(minutes)
    assert_same_on_all("code", code_fingerprint())
    assert_same_on_all("runs and data", fingerprint([[target.run_id for target in targets], sorted(responses)]))
    if wrong := broadcast_from_primary(
        signals_kept(store.path / "responses", responses.values()) if is_primary() else ""
    ):
        raise ValueError(wrong)
    # Orbax tells of every save at this level; progress is told by the bars.
    logging.getLogger("absl").setLevel(logging.ERROR)
    placement = placement or (Placement.HOST if jax.default_backend() == "cpu" else Placement.DEVICE)
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
            profiler=Profiler(profile),
        )
        measuring = pack_size is None and is_measured()

        def size_of(config: RunConfig) -> int:
            size = measured_size(config) if pack_size is None else pack_size
            if measuring:
                progress.say(f"{parameters(config.model).blocks:,} parameters: packs of {size} train fastest here")
            return size

        agenda = Agenda(store, slot) if is_primary() else None
        known: list[Pack] = []

        def plan_more(new_shapes: int | None) -> bool:
            """Plans at most so many shapes that have no packs yet; whether there are more packs now."""
            nonlocal known
            planned = {runs[0].trunk_id for pack in known for runs in pack.members}
            if all(target.trunk_id in planned for target in targets):
                return False
            before, known = len(known), _planned(store, targets, size_of, new_shapes, told)
            if agenda is not None:
                agenda.plan(known)
            return len(known) > before

        plan_more(0 if measuring else None)  # measuring takes long: a shape's turn comes when nothing else can be done
        while True:
            turn = agenda.take() if agenda is not None else NOBODY
            number, others = broadcast_from_primary([turn.number, turn.others])
            if number is None:
                if not broadcast_from_primary(slot.is_over()) and plan_more(1):
                    continue
                if not others or not wait:
                    break
                names = sorted({describe(store.pack(known[k].pack_id)) for k in others} - {""})
                progress.wait(f"waiting for {len(others)} packs that {' and '.join(names)} train")
                time.sleep(LOOK_SECONDS)
            else:
                try:  # one, and then what fits is asked again
                    _do(store, known[number], turn.owner, data, responses, placement, hooks, progress)
                except StoppedError:
                    if numbers := broadcast_from_primary(told):
                        raise StoppedError(numbers[0]) from None
                    break
            if numbers := broadcast_from_primary(told):
                raise StoppedError(numbers[0])
        left = len(targets) - len(_done(store, targets))
        if left:
            progress.say(f"{left} of {len(targets)} runs are left: the same command goes on with what nobody does")
        return left


def _done(store: Store, targets: Sequence[RunConfig]) -> list[RunConfig]:
    """The runs that have their record, as the first process sees it."""
    return [targets[k] for k in broadcast_from_primary([k for k, run in enumerate(targets) if store.is_done(run)])]


def _planned(
    store: Store,
    targets: Sequence[RunConfig],
    size_of: Callable[[RunConfig], int],
    new_shapes: int | None,
    told: Sequence[int],
) -> list[Pack]:
    owner = None
    while is_primary() and not told and (owner := acquire(store.packs)) is None:
        time.sleep(0.1)
    if numbers := broadcast_from_primary([] if owner else told):
        raise StoppedError(numbers[0])
    with owner or contextlib.nullcontext():
        return plan(store, targets, size_of, new_shapes)


def _do(
    store: Store,
    pack: Pack,
    owner: Ownership | None,
    data: TrainingData,
    responses: Mapping[str, Response],
    placement: Placement,
    hooks: Hooks,
    progress: StudyProgress,
) -> None:
    """Does a pack that the first process owns, unless it loses it."""
    with owner or contextlib.nullcontext():
        try:
            run_pack(store, pack, data, responses[pack.shape.response], owner, placement=placement, hooks=hooks)
        except LostOwnershipError as error:
            progress.say(str(error))


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
