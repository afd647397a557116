"""What planned runs would tell: sandwich information of rows near a fit, and widths of a quantity under it."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
from scipy import stats

from scaling_fits.estimation.problem import jacobian
from scaling_fits.fit import Fit
from scaling_fits.uncertainty.profile_likelihood import scores

DRAWS = 24  # of the constants, over which a design is averaged
STEP = 1e-5  # of working coordinates, for the gradient of a quantity
RIDGE = 1e-4  # while choosing: a standard deviation of 100 in working coordinates, so that no variance is infinite
UNSEEN, ALONG_UNSEEN = 1e-11, 1e-5
PADDED = 64
TRUNK = "trunk_id"


@dataclass(frozen=True)
class Quantity:
    """A number that a law gives: `evaluate(fit, theta)` maps working coordinates (S, P) to its values (S,).

    `step` is that of its numerical gradient in working coordinates.
    """

    name: str
    evaluate: Callable[[Fit, np.ndarray], np.ndarray]
    step: float = STEP


@dataclass(frozen=True)
class Width:
    """Half-width of a quantity's interval: at the fitted constants, and its 10, 50, 90 % points over the draws of them.

    Infinite where the runs do not identify the quantity; `draws` is None without a bootstrap.
    """

    at_fit: float
    draws: tuple[float, float, float] | None

    def __str__(self) -> str:
        words = "not identified" if math.isinf(self.at_fit) else f"{self.at_fit:.3g}"
        if self.draws is None:
            return words
        low, middle, high = ("not identified" if math.isinf(x) else f"{x:.3g}" for x in self.draws)
        return f"± {words} (over draws of the constants {middle}, 10 to 90 %: {low} to {high})"


@dataclass(frozen=True)
class LocalInformation:
    """The law near K vectors of constants, the fit's own first, in its free working coordinates and units of the noise.

    `bread` sums J^T J and `meat` J^T Sigma J: (K, P, P) over the rows fitted, (K, C, P, P) of every unit of candidates.
    """

    value_K: np.ndarray
    gradient_KxP: np.ndarray
    bread_KxPxP: np.ndarray
    meat_KxPxP: np.ndarray
    unit_bread_KxCxPxP: np.ndarray
    unit_meat_KxCxPxP: np.ndarray
    cost_C: np.ndarray
    members: list[np.ndarray]
    noise_sd: float
    level: float

    def both(self, counts_C: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Bread and meat (K, P, P) with `counts_C` (or (K, C)) more of every unit."""
        counts_KxC = np.broadcast_to(counts_C, self.unit_bread_KxCxPxP.shape[:2])
        units = self.unit_bread_KxCxPxP, self.unit_meat_KxCxPxP
        bread, meat = (np.einsum("kcpq,kc->kpq", unit, counts_KxC, optimize=True) for unit in units)
        return self.bread_KxPxP + bread, self.meat_KxPxP + meat

    def half_widths(self, counts_C: np.ndarray) -> np.ndarray:
        """(K,): half-width of the quantity, infinite where its gradient has a part that no run sees."""
        found = []
        for bread, meat, gradient in zip(*self.both(counts_C), self.gradient_KxP):
            scale = np.sqrt(np.where(np.diag(bread) > 0, np.diag(bread), 1.0))
            values, vectors = np.linalg.eigh(bread / np.outer(scale, scale))
            seen = values > UNSEEN * values[-1]
            share = vectors.T @ (gradient / scale)
            unseen = np.abs(share[~seen]).max(initial=0.0) > ALONG_UNSEEN * max(np.abs(share).max(), 1e-300)
            along = vectors[:, seen] @ (share[seen] / values[seen]) / scale
            found.append(np.inf if unseen else np.sqrt(along @ meat @ along))
        return stats.norm.ppf((1 + self.level) / 2) * np.array(found)

    def width(self, counts_C: np.ndarray) -> Width:
        """Half-width at the fit, and over the draws."""
        half_K = self.half_widths(counts_C)
        if len(half_K) == 1:
            return Width(float(half_K[0]), None)
        low, middle, high = map(float, np.quantile(half_K[1:], [0.1, 0.5, 0.9], method="inverted_cdf"))
        return Width(float(half_K[0]), (low, middle, high))

    def scores(self, counts_C: np.ndarray, criterion: str, *, one_more: bool = False) -> np.ndarray:
        """What a design minimises (1,), or (C,) with one more of every unit: ln variance or ln det, mean over K."""
        bread, meat = (matrix[:, None] for matrix in self.both(counts_C))
        if one_more:
            bread, meat = bread + self.unit_bread_KxCxPxP, meat + self.unit_meat_KxCxPxP
        ridge = RIDGE * np.eye(bread.shape[-1])
        if criterion == "D":
            logs = np.linalg.slogdet(meat + ridge)[1] - 2 * np.linalg.slogdet(bread + ridge)[1]
            return logs.mean(axis=0)
        moves = self.gradient_KxP.any(axis=1)
        if not moves.any():
            return np.zeros(bread.shape[1])
        gradient = np.broadcast_to(self.gradient_KxP[moves, None, :, None], (*bread[moves].shape[:3], 1))
        along = np.linalg.solve(bread[moves] + ridge, gradient)
        return np.log((along * ((meat[moves] + ridge) @ along)).sum(axis=(2, 3))).mean(axis=0)


