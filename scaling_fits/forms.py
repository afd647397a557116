"""Scaling laws as data: sums of power-law terms, evaluated in log space with exact first and second derivatives.

Parameters are worked on as (ln floor, ln coefficients, exponents) at centred ln N, ln D, so that every direction has
a comparable size; `Form.standard` translates back to the constants a paper prints.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from functools import cached_property
from itertools import combinations, combinations_with_replacement, product

import numpy as np

# Below e^-40 of the loss a term cannot be told from zero in float64; an exponent of 10 is a wall, not a law.
LOG_NEGLIGIBLE = -40.0
LOG_LARGEST = 10.0
EXPONENT_LARGEST = 10.0
START_EXPONENTS = (0.05, 0.1, 0.2, 0.3, 0.45, 0.7, 1.0, 1.5)
START_SHARE_PARTS = 6


class Role(Enum):
    """What a parameter does in a law; its constraint follows from it."""

    FLOOR = "floor"
    COEFFICIENT = "coefficient"
    EXPONENT = "exponent"


@dataclass(frozen=True)
class Parameter:
    """One constant of a law under its published name; floors and coefficients are positive, exponents at least 0."""

    name: str
    role: Role

    @property
    def constraint(self) -> str:
        """The constraint in words, as written into a fit's output."""
        if self.role is Role.EXPONENT:
            return f"0 <= {self.name} <= {EXPONENT_LARGEST:g}"
        return f"{self.name} > 0"

    @property
    def working_bounds(self) -> tuple[float, float]:
        """Box in working coordinates: ln of floors and coefficients (relative to the loss), exponents as they are."""
        if self.role is Role.EXPONENT:
            return 0.0, EXPONENT_LARGEST
        return LOG_NEGLIGIBLE, LOG_LARGEST


@dataclass(frozen=True)
class Term:
    """`coefficient * prod(variable ** -exponent)`; `decay` holds (variable, exponent) pairs, none for a floor."""

    coefficient: str
    decay: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True)
class Form:
    """A law `L = sum of terms`.

    `name` and `equation` go into every output, `source` cites the paper; `variables` are the letters of the formula
    and `parameters` its constants in printed order. `fresh_data_only` says that the law is not defined where data
    repeat.
    """

    name: str
    equation: str
    source: str
    variables: tuple[str, ...]
    parameters: tuple[Parameter, ...]
    terms: tuple[Term, ...]
    fresh_data_only: bool = False

    @property
    def names(self) -> tuple[str, ...]:
        """Parameter names in order."""
        return tuple(parameter.name for parameter in self.parameters)

    def bounds(self) -> tuple[np.ndarray, np.ndarray]:
        """Lower and upper bounds (P,) in working coordinates."""
        lower, upper = zip(*(parameter.working_bounds for parameter in self.parameters))
        return np.array(lower), np.array(upper)

    def design(self, log_x_NxV: np.ndarray) -> Design:
        """What the rows contribute to every evaluation; `log_x_NxV` are the centred logarithms of `variables`."""
        design_KxNxP = np.zeros((len(self.terms), len(log_x_NxV), len(self.parameters)))
        for k, term in enumerate(self.terms):
            design_KxNxP[k, :, self.names.index(term.coefficient)] = 1.0
            for variable, exponent in term.decay:
                design_KxNxP[k, :, self.names.index(exponent)] = -log_x_NxV[:, self.variables.index(variable)]
        return Design(design_KxNxP)

    def evaluate(self, theta_SxP: np.ndarray, design: Design) -> Evaluation:
        """ln L for S parameter vectors at once, with what its derivatives need."""
        share_KxSxN = np.matmul(theta_SxP, design.logits_KxNxP.transpose(0, 2, 1))
        largest_SxN = share_KxSxN.max(axis=0)
        share_KxSxN -= largest_SxN
        np.exp(share_KxSxN, out=share_KxSxN)
        total_SxN = share_KxSxN.sum(axis=0)
        share_KxSxN /= total_SxN
        return Evaluation(largest_SxN + np.log(total_SxN), share_KxSxN, design)

    def standard(self, theta_SxP: np.ndarray, log_centre_V: np.ndarray, log_scale: float) -> np.ndarray:
        """Published constants (S, P) from working coordinates centred at `log_centre_V`, loss scaled by `log_scale`."""
        return self._exponentiate(self._shift(theta_SxP, log_centre_V, log_scale))

    def working(self, standard_SxP: np.ndarray, log_centre_V: np.ndarray, log_scale: float) -> np.ndarray:
        """Inverse of `standard`; raises ValueError for a floor or coefficient that is not positive."""
        theta_SxP = np.array(standard_SxP, dtype=float)
        for p, parameter in enumerate(self.parameters):
            if parameter.role is not Role.EXPONENT:
                if (theta_SxP[:, p] <= 0).any():
                    raise ValueError(f"{self.name}: {parameter.constraint} is violated; give positive values")
                theta_SxP[:, p] = np.log(theta_SxP[:, p])
        return self._shift(theta_SxP, -log_centre_V, -log_scale)

    def starts(self) -> np.ndarray:
        """Start grid (S, P) in working coordinates: exponents crossed with how the terms share the typical loss."""
        grid = []
        for share_K in _simplex(len(self.terms), START_SHARE_PARTS):
            exponents = [p.name for p in self.parameters if p.role is Role.EXPONENT]
            for values in product(START_EXPONENTS, repeat=len(exponents)):
                start = dict(zip(exponents, values))
                start |= {term.coefficient: float(np.log(s)) for term, s in zip(self.terms, share_K)}
                grid.append([start[name] for name in self.names])
        return np.array(grid)

    def start_grid(self, values: Mapping[str, Sequence[float]]) -> np.ndarray:
        """Product (S, P) of the given values of every published constant; ValueError names what is missing."""
        if set(values) != set(self.names):
            raise ValueError(f"{self.name}: starts must name exactly {self.names}, not {sorted(values)}")
        return np.array(list(product(*(values[name] for name in self.names))), dtype=float)

    def _shift(self, theta_SxP: np.ndarray, log_centre_V: np.ndarray, log_scale: float) -> np.ndarray:
        shifted_SxP = np.array(theta_SxP, dtype=float)
        for term in self.terms:
            column = self.names.index(term.coefficient)
            shifted_SxP[:, column] += log_scale
            for variable, exponent in term.decay:
                centre = log_centre_V[self.variables.index(variable)]
                shifted_SxP[:, column] += theta_SxP[:, self.names.index(exponent)] * centre
        return shifted_SxP

    def _exponentiate(self, log_SxP: np.ndarray) -> np.ndarray:
        columns = [
            log_SxP[:, p] if parameter.role is Role.EXPONENT else np.exp(log_SxP[:, p])
            for p, parameter in enumerate(self.parameters)
        ]
        return np.stack(columns, axis=1)


