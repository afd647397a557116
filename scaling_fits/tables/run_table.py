"""Run tables: read, check, and say by name and number which rows take no part in an analysis."""

from __future__ import annotations

import html
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd

from scaling_fits.errors import nearest
from scaling_fits.tables.csv_file import DECIMAL_COMMA, read_csv, require_distinct

PRE_TRANSITION_RATIO = 0.95  # of the mean baseline: above it a model has not yet learned the task
PRE_TRANSITION_SHARE_MAX = 0.10
FRESH_EPOCHS = 1.0 + 1e-9
DIVERGED, PRE_TRANSITION, NOT_FINITE = "diverged", "pre_transition", "not_finite"
DUPLICATE, SAME_RUN = "exact_duplicate", "same_run"
NAMED = 5  # rows that a note names before it says how many more there are
#: Columns that together mark a table as one that this project exported. Only there do names like `exclusion` have a
#: meaning of their own; anybody else's column of such a name is data like any other.
EXPORTED = frozenset(
    ("run_id", "trunk_id", "study", "response", "loss", "loss_mean", "pre_transition", "diverged", "exclusion")
)
#: Of these a reader of another's table may think that they leave rows out.
FLAGS = ("diverged", "exclusion", "pre_transition")
NO_REASON = frozenset(("", "0", "0.0", "false", "no", "none", "nan"))
ROUNDING = 4 * np.finfo(float).eps  # by which a number may change when it is written and read
VALUES_SHOWN = 8
ROWS_SHOWN = 10  # of a table in a notebook
THOUSANDS = re.compile(r"[-+]?[1-9]\d{0,2}(,\d{3})+")


