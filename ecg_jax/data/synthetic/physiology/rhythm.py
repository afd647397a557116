"""Second stage: when things happen. The event trains of a record, and sinus rhythm with heart-rate variability.

Independent trains for P, QRS and T (not one phase for all) leave room for blocked and dissociated rhythms, which are in
`arrhythmia`; an event that does not happen has gain 0, and unused slots lie at `ABSENT_S`, where no wave reaches.
"""

from __future__ import annotations

import dataclasses
import enum
import math

import jax
import jax.numpy as jnp

from ecg_jax.data.synthetic.constants import declare
from ecg_jax.data.synthetic.physiology.patient import Patient
from ecg_jax.data.synthetic.randomness.draws import cut, truncated_normal
from ecg_jax.data.synthetic.randomness.sine import sine

ABSENT_S = 1000.0
#: Mayer waves and their spread: McSharry et al., IEEE Trans Biomed Eng 50:289, 2003.
LF_HZ = 0.1
LF_SD_HZ = 0.01
LF_COMPONENTS = 4
#: QT follows the RR intervals of the past with this time constant (Petrėnas et al., Physiol Meas 38:2058, 2017).
QT_MEMORY_S = 25.0
#: An RR interval stays within this fraction of the mean: sinus rhythm, not ectopy. Design.
MAX_RR_DEVIATION = 0.4
#: QRS duration of ventricular beats, from which their QT follows. Design, amid the 120 to 180 ms of such beats.
WIDE_QRS_MS = 150.0
#: A T wave peaks at least this long before the next QRS complex. Design.
T_PEAK_CLEARANCE_S = 0.02


class Beat(enum.IntEnum):
    """What a QRS complex is; the comments give its annotation in the WFDB format."""

    NONE = 0
    NORMAL = 1  # N
    ATRIAL = 2  # A: premature, conducted
    VENTRICULAR = 3  # V: premature
    JUNCTIONAL = 4  # j
    VENTRICULAR_ESCAPE = 5  # E
    PACED = 6  # /


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class AtrialWaves:
    """Fibrillatory or flutter waves, with the phase
    2π `rate_hz` t + `phase` + `wobble_rad` sin(2π `wobble_hz` t + `wobble_phase`).
    """

    rate_hz: jax.Array
    gain: jax.Array  # 1, or 0 for none
    is_flutter: jax.Array  # 0 or 1
    phase: jax.Array  # rad, as the next but two
    wobble_hz: jax.Array
    wobble_rad: jax.Array
    wobble_phase: jax.Array


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Trains:
    """Event trains `(beats,)` of one record, in seconds from its start, each train non-decreasing.

    An event with gain 0 did not happen; it keeps its place in the order. Unused slots are last, at `ABSENT_S`, gain 0.
    """

    p_onset_s: jax.Array
    p_gain: jax.Array  # 1 sinus (or paced); other positive: ectopic; negative: retrograde
    qrs_onset_s: jax.Array
    narrow: jax.Array  # 1 where the QRS-T is the patient's own conducted one, else 0
    wide: jax.Array  # 1 where it is ventricular (ectopic, escape or paced), else 0
    t_peak_s: jax.Array
    t_stretch: jax.Array  # duration of this T wave relative to that at an RR interval of 1 s
    beat: jax.Array  # int32 `Beat`
    fibrillation: AtrialWaves
    breath_phase: jax.Array  # rad: breath(t) = sin(2π respiration_hz t + breath_phase), positive when breathing in


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class SinusBeats:
    """The sinus node's beats `(beats,)` of one record, timed by the QRS complexes that they would cause."""

    onset_s: jax.Array
    rr_s: jax.Array  # from each beat to the next
    remembered_rr_s: jax.Array  # as repolarisation remembers it


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class SinusNode(SinusBeats):
    """The sinus node's beats with the phase of the breath that moves them."""

    breath_phase: jax.Array


def beat_slots(heart_rate_max_bpm: float, seconds: int) -> int:
    """Beats that a record may need: from two before its start to one past its end, at the fastest mean rate."""
    return math.ceil(1.25 * seconds * heart_rate_max_bpm / 60.0) + 4


