"""The realism benchmark's measures: zero where nothing differs, large where something does."""

import numpy as np
import pytest

from benchmarks.realism import beats, features, metrics, tell_apart, transfer
from benchmarks.realism.network import Training
from ecg_jax.data.synthetic.physiology.conditions import SCP_CODES, Morphology, Rhythm


def records(count, seed, *, rr_s=0.8, noise=0.02, qrs_ms=10.0):
    """Int16 records of Gaussian P, QRS and T waves on each lead with its own weights."""
    rng = np.random.default_rng(seed)
    time_s = np.arange(1000) / 100
    beat_s = np.arange(0.5, 11, rr_s)
    wave = lambda at_s, width_s: np.exp(-0.5 * ((time_s - beat_s[:, None] - at_s) / width_s) ** 2).sum(0)  # noqa: E731
    bank = np.stack([0.1 * wave(-0.16, 0.02), wave(0, 1e-3 * qrs_ms), 0.3 * wave(0.26, 0.04)])
    gain = rng.normal([1.0, 1.0, 1.0], 0.2, (count, 12, 3)) * rng.choice([0.5, 1.0, 1.5], (count, 12, 1))
    return np.rint(1000 * ((gain @ bank).transpose(0, 2, 1) + noise * rng.normal(size=(count, 1000, 12)))).astype(
        np.int16
    )


def test_auroc_counts_ties_one_half_and_needs_both_classes():
    truth = np.array([True, True, False, False])
    assert metrics.auroc(truth, np.array([3.0, 2.0, 1.0, 0.0])) == 1.0
    assert metrics.auroc(truth, np.array([1.0, 0.0, 1.0, 0.0])) == 0.5
    assert metrics.auroc(truth, np.array([2.0, 0.0, 1.0, 1.0])) == 0.5
    assert np.isnan(metrics.auroc(np.ones(3, bool), np.arange(3)))


@pytest.mark.parametrize(("shift", "differs"), [(0.0, False), (0.6, True)])
def test_discrepancy_is_zero_for_equal_distributions_only(shift, differs):
    rng = np.random.default_rng(1)
    real, other = rng.normal(size=(300, 20)), rng.normal(size=(300, 20)) + shift
    both = metrics.discrepancy(real, other, metrics.embedding(real))
    estimate = metrics.half_sampled(both, (300, 300), 40)
    assert (estimate.low > 0) == differs
    assert differs or abs(estimate.value) < 0.01


def test_interval_of_halves_is_that_of_the_mean():
    x = np.random.default_rng(2).normal(size=(400, 1))
    estimate = metrics.half_sampled(lambda a, b: float(x[a].mean()), (400, 400), 400)
    assert (estimate.high - estimate.low) / 2 == pytest.approx(1.96 * x.std() / 20, rel=0.15)


def test_distances_vanish_for_the_same_records_and_not_for_others():
    same, other = features.describe(records(24, 0)), features.describe(records(24, 1, qrs_ms=25.0, noise=0.1))
    assert np.all(metrics.spectrum_distance(same.log_psd, same.log_psd) == 0)
    assert metrics.spectrum_distance(same.log_psd, other.log_psd).mean() > 3
    assert metrics.profile_distance(same.singular, other.singular) > 0.3
    assert np.nansum(metrics.quantile_distances(same.measures, same.measures)) == 0
    assert np.allclose((10**same.singular).sum(1), 1, atol=1e-5)


def test_measurer_finds_beats_and_intervals():
    measured = beats.measure_all(features.describe(records(3, 0)).z)[0]
    found = dict(zip(beats.MEASURES, measured.measures))
    assert found["mean RR, ms"] == pytest.approx(800, abs=5)
    assert found["PR interval, ms"] == pytest.approx(160, abs=15)
    assert found["RT interval, ms"] == pytest.approx(260, abs=15)


def test_shortcut_audit_is_at_chance_on_equal_sets_and_names_what_tells():
    people = np.arange(80)
    real, same, coarse = (records(80, seed) for seed in (0, 1, 2))
    coarse = (coarse // 16 * 16).astype(np.int16)
    tables = [features.rounding(x) for x in (real, same, coarse)]
    equal = tell_apart.audit(tables[0], tables[1], people, people, 2, 30)
    assert 0.3 < equal.auroc.value < 0.7
    stepped = tell_apart.audit(tables[0], tables[2], people, people, 2, 30)
    assert stepped.auroc.low > 0.95
    assert stepped.telling in ("log step (higher)", "share of odd counts (lower)", "share of repeated samples (higher)")


def test_network_learns_a_difference_and_guesses_without_one():
    training = Training(steps=120, batch=16)
    real, same, other = (features.normalise(records(96, seed, qrs_ms=q)) for seed, q in ((0, 10), (1, 10), (2, 30)))
    people = np.arange(96)
    apart = tell_apart.network_scores(real, people, other, people, 1, training)
    equal = tell_apart.network_scores(real, people, same, people, 1, training)
    assert metrics.resampled(apart, metrics.auroc, 20).value > 0.9
    assert 0.25 < metrics.resampled(equal, metrics.auroc, 20).value < 0.75


def test_superclasses_of_conditions():
    codes = (
        SCP_CODES[Morphology.LBBB],
        SCP_CODES[Morphology.STEMI_INFERIOR],
        ("SR", "NORM"),
        SCP_CODES[Rhythm.PACED_DUAL],
    )
    labels = transfer.synthetic_labels(codes)
    assert [[transfer.SUPERCLASSES[i] for i in np.flatnonzero(row)] for row in labels] == [["CD"], ["MI"], ["NORM"], []]
