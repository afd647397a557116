"""Numbers that probes are to tell of a record: age, heart rate, and the intervals of annotated waves; and its sex.

Age and sex are PTB-XL's; above 89 its table writes 300, which is no age, and such records are left out. Heart rates are
measured on the records. PR, QRS and QT are those of annotated waves in lead II (LUDB, or synthetic truth), the median
over a record's beats.
"""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path

import numpy as np
import pandas as pd

from ecg_jax.data.ecg import RecordPool
from ecg_jax.data.real.datasets.ptbxl import raw_folder
from ecg_jax.data.real.datasets.ptbxl_tables import DATABASE, record_name
from ecg_jax.data.real.formats.tables import known, read_table
from ecg_jax.evaluate.handmade import heart_rate_bpm
from ecg_jax.evaluate.labels import Labels, gather

OLDEST = 89
#: PTB-XL's code of a sex.
_SEX = {"0": "male", "1": "female"}
#: More rows of PTB-XL's own table, beside the recordings: where only part of the set is at hand.
MORE_ROWS = Path("ptbxl_labels") / "ptbxl_database_partial.csv"
INTERVAL_LEAD = "II"


@dataclasses.dataclass(frozen=True)
class Target:
    """A number by record id, its unit, and how many records it is not known of."""

    name: str
    unit: str
    values: dict[str, float]
    unknown: int = 0

    def of(self, pool: RecordPool) -> np.ndarray:
        """The value of every record of a pool, `(N,)`; NaN where it is not known."""
        return np.array([self.values.get(str(record), math.nan) for record in pool.record_id])


def read_ptbxl_age(data_dir: Path) -> Target:
    """Ages in years. Raises FileNotFoundError or ValueError for a table that is not as published."""
    values, unknown = {}, 0
    for record, age, _ in _rows(data_dir):
        years = float(age) if age else math.nan
        if 0 <= years <= OLDEST:
            values[record] = years
        else:
            unknown += 1
    return Target("age", "years", values, unknown)


def read_ptbxl_sex(data_dir: Path) -> Labels:
    """The sex of each record as a task of two classes, of which one, female, is to be told. Raises as `read_ptbxl_age`
    does, and for a code that is none."""
    found: dict[str, tuple[str, ...]] = {}
    for record, _, sex in _rows(data_dir):
        if sex and sex not in _SEX:
            raise ValueError(f"{record}: sex is {sex!r}, expected one of {sorted(_SEX)}")
        found[record] = (_SEX[sex],) if sex else ()
    both = gather("sex", found)
    female = both.classes.index("female")
    return dataclasses.replace(both, classes=("female",), positive_NxC=both.positive_NxC[:, [female]])


def _rows(data_dir: Path) -> list[tuple[str, str, str]]:
    """Record, age and sex of every row; those of the recordings' own table last, so that they count."""
    rows = []
    tables = [data_dir / MORE_ROWS] if (data_dir / MORE_ROWS).is_file() else []
    for table in (*tables, raw_folder(data_dir) / DATABASE):
        for where, row in read_table(table, ("ecg_id", "age", "sex")):
            rows.append((record_name(row, where), known(row["age"]), known(row["sex"]).removesuffix(".0")))
    return list({row[0]: row for row in rows}.values())


def measured_heart_rate(pool: RecordPool) -> Target:
    """Heart rates of a pool's records from their R peaks, in beats per minute."""
    rates = heart_rate_bpm(pool.read(np.arange(len(pool))), pool.sample_rate_hz)
    found = {str(record): float(rate) for record, rate in zip(pool.record_id, rates) if math.isfinite(rate)}
    return Target("heart rate", "bpm", found, len(pool) - len(found))


def wave_intervals(waves: pd.DataFrame) -> tuple[Target, ...]:
    """PR, QRS and QT in ms from a table of waves (`record_id, lead, wave, onset_s, peak_s, offset_s`), each the median
    over a record's beats in lead II."""
    found: dict[str, dict[str, float]] = {"PR": {}, "QRS": {}, "QT": {}}
    records = waves["record_id"].unique()
    for record, of_record in waves[waves["lead"] == INTERVAL_LEAD].groupby("record_id"):
        beats = _beats(of_record.sort_values("peak_s"))
        for name, values in zip(found, np.array(beats).reshape(-1, 3).T, strict=True):
            if np.isfinite(values).any():
                found[name][str(record)] = float(np.nanmedian(values))
    return tuple(Target(name, "ms", values, len(records) - len(values)) for name, values in found.items())


def _beats(waves: pd.DataFrame) -> list[tuple[float, float, float]]:
    """PR, QRS and QT of each QRS complex, NaN without a P wave just before it or a T wave just after."""
    rows = list(waves[["wave", "onset_s", "offset_s"]].itertuples(index=False, name=None))
    found = []
    for place, (wave, onset_s, offset_s) in enumerate(rows):
        if wave != "QRS":
            continue
        before = rows[place - 1] if place and rows[place - 1][0] == "P" else ("", math.nan, math.nan)
        after = rows[place + 1] if place + 1 < len(rows) and rows[place + 1][0] == "T" else ("", math.nan, math.nan)
        found.append((1e3 * (onset_s - before[1]), 1e3 * (offset_s - onset_s), 1e3 * (after[2] - onset_s)))
    return found
