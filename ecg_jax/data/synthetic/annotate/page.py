"""A synthetic record as a page for a reader: what it shows in words, what was measured on it, and its sheet."""

from __future__ import annotations

import dataclasses
import textwrap

import numpy as np
from matplotlib.figure import Figure

from ecg_jax.data import ecg_plot
from ecg_jax.data.ecg import LEADS
from ecg_jax.data.synthetic.annotate.annotation import Annotated
from ecg_jax.data.synthetic.physiology.conditions import Condition, Morphology, Rhythm

NOTE = "simulated ECG, not a patient"
_COLUMN_CHARACTERS = 48  # that fit beside the two other columns of the header
#: Two tables: as keys of one, `Rhythm.SINUS` and `Morphology.NORMAL` would be equal (both are 0).
_RHYTHMS = {
    Rhythm.SINUS: "Sinus rhythm",
    Rhythm.SINUS_BRADYCARDIA: "Sinus bradycardia",
    Rhythm.SINUS_TACHYCARDIA: "Sinus tachycardia",
    Rhythm.SINUS_ARRHYTHMIA: "Sinus arrhythmia",
    Rhythm.ATRIAL_FIBRILLATION: "Atrial fibrillation",
    Rhythm.ATRIAL_FLUTTER: "Atrial flutter, fixed block",
    Rhythm.ATRIAL_FLUTTER_VARIABLE: "Atrial flutter, variable block",
    Rhythm.ATRIAL_PREMATURE: "Atrial premature beats",
    Rhythm.ATRIAL_COUPLETS: "Atrial couplets",
    Rhythm.ATRIAL_RUNS: "Atrial runs",
    Rhythm.ATRIAL_BIGEMINY: "Atrial bigeminy",
    Rhythm.ATRIAL_TRIGEMINY: "Atrial trigeminy",
    Rhythm.VENTRICULAR_PREMATURE: "Ventricular premature beats",
    Rhythm.VENTRICULAR_COUPLETS: "Ventricular couplets",
    Rhythm.VENTRICULAR_RUNS: "Ventricular runs",
    Rhythm.VENTRICULAR_BIGEMINY: "Ventricular bigeminy",
    Rhythm.VENTRICULAR_TRIGEMINY: "Ventricular trigeminy",
    Rhythm.AV_BLOCK_1: "First-degree AV block",
    Rhythm.AV_BLOCK_2_MOBITZ_1: "Second-degree AV block, Mobitz I",
    Rhythm.AV_BLOCK_2_MOBITZ_2: "Second-degree AV block, Mobitz II",
    Rhythm.AV_BLOCK_2_TO_1: "Second-degree AV block, 2:1",
    Rhythm.AV_BLOCK_3: "Third-degree AV block",
    Rhythm.JUNCTIONAL: "Junctional rhythm",
    Rhythm.PACED_ATRIAL: "Atrial pacing",
    Rhythm.PACED_VENTRICULAR: "Ventricular pacing",
    Rhythm.PACED_DUAL: "Dual-chamber pacing",
}
_MORPHOLOGIES = {
    Morphology.NORMAL: "Normal morphology",
    Morphology.RBBB: "Right bundle branch block",
    Morphology.LBBB: "Left bundle branch block",
    Morphology.LAFB: "Left anterior fascicular block",
    Morphology.LPFB: "Left posterior fascicular block",
    Morphology.WPW: "Wolff-Parkinson-White pattern",
    Morphology.STEMI_ANTERIOR: "Anterior STEMI",
    Morphology.STEMI_INFERIOR: "Inferior STEMI",
    Morphology.STEMI_LATERAL: "Lateral STEMI",
    Morphology.ISCHAEMIA: "Ischaemia, ST depression",
    Morphology.OLD_MI_ANTERIOR: "Old anterior infarction",
    Morphology.OLD_MI_INFERIOR: "Old inferior infarction",
    Morphology.OLD_MI_LATERAL: "Old lateral infarction",
    Morphology.LVH: "Left ventricular hypertrophy with strain",
    Morphology.RVH: "Right ventricular hypertrophy",
    Morphology.LEFT_ATRIAL_ENLARGEMENT: "Left atrial enlargement",
    Morphology.RIGHT_ATRIAL_ENLARGEMENT: "Right atrial enlargement",
    Morphology.LONG_QT: "Long QT",
    Morphology.T_INVERSION: "T-wave inversion",
    Morphology.EARLY_REPOLARISATION: "Early repolarisation",
    Morphology.LOW_VOLTAGE: "Low voltage",
}


@dataclasses.dataclass(frozen=True)
class Measurements:
    """What a recorder prints of one record; NaN where it cannot be measured. Intervals are those of the main beat."""

    rate_bpm: float  # of the ventricles
    pr_ms: tuple[float, float]  # shortest and longest
    qrs_ms: float
    qt_ms: float
    qtcf_ms: float
    qrs_axis_deg: float

    def lines(self) -> tuple[str, ...]:
        """One line each, a dash for what cannot be measured."""
        shortest, longest = self.pr_ms
        pr = f"{_whole(shortest)}–{_whole(longest)}" if longest - shortest > 20 else _whole(longest)
        return (
            f"Ventricular rate  {_whole(self.rate_bpm)} /min",
            f"PR  {pr} ms",
            f"QRS  {_whole(self.qrs_ms)} ms",
            f"QT / QTcF  {_whole(self.qt_ms)} / {_whole(self.qtcf_ms)} ms",
            f"QRS axis  {_whole(self.qrs_axis_deg)}°",
        )


