import jax
import numpy as np
import pytest
from support.synthetic_pools import made_up_pool

from ecg_jax import objectives
from ecg_jax.config import Objective
from ecg_jax.data.ecg import INDEPENDENT_LEAD_INDICES, LEADS, normalise
from ecg_jax.distributed.mesh import place_batch
from ecg_jax.models import Model
from ecg_jax.objectives import masked, whole_time


def test_whole_patches_are_hidden_in_all_units():
    hidden = np.asarray(whole_time.draw_patches(jax.random.key(0), 400, 50, 0.3))
    assert hidden.shape == (400, 50, 7) and (hidden == hidden[:, :, :1]).all()
    assert abs(hidden[:, :, 0].mean() - 0.3) < 0.015  # 20,000 draws: standard deviation 0.0032


@pytest.fixture
def batch(mesh):
    hidden = np.asarray(masked.draw_cells(jax.random.key(1), 4, 50, 0.6))
    return place_batch(normalise(made_up_pool(4).ecg)), place_batch(hidden)


def test_units_follow_the_leads():
    assert [masked.UNITS[u] for u in masked.UNIT_OF_LEAD] == ["limb"] * 6 + ["V1", "V2", "V3", "V4", "V5", "V6"]
    assert [masked.UNITS[u] for u in masked.UNIT_OF_TARGET] == ["limb"] * 2 + ["V1", "V2", "V3", "V4", "V5", "V6"]
    assert [LEADS[i] for i in INDEPENDENT_LEAD_INDICES] == ["I", "II", "V1", "V2", "V3", "V4", "V5", "V6"]


def test_masks_hide_the_ratio_in_every_unit_and_differ_by_step():
    hidden = masked.draw_cells(jax.random.key(0), 400, 50, 0.6)
    share = np.asarray(hidden).mean(axis=(0, 1))
    assert np.abs(share - 0.6).max() < 0.015  # 20,000 draws a unit: standard deviation 0.0035
    assert (hidden != masked.draw_cells(jax.random.key(1), 400, 50, 0.6)).any()


def test_what_is_hidden_or_lacking_is_not_visible(batch):
    ecg, hidden = batch
    lacking = place_batch(np.where(np.arange(12) == 7, 0.0, np.asarray(ecg)).astype(np.float32))  # no V2
    seen = np.asarray(masked.visible(lacking, hidden))
    for lead in range(12):
        at = np.asarray(hidden)[:, :, masked.UNIT_OF_LEAD[lead]]
        np.testing.assert_array_equal(seen[:, :, lead], np.zeros_like(at) if lead == 7 else ~at)


def test_the_loss_counts_hidden_samples_of_independent_leads_only(batch, mesh):
    ecg, hidden = batch
    target = np.asarray(ecg)[:, :, list(INDEPENDENT_LEAD_INDICES)].reshape(4, 50, 20, 8)
    at = np.broadcast_to(np.asarray(hidden)[:, :, None, masked.UNIT_OF_TARGET], target.shape)
    wrong_where_visible = place_batch(np.where(at, target + 0.5, -99.0).astype(np.float32))
    model = Model(apply=lambda *_: wrong_where_visible, init=None, tokens=None, pooled=None)
    squares, count = masked.errors(model, None, ecg, hidden)
    np.testing.assert_array_equal(count, at.sum(axis=(1, 2, 3)))
    np.testing.assert_allclose(squares / count, 0.25, rtol=1e-5)
    assert float(objectives.loss(objectives.of(Objective.MASKED), model, None, ecg, hidden)) == pytest.approx(0.25)
