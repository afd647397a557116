"""When which chamber of a heart is activated, and from where: the events of one record in any rhythm of `conditions`.

Every slot has a P wave and a QRS complex, each of one of two kinds: the usual one (from the sinus node; conducted) and
the record's other one (P from another focus in the atria; QRS from the ventricles, or conducted with aberration).
"""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp

from ecg_jax.data.synthetic.constants import declare
from ecg_jax.data.synthetic.physiology import arrhythmia
from ecg_jax.data.synthetic.physiology.conditions import Rhythm
from ecg_jax.data.synthetic.physiology.ectopy import COMPENSATORY_PROBABILITY
from ecg_jax.data.synthetic.physiology.patient import Patient
from ecg_jax.data.synthetic.physiology.rhythm import ABSENT_S, WIDE_QRS_MS, AtrialWaves, Beat, SinusBeats, no_waves
from ecg_jax.data.synthetic.physiology.rhythm_table import Pacemaker, Range, between, course_of
from ecg_jax.data.synthetic.randomness.draws import cut

#: Premature atrial beats find the right bundle refractory in this share of records, where they come in the earliest
#: share of their range (functional block; design).
ABERRANT_PROBABILITY, ABERRANT_EARLIEST = 0.3, 0.5
#: Atria that a ventricular pacemaker does not sense beat at so many times its rate (design).
DISSOCIATED_RATE: Range = (0.75, 1.3)
#: From the onset of a ventricular complex to the P wave that it sends back (design: some 100 to 200 ms).
BACKWARDS_MS: Range = (130.0, 210.0)
#: So long before the next P wave stands a slot that has none.
BEFORE_NEXT_S = 0.03
#: Draws of a record besides those of `arrhythmia`: whether premature beats may be aberrant; rate and start of the atria
#: under ventricular pacing.
_MORE_DRAWS = ("aberrant", "dissociated_rate", "dissociated_start")
#: Uniform draws of a record, and of each of its beats.
DRAWS, DRAWS_PER_BEAT = len(arrhythmia._DRAWS) + len(_MORE_DRAWS), 2


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Events:
    """Events `(K,)` of one record, in s from its start, P waves and QRS complexes each in order of time."""

    p_onset_s: jax.Array
    p_gain: jax.Array  # 0 for no P wave
    p_is_other: jax.Array  # bool
    pr_varies: jax.Array  # () bool: PR is the AV node's own, and differs from beat to beat
    qrs_onset_s: jax.Array
    is_other: jax.Array  # bool
    beat: jax.Array  # int32 `rhythm.Beat`; NONE: no QRS complex
    t_stretch: jax.Array  # duration of this T wave relative to that at an RR interval of 1 s
    waves: AtrialWaves


def sinus_events(node: SinusBeats, patient: Patient) -> Events:
    """The events of a sinus rhythm; QT is Fridericia's of the intervals remembered."""
    beats = len(node.onset_s)
    no = jnp.zeros(beats, bool)
    return Events(
        p_onset_s=node.onset_s - 1e-3 * patient.pr_ms,
        p_gain=jnp.ones(beats),
        p_is_other=no,
        pr_varies=jnp.ones((), bool),
        qrs_onset_s=node.onset_s,
        is_other=no,
        beat=jnp.full(beats, Beat.NORMAL, jnp.int32),
        t_stretch=jnp.cbrt(node.remembered_rr_s),
        waves=no_waves(),
    )


