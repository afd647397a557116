"""What a law is: an equation over named constants and variables, its constraints and units declared beside it.

A law is one function of two namespaces, `ln L = log_loss(constants, variables)`. Positive constants and positive
variables arrive in it as logarithms, everything else as it is, so that every direction of the fit has a comparable
size and nothing overflows.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import jax
import numpy as np

# Below e^-40 of the loss a term cannot be told from zero in float64; an exponent of 10 is a wall, not a law.
LOG_NEGLIGIBLE = -40.0
LOG_VANISHED = -30.0
LOG_LARGEST = 10.0
EXPONENT_LARGEST = 10.0
LOSS = "L"


@dataclass(frozen=True)
class Parameter:
    """One constant of a law under its published name.

    `low`, `high` bound it and `start` is where its first guesses lie, all as it is worked on: the logarithm when `log`,
    in units of the typical loss and of the variables' geometric means. `units` says how those units enter the constant:
    (("L", 1), ("N", "alpha")) is loss times N to the power alpha; "-alpha", "1/gamma" and "alpha/gamma" are powers too.
    `linear` marks positive constants whose terms add up to the loss.
    """

    name: str
    low: float
    high: float
    start: tuple[float, float]
    log: bool = False
    linear: bool = False
    units: tuple[tuple[str, float | str], ...] = ()

    @property
    def constraint(self) -> str:
        """The constraint in words, as written into a fit's output."""
        if self.log and self.high >= LOG_LARGEST:
            return f"{self.name} > 0"
        low, high = (math.exp(self.low), math.exp(self.high)) if self.log else (self.low, self.high)
        return f"{low:.3g} <= {self.name} <= {high:.3g}"

    @property
    def unit(self) -> str:
        """The unit in words, "1" for a pure number; N, D, … stand for the unit of their columns."""
        words = [("loss" if name == LOSS else name) + ("" if power == 1 else f"^{power}") for name, power in self.units]
        return " ".join(words) or "1"

    @property
    def exponents(self) -> frozenset[str]:
        """The constants that stand as powers in the unit: its size is known only with theirs."""
        words = [word for _, power in self.units if isinstance(power, str) for word in power.lstrip("-").split("/")]
        return frozenset(words) - {"1"}


def floor(name: str = "E") -> Parameter:
    """A positive part of the loss that no variable changes."""
    return Parameter(name, LOG_NEGLIGIBLE, LOG_LARGEST, (-3.0, -0.1), log=True, linear=True, units=((LOSS, 1),))


def coefficient(name: str, *, linear: bool = True, loss: float | str = 1, **powers: float | str) -> Parameter:
    """A positive factor in front of a falling term; `powers` are its units: coefficient("A", N="alpha")."""
    units = ((LOSS, loss), *powers.items())
    return Parameter(name, LOG_NEGLIGIBLE, LOG_LARGEST, (-4.0, 0.0), log=True, linear=linear, units=units)


def exponent(name: str, start: tuple[float, float] = (0.05, 1.2)) -> Parameter:
    """A number from 0 to 10 to whose power a variable is raised."""
    return Parameter(name, 0.0, EXPONENT_LARGEST, start)


def positive(name: str, start: tuple[float, float], low: float, high: float, **powers: float | str) -> Parameter:
    """Any other positive constant; `start`, `low` and `high` are values, not logarithms, in reference units."""
    bounds = [math.log(value) for value in (low, high, *start)]
    return Parameter(name, bounds[0], bounds[1], (bounds[2], bounds[3]), log=True, units=tuple(powers.items()))


def number(name: str, start: tuple[float, float], low: float, high: float, **powers: float | str) -> Parameter:
    """A constant of either sign; `start`, `low` and `high` in reference units."""
    return Parameter(name, low, high, start, units=tuple(powers.items()))


@dataclass(frozen=True)
class Variable:
    """One letter of a law's equation.

    `log` variables must be positive and arrive as ln(value / reference); others, which may be zero, arrive as value /
    reference. Variables of one `dimension` share the reference, the geometric mean of their positive values; None
    leaves the numbers as they are.
    """

    name: str
    dimension: str | None = None
    log: bool = True


