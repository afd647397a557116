"""Laws of the learning curve under learning-rate annealing.

A row is a checkpoint: the loss after `step` updates under one schedule. `S1` (N,) is the sum of the learning rates so
far, warm-up included; how the rate fell is told in blocks (N, K), by `schedules`. Learning rates are numbers as they
are, so `S1` and the constants that multiply a fall depend on the optimiser's convention. Falls are counted after the
warm-up only; the multi-power law says so, for the law of Tissue et al. it is a choice made here. Both laws are
published for data seen once.
"""

from __future__ import annotations

import functools
from typing import Any

import jax
import jax.numpy as jnp

from scaling_fits.laws.law import LOG_NEGLIGIBLE, Law, Parameter, Variable, coefficient, exponent, floor, positive
from scaling_fits.laws.size_and_data import log_sum

DECAY = 0.999
#: Annealing that takes more than all but this share of the rest of the loss is followed by a parabola; see `remaining`.
REMAINING_MIN = 1e-2

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


AREA = Law(
    name="area",
    equation="L = L0 + A / S1^alpha",
    source=f"{TISSUE_SOURCE}, without annealing",
    variables=(_S1,),
    parameters=_BASE,
    log_loss=_area_only,
)


@functools.lru_cache
def tissue(decay: float | None = DECAY) -> Law:
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

    return Law(
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


MULTI_POWER = Law(
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
