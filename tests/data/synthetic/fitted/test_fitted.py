"""Tier T2: a record is taken apart and put together; priors know their pool and nothing is copied from it."""

import dataclasses
import os

import jax
import numpy as np
import pytest
from support.synthetic_pools import made_up_pool

from ecg_jax.data.ecg import INDEPENDENT_LEAD_INDICES, RecordPool, normalise
from ecg_jax.data.real.datasets.prepare import prepare_ptbxl
from ecg_jax.data.synthetic.fitted import decomposition, density
from ecg_jax.data.synthetic.fitted import priors as fitted

RATE_HZ, SECONDS = 100, 10


def beating_pool(records: int, seed: int = 0) -> RecordPool:
    """Records of beats: a common shape, varied, at each record's own rate, under noise of its own level."""
    rng = np.random.default_rng(seed)
    time_s = np.arange(RATE_HZ * SECONDS) / RATE_HZ
    shape = np.random.default_rng(7).normal(size=(4, 12)) * np.array([0.15, 1.5, -0.6, 0.35])[:, None]
    centre_s, width_s = np.array([-0.16, 0.0, 0.03, 0.28]), np.array([0.025, 0.012, 0.012, 0.05])
    ecg = np.empty((records, len(time_s), 12))
    for record in ecg:
        rr_s = rng.uniform(0.65, 1.1)
        peaks_s = rng.uniform(-rr_s, 0) + np.cumsum(rr_s * (1 + 0.03 * rng.normal(size=24)))
        weights = shape * (1 + 0.2 * rng.normal(size=shape.shape))
        distance_s = time_s[:, None, None] - peaks_s[:, None]
        bank = np.exp(-0.5 * ((distance_s - centre_s) / width_s) ** 2).sum(1)
        record[:] = 1000 * bank @ weights + rng.uniform(5, 40) * rng.normal(size=(len(time_s), 12))
    pool = made_up_pool(records, seed)
    return dataclasses.replace(pool, ecg=np.rint(ecg).astype(np.int16))


@pytest.fixture(scope="module")
def pool() -> RecordPool:
    return beating_pool(120)


@pytest.fixture(scope="module")
def priors(pool) -> fitted.Priors:
    return fitted.fit_priors(pool)


