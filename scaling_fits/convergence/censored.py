"""Speed-ups and slopes of records to one loss, with intervals; trunks that did not reach it enter as censored.

Stated for the absolute definition alone: one loss for every trunk. Trunks that end above it are censored from the
right, trunks that begin below it from the left.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
from scipy import optimize, special, stats

from scaling_fits.convergence.times import BEFORE_FIRST, NOT_REACHED, REACHED

DOF_MIN = 2
EFFECT_MAX = math.log(1e6)  # an effect beyond a factor of a million is an open end
FLAT = 1e-6  # of the deviance: below it an infinite effect fits as well as any


@dataclass(frozen=True)
class LogEffect:
    """One effect on ln `measure` to the absolute loss `target`: ln(arm a / arm b), or the slope in ln N.

    `estimate` is None where every value on one side fits as well; an end of `interval` (profile likelihood or t) is
    None where it is open. `interval` and `p_value` are None when too few trunks reach the target: see `reason`.
    `observed`, `censored` count trunks; `sd` is the spread of ln `measure` around the regression, or over pairs.
    """

    quantity: str
    method: str
    target: float
    measure: str
    level: float
    observed: int
    censored: int
    estimate: float | None = None
    interval: tuple[float | None, float | None] | None = None
    p_value: float | None = None
    dof: int | None = None
    sd: float | None = None
    reason: str | None = None

    @property
    def ratio(self) -> float | None:
        """`measure` of arm a over that of arm b (below 1: a is faster), or the factor per unit of ln N."""
        return None if self.estimate is None else math.exp(self.estimate)

    @property
    def ratio_interval(self) -> tuple[float | None, float | None] | None:
        """The interval of `ratio`."""
        if self.interval is None:
            return None
        low, high = (None if end is None else math.exp(end) for end in self.interval)
        return low, high

    @property
    def speed_up(self) -> float | None:
        """How many times less of `measure` arm a needs than arm b: 1 / ratio."""
        return None if self.estimate is None else math.exp(-self.estimate)

    @property
    def speed_up_interval(self) -> tuple[float | None, float | None] | None:
        """The interval of `speed_up`."""
        if self.interval is None:
            return None
        low, high = (None if end is None else math.exp(-end) for end in reversed(self.interval))
        return low, high


def speed_effect(
    times_a: pd.DataFrame,
    times_b: pd.DataFrame,
    *,
    on: Sequence[str] = ("n_params", "seed"),
    n: str = "n_params",
    measure: str = "records",
    level: float = 0.95,
) -> LogEffect:
    """ln of `measure` ("records", "flops", "real_records") of arm a over arm b to one absolute target, with interval.

    Takes frames from `add_axes`. If every trunk reaches the target: mean over pairs (trunks that agree in `on`; several
    of one arm are averaged first) with t on pairs - 1 degrees of freedom, as a percentile bootstrap over fewer than
    some twenty pairs is too narrow. Otherwise `censored_regression` on the arm and ln N over all trunks, unpaired. An
    effect that depends on size is averaged over the sizes present. Raises ValueError for more than one target.
    """
    both = pd.concat([times_a.assign(_arm=1.0), times_b.assign(_arm=0.0)], ignore_index=True)
    quantity = f"ln({measure} of a / {measure} of b)"
    low_R, high_R = _log_bounds(both, measure)
    effect = LogEffect(
        quantity,
        "paired t",
        _one_target(both),
        measure,
        level,
        int((low_R == high_R).sum()),
        int((low_R != high_R).sum()),
    )
    if effect.censored:
        log_n = np.log(both[n].to_numpy(dtype=float))
        columns = [both["_arm"].to_numpy(), log_n - log_n.mean()]
        return censored_regression(replace(effect, method="censored normal"), low_R, high_R, columns)
    means = both.assign(_y=low_R).groupby([*on, "_arm"])["_y"].mean().unstack("_arm").dropna()
    pairs = len(means)
    if pairs == 0 or means.shape[1] < 2:
        raise ValueError(f"no trunk of arm a agrees with one of arm b in {list(on)}; pair on other columns")
    difference = means[1.0] - means[0.0]
    estimate = float(difference.mean())
    effect = replace(effect, estimate=estimate)
    if pairs - 1 < DOF_MIN:
        return replace(effect, reason=f"{pairs} pairs; an interval needs {DOF_MIN + 1}")
    sd = float(difference.std(ddof=1))
    error = sd / math.sqrt(pairs)
    half = float(stats.t.ppf((1 + level) / 2, pairs - 1)) * error
    p_value = float(2 * stats.t.sf(abs(estimate) / error, pairs - 1)) if error > 0 else float(not estimate)
    interval = (estimate - half, estimate + half)
    return replace(effect, interval=interval, p_value=p_value, dof=pairs - 1, sd=sd)


def size_effect(
    times: pd.DataFrame, *, n: str = "n_params", measure: str = "records", level: float = 0.95
) -> LogEffect:
    """Slope in ln N of ln `measure` to one absolute target, one arm's trunks, censored ones included (P3).

    Takes a frame from `add_axes`; trunks must be independent. Raises ValueError for more than one target.
    """
    low_R, high_R = _log_bounds(times, measure)
    counts = int((low_R == high_R).sum()), int((low_R != high_R).sum())
    quantity = f"slope of ln({measure} to target) in ln N"
    effect = LogEffect(quantity, "censored normal", _one_target(times), measure, level, *counts)
    return censored_regression(effect, low_R, high_R, [np.log(times[n].to_numpy(dtype=float))])


def censored_regression(
    effect: LogEffect, low_R: np.ndarray, high_R: np.ndarray, columns: Sequence[np.ndarray]
) -> LogEffect:
    """`effect` with the coefficient of the first of `columns`: normal regression on values known between bounds.

    Maximum likelihood in Olsen's (1978) coordinates, where it is concave; `low_R` = `high_R` where observed. The
    interval is of profile likelihood: deviance below m ln(1 + t^2 / dof), m observed trunks, dof = m less the rank of
    their regressors. Without censoring that is exactly the t interval of least squares.
    """
    observed = low_R == high_R
    x_RxP = np.column_stack([columns[0], np.ones(len(low_R)), *columns[1:]])
    x_RxP = x_RxP[:, [True, True, *(np.ptp(column) > 0 for column in columns[1:])]]
    if np.ptp(x_RxP[:, 0]) == 0:
        return replace(effect, reason="one value of the regressor only: an effect needs two")
    count = int(observed.sum())
    dof = count - int(np.linalg.matrix_rank(x_RxP[observed])) if count else 0
    if dof < DOF_MIN:
        needed = f"{DOF_MIN} degrees of freedom are needed"
        return replace(effect, reason=f"{count} of {len(low_R)} trunks reach the target and leave {dof}; {needed}")
    centre, scale = float(low_R[observed].mean()), float(np.std(low_R[observed]))
    if _spread(x_RxP[observed], low_R[observed]) <= 1e-9 * max(scale, 1e-3):
        return replace(effect, reason="the trunks that reach the target lie on the regression exactly: no spread")
    bounds = (low_R - centre, high_R - centre)
    best, theta = _likelihood(*bounds, x_RxP)
    sd, estimate = 1.0 / theta[-1], theta[0] / theta[-1]

    def deviance(value: float) -> float:
        moved = (bounds[0] - value * x_RxP[:, 0], bounds[1] - value * x_RxP[:, 0])
        return 2.0 * (best - _likelihood(*moved, x_RxP[:, 1:])[0])

    def end(direction: float) -> float | None:
        inner = float(np.clip(estimate, -EFFECT_MAX, EFFECT_MAX))
        step = sd / np.std(x_RxP[:, 0]) / math.sqrt(count)
        while abs(inner + direction * step) < EFFECT_MAX:
            if deviance(inner + direction * step) > limit:
                return float(optimize.brentq(lambda at: deviance(at) - limit, inner, inner + direction * step))
            step *= 2.0
        outer = direction * EFFECT_MAX
        if deviance(outer) <= limit:
            return None
        return float(optimize.brentq(lambda at: deviance(at) - limit, inner, outer))

    limit = count * math.log1p(float(stats.t.ppf((1 + effect.level) / 2, dof)) ** 2 / dof)
    t = math.sqrt(dof * math.expm1(max(deviance(0.0), 0.0) / count))
    known = min(deviance(-EFFECT_MAX), deviance(EFFECT_MAX)) > FLAT
    return replace(
        effect,
        estimate=float(estimate) if known else None,
        interval=(end(-1.0), end(1.0)),
        p_value=float(2 * stats.t.sf(t, dof)),
        dof=dof,
        sd=float(sd),
        reason=None if known else "the likelihood rises towards one side without end: only a bound",
    )


def _likelihood(low_R: np.ndarray, high_R: np.ndarray, x_RxP: np.ndarray) -> tuple[float, np.ndarray]:
    """Largest ln likelihood and (coefficients / sd, 1 / sd) by Newton with halved steps on a concave function."""
    observed = low_R == high_R
    # A censored value lies beyond its one finite bound: above it (sign 1) or below it (sign -1).
    sign_R = np.where(np.isfinite(low_R), 1.0, -1.0)
    y_R = np.where(np.isfinite(low_R), low_R, high_R)
    design = np.column_stack([-x_RxP, y_R])

    def evaluate(theta: np.ndarray) -> tuple[float, np.ndarray, np.ndarray]:
        z = design @ theta
        tail = -sign_R * z
        hazard = np.exp(-0.5 * tail**2 - 0.5 * math.log(2 * math.pi) - special.log_ndtr(tail))
        value = np.where(observed, -0.5 * z**2, special.log_ndtr(tail)).sum() + observed.sum() * math.log(theta[-1])
        slope = np.where(observed, -z, -sign_R * hazard)
        bend = np.where(observed, 1.0, hazard * (hazard + tail))
        gradient = design.T @ slope
        hessian = (design.T * bend) @ design
        gradient[-1] += observed.sum() / theta[-1]
        hessian[-1, -1] += observed.sum() / theta[-1] ** 2
        return float(value), gradient, hessian

    coefficients = np.linalg.lstsq(x_RxP, y_R, rcond=None)[0]
    sd = max(float(np.sqrt(np.mean((y_R - x_RxP @ coefficients) ** 2))), 1e-3)
    theta = np.append(coefficients, 1.0) / sd
    value, gradient, hessian = evaluate(theta)
    for _ in range(200):
        ridge = 1e-10 * np.trace(hessian) / len(theta) * np.eye(len(theta))
        step = np.linalg.solve(hessian + ridge, gradient)
        if gradient @ step < 1e-12:
            break
        size = min(1.0, 0.9 * theta[-1] / -step[-1]) if step[-1] < 0 else 1.0
        while size > 1e-12:
            there = evaluate(theta + size * step)
            if there[0] >= value + 1e-4 * size * (gradient @ step):
                break
            size /= 2
        else:
            break
        theta, (value, gradient, hessian) = theta + size * step, there
    return value - 0.5 * observed.sum() * math.log(2 * math.pi), theta


def _spread(x_RxP: np.ndarray, y_R: np.ndarray) -> float:
    return float(np.std(y_R - x_RxP @ np.linalg.lstsq(x_RxP, y_R, rcond=None)[0]))


def _one_target(times: pd.DataFrame) -> float:
    targets = np.unique(times["target"])
    if targets.size != 1:
        raise ValueError(
            f"one absolute target for every trunk is needed, not {targets.size}: records to close a share of an own "
            "gap (relative speed) are another quantity and are not mixed with it"
        )
    return float(targets[0])


def _log_bounds(times: pd.DataFrame, measure: str) -> tuple[np.ndarray, np.ndarray]:
    """Bounds (R,) of ln `measure` to the target: equal where reached, one-sided where censored."""
    per_record = np.ones(len(times))
    if measure == "real_records":
        per_record = times["real_fraction"].to_numpy(dtype=float)
    elif measure != "records":
        known = times[measure] / times["records"]
        per_record = known.fillna(known.groupby(times["n_params"]).transform("median")).to_numpy(dtype=float)
    wrong = times[~(per_record > 0)]
    if len(wrong):
        raise ValueError(
            f"{measure}: unknown or zero per record for {len(wrong)} trunks, first {wrong['trunk_id'].iloc[0]!r} with "
            f"n_params = {wrong['n_params'].iloc[0]:g}; use records, or a target that some trunk of that size reaches"
        )
    status = times["status"].to_numpy()
    records = times[["records", "last_records", "first_records"]].to_numpy(dtype=float)
    low = np.select([status == REACHED, status == NOT_REACHED], [records[:, 0], records[:, 1]], 0.0)
    high = np.select([status == REACHED, status == BEFORE_FIRST], [records[:, 0], records[:, 2]], np.inf)
    with np.errstate(divide="ignore"):
        return np.log(low * per_record), np.log(high * per_record)
