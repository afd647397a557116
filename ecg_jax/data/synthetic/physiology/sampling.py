"""Fifth stage: the samples. Event trains and kernels become leads I, II, V1–V6, without noise, at any rate.

A kernel is a Gaussian (the ST plateau has a flat top) at a fixed place from the event of its train. Each sample sees
the last P wave and QRS complex that have begun, and the T waves on either side of it; others are out of reach.
"""

from __future__ import annotations

import dataclasses
import math

import jax
import jax.numpy as jnp

from ecg_jax.data.synthetic.constants import declare
from ecg_jax.data.synthetic.physiology.atrial import atrial_phase, harmonics
from ecg_jax.data.synthetic.physiology.conditions import Conditions
from ecg_jax.data.synthetic.physiology.kernels import QRS, QRS_WIDE, T_WIDE, P, T, Waves
from ecg_jax.data.synthetic.physiology.leads import Weights
from ecg_jax.data.synthetic.physiology.patient import Patient
from ecg_jax.data.synthetic.physiology.rhythm import ABSENT_S, Trains
from ecg_jax.data.synthetic.randomness.sine import sine

#: A P wave and a QRS complex, and the pacing spikes before them, begin this long before their event.
LEAD_IN_S = 0.08


@dataclasses.dataclass(frozen=True)
class Grid:
    """The samples of a record: `seconds` at `sample_rate_hz`, and `guard_samples` more at either end."""

    sample_rate_hz: int
    seconds: int
    guard_samples: int = 0

    @property
    def samples(self) -> int:
        """Samples, those at the ends included."""
        return self.seconds * self.sample_rate_hz + 2 * self.guard_samples

    @property
    def bin_samples(self) -> int:
        """Samples that share their events: the most that divide the record into equal bins of at most 20 ms."""
        fits = [n for n in (20, 10, 5, 4, 2) if n <= 0.02 * self.sample_rate_hz and self.samples % n == 0]
        return max(fits, default=1)

    def time_s(self) -> jax.Array:
        """Times of the samples from the record's start, `(samples,)`."""
        return (jnp.arange(self.samples, dtype=jnp.float32) - self.guard_samples) / self.sample_rate_hz


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Heart:
    """Everything drawn of one record's heart, before any sample is computed (or of a batch: a leading axis).

    `weights_mv` has a row for every kernel of `narrow`, then of `wide`, then for each of the `atrial.harmonics`;
    without conditions there are neither `conditions` nor `wide`, and the narrow kernels alone have rows.
    """

    patient: Patient
    conditions: Conditions | None
    trains: Trains
    narrow: Waves
    wide: Waves | None
    weights_mv: Weights  # (kernels, 8)


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Timeline:
    """What is in force at each sample: events, time first, then what belongs to them; and phases.

    Events change in steps of `Grid.bin_samples`: a P wave or QRS complex is in force at least 60 ms before its event,
    and where the T waves on either side change, those further off have faded.
    """

    p: jax.Array  # (2, samples): the last P wave's onset and gain
    qrs: jax.Array  # (3, samples): the last QRS complex's onset, and whether it is narrow, wide
    t: tuple[jax.Array, jax.Array]  # (4, samples): the last and next T wave's peak, whether narrow, wide, stretch
    breath: jax.Array  # (samples,) -1 to 1
    atrial: jax.Array | None  # (2, samples): sine and cosine of the phase of fibrillation or flutter; with `wide` only


def around(events_s: jax.Array, columns: tuple[jax.Array, ...], grid: Grid) -> tuple[jax.Array, jax.Array]:
    """What belongs to the event last and to the one next at each sample: `(1 + columns, samples)` each, time first.

    Where there is none, its time is far off and its columns are 0. Positions come from a histogram of the events and
    its running sum, cheaper than comparing every bin with every event.
    """
    bins = grid.samples // grid.bin_samples
    at = jnp.ceil((events_s * grid.sample_rate_hz + grid.guard_samples) / grid.bin_samples).astype(jnp.int32)
    marks = jnp.zeros(bins + 1, jnp.int32).at[jnp.clip(at, 0, bins)].add(1)
    position = jnp.cumsum(marks[:-1])
    rows = jnp.pad(jnp.stack([events_s, *columns], axis=-1), ((1, 1), (0, 0)))
    rows = rows.at[0, 0].set(-ABSENT_S).at[-1, 0].set(ABSENT_S)
    last, following = (jnp.repeat(rows[at].T, grid.bin_samples, axis=1) for at in (position, position + 1))
    return last, following


