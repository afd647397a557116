"""Merging stores: the runs that several machines did of one study, in one place.

A run that both hold stays as it is in the target, and so does what it knows of a trunk; what the source knows beyond it
comes with the runs. That they agree is checked: equal runs may differ by rounding and no more. Up to where the last of
its runs left a trunk, its log and curve are those of the store that did that run. Every run and every file is brought
whole, a trunk before its runs, so a merge that was killed is done again and ends where it would have.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import logging
import math
import shutil
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from ecg_jax.codec import differences
from ecg_jax.config import RunConfig
from ecg_jax.files.lease import acquire, describe
from ecg_jax.files.whole_file import jsonl, read_csv, read_text, write_texts
from ecg_jax.files.whole_folder import Maker, making, placed
from ecg_jax.store.curve import COLUMNS, CURVE, curve_points, curve_text, points
from ecg_jax.store.finished import (
    CONFIG,
    Finished,
    check_alike,
    check_curves,
    read_config,
    read_curves,
    read_log,
    read_patients,
    read_sources,
)
from ecg_jax.store.layout import Store, read_study, write_study
from ecg_jax.store.metrics_log import LOG, LOSS, divergence, line_key, reach, read_metrics
from ecg_jax.store.segments import SEGMENTS, read_segments

#: Losses of one run on two kinds of machine differ by rounding that grows over its steps: by about 1 % at the end.
AGREEMENT = 0.05
#: Seconds between looks at a study whose packs are being planned.
LOOK_SECONDS = 0.1
_log = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True)
class Merged:
    """Runs copied, runs that both stores held, the largest relative difference of these losses, and trunks of which
    something was brought. `left` runs, and their trunks, are in packs that the processes `busy` train in the target."""

    copied: int
    held_by_both: int
    largest_difference: float
    trunks: int
    left: int
    busy: tuple[str, ...]


def merge(source: Store, target: Store) -> Merged:
    """Brings the finished runs of `source`, with what it knows of their trunks, that `target` lacks.

    Waits while the target's packs are being planned; a pack that another process trains there is left to it, and
    counted. Raises ValueError, before anything is copied, when the studies were made with other settings, when a run or
    a trunk that both hold has losses that differ by more than 5 %, naming it, or when a file of the source is missing,
    cut or of another shape.
    """
    theirs, ours = (read_study(store.path / "study.json") for store in (source, target))
    changed = differences(ours["settings"], theirs["settings"])
    if changed:
        raise ValueError(f"{source.path} and {target.path} were made with other settings: {'; '.join(changed)}")
    done = _finished(source, source.targets())
    held = _finished(target, dict.fromkeys([*target.targets(), *done]))
    both = {config: _difference(run, held[config]) for config, run in done.items() if config in held}
    trunks, ours_too = _by_trunk(done), _by_trunk(dict.fromkeys([*target.targets(), *done]))
    _check_source(source, done, [config for config in done if config not in both])
    lasts = {trunk_id: max(runs, key=lambda config: config.branch_step) for trunk_id, runs in trunks.items()}
    for trunk_id, last in lasts.items():
        left_at = _left(trunks[trunk_id], done), _left(ours_too[trunk_id], held)
        _beyond(source.trunk(last), target.trunk(last), last, left_at)
    copied, brought, left, busy = 0, 0, 0, set()
    with _planning(target), making(target.path / "runs") as maker:
        packs = {member.trunk_id: folder for folder, members in target.recorded_packs() for member in members}
        for trunk_id, runs in trunks.items():
            with _owned(packs.get(trunk_id)) as is_ours:
                left_at = _left(runs, done), _left(ours_too[trunk_id], _finished(target, ours_too[trunk_id]))
                texts = _beyond(source.trunk(runs[0]), target.trunk(runs[0]), lasts[trunk_id], left_at)
                missing = [config for config in runs if not target.is_done(config)]
                if not is_ours:
                    left += len(missing)
                    busy |= {describe(packs[trunk_id])} if missing or texts else set()
                    continue
                write_texts(texts)
                for config in missing:
                    _copy(source.run(config), target.run(config), maker)
            copied, brought = copied + len(missing), brought + bool(texts)
        _add_targets(target, theirs["targets"])
    return Merged(copied, len(both), max(both.values(), default=0.0), brought, left, tuple(sorted(busy)))


def _finished(store: Store, configs: Iterable[RunConfig]) -> dict[RunConfig, Finished]:
    return {config: store.finished(config) for config in configs if store.is_done(config)}


def _by_trunk(configs: Iterable[RunConfig]) -> dict[str, list[RunConfig]]:
    trunks: dict[str, list[RunConfig]] = {}
    for config in configs:
        trunks.setdefault(config.trunk_id, []).append(config)
    return trunks


def _left(runs: Iterable[RunConfig], finished: Mapping[RunConfig, Finished]) -> int:
    """The step at which the last of the runs of a trunk left it that are done and did not diverge; 0 without any."""
    done = [config for config in runs if config in finished and not finished[config].record["diverged"]]
    return max((config.branch_step for config in done), default=0)


def _difference(run: Finished, ours: Finished) -> float:
    """The relative difference of a run's losses in both stores, infinite where it diverged in one alone. Raises
    ValueError where these are not one run."""
    first, second = run.record["loss"], ours.record["loss"]
    if first == second:
        return 0.0
    apart = math.inf if first is None or second is None else abs(first - second) / max(abs(first), abs(second))
    if apart > AGREEMENT:
        raise ValueError(
            f"run {run.folder.name} has losses {first} and {second} in {run.folder.parents[1]} and "
            f"{ours.folder.parents[1]}: more than {AGREEMENT:.0%} apart, so these are not one run"
        )
    return apart


def _check_source(source: Store, done: dict[RunConfig, Finished], wanted: Sequence[RunConfig]) -> None:
    """Raises OSError or ValueError unless everything that is to be brought is there, and whole."""
    trunks: dict[Path, list[tuple[RunConfig, Finished]]] = {}
    for config, run in done.items():
        trunks.setdefault(source.trunk(config), []).append((config, run))
    if trunks:
        read_curves(trunks)
        check_curves(trunks)
    check_alike(list(done.values()))
    if wanted:
        read_patients([done[config] for config in wanted])
        read_sources([done[config] for config in wanted])
    for config in wanted:
        read_config(source.run(config))
        read_log(done[config], config)


@dataclasses.dataclass(frozen=True)
class _Trunk:
    """What a store knows of a trunk: the lines of its log, the points of its curve on disk, and what ran it."""

    folder: Path
    lines: list[dict[str, Any]]
    curve: dict[int, float]
    segments: list[dict[str, Any]]

    @property
    def points(self) -> dict[int, float]:
        """The curve, of which the log may know more, or less."""
        return {step: loss for step, loss in (self.curve | points(self.lines)).items() if math.isfinite(loss)}

    @property
    def reach(self) -> float:
        return reach(self.folder / LOG, self.lines)


def _trunk(folder: Path, batch: int) -> _Trunk:
    path = folder / CURVE
    curve = {}
    if path.exists():
        read_csv([path], COLUMNS)  # whole
        curve = curve_points(read_text(path), batch)
    return _Trunk(folder, read_metrics(folder / LOG), curve, read_segments(folder))


def _beyond(source: Path, target: Path, config: RunConfig, left_at: tuple[int, int]) -> dict[Path, str]:
    """What the trunk of `config` in the folder `source` has beyond the one in `target`: files to be written there, with
    their text. Of two logs and curves those are taken of the store whose last run left later (`left_at`: source,
    target), or without runs reach further, with what they lack and the other has: a run knows its curve. Raises
    ValueError where the two do not agree."""
    theirs, ours = (_trunk(folder, config.batch_records) for folder in (source, target))
    _check_agreement(theirs, ours)
    texts = {}
    if not (target / CONFIG).exists():
        texts[target / CONFIG] = json.dumps(config.stored(), indent=1) + "\n"
    if more := [segment for segment in theirs.segments if segment not in ours.segments]:
        texts[target / SEGMENTS] = jsonl(sorted([*ours.segments, *more], key=lambda segment: segment["started"]))
    theirs_first = left_at[0] > left_at[1] or (left_at == (0, 0) and theirs.reach > ours.reach)
    first, second = (theirs, ours) if theirs_first else (ours, theirs)
    lines = {line_key(line): line for line in (*second.lines, *first.lines)}
    if lines != {line_key(line): line for line in ours.lines}:
        texts[target / LOG] = jsonl(sorted(lines.values(), key=lambda line: line["step"]))
    losses = second.points | first.points
    is_other = theirs_first and losses != ours.curve
    if is_other or theirs.points.keys() - ours.curve.keys() or not (target / CURVE).exists():
        texts[target / CURVE] = curve_text(config, losses)
    return texts


def _check_agreement(theirs: _Trunk, ours: _Trunk) -> None:
    """Raises ValueError where two trunks have losses far apart, or one diverged where the other did not."""
    scale = max(map(abs, (*theirs.points.values(), *ours.points.values())), default=0.0)
    for step in sorted(theirs.points.keys() & ours.points.keys()):
        first, second = theirs.points[step], ours.points[step]
        if abs(first - second) > AGREEMENT * scale:
            raise ValueError(
                f"the curves in {theirs.folder} and {ours.folder} have losses {first:.6g} and {second:.6g} at step "
                f"{step}: more than {AGREEMENT:.0%} apart, so these are not one trunk"
            )
    for one, other in ((theirs, ours), (ours, theirs)):
        end = divergence(one.folder / LOG, one.lines)
        if end and any(line["step"] == end[0] and math.isfinite(line.get(LOSS, math.nan)) for line in other.lines):
            raise ValueError(
                f"the trunk in {one.folder} diverged at step {end[0]}, the one in {other.folder} did not: these are "
                "not one trunk"
            )


@contextlib.contextmanager
def _planning(store: Store) -> Iterator[None]:
    """Keeps others from planning packs of a study, once nobody does."""
    waiting = False
    while (owner := acquire(store.packs)) is None:
        if not waiting:
            _log.warning("waiting: %s plans the packs of %s", describe(store.packs), store.path)
        waiting = True
        time.sleep(LOOK_SECONDS)
    with owner:
        yield


@contextlib.contextmanager
def _owned(pack: Path | None) -> Iterator[bool]:
    """Owns a pack, where there is one; whether nobody else does."""
    owner = acquire(pack) if pack is not None else contextlib.nullcontext()
    with owner or contextlib.nullcontext():
        yield owner is not None


def _copy(source: Path, target: Path, maker: Maker) -> None:
    """Copies the folder of a run, whole or not at all, in place of one that was begun."""
    with placed(target, maker, replaces=True) as building:
        shutil.copytree(source, building, dirs_exist_ok=True, ignore=shutil.ignore_patterns(".*"))


def _add_targets(store: Store, trees: Sequence[dict[str, Any]]) -> None:
    """Adds to a study's runs what it lacks of these."""
    path = store.path / "study.json"
    with making(path):
        study, known = read_study(path), {config.run_id for config in store.targets()}
        more = [tree for tree in trees if RunConfig.from_json(tree).run_id not in known]
        if more:
            write_study(path, study | {"targets": study["targets"] + more})