@dataclass(frozen=True)
class Design:
    """The rows of a table as seen by a form: the log of term k at row n is `logits_KxNxP[k, n] @ theta`."""

    logits_KxNxP: np.ndarray

    @cached_property
    def products(self) -> dict[tuple[int, int], tuple[np.ndarray, np.ndarray]]:
        """Per pair of terms k <= l: the symmetric outer product of their gradients, row by row.

        Given as the entries of the flattened (P, P) matrix that are not zero, and their values (N, entries).
        """
        products = {}
        for k, l in combinations_with_replacement(range(len(self.logits_KxNxP)), 2):
            outer_NxPxP = self.logits_KxNxP[k][:, :, None] * self.logits_KxNxP[l][:, None, :]
            if k != l:
                outer_NxPxP = outer_NxPxP + outer_NxPxP.transpose(0, 2, 1)
            flat_NxPP = outer_NxPxP.reshape(len(outer_NxPxP), -1)
            entries = np.flatnonzero(flat_NxPP.any(axis=0))
            products[k, l] = entries, np.ascontiguousarray(flat_NxPP[:, entries])
        return products


@dataclass(frozen=True)
class Evaluation:
    """ln L (S, N) of S parameter vectors at N rows, and products with its derivatives that never form a Jacobian.

    `share_KxSxN` is the part of L that comes from each term.
    """

    value_SxN: np.ndarray
    share_KxSxN: np.ndarray
    design: Design

    def pull(self, v_SxN: np.ndarray) -> np.ndarray:
        """(S, P): sum over rows of v times the gradient of ln L."""
        return np.matmul(v_SxN * self.share_KxSxN, self.design.logits_KxNxP).sum(axis=0)

    def gram(self, v_SxN: np.ndarray) -> np.ndarray:
        """(S, P, P): sum over rows of v times gradient gradient^T."""
        weighted_KxSxN = v_SxN * self.share_KxSxN
        pairs = self.design.products
        return self._collect({(k, l): weighted_KxSxN[k] * self.share_KxSxN[l] for k, l in pairs})

    def curvature(self, v_SxN: np.ndarray) -> np.ndarray:
        """(S, P, P): sum over rows of v times the Hessian of ln L."""
        own = {(k, k): v_SxN * share_SxN for k, share_SxN in enumerate(self.share_KxSxN)}
        return self._collect(own) - self.gram(v_SxN)

    def _collect(self, weights: dict[tuple[int, int], np.ndarray]) -> np.ndarray:
        """(S, P, P): products of pairs of terms summed over rows with weights (S, N) per pair."""
        size = self.design.logits_KxNxP.shape[2]
        flat_SxPP = np.zeros((len(self.value_SxN), size * size))
        for pair, weight_SxN in weights.items():
            entries, values_NxE = self.design.products[pair]
            flat_SxPP[:, entries] += weight_SxN @ values_NxE
        return flat_SxPP.reshape(-1, size, size)


def power_law(variable: str = "N") -> Form:
    """`L = E + A / variable^alpha` in one variable, "N" or "D" (Hestness et al. 2017; Henighan et al. 2020)."""
    return Form(
        name=f"power_law_{variable}",
        equation=f"L = E + A / {variable}^alpha",
        source="Hestness et al. 2017, arXiv:1712.00409; Henighan et al. 2020, arXiv:2010.14701",
        variables=(variable,),
        parameters=(
            Parameter("E", Role.FLOOR),
            Parameter("A", Role.COEFFICIENT),
            Parameter("alpha", Role.EXPONENT),
        ),
        terms=(Term("E"), Term("A", ((variable, "alpha"),))),
        fresh_data_only=variable == "D",
    )


CHINCHILLA = Form(
    name="chinchilla",
    equation="L = E + A / N^alpha + B / D^beta",
    source="Hoffmann et al. 2022, arXiv:2203.15556, approach 3 (eq. 2, 3)",
    variables=("N", "D"),
    parameters=(
        Parameter("E", Role.FLOOR),
        Parameter("A", Role.COEFFICIENT),
        Parameter("B", Role.COEFFICIENT),
        Parameter("alpha", Role.EXPONENT),
        Parameter("beta", Role.EXPONENT),
    ),
    terms=(Term("E"), Term("A", (("N", "alpha"),)), Term("B", (("D", "beta"),))),
    fresh_data_only=True,
)


def _simplex(terms: int, parts: int) -> list[np.ndarray]:
    """All ways to share one whole among `terms` terms in positive multiples of 1/parts."""
    cuts = combinations(range(1, parts), terms - 1)
    return [np.diff([0, *cut, parts]) / parts for cut in cuts]
