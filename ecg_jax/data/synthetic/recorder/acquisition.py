"""The recorder: swapped and loose electrodes, its low-pass and high-pass, the mains notch, quantisation and clipping.

Electrode faults act on the nine potentials and become part of the matrix that forms the leads; the low-pass is
Gaussian, so that it acts on the heart's Gaussian kernels in closed form. Both cost nothing per sample. Leads III, aVR,
aVL and aVF are derived from the quantised ones: Einthoven and Goldberger hold whatever happened before.
"""

from __future__ import annotations

import dataclasses
import enum
import math

import jax
import jax.numpy as jnp
import numpy as np

from ecg_jax.data.synthetic.constants import declare
from ecg_jax.data.synthetic.physiology.leads import ELECTRODES, ELECTRODES_TO_LEADS
from ecg_jax.data.synthetic.randomness.draws import cut

#: The lowest cut-off that the noise's filter has taps for ("muscle filters" lie at 35 and 40 Hz).
LOWEST_LOWPASS_HZ = 35.0
#: Longest block, in samples, in which `high_passed` multiplies by a dense matrix.
_BLOCK_SAMPLES = 40


class Swap(enum.IntEnum):
    """Which two electrodes are exchanged."""

    NONE = 0
    LA_RA = 1
    LA_LL = 2
    RA_LL = 3
    V1_V2 = 4
    V2_V3 = 5
    V3_V4 = 6
    V4_V5 = 7
    V5_V6 = 8


def _permutations() -> np.ndarray:
    table = np.tile(np.arange(len(ELECTRODES), dtype=np.int32), (len(Swap), 1))
    for swap in list(Swap)[1:]:
        pair = [ELECTRODES.index(name) for name in swap.name.split("_")]
        table[swap, pair] = pair[::-1]
    return table


#: By `Swap`, the electrode whose potential arrives at each input of the recorder, (9, 9).
PERMUTATIONS = _permutations()


@dataclasses.dataclass(frozen=True)
class Acquisition:
    """How recorders differ and how often electrodes are at fault. Values without a source are design.

    AHA: Kligfield et al., Circulation 115:1306, 2007 (pass band 0.05–150 Hz for adults; ±5 mV; 30 µV of system noise).
    """

    # 1.75 % together: limb electrodes are swapped in 0.4 to 4 % of clinical recordings.
    arms_swapped: float = 0.01
    left_swapped: float = 0.005  # left arm and leg
    right_arm_leg_swapped: float = 0.0025
    chest_swapped: float = 0.01  # two neighbours of V1–V6
    loose: float = 0.01  # one electrode has lost its contact
    loose_noise_gain: tuple[float, float] = (2.0, 8.0)  # log-uniform: its noise relative to that of a good contact
    lowpass_hz: tuple[float, ...] = (40.0, 100.0, 150.0)  # AHA: 150
    lowpass_shares: tuple[float, ...] = (0.2, 0.3, 0.5)
    highpass_hz: tuple[float, ...] = (0.05, 0.5)  # AHA: 0.05; monitors 0.5
    highpass_shares: tuple[float, ...] = (0.9, 0.1)
    notch: float = 0.5  # share of recorders with a mains filter
    notch_gain: float = 0.03  # what it leaves, -30 dB
    lsb_mv: tuple[float, ...] = (0.001, 0.0025, 0.005)
    clip_mv: tuple[float, ...] = (5.0, 10.0)  # AHA: at least 5

    def __post_init__(self) -> None:
        for name in ("arms_swapped", "left_swapped", "right_arm_leg_swapped", "chest_swapped", "loose", "notch"):
            _within(name, getattr(self, name), 0.0, 1.0)
        swapped = self.arms_swapped + self.left_swapped + self.right_arm_leg_swapped + self.chest_swapped
        _within("the sum of the four probabilities of a swap", swapped, 0.0, 1.0)
        _within("notch_gain", self.notch_gain, 0.0, 1.0)
        for name, low, high in (
            ("lowpass_hz", LOWEST_LOWPASS_HZ, 1000.0),
            ("highpass_hz", 0.0, 1.0),
            ("lsb_mv", 1e-5, 0.1),
            ("clip_mv", 1.0, 30.0),
            ("loose_noise_gain", 1.0, 100.0),
        ):
            values = getattr(self, name)
            if not values:
                raise ValueError(f"{name} is empty: name at least one value from {low} to {high}")
            for value in values:
                _within(f"a value of {name}", value, low, high)
        if len(self.loose_noise_gain) != 2 or self.loose_noise_gain[0] > self.loose_noise_gain[1]:
            raise ValueError(f"loose_noise_gain is {self.loose_noise_gain}: give its lowest and its highest value")
        for name in ("lowpass", "highpass"):
            values, shares = getattr(self, f"{name}_hz"), getattr(self, f"{name}_shares")
            if len(values) != len(shares) or min(shares) < 0 or not math.isclose(sum(shares), 1.0, abs_tol=1e-6):
                raise ValueError(
                    f"{name}_shares are {shares}, with sum {sum(shares)}: one share >= 0 for each of the "
                    f"{len(values)} values of {name}_hz is needed, with sum 1"
                )


