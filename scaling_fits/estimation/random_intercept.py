"""Slope of a linear mixed model: one random intercept per cluster, by restricted maximum likelihood (REML).

y = X b + u[cluster] + e, u ~ N(0, tau^2), e ~ N(0, sigma^2), X = (ln N, one intercept per group). Given the ratio
lambda = tau^2 / sigma^2 all else is closed form, so REML (Patterson & Thompson 1971, Biometrika 58:545) is profiled to
one dimension as in Bates et al. 2015 (J. Stat. Softw. 67(1), section 3).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import optimize, stats

RATIO_MIN, RATIO_MAX = 1e-6, 1e6  # of tau^2 / sigma^2 where the search looks, besides exactly 0
SIGNED_MIN = 1e-4  # of the mean square between clusters over that within, where clusters may be less alike than chance
GRID = 49
NO_NOISE = 1e-20  # residual over total sum of squares below which rounding is all that is left


@dataclass(frozen=True)
class MixedSlope:
    """Slope per unit of ln N with its REML standard error, t interval and the two standard deviations of ln response.

    `cluster_sd` is tau and `residual_sd` is sigma; with one row per cluster they cannot be told apart: `cluster_sd` is
    None and `residual_sd` holds both. `dof` is Satterthwaite's. `interval` and `p_value` are None when it is below 1.
    """

    estimate: float
    standard_error: float
    dof: float
    level: float
    interval: tuple[float, float] | None
    p_value: float | None
    cluster_sd: float | None
    residual_sd: float
    clusters: int

    def __str__(self) -> str:
        if self.interval is None:
            return f"mixed model {self.estimate:+.4f}, no interval ({self.dof:.2g} degrees of freedom)"
        spread = (
            f"interval {self.interval[0]:+.4f} to {self.interval[1]:+.4f}, p {self.p_value:.3g}, {self.dof:.3g} d.f."
        )
        between = "" if self.cluster_sd is None else f"trunk s.d. {self.cluster_sd:.4f}, "
        return f"mixed model {self.estimate:+.4f}, {spread}, {between}residual s.d. {self.residual_sd:.4f}"


def mixed_slope(
    log_n_R: np.ndarray, y_R: np.ndarray, groups_R: np.ndarray, clusters_R: np.ndarray, *, level: float = 0.95
) -> MixedSlope | None:
    """REML slope of y (R,) on ln N (R,), one fixed intercept per group and one random one per cluster.

    Degrees of freedom: Satterthwaite with the expected information of both variances (Giesbrecht & Burns 1985,
    Biometrics 41:477; Fai & Cornelius 1996). tau^2 may be estimated below 0, reported as 0: cut off there, intervals of
    95 % covered 100 % with 4 clusters and no spread between them. In a balanced design with one size per cluster the
    degrees are clusters - 2, the exact between-cluster test.
    With few, unequal clusters it is an approximation (no Kenward-Roger inflation of the standard error). None when the
    design cannot give a slope and a variance: ln N constant within every group, or no row left over.
    """
    group_levels, group_index = np.unique(groups_R, return_inverse=True)
    cluster_levels, cluster_index = np.unique(clusters_R, return_inverse=True)
    X_RxP = np.column_stack([log_n_R - np.mean(log_n_R), group_index[:, None] == np.arange(len(group_levels))])
    rows, columns = X_RxP.shape
    if rows <= columns or np.linalg.matrix_rank(X_RxP) < columns:
        return None
    Z_RxC = (cluster_index[:, None] == np.arange(len(cluster_levels))).astype(float)
    ols_P = np.linalg.lstsq(X_RxP, y_R, rcond=None)[0]
    residual_R = y_R - X_RxP @ ols_P
    total = float(np.sum((y_R - y_R.mean()) ** 2))
    scale = float(np.sqrt(residual_R @ residual_R / (rows - columns)))
    if residual_R @ residual_R <= NO_NOISE * max(total, float(y_R @ y_R)):
        scale = 0.0
    single = len(cluster_levels) == rows
    # Fitting the scaled residuals of least squares leaves the same variances and avoids cancellation.
    ratio = 0.0 if single or scale == 0 else reml_ratio(X_RxP, residual_R / scale, Z_RxC, signed=True)
    inverse_RxR = np.eye(rows) - (Z_RxC * (ratio / (1 + ratio * Z_RxC.sum(axis=0)))) @ Z_RxC.T
    covariance_PxP = np.linalg.inv(X_RxP.T @ inverse_RxR @ X_RxP)
    shift_P = covariance_PxP @ X_RxP.T @ inverse_RxR @ residual_R
    left_R = residual_R - X_RxP @ shift_P
    variance = float(left_R @ inverse_RxR @ left_R) / (rows - columns) if scale else 0.0
    dof = float(rows - columns) if single else _satterthwaite(X_RxP, Z_RxC, inverse_RxR, covariance_PxP, ratio)
    estimate = float(ols_P[0] + shift_P[0])
    error = float(np.sqrt(variance * covariance_PxP[0, 0]))
    interval, p_value = None, None
    if dof >= 1 - 1e-9:
        half = float(stats.t.ppf((1 + level) / 2, dof)) * error
        interval = (estimate - half, estimate + half)
        p_value = float(2 * stats.t.sf(abs(estimate) / error, dof)) if error > 0 else float(estimate == 0)
    cluster_sd = None if single else float(np.sqrt(max(ratio, 0.0) * variance))
    residual_sd, clusters = float(np.sqrt(variance)), len(cluster_levels)
    return MixedSlope(estimate, error, dof, level, interval, p_value, cluster_sd, residual_sd, clusters)


def reml_ratio(X_RxP: np.ndarray, y_R: np.ndarray, Z_RxC: np.ndarray, *, signed: bool = False) -> float:
    """The ratio tau^2 / sigma^2 at the minimum of the profiled REML criterion, 0 included.

    With `signed` it may be negative (rows of a cluster less alike than chance has it), down to -1 / (rows of the
    largest cluster), where the covariance would be singular.
    """
    data_RxQ = np.column_stack([X_RxP, y_R])
    products_QxQ, sums_CxQ, counts_C = data_RxQ.T @ data_RxQ, Z_RxC.T @ data_RxQ, Z_RxC.sum(axis=0)
    free = len(y_R) - X_RxP.shape[1]
    least = -1 / counts_C.max() if signed else 0.0

    def criterion(ratios_G: np.ndarray) -> np.ndarray:
        inflation_GxC = 1 + np.multiply.outer(ratios_G, counts_C)
        shrink_GxC = ratios_G[:, None] / inflation_GxC
        moments_GxQxQ = products_QxQ - np.einsum("gc,cq,cr->gqr", shrink_GxC, sums_CxQ, sums_CxQ, optimize=True)
        # ln |X'V^-1 X| + ln RSS is the log determinant of the moments of (X, y).
        log_fixed_G = np.linalg.slogdet(moments_GxQxQ[:, :-1, :-1])[1]
        log_rss_G = np.linalg.slogdet(moments_GxQxQ)[1] - log_fixed_G
        return free * log_rss_G + np.log(inflation_GxC).sum(axis=1) + log_fixed_G

    grid_G = np.linspace(np.log(RATIO_MIN if not signed else SIGNED_MIN / counts_C.max()), np.log(RATIO_MAX), GRID)
    best = int(np.argmin(criterion(least + np.exp(grid_G))))
    bracket = grid_G[max(best - 1, 0)], grid_G[min(best + 1, GRID - 1)]
    found = optimize.minimize_scalar(
        lambda log_above: float(criterion(np.array([least + np.exp(log_above)]))[0]), bounds=bracket, method="bounded"
    )
    candidates = np.array([0.0, least + np.exp(grid_G[best]), least + np.exp(found.x)])
    return float(candidates[np.argmin(criterion(candidates))])


def reml_information(X_RxP: np.ndarray, Z_RxC: np.ndarray, ratio: float) -> tuple[np.ndarray, np.ndarray]:
    """Projection P (R, R) and expected REML information (2, 2) of (sigma^2, tau^2), in units of sigma^2 = 1."""
    inverse_RxR = np.eye(len(X_RxP)) - (Z_RxC * (ratio / (1 + ratio * Z_RxC.sum(axis=0)))) @ Z_RxC.T
    weighted_RxP = inverse_RxR @ X_RxP
    projection_RxR = inverse_RxR - weighted_RxP @ np.linalg.solve(X_RxP.T @ weighted_RxP, weighted_RxP.T)
    between_RxC = projection_RxR @ Z_RxC
    cross, corner = np.sum(between_RxC**2), np.sum((Z_RxC.T @ between_RxC) ** 2)
    return projection_RxR, 0.5 * np.array([[np.sum(projection_RxR**2), cross], [cross, corner]])


def _satterthwaite(
    X_RxP: np.ndarray, Z_RxC: np.ndarray, inverse_RxR: np.ndarray, covariance_PxP: np.ndarray, ratio: float
) -> float:
    """2 f^2 / (g' I^-1 g) in units sigma^2 = 1: f the slope's variance, g its gradient, I the REML information."""
    weights_R = inverse_RxR @ X_RxP @ covariance_PxP[:, 0]
    units = np.array([1.0, 1 + ratio])  # of the two variances, in which the information stays well conditioned
    information = reml_information(X_RxP, Z_RxC, ratio)[1] * np.outer(units, units)
    gradient = units * np.array([weights_R @ weights_R, np.sum((Z_RxC.T @ weights_R) ** 2)])
    return float(2 * covariance_PxP[0, 0] ** 2 / (gradient @ np.linalg.solve(information, gradient)))
