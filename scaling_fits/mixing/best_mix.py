"""What a fitted law says of real and synthetic records: the best fraction, and what one is worth.

For laws in N (size), R (real records seen), S (synthetic records seen), U (different real records). Everything follows
from one law, so it holds where the law does: notes name what lies outside the rows fitted. The comparison that needs no
law, paired rows at r = 0.5 and r = 1, stands in `contrasts`.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np

from scaling_fits.compute_optimal.compute import Compute
from scaling_fits.estimation.problem import float64
from scaling_fits.fit import Fit
from scaling_fits.laws.data_mix import effective_real
from scaling_fits.mixing.queries import (
    LETTERS,
    Answer,
    Estimate,
    beyond_range,
    check_mixed,
    constants_drawn,
    estimate_of,
    log_losses,
    loss_slopes,
    measured_ranges,
    plain,
    range_notes,
    with_replacement,
)

HEADLINE_FRACTION = 0.5  # the protocol's mix, fixed in advance
AT_EDGE = 1e-4  # fractions nearer than this are one
GRID_POINTS, ZOOM_POINTS, ZOOMS = {1: (129,), 2: (33, 65)}, {1: 33, 2: 9}, {1: 7, 2: 20}
BUDGET_POINTS = 1025  # between which ln D is interpolated in ln N
BISECTIONS = 60


@dataclass(frozen=True)
class BestMix(Answer):
    """The real fraction r* in [0, 1] with the least predicted loss at size `n`, `records` in all, a pool of `pool`.

    `budget` is in FLOPs where n and records were chosen along, else None. `measured` are the least and largest fraction
    above 0 in the rows fitted; `share_inside` is the part of the draws whose r* lies strictly between them.
    `penalty` is ln L(r = 0.5) - ln L(r*) (in a draw: its own r*), `jump` ln L(r = 0) - ln L(one real record). `edge`
    says why no best mix is claimed.
    """

    n: Estimate
    records: Estimate
    pool: float
    budget: float | None
    fraction: Estimate
    loss: float
    epochs: float
    measured: tuple[float, float]
    share_inside: float | None
    penalty: Estimate
    jump: Estimate
    edge: str | None
    level: float
    notes: tuple[str, ...]

    def __str__(self) -> str:
        free = "" if self.budget is None else f"C = {self.budget:.4g} FLOPs: "
        n, records = (self.n, self.records) if free else (f"{self.n.value:g}", f"{self.records.value:g}")
        lines = [
            f"{free}N = {n}, D = {records}, pool {self.pool:g}: r* = {self.fraction}, loss {self.loss:.5g}, "
            f"{self.epochs:.3g} epochs",
            f"  ln L(r = {HEADLINE_FRACTION}) - ln L(r*): {self.penalty}",
            f"  ln L(r = 0) - ln L(one real record): {self.jump}",
        ]
        if self.share_inside is not None:
            inside = f"{self.measured[0]:.3g} to {self.measured[1]:.3g}"
            lines.append(f"  {100 * self.share_inside:.0f} % of the draws inside the fractions measured ({inside})")
        lines += [] if self.edge is None else [f"  NO CLAIM OF A BEST MIX: {self.edge}"]
        return "\n".join([*lines, *(f"  NOTE: {note}" for note in self.notes)])


@dataclass(frozen=True)
class ExchangeRate:
    """How many real records one more synthetic record is worth at `at` (N, R, S, U).

    `marginal` counts exposures to the present pool, (dL/dS) / (dL/dR); `marginal_new` records that are new to it,
    (dL/dS) / (dL/dR + dL/dU). `average`, `average_new` divide the real records of either kind that would do what all S
    do by S; their inverse is the number of synthetic records that saves one real one. In `share_harmful` of the draws
    the S synthetic records raise the loss (averages 0).
    """

    at: dict[str, float]
    marginal: Estimate
    marginal_new: Estimate
    average: Estimate
    average_new: Estimate
    share_harmful: float | None
    level: float
    notes: tuple[str, ...]

    @property
    def synthetic_per_new_real(self) -> float:
        """Synthetic records that save one new real record at equal loss; infinite when none do."""
        return 1 / self.average_new.value if self.average_new.value > 0 else math.inf

    def to_dict(self) -> dict[str, object]:
        """Plain values for JSON; what is not finite is null."""
        return plain({**asdict(self), "synthetic_per_new_real": self.synthetic_per_new_real})

    def __str__(self) -> str:
        lines = [
            ", ".join(f"{letter} = {value:g}" for letter, value in self.at.items())
            + f": one synthetic record is worth {self.marginal} exposures to the pool, {self.marginal_new} new records",
            f"  on average over all S: {self.average} exposures, {self.average_new} new records; "
            f"{self.synthetic_per_new_real:.4g} synthetic records save one new real record",
        ]
        lines += (
            [f"  in {100 * self.share_harmful:.0f} % of the draws they raise the loss"] if self.share_harmful else []
        )
        return "\n".join([*lines, *(f"  NOTE: {note}" for note in self.notes)])


@dataclass(frozen=True)
class RepeatValue(Answer):
    """Worth of the next exposure to a real record after `epochs`, and of all so far on average, in fresh records."""

    epochs: tuple[float, ...]
    marginal: tuple[Estimate, ...]
    average: tuple[Estimate, ...]
    level: float
    notes: tuple[str, ...]

    def __str__(self) -> str:
        rows = zip(self.epochs, self.marginal, self.average)
        lines = [f"  after {e:g} epochs: the next is worth {m}, all so far {a} each" for e, m, a in rows]
        return "\n".join(["fresh real records that an exposure is worth", *lines, *self.notes])


def best_mix(fit: Fit, *, n: float, records: float, pool: float) -> BestMix:
    """r*(N, D, pool) when real records replace synthetic ones: R = r D, S = (1 - r) D, U the pool where r > 0.

    ValueError for a law without the variables N, R, S, U, or values not above 0.
    """
    check_mixed(fit, n=n, records=records, pool=pool)
    theta = constants_drawn(fit)
    fraction_S = best_fractions(fit, theta, n=n, records=records, pool=pool)
    n_S, records_S = np.full(len(theta), float(n)), np.full(len(theta), float(records))
    return _best_mix(fit, theta, n_S, records_S, fraction_S, pool, None)


def best_fractions(fit: Fit, theta_SxP: np.ndarray, *, n: float, records: float, pool: float) -> np.ndarray:
    """(S,): r*(N, D, pool) under working coordinates (S, P) of the fit's law."""
    check_mixed(fit, n=n, records=records, pool=pool)

    def mixed(at_SxGx1: np.ndarray) -> np.ndarray:
        return with_replacement(fit, theta_SxP, n, records, at_SxGx1[..., 0], pool)

    at_Sx1, value_S = _least(mixed, np.array([[1 / records, 1.0]]), len(theta_SxP))
    pure_S = with_replacement(fit, theta_SxP, n, records, np.zeros((1, 1)), pool)[:, 0]
    return np.where(pure_S <= value_S, 0.0, at_Sx1[:, 0])


