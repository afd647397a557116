import copy
import dataclasses
import functools
import hashlib
import json
import os
import subprocess
import sys
import threading

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from support.places import REPOSITORY

from ecg_jax.data.ecg import INDEPENDENT_LEAD_INDICES, LEADS
from ecg_jax.data.preprocess import chain_matrix
from ecg_jax.data.synthetic import (
    ADULT,
    UNIFORM,
    Population,
    Recipe,
    SyntheticSource,
    Tier,
    fingerprint,
    only,
    recipe,
    render,
)
from ecg_jax.data.synthetic.physiology import leads as lead_stage
from ecg_jax.data.synthetic.physiology.condition_mix import ConditionMix
from ecg_jax.data.synthetic.physiology.conditions import Morphology, Rhythm, named
from ecg_jax.data.synthetic.physiology.sampling import Grid
from ecg_jax.data.synthetic.randomness.draws import cut
from ecg_jax.data.synthetic.render import generator, source
from ecg_jax.data.synthetic.render.tiers import Signal

SEED = 7
#: Tier T1d with every condition as frequent as the others.
MADE_BY = recipe(Tier.ACQUISITION, UNIFORM)
GOLDEN_HEART_RATE = (119.45855, 91.34116, 67.07787, 67.92966)
GOLDEN_QRS_AXIS = (-59.9657, 26.9885, -6.52194, 50.72841)
GOLDEN_V2 = (198, 204, 188, 156, 118)
GOLDEN_FINGERPRINT = "0707632bff1d536cd032e3dd118e606a187fb5f246333e768eab2616e3173101"


@functools.cache
def records() -> np.ndarray:
    """The first 96 records, 100 Hz, as int16."""
    return SyntheticSource(SEED, MADE_BY).read(np.arange(96))


@functools.cache
def first_block(tier: Tier = Tier.ACQUISITION) -> generator.Draft:
    """What was drawn for records 0 to 31."""
    made_by = MADE_BY if tier is Tier.ACQUISITION else recipe(tier)
    return jax.tree.map(np.asarray, source.on_host(source.draw_block, SEED, 0, made_by, 10).result())


def digest(ecg: np.ndarray) -> str:
    return hashlib.sha256(np.ascontiguousarray(ecg).tobytes()).hexdigest()


# Determinism ---------------------------------------------------------------------------------------------------------


def test_an_index_gives_the_same_bytes_whatever_is_asked_with_it() -> None:
    whole = records()
    for asked in ([5], [95, 0, 33, 33], list(range(20, 70)), [31, 32]):
        fresh = SyntheticSource(SEED, MADE_BY)
        assert np.array_equal(fresh.read(np.array(asked)), whole[asked])
    assert np.array_equal(SyntheticSource(SEED, MADE_BY)[40], whole[40])
    assert np.array_equal(SyntheticSource(SEED, MADE_BY, cache_records=32).read(np.arange(96)), whole)


def test_records_and_seeds_differ() -> None:
    assert len({digest(record) for record in records()}) == 96
    assert not np.array_equal(SyntheticSource(SEED + 1, MADE_BY)[0], records()[0])
    # Two patients differ in the shape of a beat, not only in its timing.
    weights = first_block().heart.weights_mv.rest.reshape(32, -1)
    assert np.abs(np.corrcoef(weights) - np.eye(32)).max() < 0.999


def test_indices_reach_beyond_32_bits() -> None:
    stream = SyntheticSource(SEED, MADE_BY)
    far = stream.read(np.array([0, 2**32, 2**40 + 5], np.uint64))
    assert np.array_equal(far[0], records()[0])
    assert len({digest(record) for record in far}) == 3


