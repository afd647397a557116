"""Records to a loss read off a fitted law, with the share of its draws under which that loss is never reached."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

import numpy as np
from scipy import optimize

from scaling_fits.convergence.times import REACHED

NEVER, BEYOND_RANGE, BEFORE_RANGE = "never under this law", "beyond the range", "before the range"
ENDLESS_RECORDS = 1e200  # a law that has not come down to a loss by then has its floor above it
LAW_GRID = 512  # points over the range, between which ln records of a draw is interpolated
FALL_SLACK = 1e-9
HALF_DECADE = 10**0.5
Values = Mapping[str, np.ndarray]


def end_word(value: float | None) -> str:
    """An interval's end in words."""
    return "open" if value is None else f"{value:.4g}"


NO_COMMON_DRAWS = "a ratio needs the same draws of the law for both arms: give predict_draws to both"


@dataclass(frozen=True)
class LawTime:
    """Records (or `measure`) to the loss `target` under a fitted law.

    `status` is "reached", "never under this law" (its floor lies above the target), "beyond the range" or "before the
    range" (needs an extrapolation that was not asked for: `permitted` is the range); `amount` is None unless reached.
    `interval` is of percentiles over draws, None for an open end. `never_share` and `beyond_share` are the shares of
    draws whose floor lies above the target, and that reach it beyond the range; None without draws. `low_S`, `high_S`
    (S,) bound the amount under each draw (equal where it is known).
    """

    target: float
    status: str
    amount: float | None
    permitted: tuple[float, float]
    level: float
    interval: tuple[float | None, float | None] | None = None
    never_share: float | None = None
    beyond_share: float | None = None
    measure: str = "records"
    low_S: np.ndarray | None = field(default=None, repr=False, compare=False)
    high_S: np.ndarray | None = field(default=None, repr=False, compare=False)

    def measured_in(self, measure: str, per_record: float) -> LawTime:
        """The same in FLOPs, steps or anything that a record costs `per_record` of."""
        if not per_record > 0:
            raise ValueError(f"{measure} per record must be positive, not {per_record}")

        def scaled(value: float | None) -> float | None:
            return None if value is None else value * per_record

        return replace(
            self,
            measure=measure,
            amount=scaled(self.amount),
            permitted=(self.permitted[0] * per_record, self.permitted[1] * per_record),
            interval=None if self.interval is None else (scaled(self.interval[0]), scaled(self.interval[1])),
            low_S=None if self.low_S is None else self.low_S * per_record,
            high_S=None if self.high_S is None else self.high_S * per_record,
        )

    def __str__(self) -> str:
        head = f"loss {self.target:g}: "
        if self.amount is not None:
            head += f"{self.amount:.4g} {self.measure}"
        else:
            head += f"{self.status} ({self.permitted[0]:.3g} to {self.permitted[1]:.3g} {self.measure})"
        if self.interval is not None:
            head += f", {100 * self.level:.0f} % interval {end_word(self.interval[0])} to {end_word(self.interval[1])}"
        if self.never_share:
            head += f"; never under {100 * self.never_share:.1f} % of the draws"
        return head


