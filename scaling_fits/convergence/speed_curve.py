"""How much faster one arm learns than another as a function of the loss, where a single target tells one moment only.

At every loss of a grid: `measure` (records, FLOPs or real exposures) that arm a needs over what arm b needs, with the
interval of `censored.speed_effect`: paired where all trunks reach the loss, interval-censored beyond. Constant-rate
curves alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from scaling_fits.convergence.censored import speed_effect
from scaling_fits.convergence.times import REACHED, add_axes, read_curves, records_to_target
from scaling_fits.tables.run_table import RunTable

POINTS = 25


@dataclass(frozen=True)
class SpeedCurve:
    """Ratios of arm a over arm b by loss; `points` has a row per loss, from the highest down.

    Columns: `target`; `ratio`, `low`, `high` (NaN where open or unknown: see `reason`); `observed` and `censored`
    trunks; `method`. All trunks of both arms reach the losses within `common`, (highest, lowest), or None.
    """

    measure: str
    level: float
    points: pd.DataFrame
    common: tuple[float, float] | None


def speed_curve(
    curves: pd.DataFrame,
    table_a: RunTable,
    table_b: RunTable,
    *,
    targets: Sequence[float] | None = None,
    measure: str = "records",
    on: Sequence[str] = ("n_params", "seed"),
    level: float = 0.95,
) -> SpeedCurve:
    """The speed of arm a over that of arm b by loss; the tables say which trunks are whose, and pair by `on`.

    `targets` default to `POINTS` losses, equally far apart in ln L, from the lowest first loss of any trunk to the
    lowest loss that a trunk of each arm reaches. Raises ValueError for a trunk of both arms, one without a curve, or
    arms that have no loss in common.
    """
    arms = [_arm(curves, table) for table in (table_a, table_b)]
    shared = set(arms[0]["trunk_id"]) & set(arms[1]["trunk_id"])
    if shared:
        raise ValueError(f"{len(shared)} trunks stand in both arms, such as {min(shared)!r}")
    ends = [arm.groupby("trunk_id")["loss"].agg(["first", "min"]) for arm in arms]
    start = min(end["first"].min() for end in ends)
    last_of_any, last_of_all = max(end["min"].min() for end in ends), max(end["min"].max() for end in ends)
    if targets is None:
        if last_of_any >= start:
            raise ValueError(
                f"no loss is reached by both arms: every curve has begun by {start:.4g}, and one arm ends at "
                f"{last_of_any:.4g}"
            )
        targets = np.geomspace(start, last_of_any, POINTS).tolist()
    rows = []
    for target in sorted(targets, reverse=True):
        times = [
            add_axes(records_to_target(arm, target), table) for arm, table in zip(arms, (table_a, table_b), strict=True)
        ]
        rows.append(_point(times, target, measure, on, level))
    common = (float(start), float(last_of_all)) if last_of_all < start else None
    return SpeedCurve(measure, level, pd.DataFrame(rows), common)


def _arm(curves: pd.DataFrame, table: RunTable) -> pd.DataFrame:
    read = read_curves(curves)
    trunks = set(table.frame["trunk_id"])
    absent = trunks - set(read["trunk_id"])
    if absent:
        raise ValueError(f"{table.source}: {len(absent)} trunks have no curve, such as {min(absent)!r}")
    return read[read["trunk_id"].isin(trunks)]


def _point(
    times: Sequence[pd.DataFrame], target: float, measure: str, on: Sequence[str], level: float
) -> dict[str, object]:
    point: dict[str, object] = {"target": target, "ratio": np.nan, "low": np.nan, "high": np.nan}
    reached = [int((arm["status"] == REACHED).sum()) for arm in times]
    if not all(reached):
        censored = sum(map(len, times)) - sum(reached)
        reason = f"{reached[0]} trunks of a and {reached[1]} of b are seen to reach it"
        return point | {"observed": sum(reached), "censored": censored, "method": None, "reason": reason}
    effect = speed_effect(*times, on=on, measure=measure, level=level)
    if effect.ratio is not None:
        point["ratio"] = effect.ratio
    if effect.ratio_interval is not None:
        point["low"], point["high"] = (np.nan if end is None else end for end in effect.ratio_interval)
    counts = {"observed": effect.observed, "censored": effect.censored}
    return point | counts | {"method": effect.method, "reason": effect.reason}
