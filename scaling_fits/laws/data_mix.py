"""Laws of the data mix: published ones over shares of domains, and ours over real and synthetic records."""

from __future__ import annotations

import functools
from typing import Any

import jax
import jax.numpy as jnp

from scaling_fits.laws.law import Law, Parameter, Variable, coefficient, exponent, floor, positive
from scaling_fits.laws.size_and_data import D, N, log_sum

#: Shares of 0 are read as this, so that a logarithm exists.
SHARE_MIN = 1e-12
ABSENT = -1e3  # ln of a term that is not there


@functools.lru_cache
def exponential_mixing(domains: int) -> Law:
    """`L = c + prod_j k_j^h_j` over shares h_1 … h_M that add up to 1 (t_j = ln k_j and their k in the paper)."""
    shares = _shares(domains)

    def log_loss(p: Any, x: Any) -> jax.Array:
        return log_sum(p.c, sum(getattr(p, f"k_{i}") * getattr(x, f"h_{i}") for i in range(1, domains + 1)))

    return Law(
        name=f"exponential_mixing_{domains}",
        equation="L = c + prod_j k_j^h_j",
        source="Ye et al. 2024, arXiv:2403.16952, eq. 7 (their factor k is redundant where shares add up to 1)",
        variables=shares,
        parameters=(
            floor("c"),
            *(positive(f"k_{i}", (0.05, 5.0), 1e-250, 1e250, L=1) for i in range(1, domains + 1)),
        ),
        log_loss=log_loss,
    )


@functools.lru_cache
def additive_mixture(domains: int) -> Law:
    """`L = E + 1 / sum_i C_i h_i^gamma_i + A / N^alpha + B / D^beta`: the mix moves the floor only."""

    def log_loss(p: Any, x: Any) -> jax.Array:
        return log_sum(p.E, _mix_floor(p, x, domains), p.A - p.alpha * x.N, p.B - p.beta * x.D)

    return Law(
        name=f"additive_mixture_{domains}",
        equation="L = E + 1 / sum_i C_i h_i^gamma_i + A / N^alpha + B / D^beta",
        source="Shukor et al. 2025, arXiv:2507.09404, additive law",
        variables=(N, D, *_shares(domains)),
        parameters=(
            floor(),
            coefficient("A", N="alpha"),
            coefficient("B", D="beta"),
            exponent("alpha"),
            exponent("beta"),
            *_floor_parameters(domains),
        ),
        log_loss=log_loss,
    )


@functools.lru_cache
def joint_mixture(domains: int) -> Law:
    """As `additive_mixture`, with A and B means over the mix: `A = (sum_i h_i A_i^(1/gamma_A))^gamma_A`, B likewise.

    A_i is what A is for domain i alone, the paper's A_i^gamma_A: the paper's own letters lie along a curved valley, as
    only their power is seen. The exponents gamma lie between 0.1, next to the largest A_i, and 10.
    """

    def log_loss(p: Any, x: Any) -> jax.Array:
        return log_sum(
            p.E,
            _mix_floor(p, x, domains),
            _power_mean(p, x, "A", domains) - p.alpha * x.N,
            _power_mean(p, x, "B", domains) - p.beta * x.D,
        )

    def mixed(letter: str, **powers: str) -> tuple[Parameter, ...]:
        names = [f"{letter}_{i}" for i in range(1, domains + 1)]
        return tuple(coefficient(name, linear=False, **powers) for name in names)

    return Law(
        name=f"joint_mixture_{domains}",
        equation="L = E + 1 / sum_i C_i h_i^gamma_i + (sum_i h_i A_i^(1/gamma_A))^gamma_A / N^alpha"
        " + (sum_i h_i B_i^(1/gamma_B))^gamma_B / D^beta",
        source="Shukor et al. 2025, arXiv:2507.09404, joint law (A_i^(1/gamma_A) is their A_i, likewise B_i)",
        variables=(N, D, *_shares(domains)),
        parameters=(
            floor(),
            exponent("alpha"),
            exponent("beta"),
            *_floor_parameters(domains),
            *mixed("A", N="alpha"),
            positive("gamma_A", (0.2, 2.0), 0.1, 10.0),
            *mixed("B", D="beta"),
            positive("gamma_B", (0.2, 2.0), 0.1, 10.0),
        ),
        log_loss=log_loss,
    )


