import dataclasses
import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ecg_jax.data.synthetic.physiology.arrhythmia import FASTEST_BPM, af_rr_intervals, sample_trains
from ecg_jax.data.synthetic.physiology.conditions import CAN_JOIN, Conditions, Rhythm, afflicted
from ecg_jax.data.synthetic.physiology.patient import ADULT, Patient, sample_patient
from ecg_jax.data.synthetic.physiology.rhythm import ABSENT_S, Beat, Trains, beat_slots, rr_process, sinus_trains

SECONDS = 10
BEATS = beat_slots(FASTEST_BPM, SECONDS)
PATIENTS = 512
EDGE_S = 0.7
ATRIAL_ECTOPY = (
    Rhythm.ATRIAL_PREMATURE,
    Rhythm.ATRIAL_COUPLETS,
    Rhythm.ATRIAL_RUNS,
    Rhythm.ATRIAL_BIGEMINY,
    Rhythm.ATRIAL_TRIGEMINY,
)
VENTRICULAR_ECTOPY = (
    Rhythm.VENTRICULAR_PREMATURE,
    Rhythm.VENTRICULAR_COUPLETS,
    Rhythm.VENTRICULAR_RUNS,
    Rhythm.VENTRICULAR_BIGEMINY,
    Rhythm.VENTRICULAR_TRIGEMINY,
)
ONE_TO_ONE = (
    Rhythm.SINUS,
    Rhythm.SINUS_BRADYCARDIA,
    Rhythm.SINUS_TACHYCARDIA,
    Rhythm.SINUS_ARRHYTHMIA,
    Rhythm.AV_BLOCK_1,
    Rhythm.PACED_ATRIAL,
    Rhythm.PACED_DUAL,
)


def patient_of(rows: jax.Array, rhythm: jax.Array, morphology: jax.Array) -> Patient:
    return afflicted(rows[1], sample_patient(rows[0], ADULT), Conditions(rhythm, morphology))


def record(rows: jax.Array, rhythm: jax.Array, morphology: jax.Array) -> tuple[Patient, Trains]:
    patient = patient_of(rows, rhythm, morphology)
    return patient, sample_trains(rows[2], rows[3], patient, rhythm, BEATS, SECONDS)


SAMPLE = jax.jit(jax.vmap(record))


def uniforms(seed: int) -> np.ndarray:
    """Rows of draws, of one shape for all samples: the stage is compiled once."""
    return np.random.default_rng(seed).random((len(Rhythm) * PATIENTS, 4, 128), np.float32)


def sample(rhythm: np.ndarray, morphology: np.ndarray, seed: int) -> tuple[Patient, Trains]:
    drawn = SAMPLE(uniforms(seed), rhythm.astype(np.int32), morphology.astype(np.int32))
    return jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), drawn)


@functools.cache
def cohorts() -> tuple[Patient, Trains]:
    """512 patients of each rhythm with normal beats; leaves `(rhythms, patients, ...)`."""
    codes = np.repeat(np.arange(len(Rhythm)), PATIENTS)
    drawn = sample(codes, np.zeros_like(codes), seed=0)
    return jax.tree.map(lambda leaf: leaf.reshape(len(Rhythm), PATIENTS, *leaf.shape[1:]), drawn)


def cohort(rhythm: Rhythm) -> tuple[Patient, Trains]:
    return jax.tree.map(lambda leaf: leaf[rhythm], cohorts())


def inside(onset_s: np.ndarray) -> np.ndarray:
    return (onset_s > EDGE_S) & (onset_s < SECONDS - EDGE_S)


def rr_before(onset_s: np.ndarray) -> np.ndarray:
    """The interval before each beat; NaN for the first and where either is absent."""
    rr = np.full_like(onset_s, np.nan)
    rr[:, 1:] = np.where(onset_s[:, 1:] < ABSENT_S, np.diff(onset_s), np.nan)
    return rr


def qrs_times(trains: Trains, row: int) -> np.ndarray:
    return trains.qrs_onset_s[row][trains.beat[row] != Beat.NONE]


def p_times(trains: Trains, row: int) -> np.ndarray:
    return trains.p_onset_s[row][trains.p_gain[row] != 0]


# What holds for every rhythm ------------------------------------------------------------------------------------------


