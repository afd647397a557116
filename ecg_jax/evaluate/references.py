"""What stands beside every encoder, fitted to no label: random weights, principal components, features made by hand.

A probe of an encoder tells of its pretraining only by the difference to these: a randomly initialised encoder under a
linear probe matches many a published one (arXiv:2602.17531).
"""

from __future__ import annotations

import hashlib

import numpy as np

from ecg_jax.config import RunConfig
from ecg_jax.data.ecg import INDEPENDENT_LEAD_INDICES, RecordPool, normalise
from ecg_jax.evaluate.features import Extractor, of_random
from ecg_jax.evaluate.handmade import NAMES, VERSION, by_hand
from ecg_jax.objectives.masked import patches_of

#: Seeds of the encoders that were never trained.
RANDOM_SEEDS = (0, 1, 2)
PATCH_S = 0.2
BOOSTED = "features by hand"


def random_encoders(config: RunConfig) -> list[Extractor]:
    """The architecture of `config` at initialisation, once per seed."""
    return [of_random(config, seed) for seed in RANDOM_SEEDS]


def principal_components(training: RecordPool, width: int, *, patch_s: float = PATCH_S) -> Extractor:
    """A linear encoder: time patches of the eight independent leads on their first `width` principal components in the
    training records; a record's features are the components' deviations over its patches (their means are near 0).

    Raises ValueError where a patch has fewer samples than `width`, or records do not divide into patches.
    """
    patch = round(patch_s * training.sample_rate_hz)
    numbers = patch * len(INDEPENDENT_LEAD_INDICES)
    if width > numbers or training.ecg.shape[1] % patch:
        raise ValueError(
            f"{width} components of patches of {patch} samples x 8 leads ({numbers} numbers) in records of "
            f"{training.ecg.shape[1]} samples: give at most {numbers}, and records of whole patches"
        )
    moment_FxF = np.zeros((numbers, numbers))
    for start in range(0, len(training), 256):
        part = _patches(training.read(np.arange(start, min(start + 256, len(training)))), patch).reshape(-1, numbers)
        moment_FxF += part.T.astype(np.float64) @ part
    _, vectors_FxF = np.linalg.eigh(moment_FxF)
    components_FxD = vectors_FxF[:, ::-1][:, :width].astype(np.float32)

    def tokens(ecg: np.ndarray) -> np.ndarray:
        return _patches(ecg, patch) @ components_FxD

    identity = hashlib.sha256(np.round(components_FxD, 5).tobytes()).hexdigest()[:16]
    return Extractor(
        name=f"principal components, {width}",
        identity=identity,
        features=lambda ecg: tokens(ecg).std(axis=1),
        tokens=tokens,
        sample_rate_hz=training.sample_rate_hz,
        samples=training.ecg.shape[1],
    )


def handmade(sample_rate_hz: int) -> Extractor:
    """Rate, variability, intervals and amplitudes (`handmade.by_hand`), a number each."""
    return Extractor(
        name=BOOSTED,
        identity=f"{BOOSTED} {VERSION} {len(NAMES)}",
        features=lambda ecg: by_hand(ecg, sample_rate_hz),
        sample_rate_hz=sample_rate_hz,
    )


def _patches(ecg: np.ndarray, patch: int) -> np.ndarray:
    """Z-scored patches of the independent leads, `(B, T, patch x 8)`."""
    patches_KxF = patches_of(normalise(ecg), patch)
    return patches_KxF.reshape(len(ecg), -1, patches_KxF.shape[1])
