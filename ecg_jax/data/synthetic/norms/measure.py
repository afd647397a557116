"""What a cardiologist's program measures on a record: amplitudes by lead, intervals, axes, variability, T shape.

Amplitudes are those of the median conducted beat of the clean signal, above the level of the PR segment; the limits of
its waves are the record's own fiducials. P waves are measured from their onset.
"""

from __future__ import annotations

import numpy as np

from ecg_jax.data.ecg import INDEPENDENT_LEAD_INDICES, LEADS
from ecg_jax.data.synthetic.annotate import criteria
from ecg_jax.data.synthetic.annotate.annotation import Annotated
from ecg_jax.data.synthetic.physiology.kernels import AVF, AVL, V1, V3, V4, V5, V6, I
from ecg_jax.data.synthetic.physiology.rhythm import Beat

_P_LEADS, _J_LEADS = ("I", "II", "V1", "V3"), ("II", "V2", "V3", "V5")
_R_LEADS = ("I", "II", "III", "V1", "V2", "V3", "V4", "V5", "V6")
_S_LEADS, _T_LEADS = _R_LEADS[3:], ("II", *_R_LEADS[3:])

#: Every measure and its unit.
MEASURES: dict[str, str] = {
    "heart_rate_bpm": "1/min",
    "p_ms": "ms",
    "pr_ms": "ms",
    "qrs_ms": "ms",
    "qtcf_ms": "ms",
    "jtcf_ms": "ms",
    "t_peak_end_ms": "ms",
    "p_axis_deg": "deg",
    "qrs_axis_deg": "deg",
    "t_axis_deg": "deg",
    "qrs_t_angle_deg": "deg",
    **{f"p_{lead.lower()}_mv": "mV" for lead in _P_LEADS},
    **{f"r_{lead.lower()}_mv": "mV" for lead in _R_LEADS},
    **{f"s_{lead.lower()}_mv": "mV" for lead in _S_LEADS},
    **{f"j_{lead.lower()}_mv": "mV" for lead in _J_LEADS},
    "j_male_pattern": "share",
    **{f"t_{lead.lower()}_mv": "mV" for lead in _T_LEADS},
    "sokolow_lyon_mv": "mV",
    "cornell_mv": "mV",
    "t_skewness_v5": "1",
    "t_kurtosis_v5": "1",
    "t_slope_v5_uv_per_ms": "µV/ms",
    "t_loop_ratio_percent": "%",
    "rmssd_ms": "ms",
    "sdnn_ms": "ms",
}

#: Leads I, II, V1–V6 to Frank's X, Y, Z by regression: Kors et al., Eur Heart J 11:1083, 1990.
KORS = np.array(
    [
        [0.38, -0.07, -0.13, 0.05, -0.01, 0.14, 0.06, 0.54],
        [-0.07, 0.93, 0.06, -0.02, -0.05, 0.06, -0.17, 0.13],
        [0.11, -0.23, -0.43, -0.06, -0.14, -0.20, -0.11, 0.31],
    ]
)
#: Surawicz & Parikh 2002: the male pattern has a J point this high in at least one of V1–V4.
MALE_PATTERN_MV = 0.1
#: A flatter T wave has no shape.
LEAST_T_MV = 0.05


def measure(records: Annotated) -> dict[str, np.ndarray]:
    """Every measure of `MEASURES`, each `(B,)`; NaN where a record has no conducted beat or no such wave."""
    measured = [_of_record(records, row) for row in range(len(records.clean_mv))]
    return {name: np.array([found.get(name, np.nan) for found in measured]) for name in MEASURES}


def _of_record(records: Annotated, row: int) -> dict[str, float]:
    beats = criteria.beats_of(
        records.clean_mv[row],
        records.sample_rate_hz,
        records.fiducials_s[row],
        records.beat[row],
        bool(records.patient["is_female"][row] >= 0.5),
        float(records.patient["age_years"][row]),
    )
    seconds = records.clean_mv.shape[1] / records.sample_rate_hz
    found = variability(records.fiducials_s[row, :, 1, 0], records.beat[row], seconds)
    if beats is None:
        return found
    fiducials_ms = 1e3 * (records.fiducials_s[row, :, 2, 0] - records.fiducials_s[row, :, 1, 0])
    conducted = np.isin(records.beat[row], (Beat.NORMAL, Beat.JUNCTIONAL, Beat.PACED)) & np.isfinite(fiducials_ms)
    t_onset_ms = float(np.median(fiducials_ms[conducted])) if conducted.any() else beats.qrs_ms
    return found | _intervals(beats) | _amplitudes(beats) | _axes(beats) | _t_shape(beats, t_onset_ms)


def variability(onset_s: np.ndarray, beat: np.ndarray, seconds: float) -> dict[str, float]:
    """Rate, RMSSD and SDNN (with n - 1) of the intervals between neighbouring normal beats inside the record."""
    inside = (beat > 0) & (onset_s > 0) & (onset_s < seconds)
    order = np.argsort(onset_s[inside])
    onset_ms, normal = 1e3 * onset_s[inside][order], (beat[inside] == Beat.NORMAL)[order]
    rr_ms, counts = np.diff(onset_ms), normal[1:] & normal[:-1]
    pairs = counts[1:] & counts[:-1]
    if counts.sum() < 3 or not pairs.any():
        return {}
    steps = np.diff(rr_ms)[pairs]
    return {
        "heart_rate_bpm": 6e4 / float(rr_ms[counts].mean()),
        "rmssd_ms": float(np.sqrt((steps**2).mean())),
        "sdnn_ms": float(rr_ms[counts].std(ddof=1)),
    }


