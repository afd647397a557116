"""Merging stores: the runs that several machines did of one study, in one place.

A run that both hold stays as it is in the target; that their results agree is checked, since equal runs may differ by
rounding and no more.
"""

from __future__ import annotations

import dataclasses
import math
import os
import shutil
from pathlib import Path

from ecg_jax.codec import differences
from ecg_jax.config import RunConfig
from ecg_jax.store import Store, read_study, write_json

#: Losses of one run on two kinds of machine differ by rounding that grows over its steps: by about 1 % at the end.
AGREEMENT = 0.05


@dataclasses.dataclass(frozen=True)
class Merged:
    """Runs copied, runs that both stores held, and the largest relative difference of these losses."""

    copied: int
    held_by_both: int
    largest_difference: float


def merge(source: Store, target: Store) -> Merged:
    """Copies the finished runs of `source`, with their trunks' curves, that `target` lacks.

    Raises ValueError, before anything is copied, when the studies were made with other settings, or when a run that
    both hold has losses that differ by more than 5 %, naming it.
    """
    theirs, ours = (read_study(store.path / "study.json") for store in (source, target))
    changed = differences(ours["settings"], theirs["settings"])
    if changed:
        raise ValueError(f"{source.path} and {target.path} were made with other settings: {'; '.join(changed)}")
    done = [config for config in source.targets() if source.is_done(config)]
    both = [config for config in done if target.is_done(config)]
    apart = {config: _difference(source, target, config) for config in both}
    worst = max(apart, key=apart.__getitem__, default=None)
    if worst is not None and apart[worst] > AGREEMENT:
        raise ValueError(
            f"run {worst.run_id} has losses {source.record(worst)['loss']} and {target.record(worst)['loss']} in "
            f"{source.path} and {target.path}: more than {AGREEMENT:.0%} apart, so these are not one run"
        )
    missing = [config for config in done if config not in apart]
    for config in missing:
        if not target.trunk(config).exists():
            _copy(source.trunk(config), target.trunk(config))
        _copy(source.run(config), target.run(config))
    known = {RunConfig.from_json(tree).run_id for tree in ours["targets"]}
    more = [tree for tree in theirs["targets"] if RunConfig.from_json(tree).run_id not in known]
    write_json(target.path / "study.json", ours | {"targets": ours["targets"] + more})
    return Merged(len(missing), len(both), max(apart.values(), default=0.0))


def _difference(a: Store, b: Store, config: RunConfig) -> float:
    """The relative difference of a run's losses; infinite where it diverged in one store alone."""
    first, second = a.record(config)["loss"], b.record(config)["loss"]
    if first is None or second is None:
        return 0.0 if first == second else math.inf
    return abs(first - second) / max(abs(first), abs(second))


def _copy(source: Path, target: Path) -> None:
    """Copies a folder, whole or not at all."""
    temporary = target.with_name(f".{target.name}.{os.getpid()}")
    shutil.rmtree(temporary, ignore_errors=True)
    shutil.copytree(source, temporary)
    if target.exists():  # begun here, and not finished
        shutil.rmtree(target)
    temporary.rename(target)
