"""A head to take away: a linear probe of an encoder on a site's own labels, with probabilities and thresholds.

    DIR/head.safetensors   weights on standardised features, calibration, thresholds
    DIR/head.json          format, label names, the encoder's identity, the records that it was fitted to
    DIR/encoder/           a copy of the encoder, so that the folder is whole
    DIR/README.md          the card

Probabilities are calibrated on held-out folds of the training patients, by isotonic regression (monotone: it changes
no ranking but for ties). A threshold is the highest at which those records reach the sensitivity that was asked for.
"""

from __future__ import annotations

import dataclasses
import shutil
from pathlib import Path
from typing import Any

import numpy as np
from scipy.optimize import isotonic_regression

from ecg_jax.encoder import CARD, CONFIG, TENSORS
from ecg_jax.evaluate.features import Extractor, of_encoder
from ecg_jax.evaluate.labels import FEWEST_IN_TRAINING
from ecg_jax.evaluate.metrics import curve
from ecg_jax.evaluate.probe import FOLDS, LinearProbe, fit_linear_probe, patient_folds
from ecg_jax.extras import needs
from ecg_jax.files.whole_file import read_json, write_json, write_text
from ecg_jax.files.whole_folder import whole_folder

with needs("train"):
    import safetensors
    import safetensors.numpy

FORMAT, VERSION = "ecg-jax head", 1
WEIGHTS, FACTS = "head.safetensors", "head.json"
#: Sensitivity that thresholds are set for.
SENSITIVITY = 0.9
#: Points of a calibration that are kept: between them it is linear.
_POINTS = 33


@dataclasses.dataclass(frozen=True)
class Head:
    """A probe with calibrated probabilities: `score_CxK` and `probability_CxK` are points of each class's calibration,
    and `threshold_C` the probabilities from which a record is called positive."""

    probe: LinearProbe
    score_CxK: np.ndarray
    probability_CxK: np.ndarray
    threshold_C: np.ndarray
    facts: dict[str, Any]

    def probabilities(self, feature_NxD: np.ndarray) -> np.ndarray:
        """Calibrated probabilities `(N, C)`. Raises ValueError as the probe does."""
        score_NxC = self.probe.scores(feature_NxD)
        points = zip(score_NxC.T, self.score_CxK, self.probability_CxK, strict=True)
        return np.stack([np.interp(score_N, at_K, to_K) for score_N, at_K, to_K in points], axis=1)


def fit_head(
    feature_NxD: np.ndarray,
    positive_NxC: np.ndarray,
    patient_N: np.ndarray,
    classes: tuple[str, ...],
    *,
    sensitivity: float = SENSITIVITY,
) -> Head:
    """The probe of all records, calibrated on scores that each fold of patients got from a probe of the others.

    Raises ValueError for a sensitivity outside (0, 1), a class of fewer than 30 records of either value, and as
    `fit_linear_probe` does.
    """
    if not 0 < sensitivity < 1:
        raise ValueError(f"sensitivity is {sensitivity}: a number between 0 and 1 is needed")
    for name, positive_N in zip(classes, positive_NxC.T, strict=True):
        fewest = int(min(positive_N.sum(), (~positive_N).sum()))
        if fewest < FEWEST_IN_TRAINING:
            raise ValueError(f"{name}: {fewest} records of one value, {FEWEST_IN_TRAINING} of either are needed")
    probe = fit_linear_probe(feature_NxD, positive_NxC, patient_N, classes)
    fold_N, score_NxC = patient_folds(patient_N, FOLDS, seed=1), np.zeros(positive_NxC.shape)
    for fold in range(FOLDS):
        inside, outside = fold_N != fold, fold_N == fold
        of_others = fit_linear_probe(
            feature_NxD[inside], positive_NxC[inside], patient_N[inside], classes, strengths=(probe.strength,)
        )
        score_NxC[outside] = of_others.scores(feature_NxD[outside])
    points = [_calibrate(score_N, positive_N) for score_N, positive_N in zip(score_NxC.T, positive_NxC.T, strict=True)]
    score_CxK, probability_CxK = (np.stack(part) for part in zip(*points, strict=True))
    thresholds = []
    for column in range(len(classes)):
        told_N = np.interp(score_NxC[:, column], score_CxK[column], probability_CxK[column])
        of = curve(told_N, positive_NxC[:, column])
        thresholds.append(of.threshold_D[np.argmax(of.sensitivity_D >= sensitivity)])
    facts = {
        "labels": list(classes),
        "records": len(feature_NxD),
        "patients": len(np.unique(patient_N)),
        "positives": {name: int(n) for name, n in zip(classes, positive_NxC.sum(axis=0), strict=True)},
        "sensitivity": sensitivity,
        "strength": probe.strength,
    }
    return Head(probe, score_CxK, probability_CxK, np.array(thresholds), facts)