def check_trains(trains: Trains) -> None:
    for leaf in jax.tree.leaves(trains):
        assert np.isfinite(leaf).all()
    for train in (trains.p_onset_s, trains.qrs_onset_s, trains.t_peak_s):
        assert (np.diff(train) >= 0).all()
        assert (train[:, -1] == ABSENT_S).all()
    # From before the record to past its end.
    happened = trains.beat != Beat.NONE
    first = np.where(happened, trains.qrs_onset_s, np.inf).min(1)
    last = np.where(happened, trains.qrs_onset_s, -np.inf).max(1)
    assert (first <= 0).all()
    assert (last > SECONDS - 2.1).all()
    assert (trains.qrs_onset_s[:, 0] < -0.3).all()
    qrs = np.sort(np.where(happened, trains.qrs_onset_s, np.nan), axis=1)
    assert np.nanmin(np.diff(qrs, axis=1)) >= 0.2
    # Every beat that happened is narrow or wide and has its T wave before the next beat.
    assert np.array_equal(trains.narrow + trains.wide, happened.astype(float))
    assert (trains.t_peak_s > trains.qrs_onset_s + 0.1)[happened].all()
    assert (trains.t_peak_s[:, :-1] < trains.qrs_onset_s[:, 1:])[happened[:, :-1]].all()
    assert (trains.t_stretch > 0.3).all() and (trains.t_stretch < 1.6).all()
    absent = trains.qrs_onset_s == ABSENT_S
    assert not happened[absent].any() and not trains.p_gain[trains.p_onset_s == ABSENT_S].any()


def test_every_rhythm_gives_ordered_trains_that_cover_the_record() -> None:
    check_trains(jax.tree.map(lambda leaf: leaf.reshape(-1, *leaf.shape[2:]), cohorts()[1]))


