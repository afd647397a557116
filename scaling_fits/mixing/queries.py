"""How a fitted law of real and synthetic records is asked: losses, slopes, draws, and what was measured."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from scaling_fits.estimation.problem import float64
from scaling_fits.fit import Fit
from scaling_fits.laws.law import Law

LETTERS = ("N", "R", "S", "U")
CHUNK_NUMBERS = 1 << 21


@dataclass(frozen=True)
class Answer:
    """What can be written as JSON."""

    def to_dict(self) -> dict[str, object]:
        """Plain values for JSON; what is not finite is null."""
        return plain(asdict(self))


@dataclass(frozen=True)
class Estimate:
    """A number with its percentile interval over the bootstrap's draws, None where the fit has none.

    Infinite means that no finite number does it.
    """

    value: float
    interval: tuple[float, float] | None

    def __str__(self) -> str:
        if self.interval is None:
            return f"{self.value:.4g} (no interval)"
        return f"{self.value:.4g} ({self.interval[0]:.4g} to {self.interval[1]:.4g})"


def check_mixed(fit: Fit, **numbers: float) -> None:
    """ValueError unless the law is one of real and synthetic records and every number is finite and positive."""
    if fit.law.letters != LETTERS or "R_D" not in fit.law.names:
        raise ValueError(f"{fit.law.name} has the variables {fit.law.letters}; a best mix needs a law in {LETTERS}")
    for name, value in numbers.items():
        if not (math.isfinite(value) and value > 0):
            raise ValueError(f"{name} must be finite and above 0, not {value}")


def constants_drawn(fit: Fit) -> np.ndarray:
    """(1 + draws, P): the fit's own point first."""
    return np.concatenate([fit.theta_KxP[:1], fit.draws.theta_RxP])


def estimate_of(fit: Fit, values_S: np.ndarray) -> Estimate:
    """The point, first of `values_S`, with the percentile interval of the draws that follow it."""
    if len(values_S) == 1:
        return Estimate(float(values_S[0]), None)
    tail = (1 - fit.draws.plan.level) / 2
    # Interpolating between draws would make NaN of infinite ones.
    low, high = np.quantile(values_S[1:], [tail, 1 - tail], method="inverted_cdf")
    return Estimate(float(values_S[0]), (float(low), float(high)))


@functools.lru_cache(maxsize=64)
def _log_predictions(law: Law) -> Callable[..., Any]:
    """Compiled: ln L (S, G), every parameter vector at variables of its own."""
    return jax.jit(jax.vmap(law.log_prediction))


@functools.lru_cache(maxsize=64)
def loss_slopes(law: Law) -> Callable[..., Any]:
    """Compiled: derivatives (S,) of ln L in every variable, at one point."""
    return jax.jit(jax.vmap(jax.grad(law.log_prediction, argnums=1), (0, None)))


def log_losses(fit: Fit, theta_SxP: np.ndarray, *columns: np.ndarray | float) -> np.ndarray:
    """(S, G): ln of the law at N, R, S, U, each broadcast to (S, G)."""
    shape = np.broadcast_shapes((len(theta_SxP), 1), *(np.shape(column) for column in columns))
    part = max(1, CHUNK_NUMBERS // shape[1])
    values = {letter: np.broadcast_to(column, shape) for letter, column in zip(LETTERS, columns)}
    x = fit.law.prepare(values, fit.observations.references)
    found = []
    for start in range(0, shape[0], part):
        rows = slice(start, start + part)
        with float64():
            given = {letter: jnp.asarray(value[rows]) for letter, value in x.items()}
            theta = jnp.asarray(theta_SxP[rows, : len(fit.law.parameters)])
            found.append(np.asarray(_log_predictions(fit.law)(theta, given)))
    return np.concatenate(found) + fit.observations.references["L"]


def with_replacement(
    fit: Fit,
    theta_SxP: np.ndarray,
    n: np.ndarray | float,
    records: np.ndarray | float,
    r: np.ndarray,
    pool: float,
) -> np.ndarray:
    """(S, G): ln of the law when a share `r` of the records is real."""
    return log_losses(fit, theta_SxP, n, r * records, (1 - r) * records, np.where(r > 0, pool, 0.0))


def measured_fractions(fit: Fit) -> np.ndarray:
    """Real fractions in the rows fitted, in order."""
    real, synthetic = (fit.observations.values[letter] for letter in ("R", "S"))
    return np.unique(np.round(real / (real + synthetic), 6))


def measured_ranges(fit: Fit) -> dict[str, tuple[float, float]]:
    """Ranges of the rows fitted: size, records in all, pool, epochs of real data, fraction above 0."""
    values = fit.observations.values
    has_real = values["R"] > 0
    fractions = measured_fractions(fit)
    columns = {
        "N": values["N"],
        "records": values["R"] + values["S"],
        "pool": values["U"][has_real],
        "epochs": values["R"][has_real] / values["U"][has_real],
        "r": fractions[fractions > 0],
    }
    return {name: (float(column.min()), float(column.max())) for name, column in columns.items()}


def range_notes(fit: Fit, n: float, records: float, pool: float, epochs: float) -> tuple[str, ...]:
    """What lies outside the rows fitted, and a missing bootstrap."""
    measured = measured_ranges(fit)
    asked = {"N": n, "records": records, "pool": pool}
    outside = [
        beyond_range(fit, name, value)
        for name, value in asked.items()
        if not measured[name][0] * (1 - 1e-9) <= value <= measured[name][1] * (1 + 1e-9)
    ]
    outside += [beyond_range(fit, "epochs", epochs)] if epochs > measured["epochs"][1] * (1 + 1e-9) else []
    return (*outside, *([] if fit.draws.reason is None else [fit.draws.reason]))


def beyond_range(fit: Fit, name: str, value: float) -> str:
    """The note for a value that the fitted rows do not span."""
    low, high = measured_ranges(fit)[name]
    return f"extrapolation: {name} = {value:.4g}, measured from {low:.4g} to {high:.4g}"


def plain(value: object) -> Any:
    """Tuples as lists, keys as words, None for what is not finite."""
    if isinstance(value, dict):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, tuple):
        return [plain(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
