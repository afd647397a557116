"""Premature beats among those of the sinus node, atrial or ventricular: single, in couplets and runs, or regularly."""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp

from ecg_jax.data.synthetic.constants import declare
from ecg_jax.data.synthetic.physiology.patient import Patient
from ecg_jax.data.synthetic.physiology.rhythm import Beat, SinusBeats
from ecg_jax.data.synthetic.physiology.rhythm_table import Range, between, count

#: What a rhythm's label promises lies this far inside the record.
EDGE_S = 0.7
# Premature beats. Petrėnas et al. 2017 have prematurities of 0.55–0.95 (atrial) and 0.55–0.90 (ventricular): cut at
# 0.85, so that a beat called premature measures so. Shares are design.
PREMATURITY: Range = (0.55, 0.85)
ATRIAL_RUN_RATIO: Range = (1.1, 2.0)  # of the heart rate; Petrėnas et al. 2017, as the next two lines
ATRIAL_RUN_BPM: Range = (100.0, 200.0)
DELAYED_RESET: Range = (1.1, 1.35)
DELAYED_RESET_PROBABILITY = 0.5
VENTRICULAR_RUN_BPM: Range = (110.0, 180.0)  # design, as all below
VENTRICULAR_RUN_MIN_RATIO = 1.15  # of the heart rate
COMPENSATORY_PROBABILITY = 0.8
R_AFTER_T_PEAK_S = 0.06
ECTOPIC_P_GAIN: Range = (0.6, 0.9)
SINUS_BEATS_BETWEEN: tuple[int, int] = (3, 6)


@dataclasses.dataclass(frozen=True)
class Ectopy:
    """Premature beats among those of the sinus node."""

    interval_s: jax.Array  # (beats,) before each beat
    is_ectopic: jax.Array  # (beats,)
    anchor: jax.Array  # the sinus beat before the first burst, whose time stays as it was


def premature_beats(
    course: dict[str, jax.Array],
    draw: dict[str, jax.Array],
    early: jax.Array,
    node: SinusBeats,
    patient: Patient,
    seconds: int,
) -> Ectopy:
    """Puts bursts of premature beats among those of the sinus node, the first of them where it shows in full."""
    mean_rr_s = patient.mean_rr_s
    slot = jnp.arange(node.rr_s.shape[0])
    is_ventricular = course["ectopic"] == Beat.VENTRICULAR
    length = count(course["burst_beats"], draw["burst_beats"])
    atrial_bpm = jnp.clip(between(ATRIAL_RUN_RATIO, draw["run_rate"]) * patient.heart_rate_bpm, *ATRIAL_RUN_BPM)
    ventricular_bpm = jnp.maximum(
        between(VENTRICULAR_RUN_BPM, draw["run_rate"]), VENTRICULAR_RUN_MIN_RATIO * patient.heart_rate_bpm
    )
    within_s = 60.0 / jnp.where(is_ventricular, ventricular_bpm, atrial_bpm)

    # Where the first burst may start, so that it ends inside the record; where it repeats, within one period.
    period = course["period"]
    shown_s = 1.1 * (period * course["periods_shown"]) * mean_rr_s  # a period of delayed resets is that much longer
    longest_s = PREMATURITY[1] * mean_rr_s + (length - 1.0) * within_s + shown_s
    first = (node.onset_s < 0.5).sum()
    last = (node.onset_s < seconds - EDGE_S - longest_s).sum() - 1
    last = jnp.where(period > 0, jnp.minimum(last, first + period - 1), last)
    anchor = count((first, jnp.maximum(first, last)), draw["place"]).astype(jnp.int32)
    start = anchor + 1
    every = jnp.where(period > 0, period, 2 * slot.shape[0])
    is_ectopic = (slot - start) % every < length
    is_ectopic &= slot > 0
    bursts = count(course["bursts"], draw["bursts"])
    for number, name in enumerate(("gap_1", "gap_2"), 1):
        start = start + (length + count(SINUS_BEATS_BETWEEN, draw[name])).astype(jnp.int32)
        is_ectopic |= (slot >= start) & (slot < start + length) & (number < bursts)

    # Ventricular beats of one focus have one coupling interval; that of atrial ones varies.
    qt_peak_s = 1e-3 * (patient.qtcf_ms - patient.t_peak_to_end_ms) * jnp.cbrt(mean_rr_s)
    earliest_s = qt_peak_s + jnp.where(is_ventricular, R_AFTER_T_PEAK_S, 1e-3 * patient.pr_ms)
    before_s = _delayed(node.rr_s)
    prematurity = between(PREMATURITY, jnp.where(is_ventricular, draw["prematurity"], early))
    basic_s = jnp.minimum(jnp.minimum(before_s, _delayed(before_s)), mean_rr_s)
    coupling_s = jnp.minimum(jnp.maximum(prematurity * mean_rr_s, earliest_s), PREMATURITY[1] * basic_s)

    # A compensatory pause ends on a beat that the sinus node would have made anyhow, else the node starts anew.
    burst_s = between(PREMATURITY, draw["prematurity"]) * mean_rr_s
    burst_s = jnp.minimum(jnp.maximum(burst_s, earliest_s), PREMATURITY[1] * mean_rr_s) + (length - 1.0) * within_s
    compensatory_s = jnp.ceil(burst_s / mean_rr_s + 0.8) * mean_rr_s - burst_s
    is_compensatory = is_ventricular & (draw["pause"] < COMPENSATORY_PROBABILITY)
    is_delayed = ~is_ventricular & (draw["pause"] < DELAYED_RESET_PROBABILITY)
    reset = jnp.where(is_delayed, between(DELAYED_RESET, draw["pause_length"]), 1.0)
    pause_s = jnp.where(is_compensatory, compensatory_s, reset * before_s)

    after_ectopic = _delayed(is_ectopic)
    interval_s = jnp.where(
        is_ectopic,
        jnp.where(after_ectopic, within_s, coupling_s),
        jnp.where(after_ectopic, pause_s, before_s),
    )
    return Ectopy(interval_s, is_ectopic, anchor)


def _delayed(train: jax.Array) -> jax.Array:
    """The value of the slot before; the first keeps its own."""
    return jnp.concatenate([train[:1], train[:-1]])


declare(
    "ectopy",
    vars(),
    "EDGE_S PREMATURITY ATRIAL_RUN_RATIO ATRIAL_RUN_BPM DELAYED_RESET DELAYED_RESET_PROBABILITY VENTRICULAR_RUN_BPM "
    "VENTRICULAR_RUN_MIN_RATIO COMPENSATORY_PROBABILITY R_AFTER_T_PEAK_S ECTOPIC_P_GAIN SINUS_BEATS_BETWEEN",
)
