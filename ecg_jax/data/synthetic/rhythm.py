"""Second stage: when things happen. Sinus rhythm with heart-rate variability, as one train of events per wave.

Independent trains for P, QRS and T (not one phase for all) leave room for dissociated rhythms; an event that does not
happen lies at `ABSENT_S`, where no wave reaches the record.
"""

from __future__ import annotations

import dataclasses
import math

import jax
import jax.numpy as jnp

from ecg_jax.data.synthetic.draws import cut, truncated_normal
from ecg_jax.data.synthetic.patient import Patient, Population

ABSENT_S = 1000.0
#: Mayer waves; the spread is that of McSharry et al., IEEE Trans Biomed Eng 50:289, 2003, for both bands.
LF_HZ = 0.1
BAND_SD_HZ = 0.01
COMPONENTS_PER_BAND = 4
#: Wide enough to leave the variance, and with it SDNN, as it is.
AMPLITUDE_LIMIT_SD = 5.0
#: QT follows the RR intervals of the past with this time constant (Petrėnas et al., Physiol Meas 38:2058, 2017).
QT_MEMORY_S = 25.0
#: An RR interval stays within this fraction of the mean: sinus rhythm, not ectopy.
MAX_RR_DEVIATION = 0.4


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Rhythm:
    """Event trains `(beats,)` of one record, in seconds from its start and ascending; absent events at `ABSENT_S`."""

    p_onset_s: jax.Array
    qrs_onset_s: jax.Array
    t_peak_s: jax.Array
    t_stretch: jax.Array  # duration of this T wave relative to that at an RR interval of 1 s


def beat_slots(population: Population, seconds: int) -> int:
    """Beats that a record may need: from two before its start to one past its end, at the fastest mean rate."""
    beats_per_s = population.heart_rate_max_bpm / 60.0
    return math.ceil(1.25 * seconds * beats_per_s) + 4


def sample_rhythm(uniforms: jax.Array, patient: Patient, beats: int, seconds: int) -> Rhythm:
    """The event trains of one record, with `beats` slots, from a row of uniform draws.

    RR intervals are a Gaussian process whose spectrum has a low-frequency band (0.1 Hz) and one at the breathing rate;
    the variances sum to SDNN² and divide as LF/HF. QT is Fridericia's, of RR intervals under a first-order memory.
    """
    bands = (2, COMPONENTS_PER_BAND)
    start, frequency, amplitude = cut(uniforms, (), bands, (2, *bands))
    mean_rr_s = patient.mean_rr_s
    centre_hz = jnp.stack([jnp.full_like(patient.respiration_hz, LF_HZ), patient.respiration_hz])
    frequency_hz = centre_hz[:, None] + BAND_SD_HZ * truncated_normal(frequency)
    lf_share = patient.lf_hf / (1.0 + patient.lf_hf)
    band_sd_s = 1e-3 * patient.sdnn_ms * jnp.sqrt(jnp.stack([lf_share, 1.0 - lf_share]))
    scale_s = band_sd_s[:, None] / math.sqrt(COMPONENTS_PER_BAND)
    cosine_s, sine_s = scale_s * truncated_normal(amplitude, AMPLITUDE_LIMIT_SD)

    omega = 2.0 * math.pi * frequency_hz
    angle = omega * (mean_rr_s * jnp.arange(beats))[:, None, None]
    cos, sin = jnp.cos(angle), jnp.sin(angle)
    limit_s = MAX_RR_DEVIATION * mean_rr_s
    rr_s = mean_rr_s + jnp.clip((cosine_s * cos + sine_s * sin).sum((1, 2)), -limit_s, limit_s)
    # Each component through 1 / (1 + iωτ): the RR intervals as repolarisation remembers them.
    lag = omega * QT_MEMORY_S
    remembered = (cosine_s * (cos + lag * sin) + sine_s * (sin - lag * cos)) / (1.0 + lag**2)
    remembered_rr_s = mean_rr_s + jnp.clip(remembered.sum((1, 2)), -limit_s, limit_s)

    start_s = -mean_rr_s * (1.0 + start)
    qrs_onset_s = start_s + jnp.cumsum(rr_s) - rr_s
    stretch = jnp.cbrt(remembered_rr_s)
    qt_peak_s = 1e-3 * (patient.qtcf_ms - patient.t_peak_to_end_ms) * stretch
    # The first beat past the end may still send its P wave into the record; later ones cannot.
    present = qrs_onset_s < seconds + 1.0
    return Rhythm(
        p_onset_s=jnp.where(present, qrs_onset_s - 1e-3 * patient.pr_ms, ABSENT_S),
        qrs_onset_s=jnp.where(present, qrs_onset_s, ABSENT_S),
        t_peak_s=jnp.where(present, qrs_onset_s + qt_peak_s, ABSENT_S),
        t_stretch=stretch,
    )
