"""Constants that an optimum has at a bound: which, and what the objective would gain if the bound were not there.

A bound is part of a law (a floor is no negative loss) or keeps a search finite. Where the data push against one, the
other constants make up for it and are biased, however narrow their intervals.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass, replace
from types import SimpleNamespace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from scipy import stats

from scaling_fits.estimation.certificate import objective_scale
from scaling_fits.estimation.observations import Observations
from scaling_fits.estimation.problem import Problem
from scaling_fits.estimation.solver import minimise
from scaling_fits.laws.law import LOG_NEGLIGIBLE, LOG_VANISHED, Law, Parameter
from scaling_fits.uncertainty.bootstrap import published
from scaling_fits.uncertainty.profile_likelihood import degrees_of_freedom, unit_of_rise

TOUCHING = 1e-9
FLAT = 1e-6  # share of the objective: less is no gain
MOVED, MOVED_NAMED = 0.01, 4  # relative change of other constants that is named, and of how many
LOG_BEYOND = 60.0  # e-foldings beyond the bound of a positive constant
STEPS_BEYOND = (0.0, 1e-3, 0.03, 0.3, 3.0)  # starts, in working coordinates
LEAST_LOSS = 1e-12  # of the typical loss: a negative term may take no more away


@dataclass(frozen=True)
class AtBound:
    """A constant at its `lower` or `upper` bound, whose value is `bound`.

    Without the bound the objective would fall by `gain`, a `share` of it, with the constant at `beyond` and others
    changed as `moved` says (held, free). `wanted`: the fall is more than noise explains at 95 %, rows independent.
    """

    name: str
    side: str
    bound: float
    gain: float
    share: float
    beyond: float
    wanted: bool
    moved: dict[str, tuple[float, float]]

    @property
    def stands(self) -> str:
        """Where it stands."""
        return f"{self.name} stands at its {self.side} bound {self.bound:.4g}"

    @property
    def sentence(self) -> str:
        """That it stands there and what lies beyond, in plain words."""
        stands = self.stands
        if self.share <= FLAT:
            return f"{stands}; beyond it the objective does not fall"
        fall = f"{self.gain:.3g} ({100 * self.share:.3g} %)"
        if not self.wanted:
            return f"{stands}; beyond it the objective would fall by {fall}, no more than noise explains"
        sign = "<" if self.side == "lower" else ">"
        words = f"{stands}: the data want {self.name} {sign} {self.bound:.4g} (the objective would fall by {fall}, "
        words += f"to {self.name} = {self.beyond:.4g})"
        biased = [f"{name} ({held:.4g} for {free:.4g})" for name, (held, free) in self.moved.items()]
        return f"{words}, which biases {', '.join(biased)}" if biased else words


def at_bounds(data: Observations, theta_P: np.ndarray) -> tuple[AtBound, ...]:
    """The constants of an optimum (P,) that stand at a bound and are not held there on purpose."""
    problem = data.problem
    pinned = {position for position, _ in problem.fixed}
    touching = _touching(problem, theta_P[None])
    places = [(p, end) for p in range(len(problem.law.parameters)) for end in (0, 1) if p not in pinned]
    return tuple(_beyond(data, theta_P, p, end) for p, end in places if touching[end][0, p])


def open_ends(
    data: Observations, theta_RxP: np.ndarray, intervals: dict[str, tuple[float, float]], level: float
) -> dict[str, tuple[float | None, float | None]]:
    """Percentile intervals of draws (R, P), an end being None (open) where so many draws stand at a bound.

    So it is where the draws beyond the end have an exponent at its bound: the size of a factor A / N^alpha is then the
    bound's choice as much as alpha is.
    """
    touching = _touching(data.problem, theta_RxP)
    lower, upper = (side.mean(axis=0) for side in touching)
    law, values_RxP, tail = data.problem.law, published(data, theta_RxP), (1 - level) / 2
    found = {}
    for p, name in enumerate(law.names):
        low, high = intervals[name]
        powers = [law.names.index(one) for one in sorted(law.parameters[p].exponents)]
        led_R = (touching[0] | touching[1])[:, powers].any(axis=1)
        is_low = lower[p] >= tail or upper[p] > 1 - tail or _leads(led_R, values_RxP[:, p] <= low)
        is_high = upper[p] >= tail or lower[p] > 1 - tail or _leads(led_R, values_RxP[:, p] >= high)
        found[name] = (None if is_low else low, None if is_high else high)
    return found


def _leads(led_R: np.ndarray, beyond_R: np.ndarray) -> bool:
    """Whether most of the draws beyond an end are led by a bound."""
    return bool(beyond_R.any() and led_R[beyond_R].mean() > 0.5)


def _touching(problem: Problem, theta_SxP: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(S, P) twice: which constants are at their lower and upper bounds; a term that has vanished is at its lower."""
    size = len(problem.law.parameters)
    low_P, high_P = (bound[:size] for bound in problem.bounds)
    theta = theta_SxP[:, :size]
    vanished = np.array([_vanishes(parameter) for parameter in problem.law.parameters])
    lower = (theta <= low_P + TOUCHING * (1 + np.abs(low_P))) | (vanished & (theta <= LOG_VANISHED))
    return lower & (low_P < high_P), (theta >= high_P - TOUCHING * (1 + np.abs(high_P))) & (low_P < high_P)


