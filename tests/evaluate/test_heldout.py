import dataclasses

import jax
import numpy as np
import pytest
from support.synthetic_pools import made_up_pool

from ecg_jax import models
from ecg_jax.config import Objective
from ecg_jax.data.ecg import normalise
from ecg_jax.distributed.mesh import place_batch, place_members
from ecg_jax.evaluate import heldout as held
from ecg_jax.objectives import masked
from ecg_jax.scaling import ladder


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


def test_a_mask_that_hides_nothing_is_drawn_again():
    frozen = held.freeze(made_up_pool(40), 2, objective=Objective.WHOLE_TIME, ratio=0.1, masks=4)
    assert frozen.hidden.any(axis=(2, 3)).all()


@pytest.mark.parametrize(
    ("patches", "ratio", "message"),
    [
        (48, 0.6, "records of 1000 samples do not divide into 48 patches"),
        (50, 0.0, r"ratio = 0.0 lies outside \(0, 1\]"),
    ],
)
def test_masks_that_cannot_be_are_refused(patches, ratio, message):
    with pytest.raises(ValueError, match=message):
        held.freeze(made_up_pool(2), patches, ratio=ratio)


def test_a_record_that_is_not_scored_is_named(heldout, mesh):
    """Not a loss of 0, which would pass for a perfect prediction."""
    model = models.build(ladder.model_config(10_000))
    params = model.init(jax.random.key(0))
    ecg = heldout.pool.ecg.copy()
    ecg[4] = 7
    flat = dataclasses.replace(heldout, pool=dataclasses.replace(heldout.pool, ecg=ecg))
    of_next_patch = held.freeze(made_up_pool(12), 50, objective=Objective.NEXT_PATCH)
    for frozen, record in ((flat, "made-up/00004"), (of_next_patch, "made-up/00000")):
        for errors in (lambda h: held.model_errors(model, params, h, batch_records=36), masked.mean_errors):
            with pytest.raises(ValueError, match=f"record {record}, mask 0: no sample is scored"):
                errors(frozen)


def test_a_pack_is_scored_as_its_members_are(heldout, mesh):
    model = models.build(ladder.model_config(10_000))
    members = [model.init(jax.random.key(seed)) for seed in (0, 1)]
    rng = np.random.default_rng(0)  # the read-out begins at zero: all would predict the same
    members = jax.tree.map(lambda leaf: leaf + 0.1 * rng.normal(size=leaf.shape).astype(np.float32), members)
    pack = jax.tree.map(lambda *leaves: place_members(np.stack(leaves)), *members)
    together = held.pack_errors(model, pack, heldout, masks=2, batch_records=5)
    alone = [held.model_errors(model, params, heldout, masks=2, batch_records=5) for params in members]
    assert together.shape == (2, 12, 2) and not np.allclose(alone[0], alone[1])
    np.testing.assert_allclose(together, alone, rtol=1e-5)


def test_the_sealed_fold_is_not_frozen():
    with pytest.raises(ValueError, match="1 records of PTB-XL's fold 10 are to be scored, such as ptbxl/00009"):
        held.freeze(made_up_pool(10, name="ptbxl", folds=10), 50)