def _calibrate(score_N: np.ndarray, positive_N: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Points `(K,)` of the isotonic regression of a label on its score, each end between 0 and 1 by one half record."""
    order = np.argsort(score_N, kind="stable")
    fitted = isotonic_regression(positive_N[order].astype(float)).x
    at = np.quantile(score_N, np.linspace(0, 1, _POINTS))
    least = 0.5 / len(score_N)
    return at, np.clip(np.interp(at, score_N[order], fitted), least, 1 - least)


def save_head(folder: Path, head: Head, encoder: Path, source: str) -> None:
    """Writes a head with a copy of its encoder's folder to `folder`, which appears whole or not at all, and must not be
    there. `source` names the records that it was fitted to."""
    facts = head.facts | {"source": source, "encoder": of_encoder(encoder).identity}
    tensors = {
        "mean": head.probe.mean_D,
        "deviation": head.probe.deviation_D,
        "weight": head.probe.weight_CxD,
        "intercept": head.probe.intercept_C,
        "calibration_score": head.score_CxK,
        "calibration_probability": head.probability_CxK,
        "threshold": head.threshold_C,
    }
    with whole_folder(folder) as building:
        safetensors.numpy.save_file(
            {name: np.ascontiguousarray(tensor, np.float64) for name, tensor in tensors.items()}, building / WEIGHTS
        )
        write_json(building / FACTS, {"format": FORMAT, "version": VERSION, **facts})
        (building / "encoder").mkdir()
        for name in (TENSORS, CONFIG, CARD):
            if (encoder / name).is_file():
                shutil.copyfile(encoder / name, building / "encoder" / name)
        write_text(building / "README.md", card(facts, head))


def load_head(folder: Path) -> tuple[Head, Extractor]:
    """A head and its encoder. Raises FileNotFoundError or ValueError for a folder without one, a newer version, tensors
    of other shapes, or an encoder that is not the one it was fitted on."""
    for name in (WEIGHTS, FACTS):
        if not (folder / name).is_file():
            raise FileNotFoundError(f"{folder} is no head: it lacks {name}; ecg-jax evaluate fit makes one")
    facts = read_json(folder / FACTS)
    if facts.get("format") != FORMAT or facts.get("version") != VERSION or not isinstance(facts.get("labels"), list):
        raise ValueError(f"{folder / FACTS} is no head of version {VERSION}: upgrade ecg-jax, or fit it again")
    try:
        tensors = safetensors.numpy.load_file(folder / WEIGHTS)
    except safetensors.SafetensorError as error:
        raise ValueError(f"{folder / WEIGHTS} is not a whole safetensors file: {error}") from error
    extractor, classes = of_encoder(folder / "encoder"), len(facts["labels"])
    width = len(tensors.get("mean", ()))
    shapes = {
        "mean": (width,),
        "deviation": (width,),
        "weight": (classes, width),
        "intercept": (classes,),
        "calibration_score": (classes, _POINTS),
        "calibration_probability": (classes, _POINTS),
        "threshold": (classes,),
    }
    found = {name: tensor.shape for name, tensor in tensors.items()}
    if found != shapes or extractor.encoder is None or width != extractor.encoder.config.model.width:
        raise ValueError(f"{folder / WEIGHTS} does not hold a head for {classes} labels of this encoder: {found}")
    if extractor.identity != facts.get("encoder"):
        raise ValueError(f"{folder / 'encoder'} is not the encoder that this head was fitted on")
    probe = LinearProbe(
        classes=tuple(map(str, facts["labels"])),
        mean_D=tensors["mean"],
        deviation_D=tensors["deviation"],
        weight_CxD=tensors["weight"],
        intercept_C=tensors["intercept"],
        strength=float(facts["strength"]),
        tried=(),
    )
    points = tensors["calibration_score"], tensors["calibration_probability"]
    return Head(probe, *points, tensors["threshold"], facts), extractor


def card(facts: dict[str, Any], head: Head) -> str:
    """What the head was fitted to and is not for, Markdown."""
    rows = [
        f"| {name} | {facts['positives'][name]:,} | {threshold:.3f} |"
        for name, threshold in zip(facts["labels"], head.threshold_C, strict=True)
    ]
    return "\n".join(
        [
            f"# A head of {len(facts['labels'])} labels",
            "",
            f"A linear probe on frozen features of the encoder beside it (`{facts['encoder']}`), fitted to "
            f"{facts['records']:,} records of {facts['patients']:,} patients of {facts['source']}.",
            "",
            f"| label | positive records | threshold at sensitivity {facts['sensitivity']:g} |",
            "|---|---|---|",
            *rows,
            "",
            "Probabilities were calibrated, and thresholds set, on held-out folds of these patients: elsewhere both "
            "must be validated first (`ecg-jax evaluate validate`). For research only. This is not a medical device.",
            "",
        ]
    )
