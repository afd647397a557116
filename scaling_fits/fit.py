"""Fit a law to a run table: table in, frozen `Fit` out, with the evidence that the optimum is one."""

from __future__ import annotations

import functools
import inspect
import json
import sys
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from types import ModuleType

import numpy as np
import pandas as pd

from scaling_fits.estimation.certificate import Certificate, NotConverged, certify, distinct
from scaling_fits.estimation.columns import Columns, Link
from scaling_fits.estimation.estimators import HUBER_HOFFMANN, Estimator
from scaling_fits.estimation.multistart import Search, initial_points, spread_starts
from scaling_fits.estimation.observations import DataDefinition, Observations, observe
from scaling_fits.estimation.problem import log_predictions
from scaling_fits.estimation.solver import minimise
from scaling_fits.estimation.suspicions import rising_losses
from scaling_fits.files import write_text
from scaling_fits.fit_text import ConstantText, FitText, as_html, as_latex, as_plain_text
from scaling_fits.laws.law import Law
from scaling_fits.laws.named import as_law
from scaling_fits.tables.run_table import RunTable
from scaling_fits.uncertainty.bootstrap import Bootstrap, Draws, draw
from scaling_fits.uncertainty.bootstrap import published as published_constants
from scaling_fits.uncertainty.bounds import AtBound, at_bounds, open_ends
from scaling_fits.uncertainty.profile_likelihood import (
    ProfileCurve,
    ProfileInterval,
    profile_curve,
    profile_intervals,
    too_few_clusters,
)
from scaling_fits.uncertainty.sandwich import Identifiability, identifiability, residual_logs, standard_errors

INITIAL_KEPT = 512  # initial points kept for refits


