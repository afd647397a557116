"""The learning curve of a trunk: at which steps it is measured, its file, and what a reader may count on."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from ecg_jax.config import RunConfig
from ecg_jax.files import damaged

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


def check_curve(path: Path, curve: pd.DataFrame, config: RunConfig, *, remedy: str) -> None:
    """Raises ValueError unless a curve reaches to where `config` leaves the trunk: every step of the grid, once, in
    order, with a loss."""
    batch = config.batch_records
    seen = curve["records_seen"].tolist()
    if not (curve["trunk_id"] == config.trunk_id).all():
        raise damaged(path, f"is not of trunk {config.trunk_id} alone", remedy=remedy)
    if any(later <= earlier for earlier, later in itertools.pairwise(seen)):
        raise damaged(path, "has records_seen that do not rise", remedy=remedy)
    held = {records: loss for records, loss in zip(seen, curve["loss"]) if math.isfinite(loss)}
    missing = [step * batch for step in curve_steps(config.branch_step) if step * batch not in held]
    if missing:
        raise damaged(
            path,
            f"has no loss at {missing[0]} records seen, one of {len(missing)} points that run {config.run_id} left "
            "behind it",
            remedy=remedy,
        )
