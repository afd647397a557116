"""A lead that is constant before a filter stays absent after it, and the smallest real signal does not become one."""

import numpy as np
import pytest
from scipy import signal
from support.ptbxl_layout import ecg_like

from ecg_jax.data.ecg import normalise
from ecg_jax.data.preprocess import apply_chain, band_passed, chain_matrix, filtered, flat_leads, scaled

V3 = 8
_SECTIONS = signal.butter(4, (0.5, 40), "bandpass", fs=500, output="sos")
_TRANSFER = signal.butter(4, (0.5, 40), "bandpass", fs=500)
FILTERS = {
    "none": lambda x: x,
    "ours": lambda x: filtered(x, 500, 100),
    "band_passed": lambda x: band_passed(x, 500, axis=0),
    "sosfiltfilt": lambda x: signal.sosfiltfilt(_SECTIONS, x, axis=0),
    "filtfilt": lambda x: signal.filtfilt(*_TRANSFER, x, axis=0),
    "low-pass": lambda x: signal.sosfiltfilt(signal.butter(4, 40, fs=500, output="sos"), x, axis=0),
    "minus its mean": lambda x: x - x.mean(axis=0),
}


def with_lead(values, dtype) -> np.ndarray:
    """A recording of ten seconds at 500 Hz in mV with `values` in V3."""
    ecg = ecg_like(3)
    ecg[:, V3] = values
    return ecg.astype(dtype)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("offset_mv", [0.0, 0.3, -32.767, 4000.0])
@pytest.mark.parametrize("name", FILTERS)
def test_a_constant_is_flat_after_any_filter_and_five_microvolts_are_not(name, offset_mv, dtype):
    wave = 0.005 * np.sin(2 * np.pi * 1.2 * np.arange(5000) / 500)
    for unit in (1.0, 1e-3):  # millivolts and volts
        constant = FILTERS[name](with_lead(offset_mv, dtype) * dtype(unit))
        assert np.flatnonzero(flat_leads(constant)).tolist() == [V3]
        assert not flat_leads(FILTERS[name](with_lead(offset_mv + wave, dtype) * dtype(unit))).any()


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("offset_mv", [0.3, 4000.0])
def test_our_own_filter_leaves_exactly_nothing_of_a_constant(offset_mv, dtype):
    x = with_lead(offset_mv, dtype)
    assert not filtered(x, 500, 100)[:, V3].any() and not band_passed(x, 500, axis=0)[:, V3].any()
    for normalised in (False, True):
        counts = apply_chain(x, 500, 100, normalised=normalised)
        assert not counts[:, V3].any() and np.ptp(counts, axis=0)[:V3].all() and not normalise(counts)[:, V3].any()


def test_a_small_signal_keeps_its_shape_on_a_large_offset():
    wave = 0.005 * np.sin(2 * np.pi * 1.2 * np.arange(5000) / 500)
    near, far = (filtered(with_lead(offset + wave, np.float64), 500, 100)[:, V3] for offset in (0.0, 5000.0))
    assert np.abs(far - near).max() < 1e-4 * np.abs(near).max()


def test_what_is_no_flat_lead_is_filtered_to_the_same_bits():
    x = ecg_like(4).astype(np.float32) + np.float32(3)
    assert np.array_equal(filtered(x, 500, 100), chain_matrix(10, 500, 100) @ x)


def test_scaling_takes_no_rounding_for_a_signal():
    x = signal.sosfiltfilt(_SECTIONS, with_lead(0.3, np.float64), axis=0)
    assert x[:, V3].any() and not scaled(x)[:, V3].any()
    assert scaled(x).std(axis=0)[:V3] == pytest.approx(1)
    assert flat_leads(np.zeros((4, 100, 12), np.int16)).all() and flat_leads(np.full((10, 1), 1e-14)).all()
    assert not flat_leads(1e-40 * with_lead(1, np.float64)[:, :V3]).any()  # whatever the unit
