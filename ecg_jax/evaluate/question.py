"""A task asked of records: which are trained on, which are scored, which classes can be scored at all.

Training takes folds 1 to 8 and scores fold 9; the sealed fold takes no part. Label budgets are nested: the records of
the first so many training patients of a shuffle, whatever their labels.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np

from ecg_jax.data.ecg import SEALED_FOLD, RecordPool
from ecg_jax.evaluate.labels import FEWEST_CLASSES, Labels, choose_classes, find_rows

TRAINING_FOLDS, SCORED_FOLD = (1, 2, 3, 4, 5, 6, 7, 8), 9
#: Training patients whose labels are known, in as many draws, nested within a draw.
BUDGETS, DRAWS = (100, 200, 500, 1000), 5


@dataclasses.dataclass(frozen=True)
class Question:
    """Rows of a pool with their labels, split: `left_out` says why classes are not scored, `unlabelled` counts records
    of the pool without a label of the task."""

    task: str
    classes: tuple[str, ...]
    left_out: Mapping[str, str]
    train_N: np.ndarray
    positive_NxC: np.ndarray
    patient_N: np.ndarray
    scored_M: np.ndarray
    positive_MxC: np.ndarray
    patient_M: np.ndarray
    unlabelled: int

    def __post_init__(self) -> None:
        check_split(self.patient_N, self.patient_M)

    @property
    def has_macro(self) -> bool:
        """Whether so many classes are scored that their mean says something."""
        return len(self.classes) >= FEWEST_CLASSES


def ask(labels: Labels, pool: RecordPool) -> Question:
    """The task on a pool. Raises ValueError where a side has no labelled record, a patient is on both, or no class
    has enough records to be scored, with the counts."""
    rows = find_rows(labels, pool)
    fold_N = pool.fold[rows.row_N]
    training, scored = np.isin(fold_N, TRAINING_FOLDS), fold_N == SCORED_FOLD
    for what, side in (("training folds 1 to 8", training), (f"fold {SCORED_FOLD}, which is scored,", scored)):
        if not side.any():
            raise ValueError(f"{labels.task}: no labelled record in the {what} of {pool.source}")
    chosen = choose_classes(labels.classes, rows.positive_NxC[training], rows.positive_NxC[scored])
    if not chosen.classes:
        told = "; ".join(f"{name}: {why}" for name, why in list(chosen.left_out.items())[:3])
        raise ValueError(f"{labels.task}: none of {len(labels.classes)} classes can be scored ({told})")
    kept = [labels.classes.index(name) for name in chosen.classes]
    return Question(
        task=labels.task,
        classes=chosen.classes,
        left_out=chosen.left_out,
        train_N=rows.row_N[training],
        positive_NxC=rows.positive_NxC[training][:, kept],
        patient_N=pool.patient_id[rows.row_N[training]],
        scored_M=rows.row_N[scored],
        positive_MxC=rows.positive_NxC[scored][:, kept],
        patient_M=pool.patient_id[rows.row_N[scored]],
        unlabelled=rows.unlabelled,
    )


def check_split(train: np.ndarray, scored: np.ndarray) -> None:
    """Raises ValueError, by name, where a patient is trained on and scored."""
    both = np.intersect1d(train, scored)
    if len(both):
        raise ValueError(f"{len(both)} patients are trained on and scored, such as {both[0]}: split by patient")


def unsealed(pool: RecordPool) -> RecordPool:
    """The records of a pool but for the sealed fold's, of whatever set they are."""
    return pool.take(np.flatnonzero(pool.fold != SEALED_FOLD))


def budget_rows(patient_N: np.ndarray, budget: int, draw: int) -> np.ndarray:
    """Which training records are those of the first `budget` patients of shuffle `draw`: nested in `budget`.

    Raises ValueError for a budget of no patient, or of more than there are.
    """
    patients = np.unique(patient_N)
    if not 1 <= budget <= len(patients):
        raise ValueError(f"a budget of {budget} patients: give 1 to {len(patients)}, which training has")
    shuffled = np.random.default_rng(draw).permutation(patients)
    return np.flatnonzero(np.isin(patient_N, shuffled[:budget]))


def budgets_within(patient_N: np.ndarray, budgets: Sequence[int] = BUDGETS) -> tuple[int, ...]:
    """Those budgets that training has the patients for."""
    patients = len(np.unique(patient_N))
    return tuple(budget for budget in budgets if budget < patients)
