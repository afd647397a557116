"""Second stage, continued: every rhythm of `conditions.Rhythm`, as event trains.

A rhythm is data: its `Course` says what sets the time of its beats and what they are. All ways to time beats are
computed and the record's own is selected, since under `vmap` a branch would compute all of them too.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np

from ecg_jax.data.synthetic.constants import declare
from ecg_jax.data.synthetic.physiology.conditions import Rhythm
from ecg_jax.data.synthetic.physiology.ectopy import ECTOPIC_P_GAIN, premature_beats
from ecg_jax.data.synthetic.physiology.patient import Patient
from ecg_jax.data.synthetic.physiology.rhythm import (
    LF_COMPONENTS,
    WIDE_QRS_MS,
    AtrialWaves,
    Beat,
    SinusBeats,
    Trains,
    assemble,
    beat_slots,
    rr_process,
)
from ecg_jax.data.synthetic.physiology.rhythm_table import Pacemaker, Range, between, choose, count, course_of
from ecg_jax.data.synthetic.randomness.draws import cut

#: The fastest mean ventricular rate of all courses: flutter at 340 per minute, conducted 2:1.
FASTEST_BPM = 170.0
#: Beats before the record's start, at least, where one may be blocked or premature ones bring the others nearer.
LEAD_IN_BEATS = 3

# Atrial fibrillation: Corino et al., IEEE Trans Biomed Eng 58:3386, 2011, as in Petrėnas et al., Physiol Meas 38:2058,
# 2017: refractory time of the AV node 0.25 s + 0.15 RR (+ 0.2 s on the slow pathway), and blocking falls over 0.1 s.
AF_REFRACTORY_S = 0.25
AF_MEMORY = 0.15
AF_SLOW_DELAY_S = 0.2
AF_SLOW_PROBABILITY = 0.4
AF_BLOCKING_PER_S = 10.0
AF_RATE_HZ: Range = (4.0, 8.0)  # design: of the f waves and of the impulses that reach the node
AF_WOBBLE_HZ, AF_WOBBLE_RAD = 0.2, 0.25 / 0.2  # Petrėnas et al. 2017
FLUTTER_PER_MIN: Range = (240.0, 340.0)
#: Design: 2:1 is typical, odd ratios are rare; in variable block any beat may follow any.
FIXED_BLOCK_WEIGHTS = {2: 0.6, 3: 0.1, 4: 0.3}
VARIABLE_BLOCK_WEIGHTS = {2: 0.4, 3: 0.25, 4: 0.3, 5: 0.05}
# Conduction.
WENCKEBACH_INCREMENT_MS: Range = (50.0, 110.0)
WENCKEBACH_DECAY = 0.5
VENTRICULAR_ESCAPE_BPM: Range = (30.0, 45.0)
JUNCTIONAL_ESCAPE_BPM: Range = (40.0, 55.0)
JUNCTIONAL_ESCAPE_PROBABILITY = 0.4
RETROGRADE_WEIGHTS = {0: 0.4, 1: 0.35, 2: 0.25}  # no P wave, one after, one before the QRS complex
RETROGRADE_P_GAIN: Range = (0.5, 0.9)
RP_MS: Range = (80.0, 140.0)
RETROGRADE_PR_MS: Range = (60.0, 110.0)
PACED_PR_MS: Range = (150.0, 250.0)
PACED_OVER_FIBRILLATION_PROBABILITY = 0.5
#: Sinus arrhythmia varies with the breath: its LF/HF is at most this.
#: Restitution: a beat's QT is at most this fraction of the interval before it, so that T waves end in a fast rhythm.
MAX_QT_OF_RR = 0.9

_DRAWS = (
    "burst_beats",
    "bursts",
    "gap_1",
    "gap_2",
    "place",
    "prematurity",
    "run_rate",
    "pause",
    "pause_length",
    "ectopic_p",
    "atrial_rate",
    "atrial_phase",
    "wobble_phase",
    "block",
    "start",
    "cycle",
    "cycle_phase",
    "increment",
    "escape_focus",
    "escape_rate",
    "retrograde",
    "retrograde_p",
    "p_delay",
)
_SINUS_DRAWS = 2 + 2 * LF_COMPONENTS


def af_rr_intervals(exponential: jax.Array, slow: jax.Array, rate_hz: jax.Array, first_rr_s: jax.Array) -> jax.Array:
    """RR intervals `(beats,)` of atrial fibrillation in s, after one of `first_rr_s`.

    Impulses reach the AV node as a Poisson process of `rate_hz`; after its refractory time it blocks one with the
    probability 1 - 10 t (Corino et al. 2011). The wait so inverts to a function of unit `exponential` draws; `slow` is
    1 for beats on the slow pathway. Each refractory time holds 0.15 of the RR before it: a linear recursion.
    """
    slope = AF_BLOCKING_PER_S
    unblocked = rate_hz / (2.0 * slope)
    ramp_s = jnp.sqrt(2.0 * jnp.minimum(exponential, unblocked) / (slope * rate_hz))
    wait_s = ramp_s + jnp.maximum(exponential - unblocked, 0.0) / rate_hz
    drive_s = AF_REFRACTORY_S + AF_SLOW_DELAY_S * slow + wait_s
    beats = exponential.shape[0]
    lag = np.arange(beats)[:, None] - np.arange(beats)
    recursion = np.where(lag >= 0, AF_MEMORY ** np.maximum(lag, 0.0), 0.0).astype(np.float32)
    decay = (AF_MEMORY ** np.arange(1, beats + 1)).astype(np.float32)
    return jnp.matmul(jnp.asarray(recursion), drive_s, precision=jax.lax.Precision.HIGHEST) + decay * first_rr_s


def conduction(
    rhythm: jax.Array, course: dict[str, jax.Array], draw: dict[str, jax.Array], beats: int
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Second-degree block: by how much each PR is longer than the patient's, in s, and which beats are blocked (both
    `(beats,)`), and the share of beats that are conducted. Without block: 0, none, and 1.
    """
    cycle = count(course["cycle"], draw["cycle"])
    place = (jnp.arange(beats) + jnp.floor(cycle * draw["cycle_phase"])) % cycle
    # Increments shrink from beat to beat, so that the RR intervals shorten (Wenckebach).
    increment_s = 1e-3 * between(WENCKEBACH_INCREMENT_MS, draw["increment"])
    grown = (1.0 - jnp.exp2(place * math.log2(WENCKEBACH_DECAY))) / (1.0 - WENCKEBACH_DECAY)
    later_s = jnp.where(rhythm == Rhythm.AV_BLOCK_2_MOBITZ_1, increment_s * grown, 0.0)
    has_block = cycle > 1.0
    return later_s, has_block & (place == cycle - 1.0), jnp.where(has_block, 1.0 - 1.0 / cycle, 1.0)


