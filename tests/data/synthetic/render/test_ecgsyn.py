"""Tier T0: the closed form against the differential equation it solves."""

import itertools
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import integrate

from ecg_jax.data.synthetic.render import ecgsyn

RATE_HZ, SECONDS = 250, 10


def integrated(r_peaks_s: np.ndarray, mean_rr_s: float, times_s: np.ndarray, respiration_hz: float = 0.0) -> np.ndarray:
    """ECGSYN as three coupled differential equations, from the first R peak on, at tight tolerances."""
    h = mean_rr_s**-0.5
    centre, width = ecgsyn.ANGLE_RAD * h**ecgsyn.ANGLE_POWER, ecgsyn.WIDTH_RAD * h

    def slope(time_s, state, omega):
        x, y, z = state
        alpha, theta = 1 - np.hypot(x, y), np.arctan2(y, x)
        delta = (theta - centre + np.pi) % (2 * np.pi) - np.pi
        z0 = np.sin(2 * np.pi * respiration_hz * time_s)
        push = (ecgsyn.STRENGTH * delta * np.exp(-0.5 * (delta / width) ** 2)).sum()
        return alpha * x - omega * y, alpha * y + omega * x, -push - (z - z0)

    state, found = np.array([1.0, 0.0, 0.0]), np.empty(len(times_s))
    for start, stop in itertools.pairwise(r_peaks_s):  # the angular velocity changes at R peaks
        inside = (times_s >= start) & (times_s < stop)
        solution = integrate.solve_ivp(
            slope, (start, stop), state, "LSODA", np.append(times_s[inside], stop), args=(2 * np.pi / (stop - start),),
            rtol=1e-8, atol=1e-10, max_step=0.04,
        )  # fmt: skip
        found[inside], state = solution.y[2, :-1], solution.y[:, -1]
    return found


def varying_rr(kind: str) -> np.ndarray:
    beats = np.arange(24)
    return {
        "constant": np.full(24, 0.8),
        "fast": np.full(24, 0.55),
        "breathing": 0.9 + 0.06 * np.sin(2 * np.pi * beats / 5.0),
        "slowing": 0.7 + 0.02 * beats,
    }[kind]


@pytest.mark.parametrize("kind", ["constant", "fast", "breathing", "slowing"])
def test_closed_form_is_the_integrated_equation(kind):
    rr_s = varying_rr(kind)
    # Twelve beats like the first one go before, for the equation to settle.
    r_peaks_s = np.cumsum(np.concatenate([np.full(12, rr_s[0]), rr_s])) - 12.4 * rr_s[0]
    r_peaks_s = r_peaks_s[: np.searchsorted(r_peaks_s, SECONDS) + 1]
    times_s = np.arange(RATE_HZ * SECONDS) / RATE_HZ
    expected = integrated(r_peaks_s, rr_s.mean(), times_s)
    mean_rr_s = jnp.float32(rr_s.mean())
    weights = ecgsyn.DIRECT_AMPLITUDE[:, None]
    lead = jax.jit(ecgsyn.ecgsyn_lead, static_argnums=(3, 4))
    found = lead(jnp.asarray(r_peaks_s, jnp.float32), mean_rr_s, weights, RATE_HZ, len(times_s))[:, 0]
    assert np.corrcoef(found, expected)[0, 1] > 0.9999
    assert np.sqrt(np.mean((found - expected) ** 2)) < 0.01 * expected.std()  # also the level


def test_breathing_is_the_integrated_equation():
    times_s = np.arange(20, 30, 0.01)
    slope = lambda t, z: -(z - np.sin(2 * np.pi * 0.25 * t + 0.4))  # noqa: E731
    expected = integrate.solve_ivp(slope, (0, 30), [0.0], t_eval=times_s, rtol=1e-8, atol=1e-10).y[0]
    found = ecgsyn.respiration(jnp.asarray(times_s, jnp.float32), jnp.float32(0.25), jnp.float32(0.4))
    np.testing.assert_allclose(found, expected, atol=1e-4)


def record(heart_rate_bpm: float, rate_hz: int = 100, guard_samples: int = 0) -> np.ndarray:
    """A regular record whose first R peak lies at 0.7 s or earlier."""

    def render(onsets_s, mean_rr_s):
        trains = SimpleNamespace(qrs_onset_s=onsets_s, breath_phase=0.3)
        patient = SimpleNamespace(mean_rr_s=mean_rr_s, respiration_hz=0.25)
        return ecgsyn.render_ecgsyn(trains, patient, rate_hz, SECONDS, guard_samples)

    rr_s = 60.0 / heart_rate_bpm
    onsets_s = (np.arange(-2, 30) * rr_s - 0.1).astype(np.float32)
    onsets_s[-3:] = 1000.0  # slots without a beat
    return np.asarray(jax.jit(render)(onsets_s, np.float32(rr_s)))


def test_record_has_shape_rank_three_and_beats_at_r_peaks():
    ecg = record(75.0)
    assert ecg.shape == (1000, 8) and np.isfinite(ecg).all()
    assert np.linalg.matrix_rank(ecg, tol=1e-4 * np.linalg.norm(ecg)) == 3
    peaks_s = np.arange(0, 9) * 0.8 - 0.1 + ecgsyn.R_PEAK_AFTER_ONSET_S + 0.8
    for peak_s in peaks_s:
        around = ecg[round((peak_s - 0.3) * 100) : round((peak_s + 0.3) * 100), 6]  # V5
        assert abs(int(around.argmax()) - 30) <= 2
    assert 0.5 < np.ptp(ecg[:, 6]) < 3.0  # mV


def test_amplitude_does_not_depend_on_heart_rate():
    slow, fast = (np.ptp(record(bpm, 250)[:, 6]) for bpm in (50.0, 100.0))
    assert slow == pytest.approx(fast, rel=0.15)


def test_guard_samples_extend_the_same_record():
    plain, guarded = record(70.0, 250), record(70.0, 250, 10)
    np.testing.assert_allclose(guarded[10:-10], plain, atol=2e-3)


def test_rates_agree():
    np.testing.assert_allclose(record(70.0, 500)[::5], record(70.0, 100), atol=5e-3)