def best_mix_at_budget(
    fit: Fit, *, budget: float, pool: float, compute: Compute, sizes: tuple[float, float]
) -> BestMix:
    """r*(C): the N within `sizes`, D and r that are best together when `compute` is to be `budget` FLOPs.

    `compute` says what a record costs: `flops_per_record("6 N 50", lambda n: 300 * n)` for 50 tokens each. `edge` says
    where a size is at the end of `sizes`. ValueError where some size within cannot use up the budget.
    """
    low, high = map(float, sizes)
    check_mixed(fit, n=low, records=budget, pool=pool)
    if not low < high:
        raise ValueError(f"sizes must be two positive numbers, the smaller first, not {sizes}")
    log_n = np.array([math.log(low), math.log(high)])
    most = compute.data(budget, np.exp(log_n))
    if not np.isfinite(most).all():
        raise ValueError(f"C = {compute.name}: sizes {low:g} to {high:g} cannot all use up {budget:g} FLOPs")
    theta = constants_drawn(fit)
    grid = np.linspace(log_n[0], log_n[1], BUDGET_POINTS)
    log_data = np.log(compute.data(budget, np.exp(grid)))

    def loss(log_size: np.ndarray, r: np.ndarray) -> np.ndarray:
        records = np.exp(np.interp(log_size, grid, log_data))
        return with_replacement(fit, theta, np.exp(log_size), records, r, pool)

    def mixed(at_SxGx2: np.ndarray) -> np.ndarray:
        return loss(at_SxGx2[..., 0], at_SxGx2[..., 1])

    def pure(at_SxGx1: np.ndarray) -> np.ndarray:
        return loss(at_SxGx1[..., 0], np.zeros(at_SxGx1.shape[:2]))

    at_Sx2, value_S = _least(mixed, np.array([log_n, [1 / most.max(), 1.0]]), len(theta))
    pure_Sx1, pure_value_S = _least(pure, log_n[None], len(theta))
    is_pure = pure_value_S <= value_S
    size_S = np.exp(np.where(is_pure, pure_Sx1[:, 0], at_Sx2[:, 0]))
    fraction_S = np.where(is_pure, 0.0, at_Sx2[:, 1])
    ends = np.abs(np.log(size_S)[:, None] - log_n).min(axis=1) < AT_EDGE
    notes = [f"C = {compute.name}; sizes searched {low:g} to {high:g}"]
    if ends[1:].any():
        notes.append(f"{100 * ends[1:].mean():.0f} % of the draws put N at the end of the sizes searched")
    edge = f"N = {size_S[0]:.4g} is at the end of the sizes searched; widen them" if ends[0] else None
    data_S = compute.data(budget, size_S)
    best = _best_mix(fit, theta, size_S, data_S, fraction_S, pool, float(budget))
    return replace(best, edge=edge or best.edge, notes=(*notes, *best.notes))


