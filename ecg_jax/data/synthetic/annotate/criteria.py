"""Which diagnostic criteria a record meets: measured on its noise-free, filtered signal, whatever was intended.

Randomised vectors need not meet the definition of what they were drawn for, and may meet another's. Definitions: AHA:
AHA/ACCF/HRS recommendations III–V, Circulation 119:e235, e241, e251, 2009; UDMI: Fourth Universal Definition of
Myocardial Infarction, 2018; Macfarlane et al., J Am Coll Cardiol 66:470, 2015 (early repolarisation).
"""

from __future__ import annotations

import dataclasses

import numpy as np

from ecg_jax.data.synthetic.physiology.conditions import (
    FLUTTER,
    OF_REPOLARISATION,
    WITHOUT_P_WAVE,
    Condition,
    Morphology,
    Rhythm,
)
from ecg_jax.data.synthetic.physiology.kernels import AVF, AVL, II, III, V1, V2, V3, V4, V5, V6, I
from ecg_jax.data.synthetic.physiology.rhythm import Beat

#: Contiguous leads: neighbours on the chest, and in the frontal plane aVL – I and II – aVF – III.
CHEST = ((V1, V2), (V2, V3), (V3, V4), (V4, V5), (V5, V6))
LATERAL = ((AVL, I), (V5, V6))
INFERIOR = ((II, AVF), (AVF, III))
ANTERIOR = ((V1, V2), (V2, V3), (V3, V4))
CONTIGUOUS = ((AVL, I), *INFERIOR, *CHEST)
#: The J point is read so long after the end of the QRS complex, past the foot of an S wave.
AFTER_J_MS = 8.0
#: The averaged beat: from before its P wave to after its T wave, in seconds from the QRS onset.
BEFORE_S, AFTER_S = 0.35, 0.65
#: The isoelectric level is that of the PR segment, so long before the QRS onset.
BASELINE_S = (0.016, 0.002)


@dataclasses.dataclass(frozen=True)
class Beats:
    """The median conducted beat of a record and its mean intervals; amplitudes in mV above the PR segment."""

    mv: np.ndarray  # (samples, 12), from BEFORE_S ahead of the QRS onset
    sample_rate_hz: int
    qrs_ms: float
    pr_ms: float  # NaN without P waves
    p_ms: float
    qt_ms: float
    t_peak_ms: float  # from the QRS onset
    rr_s: np.ndarray
    is_female: bool
    age_years: float

    def at(self, ms: float) -> int:
        """The sample at `ms` from the QRS onset."""
        return round((BEFORE_S + 1e-3 * ms) * self.sample_rate_hz)

    def part(self, from_ms: float, to_ms: float) -> np.ndarray:
        """The beat between two times from the QRS onset, `(samples, 12)`."""
        return self.mv[self.at(from_ms) : self.at(to_ms) + 1]

    @property
    def qrs(self) -> np.ndarray:
        """The QRS complex."""
        return self.part(0, self.qrs_ms)

    @property
    def axis_deg(self) -> float:
        """The frontal QRS axis, from net areas in I and aVF."""
        area = self.qrs.sum(0)
        return float(np.degrees(np.arctan2(2 / np.sqrt(3) * area[AVF], area[I])))

    @property
    def qtcf_ms(self) -> float:
        """QT after Fridericia."""
        return self.qt_ms / float(np.cbrt(self.rr_s.mean()))

    def q_wave(self, lead: int) -> tuple[float, float]:
        """Depth (mV, positive) and duration (ms) of the initial negative deflection; of all of a QS complex."""
        qrs = self.qrs[:, lead]
        start = int(np.argmax(np.abs(qrs) > 0.02))
        if qrs[start] > -0.02:
            return 0.0, 0.0
        after = np.flatnonzero(qrs[start:] > 0)
        end = start + (after[0] if len(after) else len(qrs) - start)
        return float(-qrs[start:end].min()), 1e3 * (end - start) / self.sample_rate_hz


