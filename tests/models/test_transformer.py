import dataclasses
import sys

import jax
import numpy as np
import pytest
from flax import nnx
from support.tiny_models import PATCHES, jit, noise_batch, placed, small_model

from ecg_jax import models
from ecg_jax.config import ModelConfig, Position, Precision, Readout, Tokens
from ecg_jax.data.ecg import INDEPENDENT_LEADS, LEADS
from ecg_jax.models import Execution
from ecg_jax.models.contract import Keys
from ecg_jax.scaling import ladder


def visible_of(config, records=3, seed=1):
    return np.random.default_rng(seed).random((records, config.patches, 12)) < 0.6


@pytest.mark.parametrize("tokens", Tokens)
def test_records_are_strangers_to_each_other(tokens, mesh):
    """A permuted batch gives permuted outputs, and one record changes no other's."""
    config, model, params = small_model(tokens=tokens)
    ecg, visible = noise_batch(config, 3), visible_of(config)
    apply = jit(model.apply)
    out = np.asarray(apply(params, *placed(ecg, visible)))
    order = [2, 0, 1]
    np.testing.assert_allclose(apply(params, *placed(ecg[order], visible[order])), out[order], rtol=1e-5, atol=1e-6)
    changed = ecg + np.array([0, 1, 0], np.float32)[:, None, None]
    moved = (np.asarray(apply(params, *placed(changed, visible))) != out).any(axis=(1, 2, 3))
    np.testing.assert_array_equal(moved, [False, True, False])


def test_a_bidirectional_model_knows_places_by_their_vectors_alone(mesh):
    """Patches in another order, with the learned positions in that order, give the predictions in that order."""
    config, model, params = small_model()
    ecg, visible = noise_batch(config, 3), visible_of(config)
    apply, order = jit(model.apply), [3, 0, 4, 1, 2]
    out = np.asarray(apply(params, *placed(ecg, visible)))
    shuffled = ecg.reshape(3, PATCHES, -1, 12)[:, order].reshape(ecg.shape)
    at_home = np.asarray(apply(params, *placed(shuffled, visible[:, order])))
    assert np.abs(at_home - out[:, order]).max() > 0.01  # positions do count
    moved = params | {"embed": params["embed"] | {"position": params["embed"]["position"][np.array(order)]}}
    np.testing.assert_allclose(apply(moved, *placed(shuffled, visible[:, order])), out[:, order], rtol=1e-4, atol=1e-5)


def test_lead_tokens_know_leads_by_their_vectors_alone(mesh):
    """Leads in another order, with the learned lead vectors in that order, give the predictions in that order."""
    config, model, params = small_model(tokens=Tokens.LEAD_TIME)
    ecg, visible = noise_batch(config, 3), visible_of(config)
    apply, order = jit(model.apply), [0, 1, 5, 7, 2, 3, 6, 4]
    out = np.asarray(apply(params, *placed(ecg, visible)))
    independent = np.array([LEADS.index(lead) for lead in INDEPENDENT_LEADS])
    leads = np.arange(12)
    leads[independent] = independent[order]
    moved = params | {"embed": params["embed"] | {"lead": params["embed"]["lead"][np.array(order)]}}
    again = np.asarray(apply(moved, *placed(ecg[:, :, leads], visible[:, :, leads])))
    np.testing.assert_allclose(again, out[..., order], rtol=1e-4, atol=1e-5)
    assert (
        np.abs(np.asarray(apply(params, *placed(ecg[:, :, leads], visible[:, :, leads]))) - out[..., order]).max()
        > 0.01
    )


@pytest.mark.parametrize("position", Position)
def test_tokens_know_their_place(position, mesh):
    """Equal patches get different predictions; rotary positions tell them apart by what is seen how far away."""
    config, model, params = small_model(position=position)
    ecg = np.tile(noise_batch(config, 3)[:, : config.patch_samples], (1, PATCHES, 1))
    visible = np.ones((3, PATCHES, 12), bool)
    visible[:, 0] = False
    out = np.asarray(jit(model.apply)(params, *placed(ecg, visible)))
    assert np.abs(out[:, 2] - out[:, 3]).max() > 1e-4


