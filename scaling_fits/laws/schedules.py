"""What laws of the learning curve read off a learning-rate schedule.

How the rate fell is told in blocks, arrays (N, K): `drop`, the fall of the rate (negative where it rose); `age`, the
steps since, the step of the fall included; `area`, the sum of the rates since, likewise; `rate`, the rate that it fell
to. Falls are counted after the warm-up only.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

BLOCKS = 24
CHANGED = 1e-9  # of the peak: smaller differences of the rate are rounding
RATE_SMALLEST = 1e-9  # of the peak: stands for a rate of zero, so that its logarithm exists


@dataclass(frozen=True, eq=False)
class Schedule:
    """The learning rate of every step, `rates_T` (T,), the first `warmup_steps` of which are the warm-up.

    Raises ValueError for rates that are negative, not finite or all zero, or for a warm-up that fills the schedule.
    """

    rates_T: np.ndarray
    warmup_steps: int = 0

    def __post_init__(self) -> None:
        rates = np.asarray(self.rates_T, dtype=np.float64)
        object.__setattr__(self, "rates_T", rates)
        if rates.ndim != 1 or not len(rates) or not np.isfinite(rates).all() or (rates < 0).any() or not rates.any():
            raise ValueError("a schedule needs one finite learning rate >= 0 per step, and one above 0")
        if not 0 <= self.warmup_steps < len(rates):
            raise ValueError(f"a warm-up of {self.warmup_steps} steps does not fit a schedule of {len(rates)} steps")

    @property
    def changes(self) -> np.ndarray:
        """Steps (1, 2, …) after the warm-up whose rate differs from the step before."""
        steps = np.flatnonzero(np.abs(np.diff(self.rates_T)) > CHANGED * self.rates_T.max()) + 2
        return steps[steps > self.warmup_steps]


def piecewise(points: Sequence[tuple[int, float]], warmup_steps: int = 0) -> Schedule:
    """A schedule through (step, rate) breakpoints, linear between them; the first is step 1, the last the end.

    Two breakpoints on neighbouring steps make a jump. Raises ValueError unless steps rise from 1.
    """
    steps, rates = np.array([step for step, _ in points]), np.array([rate for _, rate in points], dtype=np.float64)
    if not len(steps) or steps[0] != 1 or (np.diff(steps) <= 0).any():
        raise ValueError(f"breakpoints must begin at step 1 and rise, not {steps.tolist()}")
    return Schedule(np.interp(np.arange(1, steps[-1] + 1), steps, rates), warmup_steps)


def warmup_stable_decay(
    peak: float, steps: int, *, warmup_steps: int = 0, cooldown_steps: int = 0, shape: str = "linear"
) -> Schedule:
    """Linear warm-up, `peak`, and a cool-down over the last `cooldown_steps`, "linear" or "1-sqrt", towards 0.

    Warm-up-stable-decay: Hu et al. 2024, arXiv:2404.06395; both shapes: Hägele et al. 2024, arXiv:2405.18392. The
    cool-down would be at 0 one step after the last.
    """
    if shape not in ("linear", "1-sqrt"):
        raise ValueError(f"the shape of a cool-down is 'linear' or '1-sqrt', not {shape!r}")
    if warmup_steps + cooldown_steps > steps:
        raise ValueError(f"{warmup_steps} + {cooldown_steps} steps of warm-up and cool-down exceed {steps} steps")
    rates = np.full(steps, float(peak))
    rates[:warmup_steps] *= np.arange(1, warmup_steps + 1) / max(warmup_steps, 1)
    done = np.arange(1, cooldown_steps + 1) / (cooldown_steps + 1)
    rates[steps - cooldown_steps :] *= 1.0 - (done if shape == "linear" else np.sqrt(done))
    return Schedule(rates, warmup_steps)


def cosine(peak: float, steps: int, *, warmup_steps: int = 0, final: float = 0.1) -> Schedule:
    """Linear warm-up, then half a cosine down to `final` × peak at the last step (Loshchilov & Hutter 2017)."""
    rates = warmup_stable_decay(peak, steps, warmup_steps=warmup_steps).rates_T.copy()
    done = np.arange(1, steps - warmup_steps + 1) / (steps - warmup_steps)
    rates[warmup_steps:] = peak * (final + (1.0 - final) * 0.5 * (1.0 + np.cos(np.pi * done)))
    return Schedule(rates, warmup_steps)


def schedule_columns(
    schedule: Schedule, step_N: np.ndarray, blocks: int = BLOCKS
) -> tuple[dict[str, np.ndarray], float]:
    """The laws' variables at checkpoints, {"S1": (N,), "drop", "age", "area", "rate": (N, blocks)}, and their error.

    Up to `blocks` changes of the rate before a checkpoint are told one by one: exact. More are put together on
    stretches that grow with their age, each stretch as two falls at the nodes of Gauss' rule (its mean place ± its
    standard deviation). The error is the largest relative one of either law's sum of falls, over the checkpoints and
    over memories of 10, 100 and 1,000 steps; 0 where nothing was put together. Constant stretches and the warm-up cost
    no block. Raises ValueError for steps that are not whole or lie outside the schedule.
    """
    steps = np.asarray(step_N)
    last = len(schedule.rates_T)
    wrong = steps[(steps != np.round(steps)) | (steps < 1) | (steps > last)]
    if len(wrong):
        raise ValueError(f"step {wrong[0]:g}: a checkpoint is a whole step from 1 to {last}, the schedule's last")
    if blocks < 2:
        raise ValueError(f"at least two blocks are needed, not {blocks}")
    rates, peak = schedule.rates_T, schedule.rates_T.max()
    total_T = np.cumsum(rates)
    changes = schedule.changes
    columns = {name: np.full((len(steps), blocks), empty) for name, empty in _EMPTY.items()}
    error = 0.0
    for row, step in enumerate(steps.astype(int)):
        falls = changes[: np.searchsorted(changes, step, side="right")][::-1]
        if not len(falls):
            continue
        single = {
            "drop": rates[falls - 2] - rates[falls - 1],
            "age": step - falls + 1.0,
            "area": total_T[step - 1] - total_T[falls - 2],
            "rate": np.maximum(rates[falls - 1], RATE_SMALLEST * peak),
        }
        together = single if len(falls) <= blocks else _together(single, blocks)
        for name, values in together.items():
            columns[name][row, : len(values)] = values
        if together is not single:
            error = max(error, _block_error(together, single, peak))
    return {"S1": total_T[steps.astype(int) - 1], **columns}, error


_EMPTY = {"drop": 0.0, "age": 1.0, "area": 0.0, "rate": 1.0}


def _together(single: Mapping[str, np.ndarray], blocks: int) -> dict[str, np.ndarray]:
    """Falls, latest first, as at most `blocks` pairs' halves: two-point Gauss rules on stretches growing with age."""
    count, parts = len(single["drop"]), blocks // 2
    start = np.unique(np.concatenate([[0], np.round(count ** (np.arange(1, parts) / parts)).astype(int)]))
    index, weight = np.arange(count), np.abs(single["drop"])
    size = np.add.reduceat(weight, start)
    mean = np.add.reduceat(weight * index, start) / size
    variance = np.add.reduceat(weight * (index - np.repeat(mean, np.diff([*start, count]))) ** 2, start) / size
    node = np.concatenate([mean - np.sqrt(variance), mean + np.sqrt(variance)])
    half = 0.5 * np.tile(np.add.reduceat(single["drop"], start), 2)
    at = {name: np.interp(node, index, single[name]) for name in ("age", "area")}
    return {"drop": half, **at, "rate": np.exp(np.interp(node, index, np.log(single["rate"])))}


def _block_error(together: Mapping[str, np.ndarray], single: Mapping[str, np.ndarray], peak: float) -> float:
    """Largest relative error of the sums of falls: exponential memory (Tissue) and G with beta = gamma = 0.5."""

    def forgetting(columns: Mapping[str, np.ndarray], memory: float) -> np.ndarray:
        return -np.expm1(-columns["age"] / memory)

    def saturating(columns: Mapping[str, np.ndarray], memory: float) -> np.ndarray:
        return 1.0 - (1.0 + columns["area"] / np.sqrt(columns["rate"] * peak) / memory) ** -0.5

    worst = 0.0
    for weight in (forgetting, saturating):
        for memory in (10.0, 100.0, 1000.0):
            coarse, exact = (float(columns["drop"] @ weight(columns, memory)) for columns in (together, single))
            worst = max(worst, abs(coarse - exact) / float(np.abs(single["drop"]) @ weight(single, memory)))
    return worst
