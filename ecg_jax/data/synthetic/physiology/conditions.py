"""What a patient suffers from: one rhythm and one morphology per patient, and what they do to the latents.

Conditions are data: each has its SCP-ECG code and the ranges from which it draws heart rate, intervals and axis.
"""

from __future__ import annotations

import dataclasses
import enum

import jax
import jax.numpy as jnp
import numpy as np

from ecg_jax.data.synthetic.constants import declare
from ecg_jax.data.synthetic.physiology.patient import Patient
from ecg_jax.data.synthetic.randomness.draws import cut


class _Code(enum.IntEnum):
    """An integer code that differs from the equal code of another kind, so that both can be keys of one table."""

    def __eq__(self, other: object) -> bool:
        return int(self) == other and (type(self) is type(other) or not isinstance(other, enum.Enum))

    def __hash__(self) -> int:
        return hash((type(self).__name__, int(self)))


class Rhythm(_Code):
    """The rhythm of a record."""

    SINUS = 0
    SINUS_BRADYCARDIA = 1
    SINUS_TACHYCARDIA = 2
    SINUS_ARRHYTHMIA = 3
    ATRIAL_FIBRILLATION = 4
    ATRIAL_FLUTTER = 5  # fixed block
    ATRIAL_FLUTTER_VARIABLE = 6
    ATRIAL_PREMATURE = 7  # single beats
    ATRIAL_COUPLETS = 8
    ATRIAL_RUNS = 9
    ATRIAL_BIGEMINY = 10
    ATRIAL_TRIGEMINY = 11
    VENTRICULAR_PREMATURE = 12  # single beats
    VENTRICULAR_COUPLETS = 13
    VENTRICULAR_RUNS = 14
    VENTRICULAR_BIGEMINY = 15
    VENTRICULAR_TRIGEMINY = 16
    AV_BLOCK_1 = 17
    AV_BLOCK_2_MOBITZ_1 = 18
    AV_BLOCK_2_MOBITZ_2 = 19
    AV_BLOCK_2_TO_1 = 20  # cannot be told to be either Mobitz type
    AV_BLOCK_3 = 21
    JUNCTIONAL = 22
    PACED_ATRIAL = 23
    PACED_VENTRICULAR = 24
    PACED_DUAL = 25


class Morphology(_Code):
    """What changes the shape of the beats."""

    NORMAL = 0
    RBBB = 1
    LBBB = 2
    LAFB = 3
    LPFB = 4
    WPW = 5
    STEMI_ANTERIOR = 6
    STEMI_INFERIOR = 7
    STEMI_LATERAL = 8
    ISCHAEMIA = 9  # ST depression without elevation
    OLD_MI_ANTERIOR = 10
    OLD_MI_INFERIOR = 11
    OLD_MI_LATERAL = 12
    LVH = 13  # with strain
    RVH = 14
    LEFT_ATRIAL_ENLARGEMENT = 15
    RIGHT_ATRIAL_ENLARGEMENT = 16
    LONG_QT = 17
    T_INVERSION = 18
    EARLY_REPOLARISATION = 19
    LOW_VOLTAGE = 20


Condition = Rhythm | Morphology