def exchange_rate(fit: Fit, *, n: float, real: float, synthetic: float, pool: float) -> ExchangeRate:
    """The exchange rate at N = `n`, R = `real`, S = `synthetic`, U = `pool`, by exact derivatives in float64.

    ValueError unless all are above 0: at R = 0 the law has no derivative.
    """
    check_mixed(fit, n=n, real=real, synthetic=synthetic, pool=pool)
    theta = constants_drawn(fit)
    at = dict(zip(LETTERS, (float(n), float(real), float(synthetic), float(pool))))
    x = fit.law.prepare({letter: np.asarray(value) for letter, value in at.items()}, fit.observations.references)
    with float64():
        found = loss_slopes(fit.law)(jnp.asarray(theta), {letter: jnp.asarray(value) for letter, value in x.items()})
        slope = {letter: np.asarray(value) for letter, value in found.items()}
    target_S = log_losses(fit, theta, *at.values())[:, 0]
    without_S = log_losses(fit, theta, n, real, 0.0, pool)[:, 0]
    harmful_S = without_S < target_S

    def replaced(new: bool) -> np.ndarray:
        low, high = (np.full(len(theta), math.log(end)) for end in (1e-9 * synthetic, 1e6 * sum(at.values())))

        def above(log_more: np.ndarray) -> np.ndarray:
            more = np.exp(log_more)[:, None]
            return log_losses(fit, theta, n, real + more, 0.0, pool + new * more)[:, 0] > target_S

        unreachable = above(high)
        for _ in range(BISECTIONS):
            middle = (low + high) / 2
            is_above = above(middle)
            low, high = np.where(is_above, middle, low), np.where(is_above, high, middle)
        return np.where(harmful_S, 0.0, np.where(unreachable, np.inf, np.exp(high) / synthetic))

    with np.errstate(divide="ignore"):
        marginal_S = slope["S"] / slope["R"]
        marginal_new_S = slope["S"] / (slope["R"] + slope["U"])
    worths = (marginal_S, marginal_new_S, replaced(False), replaced(True))
    marginal, marginal_new, average, average_new = (estimate_of(fit, values_S) for values_S in worths)
    return ExchangeRate(
        at,
        marginal,
        marginal_new,
        average,
        average_new,
        float(harmful_S[1:].mean()) if len(theta) > 1 else None,
        fit.draws.plan.level,
        range_notes(fit, n, real + synthetic, pool, real / pool),
    )


def repeat_value(fit: Fit, epochs: np.ndarray | tuple[float, ...] = (1, 2, 4, 8, 16, 32, 64)) -> RepeatValue:
    """The marginal-value curve of repeated real records; exp(-(epochs - 1) / R_D) under exponential decay.

    Derivative of D_eff, Muennighoff et al. 2023 (arXiv:2305.16264), eq. 5. ValueError for epochs below 1.
    """
    check_mixed(fit)
    epochs_E = np.asarray(epochs, dtype=float)
    if not (epochs_E >= 1).all():
        raise ValueError(f"epochs must be at least 1 (before that every record is fresh), not {epochs_E.min():g}")
    theta = constants_drawn(fit)
    with float64():
        log_r = jnp.asarray(theta[:, fit.law.names.index("R_D"), None])

        def worth(seen: jax.Array) -> jax.Array:
            return effective_real(SimpleNamespace(R_D=log_r), SimpleNamespace(R=seen, U=jnp.ones(())))

        seen = jnp.broadcast_to(jnp.asarray(epochs_E), (len(theta), len(epochs_E)))
        average, marginal = jax.jvp(worth, (seen,), (jnp.ones_like(seen),))
        columns = np.asarray(marginal).T, (np.asarray(average) / epochs_E).T
    marginal, average = (tuple(estimate_of(fit, column) for column in part) for part in columns)
    most = epochs_E.max()
    notes = () if most <= measured_ranges(fit)["epochs"][1] else (beyond_range(fit, "epochs", most),)
    return RepeatValue(tuple(map(float, epochs_E)), marginal, average, fit.draws.plan.level, notes)


