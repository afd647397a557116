"""Checkpoints of a trunk's train state: the one file that knows Orbax.

Only the train state is saved: the position in the data is `state.step`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Self

import jax
from orbax.checkpoint import v1 as ocp

#: How many checkpoints of a trunk stay on disk. The newest is the one to go on from.
KEPT = 2


class Checkpoints:
    """The checkpoints under one folder, saved synchronously. A context manager."""

    def __init__(self, directory: Path):
        self._checkpointer = ocp.training.Checkpointer(
            directory.resolve(),
            preservation_policy=ocp.training.preservation_policies.LatestN(KEPT),
            cleanup_tmp_directories=True,  # left by a save that was killed
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._checkpointer.close()

    @property
    def steps(self) -> list[int]:
        """The steps that are whole on disk, ascending."""
        return sorted(checkpoint.step for checkpoint in self._checkpointer.checkpoints)

    def save(self, step: int, state: Any) -> None:
        """Saves `state` at `step` and waits for it; a step that is already there stays as it is.

        Raises RuntimeError when Orbax declines the save.
        """
        if step in self.steps:
            return
        # `force`: Orbax otherwise declines a step below the newest, and tells so only by what it returns.
        if not self._checkpointer.save(step, state, force=True):
            raise RuntimeError(f"the checkpoint of step {step} was not saved (steps on disk: {self.steps})")

    def restore(self, step: int, abstract_state: Any) -> Any:
        """The state saved at `step`, placed as `abstract_state` (shapes, types and shardings) says."""
        return self._checkpointer.load(step, abstract_state)


def abstract(state: Any) -> Any:
    """Shapes, types and shardings of a train state."""
    return jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=x.sharding), state)