def _within(name: str, value: float, low: float, high: float) -> None:
    if not low <= value <= high:
        raise ValueError(f"{name} is {value}: it must lie from {low} to {high}")


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Settings:
    """What one recording went through, as scalars and `(9,)` arrays (or with a leading batch axis)."""

    swap: jax.Array  # int32 `Swap`
    loose: jax.Array  # int32 index of the loose electrode (of the recorder's inputs), -1: none
    permutation: jax.Array  # (9,) int32: the electrode whose potential arrives at each input
    electrode_gain: jax.Array  # (9,) of the heart's potential at each input: 0 when loose
    noise_gain: jax.Array  # (9,) of the noise at each input
    lowpass_sigma_s: jax.Array  # SD of the Gaussian impulse response; 0: no low-pass
    highpass_hz: jax.Array
    powerline_gain: jax.Array  # 1 without a notch filter
    lsb_mv: jax.Array
    clip_mv: jax.Array


def lowpass_sigma_s(cutoff_hz: float) -> float:
    """SD of the Gaussian impulse response that is down by 3 dB (half the power) at `cutoff_hz`."""
    return math.sqrt(math.log(2.0)) / (2.0 * math.pi * cutoff_hz)


def sample_acquisition(row: jax.Array, acquisition: Acquisition) -> Settings:
    """Draws the recorder and the electrode faults of one record from a row of uniform draws."""
    a = acquisition
    swap, loose, which, gain, lowpass, highpass, notch, lsb, clip = cut(row, (9,))[0]
    shares = (a.arms_swapped, a.left_swapped, a.right_arm_leg_swapped, *([a.chest_swapped / 5] * 5))
    code = _chosen(swap, (1.0 - sum(shares), *shares))
    loose_at = jnp.where(loose < a.loose, (which * len(ELECTRODES)).astype(jnp.int32), -1)
    is_loose = jnp.arange(len(ELECTRODES)) == loose_at
    low, high = a.loose_noise_gain
    return Settings(
        swap=code,
        loose=loose_at,
        permutation=jnp.asarray(PERMUTATIONS)[code],
        electrode_gain=jnp.where(is_loose, 0.0, 1.0),
        noise_gain=jnp.where(is_loose, low * (high / low) ** gain, 1.0),
        lowpass_sigma_s=jnp.array([lowpass_sigma_s(hz) for hz in a.lowpass_hz])[_chosen(lowpass, a.lowpass_shares)],
        highpass_hz=jnp.array(a.highpass_hz)[_chosen(highpass, a.highpass_shares)],
        powerline_gain=jnp.where(notch < a.notch, a.notch_gain, 1.0),
        lsb_mv=jnp.array(a.lsb_mv)[_chosen(lsb, (1 / len(a.lsb_mv),) * len(a.lsb_mv))],
        clip_mv=jnp.array(a.clip_mv)[_chosen(clip, (1 / len(a.clip_mv),) * len(a.clip_mv))],
    )


def _chosen(uniform: jax.Array, shares: tuple[float, ...]) -> jax.Array:
    """An index drawn with the given shares, int32."""
    edges = np.cumsum(shares)[:-1].astype(np.float32)
    return (uniform >= edges).sum().astype(jnp.int32)