def law_records_to_target(
    predict: Callable[..., np.ndarray],
    target: float,
    variables: Callable[[np.ndarray], Values],
    measured: tuple[float, float],
    *,
    predict_draws: Callable[..., np.ndarray] | None = None,
    beyond: float = HALF_DECADE,
    level: float = 0.95,
) -> LawTime:
    """Records at which a fitted law comes down to `target`, by root finding in ln records.

    `variables(records_R)` gives the law's variables along the run, {"N": …, "D": records_R} or a mix's R, S and U;
    `predict(**variables)` the losses (R,), `predict_draws(**variables)` those of the law's draws (S, R). `measured` is
    the range of records with data; roots up to the factor `beyond` outside it are accepted. Raises ValueError for a
    target or range that is not positive, and for a law that rises with records within the range.
    """
    first, last = (float(end) for end in measured)
    if not (target > 0 and 0 < first < last < math.inf and beyond >= 1):
        raise ValueError(
            f"a positive target, 0 < first < last measured records and beyond >= 1 are needed, not target {target}, "
            f"measured {measured}, beyond {beyond}"
        )
    low, high = first / beyond, last * beyond
    grid_R = np.geomspace(low, high, LAW_GRID)

    def losses(law: Callable[..., np.ndarray], records_R: np.ndarray) -> np.ndarray:
        return np.atleast_2d(np.asarray(law(**variables(records_R)), dtype=np.float64))

    def bounds(law: Callable[..., np.ndarray]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        floor_S = losses(law, np.array([ENDLESS_RECORDS]))[:, 0]
        return _law_bounds(np.log(grid_R), losses(law, grid_R), floor_S, target)

    low_1, high_1, never_1 = bounds(predict)
    time = LawTime(target, REACHED, None, (low, high), level)
    if never_1[0]:
        time = replace(time, status=NEVER)
    elif low_1[0] != high_1[0]:
        time = replace(time, status=BEFORE_RANGE if low_1[0] == 0 else BEYOND_RANGE)
    else:

        def excess(log_records: float) -> float:
            return float(np.log(losses(predict, np.exp([log_records]))[0, 0] / target))

        after = int(np.clip(np.searchsorted(grid_R, low_1[0] * (1 - 1e-12)), 1, LAW_GRID - 1))
        ends = math.log(grid_R[after - 1]), math.log(grid_R[after])
        root = optimize.brentq(excess, *ends, xtol=1e-13) if excess(ends[0]) * excess(ends[1]) < 0 else None
        time = replace(time, amount=float(low_1[0] if root is None else math.exp(root)))
    if predict_draws is None:
        return time
    low_S, high_S, never_S = bounds(predict_draws)
    beyond_share = float(((high_S == np.inf) & ~never_S).mean())
    interval, never_share = _percentiles(low_S, high_S, level), float(never_S.mean())
    return replace(
        time, interval=interval, never_share=never_share, beyond_share=beyond_share, low_S=low_S, high_S=high_S
    )


def _law_bounds(
    log_records_R: np.ndarray, loss_SxR: np.ndarray, floor_S: np.ndarray, target: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Lower and upper bound (S,) of the records to the target, and whether it is never reached."""
    log_loss = np.log(loss_SxR)
    if not np.isfinite(log_loss).all():
        raise ValueError("the law's losses are not positive numbers over the range; narrow the range")
    rise = np.diff(log_loss, axis=1).max()
    if rise > FALL_SLACK:
        raise ValueError(f"the law rises with records within the range (by {100 * rise:.2g} %); it has no one crossing")
    never_S = ~(floor_S < target)
    low_S, high_S = np.zeros(len(log_loss)), np.full(len(log_loss), np.inf)
    for s, curve in enumerate(log_loss):
        if never_S[s]:
            low_S[s] = np.inf
        elif curve[-1] > math.log(target):
            low_S[s] = math.exp(log_records_R[-1])
        elif curve[0] < math.log(target):
            high_S[s] = math.exp(log_records_R[0])
        else:
            low_S[s] = high_S[s] = math.exp(np.interp(-math.log(target), -curve, log_records_R))
    return low_S, high_S, never_S


def law_ratio(time_a: LawTime, time_b: LawTime) -> tuple[float | None, tuple[float | None, float | None]]:
    """Records of arm a over records of arm b under laws with common draws (draw s of both belongs together).

    The interval's percentiles take, under draws that tell only a bound, the bound that widens it; None is an open end.
    Raises ValueError for different targets, measures or levels, and without common draws.
    """
    if (time_a.target, time_a.measure, time_a.level) != (time_b.target, time_b.measure, time_b.level):
        raise ValueError("a ratio needs one absolute target, one measure and one level for both arms")
    (a_low_S, a_high_S), (b_low_S, b_high_S) = _bounds(time_a), _bounds(time_b)
    if len(a_low_S) != len(b_low_S):
        raise ValueError(NO_COMMON_DRAWS)
    with np.errstate(divide="ignore", invalid="ignore"):
        low_S = np.where(np.isinf(b_high_S), 0.0, a_low_S / b_high_S)
        high_S = np.where(np.isinf(a_high_S), np.inf, a_high_S / b_low_S)
    ratio = None if time_a.amount is None or time_b.amount is None else time_a.amount / time_b.amount
    return ratio, _percentiles(low_S, high_S, time_a.level)


def _bounds(time: LawTime) -> tuple[np.ndarray, np.ndarray]:
    if time.low_S is None or time.high_S is None:
        raise ValueError(NO_COMMON_DRAWS)
    return time.low_S, time.high_S


def _percentiles(low_S: np.ndarray, high_S: np.ndarray, level: float) -> tuple[float | None, float | None]:
    """Central interval of values known between bounds, taken at order statistics; None where it is 0 or infinite."""
    tail = (1 - level) / 2
    low = float(np.quantile(low_S, tail, method="inverted_cdf"))
    high = float(np.quantile(high_S, 1 - tail, method="inverted_cdf"))
    return low if 0 < low < math.inf else None, high if math.isfinite(high) else None