@dataclass(frozen=True)
class Law:
    """A law `L = equation`, `log_loss` being the logarithm of its right-hand side.

    `name`, `equation` and `source` (the paper) go into every output. `special_case` is the law that this one contains,
    `reduces_at` the values of the further constants at which it does. `fresh_data_only` says that the law is not
    defined where data repeat.
    """

    name: str
    equation: str
    source: str
    variables: tuple[Variable, ...]
    parameters: tuple[Parameter, ...]
    log_loss: Callable[[Any, Any], jax.Array]
    special_case: Law | None = None
    reduces_at: tuple[tuple[str, float], ...] = ()
    fresh_data_only: bool = False

    @property
    def names(self) -> tuple[str, ...]:
        """Parameter names in order."""
        return tuple(parameter.name for parameter in self.parameters)

    @property
    def letters(self) -> tuple[str, ...]:
        """Variable names in order."""
        return tuple(variable.name for variable in self.variables)

    @property
    def bounds(self) -> tuple[np.ndarray, np.ndarray]:
        """Lower and upper bounds (P,) in working coordinates."""
        return np.array([p.low for p in self.parameters]), np.array([p.high for p in self.parameters])

    def log_prediction(self, theta_P: jax.Array | Sequence[jax.Array], x: Mapping[str, jax.Array]) -> jax.Array:
        """ln L (N,) in units of the typical loss at variables as `prepare` gives them; traceable."""
        constants = SimpleNamespace(**{name: theta_P[p] for p, name in enumerate(self.names)})
        return self.log_loss(constants, SimpleNamespace(**x))

    def references(self, values: Mapping[str, np.ndarray], loss: np.ndarray) -> dict[str, float]:
        """ln of the reference of every dimension, and of the loss under "L": geometric means of positive values."""
        found = {LOSS: float(np.mean(np.log(loss)))}
        for variable in self.variables:
            if variable.dimension is not None and variable.dimension not in found:
                alike = [np.asarray(values[v.name]) for v in self.variables if v.dimension == variable.dimension]
                together = np.concatenate([column.ravel() for column in alike])
                found[variable.dimension] = float(np.mean(np.log(together[together > 0])))
        return found

    def prepare(self, values: Mapping[str, np.ndarray], references: Mapping[str, float]) -> dict[str, np.ndarray]:
        """The variables as the equation takes them, in float64."""
        prepared = {}
        for variable in self.variables:
            log_reference = 0.0 if variable.dimension is None else references[variable.dimension]
            column = np.asarray(values[variable.name], dtype=np.float64)
            prepared[variable.name] = np.log(column) - log_reference if variable.log else column / np.exp(log_reference)
        return prepared

    def published(self, theta_SxP: np.ndarray, references: Mapping[str, float]) -> np.ndarray:
        """Constants (S, P) as a paper prints them, in the units of the columns, from working coordinates."""
        constants = np.array(theta_SxP[:, : len(self.parameters)], dtype=np.float64)
        for p, parameter in enumerate(self.parameters):
            log_unit = self._log_unit(parameter, theta_SxP, references)
            constants[:, p] = (
                np.exp(theta_SxP[:, p] + log_unit) if parameter.log else constants[:, p] * np.exp(log_unit)
            )
        return constants

    def working(self, published_SxP: np.ndarray, references: Mapping[str, float]) -> np.ndarray:
        """Inverse of `published`; raises ValueError for a constant that must be positive and is not."""
        given = np.array(published_SxP, dtype=np.float64)
        theta = given.copy()
        for p, parameter in enumerate(self.parameters):
            if parameter.log and (given[:, p] <= 0).any():
                raise ValueError(f"{self.name}: {parameter.constraint} is violated; give positive values")
            log_unit = self._log_unit(parameter, given, references)
            theta[:, p] = np.log(given[:, p]) - log_unit if parameter.log else given[:, p] * np.exp(-log_unit)
        return theta

    def _log_unit(
        self, parameter: Parameter, values_SxP: np.ndarray, references: Mapping[str, float]
    ) -> np.ndarray | float:
        """ln of the size (S,) of a constant's unit; powers may be other constants, never logarithmic ones."""
        return sum((self._power(power, values_SxP) * references[name] for name, power in parameter.units), 0.0)

    def _power(self, power: float | str, values_SxP: np.ndarray) -> np.ndarray | float:
        """A power written as a number, or as "alpha", "-alpha", "1/gamma" or "alpha/gamma"."""
        if not isinstance(power, str):
            return float(power)
        sign, word = (-1.0, power[1:]) if power.startswith("-") else (1.0, power)
        above, _, below = word.partition("/")
        numerator = sign if above == "1" else sign * values_SxP[:, self.names.index(above)]
        return numerator / values_SxP[:, self.names.index(below)] if below else numerator
