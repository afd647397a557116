"""A Gaussian mixture fitted by expectation maximisation, for densities of a few dozen dimensions and few records.

Covariances are full and shrunk towards the one common to all components; how many components, and how strong the
shrinkage, is chosen by the likelihood of held-out rows.
"""

from __future__ import annotations

import dataclasses

import numpy as np

from ecg_jax.data.synthetic.constants import declare

ITERATIONS = 40
COMPONENTS = (1, 2, 4, 8, 16)
#: Rows that the common covariance counts for, in dimensions.
SHRINKAGE = (0.3, 1.0, 3.0)
#: Share of the common covariance that lies on its diagonal.
DIAGONAL_SHARE = 0.05
HELD_OUT_SHARE = 0.2


@dataclasses.dataclass(frozen=True)
class Mixture:
    """Weights `(K,)`, means `(K, D)` and lower Cholesky factors `(K, D, D)` of the covariances."""

    weight: np.ndarray
    mean: np.ndarray
    factor: np.ndarray

    def log_density(self, x_NxD: np.ndarray) -> np.ndarray:
        """Log density of each row, `(N,)`."""
        joint = self._log_joint(x_NxD)
        top = joint.max(1, keepdims=True)
        return top[:, 0] + np.log(np.exp(joint - top).sum(1))

    def responsibilities(self, x_NxD: np.ndarray) -> np.ndarray:
        """Posterior of the components given each row, `(N, K)`."""
        joint = self._log_joint(x_NxD)
        share = np.exp(joint - joint.max(1, keepdims=True))
        return share / share.sum(1, keepdims=True)

    def _log_joint(self, x_NxD: np.ndarray) -> np.ndarray:
        constant = 0.5 * x_NxD.shape[1] * np.log(2 * np.pi)
        columns = []
        for weight, mean, factor in zip(self.weight, self.mean, self.factor):
            standard = np.linalg.solve(factor, (x_NxD - mean).T)
            columns.append(np.log(weight) - 0.5 * (standard**2).sum(0) - np.log(np.diag(factor)).sum() - constant)
        return np.stack(columns, 1)


def fit_mixture(x_NxD: np.ndarray, components: int, shrinkage: float, rng: np.random.Generator) -> Mixture:
    """Expectation maximisation from means at rows far apart (k-means++)."""
    rows, dimensions = x_NxD.shape
    centres = x_NxD[rng.integers(rows, size=1)]
    while len(centres) < components:
        gap = ((x_NxD[:, None] - centres) ** 2).sum(-1).min(1)
        centres = np.concatenate([centres, x_NxD[rng.choice(rows, size=1, p=gap / gap.sum())]])
    nearest = ((x_NxD[:, None] - centres) ** 2).sum(-1).argmin(1)
    share = np.eye(components)[nearest]
    mixture = _maximised(x_NxD, share, shrinkage * dimensions)
    for _ in range(ITERATIONS if components > 1 else 0):
        mixture = _maximised(x_NxD, mixture.responsibilities(x_NxD), shrinkage * dimensions)
    return mixture


def _maximised(x_NxD: np.ndarray, share_NxK: np.ndarray, prior_rows: float) -> Mixture:
    count = share_NxK.sum(0) + 1e-6
    mean = share_NxK.T @ x_NxD / count[:, None]
    scatter = np.stack([(share[:, None] * (x_NxD - m)).T @ (x_NxD - m) for share, m in zip(share_NxK.T, mean)])
    common = scatter.sum(0) / len(x_NxD)
    common = (1 - DIAGONAL_SHARE) * common + DIAGONAL_SHARE * np.diag(np.diag(common)) + 1e-6 * np.eye(len(common))
    covariance = (scatter + prior_rows * common) / (count + prior_rows)[:, None, None]
    return Mixture(count / count.sum(), mean, np.linalg.cholesky(covariance))


def choose_mixture(x_NxD: np.ndarray, seed: int) -> Mixture:
    """The mixture of the greatest held-out likelihood, refitted to all rows. A component has at least 2 D / 3 rows."""
    rng = np.random.Generator(np.random.Philox(seed))
    held_out = np.zeros(len(x_NxD), bool)
    held_out[rng.permutation(len(x_NxD))[: max(1, round(HELD_OUT_SHARE * len(x_NxD)))]] = True
    most = max(1, 3 * len(x_NxD) // (2 * x_NxD.shape[1]))

    def held_out_density(setting: tuple[int, float]) -> float:
        return fit_mixture(x_NxD[~held_out], *setting, rng).log_density(x_NxD[held_out]).mean()

    best = max(((k, shrinkage) for k in COMPONENTS if k <= most for shrinkage in SHRINKAGE), key=held_out_density)
    return fit_mixture(x_NxD, *best, rng)


declare("density", vars(), "ITERATIONS COMPONENTS SHRINKAGE DIAGONAL_SHARE HELD_OUT_SHARE")