def test_features_are_tokens_and_their_mean(mesh):
    config, model, params = small_model(tokens=Tokens.LEAD_TIME)
    batch = placed(noise_batch(config, 3), visible_of(config))
    tokens = np.asarray(jit(model.tokens)(params, *batch))
    assert tokens.shape == (3, 8 * PATCHES, config.width)
    np.testing.assert_allclose(jit(model.pooled)(params, *batch), tokens.mean(axis=1), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("tokens", Tokens)
def test_bfloat16_agrees_with_float32(tokens, mesh):
    """To 2 % of the predictions' size: 8 bits of fraction, 0.4 % a rounding, and a dozen roundings in a row."""
    config, model, params = small_model(width=48, heads=3, tokens=tokens, readout=Readout.GAUSSIAN)
    half = models.build(dataclasses.replace(config, precision=Precision.BFLOAT16))
    batch = placed(noise_batch(config, 3), visible_of(config))
    exact, rounded = (np.asarray(jit(m.apply)(params, *batch)) for m in (model, half))
    assert rounded.dtype == np.float32
    difference = np.sqrt(np.mean((exact - rounded) ** 2) / np.mean(exact**2))
    assert 0 < difference < 0.02


def test_what_does_not_fit_is_refused_with_both_sides(mesh):
    config, model, params = small_model()
    ecg, visible = noise_batch(config, 2), np.ones((2, PATCHES, 12), bool)
    reads = "the model reads 5 patches of 20 samples from 12 leads"
    wrong = [
        (ecg[:, :50], visible, rf"{reads}, \(batch, 100, 12\); the records are \(2, 50, 12\): another rate\?"),
        (ecg[:, :, :8], visible, rf"{reads}.*the records are \(2, 100, 8\)"),
        (ecg[0], visible[0], rf"{reads}.*the records are \(100, 12\)"),
        (ecg.astype(np.int16), visible, "z-scored, as float32; the records are int16: use data.ecg.normalise"),
        (ecg, visible[:, :4], r"visible of 2 records must be bool \(2, 5, 12\), not bool \(2, 4, 12\)"),
        (ecg, visible[:, :, :7], r"visible of 2 records must be bool \(2, 5, 12\), not bool \(2, 5, 7\)"),
        (ecg, visible[:1], r"visible of 2 records must be bool \(2, 5, 12\), not bool \(1, 5, 12\)"),
        (ecg, visible.astype(np.float32), r"must be bool \(2, 5, 12\), not float32 \(2, 5, 12\)"),
    ]
    for x, seen, message in wrong:
        for of in (model.apply, model.tokens, model.pooled):
            with pytest.raises(ValueError, match=message):
                jax.eval_shape(of, params, *placed(x, seen))


@pytest.mark.parametrize(
    ("other", "message"),
    [
        ({"width": 32}, r"is \(32,\) there and \(16,\) in this model \(width 16, depth 1\)"),
        ({"depth": 2}, r"\['blocks'\]\[1\]\['attention_norm'\]\['scale'\] is \(16,\) there and absent in this model"),
        ({"tokens": Tokens.LEAD_TIME}, r"\['embed'\]\['lead'\] is \(8, 16\) there and absent"),
        ({"sample_rate_hz": 500}, r"\['embed'\]\['stem'\].* there and absent"),
    ],
)
def test_the_parameters_of_another_model_are_refused_by_name(other, message, mesh):
    config, model, _ = small_model()
    _, _, params = small_model(**other)
    with pytest.raises(ValueError, match="the parameters are another model's: .*" + message):
        jax.eval_shape(model.apply, params, *placed(noise_batch(config, 2), np.ones((2, PATCHES, 12), bool)))


def test_a_model_built_twice_is_one_model(mesh):
    """The same key gives the same weights, whatever the execution."""
    config = ladder.model_config(10_000)
    first, second = (models.build(config, Execution(scan=scan)).init(jax.random.key(3)) for scan in (False, True))
    jax.tree.map(np.testing.assert_array_equal, first, second)


def test_the_work_of_building_a_model_grows_with_its_depth_and_no_faster(mesh):
    def calls(depth):
        models.build(config := ModelConfig(width=16, depth=depth, heads=1))  # what is cached is cached now
        count = 0

        def hear(frame, event, argument):
            nonlocal count
            count += event == "call"

        sys.setprofile(hear)
        try:
            models.build(config)
        finally:
            sys.setprofile(None)
        return count

    eight, sixteen, thirty_two = map(calls, (8, 16, 32))
    assert thirty_two - sixteen == pytest.approx(2 * (sixteen - eight), rel=0.05)


def test_keys_of_weights_are_those_of_flax():
    ours, theirs = Keys(jax.random.key(5)), nnx.Rngs(jax.random.key(5))
    for _ in range(3):
        assert jax.random.key_data(ours.params()).tolist() == jax.random.key_data(theirs.params()).tolist()
