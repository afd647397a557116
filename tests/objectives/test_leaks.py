"""What a model may not see never reaches a prediction: not its value, not its gradient."""

import itertools

import jax
import numpy as np
import pytest
from support.tiny_models import PATCHES, jit, noise_batch, placed, small_model

from ecg_jax import objectives
from ecg_jax.config import Attention, Objective, Position, Readout, Tokens
from ecg_jax.data.ecg import INDEPENDENT_LEADS, LEADS, normalise
from ecg_jax.models import Model
from ecg_jax.objectives import masked, next_patch

#: Every kind of token with every kind of position, both kinds of attention, every rate.
VARIANTS = [
    (Tokens.TIME, Position.LEARNED, Attention.BIDIRECTIONAL, 100),
    (Tokens.TIME, Position.SINUSOIDAL, Attention.CAUSAL, 500),
    (Tokens.TIME, Position.ROTARY, Attention.BIDIRECTIONAL, 250),
    (Tokens.LEAD_TIME, Position.LEARNED, Attention.CAUSAL, 250),
    (Tokens.LEAD_TIME, Position.SINUSOIDAL, Attention.BIDIRECTIONAL, 500),
    (Tokens.LEAD_TIME, Position.ROTARY, Attention.CAUSAL, 100),
]
REST = sorted(set(itertools.product(Tokens, Position, Attention, (100, 250, 500))) - set(VARIANTS))


@pytest.mark.parametrize(
    ("tokens", "position", "attention", "rate"),
    [*VARIANTS, *(pytest.param(*variant, marks=pytest.mark.long) for variant in REST)],
)
def test_no_hidden_sample_reaches_a_prediction(tokens, position, attention, rate, mesh):
    readout = Readout.GAUSSIAN if attention is Attention.CAUSAL else Readout.VALUE
    config, model, params = small_model(
        sample_rate_hz=rate, tokens=tokens, position=position, attention=attention, readout=readout
    )
    rng = np.random.default_rng(1)
    hidden = rng.random((2, PATCHES, len(masked.UNITS))) < 0.6
    ecg = noise_batch(config)
    shape = (2, PATCHES, config.patch_samples, len(INDEPENDENT_LEADS), *((2,) if readout is Readout.GAUSSIAN else ()))
    ecg_BxSxE, hidden_BxTxU, wanted = placed(ecg, hidden, rng.normal(size=shape).astype(np.float32))

    @jit
    def run(x_BxSxE):
        out, back = jax.vjp(lambda x: model.apply(params, x, masked.visible(x, hidden_BxTxU)), x_BxSxE)
        return out, back(wanted)[0]

    out, gradient = (np.asarray(value) for value in run(ecg_BxSxE))
    at = np.repeat(hidden, config.patch_samples, axis=1)[:, :, masked.UNIT_OF_LEAD]
    for value in (0.5, 1e30, np.nan):  # NaN and huge values survive a product with zero
        tampered, _ = run(*placed(np.where(at, np.float32(value), ecg)))
        np.testing.assert_array_equal(out, tampered, err_msg=f"hidden samples set to {value}")
    assert not gradient[at].any()
    read = np.isin(LEADS, INDEPENDENT_LEADS) | (tokens is Tokens.TIME)
    assert (gradient[~at & read] != 0).mean() > 0.99  # visible samples do count: the test can fail


@pytest.mark.parametrize("tokens", Tokens)
def test_derived_leads_give_nothing_away(tokens, mesh):
    """III = II - I, aVR = -(I + II) / 2 …: with the limb unit hidden, no limb lead, derived ones too, tells of it."""
    config, model, params = small_model(tokens=tokens)
    ecg = noise_batch(config)
    limb = [LEADS.index(lead) for lead in ("I", "II", "III", "aVR", "aVL", "aVF")]
    first, second = ecg[:, :, 0], ecg[:, :, 1]
    derived = (second - first, -(first + second) / 2, first - second / 2, second - first / 2)
    ecg[:, :, 2:6] = np.stack(derived, axis=-1)
    hidden = np.random.default_rng(2).random((2, PATCHES, 7)) < 0.3
    hidden[:, 1] = np.arange(7) == 0  # patch 1: only the limb leads are hidden, and all of them
    hidden_BxTxU, visible = placed(hidden, hidden)[0], np.asarray(masked.visible(ecg, hidden))
    np.testing.assert_array_equal(visible[:, :, limb], np.repeat(~hidden[:, :, :1], 6, axis=2))
    predict = jit(lambda x: model.apply(params, x, masked.visible(x, hidden_BxTxU)))
    original = np.asarray(predict(*placed(ecg)))
    for lead in limb:
        changed = ecg.copy()
        changed[:, config.patch_samples : 2 * config.patch_samples, lead] += 1.0
        np.testing.assert_array_equal(original, predict(*placed(changed)), err_msg=LEADS[lead])


def missing(ecg_counts, lead):
    """Whole counts with a lead stuck at one value, as the model gets them."""
    ecg = ecg_counts.copy()
    ecg[:, :, LEADS.index(lead)] = 12_345
    return normalise(ecg)


