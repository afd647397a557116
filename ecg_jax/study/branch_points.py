"""The states at which the runs of a pack leave their trunks: in memory while the pack is short, else on disk."""

from __future__ import annotations

from collections.abc import Callable, Collection

import jax
import jax.numpy as jnp

from ecg_jax.train.checkpoint import Checkpoints
from ecg_jax.train.step import TrainState, step_of


class BranchPoints:
    """Train states by step. `like()` gives the shapes and shardings of one; `check()` raises where this process may
    write no more, and is asked before each save."""

    def __init__(self, checkpoints: Checkpoints, like: Callable[[], TrainState], check: Callable[[], None]):
        self._checkpoints, self._like, self._check = checkpoints, like, check
        self._held: dict[int, TrainState] = {}

    @property
    def steps(self) -> set[int]:
        """The steps whose state is at hand."""
        return {*self._held, *self._checkpoints.steps}

    @property
    def saved_steps(self) -> list[int]:
        """Those on disk, rising."""
        return self._checkpoints.steps

    def hold(self, step: int, state: TrainState) -> None:
        """Keeps a copy in memory: the train step consumes its argument."""
        self._held[step] = _copy(state)

    def save(self, step: int, state: TrainState) -> None:
        """Begins to save a state, after those that were held in memory only."""
        self.save_held()
        self._checkpoints.save(step, state)

    def save_held(self) -> None:
        """Saves what is held in memory only, before the pack is left."""
        self._check()
        for step, state in self._held.items():
            self._checkpoints.save(step, state)

    def newest(self, at_most: int) -> tuple[TrainState, int] | None:
        """The newest state at a step up to `at_most`, and its step; None where there is none."""
        if held := [step for step in self._held if step <= at_most]:
            return _copy(self._held[max(held)]), max(held)
        found = self._checkpoints.restore(self._like(), at_most=at_most) if self._checkpoints.steps else None
        return None if found is None else (found, step_of(found))

    def at(self, step: int) -> TrainState | None:
        """The state at a step; None where what was saved is no longer whole."""
        if step in self._held:
            return _copy(self._held[step])
        return self._checkpoints.restore(self._like(), exactly=step)

    def set_aside(self, step: int, reason: str) -> None:
        """Puts a checkpoint aside, with a warning."""
        self._checkpoints.set_aside(step, reason)

    def keep(self, needed: Collection[int]) -> None:
        """Drops the states of all other steps; the newest checkpoint stays to go on from."""
        self._held = {step: state for step, state in self._held.items() if step in needed}
        self._checkpoints.keep({*needed, *self._checkpoints.steps[-1:]})


def _copy(state: TrainState) -> TrainState:
    return jax.tree.map(jnp.copy, state)
