"""What people use now: NeuroKit2's generators, and a batched Runge–Kutta integration of the ECGSYN equations in NumPy.

NeuroKit2 is no dependency of this project; benchmarks/README.md says how to install it.
"""

from __future__ import annotations

import numpy as np

#: Angles (rad), amplitudes and widths of P, Q, R, S, T: McSharry et al., IEEE Trans Biomed Eng 50:289, 2003, table 1.
ANGLE_RAD = np.array([-np.pi / 3, -np.pi / 12, 0.0, np.pi / 12, np.pi / 2])
AMPLITUDE = np.array([1.2, -5.0, 30.0, -7.5, 0.75])
WIDTH_RAD = np.array([0.25, 0.1, 0.1, 0.1, 0.4])
BREATHING_HZ, BREATHING_MV = 0.25, 0.005


def require_neurokit() -> None:
    """Raises ModuleNotFoundError, with the remedy, where NeuroKit2 is not installed."""
    try:
        import neurokit2  # noqa: F401
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            "neurokit2 is not installed: `pip install neurokit2` (see benchmarks/README.md)"
        ) from error


def neurokit_record(
    method: str, sample_rate_hz: int, seconds: float, heart_rate_bpm: float, heart_rate_sd_bpm: float, seed: int
) -> np.ndarray:
    """One record of `ecg_simulate`, `(samples, leads)` in mV: 12 leads of "multileads", the one lead of "ecgsyn"."""
    import neurokit2

    ecg = neurokit2.ecg_simulate(
        duration=seconds,
        sampling_rate=sample_rate_hz,
        method=method,
        heart_rate=heart_rate_bpm,
        heart_rate_std=heart_rate_sd_bpm,
        random_state=seed,
    )
    return np.asarray(ecg, np.float32).reshape(len(ecg), -1)


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