RESTART = """
import sys, threading, hashlib, json
import jax, numpy as np
jax.config.update("jax_num_cpu_devices", 8)
from ecg_jax.data.synthetic import UNIFORM, SyntheticSource, Tier, recipe
made_by = recipe(Tier.ACQUISITION, UNIFORM)
read = lambda: hashlib.sha256(SyntheticSource(7, made_by).read(np.arange(32, 64)).tobytes()).hexdigest()
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
    root = REPOSITORY
    environment = {**os.environ, "PYTHONPATH": str(root), "JAX_PLATFORMS": "cpu"}
    done = subprocess.run(
        [sys.executable, "-c", RESTART], capture_output=True, text=True, timeout=240, env=environment, check=False
    )
    assert done.returncode == 0, done.stderr
    seen = json.loads(done.stdout.splitlines()[-1])
    assert set(seen.values()) == {digest(records()[32:64])}, seen


def test_one_source_serves_many_threads() -> None:
    shared, found = SyntheticSource(SEED, MADE_BY, cache_records=64), {}

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
    patient = first_block().heart.patient
    np.testing.assert_allclose(patient.heart_rate_bpm[:4], GOLDEN_HEART_RATE, rtol=1e-4)
    np.testing.assert_allclose(patient.qrs_axis_deg[:4], GOLDEN_QRS_AXIS, rtol=1e-4)
    assert np.abs(records()[0, 100:105, 7] - np.array(GOLDEN_V2)).max() <= 1
    assert fingerprint() == GOLDEN_FINGERPRINT


def test_the_fingerprint_depends_on_all_that_decides_a_record() -> None:
    changed = dataclasses.replace(ADULT, qrs_mean_ms=90.0)
    recipes = [recipe(tier) for tier in Tier] + [MADE_BY, recipe(Tier.ACQUISITION, population=changed)]
    found = [fingerprint(made_by) for made_by in recipes] + [fingerprint(recipe(Tier.FITTED), "a pool")]
    assert len(set(found)) == len(found)


def test_a_tier_adds_and_leaves_the_rest() -> None:
    """The same seed and index is the same patient at every tier: tiers differ by what they add."""
    plain, anatomical = first_block(Tier.VECTORS).heart, first_block(Tier.ANATOMY).heart
    for name in ("heart_rate_bpm", "qrs_axis_deg", "pr_ms", "body_gain"):
        np.testing.assert_allclose(getattr(plain.patient, name), getattr(anatomical.patient, name), rtol=1e-5)
    np.testing.assert_allclose(plain.trains.qrs_onset_s, anatomical.trains.qrs_onset_s, atol=1e-5)


def test_device_placement_gives_the_same_values() -> None:
    """Fused into one program, as inside a training step, and staged on the host."""
    grid = Grid(source.RENDER_RATE_HZ, 10, source.GUARD_SAMPLES)
    index = jnp.arange(32, dtype=jnp.uint32)

    @jax.jit
    def fused(index: jax.Array) -> jax.Array:
        keys = source.index_keys(jnp.uint32(SEED), jnp.zeros_like(index), index)
        leads_mv = generator.synthesise(*keys, MADE_BY, None, grid)
        chain = source.host_chain(100, 10)
        return generator.all_leads(chain(leads_mv.reshape(-1, grid.samples)).reshape(32, 8, -1))

    on_device_mv, on_host_mv = np.asarray(fused(index)), records()[:32] / 1000
    # Amplitudes are up to 5 mV. A recorder's step that rounds the other way (5 µV) shows, filtered, as less.
    assert np.percentile(np.abs(on_device_mv - on_host_mv), 99.9) < 1e-5 * 5 + 0.5e-3
    assert np.abs(on_device_mv - on_host_mv).max() < 5e-3


# Bounds --------------------------------------------------------------------------------------------------------------


def test_a_finite_pool_is_the_start_of_the_stream_and_ends() -> None:
    pool = SyntheticSource(SEED, MADE_BY, patients=40)
    assert len(pool) == 40
    assert np.array_equal(pool.read(np.arange(40)), records()[:40])
    assert sum(1 for _ in pool) == 40
    with pytest.raises(IndexError, match="record 40 of a synthetic pool of 40"):
        pool.read(np.array([3, 40]))


def test_a_patient_has_several_records() -> None:
    pool = SyntheticSource(SEED, recipe(Tier.ANATOMY), patients=20, records_per_patient=3)
    assert len(pool) == 60
    draft = source.on_host(source.draw_block, SEED, 0, recipe(Tier.ANATOMY), 10, 3).result()
    weights = np.asarray(draft.heart.weights_mv.rest).reshape(32, -1)
    onset_s = np.asarray(draft.heart.trains.qrs_onset_s)
    for i in range(30):
        same = i % 3 != 2
        assert np.array_equal(weights[i], weights[i + 1]) == same
        assert not np.array_equal(onset_s[i], onset_s[i + 1])
    assert len({digest(record) for record in pool.read(np.arange(60))}) == 60


def test_a_source_goes_to_another_process_without_what_it_has_cached() -> None:
    stream = SyntheticSource(SEED, MADE_BY)
    stream.read(np.arange(32))
    sent = copy.copy(stream)  # by the same protocol
    assert not sent._blocks and sent._lock is not stream._lock
    assert np.array_equal(sent.read(np.arange(32)), stream.read(np.arange(32)))


def test_the_identity_tells_formats_apart() -> None:
    sources = [SyntheticSource(SEED, MADE_BY, rate, seconds) for rate in (100, 250) for seconds in (5, 10)]
    assert len({source.identity for source in sources}) == 4


@pytest.mark.parametrize("rate_hz", source.RATES_HZ)
def test_every_rate_is_read(rate_hz: int) -> None:
    ecg = SyntheticSource(SEED, recipe(Tier.VECTORS), rate_hz, 2).read(np.arange(3))
    assert ecg.shape == (3, 2 * rate_hz, 12) and np.ptp(ecg) > 500


def test_a_longer_record_begins_as_a_shorter_one() -> None:
    """No beat depends on where the record ends, in slow hearts either; T0 draws the interval after each beat."""
    for tier in (Tier.ECGSYN, Tier.ANATOMY):
        short, long = (render(SEED, np.arange(128), recipe(tier), 100, seconds) for seconds in (10, 13))
        assert np.abs(long[:, :1000] - short).max() < 2e-3, tier


def test_wrong_requests_are_refused() -> None:
    stream = SyntheticSource(SEED, MADE_BY)
    with pytest.raises(TypeError, match="unbounded"):
        len(stream)
    with pytest.raises(IndexError, match="start at 0"):
        stream.read(np.array([-1]))
    with pytest.raises(IndexError, match="integers"):
        stream.read(np.array([0.5]))
    assert stream.read(np.array([], np.int64)).shape == (0, 1000, 12)
    for match, wrong in (
        ("seed", {"seed": 2**32}),
        ("patients is 0", {"patients": 0}),
        ("records_per_patient is 0", {"records_per_patient": 0}),
        ("at most 2\\^31", {"patients": 2**30, "records_per_patient": 4}),
        ("one block alone holds 32", {"cache_records": 31}),
        ("sample rate 99", {"sample_rate_hz": 99}),
        ("0 seconds", {"seconds": 0}),
        ("4 seconds", {"seconds": 4}),  # too short for what conditions promise
        ("17 seconds", {"seconds": 17}),
        ("7.5 seconds", {"seconds": 7.5}),
        ("only a finite pool", {"records_per_patient": 2}),
        ("needs priors fitted to a pool", {"made_by": recipe(Tier.FITTED)}),
    ):
        with pytest.raises(ValueError, match=match):
            SyntheticSource(**{"seed": SEED, "made_by": MADE_BY} | wrong)


def test_impossible_recipes_are_refused() -> None:
    for match, wrong in (
        ("cannot be negative", lambda: Population("broken", t_axis_sd_deg=-1.0)),
        ("heart_rate_median_bpm is 0", lambda: Population("broken", heart_rate_median_bpm=0.0)),
        ("heart_rate_median_bpm is 400", lambda: Population("broken", heart_rate_median_bpm=400.0)),
        ("female_fraction is 2", lambda: Population("broken", female_fraction=2.0)),
        ("PR of 900", lambda: Population("broken", pr_median_ms=900.0)),
        ("anatomy is -1", lambda: Recipe(anatomy=-1.0)),
        ("has no anatomy", lambda: Recipe(Signal.ECGSYN, anatomy=1.0)),
        ("unknown condition 'LBBBB'", lambda: named("LBBBB")),
        ("empty set", lambda: only()),
        ("no record can show PACED_DUAL with LBBB", lambda: only(Rhythm.PACED_DUAL, Morphology.LBBB)),
        ("26 weights >= 0", lambda: ConditionMix((1.0,), UNIFORM.morphologies)),
        ("sum 0", lambda: ConditionMix((0.0,) * len(Rhythm), UNIFORM.morphologies)),
        ("give it more rows", lambda: cut(jnp.zeros(4), (2,), (3,))),
    ):
        with pytest.raises(ValueError, match=match):
            wrong()


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
    ecg_mv = render(SEED, np.arange(32), MADE_BY)
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


@pytest.mark.parametrize("tier", [Tier.VECTORS, Tier.ANATOMY, Tier.CONDITIONS])
def test_rank(tier: Tier) -> None:
    """Wave vectors alone are a dipole of rank 3; from T1b on more than 95 % but not all energy is in 3 components."""
    ecg = render(SEED, np.arange(32), recipe(tier))[:, :, INDEPENDENT_LEAD_INDICES]
    singular = np.linalg.svd(ecg - ecg.mean(1, keepdims=True), compute_uv=False)
    share = (singular[:, :3] ** 2).sum(1) / (singular**2).sum(1)
    if tier is Tier.VECTORS:
        assert (singular[:, 3] < 1e-4 * singular[:, 0]).all()
    else:
        assert (singular[:, 7] > 5e-4 * singular[:, 0]).all() and share.min() > 0.95 and share.max() < 0.99999


# Signals -------------------------------------------------------------------------------------------------------------


def test_the_filtered_record_is_that_of_a_500_hz_rendering() -> None:
    made_by = recipe(Tier.ANATOMY)
    found = SyntheticSource(SEED, made_by).read(np.arange(64)) / 1000
    rendered = render(SEED, np.arange(64), made_by, sample_rate_hz=500)
    error_mv = np.abs(found - np.einsum("ts,bsl->btl", chain_matrix(10, 500, 100), rendered))
    rounding_mv = 0.5e-3
    assert error_mv[:, 200:-200].max() < 1e-3 + rounding_mv
    assert np.percentile(error_mv.max((1, 2)), 90) < 1e-3 + rounding_mv
    # The filters hang on the outermost 500 Hz samples: a complex cut by the end of the record shows there, and through
    # the 0.5 Hz high-pass fades over a second or two.
    assert error_mv.max() < 2e-2


def test_amplitudes_are_physiological() -> None:
    made_by = recipe(Tier.ANATOMY)
    ecg_mv = SyntheticSource(SEED, made_by).read(np.arange(96)) / 1000
    height = np.ptp(ecg_mv, axis=1)
    chest = height[:, 7:]
    assert chest.min() > 0.2 and chest.max() < 6.0
    median = dict(zip(LEADS, np.median(ecg_mv.max(1), axis=0)))
    depth = dict(zip(LEADS, np.median(-ecg_mv.min(1), axis=0)))
    assert median["V1"] < depth["V1"], "V1 is rS"
    assert median["V1"] < median["V3"] < median["V4"] and median["V6"] < median["V4"], "R grows to V4"
    assert depth["V5"] < 0.5 * median["V5"] and depth["aVR"] > median["aVR"]


def test_every_tier_renders_finite_records() -> None:
    for tier in (Tier.ECGSYN, Tier.VECTORS, Tier.ANATOMY, Tier.CONDITIONS, Tier.ACQUISITION):
        made_by = recipe(tier, UNIFORM)
        ecg = SyntheticSource(SEED, made_by).read(np.arange(64))
        assert ecg.dtype == np.int16 and (np.ptp(ecg, axis=1) > 0).any(1).all(), tier