def _shares(domains: int) -> tuple[Variable, ...]:
    return tuple(Variable(f"h_{i}", log=False) for i in range(1, domains + 1))


def _floor_parameters(domains: int) -> tuple[Parameter, ...]:
    names = range(1, domains + 1)
    return (
        *(positive(f"C_{i}", (0.1, 100.0), 1e-8, 1e17, L=-1) for i in names),
        *(exponent(f"gamma_{i}", (0.05, 1.5)) for i in names),
    )


def _mix_floor(p: Any, x: Any, domains: int) -> jax.Array:
    domain = range(1, domains + 1)
    return -log_sum(
        *(getattr(p, f"C_{i}") + getattr(p, f"gamma_{i}") * _log_share(getattr(x, f"h_{i}")) for i in domain)
    )


def _log_share(share: jax.Array) -> jax.Array:
    return jnp.log(jnp.maximum(share, SHARE_MIN))


def _power_mean(p: Any, x: Any, letter: str, domains: int) -> jax.Array:
    """ln of (sum_i h_i constant_i^(1/gamma))^gamma, the mean of the constants over the mix."""
    gamma = jnp.exp(getattr(p, f"gamma_{letter}"))
    domain = range(1, domains + 1)
    return gamma * log_sum(*(getattr(p, f"{letter}_{i}") / gamma + _log_share(getattr(x, f"h_{i}")) for i in domain))


def _d_cpt(p: Any, x: Any) -> jax.Array:
    share = _log_share(x.r)
    domain = p.C - p.gamma * jnp.log(x.r + jnp.exp(p.epsilon))
    return log_sum(p.E, p.A - p.alpha * x.N, p.B + p.eta * share - p.beta * x.D, domain)


D_CPT = Law(
    name="d_cpt",
    equation="L = E + A / N^alpha + B r^eta / D^beta + C / (r + epsilon)^gamma",
    source="Que et al. 2024, arXiv:2406.01375, D-CPT law",
    variables=(N, D, Variable("r", log=False)),
    parameters=(
        floor(),
        coefficient("A", N="alpha"),
        coefficient("B", D="beta"),
        coefficient("C"),
        exponent("alpha"),
        exponent("beta"),
        exponent("eta", (0.0, 1.0)),
        positive("epsilon", (0.01, 0.5), 1e-12, 10.0),
        exponent("gamma", (0.05, 1.5)),
    ),
    log_loss=_d_cpt,
)

# --- Real and synthetic records -------------------------------------------------------------------------------------
# R: real records seen, repetitions included; S: synthetic records seen, all different; U: different real records.
_REAL_SYNTHETIC = (
    N,
    Variable("R", "D", log=False),
    Variable("S", "D", log=False),
    Variable("U", "D", log=False),
)
_EXCHANGE_PARAMETERS = (
    floor(),
    floor("G"),
    coefficient("A", N="alpha"),
    coefficient("B", D="beta"),
    exponent("alpha"),
    exponent("beta"),
    positive("kappa", (0.01, 2.0), 1e-12, 1e12),
    positive("R_D", (0.5, 100.0), 1e-6, 1e6),
)
_PROTOCOL = "this project's protocol; repetition after Muennighoff et al. 2023, arXiv:2305.16264"
_EFFECTIVE = "D_eff = U + U R_D (1 - exp(-(R/U - 1) / R_D)) + "


def effective_real(p: Any, x: Any) -> jax.Array:
    """Real records in worth of fresh ones: R while R <= U, then with decaying repetitions; 0 without any."""
    unique = jnp.where(x.U > 0, x.U, 1.0)
    repetitions = jnp.maximum(x.R / unique - 1.0, 0.0)
    return jnp.minimum(x.R, unique) + unique * jnp.exp(p.R_D) * -jnp.expm1(-repetitions * jnp.exp(-p.R_D))


