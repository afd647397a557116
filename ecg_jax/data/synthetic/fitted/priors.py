"""Tier T2: records drawn from priors fitted to a real pool.

Each record of the pool is taken apart (`decomposition`): rhythm, weights of a bank of kernels in every lead, level and
spectrum of the rest. A density over all of these together is drawn from, and the parts are put together again.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from scipy import special

from ecg_jax.data.ecg import INDEPENDENT_LEAD_INDICES, Array, RecordPool, normalise
from ecg_jax.data.storage.arrays import checksums, stored_arrays
from ecg_jax.data.synthetic.constants import declare
from ecg_jax.data.synthetic.fitted import decomposition
from ecg_jax.data.synthetic.fitted.decomposition import (
    BAND_EDGES_HZ,
    BANDS,
    CENTRE_S,
    KERNELS,
    WIDTH_S,
    NotDecomposable,
    Parts,
)
from ecg_jax.data.synthetic.fitted.density import choose_mixture
from ecg_jax.data.synthetic.fitted.pool_identity import PoolIdentity, identify, log_ii_to_i
from ecg_jax.data.synthetic.randomness import hashing
from ecg_jax.data.synthetic.randomness.draws import truncated_normal
from ecg_jax.files.whole_file import whole_file

LEADS = len(INDEPENDENT_LEAD_INDICES)
#: Where `Parts.scalars` holds what.
LOG_MEAN_RR, LOG_SD_RR, NEIGHBOUR, LOG_GAIN_SD, BURST, LOG_QRS_EXCESS, LOG_START_EXCESS, LOG_END_EXCESS = range(8)
LOG_BAND = slice(8, 8 + BANDS)
LOG_LEAD = slice(LOG_BAND.stop, LOG_BAND.stop + LEADS)
#: Lead II's deviation relative to lead I's: scaled leads do not tell it, and III, aVR, aVL and aVF hang on it.
LOG_II_TO_I = LOG_LEAD.stop
SCALARS = LOG_II_TO_I + 1
#: Components of the waveform: enough for this share of its variance, as far as the pool's size bears them.
WAVEFORM_SHARE = 0.995
MAX_COMPONENTS = 48
RECORDS_PER_COMPONENT = 6
MIN_RECORDS = 24
#: Knots of the marginal distributions; beyond them lie 0.1 % of a normal distribution on either side.
SCORES = np.linspace(-3.0, 3.0, 31)
#: The least part of a lead's variance that beats have.
MIN_BEAT_SHARE = 0.1
#: A draw lies within this many deviations of its mixture component.
LIMIT_SD = 4.0
#: Reach of the residual's rise around the R peak, and of the slow transients that filters leave at a record's ends.
_QRS_RISE_S, _TRANSIENT_S = 0.05, 0.2
_TRANSIENTS = 4
#: The residual's level wanders between points this far apart.
_BURST_S = 0.5
#: Share of independent noise that keeps the residual's cross-spectrum positive definite.
_COHERENCE_SHRINKAGE = 0.02
_SEED = 20_030_507
_FORMAT = 2


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Priors:
    """What T2 knows of a pool; float32, leads I, II, V1–V6. D = waveform components + `SCALARS`.

    A record is `mean + factor z` of one mixture component; its coordinates are normal scores, which `marginal` turns
    into values: first the components of the waveform, then the scalars in the order of `Parts.scalars`.
    """

    cumulative_weight: jax.Array  # (K,) of the components of the mixture
    mean: jax.Array  # (K, D)
    factor: jax.Array  # (K, D, D)
    waveform_mean: jax.Array  # (KERNELS * 8,)
    waveform_basis: jax.Array  # (D - SCALARS, KERNELS * 8)
    marginal: jax.Array  # (D, knots) values at the normal scores `SCORES`
    residual_factor: jax.Array  # (8, 8, frequencies) complex64
    pool: PoolIdentity = dataclasses.field(metadata={"static": True})
    beats: int = dataclasses.field(metadata={"static": True})  # slots for beats of a record
    excluded: tuple[str, ...] = dataclasses.field(metadata={"static": True})  # "record id: reason"

    @property
    def real_information(self) -> str:
        """As it enters a run's row."""
        return self.pool.real_information


