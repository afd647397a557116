"""Noise at the nine electrodes: baseline wander, breathing, muscle, electrode motion, mains and amplifier.

All of it is weights per electrode times a few waveforms, (9, K) @ (K, samples), but for muscle and amplifier noise:
white noise from the counter hash under a short filter.
"""

from __future__ import annotations

import dataclasses
import functools
import math

import jax
import jax.numpy as jnp
import numpy as np

from ecg_jax.data.synthetic.constants import declare
from ecg_jax.data.synthetic.physiology.leads import ELECTRODES
from ecg_jax.data.synthetic.randomness import hashing
from ecg_jax.data.synthetic.randomness.draws import cut, truncated_normal
from ecg_jax.data.synthetic.randomness.sine import sine
from ecg_jax.data.synthetic.recorder.acquisition import LOWEST_LOWPASS_HZ, Settings, lowpass_sigma_s

#: Sines and cosines of the baseline wander, in equal steps of log frequency.
WANDER_TONES = 8
#: Events of electrode motion that fit into one record.
MOTION_EVENTS = 2
#: White noise is given as RMS in the band of this sampling rate, and has the same density at any other.
REFERENCE_RATE_HZ = 500
#: Points of the frequency grid on which the low-pass filter's taps are computed.
_FILTER_POINTS = 64
_LIMBS = np.array([name in ("RA", "LA", "LL") for name in ELECTRODES])
_WEIGHTS_STREAM = 1


@dataclasses.dataclass(frozen=True)
class Noise:
    """Levels of the noise of resting clinical recordings. `*_mv` is a record's median RMS at one electrode.

    Over records each level is log-normal, so that most are clean and a few are bad. Without a source: design.
    Petrėnas: Petrėnas et al., Physiol Meas 38:2058, 2017. AHA: Kligfield et al., Circulation 115:1306, 2007.
    """

    wander_mv: float = 0.03  # the level of Petrėnas, 0.15 mV, is reached by 1 in 90
    wander_log_sd: float = 0.7
    wander_hz: tuple[float, float] = (0.05, 0.8)
    wander_exponent: float = 1.5  # power ~ 1 / f^1.5
    chest_coupling: float = 0.5  # correlation of wander at neighbouring chest electrodes; limbs are independent
    respiration_mv: float = 0.012
    respiration_log_sd: float = 0.6
    limb_respiration: float = 0.3  # relative to a chest electrode
    emg_mv: float = 0.005  # Petrėnas: 0.01
    emg_log_sd: float = 0.7
    emg_electrode_log_sd: float = 0.4
    emg_corner_hz: float = 40.0  # density ~ 1 + (f / corner)²
    burst: float = 0.15  # share of records with a burst of muscle noise
    burst_gain: tuple[float, float] = (2.0, 8.0)  # at its peak, relative to the rest; log-uniform
    burst_s: tuple[float, float] = (0.5, 4.0)
    motion: float = 0.1  # share of records with moving electrodes
    motion_per_s: float = 0.15  # events in these: a Poisson process
    motion_mv: float = 0.25  # peak of an event
    motion_log_sd: float = 0.6
    motion_s: tuple[float, float] = (0.06, 0.4)  # from onset to peak; log-uniform
    powerline_mv: float = 0.002  # 5 % of records beyond 0.01
    powerline_log_sd: float = 1.0
    powerline_hz: tuple[float, ...] = (50.0, 60.0)
    powerline_tolerance_hz: float = 0.2
    harmonics: tuple[float, ...] = (1.0, 0.1, 0.25)  # relative to the fundamental
    amplifier_mv: float = 0.002  # AHA: at most 0.03 peak to valley
    amplifier_log_sd: float = 0.3

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if field.name.endswith(("_mv", "_sd", "tolerance_hz", "_per_s")) and not 0.0 <= value < 100.0:
                raise ValueError(f"{field.name} is {value}: a level or spread must lie from 0 to 100")
        for name in ("burst", "motion", "chest_coupling", "limb_respiration"):
            if not 0.0 <= getattr(self, name) <= 1.0:
                raise ValueError(f"{name} is {getattr(self, name)}: it must lie from 0 to 1")
        for name, highest in (("wander_hz", 2.0), ("burst_gain", 100.0), ("burst_s", 60.0), ("motion_s", 5.0)):
            low, high = getattr(self, name)
            if not 0.0 < low <= high <= highest:
                raise ValueError(f"{name} is {low} to {high}: a range above 0 and up to {highest} is needed")
        if not 0.0 <= self.wander_exponent <= 4.0:
            raise ValueError(f"wander_exponent is {self.wander_exponent}: it must lie from 0 to 4")
        if not 5.0 <= self.emg_corner_hz <= 500.0:
            raise ValueError(f"emg_corner_hz is {self.emg_corner_hz}: it must lie from 5 to 500 Hz")
        if not self.powerline_hz or min(self.powerline_hz) < 10.0 or max(self.powerline_hz) > 100.0:
            raise ValueError(f"powerline_hz is {self.powerline_hz}: name mains frequencies from 10 to 100 Hz")
        if not self.harmonics or min(self.harmonics) < 0.0:
            raise ValueError(f"harmonics are {self.harmonics}: the fundamental's relative level and those that follow")


