"""What an extractor is worth in a task: rows of figures with intervals, and paired differences between extractors.

The primary figure is the macro AUROC of super-diagnostic classes by the linear probe. All that a figure depends on, the
records, labels and choices, is hashed: rows of one `protocol` compare.
"""

from __future__ import annotations

import dataclasses
import enum
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from scipy.special import expit
from scipy.stats import t as student

from ecg_jax.codec import fingerprint
from ecg_jax.data.ecg import RecordPool
from ecg_jax.evaluate import attention, metrics, probe, ridge
from ecg_jax.evaluate.boosting import SETTINGS, fit_boosted
from ecg_jax.evaluate.contract import COLUMNS
from ecg_jax.evaluate.intervals import LEVEL, REPLICATES, Interval, macro_auroc, macro_auroc_difference, newcombe
from ecg_jax.evaluate.question import BUDGETS, DRAWS, SCORED_FOLD, TRAINING_FOLDS, Question, budget_rows, budgets_within
from ecg_jax.evaluate.targets import Target

#: A difference of so many standard errors is found four times in five, at a level of 5 %.
RESOLVED = 2.8
#: To be raised when a change of this code changes figures.
VERSION = 1


class Probe(enum.StrEnum):
    """How a task is read from features."""

    LINEAR = "linear"
    NEIGHBOURS = "nearest neighbours"
    ATTENTION = "attention"
    BOOSTED = "boosted trees"


#: Whose scores are logits; those of the others are shares or probabilities as they are.
_LOGITS = {Probe.LINEAR: True, Probe.ATTENTION: True, Probe.BOOSTED: False, Probe.NEIGHBOURS: False}


@dataclasses.dataclass(frozen=True)
class Answer:
    """What one probe of one extractor gave: rows in `COLUMNS`, and scores `(M, C)` of the scored records."""

    rows: pd.DataFrame
    score_MxC: np.ndarray


def answer(question: Question, feature_NxD: np.ndarray, how: Probe = Probe.LINEAR) -> Answer:
    """Fits a probe to the training records of a question and scores the others; `feature_NxD` are those of its whole
    pool, tokens for the attention probe. Raises ValueError as the probes do."""
    train, scored = feature_NxD[question.train_N], feature_NxD[question.scored_M]
    score_MxC = _scores(how, question, train, question.positive_NxC, question.patient_N, scored)
    probability_MxC = expit(score_MxC) if _LOGITS[how] else score_MxC
    rows = [
        row
        for column, label in enumerate(question.classes)
        for row in _class_rows(question, label, how, column, score_MxC, probability_MxC)
    ]
    if question.has_macro:
        interval = macro_auroc(score_MxC, question.positive_MxC, question.patient_M)
        rows.append(_row(question, "macro", how.value, "auroc", interval))
    return Answer(pd.DataFrame(rows, columns=list(COLUMNS)), score_MxC)


def _scores(
    how: Probe,
    question: Question,
    train_NxD: np.ndarray,
    positive_NxC: np.ndarray,
    patient_N: np.ndarray,
    scored_MxD: np.ndarray,
) -> np.ndarray:
    match how:
        case Probe.LINEAR:
            return probe.fit_linear_probe(train_NxD, positive_NxC, patient_N, question.classes).scores(scored_MxD)
        case Probe.NEIGHBOURS:
            return probe.vote_neighbours(train_NxD, positive_NxC, scored_MxD)
        case Probe.ATTENTION:
            return attention.fit_attention_probe(train_NxD, positive_NxC, patient_N).scores(scored_MxD)
        case Probe.BOOSTED:
            return fit_boosted(train_NxD, positive_NxC, scored_MxD)


def _class_rows(
    question: Question, label: str, how: Probe, column: int, score_MxC: np.ndarray, probability_MxC: np.ndarray
) -> list[dict[str, Any]]:
    score_M, positive_M, probability_M = (
        score_MxC[:, column],
        question.positive_MxC[:, column],
        probability_MxC[:, column],
    )
    positives = int(positive_M.sum())
    area = newcombe(metrics.auroc(score_M, positive_M), positives, len(positive_M) - positives)
    found: dict[str, Interval | float] = {
        "auroc": area,
        "average precision": metrics.average_precision(score_M, positive_M),
        "prevalence": positives / len(positive_M),
        "f max": metrics.f_max(score_M, positive_M),
        "brier": metrics.brier(probability_M, positive_M),
        "calibration error": metrics.calibration_error(probability_M, positive_M),
    }
    return [_row(question, label, how.value, metric, value, positives) for metric, value in found.items()]