def _least(value: Callable[[np.ndarray], np.ndarray], box_Qx2: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Arguments (S, Q) and least values (S,) of `count` functions of Q = 1 or 2 coordinates in a box.

    `value` takes (S, G, Q). A grid over the box finds the basin, ever smaller grids around the best point the minimum.
    """
    size, points = len(box_Qx2), ZOOM_POINTS[len(box_Qx2)]
    axes = [np.linspace(low, high, k) for (low, high), k in zip(box_Qx2, GRID_POINTS[size])]
    grid_GxQ = np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1).reshape(-1, size)
    at_SxGxQ = grid_GxQ[None]
    span_Q = 2 * np.array([axis[1] - axis[0] for axis in axes])
    offset = np.linspace(-1, 1, points)
    offset_GxQ = np.stack(np.meshgrid(*[offset] * size, indexing="ij"), axis=-1).reshape(-1, size)
    for zoom in range(ZOOMS[size] + 1):
        value_SxG = value(at_SxGxQ)
        best_S = value_SxG.argmin(axis=1)
        centre_SxQ = at_SxGxQ[np.arange(count) if zoom else 0, best_S]
        at_SxGxQ = np.clip(centre_SxQ[:, None] + offset_GxQ * span_Q, *box_Qx2.T)
        # Half in two coordinates: the best of a coarse grid along a valley may be some points off.
        span_Q = span_Q * (0.5 if size == 2 else 4 / (points - 1))
    return centre_SxQ, value_SxG.min(axis=1)


def _best_mix(
    fit: Fit,
    theta_SxP: np.ndarray,
    n_S: np.ndarray,
    records_S: np.ndarray,
    fraction_S: np.ndarray,
    pool: float,
    budget: float | None,
) -> BestMix:
    n, records, r = n_S[:, None], records_S[:, None], fraction_S[:, None]
    at = np.concatenate([r, np.full_like(r, HEADLINE_FRACTION), np.zeros_like(r), 1 / records], axis=1)
    log_SxG = with_replacement(fit, theta_SxP, n, records, at, pool)
    low, high = measured_ranges(fit)["r"]
    inside_S = (fraction_S > low + AT_EDGE) & (fraction_S < high - AT_EDGE)
    epochs = float(fraction_S[0] * records_S[0] / pool)
    return BestMix(
        n=estimate_of(fit, n_S),
        records=estimate_of(fit, records_S),
        pool=float(pool),
        budget=budget,
        fraction=estimate_of(fit, fraction_S),
        loss=float(fit.link.backward(np.exp(log_SxG[0, 0]))),
        epochs=epochs,
        measured=(low, high),
        share_inside=float(inside_S[1:].mean()) if len(theta_SxP) > 1 else None,
        penalty=estimate_of(fit, log_SxG[:, 1] - log_SxG[:, 0]),
        jump=estimate_of(fit, log_SxG[:, 2] - log_SxG[:, 3]),
        edge=_edge(fraction_S[0], low, high, 1 / records_S[0]),
        level=fit.draws.plan.level,
        notes=range_notes(fit, n_S[0], records_S[0], pool, epochs),
    )


def _edge(r: float, low: float, high: float, one_record: float) -> str | None:
    """Why a best fraction `r` is none to claim; None strictly inside the fractions measured."""
    if r == 0:
        return "r* = 0, the edge: no real records at all"
    if r > 1 - AT_EDGE:
        return "r* = 1, the edge: no synthetic records at all"
    if r < 2 * one_record:
        return "as few real records as possible, but not none, which the law cannot mean: it jumps at r = 0"
    if r <= low + AT_EDGE:
        return f"r* = {r:.3g} is at or below the smallest fraction above 0 that was measured, {low:g}"
    if r >= high - AT_EDGE:
        return f"r* = {r:.3g} is at or above the largest fraction measured, {high:g}"
    return None
