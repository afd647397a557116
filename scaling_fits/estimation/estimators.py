"""Estimators: what is minimised over the residuals. One object serves the point, the bootstrap and the profile.

Every loss is summed over rows, never averaged: a mean makes default tolerances stop early, the error behind a
well-known irreproducible table (Besiroglu et al. 2024, arXiv:2404.10102, appendix).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import Enum

import jax
import jax.numpy as jnp


class Residual(Enum):
    """What a residual is the difference of: predicted minus measured ln loss, or loss."""

    LOG = "ln loss"
    RAW = "loss"


@dataclass(frozen=True)
class LeastSquares:
    """Half the squared residuals (their sum is half the residual sum of squares)."""

    residual: Residual = Residual.LOG
    estimates_scale = False
    smooth = True

    @property
    def description(self) -> str:
        """The estimator in words, for the outputs."""
        return f"sum of squares / 2 of {self.residual.value} residuals"

    def loss(self, r: jax.Array) -> jax.Array:
        """Elementwise loss."""
        return 0.5 * r**2

    def slope(self, r: jax.Array) -> jax.Array:
        """Derivative of the loss."""
        return r

    def curvature(self, r: jax.Array) -> jax.Array:
        """Second derivative, in the generalised sense at a kink."""
        return jnp.ones_like(r)

    def majoriser(self, r: jax.Array) -> jax.Array:
        """Weight of the quadratic that touches the loss from above (iteratively reweighted least squares)."""
        return jnp.ones_like(r)


@dataclass(frozen=True)
class Huber:
    """Huber (1964): r^2/2 where |r| <= delta, else delta (|r| - delta/2); delta 1e-3 is Hoffmann et al.'s (2022)."""

    delta: float = 1e-3
    residual: Residual = Residual.LOG
    estimates_scale = False
    smooth = True

    def __post_init__(self) -> None:
        if not (self.delta > 0 and math.isfinite(self.delta)):
            raise ValueError(f"Huber delta must be positive and finite, not {self.delta}; 1e-3 is Hoffmann's choice")

    @property
    def description(self) -> str:
        """The estimator in words, for the outputs."""
        return f"sum of Huber({self.delta:g}) of {self.residual.value} residuals"

    def loss(self, r: jax.Array) -> jax.Array:
        """Elementwise loss."""
        inner = jnp.minimum(jnp.abs(r), self.delta)
        return inner * (jnp.abs(r) - inner / 2)

    def slope(self, r: jax.Array) -> jax.Array:
        """Derivative of the loss."""
        return jnp.clip(r, -self.delta, self.delta)

    def curvature(self, r: jax.Array) -> jax.Array:
        """Second derivative, in the generalised sense at a kink."""
        return (jnp.abs(r) <= self.delta).astype(r.dtype)

    def majoriser(self, r: jax.Array) -> jax.Array:
        """Weight of the quadratic that touches the loss from above (iteratively reweighted least squares)."""
        return jnp.minimum(1.0, self.delta / jnp.maximum(jnp.abs(r), 1e-300))


@dataclass(frozen=True)
class Quantile:
    """Pinball loss: tau of the measured losses lie below the law (Koenker & Bassett 1978).

    tau = 0.5 with twice the loss is least absolute deviation; a small tau fits the lower envelope of runs that were not
    all trained well. `core` is the half-width of a quadratic that rounds the kink: the fit shrinks it in steps and
    finishes on the kink itself.
    """

    tau: float = 0.5
    residual: Residual = Residual.LOG
    core: float | jax.Array = 1e-2
    estimates_scale = False
    smooth = False

    def __post_init__(self) -> None:
        if not 0 < self.tau < 1:
            raise ValueError(f"quantile tau must lie between 0 and 1, not {self.tau}")

    @property
    def description(self) -> str:
        """The estimator in words, for the outputs."""
        if self.tau == 0.5:
            return f"sum of absolute {self.residual.value} residuals / 2"
        return f"sum of pinball({self.tau:g}) of {self.residual.value} residuals"

    @property
    def _limits(self) -> tuple[float, float]:
        """Slopes far below and far above zero: predicting too little costs tau, too much costs 1 - tau."""
        return -self.tau, 1 - self.tau

    def loss(self, r: jax.Array) -> jax.Array:
        """Elementwise loss, rounded within the core."""
        slope = self.slope(r)
        return slope * r - 0.5 * self.core * slope**2

    def slope(self, r: jax.Array) -> jax.Array:
        """Derivative of the loss."""
        return jnp.clip(r / self.core, *self._limits)

    def curvature(self, r: jax.Array) -> jax.Array:
        """Second derivative, in the generalised sense at a kink."""
        low, high = self._limits
        return ((r >= low * self.core) & (r <= high * self.core)).astype(r.dtype) / self.core

    def majoriser(self, r: jax.Array) -> jax.Array:
        """Weight of a quadratic like the loss (iteratively reweighted least squares)."""
        return self.slope(r) / jnp.where(jnp.abs(r) < 1e-300, 1e-300, r)


@dataclass(frozen=True)
class StudentT:
    """Negative log-likelihood of Student's t with `nu` degrees of freedom; its scale is estimated along."""

    nu: float = 4.0
    residual: Residual = Residual.LOG
    estimates_scale = True
    smooth = True

    def __post_init__(self) -> None:
        if not self.nu > 0:
            raise ValueError(f"Student-t needs positive degrees of freedom, not {self.nu}")

    @property
    def description(self) -> str:
        """The estimator in words, for the outputs."""
        return f"-ln likelihood, Student-t({self.nu:g}) {self.residual.value} residuals, scale estimated"

    @property
    def log_constant(self) -> float:
        """-ln of the density's constant, per row."""
        half = self.nu / 2
        return math.lgamma(half) - math.lgamma(half + 0.5) + 0.5 * math.log(self.nu * math.pi)

    def loss(self, r: jax.Array) -> jax.Array:
        """Elementwise loss of residuals in units of the scale, without the logarithm of the scale."""
        return 0.5 * (self.nu + 1) * jnp.log1p(r**2 / self.nu)

    def slope(self, r: jax.Array) -> jax.Array:
        """Derivative of the loss."""
        return (self.nu + 1) * r / (self.nu + r**2)

    def curvature(self, r: jax.Array) -> jax.Array:
        """Second derivative; negative in the tails."""
        return (self.nu + 1) * (self.nu - r**2) / (self.nu + r**2) ** 2

    def majoriser(self, r: jax.Array) -> jax.Array:
        """Weight of the quadratic that touches the loss from above (the weight of the EM algorithm)."""
        return (self.nu + 1) / (self.nu + r**2)


Estimator = LeastSquares | Huber | Quantile | StudentT
LEAST_ABSOLUTE = Quantile(0.5)
HUBER_HOFFMANN = Huber(1e-3)
