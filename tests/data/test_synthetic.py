import dataclasses
import functools
import hashlib
import json
import os
import pathlib
import subprocess
import sys
import threading

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from wfdb.processing import XQRS

from ecg_jax.data.ecg import LEADS
from ecg_jax.data.preprocess import chain_matrix
from ecg_jax.data.synthetic import ADULT, Population, SyntheticSource, fingerprint, morphology, render, source
from ecg_jax.data.synthetic import leads as lead_stage
from ecg_jax.data.synthetic.draws import Stage, cut, record_keys, stage_uniforms
from ecg_jax.data.synthetic.patient import Patient, sample_patient
from ecg_jax.data.synthetic.rhythm import ABSENT_S, Rhythm, beat_slots, sample_rhythm

SEED = 7
GOLDEN_HEART_RATE = (88.30239, 68.94565, 80.41448, 70.2385)
GOLDEN_QRS_AXIS = (102.84431, 62.25527, -4.76633, 35.39994)
GOLDEN_FOURTH_BEAT = (1.353869, 0.980099, 0.98071, 1.431542)
GOLDEN_V2 = (91, 71, 56, 45, 36)
GOLDEN_FINGERPRINT = "08016de89d24dac856ddc76552ecbaae38b285129b09e1bc5af27fbf2518e497"


@functools.cache
def records() -> np.ndarray:
    """The first 96 records, 100 Hz, as int16."""
    return SyntheticSource(SEED).read(np.arange(96))


@functools.cache
def cohort() -> tuple[Patient, Rhythm]:
    """Latents and event trains of 8,192 patients."""
    index = np.arange(8192, dtype=np.uint32)

    @jax.jit
    def sample(index: jax.Array) -> tuple[Patient, Rhythm]:
        keys = record_keys(jnp.uint32(SEED), jnp.zeros_like(index), index)
        uniforms = stage_uniforms(keys, keys)
        patient = jax.vmap(lambda row: sample_patient(row, ADULT))(uniforms[:, Stage.PATIENT])
        trains = jax.vmap(lambda row, one: sample_rhythm(row, one, beat_slots(ADULT, 10), 10))
        return patient, trains(uniforms[:, Stage.RHYTHM], patient)

    return jax.tree.map(np.asarray, sample(index))


@functools.cache
def first_block() -> source.Heart:
    """What was drawn for records 0 to 31."""
    return jax.tree.map(np.asarray, source.on_host(source.draw_block, SEED, 0, ADULT, 10).result())


def digest(ecg: np.ndarray) -> str:
    return hashlib.sha256(np.ascontiguousarray(ecg).tobytes()).hexdigest()


# Determinism ---------------------------------------------------------------------------------------------------------


def test_an_index_gives_the_same_bytes_whatever_is_asked_with_it() -> None:
    whole = records()
    for asked in ([5], [95, 0, 33, 33], list(range(20, 70)), [31, 32]):
        fresh = SyntheticSource(SEED)
        assert np.array_equal(fresh.read(np.array(asked)), whole[asked])
    assert np.array_equal(SyntheticSource(SEED)[40], whole[40])
    assert np.array_equal(SyntheticSource(SEED, cache_records=32).read(np.arange(96)), whole)


def test_records_and_seeds_differ() -> None:
    assert len({digest(record) for record in records()}) == 96
    assert not np.array_equal(SyntheticSource(SEED + 1)[0], records()[0])
    # Two patients differ in the shape of a beat, not only in its timing.
    weights = first_block().weights_mv.reshape(32, -1)
    assert np.abs(np.corrcoef(weights) - np.eye(32)).max() < 0.999


def test_indices_reach_beyond_32_bits() -> None:
    stream = SyntheticSource(SEED)
    far = stream.read(np.array([0, 2**32, 2**40 + 5], np.uint64))
    assert np.array_equal(far[0], records()[0])
    assert len({digest(record) for record in far}) == 3


RESTART = """
import sys, threading, hashlib, json
import jax, numpy as np
jax.config.update("jax_num_cpu_devices", 8)
from ecg_jax.data.synthetic import SyntheticSource
read = lambda: hashlib.sha256(SyntheticSource(7).read(np.arange(32, 64)).tobytes()).hexdigest()
seen = {}
mesh = jax.make_mesh((8,), ("data",))
with jax.set_mesh(mesh):
    seen["under a mesh"] = read()
    thread = threading.Thread(target=lambda: seen.update({"in another thread": read()}))
    thread.start(); thread.join()
jax.set_mesh(mesh)
seen["under a global mesh"] = read()
seen["without a mesh in another thread"] = None
thread = threading.Thread(target=lambda: seen.update({"without a mesh in another thread": read()}))
thread.start(); thread.join()
print(json.dumps(seen))
"""