@dataclass(frozen=True)
class Fit:
    """A fitted law; `parameters` are the constants of `law.equation`, `objective` the summed loss at them.

    `draws` hold the bootstrap, `profiles` the profile intervals (open-ended where a constant is not identified).
    `observations`, `theta_KxP` (distinct optima, best first) and `initial_SxP` are what further questions are answered
    from; they are not written.
    """

    law: Law
    estimator: Estimator
    link: Link
    parameters: dict[str, float]
    objective: float
    residual_log_sd: float
    data: DataDefinition
    certificate: Certificate
    profiles: tuple[ProfileInterval, ...]
    draws: Draws
    observations: Observations = field(repr=False, compare=False)
    theta_KxP: np.ndarray = field(repr=False, compare=False)
    initial_SxP: np.ndarray = field(repr=False, compare=False)

    @property
    def held(self) -> tuple[str, ...]:
        """The constants that were held at given values."""
        return tuple(self.law.names[position] for position, _ in self.observations.problem.fixed)

    @property
    def intervals(self) -> dict[str, tuple[float | None, float | None]] | None:
        """Percentile intervals of the constants, None where `draws.reason` says why.

        An end is None, open, where the draws that reach it stand at a bound: that is the bound's value, not the data's.
        """
        if self.draws.intervals is None:
            return None
        return open_ends(self.observations, self.draws.theta_RxP, self.draws.intervals, self.draws.plan.level)

    @functools.cached_property
    def at_bounds(self) -> tuple[AtBound, ...]:
        """Constants that stand at a bound, with what the objective would gain beyond."""
        return at_bounds(self.observations, self.theta_KxP[0])

    @property
    def interval_notes(self) -> tuple[str, ...]:
        """How the intervals were made, or why there are none."""
        notes = [self.draws.sentence]
        few = too_few_clusters(self.observations.cluster_N)
        if few is not None:
            notes.append(few)
        elif self.profiles and self.data.clusters < self.data.rows:
            notes.append(f"profile intervals allow for {self.data.clusters} clusters of {self.data.rows} rows")
        return tuple(notes)

    @property
    def units(self) -> dict[str, str]:
        """The unit of every constant; N, D, … stand for the units of their columns."""
        return {parameter.name: parameter.unit for parameter in self.law.parameters}

    @functools.cached_property
    def _rising(self) -> list[str]:
        return rising_losses(self.law, self.observations.values, self.observations.problem.log_y_N)

    @property
    def _misfits(self) -> tuple[str, ...]:
        """Where losses rise, that in one sentence with the constants at bounds; else a sentence for each of those."""
        if self._rising:
            return ("; ".join([*self._rising, *(one.stands for one in self.at_bounds)]),)
        return tuple(one.sentence for one in self.at_bounds)

    @property
    def warnings(self) -> tuple[str, ...]:
        """Losses that rise, constants at bounds or that the design does not identify, suspicious units: in words."""
        found = list(self._misfits)
        # Where a falling law does not hold, or a bound says why a constant stays open, that is the one thing to say.
        if not self._rising:
            wanted = {one.name for one in self.at_bounds if one.wanted}
            found += [one.sentence for one in self.profiles if one.sentence and one.name not in wanted]
        if not self.certificate.converged:
            found.append(f"not converged: stationarity {self.certificate.stationarity:.1e} at the best point")
        return (*found, *self.data.warnings)

    @functools.cached_property
    def sandwich_errors(self) -> dict[str, float]:
        """Cluster-robust standard errors of the constants; ValueError where the design leaves them undefined."""
        return standard_errors(self.observations, self.theta_KxP[0])

    @functools.cached_property
    def identifiability(self) -> Identifiability:
        """Conditioning, leverage, and the five rows whose absence moves the fit most."""
        return identifiability(self.observations, self.theta_KxP[0])

    @functools.cached_property
    def residuals(self) -> np.ndarray:
        """(rows,): ln of the law minus ln of the (linked) response."""
        return residual_logs(self.observations, self.theta_KxP[0])

    def profile(self, name: str, *, points: int = 41) -> ProfileCurve:
        """Rise of the objective with the constant `name` held at values around its estimate, the rest refitted."""
        few = too_few_clusters(self.observations.cluster_N)
        if few is not None:
            raise ValueError(f"{self.data.source}: {few}; give more trunks")
        known = self.profiles or profile_intervals(self.observations, self.theta_KxP, self.initial_SxP)
        intervals = {interval.name: interval for interval in known}
        if name not in intervals:
            raise ValueError(f"{self.law.name} has fitted the constants {list(intervals)}, not {name!r}")
        return profile_curve(self.observations, self.theta_KxP, self.initial_SxP, intervals[name], points=points)

    def predict(self, **variables: object) -> np.ndarray:
        """The response at the given variables, named by the letters of the formula: `fit.predict(N=1e6, D=6.4e4)`."""
        shape, x = self.prepared(variables)
        return self.response(log_predictions(self.law, self.theta_KxP[:1], x))[0].reshape(shape)

    def predict_draws(self, **variables: object) -> np.ndarray:
        """(draws, *shape): the response under every bootstrap draw; ValueError where there was no bootstrap."""
        if self.draws.reason is not None:
            raise ValueError(f"no draws: {self.draws.reason}")
        shape, x = self.prepared(variables)
        return self.response(log_predictions(self.law, self.draws.theta_RxP, x)).reshape(-1, *shape)

    def interval(self, *, new_run: bool = False, level: float = 0.95, seed: int = 0, **variables: object) -> np.ndarray:
        """(2, *shape): interval of the law at the given variables, or of the response of a new run there.

        Percentiles over the bootstrap's draws; a new run adds resampled ln residuals, inflated by sqrt(n / (n - P)).
        """
        values = self.predict_draws(**variables)
        if new_run:
            residual = -self.residuals * np.sqrt(len(self.residuals) / (len(self.residuals) - len(self.parameters)))
            drawn = np.random.default_rng(seed).choice(residual, size=(values.shape[0], *values.shape[1:]))
            values = self.link.backward(self.link.forward(values) * np.exp(drawn))
        tail = (1 - level) / 2
        return np.quantile(values, [tail, 1 - tail], axis=0)

    def to_dict(self) -> dict[str, object]:
        """Plain values for JSON."""
        return {
            "law": {
                "name": self.law.name,
                "equation": self.law.equation,
                "source": self.law.source,
                "constraints": [parameter.constraint for parameter in self.law.parameters],
                "units": self.units,
            },
            "estimator": self.estimator.description,
            "parameters": self.parameters,
            "fixed": list(self.held),
            "objective": self.objective,
            "residual_log_sd": self.residual_log_sd,
            "data": asdict(self.data),
            "certificate": asdict(self.certificate),
            "profile_intervals": [_finite(asdict(interval)) for interval in self.profiles],
            "bootstrap": self.draws.to_dict() | {"intervals": self.intervals},
            "interval_notes": list(self.interval_notes),
            "at_bounds": [asdict(one) for one in self.at_bounds],
            "warnings": list(self.warnings),
        }

    def to_json(self) -> str:
        """JSON with sorted keys and every digit: the same table gives the same bytes."""
        return json.dumps(self.to_dict(), indent=2, sort_keys=True, allow_nan=False) + "\n"

    def to_latex(self) -> str:
        """A `booktabs` table of the constants with their intervals, for a paper, and what the intervals are."""
        return as_latex(self._text)

    def save(self, path: Path | str) -> None:
        """Write `to_json()` to `path`, whole or not at all."""
        write_text(Path(path), self.to_json())

    def __str__(self) -> str:
        return as_plain_text(self._text)

    def __repr__(self) -> str:
        constants = ", ".join(f"{name} = {value:.4g}" for name, value in self.parameters.items())
        return f"<Fit of {self.law.name} to {self.data.rows} rows of {self.data.source}: {constants}>"

    def _repr_html_(self) -> str:
        return as_html(self._text)

    @property
    def _text(self) -> FitText:
        data, drawn = self.data, self.intervals or {}
        profiles = {interval.name: interval for interval in self.profiles}
        by = f" of {data.cluster_column!r}" if data.cluster_column else ""
        return FitText(
            heading=f"{self.law.equation}   ({self.law.source})",
            objective=f"{self.estimator.description} = {self.objective:.12g}",
            constants=tuple(
                ConstantText(name, value, self.units[name], name in self.held, drawn.get(name), profiles.get(name))
                for name, value in self.parameters.items()
            ),
            drawn=self.draws.sentence,
            has_draws=self.intervals is not None,
            level=self.draws.plan.level,
            interval_notes=self.interval_notes,
            misfits=self._misfits,
            facts=(
                f"residual sd of ln {data.response}: {self.residual_log_sd:.4g}",
                f"data: {data.source}, {data.rows} rows in {data.clusters} clusters{by}, {data.columns}",
                f"excluded: {data.excluded or 'none'}; varying axes: {data.varying_axes or 'none'}",
                f"certificate: {self.certificate.sentence}",
            ),
            notes=data.reading,
            warnings=self.warnings,
        )

    def prepared(self, variables: Mapping[str, object]) -> tuple[tuple[int, ...], dict[str, np.ndarray]]:
        """Shape and working columns of variables given by their letters; ValueError for missing or unknown ones."""
        if set(variables) != set(self.law.letters):
            raise ValueError(f"{self.law.name}: give exactly {self.law.letters}, not {sorted(variables)}")
        columns = np.broadcast_arrays(*(np.asarray(variables[letter], dtype=float) for letter in self.law.letters))
        values = {letter: column.ravel() for letter, column in zip(self.law.letters, columns)}
        return columns[0].shape, self.law.prepare(values, self.observations.references)

    def response(self, log_loss_SxN: np.ndarray) -> np.ndarray:
        """ln L in working units back to the response."""
        return self.link.backward(np.exp(log_loss_SxN + self.observations.references["L"]))