def _flutter_block(rhythm: jax.Array, draw: dict[str, jax.Array], early: jax.Array) -> jax.Array:
    """How many flutter waves each beat takes, `(beats,)`."""
    variable = choose(VARIABLE_BLOCK_WEIGHTS, early)
    fixed = choose(FIXED_BLOCK_WEIGHTS, draw["block"])
    return jnp.where(rhythm == Rhythm.ATRIAL_FLUTTER_VARIABLE, variable, fixed)


def is_junctional_escape(draw: dict[str, jax.Array]) -> jax.Array:
    """Whether the focus below a complete block lies in the junction."""
    return draw["escape_focus"] < JUNCTIONAL_ESCAPE_PROBABILITY


def p_waves(
    rhythm: jax.Array,
    course: dict[str, jax.Array],
    draw: dict[str, jax.Array],
    patient: Patient,
    is_ectopic: jax.Array,
    is_ventricular: jax.Array,
) -> tuple[jax.Array, jax.Array]:
    """By how much each P wave precedes its own QRS complex, in s (negative: it follows), and its gain; `(beats,)`."""
    retrograde = choose(RETROGRADE_WEIGHTS, draw["retrograde"])
    after_ms, before_ms = between(RP_MS, draw["p_delay"]), between(RETROGRADE_PR_MS, draw["p_delay"])
    # A paced P wave begins after the T wave, as in all patients.
    longest_ms = jnp.maximum(0.95e3 * patient.mean_rr_s - patient.qt_ms, PACED_PR_MS[0])
    paced_ms = jnp.minimum(between(PACED_PR_MS, draw["p_delay"]), longest_ms)
    is_junctional = rhythm == Rhythm.JUNCTIONAL
    delay_ms = jnp.where(is_junctional, jnp.where(retrograde == 1.0, -after_ms, before_ms), patient.pr_ms)
    delay_ms = jnp.where(rhythm == Rhythm.PACED_ATRIAL, paced_ms, delay_ms)

    size = jnp.where(retrograde > 0.0, between(RETROGRADE_P_GAIN, draw["retrograde_p"]), 0.0)
    gain = course["p_gain"] * jnp.where(is_junctional, size, 1.0)
    gain = jnp.where(is_ectopic, between(ECTOPIC_P_GAIN, draw["ectopic_p"]), gain)
    return jnp.where(is_ventricular, 0.0, 1e-3 * delay_ms), jnp.where(is_ventricular, 0.0, gain)