def linearise(
    fit: Fit,
    candidates: pd.DataFrame,
    quantity: Quantity,
    noise_sd: float | None,
    trunk_sd: float,
    draws: int = DRAWS,
) -> LocalInformation:
    """The candidates' information, and the quantity's gradient, at the fit's point and at `draws` of its bootstrap."""
    _check(fit, candidates, noise_sd, trunk_sd)
    data, problem = fit.observations, fit.observations.problem
    values = {letter: candidates[letter].to_numpy(dtype=float) for letter in fit.law.letters}
    # Filled up to few lengths, so that plans of similar length share a compiled program.
    filled = np.resize(np.arange(len(candidates)), -(-len(candidates) // PADDED) * PADDED)
    x = fit.law.prepare({letter: value[filled] for letter, value in values.items()}, data.references)
    ones = np.ones(len(filled))
    fresh = replace(problem, x=x, log_y_N=0 * ones, weight_N=ones, sd_N=ones)
    theta_KxP = np.concatenate([fit.theta_KxP[:1], fit.draws.theta_RxP[:draws]])
    low, high = problem.bounds
    free = np.flatnonzero((low < high)[: len(fit.law.parameters)])
    # A coordinate that the data hold on its bound keeps still under small changes of them.
    still_KxP = ((theta_KxP <= low) | (theta_KxP >= high))[:, free]
    sd, effective = _noise(fit, noise_sd)
    trunks = candidates[TRUNK].astype(str).to_numpy() if TRUNK in candidates else np.arange(len(candidates))
    members = [np.flatnonzero(trunks == trunk) for trunk in pd.unique(trunks)]
    own = [np.flatnonzero(data.cluster_N == cluster) for cluster in range(int(data.cluster_N.max()) + 1)]
    prior, units = [], []
    for theta_P, still in zip(theta_KxP, still_KxP):
        old_NxP = jacobian(problem, theta_P)[:, free] * np.sqrt(problem.weight_N)[:, None]
        new_CxP = jacobian(fresh, theta_P)[: len(candidates), free]
        held = np.diag(still.astype(float))
        prior.append(_matrices(old_NxP * ~still / effective, own, trunk_sd / sd).sum(axis=1) + held)
        units.append(_matrices(new_CxP * ~still / effective, members, trunk_sd / sd))
    (bread, meat), (unit_bread, unit_meat) = (np.stack(parts, axis=1) for parts in (prior, units))
    value_K, gradient_KxP = _gradient(fit, quantity, theta_KxP, free)
    cost = candidates["flops"].to_numpy(dtype=float)
    return LocalInformation(
        value_K,
        gradient_KxP * ~still_KxP,
        *(bread, meat, unit_bread, unit_meat),
        np.array([cost[rows].sum() for rows in members]),
        members,
        sd,
        fit.draws.plan.level,
    )


def _check(fit: Fit, candidates: pd.DataFrame, noise_sd: float | None, trunk_sd: float) -> None:
    names = [*fit.law.letters, "flops"]
    missing = [name for name in names if name not in candidates]
    if missing or candidates.empty:
        raise ValueError(f"candidates: {len(candidates)} rows, missing columns {missing}; they need rows and {names}")
    numbers = candidates[names].to_numpy(dtype=float)
    positive = [*(variable.log for variable in fit.law.variables), True]
    if not (np.isfinite(numbers) & np.where(positive, numbers > 0, numbers >= 0)).all():
        raise ValueError(f"candidates: {names} must be finite and not below 0 (logarithmic letters and flops above 0)")
    for name, sd in (("noise_sd", 1.0 if noise_sd is None else noise_sd), ("trunk_sd", trunk_sd)):
        if not (math.isfinite(sd) and (sd > 0 or (sd == 0 and name == "trunk_sd"))):
            raise ValueError(f"{name} must be finite and above 0 (trunk_sd may be 0), not {sd}")
    if fit.data.sd_column is not None:
        raise ValueError(
            f"{fit.data.source} was fitted with known sd, which candidates lack; fit without and give noise_sd"
        )


def _noise(fit: Fit, noise_sd: float | None) -> tuple[float, float]:
    """Noise sd of ln response, and what that is under the fit's estimator and in its residuals, sqrt(E psi^2) / E psi'.

    Where the size is given, the shape is that of the residuals.
    """
    problem = fit.observations.problem
    psi, bend = scores(problem, fit.theta_KxP[0])
    inflation = math.sqrt(len(psi) / max(len(psi) - problem.free, 1))
    seen = inflation * fit.residual_log_sd
    weight = problem.weight_N
    effective = (
        inflation * math.sqrt(np.average(psi**2, weights=weight)) / max(np.average(bend, weights=weight), 1e-300)
    )
    return (seen, effective) if noise_sd is None else (noise_sd, effective * noise_sd / seen)


def _matrices(rows_NxP: np.ndarray, groups: list[np.ndarray], trunk_ratio: float) -> np.ndarray:
    """(2, groups, P, P): J^T J and J^T (1 + trunk_ratio^2 11^T) J of every group of rows."""
    bread = np.stack([rows_NxP[rows].T @ rows_NxP[rows] for rows in groups])
    sums = np.stack([rows_NxP[rows].sum(axis=0) for rows in groups])
    return np.stack([bread, bread + trunk_ratio**2 * sums[:, :, None] * sums[:, None, :]])


def _gradient(fit: Fit, quantity: Quantity, theta_KxP: np.ndarray, free: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Values (K,) and central differences (K, free) of the quantity."""
    moves = np.eye(theta_KxP.shape[1])[free] * quantity.step
    around = np.concatenate([theta_KxP[None], *(theta_KxP[None] + sign * moves[:, None] for sign in (1, -1))])
    values = quantity.evaluate(fit, around.reshape(-1, theta_KxP.shape[1])).reshape(len(around), len(theta_KxP))
    up, down = values[1 : 1 + len(free)], values[1 + len(free) :]
    return values[0], ((up - down) / (2 * quantity.step)).T


def finite(value: float) -> float | None:
    """A number for JSON: what is not finite is None."""
    return value if math.isfinite(value) else None