def in_words(condition: Condition) -> str:
    """A condition as a reader calls it."""
    return _RHYTHMS[condition] if isinstance(condition, Rhythm) else _MORPHOLOGIES[condition]


def measure(annotated: Annotated, row: int) -> Measurements:
    """Measures one record on its true fiducials and its clean signal: medians over the beats of the commonest kind.

    The axis is that of the net areas of QRS in I and aVF (Rijnbeek et al., J Electrocardiol 47:914, 2014); QTcF is
    Fridericia's. In complete AV block a P wave has nothing to do with the QRS complex of its slot, so there is no PR.
    """
    fiducials_s, beat = annotated.fiducials_s[row], annotated.beat[row]
    peaks_s = np.sort(fiducials_s[:, 1, 1])
    peaks_s = peaks_s[(peaks_s >= 0) & (peaks_s < annotated.ecg_mv.shape[1] / annotated.sample_rate_hz)]
    rr_s = float(np.ptp(peaks_s)) / (len(peaks_s) - 1) if len(peaks_s) > 1 else np.nan
    codes, counts = np.unique(beat[(beat > 0) & ~np.isnan(fiducials_s[:, 1, 1])], return_counts=True)
    main = fiducials_s[beat == (codes[counts.argmax()] if len(codes) else -1)]
    pr_s = main[:, 1, 0] - main[:, 0, 0]
    pr_s = pr_s[pr_s > 0] if annotated.rhythm[row] != Rhythm.AV_BLOCK_3 else pr_s[:0]  # < 0: retrograde
    qt_s = _median(main[:, 2, 2] - main[:, 1, 0])
    return Measurements(
        rate_bpm=60.0 / rr_s,
        pr_ms=(1e3 * float(pr_s.min()), 1e3 * float(pr_s.max())) if len(pr_s) else (np.nan, np.nan),
        qrs_ms=1e3 * _median(main[:, 1, 2] - main[:, 1, 0]),
        qt_ms=1e3 * qt_s,
        qtcf_ms=1e3 * qt_s / float(np.cbrt(rr_s)),
        qrs_axis_deg=_axis_deg(annotated, row, main[:, 1]),
    )


def title(annotated: Annotated, row: int) -> str:
    """What one record shows, in words."""
    rhythm, morphology = Rhythm(int(annotated.rhythm[row])), Morphology(int(annotated.morphology[row]))
    if morphology is Morphology.NORMAL:
        return in_words(rhythm)
    return f"{in_words(morphology)}, {_lower(in_words(rhythm))}"


def page(annotated: Annotated, row: int, *, origin: str, with_fiducials: bool = False) -> Figure:
    """The standard sheet of one record; `origin` (for example tier, seed and index) stands below its patient.

    Raises ValueError as `sheet.draw`.
    """
    age = f"{float(annotated.patient['age_years'][row]):.0f} years"
    sex = "female" if annotated.patient["is_female"][row] >= 0.5 else "male"
    met = ", ".join(in_words(condition) for condition in annotated.met[row])
    shown = [f"SCP  {', '.join(annotated.scp_codes[row]) or '–'}"]
    shown += textwrap.wrap(f"Criteria met:  {met or '–'}", _COLUMN_CHARACTERS, max_lines=3, placeholder=" …")
    if Rhythm(int(annotated.rhythm[row])) in (Rhythm.PACED_ATRIAL, Rhythm.PACED_VENTRICULAR, Rhythm.PACED_DUAL):
        shown.append(f"Pacing spikes  {'visible' if annotated.spikes_visible[row] else 'not visible'}")
    return ecg_plot.draw(
        annotated.ecg_mv[row],
        annotated.sample_rate_hz,
        title=title(annotated, row),
        header=((f"{age}, {sex}", origin), measure(annotated, row).lines(), shown),
        note=NOTE,
        fiducials_s=annotated.fiducials_s[row] if with_fiducials else None,
    )


def _axis_deg(annotated: Annotated, row: int, qrs_s: np.ndarray) -> float:
    """The frontal axis from the net areas between onset and offset (beats, 3), above the level at the onset."""
    clean_mv, rate_hz = annotated.clean_mv[row], annotated.sample_rate_hz
    area = np.zeros(2)
    for onset_s, _, offset_s in qrs_s:
        if onset_s >= 0 and offset_s * rate_hz < len(clean_mv):
            complex_mv = clean_mv[round(onset_s * rate_hz) : round(offset_s * rate_hz) + 1]
            area += (complex_mv - complex_mv[0]).sum(0)[[LEADS.index("I"), LEADS.index("aVF")]]
    lead_i, lead_avf = area
    return float(np.degrees(np.arctan2(2.0 / np.sqrt(3.0) * lead_avf, lead_i))) if area.any() else np.nan


def _median(values: np.ndarray) -> float:
    values = values[~np.isnan(values)]
    return float(np.median(values)) if len(values) else np.nan


def _whole(value: float) -> str:
    return "–" if np.isnan(value) else f"{value:.0f}"


def _lower(text: str) -> str:
    return text[0].lower() + text[1:]
