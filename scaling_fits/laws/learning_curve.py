"""Laws of the learning curve under learning-rate annealing, and what they read off a schedule.

A row is a checkpoint: the loss after `step` updates under one schedule. `S1` (N,) is the sum of the learning rates so
far, warm-up included. How the rate fell is told in blocks, arrays (N, K): `drop`, the fall of the rate (negative where
it rose); `age`, the steps since, the step of the fall included; `area`, the sum of the rates since, likewise; `rate`,
the rate that it fell to. Learning rates are numbers as they are, so `S1` and the constants that multiply a fall depend
on the optimiser's convention. Falls are counted after the warm-up only; the multi-power law says so, for the law of
Tissue et al. it is a choice made here. Both laws are published for data seen once.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd

from scaling_fits.estimation.estimators import Estimator
from scaling_fits.estimation.problem import Problem, log_predictions
from scaling_fits.laws.law import LOG_NEGLIGIBLE, Form, Parameter, Variable, coefficient, exponent, floor, positive
from scaling_fits.laws.size_and_data import log_sum
from scaling_fits.tables.run_table import require_columns

BLOCKS = 24
DECAY = 0.999
#: Annealing that takes more than all but this share of the rest of the loss is followed by a parabola; see `remaining`.
REMAINING_MIN = 1e-2
CHANGED = 1e-9  # of the peak: smaller differences of the rate are rounding
RATE_SMALLEST = 1e-9  # of the peak: stands for a rate of zero, so that its logarithm exists
IN_WARMUP = "in_warmup"

_S1 = Variable("S1", "S1")
_DROP, _AGE, _AREA = (Variable(name, log=False) for name in ("drop", "age", "area"))
_RATE = Variable("rate")
TISSUE_SOURCE = "Tissue et al. 2024, arXiv:2408.11029"
_TISSUE_EQUATION = "L = L0 + A / S1^alpha - C S2; S2 = sum_(i<=s) sum_(k<=i) (eta_(k-1) - eta_k) lambda^(i-k)"


def remaining(share: jax.Array) -> jax.Array:
    """ln(1 - share), continued beyond share = 0.99 by its parabola there, so that it exists for every share.

    The continuation joins with equal value, slope and curvature and goes on falling. A fit that strays to where a law
    would give a negative loss sees a finite, far too low prediction and is led back. Below 0.99 nothing is changed.
    """
    over = jnp.maximum(share - (1.0 - REMAINING_MIN), 0.0) / REMAINING_MIN
    return jnp.log1p(-jnp.minimum(share, 1.0 - REMAINING_MIN)) - over - 0.5 * over**2


def _annealed(p: Any, x: Any, log_factor: jax.Array, fallen: jax.Array) -> jax.Array:
    """ln of L0 + A S1^-alpha - factor × fallen, `fallen` of either sign."""
    rest = log_sum(p.L0, p.A - p.alpha * x.S1)
    return rest + remaining(jnp.exp(log_factor - rest) * fallen)


def _area_only(p: Any, x: Any) -> jax.Array:
    return log_sum(p.L0, p.A - p.alpha * x.S1)


_BASE = (floor("L0"), coefficient("A", S1="alpha"), exponent("alpha"))


def _factor(name: str) -> Parameter:
    """A positive factor of a sum of falls; its range is wide, as rates from 1e-5 to 1 and more are in use."""
    return Parameter(name, LOG_NEGLIGIBLE, 25.0, (-6.0, 9.0), log=True, units=(("L", 1),))


AREA = Form(
    name="area",
    equation="L = L0 + A / S1^alpha",
    source=f"{TISSUE_SOURCE}, without annealing",
    variables=(_S1,),
    parameters=_BASE,
    log_loss=_area_only,
)


@functools.lru_cache
def tissue(decay: float | None = DECAY) -> Form:
    """`L = L0 + A / S1^alpha - C S2` with the momentum `decay` (lambda) of S2 given, as in the paper, or estimated.

    Estimated (None), it appears as the constant `forget` = 1 - lambda. As sum_(k<=i<=s) lambda^(i-k) is
    (1 - lambda^age) / (1 - lambda), S2 is a sum over falls. Raises ValueError for a decay outside (0, 1).
    """
    if decay is not None and not 0 < decay < 1:
        raise ValueError(f"the decay lambda must lie between 0 and 1, not {decay}; the paper uses 0.99 to 0.999")

    def log_loss(p: Any, x: Any) -> jax.Array:
        forget = jnp.exp(p.forget) if decay is None else 1.0 - decay
        weight = -jnp.expm1(x.age * jnp.log1p(-forget)) / forget
        return _annealed(p, x, p.C, (x.drop * weight).sum(axis=-1))

    return Form(
        name="tissue" if decay is None else f"tissue_{decay:g}",
        equation=f"{_TISSUE_EQUATION}, lambda = {'1 - forget' if decay is None else f'{decay:g}'}",
        source=TISSUE_SOURCE,
        variables=(_S1, _DROP, _AGE),
        parameters=(*_BASE, _factor("C"), *((positive("forget", (1e-4, 0.1), 1e-7, 0.999),) if decay is None else ())),
        log_loss=log_loss,
        special_case=AREA,
        reduces_at=(("C", 0.0),),
    )


@jax.custom_jvp
def _saturating(shape: jax.Array, x: Any) -> jax.Array:
    """sum_k drop_k G(C eta_k^-gamma S_k) (N,) at `shape` = (ln C, beta, gamma).

    Its derivatives are written out: automatic ones take the powers anew for every direction and are 10 times slower.
    """
    log_c, beta, gamma = shape
    since = jnp.exp(log_c - gamma * x["rate"]) * x["area"]
    return (x["drop"] * -jnp.expm1(-beta * jnp.log1p(since))).sum(axis=-1)


@jax.custom_jvp
def _slopes(shape: jax.Array, x: Any) -> jax.Array:
    """Derivatives (3, N) of `_saturating` by shape."""
    log_c, beta, gamma = shape
    since = jnp.exp(log_c - gamma * x["rate"]) * x["area"]
    log_since = jnp.log1p(since)
    left = x["drop"] * jnp.exp(-beta * log_since)
    by_c = left * beta * since / (1.0 + since)
    return jnp.stack([value.sum(axis=-1) for value in (by_c, left * log_since, -x["rate"] * by_c)])


def _bends(shape: jax.Array, x: Any) -> jax.Array:
    """Second derivatives (3, 3, N) of `_saturating` by shape."""
    log_c, beta, gamma = shape
    rate, since = x["rate"], jnp.exp(log_c - gamma * x["rate"]) * x["area"]
    log_since, part = jnp.log1p(since), since / (1.0 + since)
    left = x["drop"] * jnp.exp(-beta * log_since)
    cc, cb, bb = (
        beta * left * part * (1.0 - part - beta * part),
        left * part * (1.0 - beta * log_since),
        -left * log_since**2,
    )
    sums = [value.sum(axis=-1) for value in (cc, cb, -rate * cc, bb, -rate * cb, rate**2 * cc)]
    return jnp.stack([jnp.stack([sums[i] for i in row]) for row in ((0, 1, 2), (1, 3, 4), (2, 4, 5))])


@_saturating.defjvp
def _saturating_jvp(primals: Any, tangents: Any) -> tuple[jax.Array, jax.Array]:
    return _saturating(*primals), jnp.einsum("i,in->n", tangents[0], _slopes(*primals))


@_slopes.defjvp
def _slopes_jvp(primals: Any, tangents: Any) -> tuple[jax.Array, jax.Array]:
    return _slopes(*primals), jnp.einsum("j,ijn->in", tangents[0], _bends(*primals))


def _multi_power(p: Any, x: Any) -> jax.Array:
    falls = {"drop": x.drop, "area": x.area, "rate": x.rate}
    return _annealed(p, x, p.B, _saturating(jnp.stack([p.C, p.beta, p.gamma]), falls))


MULTI_POWER = Form(
    name="multi_power",
    equation="L = L0 + A / S1^alpha - B sum_k (eta_(k-1) - eta_k) G(eta_k^-gamma S_k), G(x) = 1 - (C x + 1)^-beta",
    source="Luo et al. 2025, arXiv:2503.12811 (S1 contains the warm-up's S_W)",
    variables=(_S1, _DROP, _AREA, _RATE),
    parameters=(
        *_BASE,
        _factor("B"),
        Parameter("C", -30.0, 30.0, (-6.0, 6.0), log=True),
        exponent("beta", (0.1, 1.5)),
        exponent("gamma", (0.0, 1.0)),
    ),
    log_loss=_multi_power,
    special_case=AREA,
    reduces_at=(("B", 0.0),),
)


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


@dataclass(frozen=True, eq=False)
class CurveProblem:
    """A problem for the solver, and what it was made of.

    `references` are those of `Form.prepare`, `cluster_N` numbers the trunk of every row, `rows` holds the rows in the
    problem's order, `block_error` is that of `schedule_columns`, `left_out` counts the rows left out by reason.
    `warning` says which constants no schedule can tell, or is None.
    """

    problem: Problem
    references: dict[str, float]
    cluster_N: np.ndarray
    rows: pd.DataFrame
    block_error: float
    left_out: dict[str, int]
    warning: str | None


def curve_problem(
    form: Form,
    curves: pd.DataFrame,
    schedules: Mapping[Any, Schedule],
    estimator: Estimator,
    *,
    schedule: str = "trunk_id",
    batch_records: int | None = None,
    blocks: int = BLOCKS,
) -> CurveProblem:
    """`form` against the curves' checkpoints, each under its schedule; the checkpoints of a trunk are one cluster.

    `curves` has the columns trunk_id, loss, and `step` or, with `batch_records`, records_seen. `schedules` holds the
    schedule named in the column `schedule`: by trunk, or by run where cooled-down runs branch off a trunk. Checkpoints
    in the warm-up are left out and counted. Raises ValueError for missing columns or schedules, two rows at one step of
    a schedule, steps outside it, and losses that are not positive.
    """
    at = "step" if batch_records is None else "records_seen"
    require_columns(curves, ["trunk_id", "loss", at, schedule], "curve table")
    steps = curves[at] if batch_records is None else curves[at] / batch_records
    rows = curves.assign(step=steps).sort_values([schedule, "step"], kind="stable").reset_index(drop=True)
    missing = [name for name in rows[schedule].unique() if name not in schedules]
    if missing:
        raise ValueError(f"curve table: no schedule for {len(missing)} of column {schedule!r}, first {missing[0]!r}")
    bad = rows[~((rows["loss"] > 0) & np.isfinite(rows["loss"]))]
    if len(bad):
        where = f"trunk {bad['trunk_id'].iloc[0]!r}, step {bad['step'].iloc[0]:g}"
        raise ValueError(f"curve table: {len(bad)} losses are not positive numbers, first {where}; leave them out")
    if rows.duplicated([schedule, "step"]).any():
        twice = rows[rows.duplicated([schedule, "step"])].iloc[0]
        raise ValueError(f"curve table: two points of {twice[schedule]!r} at step {twice['step']:g}")
    warmup = rows[schedule].map(lambda name: schedules[name].warmup_steps)
    early = rows["step"] <= warmup
    rows = rows[~early].reset_index(drop=True)
    if rows.empty:
        raise ValueError("curve table: every checkpoint lies in the warm-up; the laws begin after it")
    groups = rows.groupby(schedule, sort=False)["step"]
    parts, errors = zip(*(schedule_columns(schedules[name], part.to_numpy(float), blocks) for name, part in groups))
    values = {name: np.concatenate([columns[name] for columns in parts]) for name in parts[0]}
    used = max(1, int((values["drop"] != 0).sum(axis=1).max()))
    values = {name: column if column.ndim == 1 else column[:, :used] for name, column in values.items()}
    loss = rows["loss"].to_numpy(dtype=np.float64)
    references = form.references(values, loss)
    x, one = form.prepare(values, references), np.ones(len(loss))
    problem = Problem(form, estimator, x, np.log(loss) - references["L"], one, one, references["L"])
    warning = None
    if not values["drop"].any() and form.special_case is AREA:
        names = [name for name in form.names if name not in AREA.names]
        warning = f"the learning rate never changes after the warm-up: {', '.join(names)} are not identified; fit AREA"
    left_out = {IN_WARMUP: int(early.sum())} if early.any() else {}
    trunk_N = pd.factorize(rows["trunk_id"], sort=True)[0]
    return CurveProblem(problem, references, trunk_N, rows, max(errors), left_out, warning)


def predict_curve(
    form: Form, constants_SxP: np.ndarray, schedule: Schedule, step_N: np.ndarray, blocks: int = BLOCKS
) -> np.ndarray:
    """Losses (S, N) after `step_N` updates of `schedule` under published constants (S, P), as `Form.published` gives.

    Raises ValueError as `schedule_columns` and `Form.working` do.
    """
    values, _ = schedule_columns(schedule, step_N, blocks)
    references = {"L": 0.0, "S1": float(np.log(values["S1"]).mean())}
    theta = form.working(np.atleast_2d(constants_SxP), references)
    return np.exp(log_predictions(form, theta, form.prepare(values, references)))
