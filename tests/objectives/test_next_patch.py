import math

import numpy as np
import pytest
from support.tiny_models import PATCHES, jit, placed

from ecg_jax.config import Objective
from ecg_jax.models import Model
from ecg_jax.objectives import masked, next_patch, of

SHAPE = (3, PATCHES, 20, 8)


def errors(out, ecg):
    hidden = np.asarray(next_patch.draw_nothing(None, len(ecg), PATCHES, 0.6))
    assert not hidden.any()
    model = Model(apply=lambda *_: out, init=None, tokens=None, pooled=None)
    return jit(lambda x, h: next_patch.errors(model, None, x, h))(*placed(ecg, hidden))


@pytest.fixture
def ecg(mesh):
    return np.random.default_rng(0).normal(size=(3, 100, 12)).astype(np.float32)


def test_the_loss_is_the_gaussian_density_of_the_next_patch(ecg):
    rng = np.random.default_rng(1)
    mean, log_deviation = rng.normal(size=SHAPE), rng.normal(0, 0.5, SHAPE)
    (out,) = placed(np.stack([mean, log_deviation], axis=-1).astype(np.float32))
    sums, counts = errors(out, ecg)
    target = np.asarray(masked.targets(placed(ecg)[0], PATCHES)).astype(np.float64)
    expected = np.zeros(3)
    for patch in range(PATCHES - 1):  # what patch t says is of patch t + 1; nothing is said of the first
        deviation = np.sqrt(np.exp(2 * log_deviation[:, patch]) + next_patch.DEVIATION_FLOOR**2)
        z = (target[:, patch + 1] - mean[:, patch]) / deviation
        expected += (0.5 * z**2 + np.log(deviation) + 0.5 * math.log(2 * math.pi)).sum(axis=(1, 2))
    np.testing.assert_allclose(sums, expected, rtol=1e-4)
    np.testing.assert_array_equal(counts, [(PATCHES - 1) * 20 * 8] * 3)


def test_a_flat_stretch_gives_no_endless_density(ecg):
    """A model that is certain and right gains ln(1 / 0.02) nats per sample at most."""
    ecg[:, 20:] = 0
    (out,) = placed(np.stack([np.zeros(SHAPE), np.full(SHAPE, -50.0)], axis=-1).astype(np.float32))
    sums, counts = errors(out, ecg)
    floor = 0.5 * math.log(2 * math.pi) + math.log(next_patch.DEVIATION_FLOOR)
    np.testing.assert_allclose(np.asarray(sums) / np.asarray(counts), floor, rtol=1e-5)


def test_a_model_of_another_read_out_is_refused_by_name(ecg):
    values = placed(np.zeros(SHAPE, np.float32))[0]
    with pytest.raises(ValueError, match=r"needs a gaussian read-out of \(3, 5, 20, 8, 2\).* \(3, 5, 20, 8\)"):
        errors(values, ecg)
    two = Model(apply=lambda *_: np.zeros((*SHAPE, 2), np.float32), init=None, tokens=None, pooled=None)
    hidden = np.ones((3, PATCHES, 7), bool)
    with pytest.raises(ValueError, match=r"need a value read-out of \(3, 5, 20, 8\).* \(3, 5, 20, 8, 2\)"):
        masked.errors(two, None, *placed(ecg, hidden))
    with pytest.raises(ValueError, match=r"3 records must be \(3, patches, 7 units\), not \(3, 5, 1\)"):
        masked.errors(two, None, *placed(ecg, hidden[:, :, :1]))


def test_skill_of_a_likelihood_is_that_of_its_variance():
    """Gaussians of deviations 0.05 and 0.2: the loss of one is negative, and yet their variances stand as 1 to 16."""
    entropy = [math.log(deviation) + 0.5 * math.log(2 * math.pi * math.e) for deviation in (0.05, 0.2)]
    assert entropy[0] < 0
    assert of(Objective.NEXT_PATCH).share(*entropy) == pytest.approx(1 / 16)
    assert of(Objective.MASKED).share(0.3, 0.4) == of(Objective.WHOLE_TIME).share(0.3, 0.4) == pytest.approx(0.75)
    assert math.isfinite(of(Objective.NEXT_PATCH).share(1e6, 1.0)) and math.isnan(
        of(Objective.NEXT_PATCH).share(math.nan, 1.0)
    )


def test_every_objective_has_its_functions():
    assert {of(objective).errors for objective in Objective} == {masked.errors, next_patch.errors}
