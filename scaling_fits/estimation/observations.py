"""From a checked run table to what a fit sees: arrays, units, clusters, and a definition of the data in words."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd

from scaling_fits.errors import Refused
from scaling_fits.estimation.columns import AXES, Columns, Link, cluster_column
from scaling_fits.estimation.estimators import Estimator
from scaling_fits.estimation.problem import Problem
from scaling_fits.estimation.suspicions import mixed_units
from scaling_fits.laws.law import Law
from scaling_fits.tables.run_table import RunTable, read_runs, require_columns

CONSTANT = 1e-12  # of ln response: rounding


@dataclass(frozen=True)
class DataDefinition:
    """Which numbers were fitted: columns behind the letters and the response, rows, exclusions, axes held or varying.

    `reading` says how the file was read, `warnings` names rows given twice, and what looks like a unit mixed up.
    """

    source: str
    response: str
    link: str
    columns: dict[str, str]
    rows: int
    clusters: int
    cluster_column: str | None
    weight_column: str | None
    sd_column: str | None
    ranges: dict[str, tuple[float, float]]
    excluded: dict[str, int]
    constant_axes: dict[str, str]
    varying_axes: dict[str, int]
    reading: tuple[str, ...]
    warnings: tuple[str, ...]


@dataclass(frozen=True)
class Observations:
    """A problem to minimise with the names of its rows.

    `references` are ln of the units of the working coordinates, `cluster_N` numbers the groups of dependent rows,
    `row_names_N` says which run each row is, `values` are the variables as the table has them.
    """

    problem: Problem
    references: dict[str, float]
    cluster_N: np.ndarray
    row_names_N: np.ndarray
    values: dict[str, np.ndarray]
    definition: DataDefinition


def observe(
    law: Law,
    table: RunTable | pd.DataFrame | Path | str,
    estimator: Estimator,
    *,
    columns: Columns | Mapping[str, str] | None = None,
    fixed: Mapping[str, float] | None = None,
) -> Observations:
    """Everything a fit of `law` needs, or one ValueError that names what is wrong with the table.

    `columns` are as in `fit`, which explains them, and so are the `fixed` constants.
    """
    columns = Columns.of(columns)
    letters = columns.behind(law)
    table = _checked(law, table, columns, letters)
    rows, response = table.rows, columns.response
    values = {letter: rows[column].to_numpy(dtype=float) for letter, column in letters.items()}
    _refuse_blind_designs(law, values, letters, table.source)
    number = columns.link.forward(rows[response].to_numpy(dtype=float))
    references = law.references(values, number)
    pins = _pinned(law, fixed or {}, references)
    if len(rows) <= len(law.parameters) - len(pins):
        raise ValueError(
            f"{table.source}: {len(rows)} rows left after excluding {table.excluded or 'none'}, and {law.name} "
            f"has {len(law.parameters) - len(pins)} constants to fit; it needs more rows than constants"
        )
    if np.ptp(np.log(number)) < CONSTANT:
        raise ValueError(
            f"{table.source}: {response} is {rows[response].iloc[0]:g} in all {len(rows)} rows: no law is in it"
        )
    problem = Problem(
        law=law,
        estimator=estimator,
        x=law.prepare(values, references),
        log_y_N=np.log(number) - references["L"],
        weight_N=_relative(rows, columns.weight, table.source),
        sd_N=_relative(rows, columns.sd, table.source, geometric=True),
        log_unit=references["L"],
        fixed=pins,
    )
    columns = replace(columns, cluster=cluster_column(table, columns.cluster))
    cluster_N = _cluster_numbers(rows, columns.cluster, table.source)
    definition = _define(table, columns, letters, cluster_N)
    return Observations(problem, references, cluster_N, row_names(rows), values, definition)


def _cluster_numbers(rows: pd.DataFrame, cluster: str | None, source: str) -> np.ndarray:
    """(rows,): which group a row is in, from 0; ValueError for rows whose group is not named."""
    if cluster is None:
        return np.arange(len(rows))
    nameless = rows[cluster].isna()
    if nameless.any():
        raise ValueError(
            f"{source}: column {cluster!r} groups dependent rows, but {int(nameless.sum())} rows have no group, first "
            f"row {rows.index[nameless][0]}; name their groups or exclude them"
        )
    return np.unique(rows[cluster].astype(str).to_numpy(), return_inverse=True)[1]


def row_names(rows: pd.DataFrame) -> np.ndarray:
    """(rows,): which run each row is, in words: its `run_id` where that names one row, else its place in the table."""
    places = rows.index.map(lambda at: f"row {at}")
    return np.asarray(rows["run_id"].astype(str) if "run_id" in rows and rows["run_id"].is_unique else places)


def _checked(
    law: Law, table: RunTable | pd.DataFrame | Path | str, columns: Columns, letters: dict[str, str]
) -> RunTable:
    """The table with everything that would make a fit of `law` wrong refused."""
    response = columns.response
    positive = [letters[variable.name] for variable in law.variables if variable.log]
    plain = [letters[variable.name] for variable in law.variables if not variable.log]
    if not isinstance(table, RunTable):
        table = read_runs(table, response=response, positive=positive, numeric=plain)
    require_columns(table.frame, [response, *letters.values()], table.source)
    if table.law_refusal is not None:
        raise ValueError(table.law_refusal)
    rows = table.rows
    if rows.empty:
        raise ValueError(f"{table.source}: no row is left after excluding {table.excluded or 'none'}")
    repeated = len(rows) - len(table.fresh().rows)
    if law.fresh_data_only and repeated:
        raise Refused(
            f"{table.source}: {repeated} of {len(rows)} rows repeat data (epochs above 1), and {law.equation} "
            "is for fresh data",
            python="keep such rows alone with .where(real_fraction=0) or .fresh()",
            command="keep such rows alone with --where real_fraction=0, or --fresh",
        )
    for letter, column in letters.items():
        numbers = rows[column].to_numpy(dtype=float)
        least = "above 0" if column in positive else "at least 0"
        bad = ~(np.isfinite(numbers) & ((numbers > 0) if column in positive else (numbers >= 0)))
        if bad.any():
            first = rows.index[bad][0]
            raise ValueError(
                f"{table.source}: {letter} = {column!r} must be finite and {least}, but {bad.sum()} rows are not, "
                f"first row {first} with {numbers[bad][0]:g}; correct or exclude them"
            )
    if columns.link is Link.LOGIT and not rows[response].between(0, 1, inclusive="neither").all():
        raise ValueError(f"{table.source}: the logit link needs {response!r} strictly between 0 and 1")
    return table


def _refuse_blind_designs(law: Law, values: dict[str, np.ndarray], columns: dict[str, str], source: str) -> None:
    """Designs in which no data could tell the constants: a variable that never varies, or only with another."""
    logs = {v.name: np.log(values[v.name]) for v in law.variables if v.log}
    for letter, log in logs.items():
        if np.ptp(log) < 1e-9:
            raise ValueError(
                f"{source}: {letter} = {columns[letter]!r} must be positive and take at least two values; "
                f"all {len(log)} rows have {values[letter][0]:g}"
            )
    names = list(logs)
    for i, first in enumerate(names):
        for second in names[i + 1 :]:
            if len(logs[first]) > 2 and abs(np.corrcoef(logs[first], logs[second])[0, 1]) > 1 - 1e-12:
                raise ValueError(
                    f"{source}: {first} = {columns[first]!r} and {second} = {columns[second]!r} are perfectly "
                    "collinear in their logarithms; their terms cannot be told apart: vary one without the other"
                )
    shares = [values[v.name] for v in law.variables if not v.log and v.name != "U"]
    if len(shares) > 1:
        mix = np.stack(shares) / np.maximum(np.sum(shares, axis=0), 1e-300)
        if np.ptp(mix, axis=1).max() < 1e-9:
            letters = [v.name for v in law.variables if not v.log]
            raise ValueError(f"{source}: all rows have the same mix of {letters}; a law of the mix needs two")


def _pinned(law: Law, fixed: Mapping[str, float], references: dict[str, float]) -> tuple[tuple[int, float], ...]:
    """Working values of the constants held fixed; ValueError when a unit depends on a constant that is not."""
    unknown = sorted(set(fixed) - set(law.names))
    if unknown:
        raise ValueError(f"{law.name} has the constants {list(law.names)}, not {unknown}")
    for parameter in law.parameters:
        if parameter.name in fixed:
            value = fixed[parameter.name]
            # Working bounds of what has a unit keep a search finite; those of pure numbers and signs are the law's own.
            inside = value > 0 if parameter.log else bool(parameter.units) or parameter.low <= value <= parameter.high
            if not (np.isfinite(value) and inside):
                raise ValueError(f"{law.name}: {parameter.name} cannot be held at {value:g}: {parameter.constraint}")
            if needed := parameter.exponents - set(fixed):
                raise ValueError(
                    f"{law.name}: {parameter.name} (unit {parameter.unit}) can be fixed only together with "
                    f"{sorted(needed)}"
                )
    given = np.array([[fixed.get(name, 1.0) for name in law.names]])
    working = law.working(given, references)[0]
    return tuple((p, float(working[p])) for p, name in enumerate(law.names) if name in fixed)


def _relative(rows: pd.DataFrame, column: str | None, source: str, *, geometric: bool = False) -> np.ndarray:
    """(rows,): the column over its arithmetic (or geometric) mean, ones without a column: only ratios count.

    Twelve digits are kept, so that not even rounding tells by which factor a column was multiplied.
    """
    if column is None:
        return np.ones(len(rows))
    require_columns(rows, [column], source)
    numbers = pd.to_numeric(rows[column], errors="coerce").to_numpy(dtype=float)
    good = np.isfinite(numbers) & (numbers > 0)
    if not good.all():
        raise ValueError(f"{source}: column {column!r} must be finite and positive; {int((~good).sum())} rows are not")
    numbers = numbers / numbers.max()
    middle = np.exp(np.log(numbers).mean()) if geometric else numbers.mean()
    return np.array([float(f"{number:.12g}") for number in numbers / middle])


def _define(table: RunTable, columns: Columns, letters: dict[str, str], cluster_N: np.ndarray) -> DataDefinition:
    rows = table.rows
    counts = {axis: int(rows[axis].nunique(dropna=False)) for axis in AXES if axis in rows}
    measured = {**letters, columns.response: columns.response}
    return DataDefinition(
        source=table.source,
        response=columns.response,
        link=columns.link.value,
        columns=letters,
        rows=len(rows),
        clusters=int(cluster_N.max()) + 1,
        cluster_column=columns.cluster,
        weight_column=columns.weight,
        sd_column=columns.sd,
        ranges={name: (float(rows[c].min()), float(rows[c].max())) for name, c in measured.items()},
        excluded=table.excluded,
        constant_axes={axis: str(rows[axis].iloc[0]) for axis, count in counts.items() if count == 1},
        varying_axes={axis: count for axis, count in counts.items() if count > 1},
        reading=table.reading,
        warnings=(*table.warnings, *mixed_units(rows, letters)),
    )
