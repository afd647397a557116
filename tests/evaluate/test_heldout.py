import dataclasses

import jax
import numpy as np
import pytest
from pools import made_up_pool

from ecg_jax import ladder, models
from ecg_jax.data.ecg import INDEPENDENT_LEAD_INDICES, normalise
from ecg_jax.evaluate import heldout as held
from ecg_jax.mesh import place_batch
from ecg_jax.objectives import masked


@pytest.fixture(scope="module")
def heldout():
    return held.freeze(made_up_pool(12), 50, masks=3)


def test_freezing_is_repeatable_and_nested(heldout):
    again = held.freeze(made_up_pool(12), 50, masks=3)
    assert again.identity == heldout.identity
    smaller = held.freeze(made_up_pool(12).take(np.array([5, 2])), 50, masks=2)
    np.testing.assert_array_equal(smaller.hidden, heldout.hidden[[5, 2], :2])


@pytest.mark.parametrize("change", ["records", "patients", "masks"])
def test_identity_sees_records_patients_and_masks(heldout, change):
    match change:
        case "records":
            other = held.freeze(made_up_pool(11), 50, masks=3)
        case "patients":
            pool = dataclasses.replace(heldout.pool, patient_id=heldout.pool.patient_id + 1)
            other = dataclasses.replace(heldout, pool=pool)
        case "masks":
            other = dataclasses.replace(
                heldout, hidden=heldout.hidden ^ (np.arange(heldout.hidden.size) == 7).reshape(heldout.hidden.shape)
            )
    assert other.identity != heldout.identity


def test_every_patient_weighs_the_same(heldout):
    pool = dataclasses.replace(heldout.pool, patient_id=np.array([1] * 10 + [2, 3]))
    errors = np.concatenate([np.full((10, 3), 1.0), np.full((1, 3), 4.0), [[6.0, 7.0, 8.0]]])
    frozen = dataclasses.replace(heldout, pool=pool)
    assert held.overall(errors, frozen) == pytest.approx((1 + 4 + 7) / 3)
    table = held.per_patient(errors, frozen)
    assert len(table) == 9 and table["loss"].mean() == pytest.approx((1 + 4 + 7) / 3)


def test_errors_do_not_depend_on_the_batch(heldout, mesh):
    model = models.build(ladder.model_config(10_000))
    params = model.init(jax.random.key(0))
    whole = held.model_errors(model, params, heldout, batch_records=36)
    ragged = held.model_errors(model, params, heldout, batch_records=7)
    np.testing.assert_allclose(whole, ragged, rtol=1e-5)
    np.testing.assert_array_equal(held.model_errors(model, params, heldout, masks=1, batch_records=36).shape, (12, 1))


def test_model_errors_are_the_objectives(heldout, mesh):
    model = models.build(ladder.model_config(10_000))
    params = model.init(jax.random.key(0))
    errors = held.model_errors(model, params, heldout)
    row, mask = 4, 2
    ecg, hidden = normalise(heldout.pool.ecg[[row]]), heldout.hidden[[row], mask]
    by_hand = jax.jit(lambda p, x, mask: masked.errors(model, p, x, mask))
    squares, count = by_hand(params, place_batch(ecg), place_batch(hidden))
    assert errors[row, mask] == pytest.approx(float(squares[0] / count[0]), rel=1e-5)


def test_the_mean_leaves_the_variance_and_the_linear_map_finds_linear_leads(heldout):
    mean = held.overall(held.mean_errors(heldout), heldout)
    assert 0.9 < mean < 1.1
    linear = held.overall(held.linear_errors(heldout, made_up_pool(40, seed=1)), heldout)
    assert linear < 0.5 * mean  # two sources behind twelve leads: what one lead shows tells of the others


def test_linear_maps_are_the_least_squares_ones():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(5000, 3)) @ rng.normal(size=(3, 12)) + 0.1 * rng.normal(size=(5000, 12))
    maps = held._linear_maps(x.T @ x / len(x))
    pattern = 0b0000110  # V1 and V2 are hidden
    visible = [lead for lead in range(12) if lead not in (6, 7)]
    expected = np.linalg.lstsq(x[:, visible], x[:, 6:8], rcond=None)[0]
    np.testing.assert_allclose(maps[pattern][visible][:, 6:8], expected, rtol=1e-3, atol=1e-4)
    assert not maps[pattern][[6, 7]].any()


def test_component_residual_falls_to_nothing(heldout):
    residual = held.component_residual(heldout, made_up_pool(40, seed=1), 20, [1, 8, 160, 999])
    assert residual[1] > residual[8] > residual[160] == residual[999] == pytest.approx(0, abs=1e-6)
    target = normalise(heldout.pool.ecg)[:, :, list(INDEPENDENT_LEAD_INDICES)]
    assert residual[1] < np.square(target).mean()
