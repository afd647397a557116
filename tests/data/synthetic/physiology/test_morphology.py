"""Shapes of the beats: tables, fiducials, and every morphology measured against its published criterion."""

import functools
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.signal import butter, sosfiltfilt

from ecg_jax.data.synthetic.physiology import kernels, leads, morphology, morphology_table, wide_beats
from ecg_jax.data.synthetic.physiology.conditions import Conditions, Morphology, Rhythm, afflicted
from ecg_jax.data.synthetic.physiology.kernels import AVF, AVL, II, III, V1, V2, V3, V4, V5, V6, I
from ecg_jax.data.synthetic.physiology.morphology import QRS, P, T
from ecg_jax.data.synthetic.physiology.patient import ADULT, sample_patient

RATE_HZ, ONSET = 500, 1500  # the middle beat's QRS complex begins at this sample
DRAWS = 100
FILTER = butter(4, [0.5, 40.0], "bandpass", fs=RATE_HZ, output="sos")
INFERIOR, LATERAL, CHEST = [(II, AVF), (AVF, III)], [(I, AVL), (V5, V6)], [(V1, V2), (V2, V3), (V3, V4)]
PAIRS = [*INFERIOR, *LATERAL, *CHEST, (I, II), (V4, V5)]


def _beat(row: jax.Array, code: jax.Array, rhythm: jax.Array) -> dict:
    """One record: its patient, banks and fiducials, and 6 s of a regular rhythm through a varied lead field."""
    rows = row.reshape(6, 128)
    conditions = Conditions(rhythm, code)
    patient = afflicted(rows[1], sample_patient(rows[0], ADULT), conditions)
    waves = morphology.sample_waves(rows[2], patient, ADULT, conditions)
    wide = wide_beats.sample_wide(rows[3], patient, conditions)
    size = jnp.linalg.norm(leads.LEAD_FIELD, axis=1, keepdims=True) / jnp.sqrt(3.0)
    normal = jax.scipy.special.ndtri(0.002 + 0.996 * rows[4:].reshape(-1)[: 27 + 144])
    field = patient.body_gain * (leads.LEAD_FIELD + ADULT.lead_field_sd * size * normal[:27].reshape(9, 3))
    potential = waves.vector_mv @ field.T
    rms = jnp.sqrt((potential**2).mean(-1, keepdims=True))
    potential = potential + ADULT.nondipolar_fraction * rms * normal[27:].reshape(16, 9)
    weights = leads.twelve_leads(potential @ leads.ELECTRODES_TO_LEADS.T)
    stretch = jnp.cbrt(patient.mean_rr_s)
    t_peak_s = 1e-3 * (patient.qtcf_ms - patient.t_peak_to_end_ms) * stretch
    time_s = (jnp.arange(6 * RATE_HZ) - ONSET) / RATE_HZ
    ecg = jnp.zeros((len(time_s), 12))
    for beat in range(-5, 6):  # a complex cut by an end would ring far into the record
        from_onset = time_s - beat * patient.mean_rr_s
        events = ((P, from_onset + 1e-3 * patient.pr_ms), (QRS, from_onset), (T, (from_onset - t_peak_s) / stretch))
        for part, distance_s in events:
            square = ((distance_s[:, None] - waves.centre_s[part]) / waves.width_s[part]) ** 2
            if part is T:
                square = square.at[:, kernels.ST_IN_T].set(square[:, kernels.ST_IN_T] ** 2)
            ecg = ecg + jnp.exp(-0.5 * square) @ weights[part]
    return {
        "patient": patient,
        "waves": waves,
        "wide": wide,
        "fiducials": morphology.fiducials(waves, patient),
        "wide_fiducials": wide_beats.wide_fiducials(wide, patient),
        "t_peak_s": t_peak_s,
        "ecg": ecg,
    }


_beats = jax.jit(jax.vmap(_beat, (0, None, None)))


