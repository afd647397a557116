"""Which pack of a study this job does next: packs are planned shape by shape, taken one by one, and shared with others.

All processes of a job hold a scheduler and ask it together; the first one decides. Where the best size of a pack must
be measured, which takes long, a shape's turn comes when nothing else can be done.
"""

from __future__ import annotations

import contextlib
import dataclasses
import time
from collections.abc import Callable, Sequence

from ecg_jax.config import RunConfig
from ecg_jax.distributed.agreement import broadcast_from_primary, is_primary
from ecg_jax.files.lease import Ownership, acquire, describe
from ecg_jax.store.layout import Store
from ecg_jax.study.agenda import NOBODY, Agenda
from ecg_jax.study.deadline import Slot
from ecg_jax.study.packing import Pack, plan
from ecg_jax.terminal.command import StoppedError


@dataclasses.dataclass(frozen=True)
class Taken:
    """A pack to be done now, and in the first process its ownership."""

    pack: Pack
    owner: Ownership | None


@dataclasses.dataclass(frozen=True)
class Elsewhere:
    """Nothing can be begun now, but others train so many packs; `owners` tells who they are."""

    packs: int
    owners: str


class Scheduler:
    """The packs of `targets`, of `size_of(run)` members each. `told` fills with the signals that tell this process to
    stop; after one, planning raises StoppedError."""

    def __init__(
        self,
        store: Store,
        targets: Sequence[RunConfig],
        slot: Slot,
        size_of: Callable[[RunConfig], int],
        told: Sequence[int],
        *,
        at_once: bool,
    ):
        self._store, self._targets, self._slot, self._size_of, self._told = store, targets, slot, size_of, told
        self._agenda = Agenda(store, slot) if is_primary() else None
        self._packs: list[Pack] = []
        self._plan_more(None if at_once else 0)

    def next(self) -> Taken | Elsewhere | None:
        """What to do now; None where there is nothing more to do in this slot."""
        while True:
            turn = self._agenda.take() if self._agenda is not None else NOBODY
            number, others = broadcast_from_primary([turn.number, turn.others])
            if number is not None:
                return Taken(self._packs[number], turn.owner)
            if broadcast_from_primary(self._slot.is_over()) or not self._plan_more(1):
                break
        if not others:
            return None
        names = sorted({describe(self._store.pack(self._packs[k].pack_id)) for k in others} - {""})
        return Elsewhere(len(others), " and ".join(names))

    def _plan_more(self, new_shapes: int | None) -> bool:
        """Plans at most so many shapes that have no packs yet; whether there are more packs now."""
        planned = {runs[0].trunk_id for pack in self._packs for runs in pack.members}
        if all(target.trunk_id in planned for target in self._targets):
            return False
        before = len(self._packs)
        with self._ownership() or contextlib.nullcontext():
            self._packs = plan(self._store, self._targets, self._size_of, new_shapes)
        if self._agenda is not None:
            self._agenda.plan(self._packs)
        return len(self._packs) > before

    def _ownership(self) -> Ownership | None:
        """That of the store's list of packs, in the first process; waits for it."""
        owner = None
        while is_primary() and not self._told and (owner := acquire(self._store.packs)) is None:
            time.sleep(0.1)
        if numbers := broadcast_from_primary([] if owner else list(self._told)):
            raise StoppedError(numbers[0])
        return owner