def beats_of(
    clean_mv: np.ndarray,
    sample_rate_hz: int,
    fiducials_s: np.ndarray,
    beat: np.ndarray,
    is_female: bool,
    age_years: float,
) -> Beats | None:
    """Averages the conducted beats of a clean record `(samples, 12)`; None where it has none.

    `fiducials_s` `(slots, 3, 3)` and `beat` `(slots,)` as in `annotation.Annotated`.
    """
    onset_s, seconds = fiducials_s[:, 1, 0], len(clean_mv) / sample_rate_hz
    conducted = np.isin(beat, (Beat.NORMAL, Beat.JUNCTIONAL, Beat.PACED))
    whole = conducted & (onset_s > BEFORE_S) & (onset_s + AFTER_S < seconds)
    if not whole.any():
        return None
    offsets = np.arange(round((BEFORE_S + AFTER_S) * sample_rate_hz)) - round(BEFORE_S * sample_rate_hz)
    windows = np.round(onset_s[whole] * sample_rate_hz).astype(int)[:, None] + offsets
    mv = clean_mv[windows]
    first, last = (round((BEFORE_S - before) * sample_rate_hz) for before in BASELINE_S)
    mv = np.median(mv - mv[:, first : last + 1].mean(1, keepdims=True), axis=0)

    def mean_ms(to: tuple[int, int], start: tuple[int, int]) -> float:
        spans = fiducials_s[whole][:, to[0], to[1]] - fiducials_s[whole][:, start[0], start[1]]
        spans = spans[np.isfinite(spans)]
        return 1e3 * float(spans.mean()) if len(spans) else np.nan

    every = np.sort(onset_s[(beat > 0) & (onset_s > 0) & (onset_s < seconds)])
    return Beats(
        mv=mv,
        sample_rate_hz=sample_rate_hz,
        qrs_ms=mean_ms((1, 2), (1, 0)),
        pr_ms=mean_ms((1, 0), (0, 0)),
        p_ms=mean_ms((0, 2), (0, 0)),
        qt_ms=mean_ms((2, 2), (1, 0)),
        t_peak_ms=mean_ms((2, 1), (1, 0)),
        rr_s=np.diff(every) if len(every) > 1 else np.array([1.0]),
        is_female=is_female,
        age_years=age_years,
    )


def _two(leads: np.ndarray, pairs: tuple[tuple[int, int], ...]) -> bool:
    """Whether two contiguous leads have it, given which leads `(12,)` do."""
    return any(leads[a] and leads[b] for a, b in pairs)


def _st_limit(beats: Beats) -> np.ndarray:
    """The elevation of the J point that counts in each lead, `(12,)` in mV (UDMI)."""
    limit = np.full(12, 0.1)
    limit[[V2, V3]] = 0.15 if beats.is_female else 0.2 if beats.age_years >= 40 else 0.25
    return limit


def _elevated_in_block(beats: Beats, at_j: np.ndarray) -> np.ndarray:
    """Leads `(12,)` whose ST elevation a bundle branch block does not explain: 0.1 mV in the direction of the QRS
    complex, or against it a quarter of the complex's depth (Smith et al., Ann Emerg Med 60:766, 2012, after Sgarbossa).
    """
    against = beats.qrs.sum(0) < 0
    depth = np.maximum(-beats.qrs.min(0), 1e-6)
    return (at_j >= 0.1) & (~against | (at_j >= 0.25 * depth))


def _pathological_q(beats: Beats) -> np.ndarray:
    """Leads `(12,)` with a Q wave of an old infarction: 30 ms and 0.1 mV, in V2 and V3 20 ms (UDMI)."""
    waves = np.array([beats.q_wave(lead) for lead in range(12)])
    shortest = np.where(np.isin(np.arange(12), (V2, V3)), 20.0, 30.0)
    return (waves[:, 0] >= 0.1) & (waves[:, 1] >= shortest)


