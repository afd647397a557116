"""One beat of a patient in the twelve leads, for pictures, criteria and tests: what a median beat without noise is."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np

from ecg_jax.data.synthetic.physiology.leads import ELECTRODES_TO_LEADS, twelve_leads
from ecg_jax.data.synthetic.physiology.patient import Patient
from ecg_jax.data.synthetic.sources.rows import Beat, kernels_at

#: Seconds before and after the QRS onset.
BEFORE_S, AFTER_S = 0.3, 0.7
SAMPLE_RATE_HZ = 500


def one_beat(beat: Beat, patient: Patient, time_s: jax.Array) -> jax.Array:
    """One beat at the patient's mean RR interval, at times `(samples,)` from its QRS onset: `(samples, 12)` in mV."""
    stretch = jnp.cbrt(patient.mean_rr_s)
    t_peak_s = 1e-3 * (patient.qtcf_ms - patient.t_peak_to_end_ms) * stretch
    electrodes = (
        kernels_at(beat.p, time_s + 1e-3 * patient.pr_ms) @ beat.p.weights_mv
        + kernels_at(beat.qrs, time_s) @ beat.qrs.weights_mv
        + kernels_at(beat.t, (time_s - t_peak_s) / stretch) @ beat.t.weights_mv
    )
    return twelve_leads(electrodes @ jnp.asarray(ELECTRODES_TO_LEADS).T)


@jax.jit
def one_beats(beats: Beat, patients: Patient) -> jax.Array:
    """Beats of B patients, `(B, samples, 12)` in mV, at the times of `time_s`."""
    return jax.vmap(one_beat, (0, 0, None))(beats, patients, jnp.asarray(time_s()))


def time_s() -> np.ndarray:
    """The times of a whole beat at 500 Hz, from `BEFORE_S` before its QRS onset to `AFTER_S` after it."""
    samples = round((BEFORE_S + AFTER_S) * SAMPLE_RATE_HZ)
    return (np.arange(samples) / SAMPLE_RATE_HZ - BEFORE_S).astype(np.float32)
