"""Kernel rows of version 3: their shape, area and projection."""

import jax.numpy as jnp
import numpy as np
import pytest

from ecg_jax.data.synthetic.physiology.leads import ELECTRODES_TO_LEADS, LEAD_FIELD
from ecg_jax.data.synthetic.sources import Rows, kernels_at

TIME_S = np.arange(-0.5, 0.5, 0.001)


def rows(width_s, skew, flat=0.0):
    return Rows(
        centre_s=jnp.zeros(1),
        width_s=jnp.array([width_s]),
        skew=jnp.array([skew]),
        flat=jnp.array([flat]),
        vector_mv=jnp.array([[1.0, 0.0, 0.0]]),
        field=jnp.asarray(LEAD_FIELD)[None],
    )


@pytest.mark.parametrize("skew", [-0.4, 0.0, 0.4])
def test_skew_moves_no_area(skew):
    area = float(kernels_at(rows(0.03, skew), TIME_S).sum()) * 0.001
    np.testing.assert_allclose(area, np.sqrt(2 * np.pi) * 0.03, rtol=1e-4)


def test_a_positive_skew_rises_slowly_and_falls_fast():
    kernel = np.asarray(kernels_at(rows(0.03, 0.4), TIME_S))[:, 0]
    rise, fall = np.diff(kernel).max(), -np.diff(kernel).min()
    np.testing.assert_allclose(fall / rise, 1.4 / 0.6, rtol=0.02)


def test_a_low_pass_keeps_area_and_widens():
    sharp, smooth = (np.asarray(kernels_at(rows(0.005, 0.0), TIME_S, sigma)) for sigma in (0.0, 0.005))
    np.testing.assert_allclose(smooth.sum(), sharp.sum(), rtol=1e-4)
    np.testing.assert_allclose(smooth.max() / sharp.max(), np.sqrt(0.5), rtol=1e-3)


def test_a_flat_kernel_stays_up_longer():
    flat, round_ = (float(kernels_at(rows(0.03, 0.0, flat), np.array([0.02]))[0, 0]) for flat in (1.0, 0.0))
    assert flat > 0.9 > round_


def test_weights_are_the_field_of_the_vector():
    weights = ELECTRODES_TO_LEADS @ np.asarray(rows(0.03, 0.0).weights_mv)[0]
    np.testing.assert_allclose(weights[0], 0.632, atol=1e-5)  # Dower: X to lead I