def _exchange(p: Any, x: Any, synthetic: jax.Array, gap: jax.Array) -> jax.Array:
    effective = jnp.where(x.R > 0, effective_real(p, x), 0.0) + synthetic
    return log_sum(p.E, gap, p.A - p.alpha * x.N, p.B - p.beta * jnp.log(effective))


def _gap_if_pure(p: Any, x: Any) -> jax.Array:
    return jnp.where(x.R > 0, ABSENT, p.G)


def _common(p: Any, x: Any) -> jax.Array:
    return _exchange(p, x, jnp.exp(p.kappa) * x.S, _gap_if_pure(p, x))


COMMON_RATE = Law(
    name="common_rate",
    equation=f"L = E + G [R = 0] + A / N^alpha + B / D_eff^beta; {_EFFECTIVE}kappa S",
    source=f"M0 of {_PROTOCOL}",
    variables=_REAL_SYNTHETIC,
    parameters=_EXCHANGE_PARAMETERS,
    log_loss=_common,
)


def _sized(p: Any, x: Any) -> jax.Array:
    return _exchange(p, x, jnp.exp(p.kappa + p.kappa_1 * x.N) * x.S, _gap_if_pure(p, x))


RATE_OF_SIZE = Law(
    name="rate_of_size",
    equation=f"L = E + G [R = 0] + A / N^alpha + B / D_eff^beta; {_EFFECTIVE}kappa N^kappa_1 S",
    source=f"M1 of {_PROTOCOL}",
    variables=_REAL_SYNTHETIC,
    parameters=(
        *_EXCHANGE_PARAMETERS[:6],
        positive("kappa", (0.01, 2.0), 1e-12, 1e12, N="-kappa_1"),
        _EXCHANGE_PARAMETERS[7],
        Parameter("kappa_1", -5.0, 5.0, (-0.5, 0.5)),
    ),
    log_loss=_sized,
    special_case=COMMON_RATE,
    reduces_at=(("kappa_1", 0.0),),
)


def _saturating(p: Any, x: Any) -> jax.Array:
    worth = jnp.exp(p.kappa + p.T) * -jnp.expm1(-x.S * jnp.exp(-p.T))
    return _exchange(p, x, worth, _gap_if_pure(p, x))


SATURATING = Law(
    name="saturating",
    equation=f"L = E + G [R = 0] + A / N^alpha + B / D_eff^beta; {_EFFECTIVE}kappa T (1 - exp(-S/T))",
    source=f"M2 of {_PROTOCOL}",
    variables=_REAL_SYNTHETIC,
    parameters=(*_EXCHANGE_PARAMETERS, positive("T", (0.1, 100.0), 1e-3, 1e6, D=1)),
    log_loss=_saturating,
    special_case=COMMON_RATE,
    reduces_at=(("T", float("inf")),),
)


def _mixed_floor(p: Any, x: Any) -> jax.Array:
    share = jnp.where(x.S > 0, x.S, 1.0) / (x.R + x.S)
    gap = jnp.where(x.S > 0, p.G + jnp.exp(p.phi) * jnp.log(share), ABSENT)
    return _exchange(p, x, jnp.exp(p.kappa) * x.S, gap)


FLOOR_OF_MIX = Law(
    name="floor_of_mix",
    equation=f"L = E + G (S / (R + S))^phi + A / N^alpha + B / D_eff^beta; {_EFFECTIVE}kappa S",
    source=f"M3 of {_PROTOCOL}",
    variables=_REAL_SYNTHETIC,
    parameters=(*_EXCHANGE_PARAMETERS, positive("phi", (0.3, 30.0), 0.05, 1e4)),
    log_loss=_mixed_floor,
    special_case=COMMON_RATE,
    reduces_at=(("phi", float("inf")),),
)
