import jax
import jax.numpy as jnp
import numpy as np
import pytest
from pools import made_up_pool

from ecg_jax import ladder, models, objectives
from ecg_jax.config import Objective, Position
from ecg_jax.data.ecg import INDEPENDENT_LEAD_INDICES, LEADS, normalise
from ecg_jax.mesh import place_batch
from ecg_jax.models import Model
from ecg_jax.objectives import masked


def shaken(params):
    """Parameters with a read-out that is not zero, as it is at the start."""
    noise = 0.1 * jax.random.normal(jax.random.key(9), params["head"]["project"]["kernel"].shape)
    return params | {"head": {"project": {"kernel": noise}}}


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


@pytest.mark.parametrize("position", Position)
def test_no_hidden_sample_reaches_the_prediction(batch, position, mesh):
    ecg, hidden = batch
    model = models.build(ladder.model_config(30_000, position=position))
    params = shaken(model.init(jax.random.key(0)))
    predict = jax.jit(lambda x: model.apply(params, x, masked.visible(x, hidden)))
    original = np.asarray(ecg)
    hidden_samples = np.repeat(np.asarray(hidden), 20, axis=1)[:, :, masked.UNIT_OF_LEAD]
    tampered = {
        name: place_batch(np.where(hidden_samples, a, b).astype(np.float32))
        for name, a, b in (("hidden", 7.0, original), ("visible", original, original + 0.1))
    }
    np.testing.assert_array_equal(predict(ecg), predict(tampered["hidden"]))
    assert (predict(ecg) != predict(tampered["visible"])).any()


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


def test_tokens_know_their_place(batch, mesh):
    """Without positions, equal tokens would get equal predictions."""
    blank, all_hidden = jnp.zeros_like(batch[0]), place_batch(np.ones((4, 50, 7), bool))
    for position in (Position.LEARNED, Position.SINUSOIDAL):
        model = models.build(ladder.model_config(30_000, position=position))
        params = shaken(model.init(jax.random.key(0)))
        out = np.asarray(jax.jit(model.apply)(params, blank, ~all_hidden[:, :, masked.UNIT_OF_LEAD]))
        assert np.abs(out[0, 0] - out[0, 1]).max() > 1e-4, position