def faultless() -> Settings:
    """The settings of a recorder that changes nothing that could be seen (steps of a nanovolt, no filter)."""
    electrodes = len(ELECTRODES)
    return Settings(
        swap=jnp.int32(Swap.NONE),
        loose=jnp.int32(-1),
        permutation=jnp.arange(electrodes, dtype=jnp.int32),
        electrode_gain=jnp.ones(electrodes),
        noise_gain=jnp.ones(electrodes),
        lowpass_sigma_s=jnp.float32(0.0),
        highpass_hz=jnp.float32(0.0),
        powerline_gain=jnp.float32(1.0),
        lsb_mv=jnp.float32(1e-6),
        clip_mv=jnp.float32(30.0),
    )


def heart_to_leads(settings: Settings) -> jax.Array:
    """The heart's potentials at the nine electrodes to leads I, II, V1–V6 as recorded: `(8, 9)`."""
    # A swap is its own inverse, so the permutation serves the columns as well.
    return (jnp.asarray(ELECTRODES_TO_LEADS) * settings.electrode_gain)[:, settings.permutation]


def noise_to_leads(settings: Settings) -> jax.Array:
    """Noise at the nine electrodes to leads I, II, V1–V6 as recorded, `(8, 9)`: a loose contact has more of it."""
    return (jnp.asarray(ELECTRODES_TO_LEADS) * settings.noise_gain)[:, settings.permutation]


def smoothed(width_s: jax.Array, weights: jax.Array, sigma_s: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Gaussian kernels of standard deviations `(G,)` and weights `(G, leads)` after a Gaussian low-pass: the same two.

    Widths add in quadrature and areas stay: w' = √(w² + σ²), weight' = weight · w / w'. A flat-topped kernel is taken
    for a Gaussian, which is immaterial as it is many times wider than σ.
    """
    wider_s = jnp.sqrt(width_s**2 + sigma_s**2)
    return wider_s, weights * (width_s / wider_s)[:, None]


def high_passed(leads_mv_LxS: jax.Array, highpass_hz: jax.Array, sample_rate_hz: int) -> jax.Array:
    """First-order high-pass of leads `(L, S)`, lead by lead: the signal less its exponentially weighted past.

    The recorder has run for long: its memory starts at each lead's mean. Exact; in blocks, so that it is a few small
    matrix products and no scan over samples.
    """
    leads, samples = leads_mv_LxS.shape
    block = min(_BLOCK_SAMPLES, samples)
    blocks = -(-samples // block)
    mean = leads_mv_LxS.mean(1, keepdims=True)
    padded = jnp.pad(leads_mv_LxS - mean, ((0, 0), (0, blocks * block - samples))).reshape(leads * blocks, block)
    decay = 2.0 * jnp.pi * highpass_hz / sample_rate_hz
    learning = -jnp.expm1(-decay)
    place, order = np.arange(block), np.arange(blocks)

    def fading(lag: np.ndarray, rate: jax.Array) -> jax.Array:
        return jnp.where(lag >= 0, jnp.exp(-rate * np.maximum(lag, 0)), 0.0)

    within = jnp.eye(block) - learning * fading(place[:, None] - place, decay)
    added = (padded @ (learning * fading(block - 1 - place, decay))).reshape(leads, blocks)
    memory = (added @ fading(order[None, :] - 1 - order[:, None], block * decay)).reshape(leads * blocks, 1)
    filtered = padded @ within.T - memory * fading(place + 1, decay)
    return filtered.reshape(leads, blocks * block)[:, :samples]


def quantised(leads_mv: jax.Array, settings: Settings) -> jax.Array:
    """The independent leads of one record, of any layout, as the converter gives them: clipped, in whole steps."""
    clipped = jnp.clip(leads_mv, -settings.clip_mv, settings.clip_mv)
    return jnp.round(clipped / settings.lsb_mv) * settings.lsb_mv


declare("acquisition", vars(), "LOWEST_LOWPASS_HZ _BLOCK_SAMPLES PERMUTATIONS")
