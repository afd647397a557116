"""The held-out loss taken apart, and put together again."""

import dataclasses

import numpy as np
import pandas as pd
import pytest
from support.synthetic_pools import made_up_pool
from support.tiny_models import small_model

from ecg_jax.evaluate import heldout as held
from ecg_jax.evaluate.heldout_parts import PARTS, compare, part_of_samples, part_of_waves, parts_table, take_apart

NUMBER = {name: number for number, name in enumerate(PARTS)}


@pytest.fixture(scope="module")
def frozen():
    pool = made_up_pool(9, 3)
    pool = dataclasses.replace(pool, ecg=pool.ecg[:, :100], patient_id=np.array([1, 1, 2, 3, 4, 5, 6, 7, 8]))
    return held.freeze(pool, 5, masks=2)


@pytest.fixture
def taken(frozen, mesh):
    _, model, params = small_model()
    parts = np.random.default_rng(0).integers(0, 4, frozen.pool.ecg.shape[:2])
    return model, params, take_apart(model, params, frozen, parts, batch_records=4)


def test_parts_and_leads_add_up_to_the_errors_of_the_objective(frozen, taken):
    model, params, found = taken
    errors = held.model_errors(model, params, frozen)
    count = np.stack([(frozen.hidden[..., unit]).sum(axis=(1, 2)) for unit in range(7)], axis=-1)
    assert found.count.sum() == (count @ [2, 1, 1, 1, 1, 1, 1]).sum() * 20
    weights = np.array(
        [[mask[:, unit].sum() for unit in (0, 0, 1, 2, 3, 4, 5, 6)] for row in frozen.hidden for mask in row]
    )
    per_mask = weights.sum(axis=1).reshape(9, 2)
    expected = (errors * per_mask).sum(axis=1) / per_mask.sum(axis=1)
    ours = found.squares.sum(axis=(1, 2)) / found.count.sum(axis=(1, 2))
    np.testing.assert_allclose(ours, expected, rtol=1e-4)
    assert (found.absolute**2 <= found.squares * found.count * (1 + 1e-6)).all()
    table = parts_table(found, {"the first": np.arange(9) < 3})
    assert len(table) == 2 * (1 + 4 + 8 + 1) and (table["low"] <= table["value"]).all()
    assert table[table["of"] == "the first"]["patients"].tolist() == [2, 2]


def test_one_sample_moves_its_own_part_alone(frozen, taken, mesh):
    model, params, _ = taken
    everything = take_apart(model, params, frozen, np.full(frozen.pool.ecg.shape[:2], NUMBER["QRS"]))
    assert everything.count[:, NUMBER["QRS"]].sum() == everything.count.sum() > 0
    unseen = take_apart(model, params, frozen, np.full(frozen.pool.ecg.shape[:2], -1))
    assert unseen.count.sum() == 0
    with pytest.raises(ValueError, match=r"parts of shape \(9, 99\)"):
        take_apart(model, params, frozen, np.zeros((9, 99)))


def test_models_are_compared_patient_by_patient(taken):
    _, _, found = taken
    double = dataclasses.replace(found, squares=2 * found.squares)
    ratio, low, high = compare(double, found, part="QRS")
    assert ratio == pytest.approx(np.log(2)) and low == pytest.approx(high)
    other = dataclasses.replace(found, patient_R=found.patient_R + 1)
    with pytest.raises(ValueError, match="which are not the same"):
        compare(found, other)


def test_windows_lie_about_the_beats_and_annotated_waves_where_they_are():
    time = np.arange(1000) / 100
    ecg = sum(np.exp(-0.5 * ((time - at) / 0.02) ** 2) for at in np.arange(0.5, 10))
    parts = part_of_samples(np.repeat((1000 * ecg)[None, :, None], 12, axis=2).astype(np.int16), 100)[0]
    for at in range(1, 9):
        assert parts[100 * at + 50] == NUMBER["QRS"] and parts[100 * at + 50 + 25] == NUMBER["ST-T"]
        assert parts[100 * at + 50 - 15] == NUMBER["P"] and parts[100 * at + 50 + 55] == NUMBER["rest"]
    waves = pd.DataFrame(
        [("P", 0.1, 0.2), ("QRS", 0.3, 0.4), ("T", 0.55, 0.7), ("QRS", 0.9, 1.0)],
        columns=["wave", "onset_s", "offset_s"],
    )
    expected = [*[-1] * 10, *[1] * 10, *[0] * 10, *[3] * 10, *[2] * 30, *[0] * 20, *[3] * 10, *[-1] * 20]
    assert part_of_waves(waves, 120, 100).tolist() == expected