@dataclass(frozen=True)
class RunTable:
    """A checked run table.

    `frame` holds every row in a fixed order with the column `excluded_because` ("" for rows that count).
    `pre_transition_share` is that of the study as read, and stays so when rows are selected: selecting cannot hide it.
    `run` is the column that names the rows, where there is one; `exported` says that the table has the columns of this
    project's export, `reading` how its file was read, `doubts` what in it may be meant otherwise.
    """

    frame: pd.DataFrame
    source: str
    pre_transition_share: float
    run: str = "run_id"
    exported: bool = False
    reading: tuple[str, ...] = ()
    doubts: tuple[str, ...] = ()

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
    def warnings(self) -> tuple[str, ...]:
        """What may be meant otherwise, and rows that were given twice, by name."""
        twice, again = (self.frame[self.frame["excluded_because"] == reason] for reason in (DUPLICATE, SAME_RUN))
        words: tuple[str, ...] = ()
        if len(twice):
            words += (f"{len(twice)} rows given twice, counted once: {names(twice, self.run)}",)
        if len(again):
            words += (f"{len(again)} rows list a run again, counted once: {names(again, self.run)}",)
        return (*self.doubts, *words)

    @property
    def notes(self) -> tuple[str, ...]:
        """How the table was read, and its warnings."""
        return (*self.reading, *self.warnings)

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

    def __repr__(self) -> str:
        rows, left_out = len(self.rows), f", excluded {self.excluded}" if self.excluded else ""
        return f"<RunTable of {self.source}: {rows} of {len(self.frame)} rows count{left_out}>"

    def _repr_html_(self) -> str:
        lines = "<br>".join(html.escape(line) for line in (repr(self), *self.notes))
        return f"<p>{lines}</p>{self.rows.head(ROWS_SHOWN).to_html(index=False)}"

    def where(self, /, **equals: object) -> RunTable:
        """Rows whose columns equal the given values; ValueError for an unknown column or when nothing is left.

        Numbers are equal when they agree to rounding; text that names a number, given for a column of numbers, is one.
        """
        keep = pd.Series(True, index=self.frame.index)
        for column, value in equals.items():
            require_columns(self.frame, [column], self.source)
            keep &= _equals(self.frame[column], value)
        if not keep.any():
            wanted = ", ".join(f"{column} = {value!r}" for column, value in equals.items())
            held = "; ".join(_held(self.frame, column, value) for column, value in equals.items())
            raise ValueError(f"{self.source}: no row with {wanted}; {held}")
        return replace(self, frame=_once(self.frame[keep], self.run) if self.exported else self.frame[keep])

    def leaving_out(self, which_N: np.ndarray, reason: str) -> RunTable:
        """The table with some of the rows that count (N,) excluded for `reason`."""
        stated = self.frame["excluded_because"].to_numpy(dtype=object, copy=True)
        stated[np.flatnonzero(stated == "")[which_N]] = reason
        return replace(self, frame=self.frame.assign(excluded_because=stated))

    def fresh(self) -> RunTable:
        """Rows in which no record, real or synthetic, was seen twice (epochs at most 1, or none of the kind).

        Only exported tables know their epochs; of any other table all rows are kept.
        """
        keep = pd.Series(True, index=self.frame.index)
        for column in ("epochs_real", "epochs_synthetic"):
            if self.exported and column in self.frame:
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
    above 0 wherever the row counts. Rows are left out, with a named reason, when the response is not finite, or when
    they repeat an earlier row in every column (in a frame only where `run` names the rows: without, it may have lost
    what tells them apart); in a table that this project exported (it has all columns of `EXPORTED`) also when their
    `exclusion` says so, when they diverged, when they are pre_transition (flagged, or `loss` above 0.95 of
    `loss_mean`), or when they list a run again, as a part of another question that a study asks. Raises
    FileNotFoundError or ValueError, naming file, column and row.
    """
    frame, name, reading = _load(source)
    exported, used = set(frame) >= EXPORTED, list(dict.fromkeys([response, *numeric, *positive]))
    doubts = () if exported else _unused_flags(frame, used)
    frame = _with_seen(frame)
    require_columns(frame, used, name)
    if exported:
        _refuse_two_results(frame, run, used, name)
    frame = _sorted(frame, run)
    for column in used:
        frame[column] = _numbers(frame, column, name)
    reason = _exclusion_reasons(frame, response, exported)
    unnumbered = frame.drop(columns=[column for column in frame if str(column).startswith("Unnamed:")])
    repeated = (reason == "") & unnumbered.duplicated()
    if isinstance(source, pd.DataFrame) and run not in frame:
        doubts += _kept_repeats(frame[repeated], run)
    else:
        reason = reason.mask(repeated, DUPLICATE)
    kept = frame[reason == ""].sort_index()
    for column in dict.fromkeys([response, *positive]):
        bad = kept[~(kept[column] > 0)]
        if len(bad):
            raise ValueError(
                f"{name}: column {column!r} must be positive, but {len(bad)} rows are not, first "
                f"{_row_name(bad, run)} with {bad[column].iloc[0]:g}; correct or exclude them"
            )
    finite = reason.isin(["", PRE_TRANSITION])
    share = float((reason[finite] == PRE_TRANSITION).mean()) if finite.any() else 0.0
    frame = frame.assign(excluded_because=reason)
    return RunTable(_once(frame, run) if exported else frame, name, share, run, exported, reading, doubts)


def require_columns(frame: pd.DataFrame, columns: Sequence[str], source: str) -> None:
    """ValueError naming the missing columns, those that are near, and all that there are."""
    missing = sorted(column for column in set(columns) if column not in frame)
    if missing:
        known = sorted(map(str, set(frame.columns) - {"excluded_because"}))
        raise ValueError(f"{source}: missing columns {missing}{nearest(missing, known)}; the table has {known}")


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


def _load(source: Path | str | pd.DataFrame) -> tuple[pd.DataFrame, str, tuple[str, ...]]:
    notes: tuple[str, ...] = ()
    if isinstance(source, pd.DataFrame):
        frame, name = source, "the table"
        require_distinct(list(frame.columns), name)
    else:
        frame, notes = read_csv(source)
        name = Path(source).name
    if frame.empty:
        raise ValueError(f"{name}: has no rows")
    return frame, name, notes


def _kept_repeats(repeated: pd.DataFrame, run: str) -> tuple[str, ...]:
    """A note on equal rows of a frame without names: it may have lost the columns in which they differ."""
    words = f"{len(repeated)} rows repeat others, and are counted: {names(repeated, run)}; drop_duplicates() if copies"
    return (words,) if len(repeated) else ()


def _unused_flags(frame: pd.DataFrame, used: Sequence[str]) -> tuple[str, ...]:
    """A note where a table that is not ours has columns that look as if they left rows out."""
    names = [name for name in FLAGS if name in frame and name not in used and _truthy(frame[name]).any()]
    return tuple(
        f"column {name!r} leaves no row out, as the table is not this project's own export: "
        f"{int(_truthy(frame[name]).sum())} rows have it set; choose rows by its values if you mean to"
        for name in names
    )


def _with_seen(frame: pd.DataFrame) -> pd.DataFrame:
    """Adds `real_seen` and `synthetic_seen`, the records seen of either kind, where they follow from what is there."""
    if "records_seen" in frame and "real_seen" not in frame and "real_fraction" in frame:
        frame = frame.assign(real_seen=frame["records_seen"] * frame["real_fraction"])
    if {"records_seen", "real_seen"} <= set(frame.columns) and "synthetic_seen" not in frame:
        frame = frame.assign(synthetic_seen=frame["records_seen"] - frame["real_seen"])
    return frame


def _refuse_two_results(frame: pd.DataFrame, run: str, used: Sequence[str], name: str) -> None:
    """ValueError for a run that is listed twice with different results: nobody could say which is its own."""
    results = sorted({*EXPORTED, *used} & set(frame.columns) - {run})
    one_each = frame[[run, *results]].drop_duplicates()
    twice = one_each[one_each[run].duplicated(keep=False)]
    if twice.empty:
        return
    rows = frame[frame[run] == twice[run].iloc[0]]
    differ = [column for column in frame if rows[column].nunique(dropna=False) > 1]
    raise ValueError(
        f"{name}: column {run!r} names {twice[run].iloc[0]!r} twice, in rows that differ in {', '.join(differ)}; a run "
        "is one row: keep one, or give tables that are of different things one by one"
    )


def _once(frame: pd.DataFrame, run: str) -> pd.DataFrame:
    """An exported table with every run counted at its first place among the rows that are there."""
    reason = frame["excluded_because"].mask(frame["excluded_because"] == SAME_RUN, "")
    counted = (reason == "").to_numpy()
    again = np.zeros(len(frame), dtype=bool)
    again[counted] = frame.loc[counted, run].duplicated()
    return frame.assign(excluded_because=reason.mask(again, SAME_RUN))


def _sorted(frame: pd.DataFrame, run: str) -> pd.DataFrame:
    """An order that depends on the contents only, so that equal tables give equal bytes; rows keep their index."""
    named = run in frame and not frame.loc[~frame.duplicated(), run].duplicated().any()
    return frame.sort_values([run] if named else sorted(map(str, frame.columns)), kind="stable")


def _numbers(frame: pd.DataFrame, column: str, name: str) -> pd.Series:
    numbers = pd.to_numeric(frame[column], errors="coerce").astype(float)
    wrong = frame[numbers.isna() & frame[column].notna()].sort_index()
    if len(wrong):
        text = str(wrong[column].iloc[0])
        raise ValueError(
            f"{name}: column {column!r} must hold numbers, but {len(wrong)} rows do not, first "
            f"{_row_name(wrong, 'run_id')} with {text!r}{_remedy(text.strip())}"
        )
    return numbers


def _remedy(text: str) -> str:
    """How a number written in another way is written here."""
    plain = re.sub(r"(?<=\d)[,._ '\u00a0\u202f](?=\d{3}(?!\d))", "", text)
    if DECIMAL_COMMA.fullmatch(text) and not THOUSANDS.fullmatch(text):
        return "; write numbers with a decimal point"
    if plain != text and _number(plain) is not None:
        return f"; write numbers without marks between thousands, like {plain}"
    words = re.fullmatch(r"([-+]?[\d.]+(?:[eE][-+]?\d+)?)\s*([%a-zA-Z]+)", text)
    return f"; write numbers without a unit ({words[2]})" if words else "; leave cells without a number empty"


def _exclusion_reasons(frame: pd.DataFrame, response: str, exported: bool) -> pd.Series:
    """One reason per row, "" for none; the first that applies: stated, diverged, not finite, pre_transition."""
    reason = pd.Series("", index=frame.index, dtype=object)
    if not exported:
        return reason.mask(~np.isfinite(frame[response]), NOT_FINITE)
    stated = _truthy(frame["exclusion"])
    reason = reason.mask(stated, frame["exclusion"].astype(str).str.strip().astype(object))
    reason = reason.mask((reason == "") & _flag(frame, DIVERGED), DIVERGED)
    reason = reason.mask((reason == "") & ~np.isfinite(frame[response]), NOT_FINITE)
    early = _flag(frame, PRE_TRANSITION) | (frame["loss"] > PRE_TRANSITION_RATIO * frame["loss_mean"])
    return reason.mask((reason == "") & early, PRE_TRANSITION)


def _truthy(column: pd.Series) -> pd.Series:
    """Whether a cell says something, and not "no"."""
    return column.map(lambda stated: not (pd.isna(stated) or str(stated).strip().lower() in NO_REASON)).astype(bool)


def _flag(frame: pd.DataFrame, column: str) -> pd.Series:
    words = frame[column].map(lambda stated: "false" if pd.isna(stated) else str(stated).strip().lower())
    unknown = sorted(set(words) - {"true", "false", "1", "0", "1.0", "0.0"})
    if unknown:
        raise ValueError(f"column {column!r} must hold true or false, not {unknown[0]!r}")
    return words.isin(["true", "1", "1.0"])


def _equals(column: pd.Series, value: object) -> pd.Series:
    """Which cells are `value`: as text where one is written so, else as a number to within rounding."""
    if pd.api.types.is_bool_dtype(column):
        word = str(value).strip().lower()
        column, value = column.astype(str).str.lower(), {"1": "true", "0": "false"}.get(word, word)
    alike = column.map(lambda cell: str(cell).strip() == str(value).strip()).astype(bool)
    number = _number(value)
    if number is None or (alike.any() and not pd.api.types.is_numeric_dtype(column)):
        return alike
    if isinstance(number, int) and pd.api.types.is_integer_dtype(column):
        return column == number
    numbers = pd.to_numeric(column, errors="coerce").astype(float)
    return (numbers - number).abs() <= ROUNDING * np.maximum(numbers.abs(), abs(number))


def _number(value: object) -> int | float | None:
    """A number, whole where it is written so, from a number or its text; None for what is none."""
    if isinstance(value, (bool, np.bool_)):
        return None
    for kind in (int, float):
        try:
            number = kind(str(value))
        except ValueError:
            continue
        return int(number) if math.isfinite(number) and number == int(number) else number
    return None


def _held(frame: pd.DataFrame, column: str, value: object) -> str:
    """What a column holds instead of `value`."""
    values = frame[column].dropna().unique()
    numbers = pd.api.types.is_numeric_dtype(frame[column]) and not pd.api.types.is_bool_dtype(frame[column])
    shown = sorted(values) if numbers else sorted(map(str, values))
    if numbers and _number(value) is None:
        return f"column {column!r} holds numbers"
    words = ", ".join(f"{one:.12g}" if numbers else repr(one) for one in shown[:VALUES_SHOWN])
    rest = f" and {len(shown) - VALUES_SHOWN} more" if len(shown) > VALUES_SHOWN else ""
    return f"column {column!r} holds {words}{rest}{'' if numbers else nearest([str(value)], map(str, values))}"


def _row_name(rows: pd.DataFrame, run: str) -> str:
    return f"{run} {rows[run].iloc[0]!r}" if run in rows else f"row {rows.index[0]}"