def fit(
    law: Law | str,
    table: RunTable | pd.DataFrame | Path | str,
    *,
    columns: Columns | Mapping[str, str] | None = None,
    estimator: Estimator = HUBER_HOFFMANN,
    fixed: Mapping[str, float] | None = None,
    bootstrap: Bootstrap | None = None,
    profiles: bool = True,
    search: Search | None = None,
) -> Fit:
    """Fit `law`, or the law of that name, to the rows of `table` with one estimator for point, bootstrap and profile.

    `columns` say what is read from which column; a mapping is short for the columns behind the law's letters
    ({"N": "params"}); this project's own are the default. `fixed` holds constants at published values. `bootstrap` says
    how intervals are drawn, `profiles` whether profile intervals are computed, `search` how the optimum is looked for.

    Raises ValueError for tables that cannot support the fit (named: columns, rows, reasons), `NotConverged` when the
    best point is not stationary, unless the search allows it.
    """
    data = observe(as_law(law), table, estimator, columns=columns, fixed=fixed)
    return fit_observations(data, bootstrap=bootstrap, profiles=profiles, search=search)


def fit_observations(
    data: Observations,
    *,
    bootstrap: Bootstrap | None = None,
    profiles: bool = True,
    search: Search | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Fit:
    """As `fit`, for data already observed (several fits of one table); `progress(done, all)` follows the bootstrap."""
    search = search or Search()
    problem = data.problem
    law = problem.law
    initial_SxP = initial_points(problem, search.seed)
    ends = minimise(problem, spread_starts(initial_SxP, search.starts), race=True)
    optima = distinct(problem, ends)
    theta_KxP = ends.theta_SxP[optima]
    constants_KxP = published_constants(data, theta_KxP)
    certificate = certify(problem, ends, optima, constants_KxP, law.names)
    if not (certificate.converged or search.allow_unconverged):
        raise NotConverged(
            f"{data.definition.source}: {law.name} did not converge: stationarity {certificate.stationarity:.1e} "
            f"at the best of {search.starts} starts. Constants there: {certificate.optima[0].parameters}",
            python="give a law with fewer constants, or a Search with more starts or allow_unconverged=True",
            command="give a law with fewer constants, or another --seed",
        )
    initial_SxP = initial_SxP[:INITIAL_KEPT]
    return Fit(
        law=law,
        estimator=problem.estimator,
        link=Link(data.definition.link),
        parameters={name: float(value) for name, value in zip(law.names, constants_KxP[0])},
        objective=float(ends.objective_S[optima[0]]),
        residual_log_sd=float(np.sqrt(np.mean(residual_logs(data, theta_KxP[0]) ** 2))),
        data=data.definition,
        certificate=certificate,
        profiles=profile_intervals(data, theta_KxP, initial_SxP) if profiles else (),
        draws=draw(data, theta_KxP, initial_SxP, bootstrap or Bootstrap(), progress),
        observations=data,
        theta_KxP=theta_KxP,
        initial_SxP=initial_SxP,
    )


def _finite(values: dict[str, object]) -> dict[str, object]:
    """Infinite ends as null: JSON knows no infinity."""
    return {k: (None if isinstance(v, float) and not np.isfinite(v) else v) for k, v in values.items()}


class _Callable(ModuleType):
    """The module is the function too: `scaling_fits.fit` is one thing, whichever of the two was imported."""

    __call__ = staticmethod(fit)


__signature__ = inspect.signature(fit)
sys.modules[__name__].__class__ = _Callable
