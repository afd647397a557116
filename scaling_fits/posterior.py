"""Posterior of a law's constants: NUTS (Hoffman & Gelman 2014) from NumPyro, started at the certified optimum.

The likelihood is that of the fit's own residuals, Normal or Student-t, with its scale unknown; the prior is flat in
working coordinates (ln of positive constants, exponents as they are) within the law's bounds. Rows count as
independent: with clusters in the data the bootstrap is the interval to quote, and this one is too narrow.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import jax
import jax.numpy as jnp
import numpy as np

from scaling_fits.estimation.estimators import StudentT
from scaling_fits.estimation.problem import derivatives, float64, log_predictions, objective_function
from scaling_fits.estimation.solver import minimise
from scaling_fits.fit import Fit
from scaling_fits.uncertainty.bootstrap import published

try:
    from numpyro.diagnostics import effective_sample_size, split_gelman_rubin
    from numpyro.infer import MCMC, NUTS
except ModuleNotFoundError as error:
    message = "numpyro is not installed: pip install 'ecg-jax[posterior]'"
    raise ModuleNotFoundError(message, name=error.name) from error

R_HAT_MAX = 1.05
#: A t with so many degrees of freedom is a Normal for every purpose here.
NORMAL_NU = 1e6


@dataclass(frozen=True)
class Posterior:
    """Draws (S, P) of the published constants and of the working coordinates, with the sampler's own evidence.

    `r_hat` (split, largest over coordinates) and `effective` (least effective sample size) say whether to believe it;
    `divergences` counts trajectories that the sampler lost.
    """

    names: tuple[str, ...]
    constants_SxP: np.ndarray
    theta_SxP: np.ndarray
    nu: float
    r_hat: float
    effective: float
    divergences: int

    @property
    def converged(self) -> bool:
        """Chains agree and no trajectory diverged."""
        return self.r_hat < R_HAT_MAX and self.divergences == 0

    def intervals(self, level: float = 0.95) -> dict[str, tuple[float, float]]:
        """Central intervals of the constants."""
        tail = (1 - level) / 2
        low, high = np.quantile(self.constants_SxP, [tail, 1 - tail], axis=0)
        return {name: (float(a), float(b)) for name, a, b in zip(self.names, low, high)}

    def standard_deviations(self) -> dict[str, float]:
        """Posterior standard deviations of the constants."""
        return {name: float(value) for name, value in zip(self.names, self.constants_SxP.std(axis=0, ddof=1))}

    def __str__(self) -> str:
        head = f"NUTS, {len(self.constants_SxP)} draws, R-hat {self.r_hat:.3f}, effective {self.effective:.0f}, "
        lines = [head + f"{self.divergences} divergences{'' if self.converged else ': NOT to be trusted'}"]
        return "\n".join(lines + [f"  {name:<7} {a:.4g} to {b:.4g}" for name, (a, b) in self.intervals().items()])


def sample_posterior(
    fitted: Fit, *, nu: float = 4.0, draws: int = 1000, warmup: int = 500, chains: int = 2, seed: int = 0
) -> Posterior:
    """Posterior of `fitted` under Student-t(`nu`) residuals (nu = inf: Normal); `draws` per chain.

    Starts at the maximum of that likelihood, reached from the fit's own optima, in coordinates whitened by its Hessian.
    Raises ValueError where the Hessian there is not positive definite: some constant is not identified, and only the
    prior's bounds would end its posterior.
    """
    residual = fitted.estimator.residual
    estimator = StudentT(min(nu, NORMAL_NU), residual)
    problem = replace(fitted.observations.problem, estimator=estimator)
    spread = np.log(max(fitted.residual_log_sd, 1e-12))
    starts = fitted.theta_KxP[:, : len(fitted.law.parameters)]
    ends = minimise(problem, np.column_stack([starts, np.full(len(starts), spread)])).best_of(len(starts))
    centre = ends.theta_SxP[0]
    low, high = problem.bounds
    free = np.flatnonzero(low < high)
    hessian = derivatives(problem, centre)[1][np.ix_(free, free)]
    values, vectors = np.linalg.eigh(hessian)
    on_bound = (centre <= low) | (centre >= high)
    if values[0] <= 1e-9 * values[-1] or on_bound[free].any():
        raise ValueError(
            f"{fitted.law.name}: no posterior: the least curvature at the maximum is {values[0]:.1e} of "
            f"{values[-1]:.1e}, so some constant is not identified; see the profile intervals"
        )
    whitener = vectors / np.sqrt(values)
    with float64():
        objective = objective_function(problem)
        middle, shape, bounds = jnp.asarray(centre), jnp.asarray(whitener), (jnp.asarray(low), jnp.asarray(high))

        def potential(z: jax.Array) -> jax.Array:
            theta = middle.at[free].add(shape @ z)
            inside = ((theta >= bounds[0]) & (theta <= bounds[1])).all()
            return jnp.where(inside, objective(theta), jnp.inf)

        sampler = MCMC(
            NUTS(potential_fn=potential, dense_mass=True),
            num_warmup=warmup,
            num_samples=draws,
            num_chains=chains,
            chain_method="vectorized",
            progress_bar=False,
        )
        key = jax.random.key(seed)
        first = 0.1 * jax.random.normal(key, (chains, len(free)), jnp.float64)
        sampler.run(key, init_params=first if chains > 1 else first[0], extra_fields=("diverging",))
        z = np.asarray(sampler.get_samples(group_by_chain=True)).reshape(chains, draws, -1)
        divergences = int(np.asarray(sampler.get_extra_fields()["diverging"]).sum())
    theta = np.tile(centre, (chains * draws, 1))
    theta[:, free] += z.reshape(chains * draws, -1) @ whitener.T
    return Posterior(
        names=fitted.law.names,
        constants_SxP=published(fitted.observations, theta),
        theta_SxP=theta,
        nu=nu,
        r_hat=float(np.max(split_gelman_rubin(z))),
        effective=float(np.min(effective_sample_size(z))),
        divergences=divergences,
    )


def posterior_predict(fitted: Fit, posterior: Posterior, **variables: object) -> np.ndarray:
    """(draws, *shape): the response at the given variables under every posterior draw."""
    shape, x = fitted.prepared(variables)
    return fitted.response(log_predictions(fitted.law, posterior.theta_SxP, x)).reshape(-1, *shape)
