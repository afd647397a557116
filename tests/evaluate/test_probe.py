"""Probes on planted features, against scikit-learn, and on splits that must not leak."""

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

from ecg_jax.evaluate.logistic import find_axes, fit_path
from ecg_jax.evaluate.metrics import auroc
from ecg_jax.evaluate.probe import STRENGTHS, fit_linear_probe, patient_folds, vote_neighbours

RNG = np.random.default_rng(0)
CORRELATED = RNG.normal(size=(300, 12)) @ RNG.normal(size=(12, 12))


def labels(feature, noise=1.0, seed=1):
    score = feature[:, 0] - feature[:, 3] + noise * np.random.default_rng(seed).normal(size=len(feature))
    return np.stack([score > 0, score > np.quantile(score, 0.9)], axis=1)


@pytest.mark.parametrize("column", [0, 1])
def test_fits_are_those_of_scikit_learn_at_every_strength(column):
    positive = labels(CORRELATED, 4.0)[:, column]
    weights, intercepts = fit_path(find_axes(CORRELATED), positive, STRENGTHS)
    for strength, weight, intercept in zip(STRENGTHS, weights, intercepts, strict=True):
        peer = LogisticRegression(C=strength, solver="newton-cholesky", tol=1e-10).fit(CORRELATED, positive)
        np.testing.assert_allclose(weight, peer.coef_[0], rtol=1e-4, atol=1e-4 * np.abs(peer.coef_).max())
        assert intercept == pytest.approx(peer.intercept_[0], rel=1e-4, abs=1e-5)


def test_features_that_repeat_each_other_and_labels_that_part_do_no_harm():
    feature = np.concatenate([CORRELATED, CORRELATED[:, :3], np.full((300, 1), 7.0)], axis=1)
    weights, _ = fit_path(find_axes(feature), feature[:, 0] > 0, STRENGTHS)
    assert np.isfinite(weights).all() and np.allclose(weights[:, -1], 0)
    np.testing.assert_allclose(weights[:, :3], weights[:, 12:15], rtol=1e-6)


def test_two_gaussians_one_deviation_apart():
    """The area is Phi(1 / sqrt 2) = .7602, whatever else the features hold."""
    rng = np.random.default_rng(2)
    positive = np.arange(12_000) % 2 == 0
    feature = rng.normal(size=(12_000, 3))
    feature[:, 1] += positive
    probe = fit_linear_probe(feature[:4000], positive[:4000, None], np.arange(4000), ["planted"], strengths=(0.01, 1.0))
    assert auroc(probe.scores(feature[4000:])[:, 0], positive[4000:]) == pytest.approx(0.7602, abs=0.012)
    shuffled = rng.permutation(positive)
    probe = fit_linear_probe(
        feature[:4000], shuffled[:4000, None], np.arange(4000), ["shuffled"], strengths=(0.01, 1.0)
    )
    assert auroc(probe.scores(feature[4000:])[:, 0], shuffled[4000:]) == pytest.approx(0.5, abs=0.02)


def test_the_strength_is_chosen_inside_training_by_patients():
    """Of patients seen twice, the probe that tells patients apart would win a split by records."""
    rng = np.random.default_rng(3)
    patient = np.repeat(np.arange(100), 4)
    own = rng.normal(size=(100, 60))[patient]
    positive = (rng.random(100) < 0.5)[patient]
    feature = own + 0.05 * rng.normal(size=own.shape)
    probe = fit_linear_probe(feature, positive[:, None], patient, ["chance"])
    assert max(probe.tried) < 0.65
    by_records = fit_linear_probe(feature, positive[:, None], np.arange(400), ["chance"])
    assert max(by_records.tried) > 0.9


def test_folds_hang_on_patients_alone_and_keep_them_whole():
    patient = np.random.default_rng(4).integers(0, 40, 200)
    fold = patient_folds(patient, 5, seed=0)
    assert all(len(set(fold[patient == one])) == 1 for one in set(patient)) and set(fold) == set(range(5))
    np.testing.assert_array_equal(patient_folds(patient[::-1], 5, seed=0), fold[::-1])
    with pytest.raises(ValueError, match="3 patients cannot be dealt to 5 folds"):
        patient_folds(np.array([1, 2, 3, 3]), 5, seed=0)


def test_twice_the_same_numbers():
    given = (CORRELATED, labels(CORRELATED), np.arange(300) // 2, ["a", "b"])
    one, two = fit_linear_probe(*given), fit_linear_probe(*given)
    assert one.strength == two.strength and one.tried == two.tried
    assert one.weight_CxD.tobytes() == two.weight_CxD.tobytes()


def test_neighbours_vote_as_a_loop_would():
    positive = labels(CORRELATED)
    standard = (CORRELATED - CORRELATED[:250].mean(0)) / CORRELATED[:250].std(0)
    found = vote_neighbours(CORRELATED[:250], positive[:250], CORRELATED[250:])
    for query, votes in zip(standard[250:], found, strict=True):
        cosine = standard[:250] @ query / np.linalg.norm(standard[:250], axis=1) / np.linalg.norm(query)
        near = np.argsort(-cosine)[:20]
        weight = np.exp(cosine[near] / 0.07)
        np.testing.assert_allclose(votes, weight @ positive[near] / weight.sum(), rtol=1e-9)


def test_what_cannot_be_probed_is_refused_with_numbers():
    positive, patient = labels(CORRELATED), np.arange(300)
    broken = CORRELATED.copy()
    broken[3, 4] = np.nan
    with pytest.raises(ValueError, match="1 of 300 records have features that are no finite numbers"):
        fit_linear_probe(broken, positive, patient, ["a", "b"])
    with pytest.raises(ValueError, match="all 240 records have the same features"):
        fit_linear_probe(np.ones((300, 4)), positive, patient, ["a", "b"])
    with pytest.raises(ValueError, match="b: one value in all 300 training records"):
        fit_linear_probe(CORRELATED, np.stack([positive[:, 0], np.ones(300, bool)], axis=1), patient, ["a", "b"])
    with pytest.raises(ValueError, match="299 records with features, 300 with 2 labels for 2 classes, 300"):
        fit_linear_probe(CORRELATED[1:], positive, patient, ["a", "b"])
    probe = fit_linear_probe(CORRELATED, positive, patient, ["a", "b"], strengths=(1.0,))
    with pytest.raises(ValueError, match=r"shape \(300, 11\) for a probe of 12 features"):
        probe.scores(CORRELATED[:, 1:])
