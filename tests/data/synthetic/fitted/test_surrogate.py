"""Tier T−1: noise that shares the pool's cross-spectrum and nothing else."""

import dataclasses

import jax
import numpy as np
import pytest
from support.synthetic_pools import made_up_pool

from ecg_jax.data.ecg import INDEPENDENT_LEAD_INDICES, normalise
from ecg_jax.data.synthetic import Tier, recipe, render
from ecg_jax.data.synthetic.fitted import pool_identity, surrogate

RECORDS = 512


@pytest.fixture(scope="module")
def pool():
    return made_up_pool(96)


@pytest.fixture(scope="module")
def spectrum(pool):
    return surrogate.fit_spectrum(pool)


def words(seed: int, records: int = RECORDS) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 2**32, (records, 2), dtype=np.uint32)


@pytest.fixture(scope="module")
def noise(spectrum) -> np.ndarray:
    render = jax.jit(surrogate.render_surrogate, static_argnums=(2, 3))
    return np.asarray(render(words(0), spectrum, 100, 10))


def cross_spectrum(x_BxSx8: np.ndarray) -> np.ndarray:
    spectra = np.fft.rfft(x_BxSx8, axis=1)
    return surrogate.smoothed(np.einsum("bfi,bfj->fij", spectra, spectra.conj()) / len(spectra))


def test_noise_has_unit_variance_and_no_mean(noise):
    assert noise.shape == (RECORDS, 1000, 8) and noise.dtype == np.float32 and np.isfinite(noise).all()
    np.testing.assert_allclose((noise**2).mean((0, 1)), 1.0, atol=0.1)
    assert np.abs(noise.mean(1)).max() < 1e-4


def test_noise_has_the_cross_spectrum_of_the_pool(pool, noise):
    real = normalise(pool.ecg)[..., INDEPENDENT_LEAD_INDICES]
    expected, found = cross_spectrum(real), cross_spectrum(noise)
    band = slice(6, 60)  # of the sinusoids; each frequency is an average over few degrees of freedom
    error = np.linalg.norm(found[band] - expected[band]) / np.linalg.norm(expected[band])
    assert error < 0.15
    np.testing.assert_allclose(
        np.corrcoef(noise.reshape(-1, 8).T), np.corrcoef(real.reshape(-1, 8).T), atol=0.08
    )  # fmt: skip


def test_noise_is_gaussian_and_its_records_unrelated(noise):
    kurtosis = (noise**4).mean((0, 1)) / (noise**2).mean((0, 1)) ** 2
    np.testing.assert_allclose(kurtosis, 3.0, atol=0.4)
    flat = noise.reshape(RECORDS, -1)
    assert abs((flat[:-1] * flat[1:]).mean()) < 0.02


def test_same_words_same_noise_whatever_the_batch(spectrum, noise):
    part = jax.jit(surrogate.render_surrogate, static_argnums=(2, 3))(words(0)[8:16], spectrum, 100, 10)
    np.testing.assert_allclose(part, noise[8:16], atol=1e-5)


def test_identity_is_the_pools_whatever_the_order(pool, spectrum):
    shuffled = pool.take(np.random.default_rng(0).permutation(len(pool)))
    assert surrogate.fit_spectrum(shuffled).pool == spectrum.pool
    assert spectrum.pool.real_information == f"pool {spectrum.pool.digest[:12]}, 96 patients"
    changed = dataclasses.replace(pool, ecg=pool.ecg + (np.arange(len(pool)) == 3)[:, None, None].astype(np.int16))
    assert surrogate.fit_spectrum(changed).pool != spectrum.pool
    assert surrogate.fit_spectrum(pool.take(np.arange(95))).pool != spectrum.pool


def test_another_format_or_no_signal_is_refused(pool, spectrum):
    with pytest.raises(ValueError, match=r"10 s at 100 Hz .* cannot render 10 s at 250 Hz"):
        surrogate.render_surrogate(words(0, 2), spectrum, 250, 10)
    with pytest.raises(ValueError, match="without records"):
        surrogate.fit_spectrum(pool.take(np.array([], int)))
    silent = pool.ecg.copy()
    silent[..., 6] = 5
    with pytest.raises(ValueError, match=r"lead 2 .* constant"):
        surrogate.fit_spectrum(dataclasses.replace(pool, ecg=silent))


def test_the_derived_leads_hang_on_the_true_ratio_of_the_measured_ones():
    """Of scaled leads Einthoven's law still tells how large II is relative to I."""
    ecg = render(3, np.arange(32), recipe(Tier.ANATOMY), 100).astype(np.float64)
    true = np.log(ecg[:, :, 1].std(1) / ecg[:, :, 0].std(1))
    scaled = (ecg - ecg.mean(1, keepdims=True)) / ecg.std(1, keepdims=True)
    found = np.array([pool_identity.log_ii_to_i(record) for record in scaled])
    assert np.abs(found - np.clip(true, -pool_identity.MAX_LOG_RATIO, pool_identity.MAX_LOG_RATIO)).max() < 0.02
