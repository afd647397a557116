"""Checkpoints of a trunk's train state: the one file that knows Orbax.

Only the train state is saved: the position in the data is `state.step`. Saves run in the background, each with a
digest per leaf, which is checked when it is read again; what proves damaged is set aside as `<step>.damaged`.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterable
from typing import Any, Self

import jax

from ecg_jax.distributed.agreement import broadcast_from_primary, is_primary
from ecg_jax.extras import needs
from ecg_jax.files.whole_file import disk_full, is_disk_full, naming
from ecg_jax.train.checksum import digests

with needs("train"):
    from etils import epath
    from orbax.checkpoint import v1 as ocp

_log = logging.getLogger(__name__)


class Checkpoints:
    """The checkpoints under one folder, or under `gs://`. A context manager that waits, at its end, for the save in
    flight."""

    def __init__(self, directory: epath.PathLike):
        self._directory = epath.Path(directory).resolve()
        self._saving: tuple[int, Any] | None = None
        with naming(directory):
            self._checkpointer = ocp.training.Checkpointer(
                self._directory,
                preservation_policy=ocp.training.preservation_policies.PreserveAll(),  # `keep` decides
                cleanup_tmp_directories=True,  # left by a save that was killed
            )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        failed = kind is not None
        try:
            self.wait()
        except Exception:
            failed = True
            raise
        finally:
            # Closing may raise the failure of a save once more, raw, in place of the error that explains it.
            with contextlib.suppress(Exception) if failed else contextlib.nullcontext():
                self._checkpointer.close()

    @property
    def steps(self) -> list[int]:
        """The steps that are whole on disk, ascending: as the first process sees them."""
        return broadcast_from_primary(sorted(checkpoint.step for checkpoint in self._checkpointer.checkpoints))

    def save(self, step: int, state: Any) -> None:
        """Begins to save `state` at `step`, once the save before has ended; a step already there stays as it is.

        `state` may be given away (donated) as soon as this returns. Raises RuntimeError when this save or the one
        before was declined, and OSError when it could not be written; earlier checkpoints stay.
        """
        self.wait()
        if step in self.steps:
            return
        metadata = {"digests": digests(state)}
        # `force`: Orbax otherwise declines a step below the newest, and tells so only by what it returns.
        with naming(self._directory):
            begun = self._checkpointer.save_async(step, state, force=True, custom_metadata=metadata)
        if begun is None:
            raise RuntimeError(f"the checkpoint of step {step} was declined (steps on disk: {self.steps})")
        self._saving = (step, begun)

    def wait(self) -> None:
        """Waits for the save in flight; raises as `save` says."""
        if self._saving is None:
            return
        (step, begun), self._saving = self._saving, None
        try:
            saved = begun.result()
        except Exception as error:  # Orbax and TensorStore raise many kinds; each leaves the step unfinished
            if is_disk_full(error):
                what = f"no space left for the checkpoint of step {step} (whole on disk: {self.steps})"
                raise disk_full(self._directory, what) from error
            raise
        if not saved:
            raise RuntimeError(f"the checkpoint of step {step} was not saved (steps on disk: {self.steps})")

    def keep(self, steps: Iterable[int]) -> None:
        """Deletes all checkpoints but those of `steps`."""
        self.wait()
        for step in set(self.steps) - set(steps):
            with naming(self._directory):
                self._checkpointer.delete(step)

    def restore(self, abstract_state: Any, *, at_most: int | None = None, exactly: int | None = None) -> Any | None:
        """The newest state saved at `at_most` or before, or `exactly` there, placed as `abstract_state` says; None if
        there is none.

        A checkpoint that cannot be read, or whose digests are not those it was saved with, is set aside as
        `<step>.damaged`, with a warning, and the next older one is tried. Raises ValueError when one holds other
        shapes than `abstract_state`.
        """
        self.wait()
        steps = [s for s in self.steps if (at_most is None or s <= at_most) and (exactly is None or s == exactly)]
        for step in reversed(steps):
            state = self._read(step, abstract_state)
            if state is not None:
                return state
        return None

    def _read(self, step: int, abstract_state: Any) -> Any | None:
        metadata: Any = None
        failed = ""
        try:
            metadata = self._checkpointer.metadata(step)
            found = metadata.custom_metadata["digests"]
        except Exception as error:
            failed = f"its metadata cannot be read ({error})"
        if failed := broadcast_from_primary(failed):
            self.set_aside(step, failed)
            return None
        _check_shapes(self._directory / str(step), metadata.metadata, abstract_state)
        try:
            state = self._checkpointer.load(step, abstract_state)
        except Exception as error:
            self.set_aside(step, f"it cannot be read ({error})")
            return None
        now = digests(state)
        changed = sorted(name for name in now if now[name] != found.get(name))
        if changed:
            self.set_aside(step, f"{len(changed)} of {len(now)} arrays changed on disk, such as {changed[0]}")
            return None
        return state

    def set_aside(self, step: int, reason: str) -> None:
        """Renames a checkpoint to `<step>.damaged`, with a warning that gives the reason."""
        self.wait()
        damaged = self._directory / f"{step}.damaged"
        count = 1
        while damaged.exists():
            count += 1
            damaged = self._directory / f"{step}.damaged{count}"
        if is_primary():
            (self._directory / str(step)).rename(damaged)
        broadcast_from_primary(None)  # all wait for it
        self._checkpointer.reload()
        _log.warning("the checkpoint %s was set aside as %s: %s", self._directory / str(step), damaged.name, reason)


def abstract(state: Any) -> Any:
    """Shapes, types and shardings of a train state."""
    return jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=x.sharding), state)


def _check_shapes(path: epath.Path, found: Any, expected: Any) -> None:
    ours, theirs = _shapes(expected), _shapes(found)
    for name in [name for name in {**ours, **theirs} if ours.get(name) != theirs.get(name)][:1]:
        raise ValueError(
            f"{path} holds {name} of shape {theirs.get(name, 'none')}, the run's state {ours.get(name, 'none')}: "
            "it is of another model or pack"
        )


def _shapes(tree: Any) -> dict[str, tuple[int, ...]]:
    leaves, _ = jax.tree.flatten_with_path(tree, is_leaf=lambda leaf: hasattr(leaf, "shape"))
    return {"/".join(map(_plain, path)): tuple(leaf.shape) for path, leaf in leaves}


def _plain(key: Any) -> str:
    """A step of a path, whether of a dataclass, a dict or a list."""
    return str(next(getattr(key, name) for name in ("name", "key", "idx") if hasattr(key, name)))
