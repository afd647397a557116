"""Dependent rows (cool-downs of one trunk): variances with few clusters, and the noise between and within them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import sparse

from scaling_fits.estimation.random_intercept import reml_information, reml_ratio

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
    belongs_NxC = sparse.csr_array((np.ones(len(cluster_N)), (np.arange(len(cluster_N)), cluster_N)))
    scaled_N = residual_N / max(np.sqrt(np.mean(residual_N**2)), 1e-300)
    tells = clusters < len(cluster_N) and scaled_N.any()
    ratio = reml_ratio(basis_NxQ, scaled_N, belongs_NxC) if tells else 0.0
    basis_CxQ = belongs_NxC.T @ basis_NxQ
    dof_P = np.empty(influence_NxP.shape[1])
    for p in range(len(dof_P)):
        dof_P[p] = _degrees([pull[p] for pull in pulls], [basis_NxQ[own] for own in members], basis_CxQ, ratio)
    return RobustVariance(variance_P, dof_P, (influence_NxP**2).sum(axis=0))


def _influence(design_NxP: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Orthonormal basis (N, Q) of the columns, and the influence (N, P) of rows on the coefficients."""
    length_P = np.maximum(np.linalg.norm(design_NxP, axis=0), 1e-300)
    left, values, right = np.linalg.svd(design_NxP / length_P, full_matrices=False)
    seen = values > UNSEEN * values[0]
    return left[:, seen], (left[:, seen] / values[seen]) @ right[seen] / length_P


def _degrees(pulls: Sequence[np.ndarray], basis: Sequence[np.ndarray], basis_CxQ: np.ndarray, ratio: float) -> float:
    """Satterthwaite's dof of one coefficient, from each cluster's pull (R,) and rows of the basis (R, Q).

    The clusters' covariance is a diagonal and a product of few columns, and is never formed: C clusters cost C.
    """
    own_C, whole_C = np.array([pull @ pull for pull in pulls]), np.array([pull.sum() for pull in pulls])
    along_CxQ = np.stack([pull @ rows for pull, rows in zip(pulls, basis)])
    diagonal_C = own_C + ratio * whole_C**2
    one_QxQ = np.eye(along_CxQ.shape[1])
    columns_CxK = np.column_stack([along_CxQ, whole_C[:, None] * basis_CxQ])
    middle_KxK = np.block(
        [[ratio * basis_CxQ.T @ basis_CxQ - one_QxQ, -ratio * one_QxQ], [-ratio * one_QxQ, np.zeros_like(one_QxQ)]]
    )
    off_C = np.einsum("ck,kl,cl->c", columns_CxK, middle_KxK, columns_CxK, optimize=True)
    turned_KxK = middle_KxK @ (columns_CxK.T @ columns_CxK)
    squares = np.sum(diagonal_C**2) + 2 * diagonal_C @ off_C + np.sum(turned_KxK * turned_KxK.T)
    return (np.sum(diagonal_C) + np.sum(off_C)) ** 2 / max(squares, 1e-300)


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
