"""Dependent rows (cool-downs of one trunk): variances with few clusters, and the noise between and within them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from scaling_fits.mixed_effects import reml_information, reml_ratio

SAME = 1e-9  # of a leverage: nearer to 1 the residual says nothing
UNSEEN = 1e-12  # of the largest singular value: directions that rounding cannot tell from flat


@dataclass(frozen=True)
class RobustVariance:
    """Variances (P,) of least-squares coefficients whose rows depend within clusters, and their degrees of freedom.

    `unit_P` are the variances if rows were independent with noise of variance 1.
    """

    variance_P: np.ndarray
    dof_P: np.ndarray
    unit_P: np.ndarray


def robust_variance(
    design_NxP: np.ndarray, residual_N: np.ndarray, cluster_N: np.ndarray, contrasts_QxP: np.ndarray | None = None
) -> RobustVariance:
    """CR2 variances of the coefficients of a linear model, clusters numbered from 0, with Satterthwaite's dof.

    Of linear combinations (Q, P) of the coefficients, where `contrasts_QxP` are given.

    Bell & McCaffrey 2002 (Survey Methodology 28:169; Pustejovsky & Tipton 2018): the residuals of a cluster are
    divided by the root of I - H, so that few clusters do not bias the sandwich. The degrees of freedom are those under
    a random intercept per cluster (Imbens & Kolesár 2016), its ratio by restricted maximum likelihood: they fall to the
    clusters that tell the coefficient, whatever the number of rows. Combinations that no row sees count as 0.
    """
    basis_NxQ, influence_NxP = _influence(design_NxP)
    if contrasts_QxP is not None:
        influence_NxP = influence_NxP @ contrasts_QxP.T
    clusters = int(cluster_N.max()) + 1
    members = [np.flatnonzero(cluster_N == cluster) for cluster in range(clusters)]
    pulls = [influence_NxP[own].T @ _adjusted(basis_NxQ[own]) for own in members]  # (P, rows of the cluster)
    variance_P = sum((pull @ residual_N[own]) ** 2 for pull, own in zip(pulls, members))
    belongs_NxC = (cluster_N[:, None] == np.arange(clusters)).astype(float)
    left_NxC = belongs_NxC - basis_NxQ @ (basis_NxQ.T @ belongs_NxC)
    scaled_N = residual_N / max(np.sqrt(np.mean(residual_N**2)), 1e-300)
    tells = clusters < len(cluster_N) and scaled_N.any()
    ratio = reml_ratio(basis_NxQ, scaled_N, belongs_NxC) if tells else 0.0
    dof_P = np.empty(influence_NxP.shape[1])
    for p in range(len(dof_P)):
        own_C = np.array([pull[p] @ pull[p] for pull in pulls])
        along_CxQ = np.stack([pull[p] @ basis_NxQ[own] for pull, own in zip(pulls, members)])
        between_CxC = np.stack([pull[p] @ left_NxC[own] for pull, own in zip(pulls, members)])
        spread_CxC = np.diag(own_C) - along_CxQ @ along_CxQ.T + ratio * between_CxC @ between_CxC.T
        dof_P[p] = np.trace(spread_CxC) ** 2 / max(np.sum(spread_CxC**2), 1e-300)
    return RobustVariance(variance_P, dof_P, (influence_NxP**2).sum(axis=0))


def _influence(design_NxP: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Orthonormal basis (N, Q) of the columns, and the influence (N, P) of rows on the coefficients."""
    length_P = np.maximum(np.linalg.norm(design_NxP, axis=0), 1e-300)
    left, values, right = np.linalg.svd(design_NxP / length_P, full_matrices=False)
    seen = values > UNSEEN * values[0]
    return left[:, seen], (left[:, seen] / values[seen]) @ right[seen] / length_P


def _adjusted(basis_RxP: np.ndarray) -> np.ndarray:
    """(I - H)^(-1/2) of one cluster's rows; directions that the fit reproduces exactly are left out."""
    values, vectors = np.linalg.eigh(np.eye(len(basis_RxP)) - basis_RxP @ basis_RxP.T)
    return (vectors * np.where(values > SAME, np.maximum(values, SAME) ** -0.5, 0.0)) @ vectors.T


@dataclass(frozen=True)
class Noise:
    """What residuals of a fit say of the noise: `within` is its variance within clusters, `between` that of the mean
    square between them (within + rows per cluster x variance of the clusters' effects), each with degrees of freedom.
    """

    within: float
    within_dof: float
    between: float
    between_dof: float
    rows: float

    @property
    def sds(self) -> tuple[float, float]:
        """Standard deviations within clusters, and of the clusters' effects."""
        return float(np.sqrt(self.within)), float(np.sqrt(max(self.between - self.within, 0.0) / self.rows))

    def drawn(self, count: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        """`count` standard deviations within clusters, and of the clusters' effects, each as uncertain as it is."""
        within = self.within * self.within_dof / rng.chisquare(self.within_dof, count)
        between = self.between * self.between_dof / rng.chisquare(self.between_dof, count)
        return np.sqrt(within), np.sqrt(np.maximum(between - within, 0.0) / self.rows)


def noise(design_NxP: np.ndarray, residual_N: np.ndarray, cluster_N: np.ndarray) -> Noise:
    """The two variances of a random intercept per cluster, by restricted maximum likelihood.

    The clusters' variance may come out below 0: cut off at 0, it would on average be too large where there is none.
    """
    basis_NxQ = _influence(design_NxP)[0]
    rows, size = basis_NxQ.shape
    clusters = int(cluster_N.max()) + 1
    many = rows / clusters
    scale = float(np.sqrt(residual_N @ residual_N / (rows - size)))
    if scale == 0:
        return Noise(0.0, rows - size, 0.0, clusters, many)
    belongs_NxC = (cluster_N[:, None] == np.arange(clusters)).astype(float)
    ratio = reml_ratio(basis_NxQ, residual_N / scale, belongs_NxC, signed=True)
    projection_NxN, information_2x2 = reml_information(basis_NxQ, belongs_NxC, ratio)
    units_2 = np.array([1.0, 1.0 + abs(ratio)])  # of the variances, in which the information is well conditioned
    covariance_2x2 = np.linalg.inv(information_2x2 * np.outer(units_2, units_2))
    gradient_2 = units_2 * np.array([1.0, many])
    within = float(residual_N @ projection_NxN @ residual_N) / (rows - size)
    share = 1 + many * ratio
    between_dof = 2 * share**2 / float(gradient_2 @ covariance_2x2 @ gradient_2)
    return Noise(within, 2 / float(covariance_2x2[0, 0]), within * share, between_dof, many)