#: SCP-ECG statements of each condition, as PTB-XL writes them.
SCP_CODES: dict[Condition, tuple[str, ...]] = {
    Rhythm.SINUS: ("SR",),
    Rhythm.SINUS_BRADYCARDIA: ("SBRAD",),
    Rhythm.SINUS_TACHYCARDIA: ("STACH",),
    Rhythm.SINUS_ARRHYTHMIA: ("SARRH",),
    Rhythm.ATRIAL_FIBRILLATION: ("AFIB",),
    Rhythm.ATRIAL_FLUTTER: ("AFLT",),
    Rhythm.ATRIAL_FLUTTER_VARIABLE: ("AFLT",),
    Rhythm.ATRIAL_PREMATURE: ("SR", "PAC"),
    Rhythm.ATRIAL_COUPLETS: ("SR", "PAC"),
    Rhythm.ATRIAL_RUNS: ("SR", "PAC", "SVARR"),
    Rhythm.ATRIAL_BIGEMINY: ("SR", "PAC", "BIGU"),
    Rhythm.ATRIAL_TRIGEMINY: ("SR", "PAC", "TRIGU"),
    Rhythm.VENTRICULAR_PREMATURE: ("SR", "PVC"),
    Rhythm.VENTRICULAR_COUPLETS: ("SR", "PVC"),
    Rhythm.VENTRICULAR_RUNS: ("SR", "PVC"),
    Rhythm.VENTRICULAR_BIGEMINY: ("SR", "PVC", "BIGU"),
    Rhythm.VENTRICULAR_TRIGEMINY: ("SR", "PVC", "TRIGU"),
    Rhythm.AV_BLOCK_1: ("SR", "1AVB"),
    Rhythm.AV_BLOCK_2_MOBITZ_1: ("2AVB",),
    Rhythm.AV_BLOCK_2_MOBITZ_2: ("2AVB",),
    Rhythm.AV_BLOCK_2_TO_1: ("2AVB",),
    Rhythm.AV_BLOCK_3: ("3AVB",),
    Rhythm.JUNCTIONAL: ("SVARR",),
    Rhythm.PACED_ATRIAL: ("PACE",),
    Rhythm.PACED_VENTRICULAR: ("PACE",),
    Rhythm.PACED_DUAL: ("PACE",),
    Morphology.NORMAL: (),
    Morphology.RBBB: ("CRBBB",),
    Morphology.LBBB: ("CLBBB",),
    Morphology.LAFB: ("LAFB",),
    Morphology.LPFB: ("LPFB",),
    Morphology.WPW: ("WPW",),
    Morphology.STEMI_ANTERIOR: ("AMI", "INJAS", "STE_"),
    Morphology.STEMI_INFERIOR: ("IMI", "INJIN", "STE_"),
    Morphology.STEMI_LATERAL: ("LMI", "INJLA", "STE_"),
    Morphology.ISCHAEMIA: ("ISC_", "STD_"),
    Morphology.OLD_MI_ANTERIOR: ("AMI", "QWAVE"),
    Morphology.OLD_MI_INFERIOR: ("IMI", "QWAVE"),
    Morphology.OLD_MI_LATERAL: ("LMI", "QWAVE"),
    Morphology.LVH: ("LVH",),
    Morphology.RVH: ("RVH",),
    Morphology.LEFT_ATRIAL_ENLARGEMENT: ("LAO/LAE",),
    Morphology.RIGHT_ATRIAL_ENLARGEMENT: ("RAO/RAE",),
    Morphology.LONG_QT: ("LNGQT",),
    Morphology.T_INVERSION: ("INVT",),
    Morphology.EARLY_REPOLARISATION: ("STE_",),
    Morphology.LOW_VOLTAGE: ("LVOLT",),
}

Range = tuple[float, float]


@dataclasses.dataclass(frozen=True)
class Effect:
    """Ranges from which a condition draws a latent anew (uniformly); None leaves the population's prior."""

    heart_rate_bpm: Range | None = None
    pr_ms: Range | None = None
    qrs_ms: Range | None = None
    qtcf_ms: Range | None = None
    p_duration_ms: Range | None = None
    qrs_axis_deg: Range | None = None
    p_axis_deg: Range | None = None
    t_axis_deg: Range | None = None
    sdnn_ms: Range | None = None
    lf_hf: Range | None = None


