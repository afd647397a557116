"""Gradient-boosted trees on features by hand: what can be told of a task without any learnt feature."""

from __future__ import annotations

import numpy as np

from ecg_jax.evaluate.logistic import check_features
from ecg_jax.extras import needs

#: Small steps on half of the records and few of the features, as a thousand records want; untuned. Of scikit-learn's
#: two kinds the one whose threads do not wait for each other where cores are shared.
SETTINGS = {
    "n_estimators": 200,
    "learning_rate": 0.05,
    "max_depth": 3,
    "min_samples_leaf": 10,
    "subsample": 0.5,
    "max_features": "sqrt",
    "random_state": 0,
}


def fit_boosted(feature_NxD: np.ndarray, positive_NxC: np.ndarray, scored_MxD: np.ndarray) -> np.ndarray:
    """Probabilities `(M, C)` of the scored records, one classifier per class.

    Raises ValueError for features that are no finite numbers, or a class of one value, and ModuleNotFoundError without
    scikit-learn.
    """
    with needs("evaluate"):
        from sklearn.ensemble import GradientBoostingClassifier
    check_features(feature_NxD)
    check_features(scored_MxD)
    found = []
    for column, positive_N in enumerate(positive_NxC.T):
        if positive_N.all() or not positive_N.any():
            raise ValueError(f"class {column} has one value in all {len(positive_N)} training records")
        fitted = GradientBoostingClassifier(**SETTINGS).fit(feature_NxD, positive_N)
        found.append(fitted.predict_proba(scored_MxD)[:, 1])
    return np.stack(found, axis=1)
