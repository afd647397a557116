import dataclasses
import math

import numpy as np
import pytest
from support.configs import make_config
from support.synthetic_pools import made_up_pool

from ecg_jax.config import Objective
from ecg_jax.evaluate import heldout as held
from ecg_jax.evaluate.response import response_of
from ecg_jax.objectives import masked
from ecg_jax.objectives.next_patch import DEVIATION_FLOOR, NEXT_PATCH
from ecg_jax.outputs import row as record
from ecg_jax.scaling import ladder

KNOWS_NOTHING = 0.5 * math.log(2 * math.pi) + 0.5  # of N(0, 1), its own entropy: 1.42 nats


@pytest.fixture(scope="module")
def heldout():
    return held.freeze(made_up_pool(12), 50, masks=3)


@pytest.fixture(scope="module")
def next_patch():
    return held.freeze(made_up_pool(12), 50, objective=Objective.NEXT_PATCH)


def test_the_mean_leaves_the_variance_and_the_linear_map_finds_linear_leads(heldout):
    mean = held.overall(masked.mean_errors(heldout), heldout)
    assert 0.9 < mean < 1.1
    linear = held.overall(masked.linear_errors(heldout, made_up_pool(40, seed=1)), heldout)
    assert linear < 0.5 * mean  # two sources behind twelve leads: what one lead shows tells of the others


def test_linear_maps_are_the_least_squares_ones():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(5000, 3)) @ rng.normal(size=(3, 12)) + 0.1 * rng.normal(size=(5000, 12))
    maps = masked._linear_maps(x.T @ x / len(x))
    pattern = 0b0000110  # V1 and V2 are hidden
    visible = [lead for lead in range(12) if lead not in (6, 7)]
    expected = np.linalg.lstsq(x[:, visible], x[:, 6:8], rcond=None)[0]
    np.testing.assert_allclose(maps[pattern][visible][:, 6:8], expected, rtol=1e-3, atol=1e-4)
    assert not maps[pattern][[6, 7]].any()


def test_a_lead_that_a_record_lacks_costs_a_reference_nothing(heldout):
    """Its error of 0 would else flatter every line."""
    ecg = heldout.pool.ecg.copy()
    ecg[:, :, 6:10] = 300
    lacking = dataclasses.replace(heldout, pool=dataclasses.replace(heldout.pool, ecg=ecg))
    assert 0.9 < held.overall(masked.mean_errors(lacking), lacking) < 1.1


def test_the_next_patch_of_a_standard_gaussian(next_patch):
    assert held.overall(NEXT_PATCH.mean_errors(next_patch), next_patch) == pytest.approx(KNOWS_NOTHING, abs=0.02)


def autoregressive_pool(records, seed, correlation):
    """Leads of one first-order autoregression each: of the next patch its past tells correlation^k at sample k."""
    rng = np.random.default_rng(seed)
    noise = rng.normal(size=(records, 1000, 12))
    ecg = np.empty_like(noise)
    ecg[:, 0] = noise[:, 0]
    for sample in range(1, 1000):
        ecg[:, sample] = correlation * ecg[:, sample - 1] + math.sqrt(1 - correlation**2) * noise[:, sample]
    return dataclasses.replace(made_up_pool(records, seed), ecg=(2000 * ecg).astype(np.int16))


def test_the_linear_forecast_is_the_best_one_where_the_truth_is_linear():
    correlation = 0.95
    heldout = held.freeze(autoregressive_pool(40, 1, correlation), 50, objective=Objective.NEXT_PATCH)
    training = autoregressive_pool(200, 2, correlation)
    variance = 1 - correlation ** (2 * np.arange(1, 21)) + DEVIATION_FLOOR**2
    entropy = 0.5 * np.log(2 * math.pi * math.e * variance).mean()
    linear = held.overall(NEXT_PATCH.linear_errors(heldout, training), heldout)
    assert entropy < linear < entropy + 0.05  # 160 numbers fitted per sample, z-scoring of correlated records
    assert linear < KNOWS_NOTHING - 0.2


def test_a_forecast_needs_a_record_with_all_leads(next_patch):
    training = made_up_pool(3, 1)
    lacking = dataclasses.replace(training, ecg=training.ecg * (np.arange(12) != 7))
    with pytest.raises(ValueError, match="made-up: no training record holds all of I, II, V1"):
        NEXT_PATCH.linear_errors(next_patch, lacking)
    whole = np.concatenate([training.ecg, lacking.ecg])
    both = dataclasses.replace(made_up_pool(6, 1), ecg=whole)
    np.testing.assert_array_equal(
        NEXT_PATCH.linear_errors(next_patch, both),
        NEXT_PATCH.linear_errors(next_patch, training),
    )


@pytest.mark.parametrize("objective", Objective)
def test_every_objective_has_its_response_and_its_row(objective):
    training = made_up_pool(40, 3)  # none of which is like one of the held-out twelve
    heldout = held.freeze(made_up_pool(12), 50, objective=objective, masks=3)
    lines = response_of(heldout, training, objective=objective).references
    assert lines.keys() == {f"{kind}_{name}" for kind in ("loss", "curve_loss") for name in ("mean", "linear")}
    assert lines["loss_linear"] <= lines["loss_mean"] and all(math.isfinite(value) for value in lines.values())
    model = ladder.model_config(10_000, objective=objective)
    config = make_config(model=model, objective=objective)
    linear, mean = (
        record.row(config, training, loss=lines[name], references=lines) for name in ("loss_linear", "loss_mean")
    )
    assert linear["skill"] == pytest.approx(0.0) and mean["pre_transition"]
    if objective is not Objective.WHOLE_TIME:  # where everything is hidden, the map across leads is the mean
        assert mean["skill"] < 0 and not linear["pre_transition"]


def test_a_negative_loss_has_a_skill_and_no_logarithm():
    config = make_config(
        model=ladder.model_config(10_000, objective=Objective.NEXT_PATCH), objective=Objective.NEXT_PATCH
    )
    lines = {"loss_mean": 1.42, "loss_linear": 0.2}
    row = record.row(config, made_up_pool(4), loss=-0.3, references=lines)
    assert row["log_loss"] is None and not row["pre_transition"] and row["exclusion"] == ""
    assert row["skill"] == pytest.approx(1 - math.exp(-1.0))
    near = record.row(config, made_up_pool(4), loss=1.40, references=lines)
    assert near["pre_transition"] and near["log_loss"] == pytest.approx(math.log(1.40))
    assert not record.row(config, made_up_pool(4), loss=1.38, references=lines)["pre_transition"]
    assert record.row(config, made_up_pool(4), loss=math.nan, references=lines)["diverged"]
