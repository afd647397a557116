"""A probe that attends: one query weighs a record's tokens, and a logistic regression reads their weighted mean.

It finds what mean-pooling loses, such as one odd beat. Query and weights share a penalty whose strength is chosen
inside the training records, by folds of their patients, as the linear probe's is. The query starts at 0, which is the
mean, and L-BFGS has no draw, so that two fits are the same.
"""

from __future__ import annotations

import dataclasses

import numpy as np
from scipy.optimize import minimize
from scipy.special import expit, softmax

from ecg_jax.evaluate.metrics import auroc
from ecg_jax.evaluate.probe import FOLDS, moments, patient_folds

#: Strengths of the data against the penalty.
STRENGTHS = (1e-4, 1e-3, 1e-2, 1e-1)
MOST_STEPS = 200


@dataclasses.dataclass(frozen=True)
class AttentionProbe:
    """The query on standardised tokens, and the regressions on what it pools."""

    mean_D: np.ndarray
    deviation_D: np.ndarray
    query_D: np.ndarray
    weight_CxD: np.ndarray
    intercept_C: np.ndarray
    strength: float

    def attention(self, token_NxLxD: np.ndarray) -> np.ndarray:
        """The weight of every token, `(N, L)`, which sum to 1."""
        return softmax(self._standard(token_NxLxD) @ self.query_D, axis=1)

    def scores(self, token_NxLxD: np.ndarray) -> np.ndarray:
        """Logits `(N, C)`."""
        x_NxLxD = self._standard(token_NxLxD)
        pooled_NxD = _pool(x_NxLxD, softmax(x_NxLxD @ self.query_D, axis=1))
        return pooled_NxD @ self.weight_CxD.T + self.intercept_C

    def _standard(self, token_NxLxD: np.ndarray) -> np.ndarray:
        if token_NxLxD.ndim != 3 or token_NxLxD.shape[2] != len(self.mean_D):
            raise ValueError(f"tokens of shape {token_NxLxD.shape} for a probe of {len(self.mean_D)} features")
        return (token_NxLxD - self.mean_D) / self.deviation_D


def fit_attention_probe(
    token_NxLxD: np.ndarray, positive_NxC: np.ndarray, patient_N: np.ndarray, *, seed: int = 0
) -> AttentionProbe:
    """The probe of a task. Raises ValueError for tokens that are no finite numbers, or a class of one value."""
    if not np.isfinite(token_NxLxD).all():
        raise ValueError("the tokens are no finite numbers")
    if positive_NxC.all(axis=0).any() or not positive_NxC.any(axis=0).all():
        raise ValueError(f"a class has one value in all {len(positive_NxC)} training records")
    fold_N = patient_folds(patient_N, FOLDS, seed)
    reached = [_cross_validate(token_NxLxD, positive_NxC, fold_N, strength) for strength in STRENGTHS]
    return _fit(token_NxLxD, positive_NxC, STRENGTHS[int(np.argmax(reached))])


def _cross_validate(token_NxLxD: np.ndarray, positive_NxC: np.ndarray, fold_N: np.ndarray, strength: float) -> float:
    reached = []
    for fold in np.unique(fold_N):
        inside, outside = fold_N != fold, fold_N == fold
        scores = _fit(token_NxLxD[inside], positive_NxC[inside], strength).scores(token_NxLxD[outside])
        for score_M, positive_M in zip(scores.T, positive_NxC[outside].T, strict=True):
            if positive_M.any() and not positive_M.all():
                reached.append(auroc(score_M, positive_M))
    return float(np.mean(reached))


def _fit(token_NxLxD: np.ndarray, positive_NxC: np.ndarray, strength: float) -> AttentionProbe:
    width, classes = token_NxLxD.shape[2], positive_NxC.shape[1]
    mean_D, deviation_D = moments(token_NxLxD.reshape(-1, width))
    x_NxLxD = ((token_NxLxD - mean_D) / deviation_D).astype(np.float32)
    share_C = np.clip(positive_NxC.mean(axis=0), 1e-3, 1 - 1e-3)
    start = np.concatenate([np.zeros(width + classes * width), np.log(share_C / (1 - share_C))])
    found = minimize(
        _loss_and_gradient,
        start,
        args=(x_NxLxD, positive_NxC, strength),
        jac=True,
        method="L-BFGS-B",
        options={"maxiter": MOST_STEPS},
    ).x
    query_D, weight_CxD, intercept_C = _parts(found, width, classes)
    return AttentionProbe(mean_D, deviation_D, query_D, weight_CxD, intercept_C, strength)


def _parts(x: np.ndarray, width: int, classes: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    return x[:width], x[width:-classes].reshape(classes, width), x[-classes:]


def _pool(x_NxLxD: np.ndarray, attention_NxL: np.ndarray) -> np.ndarray:
    return np.matmul(attention_NxL[:, None, :], x_NxLxD)[:, 0]


def _loss_and_gradient(
    x: np.ndarray, token_NxLxD: np.ndarray, positive_NxC: np.ndarray, strength: float
) -> tuple[float, np.ndarray]:
    """(|query|^2 + |weights|^2) / 2 + strength x the sum of logistic losses, and its gradient."""
    query_D, weight_CxD, intercept_C = _parts(x, token_NxLxD.shape[2], positive_NxC.shape[1])
    attention_NxL = softmax(token_NxLxD @ query_D.astype(np.float32), axis=1)
    pooled_NxD = _pool(token_NxLxD, attention_NxL).astype(np.float64)
    logit_NxC = pooled_NxD @ weight_CxD.T + intercept_C
    loss = np.logaddexp(0, np.where(positive_NxC, -logit_NxC, logit_NxC)).sum()
    wrong_NxC = expit(logit_NxC) - positive_NxC
    to_pooled_NxD = wrong_NxC @ weight_CxD
    along_NxL = np.matmul(token_NxLxD, to_pooled_NxD[:, :, None].astype(np.float32))[..., 0]
    to_score_NxL = attention_NxL * (along_NxL - (attention_NxL * along_NxL).sum(axis=1, keepdims=True))
    to_query_D = _pool(token_NxLxD, to_score_NxL).sum(axis=0, dtype=np.float64)
    gradient = np.concatenate(
        [
            query_D + strength * to_query_D,
            (weight_CxD + strength * wrong_NxC.T @ pooled_NxD).ravel(),
            strength * wrong_NxC.sum(axis=0),
        ]
    )
    penalty = 0.5 * (query_D @ query_D + (weight_CxD**2).sum())
    return float(penalty + strength * loss), gradient
