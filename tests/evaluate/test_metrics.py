"""Metrics against scikit-learn, and against values that are known."""

import math

import numpy as np
import pytest
from sklearn import metrics as sklearn

from ecg_jax.evaluate.metrics import auroc, aurocs, average_precision, brier, calibration_error, curve, f_max


def tables(count):
    """Random labels and scores with many ties."""
    bits = np.random.default_rng(0)
    while count:
        records = bits.integers(2, 60)
        score, positive = bits.integers(0, bits.integers(2, 40), records) / 40, bits.integers(0, 2, records)
        if 0 < positive.sum() < records:
            count -= 1
            yield score, positive


def test_all_equal_scikit_learn():
    for score, positive in tables(1000):
        precision, recall, _ = sklearn.precision_recall_curve(positive, score)
        f1 = 2 * precision * recall / np.maximum(precision + recall, 1e-300)
        ours = [auroc(score, positive), average_precision(score, positive), f_max(score, positive)]
        theirs = [sklearn.roc_auc_score(positive, score), sklearn.average_precision_score(positive, score), f1.max()]
        np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-12)
        assert abs(brier(score, positive) - sklearn.brier_score_loss(positive, score)) < 1e-12


def test_copies_of_records_are_records():
    for score, positive in tables(20):
        copies = np.random.default_rng(1).integers(0, 3, (5, len(score))).astype(float)
        for row, area in zip(copies.astype(int), aurocs(score, positive.astype(bool), copies), strict=True):
            labels = np.repeat(positive, row)
            if 0 < labels.sum() < len(labels):
                assert area == pytest.approx(auroc(np.repeat(score, row), labels), abs=1e-12)
            else:
                assert math.isnan(area)


def test_two_gaussians_one_deviation_apart():
    bits = np.random.default_rng(0)
    positive = np.arange(200_000) % 2 == 1
    assert auroc(bits.normal(size=positive.size) + positive, positive) == pytest.approx(0.7602, abs=0.003)


def test_a_curve_tells_its_counts():
    of = curve(np.array([0.9, 0.8, 0.8, 0.1]), np.array([1, 1, 0, 0]))
    assert of.threshold_D.tolist() == [0.9, 0.8, 0.1]
    assert (of.found_D.tolist(), of.false_D.tolist()) == ([1, 2, 2], [0, 1, 2])
    assert of.sensitivity_D.tolist() == [0.5, 1, 1] and of.specificity_D.tolist() == [1, 0.5, 0]
    assert of.precision_D.tolist() == [1, 2 / 3, 0.5]


def test_calibration_error_of_known_tables():
    positive = np.array([0, 0, 0, 1] * 25)
    assert calibration_error(np.full(100, 0.25), positive) == 0
    assert calibration_error(np.full(100, 0.75), positive) == pytest.approx(0.5)
    low_and_high = np.repeat([0.1, 0.9], 50)
    assert calibration_error(low_and_high, np.repeat([0, 1], 50)) == pytest.approx(0.1)


@pytest.mark.parametrize("metric", [auroc, average_precision, f_max, brier, calibration_error])
@pytest.mark.parametrize(
    ("score", "positive", "message"),
    [
        ([0.1, 0.2], [1, 1], "2 of 2 records are positive: both kinds are needed"),
        ([0.1, 0.2], [0, 0], "0 of 2 records are positive"),
        ([0.1, math.nan], [0, 1], "1 of 2 scores are not finite, first that of record 1"),
        ([0.1, 0.2], [0, 2], "labels must be 0 or 1, not "),
        ([0.1, 0.2], [0], r"scores of shape \(2,\) and labels of shape \(1,\)"),
    ],
)
def test_what_cannot_be_scored_is_refused_with_numbers(metric, score, positive, message):
    with pytest.raises(ValueError, match=message):
        metric(np.array(score), np.array(positive))


@pytest.mark.parametrize("metric", [brier, calibration_error])
def test_scores_that_are_no_probabilities_are_refused(metric):
    with pytest.raises(ValueError, match=r"reach from -1 to 2: they must lie in \[0, 1\]; calibrate"):
        metric(np.array([-1.0, 2.0]), np.array([0, 1]))