def _intervals(beats: criteria.Beats) -> dict[str, float]:
    return {
        "p_ms": beats.p_ms,
        "pr_ms": beats.pr_ms,
        "qrs_ms": beats.qrs_ms,
        "qtcf_ms": beats.qtcf_ms,
        "jtcf_ms": beats.qtcf_ms - beats.qrs_ms,
        "t_peak_end_ms": beats.qt_ms - beats.t_peak_ms,
    }


def _p_wave(beats: criteria.Beats) -> np.ndarray | None:
    """The P wave above its onset, `(samples, 12)`."""
    if not 0 < beats.pr_ms < 1e3 * criteria.BEFORE_S:
        return None
    return beats.part(-beats.pr_ms, -beats.pr_ms + beats.p_ms) - beats.mv[beats.at(-beats.pr_ms)]


def _t_wave(beats: criteria.Beats, from_ms: float) -> np.ndarray:
    """What lies between a time and the end of the T wave, `(samples, 12)`."""
    end_ms = min(beats.qt_ms, 1e3 * criteria.AFTER_S - 4.0)
    return beats.part(min(from_ms, end_ms - 40.0), end_ms)


def _amplitudes(beats: criteria.Beats) -> dict[str, float]:
    """Peaks by lead. S is the deepest point after the R wave, of a QS complex its depth; T is of either sign."""
    found: dict[str, float] = {}
    p, qrs, t = _p_wave(beats), beats.qrs, _t_wave(beats, beats.qrs_ms)
    r, r_at = np.maximum(qrs.max(0), 0.0), qrs.argmax(0)
    s = np.array([max(-qrs[r_at[lead] if r[lead] > 0.02 else 0 :, lead].min(), 0.0) for lead in range(12)])
    at_j = beats.mv[beats.at(beats.qrs_ms)]
    # The T wave, past the J point's own slope.
    t_peak = t[len(t) // 4 :]
    t_mv = np.take_along_axis(t_peak, np.abs(t_peak).argmax(0)[None], 0)[0]
    waves = {"r": (_R_LEADS, r), "s": (_S_LEADS, s), "j": (_J_LEADS, at_j), "t": (_T_LEADS, t_mv)}
    if p is not None:
        waves["p"] = (_P_LEADS, np.maximum(p.max(0), 0.0))
    for wave, (leads, values) in waves.items():
        found |= {f"{wave}_{lead.lower()}_mv": float(values[LEADS.index(lead)]) for lead in leads}
    return found | {
        "j_male_pattern": float((at_j[V1 : V4 + 1] >= MALE_PATTERN_MV).any()),
        "sokolow_lyon_mv": float(s[V1] + max(r[V5], r[V6])),
        "cornell_mv": float(r[AVL] + s[V3]),
    }


def _axes(beats: criteria.Beats) -> dict[str, float]:
    """Frontal axes from net areas in I and aVF, and the angle in space between the mean QRS and T vectors."""
    waves = {"p": _p_wave(beats), "qrs": beats.qrs, "t": _t_wave(beats, beats.qrs_ms)}
    area = {name: wave.sum(0) for name, wave in waves.items() if wave is not None}
    found = {
        f"{name}_axis_deg": float(np.degrees(np.arctan2(2 / np.sqrt(3) * of[AVF], of[I]))) for name, of in area.items()
    }
    qrs, t = (KORS @ area[name][list(INDEPENDENT_LEAD_INDICES)] for name in ("qrs", "t"))
    cosine = qrs @ t / max(float(np.linalg.norm(qrs) * np.linalg.norm(t)), 1e-12)
    return found | {"qrs_t_angle_deg": float(np.degrees(np.arccos(np.clip(cosine, -1.0, 1.0))))}


def _t_shape(beats: criteria.Beats, t_onset_ms: float) -> dict[str, float]:
    """Moments of V5's T wave as a distribution over time, its steepest descent, and how open the loop is.

    The moments are of the wave above the line from its onset to its end. The loop's ratio is that of the second to the
    first singular value of the eight leads from the J point to the end of T (QT Guard; called eigenvalues in Okin et
    al. 2002 and Priori et al. 1997).
    """
    loop, step_ms = _t_wave(beats, beats.qrs_ms)[:, list(INDEPENDENT_LEAD_INDICES)], 1e3 / beats.sample_rate_hz
    singular = np.linalg.svd(loop, compute_uv=False)
    found = {"t_loop_ratio_percent": float(100.0 * singular[1] / singular[0])}
    t = _t_wave(beats, t_onset_ms)[:, V5]
    above = t - np.linspace(t[0], t[-1], len(t))
    if above.max() < LEAST_T_MV:
        return found
    weight, time_ms = np.maximum(above, 0.0), np.arange(len(t)) * step_ms
    mean = np.average(time_ms, weights=weight)
    z = (time_ms - mean) / np.sqrt(np.average((time_ms - mean) ** 2, weights=weight))
    return found | {
        "t_skewness_v5": float(np.average(z**3, weights=weight)),
        "t_kurtosis_v5": float(np.average(z**4, weights=weight) - 3.0),
        "t_slope_v5_uv_per_ms": float(1e3 * np.diff(t).min() / step_ms),
    }