def test_so_does_every_rhythm_with_every_morphology() -> None:
    pairs = np.argwhere(CAN_JOIN)
    rhythm, morphology = np.tile(pairs, (len(Rhythm) * PATIENTS // len(pairs) + 1, 1))[: len(Rhythm) * PATIENTS].T
    _, trains = sample(rhythm, morphology, seed=1)
    check_trains(trains)
    for code in Rhythm:
        beats = set(np.unique(trains.beat[rhythm == code]).astype(int)) - {Beat.NONE}
        assert beats == BEAT_CODES.get(code, {Beat.NORMAL}), code.name


BEAT_CODES = {
    **{code: {Beat.NORMAL, Beat.ATRIAL} for code in ATRIAL_ECTOPY},
    **{code: {Beat.NORMAL, Beat.VENTRICULAR} for code in VENTRICULAR_ECTOPY},
    Rhythm.AV_BLOCK_3: {Beat.JUNCTIONAL, Beat.VENTRICULAR_ESCAPE},
    Rhythm.JUNCTIONAL: {Beat.JUNCTIONAL},
    Rhythm.PACED_ATRIAL: {Beat.PACED},
    Rhythm.PACED_VENTRICULAR: {Beat.PACED},
    Rhythm.PACED_DUAL: {Beat.PACED},
}


def test_sinus_rhythm_is_the_same_without_arrhythmia() -> None:
    patient, full = jax.tree.map(jnp.float32, cohort(Rhythm.SINUS))

    @jax.jit
    @jax.vmap
    def only_sinus(rows: jax.Array, patient: Patient) -> Trains:
        return sinus_trains(rows[2], patient, BEATS, SECONDS)

    plain = only_sinus(uniforms(seed=0)[:PATIENTS], patient)
    full, plain = (dataclasses.replace(one, fibrillation=one.fibrillation.gain) for one in (full, plain))
    for field in dataclasses.fields(Trains):
        np.testing.assert_allclose(getattr(full, field.name), getattr(plain, field.name), rtol=1e-6, atol=3e-6)


def test_slots_too_few_for_any_rhythm_are_refused() -> None:
    patient = jax.tree.map(lambda leaf: leaf[0, 0], cohorts()[0])
    with pytest.raises(ValueError, match=r"30 beat slots .* need 40"):
        sample_trains(jnp.zeros(128), jnp.zeros(128), patient, jnp.int32(0), 30, SECONDS)


# Sinus rhythm ---------------------------------------------------------------------------------------------------------


def test_one_p_wave_before_each_qrs_at_the_patients_pr() -> None:
    for code in ONE_TO_ONE:
        patient, trains = cohort(code)
        happened = trains.beat != Beat.NONE
        assert (trains.p_gain == 1)[happened].all(), code.name
        pr_ms = 1000 * (trains.qrs_onset_s - trains.p_onset_s)[happened]
        wanted = np.repeat(patient.pr_ms, happened.sum(1))
        if code == Rhythm.PACED_ATRIAL:
            assert pr_ms.min() > 149.9 and pr_ms.max() < 250.1
        else:
            np.testing.assert_allclose(pr_ms, wanted, atol=0.01)
    assert cohort(Rhythm.AV_BLOCK_1)[0].pr_ms.min() > 200


def test_rates_of_the_sinus_node() -> None:
    for code, low, high in (
        (Rhythm.SINUS_BRADYCARDIA, 0, 60),
        (Rhythm.SINUS_TACHYCARDIA, 100, 150),
        (Rhythm.JUNCTIONAL, 35, 60.5),
        (Rhythm.PACED_ATRIAL, 55, 86),
    ):
        _, trains = cohort(code)
        mean_rr = np.nanmean(rr_before(trains.qrs_onset_s), axis=1)
        share = np.mean((60 / mean_rr > low) & (60 / mean_rr < high))
        assert share > 0.99, (code.name, share)


def test_qt_is_fridericias_in_sinus_rhythm() -> None:
    patient, trains = cohort(Rhythm.SINUS)
    qt_peak_s = (trains.t_peak_s - trains.qrs_onset_s)[:, 3]
    expected_s = 1e-3 * (patient.qtcf_ms - patient.t_peak_to_end_ms) * np.cbrt(60 / patient.heart_rate_bpm)
    np.testing.assert_allclose(qt_peak_s, expected_s, rtol=0.02)


@functools.cache
def five_minutes() -> tuple[Patient, list[np.ndarray]]:
    """Sinus patients, and the RR intervals of each over 300 s."""

    @jax.jit
    @jax.vmap
    def process(rows: jax.Array) -> tuple[Patient, jax.Array, jax.Array]:
        patient = patient_of(rows, jnp.int32(Rhythm.SINUS), jnp.int32(0))
        node = rr_process(rows[2], patient, 640)
        return patient, node.onset_s, node.rr_s

    drawn = process(np.random.default_rng(3).random((PATIENTS, 4, 128), np.float32))
    patient, onset_s, rr_s = jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), drawn)
    assert (onset_s[:, -1] > 300).all()
    return patient, [rr[onset < 300] for onset, rr in zip(onset_s, rr_s)]


def test_variability_over_five_minutes_matches_its_target() -> None:
    patient, intervals = five_minutes()
    ratio = np.array([1000 * rr.std() for rr in intervals]) / patient.sdnn_ms
    assert abs(ratio.mean() - 1) < 0.03
    assert np.percentile(abs(ratio - 1), 90) < 0.12


def test_lf_to_hf_over_five_minutes_matches_its_target() -> None:
    """From the beat series itself: resampling it would damp HF, and beyond half the beat rate HF would count twice."""
    patient, intervals = five_minutes()
    found = []
    for rr in intervals:
        power = np.abs(np.fft.rfft((rr - rr.mean()) * np.hanning(len(rr)))) ** 2
        hz = np.arange(len(power)) / (len(rr) * rr.mean())
        found.append(power[(hz > 0.04) & (hz < 0.15)].sum() / power[hz >= 0.15].sum())
    assert abs(np.median(found) / np.median(patient.lf_hf) - 1) < 0.1
    assert np.corrcoef(np.log(found), np.log(patient.lf_hf))[0, 1] > 0.95


def test_the_heart_quickens_as_the_chest_fills() -> None:
    """RR intervals are in antiphase with the breath that the trains report."""
    patient, trains = cohort(Rhythm.SINUS_ARRHYTHMIA)
    angle = 2 * np.pi * patient.respiration_hz[:, None] * trains.qrs_onset_s + trains.breath_phase[:, None]
    rr = np.diff(trains.qrs_onset_s)
    inside_record = trains.qrs_onset_s[:, 1:] < ABSENT_S
    correlation = [np.corrcoef(-np.sin(angle[i, :-1][use]), rr[i][use])[0, 1] for i, use in enumerate(inside_record)]
    assert np.median(correlation) > 0.8


