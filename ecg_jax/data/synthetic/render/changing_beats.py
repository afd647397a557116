"""Records of regional sources: the rows of a patient's beats, moved by trains, each beat changed in its own way.

A wave's rows are evaluated once for the beat in force at each sample, with the centres and widths of its kind and at
the width that this beat has: a P wave from its onset on, QRS from its onset on, and a little before, T from the end of
the T wave before. What turns a wave is a matrix of the potentials (`variability.turning`), what scales it a factor of
them: no vector and no kernel for every beat.
"""

from __future__ import annotations

import dataclasses
from typing import NamedTuple

import jax
import jax.numpy as jnp

from ecg_jax.data.synthetic.constants import declare
from ecg_jax.data.synthetic.physiology.atrial import atrial_phase, harmonics
from ecg_jax.data.synthetic.physiology.events import Events
from ecg_jax.data.synthetic.physiology.patient import Patient
from ecg_jax.data.synthetic.physiology.rhythm import ABSENT_S, T_PEAK_CLEARANCE_S, AtrialWaves, Beat
from ecg_jax.data.synthetic.physiology.sampling import LEAD_IN_S, Grid, around
from ecg_jax.data.synthetic.sources import Kinds, Rows
from ecg_jax.data.synthetic.sources.kinds import OTHER
from ecg_jax.data.synthetic.variability import Changes, turning

#: A T wave has faded so long after its peak, at a stretch of 1; it may run into the next QRS complex by so much, and
#: that complex' own ST segment has begun by no more than so long before its onset.
T_FADED_S, T_INTO_QRS_S, ST_BEFORE_QRS_S = 0.12, 0.03, 0.04
#: Kernels narrower than this are pacing spikes; they are averaged over a Gaussian of so many samples.
NARROWEST_WAVE_S, SPIKE_SMOOTHING_SAMPLES = 0.6e-3, 0.4


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class BeatTrain:
    """Events `(K,)` of one record, in seconds from its start; those beyond it lie at `ABSENT_S`."""

    p_onset_s: jax.Array
    p_gain: jax.Array  # 0 for no P wave
    p_is_other: jax.Array  # bool: of the record's other kind
    qrs_onset_s: jax.Array
    is_other: jax.Array  # bool
    beat: jax.Array  # int32 `rhythm.Beat`
    t_peak_s: jax.Array
    t_stretch: jax.Array  # duration of this T wave relative to that at an RR interval of 1 s
    waves: AtrialWaves

    @property
    def present(self) -> jax.Array:
        """1 where there is a QRS complex, else 0."""
        return (self.beat != Beat.NONE).astype(jnp.float32)


def train_of(events: Events, changes: Changes, patient: Patient, seconds: int) -> BeatTrain:
    """The events with each beat's own PR and QT; a T wave peaks before the next QRS complex at the latest."""
    onset_s = events.qrs_onset_s
    peak_ms = (patient.qtcf_ms - patient.t_peak_to_end_ms) * events.t_stretch + changes.qt_ms
    following_s = jnp.append(onset_s[1:], ABSENT_S)
    peak_s = jnp.minimum(onset_s + 1e-3 * peak_ms, following_s - T_PEAK_CLEARANCE_S)
    varies = events.pr_varies & ~events.p_is_other & (events.p_gain > 0)
    p_onset_s = events.p_onset_s - 1e-3 * jnp.where(varies, changes.pr_ms, 0.0)
    # The first beat past the end may still send its P wave into the record; later ones cannot.
    present, p_present = onset_s < seconds + 1.0, p_onset_s < seconds + 1.0
    return BeatTrain(
        p_onset_s=jnp.where(p_present, p_onset_s, ABSENT_S),
        p_gain=jnp.where(p_present, events.p_gain, 0.0),
        p_is_other=events.p_is_other,
        qrs_onset_s=jnp.where(present, onset_s, ABSENT_S),
        is_other=events.is_other,
        beat=jnp.where(present, events.beat, Beat.NONE).astype(jnp.int32),
        t_peak_s=jnp.where(present, peak_s, ABSENT_S),
        t_stretch=events.t_stretch,
        waves=events.waves,
    )


