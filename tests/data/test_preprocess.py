"""The chain as a matrix is what SciPy computes, from any input rate, and refuses what int16 cannot hold."""

import numpy as np
import pytest
import wfdb
from scipy import signal
from support.ptbxl_layout import ecg_like

from ecg_jax.data.preprocess import apply_chain, chain_matrix, to_counts
from ecg_jax.data.real.datasets import ptbxl


def scipy_chain(ecg: np.ndarray) -> np.ndarray:
    """The published derivation of the z-scored sample, step by step: transfer function, filtfilt, 1:5."""
    numerator, denominator = signal.butter(4, (0.5, 40), "bandpass", fs=500)
    return signal.resample_poly(signal.filtfilt(numerator, denominator, ecg, axis=-2), 1, 5, axis=-2, padtype="line")


def tones(seconds_at: np.ndarray, seed: int) -> np.ndarray:
    """A band-limited signal (0.1-45 Hz) at any times, not quiet at the ends."""
    rng = np.random.default_rng(seed)
    hz, phase = rng.uniform(0.1, 45, 60), rng.uniform(0, 2 * np.pi, 60)
    return (np.cos(2 * np.pi * hz * seconds_at[:, None] + phase) / (1 + hz / 5)).sum(axis=1)


def test_matrix_equals_scipy_on_ecg():
    ecg = np.stack([ecg_like(seed) for seed in range(8)])
    expected = scipy_chain(ecg)
    got = chain_matrix(10, 500, 100) @ ecg
    assert np.abs(got - expected).max() <= 1e-4 * np.abs(expected).max()


def test_real_recordings_come_out_as_scipy_makes_them(ecg_data_dir):
    recordings = [ptbxl.read_signal(recording) for recording in ptbxl.list_raw(ecg_data_dir)[:20]]
    ecg = np.stack(recordings).astype(np.float64)
    assert np.abs(apply_chain(ecg, 500, 100) / 1000 - scipy_chain(ecg)).max() <= 0.6e-3


def test_from_1000_hz_what_differs_is_where_it_is_filtered(ecg_data_dir):
    """PTB's recordings: SciPy's steps with the filter at 500 Hz differ by 0.3 % of the signal. Filtered at 1000 Hz they
    differ by 11 %, at the ends, which SciPy continues by 27 samples, half as long there; by 0.6 % inside."""
    found, at_500, at_1000 = [], [], []
    for header in sorted((ecg_data_dir / "challenge2021" / "ptb").glob("*.hea")):
        record = wfdb.rdrecord(str(header.with_suffix("")))
        ecg = record.p_signal[:10_000, :12]
        assert record.fs == 1000
        found.append(apply_chain(ecg.astype(np.float32), 1000, 100) / 1000)
        halved = signal.resample_poly(ecg, 1, 2, axis=0, padtype="line")
        for rate_hz, x, expected in ((500, halved, at_500), (1000, ecg, at_1000)):
            sections = signal.butter(4, (0.5, 40), "bandpass", fs=rate_hz, output="sos")
            filtered = signal.sosfiltfilt(sections, x, axis=0)
            expected.append(signal.resample_poly(filtered, 1, rate_hz // 100, axis=0, padtype="line"))

    def apart(expected, inside: slice) -> float:
        difference = np.subtract(found, expected)[:, inside]
        return np.sqrt(np.mean(difference**2)) / np.std(expected)

    assert apart(at_500, slice(None)) <= 0.005
    assert apart(at_1000, slice(300, 700)) <= 0.01 and 0.05 < apart(at_1000, slice(None)) < 0.15


def test_apply_chain_rounds_to_microvolts_whatever_the_batch():
    ecg = np.stack([ecg_like(seed) for seed in range(4)]).reshape(2, 2, 5000, 12)
    counts = apply_chain(ecg, 500, 100)
    assert counts.shape == (2, 2, 1000, 12)
    assert counts.dtype == np.int16
    assert np.abs(counts / 1000 - scipy_chain(ecg)).max() <= 0.6e-3
    assert np.abs(counts[1, 0].astype(int) - apply_chain(ecg[1, 0], 500, 100)).max() <= 1


def test_rendering_at_200_hz_equals_rendering_at_500_hz():
    guard = 10
    at_500 = chain_matrix(10, 500, 100) @ np.stack([tones(np.arange(5000) / 500, seed) for seed in range(10)], 1)
    times = np.arange(-guard, 2000 + guard) / 200
    at_200 = chain_matrix(10, 200, 100, guard) @ np.stack([tones(times, seed) for seed in range(10)], 1)
    assert np.abs(at_200 - at_500).max() <= 1e-3 * at_500.std()


def test_without_guard_a_recording_at_rest_at_its_ends_differs_as_little():
    times_500, times_200 = np.arange(5000) / 500, np.arange(2000) / 200

    def at_rest(times: np.ndarray) -> np.ndarray:
        return tones(times, 3) * np.exp(-0.5 * ((times - 5) / 0.8) ** 2)

    at_500 = chain_matrix(10, 500, 100) @ at_rest(times_500)
    assert np.abs(chain_matrix(10, 200, 100) @ at_rest(times_200) - at_500).max() <= 1e-3 * at_500.std()


def test_pass_band():
    t = np.arange(5000) / 500
    gain = {
        hz: np.std((chain_matrix(10, 500, 100) @ np.sin(2 * np.pi * hz * t))[400:-400])
        * np.sqrt(2)  # away from the ends
        for hz in (0.1, 5.0, 20.0, 70.0)
    }
    assert gain[0.1] < 0.005
    assert gain[5.0] == pytest.approx(1, abs=0.005)
    assert gain[20.0] == pytest.approx(1, abs=0.005)
    assert gain[70.0] < 0.005


def test_matrix_is_shared_and_cannot_be_changed():
    chain = chain_matrix(10, 500, 100)
    assert chain is chain_matrix(10, 500, 100)
    with pytest.raises(ValueError, match="read-only"):
        chain[0, 0] = 1


@pytest.mark.parametrize("value", [32.768, -40.0, np.nan, np.inf])
def test_counts_that_do_not_fit_are_refused(value):
    with pytest.raises(ValueError, match=r"32\.767"):
        to_counts(np.array([0.0, value]))


def test_counts_at_the_limit_fit():
    assert to_counts(np.array([32.767, -32.767, 0.0004, -0.0006])).tolist() == [32767, -32767, 0, -1]


@pytest.mark.parametrize(
    ("arguments", "match"),
    [((0, 500, 100), "seconds"), ((10, 500, 80), "rate_out_hz is 80"), ((10, 360, 100, 10), "multiple of 18")],
)
def test_impossible_chains_are_refused(arguments, match):
    with pytest.raises(ValueError, match=match):
        chain_matrix(*arguments)


def test_broken_seconds_are_refused():
    with pytest.raises(ValueError, match=r"4999 samples at 500 Hz are 9\.998 s"):
        apply_chain(np.zeros((4999, 12)), 500, 100)
