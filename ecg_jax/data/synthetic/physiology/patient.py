"""First stage: who the patient is. Draws scalar latents (age, sex, intervals, axes, variability, anatomy) from a prior.

A `Population` is a frozen set of published priors; nothing in it was measured on PTB-XL. Values marked "design" have
no published counterpart that we could find: they say how far patients differ, and are part of the generator's hash.
"""

from __future__ import annotations

import dataclasses
import math

import jax
import jax.numpy as jnp

from ecg_jax.data.synthetic.constants import declare
from ecg_jax.data.synthetic.randomness.draws import TRUNCATION_SD, cut, truncated_normal

#: Mean RR interval of the subjects of Nunan et al. 2010, on which the prior of SDNN holds.
SDNN_REFERENCE_RR_MS = 926.0
SDNN_REFERENCE_AGE_YEARS = 40.0
#: However fast the heart, conduction takes so long.
SHORTEST_PR_MS = 60.0


@dataclasses.dataclass(frozen=True)
class Population:
    """Priors of one population. Medians and spreads are over both sexes together; `*_sex_gap` is male minus female.

    Mason: Mason et al., J Electrocardiol 40:228, 2007 (n = 46,129; 2nd to 98th percentiles). ELSA: ELSA-Brasil
    (n = 11,094; medians by sex). WHI: women of the Women's Health Initiative (n = 36,299). Nunan: Nunan et al.,
    Pacing Clin Electrophysiol 33:1407, 2010.
    """

    name: str
    age_years: tuple[float, float] = (18.0, 90.0)  # uniform; the span of Rijnbeek et al. 2014
    female_fraction: float = 0.5
    # Intervals at rest.
    heart_rate_median_bpm: float = 68.6  # Mason 48–98
    heart_rate_log_sd: float = 0.174
    pr_median_ms: float = 154.8  # Mason 113–212
    pr_log_sd: float = 0.153
    pr_sex_gap_ms: float = 6.0  # ELSA 164 / 158
    qrs_mean_ms: float = 89.0  # Mason 69–109
    qrs_sd_ms: float = 9.7
    qrs_sex_gap_ms: float = 6.0  # ELSA 92 / 86
    qtcf_mean_ms: float = 402.0  # Mason 359–445
    qtcf_sd_ms: float = 20.9
    qtcf_sex_gap_ms: float = -11.0  # ELSA 410 / 421
    p_duration_mean_ms: float = 110.0  # ELSA
    p_duration_sd_ms: float = 12.0  # design
    p_duration_sex_gap_ms: float = 4.0  # ELSA 112 / 108
    t_peak_to_end_mean_ms: float = 85.0  # WHI 63–112
    t_peak_to_end_sd_ms: float = 11.2
    # Frontal axes from net areas in I and aVF.
    qrs_axis_median_deg: float = 37.0  # Mason -40–91, ELSA 35 / 39: two half-normals that meet in the median
    qrs_axis_sd_left_deg: float = 37.5
    qrs_axis_sd_right_deg: float = 26.3
    qrs_axis_sex_gap_deg: float = -4.0
    p_axis_mean_deg: float = 55.5  # ELSA 54 / 57
    p_axis_sd_deg: float = 20.0  # design
    p_axis_sex_gap_deg: float = -3.0
    t_axis_mean_deg: float = 42.0  # ELSA 39 / 45
    t_axis_sd_deg: float = 20.0  # design
    t_axis_sex_gap_deg: float = -6.0
    # Heart-rate variability: Nunan, SDNN 50 (16) ms and LF/HF 2.8 (2.6), as log-normals with these moments.
    sdnn_median_ms: float = 47.6
    sdnn_log_sd: float = 0.312
    sdnn_log_slope_per_year: float = -0.01  # design; falls with age: Voss et al., Physiol Meas 33:1289, 2012
    lf_hf_median: float = 2.05
    lf_hf_log_sd: float = 0.79
    respiration_hz: tuple[float, float] = (0.2, 0.5)  # uniform; Petrėnas et al. 2017
    # Anatomy and shape.
    heart_tilt_sd_deg: float = 10.0  # design: about the left-right and the head-foot axis
    body_gain_log_sd: float = 0.15  # design: torso size and conductivity
    # P: the normal limit of 0.25 mV in the limb leads as a 98th percentile, with this spread and the body's, puts the
    # median in II at 0.25 exp(-2.05 × 0.29) = 0.14 mV. `edits.NORMAL_P` gives 0.11 mV and a 98th percentile of 0.20 mV:
    # lower, because axes and electrodes vary too (design).
    p_gain_log_sd: float = 0.25  # design
    qrs_gain_log_sd: float = 0.15  # design
    qrs_female_gain: float = 0.85  # design: women's limit for the Cornell voltage is 0.71 of men's
    # T in the tallest precordial lead. AHA/ACCF/HRS 2009, part IV: upper limits in V2 of 1.0–1.4 mV in men, 0.7–1.0 mV
    # in women. As a 98th percentile of the middle of these, 1.2 mV in men under 40 with the two spreads of 0.30 and
    # 0.15, it puts the median at 1.2 exp(-2.05 × 0.335). Sex and age: J Electrocardiol 28:191, 1995 (n = 1,935): 25 %
    # larger in men; 10 % less at 40–59 than at 18–39 years, 15 % less again at 60–79.
    t_young_men_mv: float = 0.60
    t_female_gain: float = 0.80
    t_age_years: tuple[float, float, float] = (28.5, 49.5, 69.5)
    t_age_gain: tuple[float, float, float] = (1.0, 0.90, 0.765)
    t_gain_log_sd: float = 0.3  # design
    kernel_gain_log_sd: float = 0.15  # design
    kernel_direction_sd: float = 0.15  # design, relative to the kernel's vector
    kernel_width_log_sd: float = 0.08  # design
    lead_field_sd: float = 0.08  # design, relative to the electrode's vector
    breath_turn_sd_deg: float = 2.5  # each axis; Petrėnas et al. 2017 turn by up to ±5°
    breath_gain_sd: float = 0.02  # up to 5 % in amplitude, as there
    nondipolar_fraction: float = 0.10  # knob: the first three components keep > 95 % of the energy

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if field.name.endswith(("_sd", "_sd_ms", "_sd_deg", "_fraction")) and value < 0:
                raise ValueError(f"population {self.name}: {field.name} is {value}; a spread cannot be negative")
        low, high = self.respiration_hz
        if not 0.0 <= self.female_fraction <= 1.0 or not 0.0 < low <= high <= 2.0:
            raise ValueError(
                f"population {self.name}: female_fraction is {self.female_fraction} (0 to 1), respiration_hz is "
                f"{self.respiration_hz} (a range above 0 and up to 2)"
            )
        if not 20.0 <= self.heart_rate_median_bpm <= 250.0:
            raise ValueError(
                f"population {self.name}: heart_rate_median_bpm is {self.heart_rate_median_bpm}: give 20 to 250"
            )
        mean_rr_ms = 60_000.0 / self.heart_rate_median_bpm
        needed_ms = self.pr_median_ms + self.qtcf_mean_ms * (mean_rr_ms / 1000.0) ** (1 / 3)
        if needed_ms > 0.95 * mean_rr_ms:
            raise ValueError(
                f"population {self.name}: a PR of {self.pr_median_ms:.0f} ms and a QTcF of {self.qtcf_mean_ms:.0f} ms "
                f"do not fit a beat of {mean_rr_ms:.0f} ms: shorten them, or lower heart_rate_median_bpm"
            )
        if abs(self.qrs_sex_gap_ms) / 2 > self.qrs_sd_ms or abs(self.qtcf_sex_gap_ms) / 2 > self.qtcf_sd_ms:
            raise ValueError(f"population {self.name}: the gap between the sexes exceeds the spread over both")

    def t_size_mv(self, age_years: jax.Array, is_female: jax.Array) -> jax.Array:
        """Median height of the T wave in the tallest precordial lead, by age and sex."""
        of_age = jnp.interp(age_years, jnp.array(self.t_age_years), jnp.array(self.t_age_gain))
        return self.t_young_men_mv * of_age * jnp.where(is_female > 0.5, self.t_female_gain, 1.0)

    @property
    def heart_rate_max_bpm(self) -> float:
        """The fastest mean heart rate that this population can draw."""
        return self.heart_rate_median_bpm * math.exp(TRUNCATION_SD * self.heart_rate_log_sd)


