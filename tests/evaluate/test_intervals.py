"""Intervals of AUROC: known values, what a resample is, and how often they cover (in the long tests)."""

import numpy as np
import pytest
from scipy.stats import norm

from ecg_jax.evaluate.intervals import macro_auroc, macro_auroc_difference, newcombe
from ecg_jax.evaluate.metrics import auroc

RECORDS, CLASSES = 223, 5


def planted(area, positives, seed):
    """Labels, and the scores of two encoders alike that see the same noise: every class has this AUROC."""
    bits = np.random.default_rng(seed)
    positive = np.argsort(bits.random((RECORDS, CLASSES)), axis=0) < positives
    shift, shared = np.sqrt(2) * norm.ppf(area), 0.8 * bits.normal(size=positive.shape)
    return positive, *(shared + 0.6 * bits.normal(size=positive.shape) + shift * positive for _ in range(2))


def test_newcombes_interval():
    found = newcombe(0.9, 15, 208)
    assert (found.low, found.high) == pytest.approx((0.77864, 0.95575), abs=1e-5)
    for end in (found.low, found.high):  # a score interval: its ends lie z of their own standard errors away
        assert abs(0.9 - end) / newcombe(end, 15, 208).standard_error == pytest.approx(1.959964, abs=1e-4)
    assert newcombe(0.9, 30, 416).high < found.high and newcombe(0.9, 15, 208, level=0.5).high < found.high


def test_newcombes_interval_at_the_ends():
    perfect, inverted = newcombe(1.0, 15, 208), newcombe(0.0, 15, 208)
    assert (perfect.high, inverted.low) == (1.0, 0.0)
    assert perfect.low == pytest.approx(0.9296, abs=1e-4) and inverted.high == pytest.approx(1 - perfect.low, abs=1e-6)


@pytest.mark.parametrize("numbers", [(1.1, 5, 5), (float("nan"), 5, 5), (0.5, 0, 5), (0.5, 5, 0)])
def test_no_interval_without_both_kinds(numbers):
    with pytest.raises(ValueError, match="no interval for an AUROC of"):
        newcombe(*numbers)


def test_a_macro_figure_is_the_mean_of_its_classes():
    positive, score, other = planted(0.8, 40, 0)
    patients = np.arange(RECORDS)
    found = macro_auroc(score, positive, patients, replicates=50)
    each = [auroc(s, p) for s, p in zip(score.T, positive.T, strict=True)]
    assert found.value == pytest.approx(np.mean(each), abs=1e-12)
    assert found.low < found.value < found.high and found == macro_auroc(score, positive, patients, replicates=50)
    difference = macro_auroc_difference(score, other, positive, patients, replicates=50)
    others = [auroc(s, p) for s, p in zip(other.T, positive.T, strict=True)]
    assert difference.value == pytest.approx(np.mean(each) - np.mean(others), abs=1e-12)
    assert difference.standard_error < found.standard_error  # paired: what both see cancels
    equal = macro_auroc_difference(score, score, positive, patients, replicates=50)
    assert (equal.low, equal.value, equal.high) == (0, 0, 0)


def test_the_standard_error_is_that_of_delong():
    positive, score, _ = planted(0.8, 40, 0)
    with_positive, with_negative = score[positive[:, 0], 0], score[~positive[:, 0], 0]
    wins = (with_positive[:, None] > with_negative).astype(float)
    variance = wins.mean(1).var() / len(with_positive) + wins.mean(0).var() / len(with_negative)
    found = macro_auroc(score[:, :1], positive[:, :1], np.arange(RECORDS), replicates=20)
    assert found.standard_error == pytest.approx(np.sqrt(variance), rel=1e-9)


def test_patients_are_resampled_not_records():
    positive, score, _ = planted(0.8, 40, 0)
    one_each = macro_auroc(score, positive, np.arange(RECORDS), replicates=200)
    thrice = [np.repeat(table, 3, axis=0) for table in (score, positive)]
    same_patients = macro_auroc(*thrice, np.repeat(np.arange(RECORDS), 3), replicates=200)
    assert (same_patients.value, same_patients.standard_error) == pytest.approx(
        (one_each.value, one_each.standard_error), abs=1e-12
    )
    assert (same_patients.low, same_patients.high) == pytest.approx((one_each.low, one_each.high), abs=1e-12)
    as_if_independent = macro_auroc(*thrice, np.arange(3 * RECORDS), replicates=20)
    assert as_if_independent.standard_error == pytest.approx(one_each.standard_error / np.sqrt(3), rel=1e-6)


def test_resamples_that_miss_a_class_are_drawn_again_and_counted():
    positive = np.zeros((40, 1), bool)
    positive[:2] = True
    score = np.random.default_rng(0).normal(size=(40, 1)) + positive
    found = macro_auroc(score, positive, np.arange(40), replicates=500)
    assert 40 < found.redrawn < 110  # a resample misses both with (1 - 1 / 20)^20, about e^-2, one in 7.8


def test_shuffled_labels_are_at_chance():
    positive, score, _ = planted(0.9, 40, 0)
    shuffled = np.random.default_rng(1).permuted(positive, axis=0)
    found = macro_auroc(score, shuffled, np.arange(RECORDS), replicates=200)
    assert found.low < 0.5 < found.high


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda score, positive: (score[:5], positive), r"scores of shape \(5, 5\) and labels of shape \(223, 5\)"),
        (lambda score, positive: (score * np.nan, positive), "class 0: 223 of 223 scores are not finite"),
        (lambda score, positive: (score, positive | True), "class 0: 223 of 223 records are positive"),
    ],
)
def test_what_cannot_be_scored_is_refused_by_class(change, message):
    positive, score, _ = planted(0.9, 40, 0)
    with pytest.raises(ValueError, match=message):
        macro_auroc(*change(score, positive), np.arange(RECORDS), replicates=20)


def test_classes_of_too_few_patients_are_refused():
    positive = np.eye(40, dtype=bool)  # forty classes of a patient each: no resample holds them all
    with pytest.raises(ValueError, match="resamples of 40 patients missed a class"):
        macro_auroc(positive + 0.0, positive, np.arange(40), replicates=20)


@pytest.mark.long
@pytest.mark.parametrize("area", [0.75, 0.9])
@pytest.mark.parametrize("positives", [15, 30, 60])
def test_intervals_cover_and_equal_encoders_seldom_differ(area, positives):
    patients, of_class, of_macro, of_difference = np.arange(RECORDS), 0, 0, 0
    studies = 500
    for seed in range(studies):
        positive, score, other = planted(area, positives, seed)
        one = newcombe(auroc(score[:, 0], positive[:, 0]), positives, RECORDS - positives)
        of_class += one.low <= area <= one.high
        macro = macro_auroc(score, positive, patients, replicates=500, seed=seed)
        of_macro += macro.low <= area <= macro.high
        difference = macro_auroc_difference(score, other, positive, patients, replicates=500, seed=seed)
        of_difference += difference.low <= 0 <= difference.high
    for covered in (of_class, of_macro, of_difference):
        assert 0.925 <= covered / studies <= 0.98
