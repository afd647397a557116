"""The sinus node over ten seconds: RMSSD and SDNN by age and sex as published for recordings of this length.

Five-minute values may not be put into ten seconds: a record of ten holds no slower oscillation than its own length
(Munoz et al. 2015).
"""

from __future__ import annotations

import dataclasses
import math

import jax
import jax.numpy as jnp

from ecg_jax.data.synthetic.constants import declare
from ecg_jax.data.synthetic.physiology.rhythm import (
    LF_COMPONENTS,
    LF_HZ,
    LF_SD_HZ,
    MAX_RR_DEVIATION,
    QT_MEMORY_S,
    SinusBeats,
)
from ecg_jax.data.synthetic.randomness.draws import cut, truncated_normal
from ecg_jax.data.synthetic.randomness.sine import sine
from ecg_jax.data.synthetic.variability.breath import Breath

#: Shares of the fast part of the variance that breath and what is left (from beat to beat) may have.
FAST_SHARE = (0.05, 0.95)
#: An SDNN above this is the breath's: RMSSD is then so many times SDNN.
BREATH_ALONE_MS, OF_BREATH_ALONE = 80.0, 1.35
#: Slowest and fastest oscillations are sampled once a beat: below this the arithmetic would divide by nothing.
_LEAST_GAIN = 0.05


@dataclasses.dataclass(frozen=True)
class TenSeconds:
    """Ten-second variability of healthy adults at rest, medians at `age_years`.

    Voss et al., PLoS ONE 10:e0118308, 2015 (5 min, recalled), as log-normals, less the bias of ten seconds (Munoz et
    al., PLoS ONE 10:e0138921, 2015: 0.088 of ln RMSSD and 0.407 of ln SDNN); at 80 years RMSSD of Lifelines (Tegegne et
    al., Eur J Prev Cardiol 27:2191, 2019: 14.9 and 16.1 ms from 75 years on, and no further fall after 60), with the
    ratio to SDNN at 70. What the upper tail does after 60 (it rises in both ten-second sources, without numbers) is not
    modelled.
    """

    age_years: tuple[float, ...] = (30.0, 40.0, 50.0, 60.0, 70.0, 80.0)
    rmssd_men_ms: tuple[float, ...] = (32.5, 26.0, 19.0, 15.9, 15.3, 14.9)
    rmssd_women_ms: tuple[float, ...] = (34.7, 28.7, 21.4, 17.1, 14.9, 16.1)
    sdnn_men_ms: tuple[float, ...] = (30.7, 27.8, 22.8, 19.9, 18.0, 17.5)
    sdnn_women_ms: tuple[float, ...] = (30.2, 27.5, 23.0, 18.9, 17.0, 18.4)
    log_sd: float = 0.5  # Voss: SD over mean of RMSSD .50 to .62
    ratio_log_sd: float = 0.25  # of SDNN to RMSSD; design
    beat_share: float = 0.15  # of the fast variance that is no breath's; design
    reference_rr_s: float = 0.875  # the median interval (Mason et al. 2007), at which the medians hold
    rr_exponent: float = 1.0  # variability shrinks with the interval (both ten-second sources correct for it); design

    def __post_init__(self) -> None:
        columns = [value for value in dataclasses.astuple(self) if isinstance(value, tuple)]
        if len({len(column) for column in columns}) != 1 or min(map(min, columns)) <= 0:
            raise ValueError("ten-second variability: give as many medians as ages, all above 0")
        if list(self.age_years) != sorted(set(self.age_years)):
            raise ValueError(f"age_years is {self.age_years}: ages must rise")
        if not 0.3 <= self.reference_rr_s <= 2.0 or not 0.0 <= self.rr_exponent <= 5.0:
            raise ValueError(
                f"reference_rr_s is {self.reference_rr_s} (0.3 to 2), rr_exponent {self.rr_exponent} (0 to 5)"
            )
        if not (0.0 <= self.log_sd <= 2.0 and 0.0 <= self.ratio_log_sd <= 1.0 and 0.0 <= self.beat_share <= 1.0):
            raise ValueError(
                f"log_sd is {self.log_sd} (0 to 2), ratio_log_sd {self.ratio_log_sd} (0 to 1), beat_share "
                f"{self.beat_share} (0 to 1)"
            )

    def medians_ms(self, age_years: jax.Array, is_female: jax.Array) -> tuple[jax.Array, jax.Array]:
        """Median RMSSD and SDNN of an age and a sex; before the first age the first, after the last the last."""
        ages = jnp.array(self.age_years)

        def median(men: tuple[float, ...], women: tuple[float, ...]) -> jax.Array:
            of_sex = jnp.where(is_female > 0.5, jnp.log(jnp.array(women)), jnp.log(jnp.array(men)))
            return jnp.exp(jnp.interp(age_years, ages, of_sex))

        return median(self.rmssd_men_ms, self.rmssd_women_ms), median(self.sdnn_men_ms, self.sdnn_women_ms)