#: AHA: AHA/ACCF/HRS recommendations, Circulation 119:e235–e261, 2009. Where a definition gives one limit, the other end
#: of the range and the distance kept from the limit are design.
EFFECTS: dict[Condition, Effect] = {
    Rhythm.SINUS_BRADYCARDIA: Effect(heart_rate_bpm=(38, 57)),
    Rhythm.SINUS_TACHYCARDIA: Effect(heart_rate_bpm=(103, 140), sdnn_ms=(6, 18)),
    Rhythm.SINUS_ARRHYTHMIA: Effect(heart_rate_bpm=(50, 80), sdnn_ms=(90, 160), lf_hf=(0.05, 0.25)),
    Rhythm.AV_BLOCK_1: Effect(heart_rate_bpm=(48, 80), pr_ms=(212, 320)),
    # Rates and variability in blocks of second and third degree are the atrium's.
    Rhythm.AV_BLOCK_2_MOBITZ_1: Effect(
        heart_rate_bpm=(60, 95), pr_ms=(160, 220), sdnn_ms=(8, 35)
    ),  # of the atrium, as below
    Rhythm.AV_BLOCK_2_MOBITZ_2: Effect(heart_rate_bpm=(60, 95), pr_ms=(130, 200), sdnn_ms=(8, 35)),
    Rhythm.AV_BLOCK_2_TO_1: Effect(heart_rate_bpm=(65, 110), pr_ms=(130, 200), sdnn_ms=(8, 35)),
    Rhythm.AV_BLOCK_3: Effect(heart_rate_bpm=(60, 100), sdnn_ms=(8, 35)),
    Rhythm.JUNCTIONAL: Effect(heart_rate_bpm=(40, 60), sdnn_ms=(5, 20)),
    Rhythm.PACED_ATRIAL: Effect(heart_rate_bpm=(60, 85), sdnn_ms=(0, 0.5)),
    Rhythm.PACED_VENTRICULAR: Effect(heart_rate_bpm=(55, 80), sdnn_ms=(0, 0.5)),
    Rhythm.PACED_DUAL: Effect(heart_rate_bpm=(55, 85), pr_ms=(130, 200), sdnn_ms=(0, 0.5)),
    Morphology.RBBB: Effect(pr_ms=(130, 195), qrs_ms=(126, 160), qrs_axis_deg=(-20, 85)),  # AHA: QRS >= 120 ms
    Morphology.LBBB: Effect(pr_ms=(130, 195), qrs_ms=(130, 175), qrs_axis_deg=(-40, 50)),  # AHA: QRS >= 120 ms
    Morphology.LAFB: Effect(qrs_ms=(88, 112), qrs_axis_deg=(-80, -57)),  # AHA: axis -45 to -90
    Morphology.LPFB: Effect(qrs_ms=(88, 112), qrs_axis_deg=(100, 150)),  # AHA: axis 90 to 180
    Morphology.WPW: Effect(heart_rate_bpm=(50, 85), pr_ms=(85, 112), p_duration_ms=(70, 85), qrs_ms=(124, 150)),
    Morphology.OLD_MI_ANTERIOR: Effect(qrs_ms=(88, 106)),  # with a Q wave of 30 ms, yet no block
    Morphology.OLD_MI_INFERIOR: Effect(qrs_ms=(88, 106)),
    Morphology.OLD_MI_LATERAL: Effect(qrs_ms=(88, 106)),
    Morphology.LVH: Effect(qrs_axis_deg=(-25, 30)),
    Morphology.RVH: Effect(qrs_axis_deg=(100, 150)),
    Morphology.LEFT_ATRIAL_ENLARGEMENT: Effect(p_duration_ms=(124, 145), pr_ms=(160, 215)),
    Morphology.RIGHT_ATRIAL_ENLARGEMENT: Effect(p_axis_deg=(68, 95)),
    Morphology.EARLY_REPOLARISATION: Effect(qrs_axis_deg=(25, 74)),
    Morphology.LONG_QT: Effect(heart_rate_bpm=(48, 75), qtcf_ms=(485, 560)),
}

#: Where conditions are drawn, an axis that none of them sets is mirrored into these limits: a deviation of the axis is
#: a finding of its own (AHA: normal -30 to 90), and beyond 75 normal complexes begin to look like fascicular blocks.
AXIS_LIMITS_DEG = (-30.0, 75.0)

#: A PR interval that no condition sets is shortened for a fast heart down to this.
SHORTEST_USUAL_PR_MS = 110.0

#: Rhythms whose beats all start in the ventricle, so that no morphology of conducted beats can show; complete block is
#: among them because the escape beats replace conducted ones.
WITHOUT_MORPHOLOGY = (Rhythm.PACED_VENTRICULAR, Rhythm.PACED_DUAL, Rhythm.AV_BLOCK_3)
#: No P wave that could be enlarged, and no PR interval that pre-excitation could shorten.
WITHOUT_P_WAVE = (
    Rhythm.ATRIAL_FIBRILLATION,
    Rhythm.ATRIAL_FLUTTER,
    Rhythm.ATRIAL_FLUTTER_VARIABLE,
    Rhythm.JUNCTIONAL,
)
NEEDS_P_WAVE = (Morphology.WPW, Morphology.LEFT_ATRIAL_ENLARGEMENT, Morphology.RIGHT_ATRIAL_ENLARGEMENT)
FLUTTER = (Rhythm.ATRIAL_FLUTTER, Rhythm.ATRIAL_FLUTTER_VARIABLE)
#: Morphologies that are read on the ST segment or the T wave.
OF_REPOLARISATION = (
    Morphology.STEMI_ANTERIOR,
    Morphology.STEMI_INFERIOR,
    Morphology.STEMI_LATERAL,
    Morphology.ISCHAEMIA,
    Morphology.T_INVERSION,
    Morphology.EARLY_REPOLARISATION,
    Morphology.LONG_QT,
)
AV_BLOCKS = (
    Rhythm.AV_BLOCK_1,
    Rhythm.AV_BLOCK_2_MOBITZ_1,
    Rhythm.AV_BLOCK_2_MOBITZ_2,
    Rhythm.AV_BLOCK_2_TO_1,
    Rhythm.AV_BLOCK_3,
)