def sample_events(row: jax.Array, node: SinusBeats, patient: Patient, rhythm: jax.Array, seconds: int) -> Events:
    """The events of a record in the rhythm of that code, from `DRAWS + DRAWS_PER_BEAT * K` uniform draws.

    `node` is the patient's sinus node at the rate of its rhythm (that of a device, of the junction where they set it).
    """
    beats = len(node.onset_s)
    scalars, of_beats = cut(row, (DRAWS,), (DRAWS_PER_BEAT, beats))
    draw = dict(zip((*arrhythmia._DRAWS, *_MORE_DRAWS), scalars))
    course = course_of(rhythm)
    pacemaker = course["pacemaker"]
    is_node, is_blocked_node = pacemaker == Pacemaker.NODE, pacemaker == Pacemaker.BLOCKED_NODE
    is_ectopic_course, is_escape = pacemaker == Pacemaker.ECTOPIC, pacemaker == Pacemaker.ESCAPE
    lead_in_s = jnp.where(is_node, 0.0, (arrhythmia.LEAD_IN_BEATS - 1.0) * patient.mean_rr_s)
    node = dataclasses.replace(node, onset_s=node.onset_s - lead_in_s)
    timed = arrhythmia.timing(rhythm, course, draw, tuple(of_beats), node, patient, seconds)
    later_s, blocked, conducted = arrhythmia.conduction(rhythm, course, draw, beats)
    by_node = is_node | is_blocked_node
    qrs_onset_s = jnp.where(by_node, node.onset_s + later_s, timed.qrs_onset_s)

    is_ventricular = timed.is_ectopic & (course["ectopic"] == Beat.VENTRICULAR)
    is_narrow_escape = is_escape & arrhythmia.is_junctional_escape(draw)
    beat = jnp.where(is_narrow_escape, Beat.JUNCTIONAL, course["beat"])
    beat = jnp.where(timed.is_ectopic, course["ectopic"], jnp.where(blocked, Beat.NONE, beat))
    wide = is_ventricular | (course["wide"] & ~is_narrow_escape)
    waves = arrhythmia.atrial_waves(rhythm, pacemaker, draw, timed.atrial_rate_hz, qrs_onset_s[0])

    # QT remembers the RR intervals of the sinus node, or else the mean of the record's own.
    own_rr_s = jnp.where(is_blocked_node, patient.mean_rr_s / conducted, timed.own_rr_s)
    remembered_rr_s = jnp.where(is_node | is_ectopic_course, node.remembered_rr_s, own_rr_s)
    qt_s = 1e-3 * (patient.qtcf_ms + wide * (WIDE_QRS_MS - patient.qrs_ms))
    preceding_s = jnp.concatenate([timed.own_rr_s[None], jnp.diff(qrs_onset_s)])
    longest = jnp.where(by_node, jnp.inf, arrhythmia.MAX_QT_OF_RR * preceding_s / qt_s)
    p_onset_s, p_gain, p_is_other = _p_waves(rhythm, course, draw, patient, node, timed, qrs_onset_s, waves)
    return Events(
        p_onset_s=p_onset_s,
        p_gain=p_gain,
        p_is_other=p_is_other,
        pr_varies=(is_node | is_ectopic_course) & (course["beat"] == Beat.NORMAL),
        qrs_onset_s=qrs_onset_s,
        is_other=wide | _aberrant(course, draw, of_beats[0], timed.is_ectopic),
        beat=beat.astype(jnp.int32),
        t_stretch=jnp.minimum(jnp.cbrt(remembered_rr_s), longest),
        waves=waves,
    )


def _aberrant(
    course: dict[str, jax.Array], draw: dict[str, jax.Array], early: jax.Array, is_ectopic: jax.Array
) -> jax.Array:
    """Atrial premature beats that the right bundle does not conduct: early ones, the first of a run."""
    is_first = is_ectopic & ~jnp.concatenate([is_ectopic[:1], is_ectopic[:-1]])
    may_be = (course["ectopic"] == Beat.ATRIAL) & (draw["aberrant"] < ABERRANT_PROBABILITY)
    return is_first & may_be & (early < ABERRANT_EARLIEST)


