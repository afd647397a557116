"""Convergence speed in two definitions that are never mixed: records to a fixed loss, and to close most of an own gap.

Both read constant-rate curves (`curve.csv`) only; cooled-down runs are points of another curve and are refused.
Intervals of ratios stand in `censored`, times read off a fitted law in `law_times`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from scaling_fits.tables.run_table import RunTable, require_columns

REACHED_SHARE_MIN = 0.9
CURVE_COLUMNS = ("trunk_id", "records_seen", "loss")
REACHED, NOT_REACHED, BEFORE_FIRST = "reached", "not_reached", "before_first_point"


@dataclass(frozen=True)
class SpeedRatio:
    """Records of arm a over records of arm b to one loss, geometric mean over pairs of trunks (size, seed).

    `ratio` is None unless at least 90 % of the trunks of both arms reach the target; then `bound` is, where one can be
    given, ("at least" | "at most", value), and `reason` says why. `log_sd` is the spread of ln ratio over pairs.
    """

    target: float
    ratio: float | None
    log_sd: float | None
    pairs: int
    reached_a: tuple[int, int]
    reached_b: tuple[int, int]
    bound: tuple[str, float] | None
    reason: str | None


def read_curves(curves: pd.DataFrame) -> pd.DataFrame:
    """Constant-rate curves sorted by trunk and records; ValueError for run tables, repeated or non-positive points."""
    require_columns(curves, CURVE_COLUMNS, "curve table")
    if "run_id" in curves or "branch_step" in curves:
        raise ValueError("curve table: has run columns; constant-rate curves and cooled-down runs are never mixed")
    curves = curves[list(CURVE_COLUMNS)].sort_values(["trunk_id", "records_seen"], kind="stable")
    curves = curves[curves["records_seen"] > 0]
    if curves.duplicated(["trunk_id", "records_seen"]).any():
        twice = curves[curves.duplicated(["trunk_id", "records_seen"])].iloc[0]
        where = f"trunk {twice['trunk_id']!r}, {twice['records_seen']:g} records"
        raise ValueError(f"curve table: two points at {where}")
    if not (curves["loss"].dropna() > 0).all():
        raise ValueError("curve table: loss must be positive")
    return curves[np.isfinite(curves["loss"])].reset_index(drop=True)


def records_to_target(curves: pd.DataFrame, target: float | pd.Series) -> pd.DataFrame:
    """Records each trunk needs to reach loss `target` (one number, or a Series by trunk_id), log-log interpolated.

    Columns: trunk_id, target, `records` (first crossing; NaN unless reached), `status` (reached, not_reached,
    before_first_point), `first_records`, `last_records`, `last_loss`.
    """
    if np.ndim(target) == 0 and not target > 0:
        raise ValueError(f"target loss must be positive, not {target}")
    rows = []
    for trunk, curve in read_curves(curves).groupby("trunk_id", sort=True):
        goal = float(target[trunk]) if isinstance(target, pd.Series) else float(target)
        records, loss = curve["records_seen"].to_numpy(dtype=float), curve["loss"].to_numpy(dtype=float)
        at, status = _first_crossing(records, loss, goal)
        rows.append((trunk, goal, at, status, records[0], records[-1], loss[-1]))
    names = ["trunk_id", "target", "records", "status", "first_records", "last_records", "last_loss"]
    return pd.DataFrame(rows, columns=names)


def records_to_close(
    curves: pd.DataFrame, table: RunTable, share: float = 0.9, *, baseline: str = "loss_mean"
) -> pd.DataFrame:
    """Relative speed: records to close `share` of the gap between the mean baseline and the trunk's own last loss.

    Own last loss is the constant-rate curve's last point; the column `baseline` of the trunk's rows holds the mean
    baseline on the records and masks of the curve. Columns as `records_to_target`.
    """
    require_columns(table.frame, ["trunk_id", baseline], table.source)
    start = table.frame.groupby("trunk_id")[baseline].first()
    last = read_curves(curves).groupby("trunk_id")["loss"].last()
    unknown = last.index.difference(start.index)
    if len(unknown):
        raise ValueError(f"{table.source}: {len(unknown)} trunks of the curve table have no run, first {unknown[0]!r}")
    return records_to_target(curves, start[last.index] - share * (start[last.index] - last))


def add_axes(times: pd.DataFrame, table: RunTable) -> pd.DataFrame:
    """Times joined with their trunk's axes (n_params, seed, real_fraction, ...), and `flops`, `real_records` to there.

    FLOPs and records are proportional along a constant-rate curve, so the run's own FLOPs per record are used.
    """
    wanted = ["trunk_id", "n_params", "n_params_total", "seed", "real_fraction", "unique_real_patients", "pool_shuffle"]
    require_columns(table.frame, ["trunk_id", "n_params", "records_seen", "real_fraction"], table.source)
    runs = table.frame.drop_duplicates("trunk_id")
    axes = runs[[column for column in wanted if column in runs]].copy()
    if "train_flops" in runs:
        axes["_flops"] = runs["train_flops"] / runs["records_seen"]
    joined = times.merge(axes, on="trunk_id", validate="one_to_one")
    joined["real_records"] = joined["records"] * joined["real_fraction"]
    if "_flops" in joined:
        joined["flops"] = joined["records"] * joined.pop("_flops")
    return joined


def speed_ratio(
    times_a: pd.DataFrame, times_b: pd.DataFrame, *, on: Sequence[str] = ("n_params", "seed"), measure: str = "records"
) -> SpeedRatio:
    """`measure` ("records", "flops", "real_records") of arm a over arm b to a common absolute target, paired by `on`.

    Takes frames from `add_axes`. Raises ValueError when the arms were timed to different targets.
    """
    targets = np.unique([*times_a["target"], *times_b["target"]])
    if targets.size != 1:
        raise ValueError(f"a ratio needs one absolute target for both arms, not {targets.size} targets")
    reached = [((t["status"] == REACHED).sum(), len(t)) for t in (times_a, times_b)]
    counts = [(int(k), int(n)) for k, n in reached]
    pairs = times_a.merge(times_b, on=list(on), suffixes=("_a", "_b"))
    both = pairs[(pairs["status_a"] == REACHED) & (pairs["status_b"] == REACHED)]
    log_ratio = np.log(both[f"{measure}_a"]) - np.log(both[f"{measure}_b"])
    enough = all(k >= REACHED_SHARE_MIN * n > 0 for k, n in counts)
    if enough and len(both):
        spread = float(log_ratio.std(ddof=1)) if len(both) > 1 else None
        ratio = float(np.exp(log_ratio.mean()))
        return SpeedRatio(float(targets[0]), ratio, spread, len(both), counts[0], counts[1], None, None)
    words = f"arm a: {counts[0][0]} of {counts[0][1]} trunks reach the target, arm b: {counts[1][0]} of {counts[1][1]}"
    bound = _bound(pairs, measure)
    return SpeedRatio(
        float(targets[0]), None, None, len(pairs), counts[0], counts[1], bound, f"{words}; a ratio needs 90 % of both"
    )


def _bound(pairs: pd.DataFrame, measure: str) -> tuple[str, float] | None:
    """Bound on the geometric mean ratio when all of one arm reaches and the other is cut off at its last point."""
    scale = {side: _per_record(pairs, measure, side) for side in "ab"}
    for slow, fast, word in (("a", "b", "at least"), ("b", "a", "at most")):
        cut_ok = pairs[f"status_{slow}"].isin([REACHED, NOT_REACHED]).all()
        if not len(pairs) or not cut_ok or not (pairs[f"status_{fast}"] == REACHED).all():
            continue
        slow_records = pairs[f"records_{slow}"].fillna(pairs[f"last_records_{slow}"]) * scale[slow]
        log_ratio = np.log(slow_records) - np.log(pairs[f"records_{fast}"] * scale[fast])
        value = float(np.exp(log_ratio.mean()))
        return (word, value) if slow == "a" else (word, 1 / value)
    return None


def _per_record(pairs: pd.DataFrame, measure: str, side: str) -> pd.Series | float:
    """Units of `measure` per record; at a cut-off point it is known only for records and real records."""
    if measure == "records":
        return 1.0
    if measure == "real_records":
        return pairs[f"real_fraction_{side}"]
    return (pairs[f"{measure}_{side}"] / pairs[f"records_{side}"]).groupby(pairs["n_params"]).transform("median")


def _first_crossing(records: np.ndarray, loss: np.ndarray, target: float) -> tuple[float, str]:
    below = np.flatnonzero(loss <= target)
    if not len(below):
        return np.nan, NOT_REACHED
    i = below[0]
    if i == 0:
        # An exact hit on the first point is a measurement; anything lower was crossed unseen.
        return (float(records[0]), REACHED) if loss[0] == target else (np.nan, BEFORE_FIRST)
    share = (np.log(loss[i - 1]) - np.log(target)) / (np.log(loss[i - 1]) - np.log(loss[i]))
    return float(np.exp(np.log(records[i - 1]) + share * (np.log(records[i]) - np.log(records[i - 1])))), REACHED