def fiducials_s(kinds: Kinds, train: BeatTrain, changes: Changes) -> jax.Array:
    """Onset, peak and end of P, QRS and T of every beat, `(K, 3, 3)` in seconds; NaN where there is no such wave."""
    limits = kinds.beats.fiducials
    of_p, of_beat = (
        _kind(train.p_is_other, limits.p_s),
        _kind(train.is_other, jnp.stack([limits.qrs_s, limits.t_s], 1)),
    )
    p = train.p_onset_s[:, None] + of_p
    qrs = train.qrs_onset_s[:, None] + changes.width[:, None] * of_beat[:, 0]
    t = train.t_peak_s[:, None] + train.t_stretch[:, None] * of_beat[:, 1]
    exists = jnp.stack([train.p_gain, train.present, train.present], axis=1) > 0
    return jnp.where(exists[:, :, None], jnp.stack([p, qrs, t], axis=1), jnp.nan)


def _kind(is_other: jax.Array, of_kinds: jax.Array) -> jax.Array:
    """The entries of a table `(kinds, ...)` that belong to each event `(K,)`."""
    chosen = is_other.reshape(-1, *[1] * (of_kinds.ndim - 1))
    return jnp.where(chosen, of_kinds[-1], of_kinds[0])


class Wave(NamedTuple):
    """The kernels of one wave at every sample, of the beat in force, and what this beat makes of them."""

    kernels: jax.Array  # (R, samples)
    gain: jax.Array  # (samples,)
    turn: jax.Array  # (samples,) rad
    is_other: jax.Array  # (samples,) bool


def smoothed(kinds: Kinds, low_pass_s: jax.Array | float, sample_rate_hz: int) -> Kinds:
    """The kinds behind a Gaussian low-pass of that standard deviation: rows are wider and lower, of the same area.

    Exact without skew. Pacing spikes are shorter than a sample: they are also averaged over about one, so that none is
    lost in between.
    """

    def wave(rows: Rows) -> Rows:
        is_spike = rows.width_s < NARROWEST_WAVE_S
        of_sample_s = jnp.where(is_spike, SPIKE_SMOOTHING_SAMPLES / sample_rate_hz, 0.0)
        wider_s = jnp.sqrt(rows.width_s**2 + low_pass_s**2 + of_sample_s**2)
        lower_mv = rows.vector_mv * (rows.width_s / wider_s)[..., None]
        return dataclasses.replace(rows, width_s=wider_s, vector_mv=lower_mv)

    beats = kinds.beats
    return dataclasses.replace(
        kinds, beats=dataclasses.replace(beats, p=wave(beats.p), qrs=wave(beats.qrs), t=wave(beats.t))
    )


def banks_of(kinds: Kinds, train: BeatTrain, changes: Changes, grid: Grid) -> tuple[tuple[Wave, Wave, Wave], jax.Array]:
    """The kernels of P, QRS and T of one record, and its `atrial.harmonics`.

    A stage of its own: fused with the product that follows, XLA would compute every kernel many times.
    """
    time_s, c, beats = grid.time_s(), changes, kinds.beats
    event_s = train.p_onset_s - LEAD_IN_S
    (p_s, *p), _ = around(event_s, (train.p_gain * c.p_gain, c.p_turn, train.p_is_other.astype(jnp.float32)), grid)
    is_other, present = train.is_other.astype(jnp.float32), train.present
    columns: tuple[jax.Array, ...] = (present * c.qrs_gain, c.qrs_turn, is_other, c.width)
    (onset_s, *qrs, width), _ = around(train.qrs_onset_s - LEAD_IN_S, columns, grid)
    columns = (present * c.t_gain, c.t_turn, is_other, train.t_stretch, train.t_peak_s)
    (_, *t, stretch, peak_s), _ = around(_t_begins_s(train), columns, grid)
    # Where there is no event, factors of time are 0.
    waves = (
        (beats.p, p, time_s - p_s - LEAD_IN_S, True),
        (beats.qrs, qrs, (time_s - onset_s - LEAD_IN_S) / jnp.maximum(width, 0.5), True),
        (beats.t, t, (time_s - peak_s) / jnp.maximum(stretch, 0.1), False),
    )
    of_p, of_qrs, of_t = (
        Wave(_kernels(rows, other > 0, distance_s, is_plain), gain, turn, other > 0)
        for rows, (gain, turn, other), distance_s, is_plain in waves
    )
    atrial = train.waves.gain * harmonics(*atrial_phase(train.waves, time_s))
    return (of_p, of_qrs, of_t), atrial