@pytest.mark.parametrize("rate", [100, 500])
def test_a_stuck_lead_is_zero_however_large(rate):
    """A float32 mean of thousands of counts of 12,345 misses it, and a deviation of its error is not 0."""
    stuck = np.full((1, 10 * rate, 12), 12_345, np.int16)
    assert not normalise(stuck).any() and not np.asarray(jit(normalise)(stuck)).any()


@pytest.mark.parametrize("tokens", Tokens)
def test_a_missing_lead_is_invisible_and_not_scored(tokens, mesh):
    config, model, params = small_model(tokens=tokens)
    counts = (1000 * noise_batch(config)).astype(np.int16)
    lead = INDEPENDENT_LEADS.index("V3")
    unit = masked.UNITS.index("V3")
    hidden = np.random.default_rng(3).random((2, PATCHES, 7)) < 0.5
    without, (hidden_BxTxU,) = missing(counts, "V3"), placed(hidden)
    assert not np.asarray(masked.visible(without, hidden))[:, :, LEADS.index("V3")].any()
    errors = jit(lambda x, hidden: masked.errors(model, params, x, hidden))
    sums, counted = errors(*placed(without), hidden_BxTxU)
    # The model cannot tell a lead that is lacking from one that is hidden throughout.
    hidden_too = hidden.copy()
    hidden_too[:, :, unit] = True
    predict = jit(lambda x, hidden: model.apply(params, x, masked.visible(x, hidden)))
    np.testing.assert_array_equal(predict(*placed(without, hidden)), predict(*placed(normalise(counts), hidden_too)))
    others = np.delete(hidden[:, :, masked.UNIT_OF_TARGET], lead, axis=2)
    np.testing.assert_array_equal(counted, others.sum(axis=(1, 2)) * config.patch_samples)
    assert np.isfinite(np.asarray(sums)).all()


@pytest.mark.parametrize("task", [masked, next_patch])
def test_what_a_model_says_of_a_missing_lead_costs_nothing(task, mesh):
    rng = np.random.default_rng(4)
    counts = (1000 * rng.normal(size=(2, 100, 12))).astype(np.int16)
    shape = (2, PATCHES, 20, 8) + ((2,) if task is next_patch else ())
    out, hidden, ecg = placed(
        rng.normal(size=shape).astype(np.float32), np.ones((2, PATCHES, 7), bool), missing(counts, "V3")
    )

    def loss(out):
        stub = Model(apply=lambda *_: out, init=None, tokens=None, pooled=None)
        return task.errors(stub, None, ecg, hidden)[0].sum()

    gradient = np.asarray(jit(jax.grad(loss))(out))
    lead = INDEPENDENT_LEADS.index("V3")
    assert not gradient[:, :, :, lead].any() and np.delete(gradient, lead, axis=3)[:, :-1].all()


@pytest.mark.parametrize("objective", Objective)
def test_a_record_without_leads_has_no_loss_and_no_gradient(objective, mesh):
    config, model, params = small_model(objective=objective)
    task = objectives.of(objective)
    hidden, ecg = placed(
        np.zeros((2, PATCHES, 7), bool) | (objective is not Objective.NEXT_PATCH), 0 * noise_batch(config)
    )
    loss, gradient = jit(jax.value_and_grad(lambda p: objectives.loss(task, model, p, ecg, hidden)))(params)
    assert float(loss) == 0 and not any(np.asarray(leaf).any() for leaf in jax.tree.leaves(gradient))


@pytest.mark.parametrize("position", Position)
@pytest.mark.parametrize("tokens", Tokens)
def test_no_prediction_sees_the_future(tokens, position, mesh):
    config, model, params = small_model(objective=Objective.NEXT_PATCH, tokens=tokens, position=position)
    ecg = noise_batch(config)
    (everything,) = placed(np.ones((2, PATCHES, 12), bool))
    predict = jit(lambda x: model.apply(params, x, everything))
    original = np.asarray(predict(*placed(ecg)))
    for patch in range(PATCHES):
        for lead in ("V1", "II"):
            changed = ecg.copy()
            changed[:, patch * config.patch_samples : (patch + 1) * config.patch_samples, LEADS.index(lead)] += 1.0
            moved = (np.asarray(predict(*placed(changed))) != original).any(axis=2)
            assert not moved[:, :patch].any(), f"patch {patch} reached a prediction made before it"
            assert moved[:, patch:].all(), f"patch {patch} reached not all predictions of all leads made from it on"


def test_the_masked_models_do_see_both_ways(mesh):
    config, model, params = small_model()
    ecg = noise_batch(config)
    (everything,) = placed(np.ones((2, PATCHES, 12), bool))
    changed = ecg + (np.arange(config.samples) >= config.samples - 1)[:, None]
    predict = jit(lambda x: model.apply(params, x, everything))
    moved = np.asarray(predict(*placed(ecg))) != np.asarray(predict(*placed(changed.astype(np.float32))))
    assert moved.any(axis=(2, 3)).all()