def test_a_restart_with_eight_devices_under_an_explicit_mesh_gives_the_same_bytes() -> None:
    root = pathlib.Path(__file__).parents[2]
    environment = {**os.environ, "PYTHONPATH": str(root), "JAX_PLATFORMS": "cpu"}
    done = subprocess.run(
        [sys.executable, "-c", RESTART], capture_output=True, text=True, timeout=120, env=environment, check=False
    )
    assert done.returncode == 0, done.stderr
    seen = json.loads(done.stdout.splitlines()[-1])
    assert set(seen.values()) == {digest(records()[32:64])}, seen


def test_one_source_serves_many_threads() -> None:
    shared, found = SyntheticSource(SEED, cache_records=64), {}

    def read(start: int) -> None:
        found[start] = shared.read(np.arange(start, start + 40))

    threads = [threading.Thread(target=read, args=(start,)) for start in range(0, 56, 8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == len(threads)
    for start, ecg in found.items():
        assert np.array_equal(ecg, records()[start : start + 40])


def test_the_published_stream_has_not_moved() -> None:
    """Raise GENERATOR_VERSION with any change that fails this test, and write its new values here."""
    patient, rhythm = cohort()
    golden = {"heart_rate_bpm": GOLDEN_HEART_RATE, "qrs_axis_deg": GOLDEN_QRS_AXIS}
    for name, values in golden.items():
        np.testing.assert_allclose(getattr(patient, name)[:4], values, rtol=1e-4)
    np.testing.assert_allclose(rhythm.qrs_onset_s[:4, 3], GOLDEN_FOURTH_BEAT, rtol=1e-4)
    assert np.abs(records()[0, 100:105, 7] - np.array(GOLDEN_V2)).max() <= 1
    assert fingerprint() == GOLDEN_FINGERPRINT


def test_the_fingerprint_depends_on_the_population() -> None:
    assert fingerprint(dataclasses.replace(ADULT, qrs_mean_ms=90.0)) != fingerprint()


# Bounds --------------------------------------------------------------------------------------------------------------


def test_a_finite_pool_is_the_start_of_the_stream_and_ends() -> None:
    pool = SyntheticSource(SEED, records=40)
    assert len(pool) == 40
    assert np.array_equal(pool.read(np.arange(40)), records()[:40])
    assert sum(1 for _ in pool) == 40
    with pytest.raises(IndexError, match="record 40 of a finite synthetic pool of 40"):
        pool.read(np.array([3, 40]))


def test_wrong_requests_are_refused() -> None:
    stream = SyntheticSource(SEED)
    with pytest.raises(TypeError, match="unbounded"):
        len(stream)
    with pytest.raises(IndexError, match="start at 0"):
        stream.read(np.array([-1]))
    with pytest.raises(IndexError, match="integers"):
        stream.read(np.array([0.5]))
    with pytest.raises(ValueError, match="seed"):
        SyntheticSource(2**32)
    with pytest.raises(ValueError, match="records is 0"):
        SyntheticSource(SEED, records=0)
    with pytest.raises(ValueError, match="cannot be negative"):
        Population("broken", t_axis_sd_deg=-1.0)
    with pytest.raises(ValueError, match="DRAWS_PER_STAGE"):
        cut(jnp.zeros(4), (2,), (3,))
    assert stream.read(np.array([], np.int64)).shape == (0, 1000, 12)


# Leads ---------------------------------------------------------------------------------------------------------------

#: Edenbrandt & Pahlm 1988; rows X, Y, Z; columns I, II, V1–V6.
INVERSE_DOWER = [
    [0.156, -0.010, -0.172, -0.074, 0.122, 0.231, 0.239, 0.194],
    [-0.227, 0.887, 0.057, -0.019, -0.106, -0.022, 0.041, 0.048],
    [0.022, 0.102, -0.229, -0.310, -0.246, -0.063, 0.055, 0.108],
]


def test_the_dower_table_inverts_to_the_published_inverse() -> None:
    assert np.abs(np.linalg.pinv(lead_stage.DOWER) - INVERSE_DOWER).max() < 5e-4
    through_electrodes = lead_stage.ELECTRODES_TO_LEADS @ lead_stage.LEAD_FIELD
    np.testing.assert_allclose(through_electrodes, lead_stage.DOWER, atol=1e-6)


def test_einthoven_and_goldberger_hold() -> None:
    ecg_mv = render(SEED, np.arange(32))
    lead = dict(zip(LEADS, np.moveaxis(ecg_mv.astype(np.float64), -1, 0)))
    laws_mv = [
        lead["III"] - (lead["II"] - lead["I"]),
        lead["aVR"] + (lead["I"] + lead["II"]) / 2,
        lead["aVL"] - (lead["I"] - lead["III"]) / 2,
        lead["aVF"] - (lead["II"] + lead["III"]) / 2,
    ]
    assert max(np.abs(law).max() for law in laws_mv) < 1e-6
    counts = dict(zip(LEADS, np.moveaxis(records().astype(int), -1, 0)))
    assert np.abs(counts["III"] - (counts["II"] - counts["I"])).max() <= 1
    assert np.abs(2 * counts["aVR"] + counts["I"] + counts["II"]).max() <= 2


def test_a_record_is_not_quite_a_dipole() -> None:
    """More than 95 % but not all of the energy lies in three components: masked leads are no linear function."""
    ecg = render(SEED, np.arange(32))[:, :, [0, 1, *range(6, 12)]]
    energy = np.linalg.svd(ecg - ecg.mean(1, keepdims=True), compute_uv=False) ** 2
    share = energy[:, :3].sum(1) / energy.sum(1)
    assert share.min() > 0.95 and share.max() < 0.99999


# Distributions -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "median", "low", "high"),
    [  # 2nd and 98th percentiles: Mason et al. 2007
        ("heart_rate_bpm", 68.6, 48, 98),
        ("pr_ms", 154.8, 113, 212),
        ("qrs_ms", 89, 69, 109),
        ("qtcf_ms", 402, 359, 445),
        ("t_peak_to_end_ms", 85, 62, 108),
    ],
)
def test_intervals_follow_the_published_percentiles(name: str, median: float, low: float, high: float) -> None:
    found = np.percentile(getattr(cohort()[0], name), [50, 2, 98])
    np.testing.assert_allclose(found, [median, low, high], rtol=0.03)


def test_the_qrs_axis_follows_the_published_percentiles() -> None:
    found = np.percentile(cohort()[0].qrs_axis_deg, [50, 2, 98])
    np.testing.assert_allclose(found, [37, -40, 91], atol=3)


def test_sexes_differ_as_published() -> None:
    patient = cohort()[0]
    female = patient.is_female == 1
    assert abs(female.mean() - 0.5) < 0.02
    for name, gap in (("qrs_ms", 6), ("qtcf_ms", -11), ("pr_ms", 6)):
        value = getattr(patient, name)
        assert abs(value[~female].mean() - value[female].mean() - gap) < 2, name


def test_waves_keep_their_order() -> None:
    patient, rhythm = cohort()
    assert (patient.pr_ms + patient.qt_ms <= 951 * patient.mean_rr_s).all()
    assert (patient.p_duration_ms < patient.pr_ms).all() and patient.pr_ms.min() > 70
    for train in (rhythm.p_onset_s, rhythm.qrs_onset_s, rhythm.t_peak_s):
        assert (np.diff(train) >= 0).all()
    present = rhythm.qrs_onset_s < ABSENT_S
    assert (rhythm.p_onset_s < rhythm.qrs_onset_s)[present].all()
    assert (rhythm.qrs_onset_s < rhythm.t_peak_s)[present].all()
    # Beats run from before the record to past its end, and the slots suffice for the fastest of patients.
    assert rhythm.qrs_onset_s[:, 0].max() < 0 and (~present).any(1).all()


def test_heart_rate_variability_matches_its_target() -> None:
    patient, rhythm = cohort()
    rr_s = np.diff(rhythm.qrs_onset_s)
    inside = rhythm.qrs_onset_s[:, 1:] < ABSENT_S
    deviation = np.where(inside, rr_s - patient.mean_rr_s[:, None], 0) * 1000 / patient.sdnn_ms[:, None]
    variance = (deviation**2).sum() / inside.sum()
    assert abs(np.sqrt(variance) - 1) < 0.03


def test_qt_follows_fridericia() -> None:
    patient, rhythm = cohort()
    qt_peak_s = (rhythm.t_peak_s - rhythm.qrs_onset_s)[:, 3]
    expected_s = 1e-3 * (patient.qtcf_ms - patient.t_peak_to_end_ms) * np.cbrt(patient.mean_rr_s)
    np.testing.assert_allclose(qt_peak_s, expected_s, rtol=0.02)


# Signals -------------------------------------------------------------------------------------------------------------


def test_the_table_has_the_fiducials_stated() -> None:
    time_ms = np.arange(-400, 700, 0.5)

    def magnitude(wave: slice) -> np.ndarray:
        centre, width = morphology.CENTRE_MS[wave], morphology.WIDTH_MS[wave]
        bank = np.exp(-0.5 * ((time_ms[:, None] - centre) / width) ** 2)
        return np.linalg.norm(bank @ morphology.VECTOR_MV[wave], axis=1)

    p, qrs, t = (magnitude(wave) for wave in (morphology.P_WAVE, morphology.QRS, morphology.T))
    np.testing.assert_allclose(time_ms[p > 0.01][[0, -1]], [morphology.P_ONSET_MS, morphology.P_END_MS], atol=0.5)
    limits = [morphology.QRS_ONSET_MS, morphology.QRS_END_MS]
    np.testing.assert_allclose(time_ms[qrs > 0.02][[0, -1]], limits, atol=0.5)
    peak = t.argmax()
    slope = np.gradient(t, time_ms)
    steepest = peak + slope[peak:].argmin()
    end_ms = time_ms[steepest] - t[steepest] / slope[steepest]
    np.testing.assert_allclose([time_ms[peak], end_ms], [morphology.T_PEAK_MS, morphology.T_END_MS], atol=0.5)


def test_net_areas_give_the_axes_of_the_patient() -> None:
    patient, waves = first_block().patient, first_block().waves
    for wave, wanted in (
        (morphology.P_WAVE, patient.p_axis_deg),
        (morphology.QRS, patient.qrs_axis_deg),
        (morphology.T, patient.t_axis_deg),
    ):
        area = (waves.width_s[:, wave, None] * waves.vector_mv[:, wave]).sum(1) @ lead_stage.DOWER.T
        axis = np.degrees(np.arctan2(2 / np.sqrt(3) * (area[:, 1] - area[:, 0] / 2), area[:, 0]))
        error = np.abs((axis - wanted + 180) % 360 - 180)
        assert np.mean(error < 0.5) > 0.9  # a loop that lies across the frontal plane cannot be turned all the way


def test_the_filtered_record_is_that_of_a_500_hz_rendering() -> None:
    full = np.einsum("ts,bsl->btl", chain_matrix(10, 500, 100), render(SEED, np.arange(96), sample_rate_hz=500))
    error_mv = np.abs(records() / 1000 - full)
    rounding_mv = 0.5e-3
    assert error_mv[:, 200:-200].max() < 1e-3 + rounding_mv
    assert np.percentile(error_mv.max((1, 2)), 90) < 1e-3 + rounding_mv
    # The filters hang on the outermost 500 Hz samples: a complex cut by the end of the record shows there, and through
    # the 0.5 Hz high-pass fades over a second or two.
    assert error_mv.max() < 2e-2


def test_amplitudes_are_physiological() -> None:
    ecg_mv = records() / 1000
    assert np.isfinite(render(SEED, np.arange(32))).all()
    height = np.ptp(ecg_mv, axis=1)
    chest = height[:, 7:]
    assert chest.min() > 0.2 and chest.max() < 6.0
    median = dict(zip(LEADS, np.median(ecg_mv.max(1), axis=0)))
    depth = dict(zip(LEADS, np.median(-ecg_mv.min(1), axis=0)))
    assert median["V1"] < depth["V1"], "V1 is rS"
    assert median["V1"] < median["V3"] < median["V4"] and median["V6"] < median["V4"], "R grows to V4"
    assert depth["V5"] < 0.5 * median["V5"] and depth["aVR"] > median["aVR"]


def test_an_independent_detector_finds_the_beats() -> None:
    lead_ii = render(SEED, np.arange(24), sample_rate_hz=250)[:, :, 1].astype(np.float64)
    heart = first_block()
    r_peak_s = heart.rhythm.qrs_onset_s + heart.waves.centre_s[:, 5:6]  # the kernel nearest to the R peak
    found, true, detected = 0, 0, 0
    for record in range(24):
        detector = XQRS(lead_ii[record], fs=250)
        detector.detect(verbose=False)
        at_s = np.asarray(detector.qrs_inds) / 250
        beats = r_peak_s[record][(r_peak_s[record] > 0.3) & (r_peak_s[record] < 9.7)]
        true += len(beats)
        found += sum(bool(len(at_s)) and np.abs(at_s - beat).min() < 0.075 for beat in beats)
        inside = at_s[(at_s > 0.3) & (at_s < 9.7)]
        detected += sum(np.abs(r_peak_s[record] - at).min() < 0.075 for at in inside) / max(len(inside), 1)
    assert found / true >= 0.98 and detected / 24 >= 0.99