def _t_begins_s(train: BeatTrain) -> jax.Array:
    """From when on the T wave of each beat is the one in force: near its QRS onset, when the one before has faded."""
    faded_s = train.t_peak_s + T_FADED_S * train.t_stretch
    before_s = jnp.concatenate([jnp.full(1, -ABSENT_S), faded_s[:-1]])
    return jnp.clip(before_s, train.qrs_onset_s - ST_BEFORE_QRS_S, train.qrs_onset_s + T_INTO_QRS_S)


def _kernels(rows: Rows, is_other: jax.Array, distance_s: jax.Array, is_plain: bool) -> jax.Array:
    """Rows of one kind or two `(kinds, R)` at distances `(samples,)` from the event in force, `(R, samples)`.

    `is_plain` says that no row is skewed or flat, which saves their arithmetic.
    """

    def chosen(of_kinds: jax.Array) -> jax.Array:
        usual = of_kinds[0][:, None]
        return usual if len(of_kinds) == 1 else jnp.where(is_other, of_kinds[OTHER][:, None], usual)

    after = distance_s - chosen(rows.centre_s)
    if is_plain:
        return jnp.exp(-0.5 * (after * chosen(1.0 / rows.width_s)) ** 2)
    rising, falling = 1.0 / (rows.width_s * (1.0 + rows.skew)), 1.0 / (rows.width_s * (1.0 - rows.skew))
    square = (after * jnp.where(after < 0, chosen(rising), chosen(falling))) ** 2
    return jnp.exp(-0.5 * jnp.where(rows.flat[0][:, None] > 0, square**2, square))


def leads_of(
    kinds: Kinds, changes: Changes, banks: tuple[tuple[Wave, Wave, Wave], jax.Array], to_leads: jax.Array
) -> jax.Array:
    """The leads of one record without noise, `(leads, samples)` in mV.

    `to_leads` `(leads, 9)` forms them from the potentials at the electrodes.
    """
    waves, atrial = banks
    rest = kinds.atrial_mv.T @ atrial
    turned: jax.Array | float = 0.0
    for rows, wave in zip((kinds.beats.p, kinds.beats.qrs, kinds.beats.t), waves):
        weights = (rows.field @ rows.vector_mv[..., None])[..., 0]  # kinds, R, 9
        of_kinds = jnp.swapaxes(weights, 1, 2).reshape(-1, weights.shape[1]) @ wave.kernels
        of_kinds = of_kinds.reshape(len(weights), weights.shape[2], -1)
        potentials = wave.gain * jnp.where(wave.is_other, of_kinds[-1], of_kinds[0])
        rest, turned = rest + potentials, turned + wave.turn * potentials
    both = jnp.concatenate([to_leads, to_leads @ turning(changes.axis)], axis=1)
    return both @ jnp.concatenate([rest, turned])


declare(
    "changing_beats",
    vars(),
    "T_FADED_S T_INTO_QRS_S ST_BEFORE_QRS_S NARROWEST_WAVE_S SPIKE_SMOOTHING_SAMPLES",
    version=3,
)
