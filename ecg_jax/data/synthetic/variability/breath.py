"""The breath: one wave for the sinus node, the heart's position and the electrodes, and never quite periodic."""

from __future__ import annotations

import dataclasses
import math

import jax

from ecg_jax.data.synthetic.constants import declare
from ecg_jax.data.synthetic.randomness.draws import cut, truncated_normal
from ecg_jax.data.synthetic.randomness.sine import sine

#: Draws of a row that `sample_breath` takes.
BREATH_DRAWS = 4
_TURN = 2.0 * math.pi


@dataclasses.dataclass(frozen=True)
class Breathing:
    """How adults breathe at rest. Tobin et al., Chest 84:202, 1983: 16.6 (SD 2.8) per minute, recalled."""

    rate_hz: float = 0.277
    rate_sd_hz: float = 0.047
    period_variation: float = 0.15  # of a breath's length about its mean, SD over mean; design, near Tobin's
    wobble_hz: tuple[float, float] = (0.04, 0.09)  # design: slower than the breath, once or so in ten seconds

    def __post_init__(self) -> None:
        if not 0.05 <= self.rate_hz <= 2.0 or not 0.0 <= 3.0 * self.rate_sd_hz < self.rate_hz:
            raise ValueError(
                f"rate_hz is {self.rate_hz} with an SD of {self.rate_sd_hz}: give 0.05 to 2 Hz, and an SD below a third"
            )
        low, high = self.wobble_hz
        if not 0.0 <= self.period_variation <= 0.3 or not 0.0 < low <= high <= 0.5:
            raise ValueError(
                f"period_variation is {self.period_variation} (0 to 0.3), wobble_hz is {low} to {high} (above 0, up to "
                f"0.5)"
            )


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Breath:
    """One record's breath: sin(2π (rate t + phase + wobble sin(2π (wobble_hz t + wobble_phase)))), phases in cycles.

    Positive when breathing in.
    """

    rate_hz: jax.Array
    phase: jax.Array
    wobble: jax.Array
    wobble_hz: jax.Array
    wobble_phase: jax.Array

    def at(self, time_s: jax.Array) -> jax.Array:
        """The breath at times of any shape, -1 to 1."""
        wobble = self.wobble * sine(self.wobble_hz * time_s + self.wobble_phase)
        return sine(self.rate_hz * time_s + self.phase + wobble)


def sample_breath(row: jax.Array, breathing: Breathing) -> Breath:
    """One record's breath from a row of uniform draws.

    The wobble makes the rate vary as rate (1 + √2 variation cos(...)).
    """
    rate, phase, slow, slow_phase = cut(row, (BREATH_DRAWS,))[0]
    rate_hz = breathing.rate_hz + breathing.rate_sd_hz * truncated_normal(rate)
    low, high = breathing.wobble_hz
    wobble_hz = low + (high - low) * slow
    wobble = math.sqrt(2.0) * breathing.period_variation * rate_hz / (_TURN * wobble_hz)
    return Breath(rate_hz, phase, wobble, wobble_hz, slow_phase)


declare("variability.breath", vars(), "BREATH_DRAWS _TURN", version=3)