def _p_waves(
    rhythm: jax.Array,
    course: dict[str, jax.Array],
    draw: dict[str, jax.Array],
    patient: Patient,
    node: SinusBeats,
    timed: arrhythmia.Timing,
    qrs_onset_s: jax.Array,
    waves: AtrialWaves,
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Onset, gain and kind of the P wave in each slot `(K,)`."""
    is_ectopic, pacemaker = timed.is_ectopic, course["pacemaker"]
    is_ventricular = is_ectopic & (course["ectopic"] == Beat.VENTRICULAR)
    pr_s = 1e-3 * patient.pr_ms
    before_s, gain = arrhythmia.p_waves(rhythm, course, draw, patient, is_ectopic, is_ventricular)
    dissociates = (pacemaker == Pacemaker.BLOCKED_NODE) | (pacemaker == Pacemaker.ESCAPE)
    onset_s = jnp.where(dissociates, node.onset_s - pr_s, qrs_onset_s - before_s)
    from_av_node = rhythm == Rhythm.JUNCTIONAL
    by_device = (rhythm == Rhythm.PACED_ATRIAL) | (rhythm == Rhythm.PACED_DUAL)
    is_other = from_av_node | by_device | is_ectopic

    # A ventricular beat meets the sinus node's next P wave, which then is not conducted, or sends one back to it.
    buried_s, is_buried = _undisturbed(node, timed, is_ectopic, patient)
    is_buried &= draw["pause"] < COMPENSATORY_PROBABILITY
    is_back = draw["pause"] >= COMPENSATORY_PROBABILITY
    backwards_s = qrs_onset_s + 1e-3 * between(BACKWARDS_MS, draw["p_delay"])
    of_ventricular = jnp.where(is_back, backwards_s, jnp.where(is_buried, buried_s, qrs_onset_s))
    onset_s = jnp.where(is_ventricular, of_ventricular, onset_s)
    gain = jnp.where(is_ventricular, jnp.where(is_back | is_buried, 1.0, 0.0), gain)
    is_other = jnp.where(is_ventricular, is_back, is_other)

    is_ventricular_pacing = rhythm == Rhythm.PACED_VENTRICULAR
    rate = between(DISSOCIATED_RATE, draw["dissociated_rate"])
    start_s = node.onset_s[0] - draw["dissociated_start"] * patient.mean_rr_s
    own_s = start_s + (node.onset_s - node.onset_s[0]) / rate
    onset_s = jnp.where(is_ventricular_pacing, own_s, onset_s)
    gain = jnp.abs(jnp.where(is_ventricular_pacing, 1.0 - waves.gain, gain))
    # A slot without a P wave stands before the next one, by more than PR varies, so that the order of time is kept.
    following_s = jax.lax.cummin(jnp.where(gain > 0, onset_s, ABSENT_S), reverse=True)
    return jnp.where(gain > 0, onset_s, following_s - BEFORE_NEXT_S), gain, is_other


def _undisturbed(
    node: SinusBeats, timed: arrhythmia.Timing, is_ectopic: jax.Array, patient: Patient
) -> tuple[jax.Array, jax.Array]:
    """When the sinus node's own P wave falls in each slot of a premature beat, and whether it still does, `(K,)`."""
    number = jnp.arange(len(is_ectopic))
    last = jax.lax.cummax(jnp.where(is_ectopic, 0, number))
    following = jax.lax.cummin(jnp.where(is_ectopic, len(number) - 1, number), reverse=True)
    onset_s, rr_s = timed.qrs_onset_s, patient.mean_rr_s
    expected_s = onset_s[last] + (number - last) * rr_s
    falls = is_ectopic & (expected_s < onset_s[following] - 0.5 * rr_s)
    return expected_s - 1e-3 * patient.pr_ms, falls


declare(
    "events",
    vars(),
    "ABERRANT_PROBABILITY ABERRANT_EARLIEST DISSOCIATED_RATE BACKWARDS_MS BEFORE_NEXT_S _MORE_DRAWS "
    "DRAWS DRAWS_PER_BEAT",
    version=3,
)
