"""Slow stationary Gaussian processes: drawn on a coarse grid with any spectrum, and read between its points.

A root of the process's covariance turns white draws into it, exactly: the spectrum is continuous, where a sum of a few
sines would put the same lines into every record.
"""

from __future__ import annotations

import dataclasses
import functools

import jax
import numpy as np

from ecg_jax.data.synthetic.constants import declare
from ecg_jax.data.synthetic.physiology.sampling import Grid

#: Points of the coarse grid per second: it divides every rate that records are rendered at.
SLOW_RATE_HZ = 25
#: Step of the frequencies over which a covariance is summed.
_STEP_HZ = 0.002


@dataclasses.dataclass(frozen=True)
class Spectrum:
    """A power spectrum of unit variance: flat below `corner_hz`, falling as 1 / f^exponent, and cut off at `top_hz`."""

    corner_hz: float
    exponent: float
    top_hz: float

    def __post_init__(self) -> None:
        if not 0.0 < self.corner_hz < self.top_hz <= 0.4 * SLOW_RATE_HZ:
            raise ValueError(
                f"a slow spectrum from {self.corner_hz} to {self.top_hz} Hz: both must lie above 0, in this order, and "
                f"up to {0.4 * SLOW_RATE_HZ:g} Hz"
            )
        if not 0.0 <= self.exponent <= 4.0:
            raise ValueError(f"a slow spectrum falls as 1 / f^{self.exponent}: the exponent must lie from 0 to 4")

    def density(self, hz: np.ndarray) -> np.ndarray:
        """The density at frequencies, not normalised."""
        return (1.0 + (hz / self.corner_hz) ** 2) ** (-0.5 * self.exponent) * np.exp(-((hz / self.top_hz) ** 4))


def _margins(grid: Grid) -> tuple[int, int, int]:
    """Samples per coarse step, coarse steps before the record's start, and steps from there to its end."""
    each, rest = divmod(grid.sample_rate_hz, SLOW_RATE_HZ)
    if rest:
        raise ValueError(f"{grid.sample_rate_hz} Hz is no multiple of the slow grid's {SLOW_RATE_HZ} Hz")
    before = -(-grid.guard_samples // each)
    return each, before, before - (-(grid.seconds * grid.sample_rate_hz + grid.guard_samples) // each)


def slow_points(grid: Grid) -> int:
    """Points of the coarse grid that a record needs, from before its first sample to after its last."""
    return _margins(grid)[2] + 1


@functools.lru_cache(maxsize=16)
def root(spectrum: Spectrum, points: int) -> np.ndarray:
    """A root of the covariance on the coarse grid, `(points, points)`: white draws times it give the process."""
    hz = np.arange(0.5 * _STEP_HZ, 0.5 * SLOW_RATE_HZ, _STEP_HZ)
    density = spectrum.density(hz)
    lags = np.arange(points) / SLOW_RATE_HZ
    covariance = np.cos(2.0 * np.pi * lags[:, None] * hz) @ (density / density.sum())
    value, vector = np.linalg.eigh(covariance[np.abs(np.subtract.outer(np.arange(points), np.arange(points)))])
    table = ((vector * np.sqrt(np.maximum(value, 0.0))) @ vector.T).astype(np.float32)
    table.setflags(write=False)
    return table


def upsampled(coarse: jax.Array, grid: Grid) -> jax.Array:
    """Reads coarse points `(..., slow_points)` at the samples of a record, `(..., samples)`: straight lines between.

    What a line adds about 25 Hz is below a hundredth of a process that falls as 1 / f².
    """
    each, before, steps = _margins(grid)
    share = (np.arange(each) / each).astype(np.float32)
    start = coarse[..., :steps, None]
    fine = start + (coarse[..., 1 : steps + 1, None] - start) * share
    first = before * each - grid.guard_samples
    return fine.reshape(*coarse.shape[:-1], steps * each)[..., first : first + grid.samples]


declare("slow", vars(), "SLOW_RATE_HZ _STEP_HZ", version=3)
