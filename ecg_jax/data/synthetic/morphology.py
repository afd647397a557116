"""Third stage: what each beat looks like. Eleven Gaussian kernels, each a vector in space, moved by three event trains.

One kernel is one phase of activation with a direction. Sampled through the lead field they become `(kernels, 8)`
weights before any sample is computed, so anatomy and shape cost nothing per sample.
"""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np

from ecg_jax.data.synthetic.draws import cut, truncated_normal
from ecg_jax.data.synthetic.leads import DOWER
from ecg_jax.data.synthetic.patient import Patient, Population
from ecg_jax.data.synthetic.rhythm import ABSENT_S, Rhythm

#: A refit, with centres and widths shared by the three axes, of the adult vectorcardiogram of Sameni et al., EURASIP J
#: Adv Signal Process 2007:43407 (relative error 5 to 8 %). Times from the R peak, at an RR interval of 1 s.
CENTRE_MS = np.array([-153, -127, -38, -24, -9, -1, 8, 14, 198, 242, 275], np.float32)
WIDTH_MS = np.array([20.1, 14.6, 40.7, 7.9, 9.3, 4.3, 5.3, 8.2, 99.5, 33.3, 25.2], np.float32)
VECTOR_MV = np.array(
    [  # X left, Y inferior, Z posterior
        [0.0435, 0.0320, -0.1160],
        [0.0573, -0.0213, -0.0212],
        [-0.0048, -0.0024, 0.0415],
        [-0.3046, 0.1378, -0.4138],
        [1.0306, 0.3326, 0.0168],
        [0.4866, 0.2545, -0.0380],
        [0.8264, -0.0898, -0.0657],
        [0.0057, -0.2383, 0.4857],
        [0.1459, 0.0556, -0.2758],
        [0.2561, 0.0305, -0.3605],
        [0.2871, 0.0181, 0.0141],
    ],
    np.float32,
)
KERNELS = len(CENTRE_MS)
# The third kernel opposes the P wave and follows it: atrial repolarisation, so it moves with P.
P, QRS, T = slice(0, 3), slice(3, 8), slice(8, 11)
P_WAVE = slice(0, 2)

#: Fiducials of the table itself: its P exceeds 10 µV and its QRS 20 µV of vector magnitude within these limits;
#: the T wave's end is where the steepest tangent to the vector magnitude meets zero. A test recomputes them.
P_ONSET_MS, P_END_MS = -198.0, -97.5
QRS_ONSET_MS, QRS_END_MS = -44.0, 35.0
T_PEAK_MS, T_END_MS = 250.0, 331.0


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Waves:
    """One patient's kernels. Centres count from the event of their train: P onset, QRS onset, T peak."""

    centre_s: jax.Array  # (kernels,)
    width_s: jax.Array  # (kernels,)
    vector_mv: jax.Array  # (kernels, 3)