# Fibrillation and flutter ---------------------------------------------------------------------------------------------


def simulate_af(rng: np.random.Generator, rate_hz: float, beats: int) -> np.ndarray:
    """Event by event: Poisson impulses, a refractory time, then blocking that falls over 0.1 s (Corino et al. 2011)."""
    intervals, previous = np.empty(beats), 0.6
    for beat in range(beats):
        refractory = 0.25 + 0.15 * previous + 0.2 * (rng.random() < 0.4)
        t = refractory
        while True:
            t += rng.exponential(1 / rate_hz)
            if rng.random() >= max(0.0, 1 - 10 * (t - refractory)):
                break
        intervals[beat] = previous = t
    return intervals


@pytest.mark.parametrize("rate_hz", [4.0, 6.0, 8.0])
def test_the_interval_law_of_fibrillation_is_that_of_its_events(rate_hz: float) -> None:
    rng = np.random.default_rng(4)
    exponential = rng.exponential(size=(8192, BEATS)).astype(np.float32)
    slow = (rng.random((8192, BEATS)) < 0.4).astype(np.float32)
    law = jax.jit(jax.vmap(lambda e, s: af_rr_intervals(e, s, jnp.float32(rate_hz), jnp.float32(0.6))))
    closed = np.asarray(law(exponential, slow), np.float64)[:, 8:]
    events = simulate_af(rng, rate_hz, 60_000)
    assert abs(closed.mean() / events.mean() - 1) < 0.01
    assert abs(closed.std() / events.std() - 1) < 0.03
    np.testing.assert_allclose(np.percentile(closed, [5, 50, 95]), np.percentile(events, [5, 50, 95]), atol=0.012)
    for lagged in ((closed[:, :-1].ravel(), closed[:, 1:].ravel()), (events[:-1], events[1:])):
        assert abs(np.corrcoef(*lagged)[0, 1] - 0.15) < 0.02


def test_fibrillation_has_no_p_wave_and_irregular_beats() -> None:
    _, trains = cohort(Rhythm.ATRIAL_FIBRILLATION)
    assert (
        not trains.p_gain.any() and (trains.fibrillation.gain == 1).all() and not trains.fibrillation.is_flutter.any()
    )
    rr = rr_before(trains.qrs_onset_s)
    assert (np.nanstd(rr, axis=1) > 0.05).all()
    rate = 60 / np.nanmean(rr, axis=1)
    assert np.percentile(rate, 1) > 60 and np.percentile(rate, 99) < 130


def test_flutter_beats_ride_on_the_same_phase_of_the_waves() -> None:
    for code in (Rhythm.ATRIAL_FLUTTER, Rhythm.ATRIAL_FLUTTER_VARIABLE):
        _, trains = cohort(code)
        waves = trains.fibrillation
        assert not trains.p_gain.any() and (waves.gain == 1).all() and (waves.is_flutter == 1).all()
        assert 60 * waves.rate_hz.min() >= 240 and 60 * waves.rate_hz.max() <= 340
        present = trains.beat != Beat.NONE
        phase = 2 * np.pi * waves.rate_hz[:, None] * trains.qrs_onset_s + waves.phase[:, None]
        turn = np.exp(1j * (phase - phase[:, :1]))[present]
        assert np.abs(np.angle(turn)).max() < 1e-3
        ratio = rr_before(trains.qrs_onset_s) * waves.rate_hz[:, None]
        blocks = [set(np.round(row[np.isfinite(row)]).astype(int)) for row in ratio]
        assert np.nanmax(abs(ratio - np.round(ratio))) < 1e-3
        if code == Rhythm.ATRIAL_FLUTTER:
            assert all(len(block) == 1 for block in blocks) and set.union(*blocks) == {2, 3, 4}
        else:
            assert all(len(block) > 1 for block in blocks) and set.union(*blocks) == {2, 3, 4, 5}


# Premature beats ------------------------------------------------------------------------------------------------------


def bursts(is_ectopic: np.ndarray) -> list[tuple[int, int]]:
    """(first slot, length) of each row of consecutive premature beats."""
    edges = np.flatnonzero(np.diff(np.concatenate([[0], is_ectopic.astype(int), [0]])))
    return [(start, stop - start) for start, stop in edges.reshape(-1, 2)]