def can_join(rhythm: Rhythm, morphology: Morphology) -> bool:
    """Whether a rhythm and a morphology can show in one record."""
    if morphology is Morphology.NORMAL:
        return True
    if rhythm in WITHOUT_MORPHOLOGY or (rhythm in WITHOUT_P_WAVE and morphology in NEEDS_P_WAVE):
        return False
    if rhythm in FLUTTER and morphology in OF_REPOLARISATION:
        return False  # F waves hide the ST segment and the T wave
    if rhythm is Rhythm.PACED_ATRIAL and morphology in NEEDS_P_WAVE:
        return False
    theirs, own = EFFECTS.get(rhythm, Effect()), EFFECTS.get(morphology, Effect())
    if any(getattr(theirs, name) and getattr(own, name) for name in ("pr_ms", "heart_rate_bpm")):
        return False  # both would set it
    if rhythm in AV_BLOCKS and morphology in NEEDS_P_WAVE:
        return False
    if morphology is Morphology.WPW:
        return rhythm in (Rhythm.SINUS, Rhythm.SINUS_ARRHYTHMIA)
    return True


#: Allowed pairs as a table (rhythms, morphologies).
CAN_JOIN = np.array([[can_join(rhythm, morphology) for morphology in Morphology] for rhythm in Rhythm])


def names() -> list[str]:
    """The names of all conditions."""
    return [member.name for kind in (Rhythm, Morphology) for member in kind]


def named(name: str) -> Condition:
    """The condition called `name` (upper or lower case). Raises ValueError that lists what there is."""
    for kind in (Rhythm, Morphology):
        if name.upper() in kind.__members__:
            return kind[name.upper()]
    raise ValueError(f"unknown condition {name!r}: there are {', '.join(names())}")


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Conditions:
    """The conditions of one record, as int32 scalars (or arrays with a leading batch axis)."""

    rhythm: jax.Array
    morphology: jax.Array


_LATENTS = tuple(field.name for field in dataclasses.fields(Effect))


def _effect_table(kind: type[Rhythm] | type[Morphology]) -> np.ndarray:
    """Ranges by condition and latent, `(conditions, latents, 2)`; NaN where the prior stays."""
    nothing = (np.nan, np.nan)
    rows = [[getattr(EFFECTS.get(member, Effect()), name) or nothing for name in _LATENTS] for member in kind]
    return np.array(rows, np.float32)


_RHYTHM_EFFECTS, _MORPHOLOGY_EFFECTS = _effect_table(Rhythm), _effect_table(Morphology)


def sample_conditions(uniforms: jax.Array, edges: jax.Array) -> Conditions:
    """Draws the conditions of one patient from a row of uniform draws; `edges`: of a `condition_mix.ConditionMix`."""
    (pick,) = cut(uniforms, ())
    pair = (pick >= edges).sum()
    return Conditions(*(part.astype(jnp.int32) for part in jnp.divmod(pair, len(Morphology))))


