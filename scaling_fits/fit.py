"""Fit a law to a run table: table in, frozen `Fit` out, with the evidence that the optimum is one."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from scaling_fits.forms import Form
from scaling_fits.solver import Huber, Problem, Solutions, minimise
from scaling_fits.table import RunTable, read_runs, require_columns
from scaling_fits.uncertainty import Identification, TrunkBootstrap, bootstrap_trunks, identify
from scaling_fits.writing import write_text

SAME_OBJECTIVE = 1e-8
OPTIMA_LISTED = 8
CONVERGED_GRADIENT = 1e-6
# Axes that a sound data set either holds constant or states to vary.
AXES = (
    "study",
    "real_fraction",
    "mixing",
    "tier",
    "real_information",
    "unique_real_patients",
    "pool_shuffle",
    "batch_records",
    "learning_rate",
    "weight_decay",
    "sample_rate_hz",
    "patch_ms",
    "mask_ratio",
    "objective",
    "architecture",
    "seed",
)
HUBER_HOFFMANN = Huber(1e-3)


@dataclass(frozen=True)
class DataDefinition:
    """Which numbers were fitted: columns behind N, D and the response, rows, exclusions, axes held or varying."""

    source: str
    response: str
    columns: dict[str, str]
    rows: int
    trunks: int
    trunk_column: str | None
    ranges: dict[str, tuple[float, float]]
    excluded: dict[str, int]
    constant_axes: dict[str, str]
    varying_axes: dict[str, int]


@dataclass(frozen=True)
class Optimum:
    """A distinct local optimum: its objective relative to the best, share of starts ending there, constants."""

    relative_excess: float
    share_of_starts: float
    parameters: dict[str, float]


@dataclass(frozen=True)
class Certificate:
    """Evidence for the optimum: starts, share within 1e-8 of the best objective, gradient, other local optima.

    `gradient_norm` is the largest component of the gradient of objective / best objective in the centred working
    coordinates (bounds respected); `optima` are the distinct ends with a vanishing gradient, best first.
    """

    starts: int
    share_at_best: float
    gradient_norm: float
    optima: tuple[Optimum, ...]


@dataclass(frozen=True)
class Fit:
    """A fitted law; `parameters` are the constants of `form.equation`, `objective` the summed loss at them."""

    form: Form
    estimator: Huber
    parameters: dict[str, float]
    objective: float
    residual_log_sd: float
    data: DataDefinition
    certificate: Certificate
    identification: tuple[Identification, ...]
    bootstrap: TrunkBootstrap

    @property
    def intervals(self) -> dict[str, tuple[float, float]] | None:
        """Intervals of the constants, None with fewer than 8 trunks (`bootstrap.reason` says so)."""
        return self.bootstrap.intervals

    @property
    def warnings(self) -> tuple[str, ...]:
        """Parameters on a boundary or not identified, and a weak certificate, in plain words."""
        found = [finding.sentence for finding in self.identification if finding.sentence]
        if self.certificate.gradient_norm > CONVERGED_GRADIENT:
            found.append(f"not converged: relative gradient {self.certificate.gradient_norm:.1e} at the best point")
        return tuple(found)

    def predict(self, **variables: object) -> np.ndarray:
        """L at the given variables, named by the letters of the formula: `fit.predict(N=1e6, D=6.4e4)`."""
        if set(variables) != set(self.form.variables):
            raise ValueError(f"{self.form.name}: give exactly {self.form.variables}, not {sorted(variables)}")
        columns = np.broadcast_arrays(*(np.asarray(variables[v], dtype=float) for v in self.form.variables))
        log_x_NxV = np.log(np.stack([column.ravel() for column in columns], axis=1))
        constants_1xP = np.array([[self.parameters[name] for name in self.form.names]])
        theta_1xP = self.form.working(constants_1xP, np.zeros(len(self.form.variables)), 0.0)
        value_1xN = self.form.evaluate(theta_1xP, self.form.design(log_x_NxV)).value_SxN
        return np.exp(value_1xN[0]).reshape(columns[0].shape)

    def to_dict(self) -> dict[str, object]:
        """Plain values for JSON."""
        return {
            "form": {
                "name": self.form.name,
                "equation": self.form.equation,
                "source": self.form.source,
                "constraints": [parameter.constraint for parameter in self.form.parameters],
            },
            "estimator": self.estimator.description,
            "parameters": self.parameters,
            "objective": self.objective,
            "residual_log_sd": self.residual_log_sd,
            "data": asdict(self.data),
            "certificate": asdict(self.certificate),
            "identification": [asdict(finding) for finding in self.identification],
            "uncertainty": asdict(self.bootstrap),
            "warnings": list(self.warnings),
        }

    def to_json(self) -> str:
        """JSON with sorted keys and every digit: the same table gives the same bytes."""
        return json.dumps(self.to_dict(), indent=2, sort_keys=True, allow_nan=False) + "\n"

    def save(self, path: Path | str) -> None:
        """Write `to_json()` to `path`, whole or not at all."""
        write_text(Path(path), self.to_json())

    def __str__(self) -> str:
        lines = [f"{self.form.equation}   ({self.form.source})"]
        lines.append(f"{self.estimator.description} = {self.objective:.12g}")
        for name, value in self.parameters.items():
            interval = ""
            if self.intervals is not None:
                low, high = self.intervals[name]
                interval = f"   {100 * self.bootstrap.level:.0f} % interval {low:.4g} to {high:.4g}"
            lines.append(f"  {name:<6} {value:.6g}{interval}")
        uncertainty = f"percentile bootstrap over {self.bootstrap.trunks} trunks, {self.bootstrap.replicates} draws"
        lines.append("  " + (self.bootstrap.reason or uncertainty))
        data, certificate = self.data, self.certificate
        lines.append(f"residual sd of ln {data.response}: {self.residual_log_sd:.4g}")
        lines.append(f"data: {data.source}, {data.rows} rows of {data.trunks} trunks, {data.columns}")
        lines.append(f"excluded: {data.excluded or 'none'}; varying axes: {data.varying_axes or 'none'}")
        lines.append(
            f"certificate: {100 * certificate.share_at_best:.1f} % of {certificate.starts} starts within "
            f"{SAME_OBJECTIVE:g} of the best; relative gradient {certificate.gradient_norm:.1e}; "
            f"{len(certificate.optima)} distinct local optima"
        )
        return "\n".join([*lines, *(f"WARNING: {warning}" for warning in self.warnings)])


def fit(
    form: Form,
    table: RunTable | pd.DataFrame | Path | str,
    *,
    response: str = "loss",
    n: str = "n_params",
    d: str = "records_seen",
    trunk: str = "trunk_id",
    estimator: Huber = HUBER_HOFFMANN,
    starts: Mapping[str, Sequence[float]] | None = None,
    replicates: int = 1000,
    seed: int = 0,
) -> Fit:
    """Fit `form` by the summed Huber loss of ln residuals (Hoffmann et al. 2022, eq. 3) from many starts.

    `n`, `d` name the columns behind N and D. `starts` gives a grid of values per published constant (the product is
    taken); None uses the form's own. Without a column `trunk` every row is its own trunk. `replicates` and `seed`
    belong to the bootstrap over trunks, which needs 8 of them. Raises ValueError for a study with more than 10 %
    pre_transition rows, fewer rows than constants, or repeated data where the form is for fresh data.
    """
    columns = {variable: {"N": n, "D": d}[variable] for variable in form.variables}
    table = _checked(form, table, response, columns)
    rows = table.rows
    log_x_NxV = np.log(rows[list(columns.values())].to_numpy(dtype=float))
    log_y_N = np.log(rows[response].to_numpy(dtype=float))
    log_centre_V, log_scale = log_x_NxV.mean(axis=0), float(log_y_N.mean())
    problem = Problem(form, form.design(log_x_NxV - log_centre_V), log_y_N - log_scale, estimator)
    grid = form.starts() if starts is None else form.working(form.start_grid(starts), log_centre_V, log_scale)
    ends = minimise(problem, grid, *form.bounds())
    best = int(np.argmin(ends.objective_S))
    theta_P, objective = ends.theta_SxP[best], float(ends.objective_S[best])
    optima_SxP = _distinct(ends)
    residual_N = form.evaluate(theta_P[None], problem.design).value_SxN[0] - problem.log_y_N
    trunk_N = rows[trunk].to_numpy() if trunk in rows else np.arange(len(rows))
    bootstrap = bootstrap_trunks(
        problem, ends.theta_SxP[optima_SxP], log_centre_V, log_scale, trunk_N, replicates=replicates, seed=seed
    )
    return Fit(
        form=form,
        estimator=estimator,
        parameters=_constants(form, theta_P, log_centre_V, log_scale),
        objective=objective,
        residual_log_sd=float(np.sqrt(np.mean(residual_N**2))),
        data=_define(table, response, columns, trunk if trunk in rows else None, bootstrap.trunks),
        certificate=_certify(form, ends, optima_SxP, log_centre_V, log_scale),
        identification=identify(problem, theta_P, objective),
        bootstrap=bootstrap,
    )


def _checked(
    form: Form, table: RunTable | pd.DataFrame | Path | str, response: str, columns: dict[str, str]
) -> RunTable:
    """The table with everything that would make a fit of `form` wrong refused."""
    if not isinstance(table, RunTable):
        table = read_runs(table, response=response, positive=list(columns.values()))
    require_columns(table.frame, [response, *columns.values()], table.source)
    if table.law_refusal is not None:
        raise ValueError(table.law_refusal)
    repeated = len(table.rows) - len(table.fresh().rows)
    if form.fresh_data_only and repeated:
        raise ValueError(
            f"{table.source}: {repeated} of {len(table.rows)} rows repeat data (epochs above 1), and {form.equation} "
            "is for fresh data; select them with .where(real_fraction=0) and .fresh()"
        )
    if len(table.rows) <= len(form.parameters):
        raise ValueError(
            f"{table.source}: {len(table.rows)} rows left after excluding {table.excluded or 'none'}, and {form.name} "
            f"has {len(form.parameters)} constants; it needs more rows than constants"
        )
    for variable, column in columns.items():
        values = table.rows[column].to_numpy(dtype=float)
        if not (np.isfinite(values) & (values > 0)).all() or np.unique(values).size < 2:
            raise ValueError(f"{table.source}: {variable} = {column!r} must be positive and take at least two values")
    return table


def _constants(form: Form, theta_P: np.ndarray, log_centre_V: np.ndarray, log_scale: float) -> dict[str, float]:
    values_P = form.standard(theta_P[None], log_centre_V, log_scale)[0]
    return {name: float(value) for name, value in zip(form.names, values_P)}


def _distinct(ends: Solutions) -> np.ndarray:
    """Indices of distinct converged ends, best first, at most `OPTIMA_LISTED`; the best end always comes first."""
    order = np.argsort(ends.objective_S, kind="stable")
    best = ends.objective_S[order[0]]
    scale = max(best, np.finfo(float).tiny)
    flat = np.abs(ends.gradient_SxP).max(axis=1) / scale < CONVERGED_GRADIENT
    chosen = [order[0]]
    for index in order[1:]:
        excess = ends.objective_S[index] - ends.objective_S[chosen]
        if flat[index] and (excess > 1e-6 * scale).all() and len(chosen) < OPTIMA_LISTED:
            chosen.append(index)
    return np.array(chosen)


def _certify(
    form: Form, ends: Solutions, optima: np.ndarray, log_centre_V: np.ndarray, log_scale: float
) -> Certificate:
    best = ends.objective_S[optima[0]]
    scale = max(best, np.finfo(float).tiny)
    listed = tuple(
        Optimum(
            relative_excess=float((ends.objective_S[index] - best) / scale),
            share_of_starts=float(
                np.mean(np.abs(ends.objective_S - ends.objective_S[index]) <= SAME_OBJECTIVE * scale)
            ),
            parameters=_constants(form, ends.theta_SxP[index], log_centre_V, log_scale),
        )
        for index in optima
    )
    gradient = float(np.abs(ends.gradient_SxP[optima[0]]).max() / scale)
    return Certificate(len(ends.objective_S), listed[0].share_of_starts, gradient, listed)


def _define(table: RunTable, response: str, columns: dict[str, str], trunk: str | None, trunks: int) -> DataDefinition:
    rows = table.rows
    counts = {axis: int(rows[axis].nunique(dropna=False)) for axis in AXES if axis in rows}
    measured = {**columns, response: response}
    return DataDefinition(
        source=table.source,
        response=response,
        columns=columns,
        rows=len(rows),
        trunks=trunks,
        trunk_column=trunk,
        ranges={name: (float(rows[c].min()), float(rows[c].max())) for name, c in measured.items()},
        excluded=table.excluded,
        constant_axes={axis: str(rows[axis].iloc[0]) for axis, count in counts.items() if count == 1},
        varying_axes={axis: count for axis, count in counts.items() if count > 1},
    )