@functools.cache
def _sample(code: Morphology, rhythm: Rhythm = Rhythm.SINUS) -> dict:
    rows = jax.random.uniform(jax.random.key(100 * rhythm + code), (DRAWS, 6 * 128))
    sample = jax.tree.map(np.asarray, _beats(rows, jnp.int32(code), jnp.int32(rhythm)))
    return {**sample, "ecg": sosfiltfilt(FILTER, sample["ecg"], axis=1)}


def _pattern(lead: np.ndarray) -> str:
    """Signs of the deflections above 30 µV, without the slope of the ST segment on which the complex ends."""
    sign = np.where(lead > 0.03, "+", np.where(lead < -0.03, "-", " "))
    runs = [run for run in np.split(np.arange(len(sign)), np.flatnonzero(sign[1:] != sign[:-1]) + 1)]
    runs = [run for run in runs if sign[run[0]] != " "]
    at_end = runs and runs[-1][-1] == len(lead) - 1 and abs(lead[runs[-1]]).max() < abs(lead[-1]) + 0.02
    return "".join(sign[run[0]] for run in (runs[:-1] if at_end and len(runs) > 1 else runs))


def _measure(sample: dict, i: int) -> SimpleNamespace:
    """What a reader measures on the middle beat, mV and ms, by lead."""
    patient = jax.tree.map(lambda leaf: leaf[i], sample["patient"])
    fiducials = jax.tree.map(lambda leaf: leaf[i], sample["fiducials"])
    ecg, t_peak_s = sample["ecg"][i], sample["t_peak_s"][i]

    def at(seconds: float) -> int:
        return ONSET + round(seconds * RATE_HZ)

    onset_s, _, end_s = fiducials.qrs_s
    beat = ecg - ecg[at(onset_s) - 8 : at(onset_s) - 2].mean(0)
    qrs = beat[at(onset_s) - 2 : at(end_s) - 1]
    p_on, p_off = fiducials.p_s[[0, 2]] - 1e-3 * patient.pr_ms
    p = ecg[at(p_on) : at(min(p_off, onset_s))] - ecg[at(p_on) - 6 : at(p_on)].mean(0)
    stretch = np.cbrt(60.0 / patient.heart_rate_bpm)
    t = beat[at(t_peak_s - 0.12 * stretch) : at(t_peak_s + 0.08 * stretch)]
    patterns = [_pattern(qrs[:, lead]) for lead in range(12)]
    below = qrs < -0.03
    first = [np.flatnonzero(abs(qrs[:, lead]) > 0.03) for lead in range(12)]
    q_end = [f[0] + np.argmin([*below[f[0] :, lead], False]) if len(f) else 0 for lead, f in enumerate(first)]
    q_ms = np.array([2 * (end - f[0]) if len(f) else 0 for end, f in zip(q_end, first)])
    q_mv = np.array([-qrs[:end, lead].min() if ms > 0 else 0.0 for lead, (end, ms) in enumerate(zip(q_end, q_ms))])
    area = qrs.sum(0)
    return SimpleNamespace(
        patient=patient,
        is_female=patient.is_female > 0.5,
        qrs_ms=1e3 * (end_s - onset_s),
        qrs=qrs,
        top=qrs.max(0),
        bottom=qrs.min(0),
        swing=np.ptp(qrs, axis=0),
        patterns=patterns,
        q_ms=q_ms,
        q_mv=q_mv,
        qs=np.array(["+" not in pattern for pattern in patterns]),
        r_peak_ms=2 * (qrs.argmax(0) - 2),
        axis_deg=np.degrees(np.arctan2(2 / np.sqrt(3) * area[AVF], area[I])),
        j=beat[at(end_s)],
        st=np.stack([beat[at(end_s + delay)] for delay in (0.0, 0.04, 0.06, 0.08)]),
        t_top=t.max(0),
        t_bottom=t.min(0),
        p_ms=1e3 * (p_off - p_on),
        p_top=p.max(0),
        p_bottom=p.min(0),
        p_terminal_ms=2 * (p[:, V1] < -0.03).sum(),
    )


def _both(flags: np.ndarray, pairs: list[tuple[int, int]]) -> bool:
    return any(flags[a] and flags[b] for a, b in pairs)


