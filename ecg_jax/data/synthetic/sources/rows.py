"""Kernel rows of a beat: skewed Gaussians, each with a vector in space and a lead field of its own region."""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp

from ecg_jax.data.synthetic.physiology.kernels import Fiducials


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Rows:
    """R kernels of one wave. Times in seconds from the event of their train, vectors in mV (Frank X, Y, Z)."""

    centre_s: jax.Array  # (R,)
    width_s: jax.Array  # (R,)
    skew: jax.Array  # (R,) above -1, below 1; positive: rises slowly, falls fast
    flat: jax.Array  # (R,) 1 for exp(-z⁴/2), 0 for exp(-z²/2)
    vector_mv: jax.Array  # (R, 3)
    field: jax.Array  # (R, 9, 3) the region's lead vectors at the electrodes of `leads.ELECTRODES`

    @property
    def weights_mv(self) -> jax.Array:
        """What each kernel adds at each electrode against Wilson's central terminal, `(R, 9)`."""
        return (self.field @ self.vector_mv[:, :, None])[..., 0]


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Beat:
    """One kind of beat of one patient: rows that move with the P, QRS and T trains, and where its waves lie."""

    p: Rows
    qrs: Rows
    t: Rows  # J wave, ST segment, T and U
    fiducials: Fiducials


def kernels_at(rows: Rows, time_s: jax.Array, low_pass_s: float | jax.Array = 0.0) -> jax.Array:
    """The kernels at times `(T,)` from their event, `(T, R)`, after a Gaussian low-pass of that standard deviation.

    The low-pass widens a kernel and lowers it, so that its area stays; exact without skew.
    """
    wider_s = jnp.sqrt(rows.width_s**2 + low_pass_s**2)
    after = time_s - rows.centre_s[:, None]
    rising, falling = 1.0 / (wider_s * (1.0 + rows.skew)), 1.0 / (wider_s * (1.0 - rows.skew))
    square = (after * jnp.where(after < 0, rising[:, None], falling[:, None])) ** 2
    square = jnp.where(rows.flat[:, None] > 0, square**2, square)
    # Computed with the times last, which is faster by far: they are many.
    return ((rows.width_s / wider_s)[:, None] * jnp.exp(-0.5 * square)).T
