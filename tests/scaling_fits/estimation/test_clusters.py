"""Degrees of freedom of variances of clustered rows: Satterthwaite's, without any matrix of clusters by clusters."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest
from scipy import linalg

from scaling_fits.estimation.clusters import robust_variance
from scaling_fits.estimation.random_intercept import reml_ratio


def clustered(counts: list[int], effect: float, seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """A design of three columns, one of them constant in each cluster, noise of it, and the clusters."""
    rng = np.random.default_rng(seed)
    cluster_N = np.repeat(np.arange(len(counts)), counts)
    rows = len(cluster_N)
    design_NxP = np.column_stack(
        [np.ones(rows), rng.standard_normal(len(counts))[cluster_N], rng.standard_normal(rows)]
    )
    noise_N = rng.standard_normal(rows) + effect * rng.standard_normal(len(counts))[cluster_N]
    return design_NxP, noise_N, cluster_N


def by_definition(design_NxP: np.ndarray, residual_N: np.ndarray, cluster_N: np.ndarray) -> np.ndarray:
    """The degrees of freedom from whole matrices: tr(G)² / tr(G²), G the covariance of the clusters' pulls."""
    hat_NxN = design_NxP @ np.linalg.pinv(design_NxP)
    left_NxN = np.eye(len(hat_NxN)) - hat_NxN
    belongs_NxC = (cluster_N[:, None] == np.unique(cluster_N)).astype(float)
    ratio = reml_ratio(design_NxP, residual_N / np.sqrt(np.mean(residual_N**2)), belongs_NxC)
    noise_NxN = np.eye(len(hat_NxN)) + ratio * belongs_NxC @ belongs_NxC.T
    dof = []
    for influence_N in np.linalg.pinv(design_NxP):
        pulls = []
        for own in belongs_NxC.T.astype(bool):
            root = linalg.sqrtm(np.linalg.inv(left_NxN[np.ix_(own, own)])).real
            pulls.append(influence_N[own] @ root @ left_NxN[own])
        covariance_CxC = np.array(pulls) @ noise_NxN @ np.array(pulls).T
        dof.append(np.trace(covariance_CxC) ** 2 / np.sum(covariance_CxC**2))
    return np.array(dof)


@pytest.mark.parametrize("effect", [0.0, 0.5, 3.0])
@pytest.mark.parametrize("counts", [[2, 2, 2, 2], [6, 1, 3, 4, 2, 5], [3] * 20])
def test_degrees_of_freedom_are_those_of_the_definition(counts: list[int], effect: float) -> None:
    given = clustered(counts, effect, seed=len(counts))
    np.testing.assert_allclose(robust_variance(*given).dof_P, by_definition(*given), rtol=1e-6)


def test_memory_grows_with_the_rows_not_with_the_square_of_the_clusters() -> None:
    given = clustered([2] * 3000, 1.0, seed=0)
    tracemalloc.start()
    found = robust_variance(*given)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 3000**2 * 8 / 2  # one matrix of clusters by clusters is twice that
    assert found.dof_P.min() > 0 and found.dof_P.max() < 6000
