"""Continuous atrial activity: the f waves of fibrillation and the F waves of flutter, as harmonics of one phase."""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp
import numpy as np

from ecg_jax.data.synthetic.constants import declare
from ecg_jax.data.synthetic.physiology.rhythm import AtrialWaves
from ecg_jax.data.synthetic.randomness.draws import cut, truncated_normal
from ecg_jax.data.synthetic.randomness.sine import sine

HARMONICS = 3
#: A sawtooth's, as the f waves of Petrėnas et al., Physiol Meas 38:2058, 2017, have them.
HARMONIC_GAIN = np.array([2.0 / (math.pi * i) for i in range(1, HARMONICS + 1)], np.float32)
#: Root mean square of f waves along X, Y, Z in mV: uniform in these ranges, from the same simulator.
FIBRILLATION_RMS_MV = np.array([[0.015, 0.045], [0.015, 0.040], [0.025, 0.070]], np.float32)
#: F waves: negative saw teeth in II, III and aVF, positive in V1 (typical counter-clockwise flutter). Design.
FLUTTER_MV = np.array([0.01, -0.17, -0.05], np.float32)
FLUTTER_LOG_SD = 0.2
#: Uniform draws that `sample_atrial_vectors` takes.
DRAWS = 7


def atrial_phase(waves: AtrialWaves, time_s: jax.Array) -> jax.Array:
    """Sine and cosine of the atrial phase at the given times, `(2, samples)`."""
    turn = 1.0 / (2.0 * math.pi)
    wobble = waves.wobble_rad * sine(waves.wobble_hz * time_s + waves.wobble_phase * turn)
    cycles = waves.rate_hz * time_s + (waves.phase + wobble) * turn
    return sine(cycles + jnp.array([[0.0], [0.25]]))


def harmonics(sin: jax.Array, cos: jax.Array) -> jax.Array:
    """Sines, then cosines of the first harmonics of a phase `(samples,)`: `(2 * HARMONICS, samples)`."""
    sines, cosines = [sin], [cos]
    for _ in range(HARMONICS - 1):  # by angle addition
        sines.append(sines[-1] * cos + cosines[-1] * sin)
        cosines.append(cosines[-1] * cos - sines[-2] * sin)
    return jnp.stack(sines + cosines)


def sample_atrial_vectors(uniforms: jax.Array, is_flutter: jax.Array) -> jax.Array:
    """Dipole moments (mV) of the functions of `harmonics`, `(2 * HARMONICS, 3)`, from `DRAWS` uniform draws.

    In fibrillation the axes are out of phase; in flutter one wave goes round.
    """
    level, phase, size = cut(uniforms, (3,), (3,), ())
    low, high = FIBRILLATION_RMS_MV.T
    full_scale = math.sqrt(float((HARMONIC_GAIN**2).sum()) / 2.0)
    size_mv = (low + (high - low) * level) / full_scale
    angle = 2.0 * jnp.pi * phase * jnp.arange(1, HARMONICS + 1)[:, None]
    fibrillation = jnp.concatenate([jnp.cos(angle), jnp.sin(angle)]) * size_mv
    flutter_mv = FLUTTER_MV * jnp.exp(FLUTTER_LOG_SD * truncated_normal(size))
    flutter = jnp.concatenate([jnp.broadcast_to(flutter_mv, (HARMONICS, 3)), jnp.zeros((HARMONICS, 3))])
    return jnp.tile(HARMONIC_GAIN, 2)[:, None] * jnp.where(is_flutter > 0, flutter, fibrillation)


declare("atrial", vars(), "HARMONICS HARMONIC_GAIN FIBRILLATION_RMS_MV FLUTTER_MV FLUTTER_LOG_SD DRAWS")