def _st_elevated(m: SimpleNamespace, st: np.ndarray) -> np.ndarray:
    limit = np.full(12, 0.1)
    limit[[V2, V3]] = 0.15 if m.is_female else 0.25 if m.patient.age_years < 40 else 0.2
    return st >= limit


def _q_wave(m: SimpleNamespace) -> np.ndarray:
    needed_ms = np.full(12, 30.0)
    needed_ms[[V2, V3]] = 20.0
    return (m.q_mv >= 0.1) & ((m.q_ms >= needed_ms) | m.qs)


def _lbbb(m: SimpleNamespace) -> bool:
    lateral = all(m.patterns[lead].startswith("+") and m.top[lead] > 0.25 for lead in (I, V5, V6))
    return m.qrs_ms >= 120 and m.patterns[V1] in ("-", "+-") and lateral and max(m.r_peak_ms[[V5, V6]]) > 60


def _rbbb(m: SimpleNamespace) -> bool:
    late_s = all(m.qrs[m.qrs[:, lead].argmax() :, lead].min() < -0.1 for lead in (I, V6))
    return m.qrs_ms >= 120 and m.qrs[-25:, V1].max() > 0.1 and m.patterns[V1].endswith("+") and late_s


def _lafb(m: SimpleNamespace) -> bool:
    rs = all(m.patterns[lead].startswith("+-") and -m.bottom[lead] > m.top[lead] for lead in (II, III, AVF))
    qr = m.patterns[AVL].startswith("-+") and m.r_peak_ms[AVL] >= 45
    return m.qrs_ms < 120 and -90 <= m.axis_deg <= -45 and rs and qr


def _lpfb(m: SimpleNamespace) -> bool:
    rs = all(m.patterns[lead].startswith("+-") and -m.bottom[lead] > m.top[lead] for lead in (I, AVL))
    return m.qrs_ms < 120 and m.axis_deg >= 90 and rs and all(m.patterns[lead][:2] == "-+" for lead in (III, AVF))


def _cornell(m: SimpleNamespace) -> bool:
    return m.qrs_ms < 120 and m.top[AVL] - m.bottom[V3] > (2.0 if m.is_female else 2.8)


def _early_repolarisation(m: SimpleNamespace) -> bool:
    return _both(m.j >= 0.1, [*INFERIOR, (I, AVL), (V4, V5), (V5, V6)]) and not _both(_st_elevated(m, m.st[1]), PAIRS)


def _stemi(pairs: list[tuple[int, int]], opposite: int | None = None):
    def met(m: SimpleNamespace) -> bool:
        return _both(_st_elevated(m, m.j), pairs) and (opposite is None or m.j[opposite] < -0.05)

    return met


#: AHA/ACCF/HRS 2009; Fourth Universal Definition of MI 2018; Macfarlane et al. 2015 for early repolarisation.
CRITERIA = {
    Morphology.RBBB: _rbbb,
    Morphology.LBBB: _lbbb,
    Morphology.LAFB: _lafb,
    Morphology.LPFB: _lpfb,
    Morphology.WPW: lambda m: m.patient.pr_ms < 120 and m.qrs_ms > 110,
    Morphology.STEMI_ANTERIOR: _stemi(CHEST),
    Morphology.STEMI_INFERIOR: _stemi(INFERIOR, AVL),
    Morphology.STEMI_LATERAL: _stemi(LATERAL, III),
    Morphology.ISCHAEMIA: lambda m: _both((m.st <= -0.05).all(0), PAIRS) and not _both(_st_elevated(m, m.j), PAIRS),
    Morphology.OLD_MI_ANTERIOR: lambda m: _both(_q_wave(m), [(V2, V3), (V3, V4)]),
    Morphology.OLD_MI_INFERIOR: lambda m: _both(_q_wave(m), [(II, AVF)]),
    Morphology.OLD_MI_LATERAL: lambda m: _both(_q_wave(m), LATERAL),
    Morphology.LVH: _cornell,
    Morphology.RVH: lambda m: m.top[V1] >= 0.7 and m.top[V1] > -m.bottom[V1] and m.axis_deg > 90,
    Morphology.LEFT_ATRIAL_ENLARGEMENT: lambda m: m.p_ms >= 120 and m.p_bottom[V1] <= -0.1 and m.p_terminal_ms >= 40,
    Morphology.RIGHT_ATRIAL_ENLARGEMENT: lambda m: m.p_top[II] > 0.25,
    Morphology.LONG_QT: lambda m: m.patient.qtcf_ms > 480,
    Morphology.T_INVERSION: lambda m: _both((m.t_bottom <= -0.1) & (-m.t_bottom > m.t_top), [(V3, V4), (V4, V5)]),
    Morphology.EARLY_REPOLARISATION: _early_repolarisation,
    Morphology.LOW_VOLTAGE: lambda m: m.swing[:6].max() < 0.5 and m.swing[6:].max() < 1.0,
}