def filter_radius(sample_rate_hz: int) -> int:
    """Taps on either side of the centre of the low-pass filter: three of the widest standard deviations."""
    return max(3, math.ceil(3.0 * lowpass_sigma_s(LOWEST_LOWPASS_HZ) * sample_rate_hz))


def white_noise(words: jax.Array, sample_rate_hz: int, seconds: int, guard_samples: int = 0) -> jax.Array:
    """The white noise under muscle and amplifier noise of a batch: uint32 words `(B, 2)` to `(B, 9, samples + taps)`.

    Longer than the record by what the filter reaches over its ends.
    """
    samples = seconds * sample_rate_hz + 2 * guard_samples + 2 * filter_radius(sample_rate_hz) + 1
    # A loop, because XLA would else fuse the hash into the filter and on a CPU compute it once per tap.
    starts = jnp.arange(len(ELECTRODES), dtype=jnp.uint32) * samples
    noise_9xBxN = jax.lax.map(lambda first: hashing.normals(words, samples, first), starts)
    return jnp.swapaxes(noise_9xBxN, 0, 1)


def sample_noise(
    row: jax.Array,
    words: jax.Array,
    white_9xN: jax.Array,
    breath_phase: jax.Array,
    respiration_hz: jax.Array,
    settings: Settings,
    noise: Noise,
    sample_rate_hz: int,
    seconds: int,
    guard_samples: int = 0,
) -> jax.Array:
    """Noise potentials of one record in mV, `(9, seconds * sample_rate_hz + 2 * guard_samples)`, time from -guard.

    `row` is the stage's uniform draws, `words` `(2,)` the record's and `white_9xN` its part of `white_noise`;
    `breath_phase` is that of the breath sin(2π f t + phase) at time 0. Of `settings`, the filters act here (low-pass,
    notch); faults of the electrodes are in `acquisition.noise_to_leads`. What lies above half the sampling rate is left
    out, as by a recorder's own anti-alias filter.
    """
    samples = seconds * sample_rate_hz + 2 * guard_samples
    time_s = (np.arange(samples, dtype=np.float32) - guard_samples) / np.float32(sample_rate_hz)
    electrodes, tones = len(ELECTRODES), 2 * WANDER_TONES
    levels, line, burst, motion = cut(row, (5,), (3,), (4,), (1 + 4 * MOTION_EVENTS,))
    shapes = ((electrodes, tones), (electrodes,), (electrodes,), (electrodes, MOTION_EVENTS))
    of_mains = (electrodes, 2, len(noise.harmonics))
    count = sum(math.prod(shape) for shape in (*shapes, of_mains))
    normals = hashing.normals(hashing.forked(words[None], _WEIGHTS_STREAM), count)[0]
    z_wander, z_breath, z_muscle, z_motion, z_mains = cut(normals, *shapes, of_mains)
    z_level = truncated_normal(levels)

    def level_mv(kind: str, z: jax.Array) -> jax.Array:
        return getattr(noise, f"{kind}_mv") * jnp.exp(getattr(noise, f"{kind}_log_sd") * z)

    wander_9xK = level_mv("wander", z_level[0]) * jnp.asarray(coupling(noise.chest_coupling)) @ z_wander
    breath_9 = math.sqrt(2.0) * level_mv("respiration", z_level[1]) * breath_pattern(noise, z_breath)
    mains_hz, mains_cycles, mains_9xH = mains(
        line, level_mv("powerline", z_level[2]), z_mains, noise, settings, sample_rate_hz
    )
    motion_EvS, motion_9xEv = motion_events(motion, z_motion, noise, time_s)
    hz = jnp.append(mains_hz, respiration_hz)[:, None]
    start = jnp.append(mains_cycles, breath_phase / (2.0 * math.pi))[:, None]
    waves_KxS = jnp.concatenate([sine(hz * time_s + start), motion_EvS])
    weights_9xK = jnp.concatenate([mains_9xH, breath_9[:, None], motion_9xEv], axis=1)
    slow = wander_9xK @ _wander_basis(noise, sample_rate_hz, seconds, guard_samples) + weights_9xK @ waves_KxS

    emg_9 = level_mv("emg", z_level[3]) * jnp.exp(noise.emg_electrode_log_sd * z_muscle)
    taps_9xT = _fast_taps(emg_9, level_mv("amplifier", z_level[4]), settings.lowpass_sigma_s, noise, sample_rate_hz)
    taps = taps_9xT.shape[1]
    fast = sum(taps_9xT[:, i, None] * white_9xN[:, i : i + samples] for i in range(taps))
    return slow + (1.0 + burst_gain(burst, noise, time_s, seconds)) * fast


