"""The learning curve of a trunk: at which steps it is measured, its file, and what a reader may count on."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import pandas as pd

from ecg_jax.config import RunConfig

CURVE = "curve.csv"
COLUMNS = {"trunk_id": str, "records_seen": int, "loss": float}
#: What a log calls a point of the curve.
CURVE_METRIC = "eval/heldout/loss"


#: The first step at which a trunk is evaluated.
FIRST_CURVE_STEP = 8


def curve_steps(last: int) -> list[int]:
    """Steps at which a trunk is evaluated: a half-octave grid that no budget changes, up to `last`."""
    return sorted({step for j in range(80) if FIRST_CURVE_STEP <= (step := round(2 ** (j / 2))) <= last})


def points(lines: Iterable[dict[str, Any]]) -> dict[int, float]:
    """The loss by step in a trunk's log: at the stable rate, under the first frozen mask of every record."""
    return {line["step"] + 1: line[CURVE_METRIC] for line in lines if CURVE_METRIC in line}


def curve_text(config: RunConfig, losses: Mapping[int, float]) -> str:
    """The file of a trunk's curve, from its losses by step."""
    steps = sorted(losses)
    frame = pd.DataFrame(
        {
            "trunk_id": config.trunk_id,
            "records_seen": [step * config.batch_records for step in steps],
            "loss": [losses[step] for step in steps],
        }
    )
    return frame.to_csv(index=False, lineterminator="\n")


def curve_points(text: str, batch_records: int) -> dict[int, float]:
    """The losses by step in the file of a curve, which was read without a fault: each the very number it was."""
    cells = [line.split(",") for line in text.splitlines()[1:]]
    return {int(seen) // batch_records: float(loss or math.nan) for _, seen, loss in cells}


def curve_until(text: str, branch_step: int) -> str:
    """What the file of a curve holds of the steps up to `branch_step`: to the run that left there, it never changes."""
    return "".join(text.splitlines(keepends=True)[: 1 + len(curve_steps(branch_step))])


def curve_fault(seen: Sequence[int], losses: Sequence[float], config: RunConfig) -> str:
    """What is wrong with a curve that should reach to where `config` leaves the trunk, with a loss at every step of the
    grid, in order; "" if nothing."""
    if any(later <= earlier for earlier, later in itertools.pairwise(seen)):
        return "has records_seen that do not rise"
    held = {records for records, loss in zip(seen, losses) if math.isfinite(loss)}
    missing = [step * config.batch_records for step in curve_steps(config.branch_step)]
    missing = [records for records in missing if records not in held]
    if missing:
        return f"has no loss at {missing[0]} records seen, one of {len(missing)} points that run {config.run_id} had"
    return ""
