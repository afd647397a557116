"""What a study does next: of its packs the first that is not done, that may be begun now, and that nobody has.

A study of ten thousand runs asks this thousands of times, so the answer must cost no more for a longer study. What is
done stays done: a pack is looked at when its turn comes, whoever did it, and never again once its runs have records.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from ecg_jax.config import RunConfig
from ecg_jax.files.lease import Ownership, acquire
from ecg_jax.store.layout import Store
from ecg_jax.study.deadline import Rates, Slot
from ecg_jax.study.packing import Pack


class Turn(NamedTuple):
    """The number of the pack that was taken, None if none could be, with its ownership; and the numbers of those that
    might have been begun, but for others who train them."""

    number: int | None
    owner: Ownership | None
    others: list[int]


#: What the other processes of a job know of a turn before the first one tells them.
NOBODY = Turn(None, None, [])


class Agenda:
    """The packs of a study in their order. The first process keeps it, and decides."""

    def __init__(self, store: Store, slot: Slot):
        self._store, self._slot = store, slot
        self._packs: Sequence[Pack] = ()
        self._left: dict[int, None] = {}  # the numbers of packs that were not seen to be done, in order
        self._done: set[str] = set()
        self._rates = Rates()
        if slot.ends:  # else nobody asks how long a pack takes
            self._learn(run for run in store.targets() if store.is_done(run))

    def plan(self, packs: Sequence[Pack]) -> None:
        """Hears which packs there are, in their order."""
        self._packs = packs
        self._left = {number: None for number, pack in enumerate(packs) if pack.pack_id not in self._done}

    def take(self) -> Turn:
        """Takes the first pack that can be begun now."""
        others: list[int] = []
        for number in list(self._left):
            pack = self._packs[number]
            if not self._slot.holds(self._rates.expected_seconds(pack)) or self._is_done(number):
                continue
            if owner := acquire(self._store.pack(pack.pack_id)):
                return Turn(number, owner, others)
            others.append(number)
        return Turn(None, None, others)

    def _is_done(self, number: int) -> bool:
        """Whether all runs of a pack have their record; if so, it is never asked for again."""
        pack = self._packs[number]
        if not all(map(self._store.is_done, pack.runs)):
            return False
        del self._left[number]
        self._done.add(pack.pack_id)
        if self._slot.ends:
            self._learn(pack.runs)
        return True

    def _learn(self, runs: Iterable[RunConfig]) -> None:
        for run in runs:
            self._rates.add(self._store.record(run))