def rotation_to_axis(area_3: jax.Array, axis_deg: jax.Array) -> jax.Array:
    """Angle (rad) by which to turn about Z so that net areas in I and aVF give the frontal axis `axis_deg`.

    Solves I sin(axis) = (2/√3) aVF cos(axis), which is a cos φ + b sin φ + c = 0 in the angle φ; of its two solutions
    the one that points along the axis. (Axes from net areas: Rijnbeek et al., J Electrocardiol 47:914, 2014.)
    """
    frontal = jnp.asarray(np.stack([DOWER[0], 2 / np.sqrt(3) * (DOWER[1] - DOWER[0] / 2)]))
    axis = jnp.deg2rad(axis_deg)
    across = jnp.stack([jnp.sin(axis), -jnp.cos(axis)]) @ frontal
    along = jnp.stack([jnp.cos(axis), jnp.sin(axis)]) @ frontal
    x, y, z = area_3

    def terms(row: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
        return row[0] * x + row[1] * y, row[1] * x - row[0] * y, row[2] * z

    a, b, c = terms(across)
    base = jnp.arctan2(b, a)
    reach = jnp.arccos(jnp.clip(-c / jnp.maximum(jnp.hypot(a, b), 1e-12), -1.0, 1.0))
    candidates = jnp.stack([base + reach, base - reach])
    a, b, c = terms(along)
    projection = a * jnp.cos(candidates) + b * jnp.sin(candidates) + c
    return jnp.where(projection[0] >= projection[1], candidates[0], candidates[1])


def _turn(vectors: jax.Array, angle: jax.Array, first: int, second: int) -> jax.Array:
    """Turns the vectors `(..., 3)` by `angle` from axis `first` towards axis `second`."""
    cos, sin = jnp.cos(angle), jnp.sin(angle)
    u, v = vectors[..., first], vectors[..., second]
    return vectors.at[..., first].set(cos * u - sin * v).at[..., second].set(sin * u + cos * v)


def _orient(vectors: jax.Array, width_s: jax.Array, patient: Patient) -> jax.Array:
    """Tilts the heart, then turns P, QRS and T in the frontal plane to the patient's own axes."""
    vectors = _turn(vectors, jnp.deg2rad(patient.tilt_x_deg), 1, 2)
    vectors = _turn(vectors, jnp.deg2rad(patient.tilt_y_deg), 2, 0)
    turned = []
    for wave, measured, axis_deg in (
        (P, P_WAVE, patient.p_axis_deg),
        (QRS, QRS, patient.qrs_axis_deg),
        (T, T, patient.t_axis_deg),
    ):
        area = (width_s[measured, None] * vectors[measured]).sum(0)
        turned.append(_turn(vectors[wave], rotation_to_axis(area, axis_deg), 0, 1))
    return jnp.concatenate(turned)


def sample_waves(uniforms: jax.Array, patient: Patient, population: Population) -> Waves:
    """One patient's kernels from a row of uniform draws: the table fitted to the patient's intervals, then varied."""
    z_wave, z_gain, z_width, z_direction = cut(truncated_normal(uniforms), (3,), (KERNELS,), (KERNELS,), (KERNELS, 3))
    p_scale = patient.p_duration_ms / (P_END_MS - P_ONSET_MS)
    qrs_scale = patient.qrs_ms / (QRS_END_MS - QRS_ONSET_MS)
    # Before its peak the T wave stretches with the interval up to it, after it with the interval from peak to end.
    rising = (patient.qtcf_ms - patient.t_peak_to_end_ms) / (T_PEAK_MS - QRS_ONSET_MS)
    falling = patient.t_peak_to_end_ms / (T_END_MS - T_PEAK_MS)
    scale = jnp.stack([p_scale] * 3 + [qrs_scale] * 5 + [rising, falling, falling])
    event_ms = np.repeat([P_ONSET_MS, QRS_ONSET_MS, T_PEAK_MS], [3, 5, 3]).astype(np.float32)
    centre_s = 1e-3 * scale * (CENTRE_MS - event_ms)
    width_s = 1e-3 * scale * WIDTH_MS * jnp.exp(population.kernel_width_log_sd * z_width)

    log_sd = jnp.array([population.p_gain_log_sd, population.qrs_gain_log_sd, population.t_gain_log_sd])
    wave_gain = jnp.array([1.0, 1.0, population.t_gain_median]) * jnp.exp(log_sd * z_wave)
    gain = jnp.repeat(wave_gain, np.array([3, 5, 3]), total_repeat_length=KERNELS)
    gain = gain * jnp.exp(population.kernel_gain_log_sd * z_gain)
    size = np.linalg.norm(VECTOR_MV, axis=1, keepdims=True) / np.sqrt(3.0)
    vector = VECTOR_MV + population.kernel_direction_sd * size * z_direction
    vector = vector.at[P, 2].multiply(population.p_depth_gain)
    return Waves(centre_s, width_s, _orient(gain[:, None] * vector, width_s, patient))


def _neighbours(events_s: jax.Array, time_s: jax.Array) -> tuple[jax.Array, jax.Array]:
    """For each sample, the positions in `[-ABSENT_S, *events, ABSENT_S]` of the last event so far and of the next."""
    last = (events_s[:, None] <= time_s).sum(0)
    return last, last + 1


def render_leads(
    rhythm: Rhythm, waves: Waves, weights_mv: jax.Array, sample_rate_hz: int, seconds: int, guard_samples: int = 0
) -> jax.Array:
    """Samples one record: leads I, II, V1–V6 in mV, `(seconds * sample_rate_hz + 2 * guard_samples, 8)`.

    Each sample sees the last and the next event of every train; events further off are beyond the kernels' reach.
    """
    samples = seconds * sample_rate_hz + 2 * guard_samples
    time_s = (jnp.arange(samples, dtype=jnp.float32) - guard_samples) / sample_rate_hz
    ecg = jnp.zeros((len(time_s), weights_mv.shape[1]))
    for wave, events_s, stretch in (
        (P, rhythm.p_onset_s, None),
        (QRS, rhythm.qrs_onset_s, None),
        (T, rhythm.t_peak_s, rhythm.t_stretch),
    ):
        bounded_s = jnp.pad(events_s, 1, constant_values=(-ABSENT_S, ABSENT_S))
        bank = 0.0
        for position in _neighbours(events_s, time_s):
            distance_s = time_s - bounded_s[position]
            if stretch is not None:
                distance_s = distance_s / jnp.pad(stretch, 1, constant_values=1.0)[position]
            standard = (distance_s - waves.centre_s[wave, None]) / waves.width_s[wave, None]
            bank = bank + jnp.exp(-0.5 * standard**2)
        ecg = ecg + bank.T @ weights_mv[wave]
    return ecg