@pytest.mark.parametrize("code", CRITERIA, ids=lambda code: code.name)
def test_morphology_meets_its_criterion(code):
    sample = _sample(code)
    met = [CRITERIA[code](_measure(sample, i)) for i in range(DRAWS)]
    assert np.mean(met) >= 0.97, f"{code.name}: {np.mean(met):.3f} of {DRAWS} records meet the criterion"


def test_normal_beats_meet_no_criterion():
    sample = _sample(Morphology.NORMAL)
    measured = [_measure(sample, i) for i in range(DRAWS)]
    met = [[code.name for code in CRITERIA if CRITERIA[code](m)] for m in measured]
    assert sum(map(bool, met)) <= 0.02 * DRAWS, [names for names in met if names]
    within = [abs(m.st[2, :6]).max() < 0.05 and abs(m.st[2]).max() < 0.15 for m in measured]
    assert np.mean(within) >= 0.99
    assert max(m.p_top[:6].max() for m in measured) <= 0.25


def test_normal_beats_look_normal():
    measured = [_measure(_sample(Morphology.NORMAL), i) for i in range(DRAWS)]
    top = np.median([m.top for m in measured], 0)
    bottom = np.median([m.bottom for m in measured], 0)
    assert top[V1] < top[V2] < top[V3] < top[V4]
    assert top[V2] < -bottom[V2]
    assert top[V4] > -bottom[V4]
    t = np.median([np.where(m.t_top > -m.t_bottom, m.t_top, m.t_bottom) for m in measured], 0)
    assert (t[[I, II, V2, V3, V4, V5, V6]] > 0.05).all()
    assert t[kernels.AVR] < 0
    # Twice as tall in the chest as in the limb leads (J Electrocardiol 28:191, 1995).
    np.testing.assert_allclose(t[6:].max() / t[:6].max(), 2.0, rtol=0.25)
    p = np.median([m.p_top for m in measured], 0)
    assert p[:6].argmax() == II


def test_t_wave_falls_with_age_and_is_smaller_in_women():
    ages = jnp.array([28.5, 49.5, 69.5])
    men = jax.vmap(lambda age: ADULT.t_size_mv(age, jnp.float32(0)))(ages)
    women = jax.vmap(lambda age: ADULT.t_size_mv(age, jnp.float32(1)))(ages)
    np.testing.assert_allclose(men / women, 1.25, rtol=1e-5)
    np.testing.assert_allclose(men[1:] / men[:-1], [0.90, 0.85], rtol=1e-5)


def test_tables_fill_the_unit_complex():
    table = morphology_table.EDIT_TABLE[:, :40].reshape(len(Morphology), 8, 5)
    grid = np.linspace(-0.5, 1.5, 2001)
    for code, edit in morphology_table.EDITS.items():
        solved = [5] if edit.first_target else [7] if edit.j_target else []
        qrs = np.delete(table[code], solved, 0)
        bank = np.exp(-0.5 * ((grid[:, None] - qrs[:, 0]) / qrs[:, 1]) ** 2)
        inside = grid[np.linalg.norm(bank @ qrs[:, 2:], axis=1) > morphology_table.QRS_THRESHOLD_MV]
        np.testing.assert_allclose(inside[[0, -1]], [0.0, 1.0], atol=0.01, err_msg=code.name)
    assert set(morphology_table.EDITS) == set(Morphology)


