"""Tier T−1: noise with the pool's spectra and nothing else of an ECG, the control for structure.

A stationary Gaussian process with the pool's mean cross-spectrum between the eight independent leads: amplitudes and
relative phases as in multivariate surrogates (Prichard and Theiler, Phys Rev Lett 73:951, 1994), here about a pool's
mean and with random amplitudes too. What beats, waves and rhythm add is what it lacks.
"""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np

from ecg_jax.data.ecg import INDEPENDENT_LEAD_INDICES, RecordPool, normalise
from ecg_jax.data.synthetic.constants import declare
from ecg_jax.data.synthetic.fitted.pool_identity import PoolIdentity, identify, log_ii_to_i
from ecg_jax.data.synthetic.randomness import hashing

#: Weights over neighbouring frequencies: bins of 0.1 Hz in 10 s, the peaks of single heart rates blend.
_SMOOTHING = np.array([0.25, 0.5, 0.25])
#: Share of a frequency's mean power that is put on every lead independently, so that a factor exists.
_SHRINKAGE = 1e-3
_RECORDS_AT_ONCE = 128


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Spectrum:
    """Factors `(frequencies, 8, 8)` L with L Lᴴ the cross-spectrum of I, II, V1–V6, each lead of unit variance."""

    factor: jax.Array
    ii_to_i: jax.Array  # median ratio of the deviations of leads II and I, on which the derived leads hang
    pool: PoolIdentity = dataclasses.field(metadata={"static": True})


def fit_spectrum(pool: RecordPool) -> Spectrum:
    """The mean cross-spectrum of the pool's records, each lead scaled to unit deviation, smoothed over 0.3 Hz.

    Raises ValueError for an empty pool or one without a signal in some lead.
    """
    identity, samples = identify(pool), pool.ecg.shape[1]
    cross = np.zeros((samples // 2 + 1, len(INDEPENDENT_LEAD_INDICES), len(INDEPENDENT_LEAD_INDICES)), np.complex128)
    log_ratios: list[float] = []
    for start in range(0, len(pool), _RECORDS_AT_ONCE):
        x_BxSx12 = normalise(pool.ecg[start : start + _RECORDS_AT_ONCE])
        log_ratios += [log_ii_to_i(x_Sx12.astype(np.float64)) for x_Sx12 in x_BxSx12]
        spectra = np.fft.rfft(x_BxSx12[..., INDEPENDENT_LEAD_INDICES], axis=1)
        cross += np.einsum("bfi,bfj->fij", spectra, spectra.conj(), optimize=True)
    cross = smoothed(cross)
    cross[0] = 0  # a scaled record has no mean
    power = np.einsum("fii,f->i", cross, _both_sides(samples)).real
    if not power.all():
        raise ValueError(f"{pool.source}: lead {int(np.argmin(power))} of I, II, V1–V6 is constant in all records")
    cross /= np.sqrt(np.multiply.outer(power, power))
    ratio = jnp.float32(np.exp(np.median(log_ratios)))
    return Spectrum(jnp.asarray(_factor(cross), jnp.complex64), ratio, identity)


def smoothed(cross_Fx8x8: np.ndarray) -> np.ndarray:
    """Means over neighbouring frequencies; beyond the ends the last value goes on."""
    reach = len(_SMOOTHING) // 2
    padded = np.pad(cross_Fx8x8, ((reach, reach), (0, 0), (0, 0)), "edge")
    return sum(weight * padded[i : i + len(cross_Fx8x8)] for i, weight in enumerate(_SMOOTHING))


def _both_sides(samples: int) -> np.ndarray:
    """How often each frequency of a real transform counts in the power: twice, but for 0 and Nyquist's."""
    counts = np.full(samples // 2 + 1, 2.0)
    counts[0] = 1.0
    counts[-1] = 1.0 if samples % 2 == 0 else 2.0
    return counts


def _factor(cross_Fx8x8: np.ndarray) -> np.ndarray:
    """Cholesky factors of the cross-spectrum shrunk towards equal and independent leads; zero where it is zero."""
    leads = cross_Fx8x8.shape[-1]
    level = np.einsum("fii->f", cross_Fx8x8).real / leads
    used = level > 0
    shrunk = (1 - _SHRINKAGE) * cross_Fx8x8[used] + _SHRINKAGE * level[used, None, None] * np.eye(leads)
    factor = np.zeros_like(cross_Fx8x8)
    factor[used] = np.linalg.cholesky(shrunk)
    return factor


def render_surrogate(words: jax.Array, spectrum: Spectrum, sample_rate_hz: int, seconds: int) -> jax.Array:
    """Records of tier T−1 from uint32 `words (B, 2)`: leads I, II, V1–V6 in standard deviations, `(B, samples, 8)`.

    Raises ValueError for a rate or length other than that of the spectrum's pool.
    """
    spectrum.pool.require_format("these spectra", sample_rate_hz, seconds)
    samples = sample_rate_hz * seconds
    frequencies, leads, _ = spectrum.factor.shape
    real, imaginary = jnp.split(hashing.standard_normal(words, 2 * leads, frequencies), 2, axis=-1)
    # Half the power lies in each part, but the transform of Nyquist's frequency is real.
    z_BxFx8 = jax.lax.complex(real, imaginary) * np.float32(np.sqrt(0.5))
    if samples % 2 == 0:
        z_BxFx8 = z_BxFx8.at[:, -1].set(real[:, -1].astype(z_BxFx8.dtype))
    x_BxFx8 = jnp.einsum("fij,bfj->bfi", spectrum.factor, z_BxFx8)
    return samples * jnp.fft.irfft(x_BxFx8, samples, axis=1)


declare("surrogate", vars(), "_SMOOTHING _SHRINKAGE _RECORDS_AT_ONCE")