@dataclasses.dataclass(frozen=True)
class Timing:
    """When the QRS complexes of one record begin, where they follow from intervals."""

    qrs_onset_s: jax.Array  # (beats,)
    is_ectopic: jax.Array  # (beats,)
    own_rr_s: jax.Array  # mean RR interval
    atrial_rate_hz: jax.Array  # of fibrillation or flutter


def timing(
    rhythm: jax.Array,
    course: dict[str, jax.Array],
    draw: dict[str, jax.Array],
    per_beat: Sequence[jax.Array],
    node: SinusBeats,
    patient: Patient,
    seconds: int,
) -> Timing:
    """Beats of all pacemakers but the sinus node, and those of the node with premature beats among them."""
    pacemaker = course["pacemaker"]
    is_flutter, is_ectopic_course = pacemaker == Pacemaker.FLUTTER, pacemaker == Pacemaker.ECTOPIC
    early, slow = per_beat
    fibrillation_hz = between(AF_RATE_HZ, draw["atrial_rate"])
    flutter_hz = between(FLUTTER_PER_MIN, draw["atrial_rate"]) / 60.0
    is_slow = slow < AF_SLOW_PROBABILITY
    usual_drive_s = AF_REFRACTORY_S + AF_SLOW_DELAY_S * AF_SLOW_PROBABILITY + 1.0 / fibrillation_hz + 0.05
    fibrillating_s = af_rr_intervals(-jnp.log1p(-early), is_slow, fibrillation_hz, usual_drive_s / (1.0 - AF_MEMORY))
    flutter_s = _flutter_block(rhythm, draw, early) / flutter_hz
    junctional_bpm = between(JUNCTIONAL_ESCAPE_BPM, draw["escape_rate"])
    ventricular_bpm = between(VENTRICULAR_ESCAPE_BPM, draw["escape_rate"])
    escape_s = 60.0 / jnp.where(is_junctional_escape(draw), junctional_bpm, ventricular_bpm)

    ectopy = premature_beats(course, draw, early, node, patient, seconds)
    interval_s = jnp.where(is_ectopic_course, ectopy.interval_s, escape_s)
    interval_s = jnp.where(is_flutter, flutter_s, interval_s)
    interval_s = jnp.where(pacemaker == Pacemaker.FIBRILLATION, fibrillating_s, interval_s)
    since_first_s = jnp.cumsum(interval_s) - interval_s[0]
    own_rr_s = since_first_s[-1] / (len(interval_s) - 1)
    first_s = jnp.where(
        is_ectopic_course,
        node.onset_s[ectopy.anchor] - since_first_s[ectopy.anchor],
        -(LEAD_IN_BEATS + draw["start"]) * own_rr_s,
    )
    return Timing(
        first_s + since_first_s,
        ectopy.is_ectopic & is_ectopic_course,
        own_rr_s,
        jnp.where(is_flutter, flutter_hz, fibrillation_hz),
    )


def atrial_waves(
    rhythm: jax.Array, pacemaker: jax.Array, draw: dict[str, jax.Array], rate_hz: jax.Array, qrs_onset_s: jax.Array
) -> AtrialWaves:
    """Waves of fibrillation, also under some ventricular pacing, or of flutter, each QRS at the same phase of these."""
    is_flutter = pacemaker == Pacemaker.FLUTTER
    under_pacing = (rhythm == Rhythm.PACED_VENTRICULAR) & (draw["block"] < PACED_OVER_FIBRILLATION_PROBABILITY)
    phase = 2.0 * math.pi * draw["atrial_phase"]
    locked = jnp.mod(phase - 2.0 * math.pi * rate_hz * qrs_onset_s, 2.0 * math.pi)
    return AtrialWaves(
        rate_hz=rate_hz,
        gain=(is_flutter | (pacemaker == Pacemaker.FIBRILLATION) | under_pacing).astype(jnp.float32),
        is_flutter=is_flutter.astype(jnp.float32),
        phase=jnp.where(is_flutter, locked, phase),
        wobble_hz=jnp.full_like(rate_hz, AF_WOBBLE_HZ),
        wobble_rad=jnp.where(is_flutter, 0.0, AF_WOBBLE_RAD),
        wobble_phase=2.0 * math.pi * draw["wobble_phase"],
    )


