"""Noise at the nine electrodes, version 3: each electrode has its own, and leads have what their electrodes have.

Against version 2: the density of muscle noise falls with frequency and its strength comes and goes, limbs have more of
it than the chest, and the baseline wanders with a continuous spectrum. Mains, moving electrodes and the amplifier are
version 2's.
"""

from __future__ import annotations

import dataclasses
import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from ecg_jax.data.synthetic.constants import declare
from ecg_jax.data.synthetic.physiology.leads import ELECTRODES
from ecg_jax.data.synthetic.physiology.sampling import Grid
from ecg_jax.data.synthetic.randomness import hashing
from ecg_jax.data.synthetic.randomness.draws import cut, truncated_normal
from ecg_jax.data.synthetic.randomness.sine import sine
from ecg_jax.data.synthetic.recorder.acquisition import Settings
from ecg_jax.data.synthetic.recorder.noise import (
    MOTION_EVENTS,
    REFERENCE_RATE_HZ,
    Noise,
    breath_pattern,
    burst_gain,
    coupling,
    filter_radius,
    mains,
    motion_events,
)
from ecg_jax.data.synthetic.recorder.noise import white_noise as white_of_version_2
from ecg_jax.data.synthetic.recorder.slow import Spectrum, root, slow_points, upsampled

#: Muscle noise has a spectrum and a strength that comes and goes in each of these groups of electrodes.
GROUPS = np.array([name.startswith("V") for name in ELECTRODES]).astype(np.int32)  # 0: limbs, 1: chest
OF_GROUP = np.eye(2, dtype=np.float32)[GROUPS]
#: Taps on either side of the filter of muscle noise, in seconds.
TAPS_S = 0.016
#: Points of the frequency grid on which its taps are computed.
FILTER_POINTS = 64
SLOW_STREAM = 3
VERSION_2 = Noise()


@dataclasses.dataclass(frozen=True)
class ElectrodeNoise:
    """Levels and spectra of the noise of resting recordings. `*_mv` is a record's median RMS at one chest electrode.

    Without a source: design. Lindström: Lindström & Magnusson, Proc IEEE 65:653, 1977: seen from a distance d, the
    power of a muscle whose fibres conduct at v falls above the frequency v / 2πd. v is 4 m/s (Andreassen &
    Arendt-Nielsen, J Physiol 391:561, 1987); 10 to 30 mm of skin, fat and muscle (design) give 64 to 21 Hz.
    """

    wander_mv: float = 0.03
    wander_log_sd: float = 0.7
    wander_exponent: float = 2.0  # a contact's offset drifts as a random walk
    wander_hz: tuple[float, float] = (0.05, 8.0)  # flat below; above, muscle and amplifier drown it
    muscle_mv: float = 0.004  # up to 250 Hz; Petrėnas et al., Physiol Meas 38:2058, 2017: 0.01 in a lead
    muscle_log_sd: float = 0.7
    muscle_electrode_log_sd: float = 0.4
    limb_gain: float = 2.0  # arms and legs have more muscle at work than a chest at rest has under its electrodes
    muscle_corner_hz: tuple[float, float] = (21.0, 64.0)  # Lindström; log-uniform, each group its own
    muscle_envelope_log_sd: float = 0.3  # within a record
    muscle_envelope_hz: tuple[float, float] = (0.2, 4.0)
    rest: Noise = VERSION_2  # breath, bursts, motion, mains and amplifier as in version 2

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if field.name.endswith(("_mv", "_sd")) and not 0.0 <= value < 100.0:
                raise ValueError(f"{field.name} is {value}: a level or spread must lie from 0 to 100")
        if not 0.1 <= self.limb_gain <= 100.0:
            raise ValueError(f"limb_gain is {self.limb_gain}: it must lie from 0.1 to 100")
        low, high = self.muscle_corner_hz
        if not 5.0 <= low <= high <= 500.0:
            raise ValueError(f"muscle_corner_hz is {low} to {high}: a range from 5 to 500 Hz is needed")
        _ = self.wander, self.envelope  # which check their own

    @property
    def wander(self) -> Spectrum:
        """The spectrum of the baseline's wander."""
        return Spectrum(self.wander_hz[0], self.wander_exponent, self.wander_hz[1])

    @property
    def envelope(self) -> Spectrum:
        """The spectrum of the logarithm of muscle noise's strength: a first-order process."""
        return Spectrum(self.muscle_envelope_hz[0], 2.0, self.muscle_envelope_hz[1])


