"""Train on synthetic, test on real: areas under the curve of PTB-XL's diagnostic superclasses."""

from __future__ import annotations

import numpy as np

from benchmarks.realism.metrics import auroc
from benchmarks.realism.network import Training, train_and_score
from benchmarks.realism.sources import SEED
from benchmarks.realism.tell_apart import Scores
from ecg_jax.data.ecg import RecordPool, normalise
from ecg_jax.data.synthetic.annotate.annotation import annotate
from ecg_jax.data.synthetic.physiology.condition_mix import ConditionMix, weights
from ecg_jax.data.synthetic.physiology.conditions import SCP_CODES, Morphology, Rhythm
from ecg_jax.data.synthetic.render.source import SyntheticSource
from ecg_jax.data.synthetic.render.tiers import Tier, recipe

SUPERCLASSES = ("NORM", "MI", "STTC", "CD", "HYP")
_CLASSES: dict[str, tuple[Morphology | Rhythm, ...]] = {
    "MI": (
        Morphology.STEMI_ANTERIOR,
        Morphology.STEMI_INFERIOR,
        Morphology.STEMI_LATERAL,
        Morphology.OLD_MI_ANTERIOR,
        Morphology.OLD_MI_INFERIOR,
        Morphology.OLD_MI_LATERAL,
    ),
    # PTB-XL writes an inverted T wave as a form; its diagnosis is one of ST and T.
    "STTC": (Morphology.ISCHAEMIA, Morphology.LONG_QT, Morphology.T_INVERSION),
    "CD": (
        Morphology.RBBB,
        Morphology.LBBB,
        Morphology.LAFB,
        Morphology.LPFB,
        Morphology.WPW,
        Rhythm.AV_BLOCK_1,
        Rhythm.AV_BLOCK_2_MOBITZ_1,
        Rhythm.AV_BLOCK_2_MOBITZ_2,
        Rhythm.AV_BLOCK_2_TO_1,
        Rhythm.AV_BLOCK_3,
    ),
    "HYP": (
        Morphology.LVH,
        Morphology.RVH,
        Morphology.LEFT_ATRIAL_ENLARGEMENT,
        Morphology.RIGHT_ATRIAL_ENLARGEMENT,
    ),
}  # fmt: skip
#: Statements of rhythm and form: no diagnoses.
_NO_DIAGNOSIS = ("SR", "QWAVE", "STE_", "STD_")
#: SCP-ECG statement -> superclass, of what the generator emits.
SUPERCLASS = {"NORM": "NORM"} | {
    code: name
    for name, found in _CLASSES.items()
    for condition in found
    for code in SCP_CODES[condition]
    if code not in _NO_DIAGNOSIS
}


def _share(condition: Morphology) -> float:
    """The weight of a morphology: one over those of its superclass; little for those without one."""
    own = [found for found in _CLASSES.values() if condition in found]
    return 1 / sum(isinstance(c, Morphology) for c in own[0]) if own else 0.05


#: Normal records and four diagnoses in about equal parts, each uniform over its morphologies; nine in ten are sinus.
MIX = ConditionMix(
    weights(
        Rhythm,
        {rhythm: 0.1 / len(Rhythm) for rhythm in Rhythm}
        | {Rhythm.SINUS: 0.8, Rhythm.SINUS_BRADYCARDIA: 0.05, Rhythm.SINUS_TACHYCARDIA: 0.05},
    ),
    weights(Morphology, {shape: _share(shape) for shape in Morphology} | {Morphology.NORMAL: 1.2}),
)


def real_labels(pool: RecordPool) -> np.ndarray:
    """Superclasses of a pool's records `(N, 5)`, 0 or 1."""
    return np.array([[name in labels for name in SUPERCLASSES] for labels in pool.labels], np.int32)


def synthetic_labels(codes: tuple[tuple[str, ...], ...]) -> np.ndarray:
    """Superclasses `(N, 5)` of records with SCP-ECG statements `codes`."""
    found = [{SUPERCLASS[code] for code in given if code in SUPERCLASS} for given in codes]
    return np.array([[name in classes for name in SUPERCLASSES] for classes in found], np.int32)


def synthetic_set(tier: Tier, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Z-scored records of a tier and their superclasses, those without one left out."""
    made_by = recipe(tier, MIX)
    indices = np.arange(count)
    labels = synthetic_labels(annotate(SEED, indices, made_by).scp_codes)
    has_one = labels.any(1)
    return normalise(SyntheticSource(SEED, made_by).read(indices))[has_one], labels[has_one]


def real_set(pool: RecordPool) -> tuple[np.ndarray, np.ndarray]:
    """Z-scored records of a pool and their superclasses, those without one left out."""
    labels = real_labels(pool)
    has_one = labels.any(1)
    return normalise(pool.ecg[has_one]), labels[has_one]


def transfer_scores(
    train: tuple[np.ndarray, np.ndarray], test: tuple[np.ndarray, np.ndarray], seeds: int, training: Training
) -> Scores:
    """Truth and logits `(N, 5)` of the test records for each seed."""
    truth = test[1].astype(bool)
    return [(truth, train_and_score(*train, test[0], seed, training)) for seed in range(seeds)]


def mean_auroc(truth: np.ndarray, logits: np.ndarray) -> float:
    """The mean area under the curve of the five superclasses."""
    return float(np.nanmean([auroc(truth[:, i], logits[:, i]) for i in range(len(SUPERCLASSES))]))
