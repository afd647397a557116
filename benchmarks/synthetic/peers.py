"""A peer of the generator: a batched Runge–Kutta integration of the ECGSYN equations in NumPy. The other, NeuroKit2, is
in `experiments.protocol.neurokit`."""

from __future__ import annotations

import numpy as np

#: Angles (rad), amplitudes and widths of P, Q, R, S, T: McSharry et al., IEEE Trans Biomed Eng 50:289, 2003, table 1.
ANGLE_RAD = np.array([-np.pi / 3, -np.pi / 12, 0.0, np.pi / 12, np.pi / 2])
AMPLITUDE = np.array([1.2, -5.0, 30.0, -7.5, 0.75])
WIDTH_RAD = np.array([0.25, 0.1, 0.1, 0.1, 0.4])
BREATHING_HZ, BREATHING_MV = 0.25, 0.005


def ecgsyn_rk4(rr_s: np.ndarray, gain_LxW: np.ndarray, sample_rate_hz: int, seconds: int) -> np.ndarray:
    """Integrates the ECGSYN equations by fixed fourth-order Runge–Kutta steps of one sample.

    `rr_s (records,)` is each record's RR interval, `gain_LxW` scales the five waves in each lead. On the limit cycle,
    where the equations start, the phase is θ' = 2π/RR, and only z' = -Σ a Δθ exp(-Δθ²/2b²) - (z - z0) is left to
    integrate. Returns float32 `(records, samples, leads)` in the equations' own unit.
    """
    records, samples, step_s = len(rr_s), sample_rate_hz * seconds, 1.0 / sample_rate_hz
    amplitude_LxW = (AMPLITUDE * gain_LxW).astype(np.float32)
    omega = (2 * np.pi / rr_s).astype(np.float32)
    out = np.empty((records, samples, len(gain_LxW)), np.float32)
    z = np.zeros((records, len(gain_LxW)), np.float32)

    def drive(time_s: float) -> np.ndarray:
        phase = (omega * time_s)[:, None] - ANGLE_RAD.astype(np.float32)
        phase -= (2 * np.pi) * np.rint(phase / (2 * np.pi))
        bumps_BxW = phase * np.exp(-(phase**2) / (2 * WIDTH_RAD.astype(np.float32) ** 2))
        return BREATHING_MV * np.float32(np.sin(2 * np.pi * BREATHING_HZ * time_s)) - bumps_BxW @ amplitude_LxW.T

    for sample in range(samples):
        out[:, sample] = z
        time_s = sample * step_s
        start, middle, end = drive(time_s), drive(time_s + step_s / 2), drive(time_s + step_s)
        k1 = start - z
        k2 = middle - (z + step_s / 2 * k1)
        k3 = middle - (z + step_s / 2 * k2)
        k4 = end - (z + step_s * k3)
        z = z + step_s / 6 * (k1 + 2 * k2 + 2 * k3 + k4)
    return out