def taps_radius(sample_rate_hz: int) -> int:
    """Taps on either side of the centre of the filter of muscle noise; at least those that version 2's takes."""
    return max(filter_radius(sample_rate_hz), math.ceil(TAPS_S * sample_rate_hz))


def white_noise(words: jax.Array, grid: Grid) -> jax.Array:
    """The white noise under that of muscle and amplifier: uint32 words `(B, 2)` to `(B, 9, samples + taps)`."""
    longer = taps_radius(grid.sample_rate_hz) - filter_radius(grid.sample_rate_hz)
    return white_of_version_2(words, grid.sample_rate_hz, grid.seconds, grid.guard_samples + longer)


def slow_noise(
    row: jax.Array,
    words: jax.Array,
    breath_S: jax.Array,
    settings: Settings,
    noise: ElectrodeNoise,
    grid: Grid,
    to_leads: jax.Array | None = None,
) -> jax.Array:
    """Wander, breath, moving electrodes and mains of one record, `(9, grid.samples)` in mV.

    `row` is the stage's uniform draws, `words` `(2,)` the record's, `breath_S` the breath, from -1 to 1, at every
    sample; of `settings`, low-pass and notch act on the mains. Where `to_leads` `(leads, 9)` is given, the noise in
    these leads instead, at less cost than by a product with every sample.
    """
    draws, z, rest, time_s = _uniforms(row), _normals(words, noise, grid), noise.rest, grid.time_s()
    z_wander, z_breath, z_mains, _, _ = draws.levels
    wander_mv = noise.wander_mv * jnp.exp(noise.wander_log_sd * z_wander)
    wander_9x9 = wander_mv * jnp.asarray(coupling(rest.chest_coupling))
    wander_9xN = wander_9x9 @ (z.wander_9xN @ root(noise.wander, slow_points(grid)))
    breath_mv = math.sqrt(2.0) * rest.respiration_mv * jnp.exp(rest.respiration_log_sd * z_breath)
    motion_EvS, motion_9xEv = motion_events(draws.motion, z.motion_9xEv, rest, time_s)
    mains_mv = rest.powerline_mv * jnp.exp(rest.powerline_log_sd * z_mains)
    mains_hz, cycles, mains_9xH = mains(draws.line, mains_mv, z.mains_9x2xH, rest, settings, grid.sample_rate_hz)
    waves = jnp.concatenate([sine(mains_hz[:, None] * time_s + cycles[:, None]), motion_EvS, breath_S[None]])
    weights = [mains_9xH, motion_9xEv, (breath_mv * breath_pattern(rest, z.breath_9))[:, None]]
    weights_9xK = jnp.concatenate(weights, axis=1)
    if to_leads is not None:
        wander_9xN, weights_9xK = to_leads @ wander_9xN, to_leads @ weights_9xK
    return upsampled(wander_9xN, grid) + weights_9xK @ waves


def fast_noise(
    row: jax.Array, words: jax.Array, white_9xN: jax.Array, settings: Settings, noise: ElectrodeNoise, grid: Grid
) -> jax.Array:
    """Muscle and amplifier noise of one record behind its low-pass, `(9, grid.samples)` in mV.

    `white_9xN` is the record's part of `white_noise`; the rest as in `slow_noise`.
    """
    draws, z, rest = _uniforms(row), _normals(words, noise, grid), noise.rest
    _, _, _, z_record, z_amplifier = draws.levels
    of_electrode = jnp.where(GROUPS == 0, noise.limb_gain, 1.0) * jnp.exp(noise.muscle_electrode_log_sd * z.muscle_9)
    muscle_9 = noise.muscle_mv * jnp.exp(noise.muscle_log_sd * z_record) * of_electrode
    amplifier_mv = rest.amplifier_mv * jnp.exp(rest.amplifier_log_sd * z_amplifier)
    low, high = noise.muscle_corner_hz
    corner_9 = (low * (high / low) ** draws.corners)[GROUPS]
    taps_9xT = fast_taps(muscle_9, corner_9, amplifier_mv, settings.lowpass_sigma_s, grid.sample_rate_hz)
    fast = sum(taps_9xT[:, i, None] * white_9xN[:, i : i + grid.samples] for i in range(taps_9xT.shape[1]))
    log_sd = noise.muscle_envelope_log_sd
    strength = log_sd * (z.envelope_2xN @ root(noise.envelope, slow_points(grid)))
    burst = burst_gain(draws.burst, rest, grid.time_s(), grid.seconds)
    gain_2xS = _envelope(upsampled(strength, grid)) * (math.exp(-(log_sd**2)) * (1.0 + burst))  # keeps the RMS
    # A product, and no gather: XLA would else compute the gain anew for every electrode.
    return (jnp.asarray(OF_GROUP) @ gain_2xS) * fast