def fit_priors(pool: RecordPool, *, progress: Callable[[int, int], None] | None = None) -> Priors:
    """Fits T2 to a pool. `progress(done, records)` is called as records are taken apart.

    Records without usable beats are left out and named in `Priors.excluded`. Raises ValueError when fewer than
    `MIN_RECORDS` remain.
    """
    identity = identify(pool)
    parts: list[Parts] = []
    log_ratios: list[float] = []
    excluded = []
    for index in range(len(pool)):
        x_Sx12 = normalise(pool[index]).astype(np.float64)
        try:
            parts.append(decomposition.decompose(x_Sx12[:, INDEPENDENT_LEAD_INDICES], pool.sample_rate_hz))
            log_ratios.append(log_ii_to_i(x_Sx12))
        except NotDecomposable as reason:
            excluded.append(f"{pool.record_id[index]}: {reason}")
        if progress is not None:
            progress(index + 1, len(pool))
    if len(parts) < MIN_RECORDS:
        raise ValueError(
            f"{pool.source}: only {len(parts)} of {len(pool)} records have usable beats, priors need {MIN_RECORDS}; "
            f"first left out: {excluded[:3]}"
        )
    weights_NxW = np.stack([part.weights.ravel() for part in parts])
    scalars_NxA = np.column_stack([np.stack([part.scalars for part in parts]), log_ratios])
    waveform_mean, scores, basis = _principal_waveforms(weights_NxW, len(parts) // RECORDS_PER_COMPONENT)
    values_NxD = np.concatenate([scores, scalars_NxA], 1)
    mixture = choose_mixture(_normal_scores(values_NxD), _SEED)
    shortest_rr_s = float(np.exp(scalars_NxA[:, 0].min()))
    return Priors(
        cumulative_weight=jnp.asarray(np.cumsum(mixture.weight), jnp.float32),
        mean=jnp.asarray(mixture.mean, jnp.float32),
        factor=jnp.asarray(mixture.factor, jnp.float32),
        waveform_mean=jnp.asarray(waveform_mean, jnp.float32),
        waveform_basis=jnp.asarray(basis, jnp.float32),
        marginal=jnp.asarray(np.quantile(values_NxD, special.ndtr(SCORES), axis=0).T, jnp.float32),
        residual_factor=jnp.asarray(_residual_factor(parts, pool.sample_rate_hz), jnp.complex64),
        pool=identity,
        beats=math.ceil(1.1 * identity.seconds / shortest_rr_s) + 4,
        excluded=tuple(excluded),
    )


def _principal_waveforms(weights_NxW: np.ndarray, most: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Mean, whitened scores and basis of the weights, principal in the energy of the waveforms that they make."""
    time_s = np.arange(-0.5, 1.0, 0.005)
    bank = np.exp(-0.5 * ((time_s[:, None] - CENTRE_S) / WIDTH_S) ** 2)
    energy = np.linalg.cholesky(bank.T @ bank + 1e-3 * np.eye(KERNELS)).T  # energy of W: |energy @ W|²
    mean = weights_NxW.mean(0)
    centred = (weights_NxW - mean).reshape(-1, KERNELS, LEADS)
    scaled = np.einsum("kg,ngc->nkc", energy, centred).reshape(len(centred), -1)
    left, size, right = np.linalg.svd(scaled, full_matrices=False)
    enough = int(np.searchsorted(np.cumsum(size**2) / (size**2).sum(), WAVEFORM_SHARE)) + 1
    keep = max(1, min(enough, most, MAX_COMPONENTS))
    sd = size[:keep] / np.sqrt(len(centred))
    basis = np.linalg.solve(energy, right[:keep].reshape(keep, KERNELS, LEADS)).reshape(keep, -1) * sd[:, None]
    return mean, left[:, :keep] * np.sqrt(len(centred)), basis


def _normal_scores(values_NxD: np.ndarray) -> np.ndarray:
    """Each column's ranks as quantiles of the standard normal distribution."""
    rank = values_NxD.argsort(0).argsort(0)
    return special.ndtri((rank + 0.5) / len(values_NxD))


def _level(log_band: Array, frequency_hz: np.ndarray) -> Array:
    """Amplitude per frequency, `(..., frequencies)`: the bands' log power as steps."""
    band = np.clip(np.searchsorted(BAND_EDGES_HZ, frequency_hz, "right") - 1, 0, BANDS - 1)
    xp = np if isinstance(log_band, np.ndarray) else jnp
    return xp.exp(0.5 * log_band)[..., band]


def _lead_gain(log_lead: Array) -> Array:
    """Amplitude per lead, of unit mean square over the leads."""
    xp = np if isinstance(log_lead, np.ndarray) else jnp
    power = xp.exp(log_lead)
    return xp.sqrt(power / power.mean(-1, keepdims=True))


def _residual_factor(parts: list[Parts], sample_rate_hz: int) -> np.ndarray:
    """Cholesky factors `(8, 8, frequencies)` of the mean cross-spectrum of the residuals, each relative to its own
    bands and leads."""
    frequency_hz = np.fft.rfftfreq(len(parts[0].residual), 1 / sample_rate_hz)
    cross = np.zeros((len(frequency_hz), LEADS, LEADS), np.complex128)
    for part in parts:
        spectrum = np.fft.rfft(part.residual, axis=0) / len(part.residual)
        relative = spectrum / _level(part.log_band, frequency_hz)[:, None] / _lead_gain(part.log_lead)
        cross += np.einsum("fi,fj->fij", relative, relative.conj())
    cross /= len(parts)
    cross = 0.25 * cross[np.r_[0, : len(cross) - 1]] + 0.5 * cross + 0.25 * cross[np.r_[1 : len(cross), len(cross) - 1]]
    cross[0] = 0  # a scaled record has no mean
    own = np.einsum("fii->f", cross).real / LEADS
    shrunk = (1 - _COHERENCE_SHRINKAGE) * cross + _COHERENCE_SHRINKAGE * own[:, None, None] * np.eye(LEADS)
    factor = np.zeros_like(cross)
    factor[1:] = np.linalg.cholesky(shrunk[1:] + 1e-9 * np.eye(LEADS))
    return np.moveaxis(factor, 0, -1)


def render_fitted(
    row: jax.Array, beats_row: jax.Array, words: jax.Array, priors: Priors, sample_rate_hz: int, seconds: int
) -> jax.Array:
    """One record of tier T2: leads I, II, V1–V6 in standard deviations, `(samples, 8)`, to within a scale per lead.

    `row` and `beats_row` hold uniform draws, `words` the two uint32 that key the noise. Raises ValueError for a rate or
    length other than the pool's.
    """
    priors.pool.require_format("these priors", sample_rate_hz, seconds)
    weights_GxC, scalars = draw_parts(row, priors)
    mean_rr_s = jnp.exp(scalars[LOG_MEAN_RR])
    r_peak_s, gain = _beats(beats_row, scalars, priors.beats)
    time_s = jnp.arange(sample_rate_hz * seconds, dtype=jnp.float32) / sample_rate_hz
    distance_s, beat = _distances(r_peak_s, time_s)
    # One wave's kernels are neighbours in the bank, and every sample sees one beat per wave.
    stretch = jnp.sqrt(jnp.clip(mean_rr_s, *decomposition.STRETCH_RR_S))
    scales: tuple[float | jax.Array, ...] = (1.0, 1.0, 1.0 / stretch)
    bank_GxS = jnp.concatenate(
        [
            jnp.exp(-0.5 * ((d * scale - CENTRE_S[wave, None]) / WIDTH_S[wave, None]) ** 2)
            for d, wave, scale in zip(distance_s, (decomposition.P, decomposition.QRS, decomposition.T), scales)
        ]
    )
    ecg_CxS = (weights_GxC.T @ bank_GxS) * gain[beat]
    rise = jnp.expm1(scalars[LOG_QRS_EXCESS]) * jnp.exp(-0.5 * (distance_s[1] / _QRS_RISE_S) ** 2)
    noise_CxS, transients_CxS = _residual(words, scalars, priors, sample_rate_hz)
    noise_CxS = jnp.maximum(1.0 + rise, 0.0) * noise_CxS + transients_CxS
    # The pool's leads have unit variance, beats and residual together, which the drawn weights know only in the mean.
    share = jnp.maximum(1.0 - noise_CxS.var(1), MIN_BEAT_SHARE)
    return (ecg_CxS * jnp.sqrt(share / (ecg_CxS.var(1) + 1e-6))[:, None] + noise_CxS).T


def ii_to_i(row: jax.Array, priors: Priors) -> jax.Array:
    """How large lead II is relative to lead I in the record that `render_fitted` makes of `row`."""
    return jnp.exp(draw_parts(row, priors)[1][LOG_II_TO_I])


def draw_parts(row: jax.Array, priors: Priors) -> tuple[jax.Array, jax.Array]:
    """Kernel weights `(KERNELS, 8)` and scalars `(SCALARS,)` of one record from a row of uniform draws."""
    dimensions = priors.mean.shape[1]
    component = jnp.minimum((row[0] > priors.cumulative_weight).sum(), len(priors.mean) - 1)
    z = truncated_normal(row[1 : 1 + dimensions], LIMIT_SD)
    x = priors.mean[component] + priors.factor[component] @ z
    position = jnp.clip((x - SCORES[0]) / (SCORES[1] - SCORES[0]), 0.0, len(SCORES) - 1.001)
    knot = position.astype(jnp.int32)
    low, high = (priors.marginal[jnp.arange(dimensions), knot + step] for step in (0, 1))
    values = low + (position - knot) * (high - low)
    weights = priors.waveform_mean + values[: dimensions - SCALARS] @ priors.waveform_basis
    return weights.reshape(KERNELS, LEADS), values[dimensions - SCALARS :]


def _beats(beats_row: jax.Array, scalars: jax.Array, beats: int) -> tuple[jax.Array, jax.Array]:
    """R peaks (s), ascending from one or two before the record, and the gain of each beat, both `(beats,)`."""
    mean_rr_s, neighbour = jnp.exp(scalars[LOG_MEAN_RR]), jnp.tanh(scalars[NEIGHBOUR])
    sd_rr_s = jnp.exp(scalars[LOG_SD_RR]) - decomposition.RR_SD_FLOOR_S
    z = truncated_normal(beats_row[1 : 1 + 2 * beats])
    rr_z, gain_z = z[:beats], z[beats:]
    fresh = jnp.sqrt(1.0 - neighbour**2)

    def follow(last: jax.Array, new: jax.Array) -> tuple[jax.Array, jax.Array]:
        last = neighbour * last + fresh * new
        return last, last

    _, rr_z = jax.lax.scan(follow, rr_z[0], rr_z)
    rr_s = mean_rr_s + jnp.maximum(sd_rr_s, 0.0) * (rr_z - rr_z.mean())
    rr_s = jnp.maximum(rr_s, jnp.maximum(0.4 * mean_rr_s, 0.25))
    r_peak_s = jnp.cumsum(rr_s) - rr_s[0] - mean_rr_s * (1.0 + beats_row[0])
    return r_peak_s, 1.0 + (jnp.exp(scalars[LOG_GAIN_SD]) - decomposition.GAIN_SD_FLOOR) * gain_z


def _distances(r_peak_s: jax.Array, time_s: jax.Array) -> tuple[tuple[jax.Array, ...], jax.Array]:
    """Each sample's time from its beat's R peak for P, QRS and T, and the number of the beat of its QRS.

    The three differ by at most one beat from each other, as RR intervals are longer than `QRS_LEAD_S`.
    """
    beat = jnp.clip((r_peak_s[:, None] <= time_s + decomposition.QRS_LEAD_S).sum(0) - 1, 1, len(r_peak_s) - 2)
    before, here, after = (time_s - r_peak_s[beat + step] for step in (-1, 0, 1))
    return (jnp.where(here < -decomposition.P_LEAD_S, here, after), here, jnp.where(here < 0.0, before, here)), beat


def _residual(words: jax.Array, scalars: jax.Array, priors: Priors, sample_rate_hz: int) -> tuple[jax.Array, jax.Array]:
    """Noise of the record's own levels and the pool's cross-spectrum, its level wandering, and slow transients at the
    ends of the record: each `(8, samples)`.
    """
    frequencies = priors.residual_factor.shape[-1]
    samples = sample_rate_hz * priors.pool.seconds
    knots = math.ceil(priors.pool.seconds / _BURST_S) + 1
    columns = frequencies + math.ceil((knots + _TRANSIENTS * LEADS) / (2 * LEADS))
    white = hashing.standard_normal(words[None], columns, 2 * LEADS)[0]
    frequency_hz = np.fft.rfftfreq(samples, 1 / sample_rate_hz)
    level = _level(scalars[LOG_BAND], frequency_hz) * math.sqrt(0.5)
    z_CxF = jax.lax.complex(white[:LEADS, :frequencies] * level, white[LEADS:, :frequencies] * level)
    # A contraction, not a sum of products: XLA would fuse the hash into every product on the host.
    shaped_CxF = jnp.einsum("ijf,jf->if", priors.residual_factor, z_CxF) * _lead_gain(scalars[LOG_LEAD])[:, None]
    # Of unit mean square at the knots.
    slow = white[:, frequencies:].ravel()
    wander = jnp.exp(scalars[BURST] * slow[:knots] - scalars[BURST] ** 2)
    envelope = jnp.asarray(_interpolation(samples, sample_rate_hz, knots)) @ wander
    noise_CxS = envelope * (samples * jnp.fft.irfft(shaped_CxF, samples, axis=1))
    # Twice the logarithm of a deviation is that of a variance; of it the noise itself makes one part.
    extra = jnp.sqrt(jnp.maximum(jnp.expm1(2.0 * scalars[LOG_START_EXCESS : LOG_END_EXCESS + 1]), 0.0))
    size_CxT = noise_CxS.std(1)[:, None] * jnp.repeat(extra, _TRANSIENTS // 2)
    transients_CxT = slow[knots : knots + _TRANSIENTS * LEADS].reshape(LEADS, _TRANSIENTS) * size_CxT
    return noise_CxS, transients_CxT @ _transient_shapes(samples, sample_rate_hz)


def _transient_shapes(samples: int, sample_rate_hz: int) -> np.ndarray:
    """A fall and a swing from the start of the record, and the same towards its end, `(4, samples)`."""
    time = np.arange(samples) / (sample_rate_hz * _TRANSIENT_S)
    fall = np.exp(-0.5 * time**2)
    start = np.stack([fall, time * fall])
    return np.concatenate([start, start[:, ::-1]]).astype(np.float32)


def _interpolation(samples: int, sample_rate_hz: int, knots: int) -> np.ndarray:
    """Linear interpolation between points `_BURST_S` apart, `(samples, knots)`."""
    position = np.arange(samples) / (sample_rate_hz * _BURST_S)
    return np.maximum(1.0 - np.abs(position[:, None] - np.arange(knots)), 0.0).astype(np.float32)


def save(priors: Priors, path: Path) -> None:
    """Writes priors as an .npz file without pickled objects, under a temporary name first."""
    held = {f"pool_{name}": value for name, value in dataclasses.asdict(priors.pool).items()}
    held |= {name: np.asarray(getattr(priors, name)) for name in _ARRAYS}
    with whole_file(path) as temporary, temporary.open("wb") as file:
        np.savez(file, format=_FORMAT, beats=priors.beats, excluded=np.array(priors.excluded, str), **held)


def load(path: Path) -> Priors:
    """Reads priors written by `save`. Raises FileNotFoundError, and ValueError for anything but whole priors."""
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such priors; make them with fit_priors and save")
    try:
        stored = stored_arrays(path)
        checksums(path)
        values = {name: array.read() for name, array in stored.items()}
    except (OSError, ValueError) as error:
        raise ValueError(f"{path}: not readable as priors ({error}); delete the file and fit them again") from error
    fields = {field.name: f"pool_{field.name}" for field in dataclasses.fields(PoolIdentity)}
    missing = {"format", "beats", "excluded", *fields.values(), *_ARRAYS} - values.keys()
    if missing or values["format"].tolist() != _FORMAT:
        raise ValueError(f"{path}: not priors of format {_FORMAT} (missing: {sorted(missing)}); fit them again")
    arrays = {name: jnp.asarray(values[name]) for name in _ARRAYS}
    for name, array in arrays.items():
        if not bool(jnp.isfinite(array).all()):
            raise ValueError(f"{path}: {name} holds values that are not finite; fit the priors again")
    pool = PoolIdentity(**{name: values[key].item() for name, key in fields.items()})
    return Priors(
        **arrays, pool=pool, beats=int(values["beats"]), excluded=tuple(str(line) for line in values["excluded"])
    )


_ARRAYS = tuple(field.name for field in dataclasses.fields(Priors) if not field.metadata.get("static"))


declare(
    "fitted",
    vars(),
    "LEADS LOG_MEAN_RR LOG_SD_RR NEIGHBOUR LOG_GAIN_SD BURST LOG_QRS_EXCESS LOG_START_EXCESS LOG_END_EXCESS "
    "LOG_BAND LOG_LEAD LOG_II_TO_I SCALARS WAVEFORM_SHARE MAX_COMPONENTS RECORDS_PER_COMPONENT MIN_RECORDS SCORES "
    "MIN_BEAT_SHARE LIMIT_SD _QRS_RISE_S _TRANSIENT_S _TRANSIENTS _BURST_S _COHERENCE_SHRINKAGE _SEED _FORMAT "
    "_ARRAYS",
)