def _bundle_branch(beats: Beats, is_preexcited: bool) -> Morphology:
    """Complete right or left bundle branch block (AHA), or NORMAL for neither."""
    if beats.qrs_ms < 120 or is_preexcited:
        return Morphology.NORMAL
    late = beats.part(beats.qrs_ms - 60, beats.qrs_ms - 10)
    # The time by which the R wave of V5 and V6 has turned down, its notch included.
    chest = beats.qrs[:, [V5, V6]].mean(1)
    peak_ms = 1e3 * np.flatnonzero(chest >= 0.7 * chest.max())[-1] / beats.sample_rate_hz
    no_q = max(beats.q_wave(lead)[0] for lead in (I, V6)) < 0.1
    if beats.qrs[:, V1].sum() < 0 and beats.qrs[:, V6].sum() > 0 and peak_ms >= 60 and no_q:
        return Morphology.LBBB
    is_right = late[:, V1].max() >= 0.1 and min(late[:, I].min(), late[:, V6].min()) <= -0.05
    return Morphology.RBBB if is_right else Morphology.NORMAL


def _enlarged_atria(beats: Beats) -> dict[Morphology, bool]:
    """Whether the P wave meets the criteria of a large left atrium, and of a large right one."""
    p = beats.part(-beats.pr_ms, -beats.pr_ms + beats.p_ms) - beats.mv[beats.at(-beats.pr_ms)]
    terminal = p[len(p) // 3 :, V1]
    deep_ms = 1e3 * (terminal <= -0.05).sum() / beats.sample_rate_hz
    return {
        Morphology.LEFT_ATRIAL_ENLARGEMENT: bool(beats.p_ms >= 120 and terminal.min() <= -0.1 and deep_ms >= 40),
        Morphology.RIGHT_ATRIAL_ENLARGEMENT: bool(p[:, II].max() > 0.25),
    }


def morphologies_met(beats: Beats, rhythm: Rhythm) -> set[Morphology]:
    """The morphologies whose criteria the beat meets.

    ST and T changes secondary to a wide QRS complex do not count, nor do those under flutter waves, ST depression under
    a P wave that follows the QRS complex, or P waves that do not come from the sinus node.
    """
    r, s = np.maximum(beats.qrs.max(0), 0), np.maximum(-beats.qrs.min(0), 0)
    is_preexcited = beats.pr_ms < 120 and beats.qrs_ms >= 115 and rhythm not in WITHOUT_P_WAVE
    # What pre-excitation does to the complex and, secondarily, to ST and T is no finding of its own.
    narrow, axis = beats.qrs_ms < 120 and not is_preexcited, beats.axis_deg
    block = _bundle_branch(beats, is_preexcited)
    at_j = beats.mv[beats.at(beats.qrs_ms + AFTER_J_MS)]
    segment = beats.part(beats.qrs_ms + 40, beats.qrs_ms + 80).mean(0)
    limit = _st_limit(beats)
    is_left = narrow and r[AVL] + s[V3] > (2.0 if beats.is_female else 2.8)
    # A notch or slur that ends the QRS complex falls off at once; an infarction's segment stays up. The limits hold
    # without left ventricular hypertrophy and bundle branch block (UDMI), and without pre-excitation.
    elevated = (at_j >= limit) & (segment >= 0.7 * limit) & (not is_left) & (not is_preexcited)
    if block is not Morphology.NORMAL:
        elevated = _elevated_in_block(beats, at_j)
    slurred = (at_j >= 0.1) & (segment < 0.7 * at_j)
    t = beats.part(beats.qrs_ms + 80, min(beats.qt_ms, 1e3 * AFTER_S - 10))
    inverted = (t.min(0) <= -0.1) & (np.abs(t.min(0)) > t.max(0)) & narrow
    inverted[[III, V1]] = False
    q = _pathological_q(beats) & (not is_preexcited)
    inferior_q = _two(q, INFERIOR)
    # With a vertical axis a Q wave in I and aVL is the S wave of a normal beat.
    lateral = LATERAL if axis < 90 else LATERAL[1:]
    is_right = r[V1] >= 0.7 and r[V1] > s[V1] and axis > 90 and narrow
    found = {
        block: True,
        # rS, not QS, in the inferior leads: with Q waves the axis is the scar's.
        Morphology.LAFB: narrow and -90 <= axis <= -45 and s[III] > r[III] and r[AVL] > s[AVL] and not inferior_q,
        # A right axis is the fascicle's where the right ventricle's mass does not explain it.
        Morphology.LPFB: narrow and 90 <= axis <= 180 and s[I] > r[I] and r[III] > s[III] and not is_right,
        Morphology.WPW: is_preexcited,
        Morphology.STEMI_ANTERIOR: _two(elevated, ANTERIOR),
        Morphology.STEMI_INFERIOR: _two(elevated, INFERIOR),
        Morphology.STEMI_LATERAL: _two(elevated, LATERAL),
        Morphology.ISCHAEMIA: narrow and _two(segment <= -0.05, CONTIGUOUS) and not _two(elevated, CONTIGUOUS),
        # QS in V1 to V3 is left bundle branch block's own, and a large right ventricle's.
        Morphology.OLD_MI_ANTERIOR: _two(q, ANTERIOR) and block is not Morphology.LBBB and not is_right,
        Morphology.OLD_MI_INFERIOR: inferior_q,
        Morphology.OLD_MI_LATERAL: _two(q, lateral),
        Morphology.LVH: is_left,
        Morphology.RVH: is_right,
        Morphology.LONG_QT: beats.qtcf_ms >= (460 if beats.is_female else 450) and narrow,
        Morphology.T_INVERSION: _two(inverted, CONTIGUOUS),
        Morphology.EARLY_REPOLARISATION: narrow and _two(slurred, (*LATERAL, *INFERIOR)),
        Morphology.LOW_VOLTAGE: bool(((r + s)[:6] < 0.5).all() and ((r + s)[6:] < 1.0).all()),
    }
    if beats.pr_ms < 0:  # a P wave sent back lies on the ST segment
        found[Morphology.ISCHAEMIA] = False
    if rhythm in FLUTTER:
        found |= dict.fromkeys(OF_REPOLARISATION, False)
    if 0 < beats.pr_ms < 1e3 * BEFORE_S and rhythm not in (*WITHOUT_P_WAVE, Rhythm.PACED_ATRIAL):
        found |= _enlarged_atria(beats)
    return {morphology for morphology, is_met in found.items() if is_met} - {Morphology.NORMAL}


def rhythms_met(beats: Beats, rhythm: Rhythm) -> set[Rhythm]:
    """Of the rhythms that are a matter of rate or interval, those met; others are what they were rendered as."""
    rate_bpm = 60 / beats.rr_s.mean()
    sinus = (Rhythm.SINUS, Rhythm.SINUS_BRADYCARDIA, Rhythm.SINUS_TACHYCARDIA, Rhythm.SINUS_ARRHYTHMIA)
    if rhythm not in (*sinus, Rhythm.AV_BLOCK_1):
        return {rhythm}
    found = {
        Rhythm.SINUS_BRADYCARDIA: rate_bpm < 60,
        Rhythm.SINUS_TACHYCARDIA: rate_bpm > 100,
        Rhythm.SINUS_ARRHYTHMIA: np.ptp(beats.rr_s) > 0.12 and np.ptp(beats.rr_s) > 0.1 * beats.rr_s.mean(),
        Rhythm.AV_BLOCK_1: beats.pr_ms > 200,
    }
    return {member for member, is_met in found.items() if is_met} or {Rhythm.SINUS}


def met(beats: Beats | None, rhythm: Rhythm) -> tuple[Condition, ...]:
    """All criteria that a record meets, rhythms first; without a conducted beat only its rhythm."""
    if beats is None:
        return (rhythm,)
    shapes = set() if rhythm in (Rhythm.PACED_VENTRICULAR, Rhythm.PACED_DUAL) else morphologies_met(beats, rhythm)
    return (*sorted(rhythms_met(beats, rhythm)), *sorted(shapes))


def is_normal(rhythm: Rhythm, shape: Morphology, found: tuple[Condition, ...]) -> bool:
    """Whether a record is normal: nothing intended, and no criterion met but a slow or breathing sinus rhythm."""
    variants = {Rhythm.SINUS, Rhythm.SINUS_BRADYCARDIA, Rhythm.SINUS_ARRHYTHMIA}
    return rhythm is Rhythm.SINUS and shape is Morphology.NORMAL and set(found) <= variants