@pytest.mark.parametrize("code", ATRIAL_ECTOPY + VENTRICULAR_ECTOPY, ids=lambda code: code.name)
def test_premature_beats_come_as_labelled(code: Rhythm) -> None:
    _, trains = cohort(code)
    kind = Beat.ATRIAL if code in ATRIAL_ECTOPY else Beat.VENTRICULAR
    wanted = {"PREMATURE": {1}, "COUPLETS": {2}, "RUNS": {3, 4, 5, 6}}.get(code.name.split("_")[1])
    period = {"BIGEMINY": 2, "TRIGEMINY": 3}.get(code.name.split("_")[1])
    for row in range(PATIENTS):
        present = trains.beat[row] != Beat.NONE
        onset, ectopic = trains.qrs_onset_s[row][present], (trains.beat[row] == kind)[present]
        found = bursts(ectopic)
        if period:
            assert set(np.diff(np.flatnonzero(ectopic))) <= {period}
            assert inside(onset[ectopic]).sum() >= (3 if period == 2 else 2)
        else:
            whole = [n for start, n in found if inside(onset[start : start + n]).all()]
            assert whole and set(whole) <= wanted
            assert len(found) <= {1: 3, 2: 2}.get(min(wanted), 1)


@pytest.mark.parametrize("code", ATRIAL_ECTOPY + VENTRICULAR_ECTOPY, ids=lambda code: code.name)
def test_premature_beats_are_premature_and_have_their_own_p_waves(code: Rhythm) -> None:
    _, trains = cohort(code)
    is_atrial = code in ATRIAL_ECTOPY
    ectopic = trains.beat == (Beat.ATRIAL if is_atrial else Beat.VENTRICULAR)
    rr = rr_before(trains.qrs_onset_s)
    normal = trains.beat == Beat.NORMAL
    first = ectopic.copy()
    first[:, 1:] &= normal[:, :-1]
    first[:, 0] = False
    # Against the sinus interval before it, where the two beats before are of the sinus node.
    measurable = first.copy()
    measurable[:, 2:] &= normal[:, :-2]
    measurable[:, :2] = False
    if "BIGEMINY" not in code.name:
        after_pause = np.zeros_like(first)
        after_pause[:, 3:] = ectopic[:, :-3]
        ratio = (rr[:, 1:] / rr[:, :-1])[(measurable & ~after_pause)[:, 1:]]
        assert ratio.max() <= 0.851 and ratio.min() > 0.4
    p_gain = trains.p_gain[ectopic]
    if is_atrial:
        assert (p_gain >= 0.6).all() and (p_gain <= 0.9).all() and not trains.wide.any()
        # P on T: not before the peak, but where the beat would else come late.
        early = (trains.p_onset_s[:, 1:] < trains.t_peak_s[:, :-1] - 1e-3)[first[:, 1:]]
        assert early.mean() < 0.03
    else:
        assert not p_gain.any() and (trains.wide[ectopic] == 1).all() and (trains.wide.sum(1) == ectopic.sum(1)).all()


def test_runs_are_fast() -> None:
    for code, low, high in ((Rhythm.ATRIAL_RUNS, 100, 200), (Rhythm.VENTRICULAR_RUNS, 110, 180)):
        _, trains = cohort(code)
        ectopic = trains.beat == (Beat.ATRIAL if code == Rhythm.ATRIAL_RUNS else Beat.VENTRICULAR)
        rate = 60 / rr_before(trains.qrs_onset_s)[:, 1:][ectopic[:, 1:] & ectopic[:, :-1]]
        assert rate.min() > low - 0.1 and rate.max() < high + 0.1


def test_most_ventricular_premature_beats_have_a_compensatory_pause() -> None:
    """The sinus beat after comes two sinus intervals after the one before; after atrial beats it comes earlier."""
    share = {}
    for code in (Rhythm.VENTRICULAR_PREMATURE, Rhythm.ATRIAL_PREMATURE):
        patient, trains = cohort(code)
        ectopic = (trains.beat == Beat.VENTRICULAR) | (trains.beat == Beat.ATRIAL)
        row, slot = np.nonzero(ectopic & inside(trains.qrs_onset_s))
        around = trains.qrs_onset_s[row, slot + 1] - trains.qrs_onset_s[row, slot - 1]
        share[code] = np.mean(abs(around / (2 * 60 / patient.heart_rate_bpm[row]) - 1) < 0.05)
    assert share[Rhythm.VENTRICULAR_PREMATURE] > 0.7 and share[Rhythm.ATRIAL_PREMATURE] < 0.5