ADULT = Population("adult")


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Patient:
    """The latents of one patient, as float32 scalars (or arrays with a leading batch axis)."""

    age_years: jax.Array
    is_female: jax.Array  # 0 or 1
    heart_rate_bpm: jax.Array
    pr_ms: jax.Array
    qrs_ms: jax.Array
    qtcf_ms: jax.Array
    p_duration_ms: jax.Array
    t_peak_to_end_ms: jax.Array  # at a heart rate of 60 per minute, as QTcF
    qrs_axis_deg: jax.Array
    p_axis_deg: jax.Array
    t_axis_deg: jax.Array
    sdnn_ms: jax.Array
    lf_hf: jax.Array
    respiration_hz: jax.Array
    tilt_x_deg: jax.Array  # about the right-to-left axis
    tilt_y_deg: jax.Array  # about the head-to-foot axis
    body_gain: jax.Array

    @property
    def mean_rr_s(self) -> jax.Array:
        """Mean RR interval in seconds."""
        return 60.0 / self.heart_rate_bpm

    @property
    def qt_ms(self) -> jax.Array:
        """QT interval in ms at the mean heart rate (Fridericia)."""
        return self.qtcf_ms * jnp.cbrt(self.mean_rr_s)


_NORMALS = (
    "heart_rate",
    "pr",
    "qrs",
    "qtcf",
    "p_duration",
    "t_peak_to_end",
    "qrs_axis",
    "p_axis",
    "t_axis",
    "sdnn",
    "lf_hf",
    "tilt_x",
    "tilt_y",
    "body",
)