def render(priors: fitted.Priors, records: int, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    rows, beats_rows = rng.random((2, records, 128), dtype=np.float32)
    words = rng.integers(0, 2**32, (records, 2), dtype=np.uint32)
    one = lambda row, beats_row, word: fitted.render_fitted(row, beats_row, word, priors, RATE_HZ, SECONDS)  # noqa: E731
    return np.asarray(jax.jit(jax.vmap(one))(rows, beats_rows, words))


def scaled(pool: RecordPool, index: int) -> np.ndarray:
    return normalise(pool[index])[:, INDEPENDENT_LEAD_INDICES].astype(float)


def test_parts_make_the_record_again(pool):
    x = scaled(pool, 0)
    parts = decomposition.decompose(x, RATE_HZ)
    assert parts.explained > 0.9
    assert np.abs(np.diff(parts.r_peak_s) - np.exp(parts.rhythm.log_mean_rr)).max() < 0.2
    assert parts.scalars.shape == (fitted.LOG_II_TO_I,)
    np.testing.assert_allclose(parts.scalars[fitted.LOG_BAND], parts.log_band)
    np.testing.assert_allclose(parts.scalars[fitted.LOG_LEAD], parts.log_lead)
    np.testing.assert_allclose(parts.scalars[[fitted.BURST, fitted.LOG_QRS_EXCESS]], [parts.burst, parts.log_excess[0]])


def test_r_peaks_move_with_the_signal(pool):
    x = scaled(pool, 1)
    first, moved = (decomposition.find_r_peaks(part, RATE_HZ) for part in (x[:900], x[7:907]))
    near = np.abs(first[:, None] - 0.07 - moved).min(1)[2:-2]
    assert near.max() < 0.011


def test_rendering_and_decomposition_share_their_bank():
    peaks_s = np.float32([-0.6, 0.2, 0.9, 1.7, 2.4, 3.3])
    time_s = np.arange(0.0037, 2.3, 0.01)  # never just where one beat gives way to the next
    bank = decomposition.design(peaks_s, 1.0, time_s)
    distances, _ = fitted._distances(peaks_s, time_s.astype(np.float32))
    slices = (decomposition.P, decomposition.QRS, decomposition.T)
    for distance_s, wave in zip(distances, slices):
        standard = (np.asarray(distance_s)[:, None] - decomposition.CENTRE_S[wave]) / decomposition.WIDTH_S[wave]
        np.testing.assert_allclose(np.exp(-0.5 * standard**2), bank[:, wave], atol=1e-3)


def test_drawn_records_are_finite_scaled_and_beat_like_the_pool(pool, priors):
    x = render(priors, 96)
    assert x.shape == (96, 1000, 8) and np.isfinite(x).all()
    np.testing.assert_allclose(x.std(1), 1.0, atol=0.35)
    drawn = [decomposition.decompose(record.astype(float), RATE_HZ) for record in x]
    real = [decomposition.decompose(scaled(pool, i), RATE_HZ) for i in range(len(pool))]
    for of in (lambda p: np.exp(p.rhythm.log_mean_rr), lambda p: p.explained, lambda p: p.log_band[4]):
        a, b = np.array([of(p) for p in drawn]), np.array([of(p) for p in real])
        assert abs(np.median(a) - np.median(b)) < 0.6 * b.std() + 0.01
    correlation = lambda x: np.corrcoef(x.reshape(-1, 8).T)  # noqa: E731
    together = np.concatenate([scaled(pool, i) for i in range(len(pool))])
    np.testing.assert_allclose(correlation(x), correlation(together), atol=0.15)


def test_no_drawn_waveform_is_a_copy(pool, priors):
    rows = np.random.default_rng(3).random((200, 128), dtype=np.float32)
    drawn = np.asarray(jax.jit(jax.vmap(lambda row: fitted.draw_parts(row, priors)[0]))(rows)).reshape(200, -1)
    real = np.stack([decomposition.decompose(scaled(pool, i), RATE_HZ).weights.ravel() for i in range(len(pool))])
    assert np.median(nearest(drawn, real)) > 0.7 * np.median(nearest(real, real))
    assert nearest(drawn, real).min() > 0.3 * nearest(real, real).min()


def nearest(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Distance of each row of `a` to the nearest other row of `b`."""
    squared = (a**2).sum(1)[:, None] - 2 * a @ b.T + (b**2).sum(1)
    if a is b:
        np.fill_diagonal(squared, np.inf)
    return np.sqrt(np.maximum(squared.min(1), 0))


def test_priors_name_their_pool_and_refuse_another_format(pool, priors):
    assert priors.real_information == f"pool {priors.pool.digest[:12]}, 120 patients"
    assert fitted.fit_priors(pool.take(np.arange(60))).pool != priors.pool
    with pytest.raises(ValueError, match="fitted to records of 10 s at 100 Hz"):
        fitted.render_fitted(np.zeros(128), np.zeros(128), np.zeros(2, np.uint32), priors, 500, 10)


def test_unusable_records_are_left_out_by_name(pool):
    ecg = pool.ecg.copy()
    ecg[3, :, 0] = 0  # a lead without signal
    ecg[5] = np.random.default_rng(0).normal(0, 100, ecg[5].shape)  # no beats
    priors = fitted.fit_priors(dataclasses.replace(pool, ecg=ecg))
    assert [line.split(":")[0] for line in priors.excluded] == [pool.record_id[3], pool.record_id[5]]
    assert np.isfinite(render(priors, 8)).all()


def test_a_pool_too_small_is_refused(pool):
    with pytest.raises(ValueError, match=r"only 20 of 20 records .* need 24"):
        fitted.fit_priors(pool.take(np.arange(20)))


def test_saved_priors_come_back_whole(priors, tmp_path):
    path = tmp_path / "priors.npz"
    fitted.save(priors, path)
    loaded = fitted.load(path)
    assert (loaded.pool, loaded.beats, loaded.excluded) == (priors.pool, priors.beats, priors.excluded)
    for one, other in zip(jax.tree.leaves(priors), jax.tree.leaves(loaded), strict=True):
        np.testing.assert_array_equal(one, other)
    assert os.listdir(tmp_path) == ["priors.npz"]
    with pytest.raises(FileNotFoundError, match="no such priors"):
        fitted.load(tmp_path / "other.npz")
    path.write_bytes(path.read_bytes()[:-2000])
    with pytest.raises(ValueError, match="not readable as priors"):
        fitted.load(path)
    np.savez(tmp_path / "strange.npz", format=1)
    with pytest.raises(ValueError, match="missing"):
        fitted.load(tmp_path / "strange.npz")


def test_mixture_finds_the_density_of_its_rows():
    rng = np.random.default_rng(0)
    centres = np.array([[3.0, 0.0, 0.0], [-3.0, 1.0, 0.0]])
    rows = centres[rng.integers(2, size=600)] + rng.normal(size=(600, 3)) * np.array([1.0, 0.5, 0.2])
    mixture = density.choose_mixture(rows, 0)
    assert len(mixture.weight) > 1 and mixture.weight.sum() == pytest.approx(1.0)
    single = density.fit_mixture(rows, 1, 1.0, rng)
    assert mixture.log_density(rows).mean() > single.log_density(rows).mean() + 0.3


def test_real_pool_is_decomposed_without_loss(ecg_data_dir, ptbxl_cache):
    real = prepare_ptbxl(ecg_data_dir, ptbxl_cache, on_bad=lambda _: None).in_folds((1,)).take(np.arange(60))
    priors = fitted.fit_priors(real)
    assert len(priors.excluded) <= 3
    explained = [decomposition.decompose(scaled(real, i), RATE_HZ).explained for i in range(20)]
    assert np.median(explained) > 0.85
    assert np.isfinite(render(priors, 16)).all()