def sample_spread(
    row: jax.Array, age_years: jax.Array, is_female: jax.Array, mean_rr_s: jax.Array, spread: TenSeconds
) -> tuple[jax.Array, jax.Array]:
    """One patient's RMSSD and SDNN (ms) over ten seconds, from a row of uniform draws."""
    z_size, z_ratio = truncated_normal(cut(row, (2,))[0])
    rmssd_ms, sdnn_ms = spread.medians_ms(age_years, is_female)
    size = jnp.exp(spread.log_sd * z_size) * (mean_rr_s / spread.reference_rr_s) ** spread.rr_exponent
    return rmssd_ms * size, sdnn_ms * size * jnp.exp(spread.ratio_log_sd * z_ratio)


def scaled_spread(rmssd_ms: jax.Array, sdnn_ms: jax.Array, to_sdnn_ms: jax.Array) -> tuple[jax.Array, jax.Array]:
    """RMSSD and SDNN with another SDNN; beyond what is usual the breath alone makes it (sinus arrhythmia)."""
    ratio = jnp.where(to_sdnn_ms > BREATH_ALONE_MS, OF_BREATH_ALONE, rmssd_ms / sdnn_ms)
    return ratio * to_sdnn_ms, to_sdnn_ms


def sample_rhythm(
    row: jax.Array,
    noise_K: jax.Array,
    mean_rr_s: jax.Array,
    rmssd_ms: jax.Array,
    sdnn_ms: jax.Array,
    breath: Breath,
    beat_share: float,
) -> SinusBeats:
    """The beats of one record, the first in (-2, -1] mean intervals, from a row of uniform and `(beats,)` normal draws.

    The variance has a slow part, at 0.1 Hz (McSharry et al., IEEE Trans Biomed Eng 50:289, 2003), and a fast one: the
    breath, by which the interval is shortest at full inspiration, and `beat_share` of what has no rhythm. Their sizes
    follow from RMSSD and SDNN; where no mixture gives both, RMSSD holds.
    """
    beats = len(noise_K)
    start, frequency, phase = cut(row, (), (LF_COMPONENTS,), (LF_COMPONENTS,))
    quantile = (jnp.arange(LF_COMPONENTS) + frequency) / LF_COMPONENTS  # one frequency from each quartile of the band
    slow_hz = LF_HZ + LF_SD_HZ * truncated_normal(quantile)
    slow_s, breath_s, beat_s = _sizes_s(mean_rr_s, rmssd_ms, sdnn_ms, slow_hz, breath.rate_hz, beat_share)
    number = jnp.arange(beats)
    cycles = slow_hz * (mean_rr_s * number)[:, None] + phase
    sin, cos = sine(cycles), sine(cycles + 0.25)
    omega = 2.0 * math.pi * slow_hz
    start_s = -mean_rr_s * (1.0 + start)
    drift_s = slow_s * ((cos[0] - cos) / (omega * mean_rr_s)).sum(-1)
    fast_s = -breath_s * breath.at(start_s + mean_rr_s * number + drift_s) + beat_s * noise_K
    limit_s = MAX_RR_DEVIATION * mean_rr_s
    rr_s = mean_rr_s + jnp.clip(slow_s * sin.sum(-1) + fast_s, -limit_s, limit_s)
    lag = omega * QT_MEMORY_S  # each slow component through 1 / (1 + iωτ); of the breath less than 1/30 would pass
    remembered_s = slow_s * ((sin - lag * cos) / (1.0 + lag**2)).sum(-1)
    return SinusBeats(
        onset_s=start_s + jnp.cumsum(rr_s) - rr_s,
        rr_s=rr_s,
        remembered_rr_s=mean_rr_s + jnp.clip(remembered_s, -limit_s, limit_s),
    )


def _sizes_s(
    mean_rr_s: jax.Array,
    rmssd_ms: jax.Array,
    sdnn_ms: jax.Array,
    slow_hz: jax.Array,
    breath_hz: jax.Array,
    beat_share: float,
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Amplitudes (s) of each slow component and of the breath, and the SD of what has no rhythm.

    A sine of frequency f, sampled every beat, has successive differences of 2 |sin(π f RR)| times its SD, white noise
    of √2 times.
    """

    def gain(hz: jax.Array) -> jax.Array:
        return jnp.maximum((2.0 * jnp.sin(math.pi * hz * mean_rr_s)) ** 2, _LEAST_GAIN)

    slow = gain(slow_hz).mean()
    fast = (1.0 - beat_share) * gain(breath_hz) + beat_share * 2.0
    ratio = (rmssd_ms / sdnn_ms) ** 2
    apart = jnp.where(jnp.abs(fast - slow) < 1e-3, 1e-3, fast - slow)
    share = jnp.clip((ratio - slow) / apart, *FAST_SHARE)
    variance_s2 = (1e-3 * rmssd_ms) ** 2 / (share * fast + (1.0 - share) * slow)
    slow_s = jnp.sqrt(2.0 * (1.0 - share) * variance_s2 / LF_COMPONENTS)
    breath_s = jnp.sqrt(2.0 * share * (1.0 - beat_share) * variance_s2)
    return slow_s, breath_s, jnp.sqrt(share * beat_share * variance_s2)


declare("variability.heart_rate", vars(), "FAST_SHARE BREATH_ALONE_MS OF_BREATH_ALONE _LEAST_GAIN", version=3)