def afflicted(uniforms: jax.Array, patient: Patient, conditions: Conditions) -> Patient:
    """The patient with the latents that its conditions draw anew; the morphology's range wins over the rhythm's.

    PR and QT then fit the beat again: QT + PR <= 0.95 RR, first by a shorter PR (not below its range), then by a slower
    heart.
    """
    _, draws = cut(uniforms, (), (len(_LATENTS),))
    rhythm = jnp.asarray(_RHYTHM_EFFECTS)[conditions.rhythm]
    morphology = jnp.asarray(_MORPHOLOGY_EFFECTS)[conditions.morphology]
    ranges = jnp.where(jnp.isnan(morphology), rhythm, morphology)
    drawn = ranges[:, 0] + (ranges[:, 1] - ranges[:, 0]) * draws
    latents = {
        name: jnp.where(jnp.isnan(drawn[i]), getattr(patient, name), drawn[i]) for i, name in enumerate(_LATENTS)
    }
    low, high = AXIS_LIMITS_DEG
    within = jnp.mod(latents["qrs_axis_deg"] - low, 2.0 * (high - low))
    mirrored = low + jnp.minimum(within, 2.0 * (high - low) - within)
    axis_is_set = ~jnp.isnan(drawn[_LATENTS.index("qrs_axis_deg")])
    latents["qrs_axis_deg"] = jnp.where(axis_is_set, drawn[_LATENTS.index("qrs_axis_deg")], mirrored)
    pr_is_set = ~jnp.isnan(drawn[_LATENTS.index("pr_ms")])
    rr_ms = 60_000.0 / latents["heart_rate_bpm"]

    def qt_ms(rr_ms: jax.Array) -> jax.Array:
        return latents["qtcf_ms"] * jnp.cbrt(rr_ms / 1000.0)

    shortest_pr = jnp.where(pr_is_set, latents["pr_ms"], jnp.minimum(latents["pr_ms"], 110.0))
    pr = jnp.clip(0.95 * rr_ms - qt_ms(rr_ms), shortest_pr, latents["pr_ms"])
    for _ in range(4):  # rr = (pr + qt(rr)) / 0.95, a contraction
        rr_ms = jnp.maximum(rr_ms, (pr + qt_ms(rr_ms)) / 0.95)
    latents["pr_ms"], latents["heart_rate_bpm"] = pr, 60_000.0 / rr_ms
    latents["p_duration_ms"] = jnp.minimum(latents["p_duration_ms"], 0.9 * pr)
    return dataclasses.replace(patient, **latents)


def with_rhythm(uniforms: jax.Array, patient: Patient, rhythm: jax.Array) -> tuple[Patient, dict[str, jax.Array]]:
    """The patient with the latents that its rhythm draws anew, and by name which these are."""
    _, draws = cut(uniforms, (), (len(_LATENTS),))
    ranges = jnp.asarray(_RHYTHM_EFFECTS)[rhythm]
    drawn, is_set = ranges[:, 0] + (ranges[:, 1] - ranges[:, 0]) * draws, ~jnp.isnan(ranges[:, 0])
    latents = {name: jnp.where(is_set[i], drawn[i], getattr(patient, name)) for i, name in enumerate(_LATENTS)}
    return dataclasses.replace(patient, **latents), dict(zip(_LATENTS, is_set))


def with_room(patient: Patient, keeps_pr: jax.Array) -> Patient:
    """The patient with PR and QT that fit the beat, PR + QT <= 0.95 RR: first by a shorter PR, unless a condition set
    it (`keeps_pr`), then by a slower heart; and with a P wave that ends before the QRS complex begins.
    """
    rr_ms = 1e3 * patient.mean_rr_s

    def qt_ms(rr_ms: jax.Array) -> jax.Array:
        return patient.qtcf_ms * jnp.cbrt(rr_ms / 1000.0)

    shortest = jnp.where(keeps_pr, patient.pr_ms, jnp.minimum(patient.pr_ms, SHORTEST_USUAL_PR_MS))
    pr_ms = jnp.clip(0.95 * rr_ms - qt_ms(rr_ms), shortest, patient.pr_ms)
    for _ in range(4):  # rr = (pr + qt(rr)) / 0.95, a contraction
        rr_ms = jnp.maximum(rr_ms, (pr_ms + qt_ms(rr_ms)) / 0.95)
    p_duration_ms = jnp.minimum(patient.p_duration_ms, 0.9 * pr_ms)
    return dataclasses.replace(patient, pr_ms=pr_ms, heart_rate_bpm=60_000.0 / rr_ms, p_duration_ms=p_duration_ms)


declare("conditions", vars(), "SHORTEST_USUAL_PR_MS", version=3)
declare(
    "conditions",
    vars(),
    "SCP_CODES EFFECTS AXIS_LIMITS_DEG WITHOUT_MORPHOLOGY WITHOUT_P_WAVE NEEDS_P_WAVE FLUTTER OF_REPOLARISATION "
    "AV_BLOCKS CAN_JOIN _LATENTS _RHYTHM_EFFECTS _MORPHOLOGY_EFFECTS",
)