def _row(
    question: Question, label: str, how: str, metric: str, value: Interval | float, positives: int | None = None
) -> dict[str, Any]:
    interval = value if isinstance(value, Interval) else Interval(value, math.nan, math.nan, math.nan)
    n = len(question.scored_M)
    return {
        "task": question.task,
        "label": label,
        "probe": how,
        "metric": metric,
        "value": interval.value,
        "low": interval.low,
        "high": interval.high,
        "n": n,
        "positives": n if positives is None else positives,
    }


def answer_with_few_labels(
    question: Question, feature_NxD: np.ndarray, budgets: Sequence[int] = BUDGETS, draws: int = DRAWS
) -> pd.DataFrame:
    """Macro AUROC of the linear probe when only so many training patients have labels: the mean over draws, and its
    interval (Student's t over draws), one row per budget that training has the patients for.

    A class of one value in a draw scores .5 there: nothing can be learnt of it. A task without a macro figure has no
    rows. Raises ValueError as the probe does.
    """
    rows = []
    for budget in budgets_within(question.patient_N, budgets) if question.has_macro else ():
        reached = [_with_budget(question, feature_NxD, budget, draw) for draw in range(draws)]
        error = float(np.std(reached, ddof=1) / math.sqrt(draws))
        half = float(student.ppf(0.5 + LEVEL / 2, draws - 1)) * error
        mean = float(np.mean(reached))
        interval = Interval(mean, max(0.0, mean - half), min(1.0, mean + half), error)
        rows.append(_row(question, "macro", f"linear, {budget} patients", "auroc", interval))
    return pd.DataFrame(rows, columns=list(COLUMNS))


def _with_budget(question: Question, feature_NxD: np.ndarray, budget: int, draw: int) -> float:
    kept = budget_rows(question.patient_N, budget, draw)
    positive_NxC = question.positive_NxC[kept]
    told = positive_NxC.any(axis=0) & ~positive_NxC.all(axis=0)
    areas = np.full(len(question.classes), 0.5)
    if told.any():
        names = [name for name, is_told in zip(question.classes, told, strict=True) if is_told]
        fitted = probe.fit_linear_probe(
            feature_NxD[question.train_N[kept]], positive_NxC[:, told], question.patient_N[kept], names
        )
        score_MxK = fitted.scores(feature_NxD[question.scored_M])
        areas[told] = [
            metrics.auroc(score_M, positive_M)
            for score_M, positive_M in zip(score_MxK.T, question.positive_MxC[:, told].T, strict=True)
        ]
    return float(areas.mean())


def answer_number(target: Target, pool: RecordPool, feature_NxD: np.ndarray) -> pd.DataFrame:
    """MAE, R² and bias of a ridge probe on fold 9, fitted on folds 1 to 8; rows in `COLUMNS`.

    Raises ValueError where a side has fewer than two records with a value, and as the probe does.
    """
    value_N = target.of(pool)
    known = np.isfinite(value_N)
    train, scored = known & np.isin(pool.fold, TRAINING_FOLDS), known & (pool.fold == SCORED_FOLD)
    if min(train.sum(), scored.sum()) < 2:
        raise ValueError(f"{target.name} is known of {train.sum()} records in training and {scored.sum()} scored ones")
    fitted = ridge.fit_ridge_probe(feature_NxD[train], value_N[train], pool.patient_id[train])
    figures = ridge.regression_figures(fitted.predict(feature_NxD[scored]), value_N[scored], pool.patient_id[scored])
    n, label = int(scored.sum()), target.unit
    rows = [
        (target.name, label, "ridge", metric, found.value, found.low, found.high, n, n)
        for metric, found in figures.items()
    ]
    return pd.DataFrame(rows, columns=list(COLUMNS))


def difference(question: Question, ours: Answer, other: Answer) -> Interval | None:
    """Macro AUROC of one answer less that of another on the same records, paired; None without a macro figure."""
    if not question.has_macro:
        return None
    return macro_auroc_difference(ours.score_MxC, other.score_MxC, question.positive_MxC, question.patient_M)


def protocol(question: Question, pool: RecordPool) -> str:
    """The hash of all that a task's figures depend on beside the features."""
    return fingerprint(
        {
            "version": VERSION,
            "task": question.task,
            "classes": list(question.classes),
            "trained": [str(record) for record in pool.record_id[question.train_N]],
            "scored": [str(record) for record in pool.record_id[question.scored_M]],
            "labels": [np.packbits(question.positive_NxC).tolist(), np.packbits(question.positive_MxC).tolist()],
            "linear": [list(probe.STRENGTHS), probe.FOLDS],
            "neighbours": [probe.NEIGHBOURS, probe.TEMPERATURE],
            "attention": [list(attention.STRENGTHS), attention.MOST_STEPS],
            "boosted": SETTINGS,
            "budgets": [list(BUDGETS), DRAWS],
            "intervals": [LEVEL, REPLICATES],
        }
    )
