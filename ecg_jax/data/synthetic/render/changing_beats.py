"""Records of version 3: the rows of a patient's beat, moved by trains, each beat changed in its own way.

A wave's rows are evaluated once for the event in force at each sample, as in version 2, at the width that this beat
has. What turns it is two more sets of weights (`variability.turning_weights`), what scales it a factor: no vector and
no kernel for every beat.
"""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp

from ecg_jax.data.synthetic.physiology.patient import Patient
from ecg_jax.data.synthetic.physiology.rhythm import ABSENT_S, T_PEAK_CLEARANCE_S
from ecg_jax.data.synthetic.render.sampling import LEAD_IN_S, Grid, around
from ecg_jax.data.synthetic.sources import Beat, Rows, kernels_at
from ecg_jax.data.synthetic.variability import Changes, Rhythm, turning_weights


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class BeatTrain:
    """Events of one record's K sinus beats, in seconds from its start; those beyond it lie at `ABSENT_S`."""

    p_onset_s: jax.Array  # (K,)
    qrs_onset_s: jax.Array
    t_peak_s: jax.Array
    t_stretch: jax.Array  # duration of this T wave relative to that at an RR interval of 1 s
    present: jax.Array  # 1, or 0 for an unused slot


def sinus_beats(rhythm: Rhythm, changes: Changes, patient: Patient, seconds: int) -> BeatTrain:
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


def leads_of(
    beat: Beat, train: BeatTrain, changes: Changes, grid: Grid, to_leads: jax.Array, low_pass_s: jax.Array | float = 0.0
) -> jax.Array:
    """The leads of one record without noise, `(leads, grid.samples)` in mV.

    `to_leads` `(leads, 9)` forms them from the potentials at the electrodes; `low_pass_s` is the standard deviation of
    the recorder's Gaussian low-pass.
    """
    time_s, c = grid.time_s(), changes
    no_turn = jnp.zeros_like(c.stroke)
    p = around(train.p_onset_s - LEAD_IN_S, (train.present * c.p_gain, c.breath, no_turn), grid)[0]
    qrs = around(train.qrs_onset_s - LEAD_IN_S, (train.present * c.qrs_gain, c.breath, c.stroke, c.width), grid)[0]
    columns = (train.present * c.t_gain, c.breath, c.repolarisation, train.t_stretch)
    t = around(train.t_peak_s, columns, grid)

    def wave(rows: Rows, turns: tuple[jax.Array, jax.Array], distance_s: jax.Array, line: jax.Array) -> jax.Array:
        bank_TxR = line[1][:, None] * kernels_at(rows, distance_s, low_pass_s)
        weights = [rows.weights_mv, *(turning_weights(rows.field, rows.vector_mv, turn) for turn in turns)]
        rest, breath, own = jnp.split(bank_TxR @ jnp.concatenate([w @ to_leads.T for w in weights], axis=1), 3, axis=1)
        return rest + line[2][:, None] * breath + line[3][:, None] * own

    scale = jnp.maximum(qrs[4], 0.5)  # 0 where there is no event
    total = wave(beat.p, (c.p_breath_turn, jnp.zeros(3)), time_s - p[0] - LEAD_IN_S, p)
    total += wave(beat.qrs, (c.breath_turn, c.stroke_turn), (time_s - qrs[0] - LEAD_IN_S) / scale, qrs)
    for line in t:
        total += wave(beat.t, (c.breath_turn, c.t_turn), (time_s - line[0]) / jnp.maximum(line[4], 0.1), line)
    return total.T