def sample_trains(
    rhythm_row: jax.Array,
    beats_row: jax.Array,
    patient: Patient,
    rhythm: jax.Array,
    beats: int,
    seconds: int,
) -> Trains:
    """The event trains of one record, with `beats` slots, from two rows of uniform draws.

    `rhythm` is a `conditions.Rhythm` as int32, and `patient` has its latents (`conditions.afflicted`). Sinus rhythm is
    that of `sinus_trains`. Raises ValueError when `beats` slots cannot hold the fastest rhythm.
    """
    needed = beat_slots(FASTEST_BPM, seconds)
    if beats < needed:
        raise ValueError(
            f"{beats} beat slots for {seconds} s of any rhythm: {FASTEST_BPM:.0f} per minute need {needed}"
        )
    _, scalars = cut(rhythm_row, (_SINUS_DRAWS,), (len(_DRAWS),))
    draw = dict(zip(_DRAWS, scalars))
    course = course_of(rhythm)
    pacemaker = course["pacemaker"]
    is_node, is_blocked_node = pacemaker == Pacemaker.NODE, pacemaker == Pacemaker.BLOCKED_NODE
    is_ectopic_course, is_escape = pacemaker == Pacemaker.ECTOPIC, pacemaker == Pacemaker.ESCAPE

    node = rr_process(rhythm_row, patient, beats)
    lead_in_s = jnp.where(is_node, 0.0, (LEAD_IN_BEATS - 1.0) * patient.mean_rr_s)
    node = dataclasses.replace(node, onset_s=node.onset_s - lead_in_s)
    timed = timing(rhythm, course, draw, cut(beats_row, (beats,), (beats,)), node, patient, seconds)
    later_s, blocked, conducted = conduction(rhythm, course, draw, beats)
    by_node = is_node | is_blocked_node
    qrs_onset_s = jnp.where(by_node, node.onset_s + later_s, timed.qrs_onset_s)

    is_ventricular = timed.is_ectopic & (course["ectopic"] == Beat.VENTRICULAR)
    is_narrow_escape = is_escape & is_junctional_escape(draw)
    beat = jnp.where(is_narrow_escape, Beat.JUNCTIONAL, course["beat"])
    beat = jnp.where(timed.is_ectopic, course["ectopic"], jnp.where(blocked, Beat.NONE, beat))
    wide = (is_ventricular | (course["wide"] & ~is_narrow_escape)).astype(jnp.float32)
    p_before_s, p_gain = p_waves(rhythm, course, draw, patient, timed.is_ectopic, is_ventricular)
    node_p_s = node.onset_s - 1e-3 * patient.pr_ms

    # QT remembers the RR intervals of the sinus node, or else the mean of the record's own.
    own_rr_s = jnp.where(is_blocked_node, patient.mean_rr_s / conducted, timed.own_rr_s)
    remembered_rr_s = jnp.where(is_node | is_ectopic_course, node.remembered_rr_s, own_rr_s)
    qt_s = 1e-3 * (patient.qtcf_ms + wide * (WIDE_QRS_MS - patient.qrs_ms))
    preceding_s = jnp.concatenate([timed.own_rr_s[None], jnp.diff(qrs_onset_s)])
    limit = jnp.where(by_node, jnp.inf, MAX_QT_OF_RR * preceding_s / qt_s)
    return assemble(
        patient,
        p_onset_s=jnp.where(is_blocked_node | is_escape, node_p_s, qrs_onset_s - p_before_s),
        p_gain=p_gain,
        qrs_onset_s=qrs_onset_s,
        wide=wide,
        beat=beat,
        stretch=jnp.minimum(jnp.cbrt(remembered_rr_s), limit),
        fibrillation=atrial_waves(rhythm, pacemaker, draw, timed.atrial_rate_hz, qrs_onset_s[0]),
        breath_phase=node.breath_phase,
        seconds=seconds,
    )


declare(
    "arrhythmia",
    vars(),
    "FASTEST_BPM LEAD_IN_BEATS AF_REFRACTORY_S AF_MEMORY AF_SLOW_DELAY_S AF_SLOW_PROBABILITY AF_BLOCKING_PER_S "
    "AF_RATE_HZ AF_WOBBLE_HZ AF_WOBBLE_RAD FLUTTER_PER_MIN FIXED_BLOCK_WEIGHTS VARIABLE_BLOCK_WEIGHTS "
    "WENCKEBACH_INCREMENT_MS WENCKEBACH_DECAY VENTRICULAR_ESCAPE_BPM JUNCTIONAL_ESCAPE_BPM "
    "JUNCTIONAL_ESCAPE_PROBABILITY RETROGRADE_WEIGHTS RETROGRADE_P_GAIN RP_MS RETROGRADE_PR_MS PACED_PR_MS "
    "PACED_OVER_FIBRILLATION_PROBABILITY MAX_QT_OF_RR _DRAWS _SINUS_DRAWS",
)
