"""Records of version 3: the rows of a patient's beat, moved by trains, each beat changed in its own way.

A wave's rows are evaluated once for the beat in force at each sample, at the width that this beat has: a P wave from
its onset on, QRS and what follows it from the QRS onset on, and a little before. What turns a wave is one more set of
weights (`variability.turning_weights`), what scales it a factor: no vector and no kernel for every beat.
"""

from __future__ import annotations

import dataclasses
from typing import NamedTuple

import jax
import jax.numpy as jnp

from ecg_jax.data.synthetic.physiology.patient import Patient
from ecg_jax.data.synthetic.physiology.rhythm import ABSENT_S, T_PEAK_CLEARANCE_S
from ecg_jax.data.synthetic.physiology.sampling import LEAD_IN_S, Grid, around
from ecg_jax.data.synthetic.sources import Beat, kernels_at
from ecg_jax.data.synthetic.variability import Changes, SinusBeats, turning_weights


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class BeatTrain:
    """Events of one record's K sinus beats, in seconds from its start; those beyond it lie at `ABSENT_S`."""

    p_onset_s: jax.Array  # (K,)
    qrs_onset_s: jax.Array
    t_peak_s: jax.Array
    t_stretch: jax.Array  # duration of this T wave relative to that at an RR interval of 1 s
    present: jax.Array  # 1, or 0 for an unused slot


def sinus_beats(rhythm: SinusBeats, changes: Changes, patient: Patient, seconds: int) -> BeatTrain:
    """The events of a sinus rhythm, with each beat's own PR and QT; QT is Fridericia's of the intervals remembered."""
    onset_s = rhythm.onset_s
    present = onset_s < seconds + 1.0
    stretch = jnp.cbrt(rhythm.remembered_rr_s)
    peak_ms = (patient.qtcf_ms - patient.t_peak_to_end_ms) * stretch + changes.qt_ms
    following_s = jnp.append(onset_s[1:], ABSENT_S)
    peak_s = jnp.minimum(onset_s + 1e-3 * peak_ms, following_s - T_PEAK_CLEARANCE_S)
    pr_s = 1e-3 * jnp.maximum(patient.pr_ms + changes.pr_ms, 0.0)
    return BeatTrain(
        p_onset_s=jnp.where(present, onset_s - pr_s, ABSENT_S),
        qrs_onset_s=jnp.where(present, onset_s, ABSENT_S),
        t_peak_s=jnp.where(present, peak_s, ABSENT_S),
        t_stretch=stretch,
        present=present.astype(jnp.float32),
    )


def fiducials_s(beat: Beat, train: BeatTrain, changes: Changes) -> jax.Array:
    """Onset, peak and end of P, QRS and T of every beat, `(K, 3, 3)` in seconds; NaN in unused slots."""
    of_beat = beat.fiducials
    waves = (
        train.p_onset_s[:, None] + of_beat.p_s,
        train.qrs_onset_s[:, None] + changes.width[:, None] * of_beat.qrs_s,
        train.t_peak_s[:, None] + train.t_stretch[:, None] * of_beat.t_s,
    )
    return jnp.where(train.present[:, None, None] > 0, jnp.stack(waves, axis=1), jnp.nan)


class Banks(NamedTuple):
    """The kernels of one record at every sample, by wave: P, QRS and T; and what turns each.

    A stage of its own: fused with the product that follows, XLA would compute every kernel many times.
    """

    kernels: tuple[jax.Array, ...]  # (R, samples) each, at the size of the beat in force
    turns: tuple[jax.Array, ...]  # (samples,) rad


def banks_of(beat: Beat, train: BeatTrain, changes: Changes, grid: Grid, low_pass_s: jax.Array | float = 0.0) -> Banks:
    """The kernels of one record behind a Gaussian low-pass of that standard deviation."""
    time_s, c = grid.time_s(), changes
    p, _ = around(train.p_onset_s - LEAD_IN_S, (train.present * c.p_gain, c.p_turn), grid)
    of_qrs, of_t = (train.present * c.qrs_gain, c.qrs_turn), (train.present * c.t_gain, c.t_turn)
    columns = (*of_qrs, c.width, *of_t, train.t_stretch, train.t_peak_s)
    (onset_s, gain, turn, width, t_gain, t_turn, stretch, t_peak_s), _ = around(
        train.qrs_onset_s - LEAD_IN_S, columns, grid
    )
    # Where there is no event, factors of time are 0.
    waves = (
        (beat.p, p[1], time_s - p[0] - LEAD_IN_S),
        (beat.qrs, gain, (time_s - onset_s - LEAD_IN_S) / jnp.maximum(width, 0.5)),
        (beat.t, t_gain, (time_s - t_peak_s) / jnp.maximum(stretch, 0.1)),
    )
    kernels = tuple(size * kernels_at(rows, distance_s, low_pass_s).T for rows, size, distance_s in waves)
    return Banks(kernels, (p[2], turn, t_turn))


def leads_of(beat: Beat, changes: Changes, banks: Banks, to_leads: jax.Array) -> jax.Array:
    """The leads of one record without noise, `(leads, samples)` in mV.

    `to_leads` `(leads, 9)` forms them from the potentials at the electrodes.
    """
    total = jnp.zeros(())
    for rows, kernels, turn in zip((beat.p, beat.qrs, beat.t), *banks):
        turning = turning_weights(rows.field, rows.vector_mv, changes.axis)
        rest, turned = jnp.split((jnp.concatenate([to_leads @ rows.weights_mv.T, to_leads @ turning.T]) @ kernels), 2)
        total = total + rest + turn * turned
    return total
