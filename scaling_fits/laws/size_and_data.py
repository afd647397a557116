"""Laws of loss in size and data: each one function and one declaration, with its equation and source.

In the functions `p` holds the constants and `x` the variables; what must be positive arrives as its logarithm, so that
`log_sum(p.E, p.A - p.alpha * x.N)` is ln(E + A / N^alpha). Laws of mixtures stand in `data_mix`, of curves in
`learning_curve`.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp

from scaling_fits.laws.law import Law, Variable, coefficient, exponent, floor, number, positive

N, D = Variable("N", "N"), Variable("D", "D")
HENIGHAN = "Hestness et al. 2017, arXiv:1712.00409; Henighan et al. 2020, arXiv:2010.14701"


def log_sum(*terms: jax.Array) -> jax.Array:
    """ln of a sum of exponentials, elementwise over terms of any broadcastable shapes."""
    together = jnp.stack(jnp.broadcast_arrays(*terms))
    largest = jax.lax.stop_gradient(together.max(axis=0))
    return largest + jnp.log(jnp.exp(together - largest).sum(axis=0))


def power_law(variable: str = "N", *, with_floor: bool = True) -> Law:
    """`L = E + A / variable^alpha` in one variable, or without the floor E: a straight line in log-log."""
    terms = f"A / {variable}^alpha"
    constants = (coefficient("A", linear=True, **{variable: "alpha"}), exponent("alpha"))
    return Law(
        name=f"power_law_{variable}" if with_floor else f"line_{variable}",
        equation=f"L = E + {terms}" if with_floor else f"L = {terms}",
        source=HENIGHAN if with_floor else "Hestness et al. 2017, arXiv:1712.00409",
        variables=(Variable(variable, variable),),
        parameters=(floor(), *constants) if with_floor else constants,
        log_loss=_WITH_FLOOR[variable] if with_floor else _STRAIGHT[variable],
        special_case=power_law(variable, with_floor=False) if with_floor else None,
        fresh_data_only=variable == "D",
    )


def _falls(variable: str) -> Any:
    return lambda p, x: p.A - p.alpha * getattr(x, variable)


def _falls_to_floor(variable: str) -> Any:
    return lambda p, x: log_sum(p.E, p.A - p.alpha * getattr(x, variable))


# One function object per variable: laws made twice are equal, and compiled programs are found again.
_STRAIGHT = {letter: _falls(letter) for letter in ("N", "D", "C")}
_WITH_FLOOR = {letter: _falls_to_floor(letter) for letter in ("N", "D", "C")}


def _kaplan(p: Any, x: Any) -> jax.Array:
    return p.alpha_D * log_sum(p.alpha_N / p.alpha_D * (p.N_c - x.N), p.D_c - x.D)


KAPLAN = Law(
    name="kaplan",
    equation="L = ((N_c / N)^(alpha_N / alpha_D) + D_c / D)^alpha_D",
    source="Kaplan et al. 2020, arXiv:2001.08361, eq. 1.5",
    variables=(N, D),
    parameters=(
        positive("N_c", (1e-4, 10), 1e-30, 1e30, N=1, L="1/alpha_N"),
        positive("D_c", (1e-4, 10), 1e-30, 1e30, D=1, L="1/alpha_D"),
        exponent("alpha_N"),
        exponent("alpha_D"),
    ),
    log_loss=_kaplan,
    fresh_data_only=True,
)


def _tied(p: Any, x: Any) -> jax.Array:
    return log_sum(p.E, p.A - p.alpha * x.N, p.B - p.alpha * x.D)


TIED = Law(
    name="tied",
    equation="L = E + A / N^alpha + B / D^alpha",
    source="Muennighoff et al. 2023, arXiv:2305.16264, appendix A (alpha = beta)",
    variables=(N, D),
    parameters=(floor(), coefficient("A", N="alpha"), coefficient("B", D="alpha"), exponent("alpha")),
    log_loss=_tied,
    fresh_data_only=True,
)


def _chinchilla(p: Any, x: Any) -> jax.Array:
    return log_sum(p.E, p.A - p.alpha * x.N, p.B - p.beta * x.D)


CHINCHILLA = Law(
    name="chinchilla",
    equation="L = E + A / N^alpha + B / D^beta",
    source="Hoffmann et al. 2022, arXiv:2203.15556, approach 3 (eq. 2, 3)",
    variables=(N, D),
    parameters=(
        floor(),
        coefficient("A", N="alpha"),
        coefficient("B", D="beta"),
        exponent("alpha"),
        exponent("beta"),
    ),
    log_loss=_chinchilla,
    special_case=TIED,
    fresh_data_only=True,
)


def _coupled(p: Any, x: Any) -> jax.Array:
    return log_sum(p.E, p.g * log_sum(p.A - p.a * x.N, p.B - p.b * x.D))


# Of these factors the loss sees the power g alone: with g = 0.05 a twentieth of the loss is e^-60 here.
_WIDE: dict[str, Any] = {"low": -400.0, "high": 400.0}

COUPLED = Law(
    name="coupled",
    equation="L = E + (A / N^a + B / D^b)^g",
    source="Busbridge et al. 2025, arXiv:2502.08606 (supervised law)",
    variables=(N, D),
    parameters=(
        floor(),
        replace(coefficient("A", linear=False, loss="1/g", N="a"), **_WIDE),
        replace(coefficient("B", linear=False, loss="1/g", D="b"), **_WIDE),
        exponent("a"),
        exponent("b"),
        number("g", (0.3, 2.0), 0.02, 10.0),
    ),
    log_loss=_coupled,
    special_case=CHINCHILLA,
    reduces_at=(("g", 1.0),),
    fresh_data_only=True,
)


def _farseer(p: Any, x: Any) -> jax.Array:
    decay = jnp.exp(p.A * jnp.exp(p.a * x.N) + p.F)
    return log_sum(p.G + p.s * jnp.exp(p.q * x.N), p.H + p.B * jnp.exp(p.b * x.N) - decay * x.D)


FARSEER = Law(
    name="farseer",
    equation="L = G exp(s N^q) + H exp(B N^b) / D^exp(A N^a + F)",
    source="Farseer, Li et al. 2025, arXiv:2506.10972 (G = e^S, H = e^Q and F = E in the paper's letters)",
    variables=(N, Variable("D")),
    parameters=(
        positive("G", (0.05, 3.0), 1e-12, 1e12, L=1),
        number("s", (-2.0, 1.0), -30.0, 30.0, N="-q"),
        number("q", (-0.3, 0.3), -2.0, 2.0),
        positive("H", (0.05, 500.0), 1e-25, 1e25, L=1),
        number("B", (-2.0, 8.0), -60.0, 60.0, N="-b"),
        number("b", (-0.3, 0.3), -2.0, 2.0),
        number("A", (-2.0, 1.0), -30.0, 30.0, N="-a"),
        number("a", (-0.3, 0.3), -2.0, 2.0),
        number("F", (-2.0, 1.0), -20.0, 20.0),
    ),
    log_loss=_farseer,
    fresh_data_only=True,
)


def repeated(log_seen: jax.Array, log_unique: jax.Array, log_r: jax.Array) -> jax.Array:
    """ln of what `seen` is worth when only `unique` of it is new and repetitions decay with constant R* (eq. 5).

    D' = U + U R* (1 - exp(-(D/U - 1) / R*)), Muennighoff et al. 2023; D itself where nothing repeats.
    """
    repetitions = jnp.maximum(jnp.expm1(log_seen - log_unique), 0.0)
    gained = jnp.exp(log_r) * -jnp.expm1(-repetitions * jnp.exp(-log_r))
    return jnp.minimum(log_seen, log_unique) + jnp.log1p(gained)


def _repetition(p: Any, x: Any) -> jax.Array:
    log_n_of_u = (jnp.log(p.alpha / p.beta) + p.A - p.B + p.beta * x.U) / p.alpha
    data = repeated(x.D, x.U, p.R_D)
    size = repeated(x.N, jnp.minimum(x.N, log_n_of_u), p.R_N)
    return log_sum(p.E, p.A - p.alpha * size, p.B - p.beta * data)


REPETITION = Law(
    name="repetition",
    equation="L = E + A / N'^alpha + B / D'^beta; D' = U (1 + R_D (1 - exp(-(D/U - 1) / R_D))), N' likewise with R_N",
    source="Muennighoff et al. 2023, arXiv:2305.16264, eq. 5-7; what N exceeds is the compute-optimal size for U",
    variables=(N, D, Variable("U", "D")),
    parameters=(
        floor(),
        coefficient("A", linear=False, N="alpha"),
        coefficient("B", linear=False, D="beta"),
        exponent("alpha", (0.1, 1.0)),
        exponent("beta", (0.1, 1.0)),
        positive("R_D", (0.5, 300.0), 1e-3, 1e9),
        positive("R_N", (0.5, 300.0), 1e-3, 1e9),
    ),
    log_loss=_repetition,
)


def broken_power_law(variable: str = "D") -> Law:
    """One smooth break: `L = E + B x^-c_0 (1 + (x/d)^(1/f))^(-c_1 f)`; c_1 > 0 steepens, f is the break's width."""
    return Law(
        name=f"broken_power_law_{variable}",
        equation=f"L = E + B {variable}^-c_0 (1 + ({variable} / d)^(1/f))^(-c_1 f)",
        source="Caballero et al. 2022, arXiv:2210.14891, eq. 1 with one break",
        variables=(Variable(variable, variable),),
        parameters=(
            floor(),
            coefficient("B", linear=True, **{variable: "c_0"}),
            exponent("c_0"),
            number("c_1", (-0.5, 1.0), -5.0, 5.0),
            positive("d", (0.02, 50.0), 1e-6, 1e6, **{variable: 1}),
            positive("f", (0.1, 1.0), 0.02, 5.0),
        ),
        log_loss=_BROKEN[variable],
        special_case=power_law(variable),
        reduces_at=(("c_1", 0.0),),
        fresh_data_only=variable == "D",
    )


def _breaks(variable: str) -> Any:
    def log_loss(p: Any, x: Any) -> jax.Array:
        at = getattr(x, variable)
        width = jnp.exp(p.f)
        return log_sum(p.E, p.B - p.c_0 * at - p.c_1 * width * jax.nn.softplus((at - p.d) / width))

    return log_loss


_BROKEN = {letter: _breaks(letter) for letter in ("N", "D", "C")}