def rr_process(rhythm_row: jax.Array, patient: Patient, beats: int) -> SinusNode:
    """The beats of a patient's sinus node from a row of uniform draws: `beats` of them, the first in (-2, -1] mean RR.

    RR intervals have a spectrum of two bands, LF at 0.1 Hz and HF at the breathing rate, as McSharry et al. 2003; the
    variances sum to SDNN² and divide as LF/HF. HF is one sinusoid in phase with breathing: the interval is shortest at
    full inspiration.
    """
    start, breath, frequency, phase = cut(rhythm_row, (), (), (LF_COMPONENTS,), (LF_COMPONENTS,))
    mean_rr_s = patient.mean_rr_s
    total = 1e-3 * patient.sdnn_ms * jnp.sqrt(2.0 / (1.0 + patient.lf_hf))
    hf_s, lf_s = total, total * jnp.sqrt(patient.lf_hf / LF_COMPONENTS)  # amplitudes of the sinusoids

    # One frequency from each quartile of the band: components too close to tell apart would move SDNN.
    quantile = (jnp.arange(LF_COMPONENTS) + frequency) / LF_COMPONENTS
    frequency_hz = LF_HZ + LF_SD_HZ * truncated_normal(quantile)
    omega = 2.0 * math.pi * frequency_hz
    cycles = frequency_hz * (mean_rr_s * jnp.arange(beats))[:, None] + phase
    sin, cos = sine(cycles), sine(cycles + 0.25)

    start_s = -mean_rr_s * (1.0 + start)
    # The time of each beat but for the breath's own effect: the mean interval and the integral of the LF band.
    drift_s = lf_s * ((cos[0] - cos) / (omega * mean_rr_s)).sum(-1)
    time_s = start_s + mean_rr_s * jnp.arange(beats) + drift_s
    respiratory_s = -hf_s * sine(patient.respiration_hz * time_s + breath)

    limit_s = MAX_RR_DEVIATION * mean_rr_s
    rr_s = mean_rr_s + jnp.clip(lf_s * sin.sum(-1) + respiratory_s, -limit_s, limit_s)
    # Each LF component through 1 / (1 + iωτ); of the breath less than 1/30 would pass.
    lag = omega * QT_MEMORY_S
    remembered_s = lf_s * ((sin - lag * cos) / (1.0 + lag**2)).sum(-1)
    return SinusNode(
        onset_s=start_s + jnp.cumsum(rr_s) - rr_s,
        rr_s=rr_s,
        remembered_rr_s=mean_rr_s + jnp.clip(remembered_s, -limit_s, limit_s),
        breath_phase=2.0 * math.pi * breath,
    )


def no_waves() -> AtrialWaves:
    """Atria without fibrillation or flutter."""
    return AtrialWaves(*[jnp.zeros(())] * len(dataclasses.fields(AtrialWaves)))


def assemble(
    patient: Patient,
    p_onset_s: jax.Array,
    p_gain: jax.Array,
    qrs_onset_s: jax.Array,
    wide: jax.Array,
    beat: jax.Array,
    stretch: jax.Array,
    fibrillation: AtrialWaves,
    breath_phase: jax.Array,
    seconds: int,
) -> Trains:
    """Adds the T waves to the trains of P and QRS, and clears what lies beyond the record. Arrays are `(beats,)`.

    A T wave peaks `T_PEAK_CLEARANCE_S` before the next QRS complex at the latest; that of a wide beat comes later than
    a conducted one's by as much as its QRS complex is wider (the JT interval is the patient's).
    """
    # The first beat past the end may still send its P wave into the record; later ones cannot.
    present, p_present = qrs_onset_s < seconds + 1.0, p_onset_s < seconds + 1.0
    happened = present & (beat != Beat.NONE)
    qt_peak_ms = patient.qtcf_ms - patient.t_peak_to_end_ms + wide * (WIDE_QRS_MS - patient.qrs_ms)
    following_s = jnp.append(qrs_onset_s[1:], ABSENT_S)
    t_peak_s = jnp.minimum(qrs_onset_s + 1e-3 * qt_peak_ms * stretch, following_s - T_PEAK_CLEARANCE_S)
    return Trains(
        p_onset_s=jnp.where(p_present, p_onset_s, ABSENT_S),
        p_gain=jnp.where(p_present, p_gain, 0.0),
        qrs_onset_s=jnp.where(present, qrs_onset_s, ABSENT_S),
        narrow=jnp.where(happened, 1.0 - wide, 0.0),
        wide=jnp.where(happened, wide, 0.0),
        t_peak_s=jnp.where(present, t_peak_s, ABSENT_S),
        t_stretch=stretch,
        beat=jnp.where(present, beat, Beat.NONE).astype(jnp.int32),
        fibrillation=fibrillation,
        breath_phase=breath_phase,
    )


def sinus_trains(rhythm_row: jax.Array, patient: Patient, beats: int, seconds: int) -> Trains:
    """The event trains of a record in sinus rhythm. QT is Fridericia's, of the RR intervals remembered."""
    node = rr_process(rhythm_row, patient, beats)
    return assemble(
        patient,
        p_onset_s=node.onset_s - 1e-3 * patient.pr_ms,
        p_gain=jnp.ones(beats),
        qrs_onset_s=node.onset_s,
        wide=jnp.zeros(beats),
        beat=jnp.full(beats, Beat.NORMAL),
        stretch=jnp.cbrt(node.remembered_rr_s),
        fibrillation=no_waves(),
        breath_phase=node.breath_phase,
        seconds=seconds,
    )


declare(
    "rhythm",
    vars(),
    "ABSENT_S LF_HZ LF_SD_HZ LF_COMPONENTS QT_MEMORY_S MAX_RR_DEVIATION WIDE_QRS_MS T_PEAK_CLEARANCE_S",
)