def timeline(heart: Heart, grid: Grid) -> Timeline:
    """The timeline of one record."""
    trains, time_s = heart.trains, grid.time_s()
    turn = 1.0 / (2.0 * math.pi)
    return Timeline(
        p=around(trains.p_onset_s - LEAD_IN_S, (trains.p_gain,), grid)[0],
        qrs=around(trains.qrs_onset_s - LEAD_IN_S, (trains.narrow, trains.wide), grid)[0],
        t=around(trains.t_peak_s, (trains.narrow, trains.wide, trains.t_stretch), grid),
        breath=sine(heart.patient.respiration_hz * time_s + trains.breath_phase * turn),
        atrial=None if heart.wide is None else atrial_phase(trains.fibrillation, time_s),
    )


def _kernels(distance_s: jax.Array, centre_s: jax.Array, width_s: jax.Array, flat_first: bool = False) -> jax.Array:
    """Kernels at distances `(samples,)` from their event, `(kernels, samples)`; `flat_first`: the first is flat on top.

    Centres and widths are `(kernels, 1)`, or `(kernels, samples)` where the event decides.
    """
    square = ((distance_s - centre_s) / width_s) ** 2
    if flat_first:
        square = jnp.where(jnp.arange(len(square))[:, None] == 0, square**2, square)
    return jnp.exp(-0.5 * square)


def _both(
    distance_s: jax.Array,
    gains: tuple[jax.Array, jax.Array],
    banks: tuple[tuple[Waves, slice], tuple[Waves, slice] | None],
    flat_first: bool = False,
) -> list[jax.Array]:
    """The narrow bank and, where there is one, the wide bank, times their gains.

    An event is either narrow or wide, so one evaluation with the parameters of its kind serves both.
    """
    waves, kernels = banks[0]
    centre_s, width_s = waves.centre_s[kernels, None], waves.width_s[kernels, None]
    if banks[1] is None:
        return [gains[0] * _kernels(distance_s, centre_s, width_s, flat_first)]
    wide, of_wide = banks[1]
    spare = ((0, len(centre_s) - len(wide.centre_s[of_wide])), (0, 0))
    is_wide = gains[1] > 0
    centre_s = jnp.where(is_wide, jnp.pad(wide.centre_s[of_wide, None], spare), centre_s)
    width_s = jnp.where(is_wide, jnp.pad(wide.width_s[of_wide, None], spare, constant_values=1.0), width_s)
    bank = _kernels(distance_s, centre_s, width_s, flat_first)
    return [gains[0] * bank, gains[1] * bank[: of_wide.stop - of_wide.start]]


def kernel_bank(heart: Heart, line: Timeline, grid: Grid) -> jax.Array:
    """Every kernel at every sample, in the order of `Heart.weights_mv`: `(kernels, samples)`."""
    narrow, wide, time_s = heart.narrow, heart.wide, grid.time_s()
    onset_s, gain = line.p
    p = gain * _kernels(time_s - onset_s - LEAD_IN_S, narrow.centre_s[P, None], narrow.width_s[P, None])
    onset_s, *gains = line.qrs
    banks = ((narrow, QRS), None if wide is None else (wide, QRS_WIDE))
    qrs = _both(time_s - onset_s - LEAD_IN_S, tuple(gains), banks)
    events, banks = [], ((narrow, T), None if wide is None else (wide, T_WIDE))
    for peak_s, *gains, stretch in line.t:
        distance_s = (time_s - peak_s) / jnp.maximum(stretch, 0.1)  # 0 where there is no event
        events.append(_both(distance_s, tuple(gains), banks, flat_first=True))
    t = [last + following for last, following in zip(*events)]
    if line.atrial is None:
        return jnp.concatenate([p, qrs[0], t[0]])
    atrial = heart.trains.fibrillation.gain * harmonics(*line.atrial)
    return jnp.concatenate([p, qrs[0], t[0], qrs[1], t[1], atrial])


def project(bank: jax.Array, heart: Heart, line: Timeline, breathing: bool) -> jax.Array:
    """Leads I, II, V1–V6 in mV from the kernels' samples, `(8, samples)`; with `breathing` the heart moves."""
    weights = heart.weights_mv
    if not breathing:
        return weights.rest.T @ bank
    # One product for both: two would make XLA compute the bank twice.
    rest_mv, moved_mv = jnp.split(jnp.concatenate([weights.rest, weights.breath], axis=1).T @ bank, 2)
    return rest_mv + line.breath * moved_mv


declare("sampling", vars(), "LEAD_IN_S")
