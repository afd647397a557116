"""How well real and other records are told apart: by a small network, and linearly on one set of features at a time."""

from __future__ import annotations

import dataclasses

import numpy as np

from benchmarks.realism.features import Table
from benchmarks.realism.metrics import Estimate, auroc, resampled
from benchmarks.realism.network import Training, train_and_score

_FOLDS = 5
_RIDGE = 0.05
Scores = list[tuple[np.ndarray, np.ndarray]]


@dataclasses.dataclass(frozen=True)
class Audit:
    """One set of features: the area under the curve of a linear classifier, and the single feature that tells most."""

    auroc: Estimate
    telling: str
    telling_auroc: float


def network_scores(
    z_real: np.ndarray,
    patient: np.ndarray,
    z_other: np.ndarray,
    other_patient: np.ndarray,
    seeds: int,
    training: Training,
) -> Scores:
    """Truth (is real) and score of held-out records, for each seed: 60 % of patients train, the others test.

    Both sets are cut to the smaller, so that one half is the rate of guessing.
    """
    count = min(len(z_real), len(z_other))
    found = []
    for seed in range(seeds):
        rng = np.random.default_rng((seed, count))
        sides = []
        for z, people in ((z_real, patient), (z_other, other_patient)):
            rows = rng.permutation(len(z))[:count]
            names = rng.permutation(np.unique(people[rows]))
            in_train = np.isin(people[rows], names[: round(0.6 * len(names))])
            sides.append((z[rows[in_train]], z[rows[~in_train]]))
        (real_train, real_test), (other_train, other_test) = sides
        y_train = np.repeat([1, 0], (len(real_train), len(other_train)))[:, None]
        z_train, z_test = np.concatenate([real_train, other_train]), np.concatenate([real_test, other_test])
        truth = np.repeat([True, False], (len(real_test), len(other_test)))
        found.append((truth, train_and_score(z_train, y_train, z_test, seed, training)[:, 0]))
    return found


def balanced_accuracy(truth: np.ndarray, score: np.ndarray) -> float:
    """Mean of the shares of real and of other records that are recognised, at even odds."""
    return float(((score > 0)[truth].mean() + (score <= 0)[~truth].mean()) / 2)


def linear_scores(
    real: np.ndarray, other: np.ndarray, patient: np.ndarray, other_patient: np.ndarray, seeds: int
) -> Scores:
    """Out-of-fold scores of a ridge-regularised linear discriminant, patients apart, for each seed."""
    x = np.concatenate([real, other]).astype(np.float64)
    truth = np.repeat([True, False], (len(real), len(other)))
    people = np.concatenate([patient, -1 - other_patient])
    found = []
    for seed in range(seeds):
        names = np.unique(people)
        fold_of = np.random.default_rng(seed).integers(_FOLDS, size=len(names))
        fold = fold_of[np.searchsorted(names, people)]
        score = np.empty(len(x))
        for held in range(_FOLDS):
            score[fold == held] = _discriminant(x[fold != held], truth[fold != held], x[fold == held])
        found.append((truth, score))
    return found


def _discriminant(x: np.ndarray, truth: np.ndarray, x_test: np.ndarray) -> np.ndarray:
    """Fisher's discriminant with shrunken covariance, on scaled features clipped at ±5 deviations."""
    mean, deviation = x.mean(0), np.maximum(x.std(0), 1e-9)
    scaled, test = (np.clip((a - mean) / deviation, -5, 5) for a in (x, x_test))
    real, other = scaled[truth], scaled[~truth]
    within = (np.cov(real.T, bias=True) + np.cov(other.T, bias=True)) / 2
    within = np.atleast_2d(within) + _RIDGE * np.eye(x.shape[1])
    return test @ np.linalg.solve(within, real.mean(0) - other.mean(0))


def audit(real: Table, other: Table, patient: np.ndarray, other_patient: np.ndarray, seeds: int, draws: int) -> Audit:
    """What a set of features gives away, as one classifier and as its most telling column."""
    scores = linear_scores(real.values, other.values, patient, other_patient, seeds)
    truth = np.repeat([True, False], (len(real.values), len(other.values)))
    stacked = np.concatenate([real.values, other.values])
    areas = np.array([auroc(truth, column) for column in stacked.T])
    most = int(np.argmax(np.abs(areas - 0.5)))
    direction = "higher" if areas[most] < 0.5 else "lower"
    return Audit(
        resampled(scores, auroc, draws),
        f"{real.names[most]} ({direction})",
        float(max(areas[most], 1 - areas[most])),
    )