def _within_sex_sd(sd: float, gap: float) -> float:
    """Spread within a sex that gives `sd` over an even mixture of two sexes `gap` apart."""
    return math.sqrt(sd**2 - (gap / 2) ** 2)


def sample_patient(uniforms: jax.Array, population: Population) -> Patient:
    """One patient from a row of uniform draws. Given the sex the latents are independent, with two limits:
    the P wave begins after the T wave has ended (PR + QT <= 0.95 RR), and ends before the QRS complex begins.
    """
    p = population
    (uniform_age, uniform_sex, uniform_respiration), latents = cut(uniforms, (3,), (len(_NORMALS),))
    z = dict(zip(_NORMALS, truncated_normal(latents)))
    is_female = (uniform_sex < p.female_fraction).astype(jnp.float32)
    half = 0.5 - is_female  # times a gap: what the sex adds to the mean over both
    age = p.age_years[0] + (p.age_years[1] - p.age_years[0]) * uniform_age

    heart_rate = p.heart_rate_median_bpm * jnp.exp(p.heart_rate_log_sd * z["heart_rate"])
    mean_rr_ms = 60_000.0 / heart_rate
    qtcf = p.qtcf_mean_ms + half * p.qtcf_sex_gap_ms
    qtcf += _within_sex_sd(p.qtcf_sd_ms, p.qtcf_sex_gap_ms) * z["qtcf"]
    pr = (p.pr_median_ms + half * p.pr_sex_gap_ms) * jnp.exp(p.pr_log_sd * z["pr"])
    room_ms = 0.95 * mean_rr_ms - qtcf * jnp.cbrt(mean_rr_ms / 1000.0)
    pr = jnp.minimum(pr, jnp.maximum(room_ms, SHORTEST_PR_MS))
    p_duration = p.p_duration_mean_ms + half * p.p_duration_sex_gap_ms + p.p_duration_sd_ms * z["p_duration"]
    qrs = p.qrs_mean_ms + half * p.qrs_sex_gap_ms
    axis_sd = jnp.where(z["qrs_axis"] < 0, p.qrs_axis_sd_left_deg, p.qrs_axis_sd_right_deg)
    sdnn_age = jnp.exp(p.sdnn_log_slope_per_year * (age - SDNN_REFERENCE_AGE_YEARS))
    low, high = p.respiration_hz
    return Patient(
        age_years=age,
        is_female=is_female,
        heart_rate_bpm=heart_rate,
        pr_ms=pr,
        qrs_ms=qrs + _within_sex_sd(p.qrs_sd_ms, p.qrs_sex_gap_ms) * z["qrs"],
        qtcf_ms=qtcf,
        p_duration_ms=jnp.minimum(p_duration, 0.9 * pr),
        t_peak_to_end_ms=p.t_peak_to_end_mean_ms + p.t_peak_to_end_sd_ms * z["t_peak_to_end"],
        qrs_axis_deg=p.qrs_axis_median_deg + half * p.qrs_axis_sex_gap_deg + axis_sd * z["qrs_axis"],
        p_axis_deg=p.p_axis_mean_deg + half * p.p_axis_sex_gap_deg + p.p_axis_sd_deg * z["p_axis"],
        t_axis_deg=p.t_axis_mean_deg + half * p.t_axis_sex_gap_deg + p.t_axis_sd_deg * z["t_axis"],
        # Variability shrinks with the RR interval itself, so that a fast heart keeps a plausible rhythm.
        sdnn_ms=p.sdnn_median_ms * sdnn_age * (mean_rr_ms / SDNN_REFERENCE_RR_MS) * jnp.exp(p.sdnn_log_sd * z["sdnn"]),
        lf_hf=p.lf_hf_median * jnp.exp(p.lf_hf_log_sd * z["lf_hf"]),
        respiration_hz=low + (high - low) * uniform_respiration,
        tilt_x_deg=p.heart_tilt_sd_deg * z["tilt_x"],
        tilt_y_deg=p.heart_tilt_sd_deg * z["tilt_y"],
        body_gain=jnp.exp(p.body_gain_log_sd * z["body"]),
    )


declare("patient", vars(), "SDNN_REFERENCE_RR_MS SDNN_REFERENCE_AGE_YEARS SHORTEST_PR_MS ADULT _NORMALS")
