"""The log of a trunk, or of the cool-down of a run: one JSONL file of metrics by step."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from ecg_jax.files.whole_file import append_text, damaged, jsonl, read_lines, write_text
from ecg_jax.store.curve import curve_steps, points

LOG = "metrics.jsonl"
LOSS, NORM = "train/loss", "norm/grad"
#: Metrics of a run that diverges, and of no other, may be no numbers.
_MAY_DIVERGE = ("train/", "norm/", "eval/")


class MetricsLog:
    """A log that is being written.

    What it holds already stays, and is not logged again when a part of a run is done once more. With `writes` False,
    for a process that follows another, it changes nothing. `may_write` is asked before anything reaches the disk: who
    has lost the pack keeps its lines to itself.
    """

    def __init__(self, path: Path, *, writes: bool = True, may_write: Callable[[], bool] = lambda: True):
        lines = read_metrics(path)
        if writes and may_write():
            write_text(path, jsonl(lines))  # without a line that a kill cut short
        self._path, self._writes, self._may_write = path, writes, may_write
        self._pending: list[str] = []
        self._held = {line_key(line) for line in lines}

    def add(self, step: int, values: dict[str, float]) -> None:
        """Adds a line; it reaches the disk with the next `flush`, or after 50 lines."""
        line = {"step": step} | values
        if not self._writes or line_key(line) in self._held:
            return
        self._held.add(line_key(line))
        self._pending.append(json.dumps(line))
        if len(self._pending) >= 50:
            self.flush()

    def flush(self) -> None:
        """Writes all lines to disk, whole, or none where the disk is full."""
        if not self._pending or not self._may_write():
            return
        append_text(self._path, "".join(line + "\n" for line in self._pending))
        self._pending = []


def read_metrics(path: Path) -> list[dict[str, Any]]:
    """The whole lines of a log, [] where there is none; a last line cut short by a kill is left out.

    Raises ValueError with file and line for what no log holds: no step, no metric, or a metric that is no number.
    """
    lines = read_lines(path, allow_nan=True, remedy=_remedy(path))
    for number, line in enumerate(lines, 1):
        if fault := _fault(line):
            raise damaged(path, fault, line=number, remedy=_remedy(path))
    return lines


def whole_lines(path: Path) -> int:
    """How many whole lines a log has, 0 where there is none; what they say is not looked at."""
    return path.read_bytes().count(b"\n") if path.exists() else 0


def line_key(line: dict[str, Any]) -> tuple[int, str]:
    """A line's step and the first of its metrics, which tell it from any other."""
    return line["step"], next(name for name in line if name != "step")


def divergence(path: Path, lines: Sequence[dict[str, Any]]) -> tuple[int, float] | None:
    """The first step at which the training loss of a log was no longer finite, and that loss; None where it always was.

    Raises ValueError where the loss is no number, but its gradient was, and training went on: the file was damaged.
    """
    losses = [line for line in lines if LOSS in line]
    ends = [line for line in losses if not math.isfinite(line[LOSS])]
    last = max((line["step"] for line in losses if math.isfinite(line[LOSS])), default=-1)
    for line in ends:
        if line["step"] < last and math.isfinite(line.get(NORM, math.nan)):
            what = f"has the loss {line[LOSS]} at step {line['step']}, after which training went on"
            raise damaged(path, what, remedy=_remedy(path))
    return (ends[0]["step"], ends[0][LOSS]) if ends else None


def reach(path: Path, lines: Sequence[dict[str, Any]]) -> float:
    """The step up to which the log of a trunk lacks nothing, neither a step before it nor a point of the curve;
    infinite where it holds all up to where the trunk diverged."""
    trained = {line["step"] for line in lines if LOSS in line}
    last = next(step for step in range(len(trained) + 1) if step not in trained)
    end, measured = divergence(path, lines), points(lines)
    upto, whole = (end[0], math.inf) if end is not None and end[0] < last else (last, last)
    gaps = [step - 1 for step in curve_steps(upto) if step not in measured]
    return min(gaps, default=whole)


def read_trunk_log(path: Path, steps: int) -> list[dict[str, Any]]:
    """The log of a trunk that runs which did not diverge left after `steps`. Raises ValueError where it lacks one."""
    lines = read_metrics(path)
    divergence(path, lines)
    if fault := lacks(lines, range(steps), diverged=False):
        raise damaged(path, fault, remedy=_remedy(path))
    return lines


def lacks(lines: Sequence[dict[str, Any]], steps: range, *, diverged: bool) -> str:
    """What is wrong with the log of a run that is done and took `steps`, all of them unless it diverged; "" if
    nothing."""
    losses = {line["step"]: line[LOSS] for line in lines if LOSS in line}
    if diverged and not losses:
        return ""  # in its trunk: it never began to cool down
    for step in steps:
        if step not in losses:
            return f"lacks step {step} of {steps.start} to {steps.stop - 1}"
        if not math.isfinite(losses[step]):
            return "" if diverged else f"has the loss {losses[step]} at step {step} of a run that did not diverge"
    return ""


def _fault(line: dict[str, Any]) -> str:
    step = line.get("step")
    if type(step) is not int or step < 0 or len(line) < 2:
        return (
            f"holds step {step!r} and {max(len(line) - 1, 0)} metrics, where a step counted from 0 and a metric are due"
        )
    for name, value in line.items():
        if type(value) not in (int, float):
            return f"holds {name} {value!r}, which is no number"
        if not math.isfinite(value) and not name.startswith(_MAY_DIVERGE):
            return f"holds {name} {value}, which no run logs"
    return ""


def _remedy(path: Path) -> str:
    if path.parent.parent.name == "runs":
        return f"copy it again from where it came, or delete {path.parent}: the next start does that run again"
    left = "where all runs of this trunk are done, the folder of one of them as well"
    return f"copy it again from where it came, or delete it ({left}): the next start does it again"