def coupling(neighbours: float) -> np.ndarray:
    """A root of the correlation over electrodes, (9, 9): it falls by `neighbours` with each step along the chest."""
    place = np.arange(len(ELECTRODES))
    chest = ~_LIMBS
    correlation = np.where(np.outer(chest, chest), float(neighbours) ** np.abs(place[:, None] - place), 0.0)
    np.fill_diagonal(correlation, 1.0)
    value, vector = np.linalg.eigh(correlation)
    return ((vector * np.sqrt(np.maximum(value, 0.0))) @ vector.T).astype(np.float32)


@functools.lru_cache(maxsize=8)
def _wander_basis(noise: Noise, sample_rate_hz: int, seconds: int, guard_samples: int) -> np.ndarray:
    """Sines and cosines of unit variance in sum, `(2 * WANDER_TONES, samples)`.

    In equal steps of log frequency a power of 1 / f^β leaves each tone a variance of f^(1 - β).
    """
    hz = np.geomspace(*noise.wander_hz, WANDER_TONES)
    power = hz ** (1.0 - noise.wander_exponent)
    samples = seconds * sample_rate_hz + 2 * guard_samples
    angle = 2.0 * np.pi * hz[:, None] * (np.arange(samples) - guard_samples) / sample_rate_hz
    basis = np.sqrt(power / power.sum())[:, None, None] * np.stack([np.cos(angle), np.sin(angle)], axis=1)
    table = basis.reshape(2 * WANDER_TONES, samples).astype(np.float32)
    table.setflags(write=False)
    return table


def breath_pattern(noise: Noise, z: jax.Array) -> jax.Array:
    """How the breath moves each electrode, (9,): the chest together and most, each with a part of its own."""
    return jnp.where(_LIMBS, noise.limb_respiration, 1.0) * (1.0 + 0.5 * z) / math.sqrt(1.25)


def motion_events(
    draws: jax.Array, z_9xEv: jax.Array, noise: Noise, time_s: np.ndarray | jax.Array
) -> tuple[jax.Array, jax.Array]:
    """Events of electrode motion and their weights (mV): a critically damped jerk, x exp(1 - x) from its onset on.

    Each event is one electrode's, up or down, and moves the others a little. The process starts 1 s before the record.
    """
    present, wait, which, rise, size = draws[0], *cut(draws[1:], *((MOTION_EVENTS,),) * 4)
    onset_s = jnp.cumsum(-jnp.log1p(-wait)) / max(noise.motion_per_s, 1e-6) - 1.0
    low, high = noise.motion_s
    peak_s = low * (high / low) ** rise
    x = jnp.maximum(time_s - onset_s[:, None], 0.0) / peak_s[:, None]
    is_mover = jnp.arange(len(ELECTRODES))[:, None] == (which * len(ELECTRODES)).astype(jnp.int32)
    size_mv = noise.motion_mv * jnp.exp(noise.motion_log_sd * truncated_normal(size))
    weights = size_mv * jnp.where(is_mover, jnp.sign(z_9xEv), 0.1 * z_9xEv)
    return x * jnp.exp(1.0 - x), jnp.where(present < noise.motion, weights, 0.0)