def sample_noise(
    row: jax.Array,
    words: jax.Array,
    white_9xN: jax.Array,
    breath_S: jax.Array,
    settings: Settings,
    noise: ElectrodeNoise,
    grid: Grid,
) -> jax.Array:
    """All noise potentials of one record in mV, `(9, grid.samples)`. On a CPU the two parts are faster apart."""
    slow = slow_noise(row, words, breath_S, settings, noise, grid)
    return slow + fast_noise(row, words, white_9xN, settings, noise, grid)


class _Uniforms(NamedTuple):
    """What a stage's row of uniform draws holds; `levels` are turned to normal."""

    levels: jax.Array  # wander, breath, mains, muscle, amplifier
    corners: jax.Array  # of limbs, chest
    line: jax.Array
    burst: jax.Array
    motion: jax.Array


def _uniforms(row: jax.Array) -> _Uniforms:
    levels, *others = cut(row, (5,), (2,), (3,), (4,), (1 + 4 * MOTION_EVENTS,))
    return _Uniforms(truncated_normal(levels), *others)


class _Normals(NamedTuple):
    """A record's normal draws, from its own stream of the counter hash."""

    wander_9xN: jax.Array
    envelope_2xN: jax.Array
    breath_9: jax.Array
    muscle_9: jax.Array
    motion_9xEv: jax.Array
    mains_9x2xH: jax.Array


def _normals(words: jax.Array, noise: ElectrodeNoise, grid: Grid) -> _Normals:
    electrodes, points = len(ELECTRODES), slow_points(grid)
    few = ((electrodes,), (electrodes,), (electrodes, MOTION_EVENTS), (electrodes, 2, len(noise.rest.harmonics)))
    shapes = ((electrodes, points), (2, points), *few)
    count = sum(math.prod(shape) for shape in shapes)
    return _Normals(*cut(hashing.normals(hashing.forked(words[None], SLOW_STREAM), count)[0], *shapes))


def _envelope(x: jax.Array) -> jax.Array:
    """About exp(x), to its second order: positive everywhere, and without an exponential for every sample."""
    return 1.0 + x + 0.5 * x**2


def fast_taps(
    muscle_mv_9: jax.Array,
    corner_hz_9: jax.Array,
    amplifier_mv: jax.Array,
    lowpass_sigma_s: jax.Array,
    sample_rate_hz: int,
) -> jax.Array:
    """The filter from white noise to muscle and amplifier noise after the low-pass, `(9, taps)`, symmetric in time.

    The density is that of the muscle, ~ 1 / (1 + (f / corner)²), and of the amplifier; it is the same at every rate,
    and its RMS is `muscle_mv_9` up to half of `REFERENCE_RATE_HZ`.
    """
    hz = np.fft.fftfreq(FILTER_POINTS, 1.0 / sample_rate_hz).astype(np.float32)
    band_hz = corner_hz_9 * jnp.arctan(0.5 * REFERENCE_RATE_HZ / corner_hz_9)
    shape = 1.0 / (1.0 + (hz / corner_hz_9[:, None]) ** 2)
    density = (muscle_mv_9**2 / band_hz)[:, None] * shape + amplifier_mv**2 / (0.5 * REFERENCE_RATE_HZ)
    lowpass = jnp.exp(-0.5 * (2.0 * math.pi * hz * lowpass_sigma_s) ** 2)
    response = jnp.sqrt(0.5 * sample_rate_hz * density) * lowpass
    radius = taps_radius(sample_rate_hz)
    place = np.arange(-radius, radius + 1)
    to_taps = np.cos(2.0 * np.pi * hz[:, None] * place / sample_rate_hz) / FILTER_POINTS
    return response @ to_taps.astype(np.float32)


declare("electrode_noise", vars(), "GROUPS OF_GROUP TAPS_S FILTER_POINTS SLOW_STREAM VERSION_2", version=3)