# Conduction -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "code", [Rhythm.AV_BLOCK_2_MOBITZ_1, Rhythm.AV_BLOCK_2_MOBITZ_2, Rhythm.AV_BLOCK_2_TO_1], ids=lambda code: code.name
)
def test_second_degree_block_drops_single_beats(code: Rhythm) -> None:
    patient, trains = cohort(code)
    for row in range(PATIENTS):
        p, qrs = p_times(trains, row), qrs_times(trains, row)
        p = p[p < SECONDS]
        after = np.searchsorted(qrs, p)
        pr = np.append(qrs, np.inf)[after] - p
        conducted = pr < np.append(np.diff(p), np.inf)  # a QRS before the next P wave
        conducted[-1] = True
        dropped = np.flatnonzero(~conducted)
        cycles = np.diff(dropped)
        assert inside(p[dropped]).any()
        assert len(set(cycles)) <= 1 and set(cycles) <= ({2} if code == Rhythm.AV_BLOCK_2_TO_1 else {3, 4, 5})
        # The sinus node does not notice.
        assert abs(np.diff(p) * patient.heart_rate_bpm[row] / 60 - 1).max() < 0.401
        pr_ms = 1000 * pr[conducted & (np.arange(len(p)) < len(p) - 1)]
        if code == Rhythm.AV_BLOCK_2_MOBITZ_1:
            for start, stop in itertools.pairwise(dropped):
                cycle_ms = 1000 * pr[start + 1 : stop]
                growth = np.diff(cycle_ms)
                assert (growth > 10).all() and (np.diff(growth) < 0).all()
                assert abs(cycle_ms[0] - patient.pr_ms[row]) < 0.1
        else:
            assert np.abs(pr_ms - patient.pr_ms[row]).max() < 0.1


def test_complete_block_dissociates_atria_and_ventricles() -> None:
    _, trains = cohort(Rhythm.AV_BLOCK_3)
    spread, narrow = [], []
    for row in range(PATIENTS):
        p, qrs = p_times(trains, row), qrs_times(trains, row)
        rate = 60 / np.diff(qrs)
        is_narrow = trains.narrow[row].any()
        narrow.append(is_narrow)
        low, high = (40, 55) if is_narrow else (30, 45)
        assert rate.min() > low - 0.1 and rate.max() < high + 0.1 and np.ptp(rate) < 0.1
        assert 60 / np.diff(p).mean() > rate.mean()
        last_p = np.searchsorted(p, qrs[qrs > p[0]]) - 1
        spread.append(np.std((qrs[qrs > p[0]] - p[last_p]) / np.diff(p).mean()))
    assert 0.3 < np.mean(narrow) < 0.5
    assert np.median(spread) > 0.15  # the PR interval takes any value


def test_junctional_beats_have_no_p_wave_or_an_inverted_one_close_by() -> None:
    _, trains = cohort(Rhythm.JUNCTIONAL)
    happened = trains.beat == Beat.JUNCTIONAL
    has_p = (trains.p_gain * happened).any(1)
    delay_ms = 1000 * (trains.qrs_onset_s - trains.p_onset_s)[:, 1]
    before, after = has_p & (delay_ms > 0), has_p & (delay_ms < 0)
    assert min(np.mean(~has_p), before.mean(), after.mean()) > 0.2
    assert (trains.p_gain <= 0).all() and delay_ms[before].max() < 120 and delay_ms[after].max() < -70


def test_ventricular_pacing_is_wide_and_without_p_waves() -> None:
    _, trains = cohort(Rhythm.PACED_VENTRICULAR)
    assert not trains.p_gain.any() and not trains.narrow.any()
    assert 0.4 < trains.fibrillation.gain.mean() < 0.6
    assert not cohort(Rhythm.PACED_DUAL)[1].narrow.any() and not cohort(Rhythm.PACED_ATRIAL)[1].wide.any()