def mains(
    draws: jax.Array,
    level_mv: jax.Array,
    z_9x2xH: jax.Array,
    noise: Noise,
    settings: Settings,
    sample_rate_hz: int,
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """The mains' harmonics as sines and cosines: frequencies and phases (cycles) `(2 * H,)`, and weights (mV) after
    the filters `(9, 2 * H)`.
    """
    which, offset, start = draws
    choice = (which * len(noise.powerline_hz)).astype(jnp.int32)
    hz = jnp.array(noise.powerline_hz)[choice] + noise.powerline_tolerance_hz * (2.0 * offset - 1.0)
    # What every mains frequency puts beyond half the rate gets no waveform at all.
    kept = max(1, min(len(noise.harmonics), int(sample_rate_hz / 2.0 / min(noise.powerline_hz))))
    order = jnp.arange(1.0, kept + 1.0)
    antialias = jnp.clip((0.5 * sample_rate_hz - order * hz) / (0.1 * sample_rate_hz), 0.0, 1.0)
    lowpass = jnp.exp(-0.5 * (2.0 * math.pi * order * hz * settings.lowpass_sigma_s) ** 2)
    gain = jnp.array(noise.harmonics[:kept]) * antialias * lowpass * settings.powerline_gain
    weights_9x2xH = level_mv * gain * z_9x2xH[:, :, :kept]
    cycles = jnp.concatenate([order * start, order * start + 0.25])
    return jnp.tile(order * hz, 2), cycles, weights_9x2xH.reshape(len(ELECTRODES), 2 * kept)


def _fast_taps(
    emg_mv_9: jax.Array, amplifier_mv: jax.Array, sigma_s: jax.Array, noise: Noise, sample_rate_hz: int
) -> jax.Array:
    """The filter from white noise to muscle and amplifier noise after the low-pass, `(9, taps)`.

    Muscle alone has the taps (1, -a) c, with the density of `emg_corner_hz` and the same at any rate. Two taps also
    give the sum of its density and the amplifier's; the low-pass has the Gaussian's own response on a frequency grid.
    """
    gain, a = _emg_filter(noise.emg_corner_hz, sample_rate_hz)
    amplifier = amplifier_mv**2 * (sample_rate_hz / REFERENCE_RATE_HZ)
    at_dc = jnp.sqrt((emg_mv_9 * gain * (1.0 - a)) ** 2 + amplifier)
    at_nyquist = jnp.sqrt((emg_mv_9 * gain * (1.0 + a)) ** 2 + amplifier)
    colour_9x2 = 0.5 * jnp.stack([at_dc + at_nyquist, at_dc - at_nyquist], axis=1)

    radius = filter_radius(sample_rate_hz)
    hz = np.fft.fftfreq(_FILTER_POINTS, 1.0 / sample_rate_hz).astype(np.float32)
    response = jnp.exp(-0.5 * (2.0 * math.pi * hz * sigma_s) ** 2)
    place = np.arange(-radius, radius + 1)
    to_taps = np.cos(2.0 * np.pi * hz[:, None] * place / sample_rate_hz) / _FILTER_POINTS
    lowpass = response @ to_taps.astype(np.float32)
    lowpass = lowpass / lowpass.sum()
    before, after = jnp.pad(lowpass, (1, 0)), jnp.pad(lowpass, (0, 1))
    # White sample i + radius + 1 is the present, the one before it the past.
    return colour_9x2[:, :1] * before + colour_9x2[:, 1:] * after


def _emg_filter(corner_hz: float, sample_rate_hz: int) -> tuple[float, float]:
    """Gain c and zero a of c (1 - a z⁻¹): |H|² ~ 1 + (f / corner)² well below half the rate, at any rate.

    The variance is 1 at `REFERENCE_RATE_HZ`; at other rates the density at low frequencies is the same.
    """

    def zero(rate_hz: int) -> float:
        q = (2.0 * math.pi * corner_hz / rate_hz) ** 2  # (1 - a)² / a
        return 1.0 + q / 2.0 - math.sqrt(q + q**2 / 4.0)

    reference, a = zero(REFERENCE_RATE_HZ), zero(sample_rate_hz)
    density = (1.0 - reference) ** 2 / (1.0 + reference**2) / REFERENCE_RATE_HZ
    return math.sqrt(density * sample_rate_hz) / (1.0 - a), a


def burst_gain(draws: jax.Array, noise: Noise, time_s: np.ndarray | jax.Array, seconds: int) -> jax.Array:
    """What a burst of muscle noise adds to a gain of 1, `(S,)`: flat in the middle, 1 / (1 + z⁴)."""
    present, at, length, peak = draws
    gain = noise.burst_gain[0] * (noise.burst_gain[1] / noise.burst_gain[0]) ** peak
    half_s = 0.5 * (noise.burst_s[0] + (noise.burst_s[1] - noise.burst_s[0]) * length)
    z = ((time_s - at * seconds) / half_s) ** 2
    return jnp.where(present < noise.burst, gain - 1.0, 0.0) / (1.0 + z * z)


declare("noise", vars(), "WANDER_TONES MOTION_EVENTS REFERENCE_RATE_HZ _FILTER_POINTS _LIMBS _WEIGHTS_STREAM")
