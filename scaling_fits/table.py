"""Run tables: read, check, and say by name and number which rows take no part in an analysis."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd

PRE_TRANSITION_RATIO = 0.95  # of the mean baseline: above it a model has not yet learned the task
PRE_TRANSITION_SHARE_MAX = 0.10
FRESH_EPOCHS = 1.0 + 1e-9
DIVERGED, PRE_TRANSITION, NOT_FINITE = "diverged", "pre_transition", "not_finite"
DUPLICATE = "exact_duplicate"
NAMED = 5  # rows that a note names before it says how many more there are


@dataclass(frozen=True)
class RunTable:
    """A checked run table.

    `frame` holds every row in a fixed order with the column `excluded_because` ("" for rows that count).
    `pre_transition_share` is that of the study as read, and stays so when rows are selected: selecting cannot hide it.
    `run` is the column that names the rows, where there is one.
    """

    frame: pd.DataFrame
    source: str
    pre_transition_share: float
    run: str = "run_id"

    @property
    def rows(self) -> pd.DataFrame:
        """The rows that count."""
        return self.frame[self.frame["excluded_because"] == ""].drop(columns="excluded_because")

    @property
    def excluded(self) -> dict[str, int]:
        """Number of excluded rows by reason, in alphabetical order."""
        reasons = self.frame.loc[self.frame["excluded_because"] != "", "excluded_because"]
        return {str(reason): int(count) for reason, count in reasons.value_counts().sort_index().items()}

    @property
    def notes(self) -> tuple[str, ...]:
        """Rows that were given twice, by name."""
        twice = self.frame[self.frame["excluded_because"] == DUPLICATE]
        return (f"{len(twice)} rows given twice, counted once: {names(twice, self.run)}",) if len(twice) else ()

    @property
    def law_refusal(self) -> str | None:
        """Why this study states no law, or None."""
        if self.pre_transition_share <= PRE_TRANSITION_SHARE_MAX:
            return None
        return (
            f"{self.source}: {100 * self.pre_transition_share:.1f} % of the rows are pre_transition (loss above "
            f"{PRE_TRANSITION_RATIO} of the mean baseline), more than {100 * PRE_TRANSITION_SHARE_MAX:.0f} %: "
            "the study states no law; train longer or leave out the smallest budgets of the whole study"
        )

    def where(self, **equals: object) -> RunTable:
        """Rows whose columns equal the given values; ValueError for an unknown column or when nothing is left."""
        keep = pd.Series(True, index=self.frame.index)
        for column, value in equals.items():
            require_columns(self.frame, [column], self.source)
            keep &= _equals(self.frame[column], value)
        if not keep.any():
            wanted = ", ".join(f"{column} = {value!r}" for column, value in equals.items())
            seen = {column: list(pd.unique(self.frame[column].dropna()))[:8] for column in equals}
            raise ValueError(f"{self.source}: no row with {wanted}; the columns hold {seen}")
        return replace(self, frame=self.frame[keep])

    def leaving_out(self, which_N: np.ndarray, reason: str) -> RunTable:
        """The table with some of the rows that count (N,) excluded for `reason`."""
        stated = self.frame["excluded_because"].to_numpy(dtype=object, copy=True)
        stated[np.flatnonzero(stated == "")[which_N]] = reason
        return replace(self, frame=self.frame.assign(excluded_because=stated))

    def fresh(self) -> RunTable:
        """Rows in which no record, real or synthetic, was seen twice (epochs at most 1, or none of the kind)."""
        keep = pd.Series(True, index=self.frame.index)
        for column in ("epochs_real", "epochs_synthetic"):
            if column in self.frame:
                keep &= ~(self.frame[column] > FRESH_EPOCHS)
        return replace(self, frame=self.frame[keep])


def read_runs(
    source: Path | str | pd.DataFrame,
    *,
    response: str = "loss",
    numeric: Sequence[str] = (),
    positive: Sequence[str] = (),
    run: str = "run_id",
) -> RunTable:
    """Read and check a run table from a CSV file or a frame.

    Columns `response`, `numeric` and `positive` must exist and hold numbers; `positive` ones and the response must be
    above 0 wherever the row counts. Rows are left out, with a named reason, when their `exclusion` column says so,
    when they diverged, when the response is not finite, when they are pre_transition (flagged, or
    `loss` above 0.95 of `loss_mean`), or when they repeat an earlier row in every column. Raises FileNotFoundError or
    ValueError, naming file, column and row.
    """
    frame, name = _load(source)
    frame = _with_seen(frame)
    require_columns(frame, [response, *numeric, *positive], name)
    frame = _sorted(frame, run)
    for column in dict.fromkeys([response, *numeric, *positive]):
        frame[column] = _numbers(frame, column, name)
    reason = _exclusion_reasons(frame, response)
    unnumbered = frame.drop(columns=[column for column in frame if str(column).startswith("Unnamed:")])
    reason = reason.mask((reason == "") & unnumbered.duplicated(), DUPLICATE)
    kept = frame[reason == ""]
    for column in dict.fromkeys([response, *positive]):
        bad = kept[~(kept[column] > 0)]
        if len(bad):
            raise ValueError(
                f"{name}: column {column!r} must be positive, but {len(bad)} rows are not, first "
                f"{_row_name(bad, run)} with {bad[column].iloc[0]:g}; correct or exclude them"
            )
    finite = reason.isin(["", PRE_TRANSITION])
    share = float((reason[finite] == PRE_TRANSITION).mean()) if finite.any() else 0.0
    return RunTable(frame.assign(excluded_because=reason), name, share, run)


def require_columns(frame: pd.DataFrame, columns: Sequence[str], source: str) -> None:
    """ValueError naming the missing columns and those there are."""
    missing = [column for column in dict.fromkeys(columns) if column not in frame]
    if missing:
        raise ValueError(f"{source}: missing columns {missing}; the table has {list(frame.columns)}")


def names(rows: pd.DataFrame, run: str = "run_id") -> str:
    """The first rows by run, or by their place in the table, and how many more there are."""
    shown = rows[run].astype(str) if run in rows else "row " + rows.index.astype(str)
    more = f" and {len(rows) - NAMED} more" if len(rows) > NAMED else ""
    return ", ".join(list(shown)[:NAMED]) + more


def seed_summary(table: RunTable, by: Sequence[str], response: str = "loss") -> pd.DataFrame:
    """Per group of `by`: mean of the response, spread of its logarithm over seeds, epochs of real data.

    Columns: `by`, `mean`, `geometric_mean`, `low`, `high`, `log_sd` (sample standard deviation of ln response, NaN for
    one seed), `seeds`, and `epochs_real` (largest in the group) when the table has it.
    """
    rows = table.rows
    require_columns(rows, [*by, response], table.source)
    groups = rows.assign(_log=np.log(rows[response])).groupby(list(by), dropna=False, sort=True)
    summary = groups[response].agg(mean="mean", low="min", high="max", seeds="size")
    summary["geometric_mean"] = np.exp(groups["_log"].mean())
    summary["log_sd"] = groups["_log"].std(ddof=1)
    if "epochs_real" in rows:
        summary["epochs_real"] = groups["epochs_real"].max()
    return summary.drop(columns=[c for c in summary if c in by]).reset_index()


def _load(source: Path | str | pd.DataFrame) -> tuple[pd.DataFrame, str]:
    if isinstance(source, pd.DataFrame):
        frame, name = source, "the table"
    else:
        path = Path(source)
        if not path.is_file():
            raise FileNotFoundError(f"{path}: no such run table; give the CSV written by the export")
        frame, name = pd.read_csv(path), path.name
    if frame.empty:
        raise ValueError(f"{name}: has no rows")
    return frame, name


def _with_seen(frame: pd.DataFrame) -> pd.DataFrame:
    """Adds `real_seen` and `synthetic_seen`, the records seen of either kind, where they follow from what is there."""
    if "records_seen" in frame and "real_seen" not in frame and "real_fraction" in frame:
        frame = frame.assign(real_seen=frame["records_seen"] * frame["real_fraction"])
    if {"records_seen", "real_seen"} <= set(frame.columns) and "synthetic_seen" not in frame:
        frame = frame.assign(synthetic_seen=frame["records_seen"] - frame["real_seen"])
    return frame


def _sorted(frame: pd.DataFrame, run: str) -> pd.DataFrame:
    """An order that depends on the contents only, so that equal tables give equal bytes; rows keep their index."""
    if run in frame:
        different = frame.loc[~frame.duplicated(), run]
        if different.duplicated().any():
            twice = different[different.duplicated()].iloc[0]
            raise ValueError(f"column {run!r} names {twice!r} twice, in rows that differ; a run is one row")
    keys = [run] if run in frame else sorted(map(str, frame.columns))
    return frame.sort_values(keys, kind="stable")


def _numbers(frame: pd.DataFrame, column: str, name: str) -> pd.Series:
    numbers = pd.to_numeric(frame[column], errors="coerce").astype(float)
    wrong = frame[numbers.isna() & frame[column].notna()]
    if len(wrong):
        raise ValueError(
            f"{name}: column {column!r} must hold numbers, but {len(wrong)} rows do not, first "
            f"{_row_name(wrong, 'run_id')} with {wrong[column].iloc[0]!r}"
        )
    return numbers


def _exclusion_reasons(frame: pd.DataFrame, response: str) -> pd.Series:
    """One reason per row, "" for none; the first that applies: stated, diverged, not finite, pre_transition."""
    reason = pd.Series("", index=frame.index, dtype=object)
    if "exclusion" in frame:
        reason = frame["exclusion"].map(lambda stated: "" if pd.isna(stated) else str(stated).strip()).astype(object)
    reason = reason.mask((reason == "") & _flag(frame, DIVERGED), DIVERGED)
    reason = reason.mask((reason == "") & ~np.isfinite(frame[response]), NOT_FINITE)
    early = _flag(frame, PRE_TRANSITION)
    if {"loss", "loss_mean"} <= set(frame.columns):
        early |= frame["loss"] > PRE_TRANSITION_RATIO * frame["loss_mean"]
    return reason.mask((reason == "") & early, PRE_TRANSITION)


def _flag(frame: pd.DataFrame, column: str) -> pd.Series:
    if column not in frame:
        return pd.Series(False, index=frame.index)
    words = frame[column].fillna(False).astype(str).str.lower()
    unknown = sorted(set(words) - {"true", "false", "1", "0", "1.0", "0.0"})
    if unknown:
        raise ValueError(f"column {column!r} must hold true or false, not {unknown[0]!r}")
    return words.isin(["true", "1", "1.0"])


def _equals(column: pd.Series, value: object) -> pd.Series:
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return pd.Series(np.isclose(pd.to_numeric(column, errors="coerce"), value), index=column.index)
    return column.astype(str) == str(value)


def _row_name(rows: pd.DataFrame, run: str) -> str:
    return f"{run} {rows[run].iloc[0]!r}" if run in rows else f"row {rows.index[0]}"