def _vanishes(parameter: Parameter) -> bool:
    return parameter.log and parameter.low == LOG_NEGLIGIBLE


def _beyond(data: Observations, theta_P: np.ndarray, p: int, end: int) -> AtBound:
    problem = data.problem
    parameter = problem.law.parameters[p]
    negative = end == 0 and parameter.linear and _vanishes(parameter)
    wider = _signed_problem(problem, p) if negative else _wider(problem, p, end)
    start = theta_P.copy()
    if negative:
        start[p] = 0.0
    starts = np.tile(start, (len(STEPS_BEYOND), 1))
    starts[:, p] += (1 if end else -1) * np.array(STEPS_BEYOND)
    ends = minimise(wider, starts)
    best = int(np.nanargmin(ends.objective_S))
    objective = float(minimise(problem, theta_P[None]).objective_S[0])
    gain = max(objective - float(ends.objective_S[best]), 0.0)
    there = replace(data, problem=wider)
    held, free = published(data, theta_P[None])[0], published(there, ends.theta_SxP[best][None])[0]
    # Noise is what the law without the bound leaves: with it, the misfit would count as noise.
    noise = unit_of_rise(wider, ends.theta_SxP[best])
    wanted = gain > FLAT * objective and gain > noise * float(stats.f.ppf(0.95, 1, degrees_of_freedom(problem)))
    return AtBound(
        name=parameter.name,
        side="upper" if end else "lower",
        bound=float(held[p]),
        gain=gain,
        share=gain / objective_scale(problem, objective),
        beyond=float(free[p]),
        wanted=bool(wanted),
        moved=_moved(problem, theta_P, held, free, p) if wanted else {},
    )


def _moved(
    problem: Problem, theta_P: np.ndarray, held_P: np.ndarray, free_P: np.ndarray, p: int
) -> dict[str, tuple[float, float]]:
    """The other constants that change most, pure numbers (exponents) first, as their meaning changes least."""
    lower, upper = _touching(problem, theta_P[None])
    change = np.abs(free_P - held_P) / np.maximum(np.abs(held_P), 1e-300)
    parameters = problem.law.parameters
    names = [
        q for q in range(len(parameters)) if q != p and change[q] > MOVED and not (lower[0, q] or upper[0, q])
    ]  # fmt: skip
    names.sort(key=lambda q: (bool(parameters[q].units), -change[q]))
    return {parameters[q].name: (float(held_P[q]), float(free_P[q])) for q in names[:MOVED_NAMED]}


def _wider(problem: Problem, p: int, end: int) -> Problem:
    """The problem with one bound moved far out."""
    low, high = (bound.copy() for bound in (problem.law.bounds if problem.box is None else problem.box))
    reach = LOG_BEYOND if problem.law.parameters[p].log else 3 * (high[p] - low[p])
    (high if end else low)[p] += reach if end else -reach
    return replace(problem, box=(low, high))


def _signed_problem(problem: Problem, p: int) -> Problem:
    law = _signed(problem.law, problem.law.names[p])
    return replace(problem, law=law, box=law.bounds)


@functools.lru_cache(maxsize=256)
def _signed(law: Law, name: str) -> Law:
    """The law with one of its terms free to be negative: its factor is a number, no logarithm."""

    def log_loss(constants: Any, x: Any) -> jax.Array:
        given = vars(constants)
        rest = law.log_loss(SimpleNamespace(**given | {name: -1e3}), x)
        term = jnp.exp(law.log_loss(SimpleNamespace(**given | {name: 0.0}), x)) - jnp.exp(rest)
        return jnp.log(jnp.maximum(jnp.exp(rest) + given[name] * term, LEAST_LOSS))

    free: dict[str, Any] = {"log": False, "linear": False, "low": -1e3, "high": 1e3}
    parameters = tuple(replace(one, **free) if one.name == name else one for one in law.parameters)
    return replace(law, parameters=parameters, log_loss=log_loss, special_case=None, reduces_at=())