def test_fiducials_follow_the_intervals():
    sample = _sample(Morphology.NORMAL)
    patient, found = sample["patient"], sample["fiducials"]
    assert np.median(abs(1e3 * np.diff(found.qrs_s[:, [0, 2]])[:, 0] - patient.qrs_ms)) < 6
    assert np.median(abs(1e3 * np.diff(found.p_s[:, [0, 2]])[:, 0] - patient.p_duration_ms)) < 10
    np.testing.assert_allclose(1e3 * found.t_s[:, 2], patient.t_peak_to_end_ms, rtol=1e-5)
    for part in (found.p_s, found.qrs_s, found.t_s):
        assert (np.diff(part) > 0).all()


def test_t_wave_peaks_at_its_event_and_its_tangent_ends_it():
    time_ms = np.arange(-200.0, 200.0, 0.5)
    square = ((time_ms[:, None] - kernels.T_CENTRE_MS) / kernels.T_WIDTH_MS) ** 2
    wave = np.exp(-0.5 * square) @ kernels.T_SHARES
    slope = np.gradient(wave, time_ms)
    steepest = slope.argmin()
    np.testing.assert_allclose(time_ms[wave.argmax()], 0.0, atol=3.0)
    np.testing.assert_allclose(time_ms[steepest] - wave[steepest] / slope[steepest], kernels.T_END_MS, atol=3.0)


def test_wide_beats_are_wide_and_discordant():
    sample = _sample(Morphology.NORMAL, Rhythm.VENTRICULAR_PREMATURE)
    waves, found = sample["wide"], sample["wide_fiducials"]
    duration_ms = 1e3 * (found.qrs_s[:, 2] - found.qrs_s[:, 0])
    assert (duration_ms > 118).mean() >= 0.99
    assert duration_ms.max() < 195
    qrs, t = waves.vector_mv[:, : kernels.VENTRICULAR_SPIKE], waves.vector_mv[:, kernels.T_WIDE][:, 1:]
    net = (waves.width_s[:, : kernels.VENTRICULAR_SPIKE, None] * qrs).sum(1)
    assert ((net * t.sum(1)).sum(-1) < 0).all()
    assert np.isnan(found.p_s).all()


@pytest.mark.parametrize(
    ("rhythm", "atrial", "ventricular"),
    [
        (Rhythm.SINUS, False, False),
        (Rhythm.VENTRICULAR_PREMATURE, False, False),
        (Rhythm.PACED_ATRIAL, True, False),
        (Rhythm.PACED_VENTRICULAR, False, True),
        (Rhythm.PACED_DUAL, True, True),
    ],
)
def test_spikes_belong_to_paced_rhythms(rhythm, atrial, ventricular):
    sample = _sample(Morphology.NORMAL, rhythm)
    for waves, kernel, expected in (
        (sample["waves"], kernels.ATRIAL_SPIKE, atrial),
        (sample["wide"], kernels.VENTRICULAR_SPIKE, ventricular),
    ):
        size = np.linalg.norm(waves.vector_mv[:, kernel], axis=-1)
        assert ((size >= 0.5) & (size <= 10.0)).all() if expected else (size == 0).all()
        assert ((waves.centre_s[:, kernel] >= -0.04) & (waves.centre_s[:, kernel] <= -0.01)).all()


def test_without_conditions_it_is_the_normal_beat():
    rows = jax.random.uniform(jax.random.key(5), (2, 128))
    patient = sample_patient(rows[0], ADULT)
    normal = Conditions(jnp.int32(Rhythm.SINUS), jnp.int32(Morphology.NORMAL))
    draw = jax.jit(morphology.sample_waves, static_argnums=2)
    plain, conditioned = draw(rows[1], patient, ADULT, None), draw(rows[1], patient, ADULT, normal)
    assert len(plain.centre_s) == kernels.NARROW_KERNELS
    for a, b in zip(jax.tree.leaves(plain), jax.tree.leaves(conditioned)):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)
