"""Coverage by simulation: profile intervals hold the truth as often as they say, for every form."""

from dataclasses import replace

import numpy as np
import pytest
from planted_laws import LAWS, Planted
from scipy import stats

from scaling_fits.estimators import Huber, LeastSquares, StudentT
from scaling_fits.observations import observe
from scaling_fits.problem import Problem
from scaling_fits.profile import threshold
from scaling_fits.solver import minimise


def covered(law: Planted, estimator, data_sets: int) -> np.ndarray:
    """(data sets, P): whether the 95 % profile interval of each constant holds its true value.

    It does exactly when holding the constant at the truth raises the objective by no more than the threshold.
    """
    form = law.form
    data = observe(form, law.table(), estimator, columns=law.columns)
    # In the units of the columns a working coordinate is a published constant, so that the truth can be held.
    zero = dict.fromkeys(data.references, 0.0)
    box = tuple(np.where([bool(p.units) for p in form.parameters], end, b) for end, b in zip((-1e4, 1e4), form.bounds))
    problem = replace(data.problem, x=form.prepare(data.values, zero), log_unit=0.0, box=box)
    truth = form.working(np.array([[law.constants[name] for name in form.names]]), zero)[0]
    if estimator.estimates_scale:
        truth = np.append(truth, np.log(law.noise))
    exact = data.problem.log_y_N + data.references["L"]
    noisy = exact + np.random.default_rng(5).normal(0, law.noise, (data_sets, len(exact)))
    start = np.tile(truth, (data_sets, 1))
    best = minimise(problem, start, log_y_SxN=noisy)
    limit = np.array([threshold(_seeing(problem, y), theta) for y, theta in zip(noisy, best.theta_SxP)])
    inside = []
    for p in range(len(form.parameters)):
        low, high = (bound.copy() for bound in problem.bounds)
        low[p] = high[p] = truth[p]
        from_best = best.theta_SxP.copy()
        held = minimise(problem, from_best, lower=low, upper=high, log_y_SxN=noisy).objective_S
        # A second start can only bring more inside.
        out = np.flatnonzero(held - best.objective_S > limit)
        if len(out):
            again = minimise(problem, start[out], lower=low, upper=high, log_y_SxN=noisy[out]).objective_S
            held[out] = np.minimum(held[out], again)
        inside.append(held - best.objective_S <= limit)
    return np.stack(inside, axis=1)


def _seeing(problem: Problem, log_y_N: np.ndarray) -> Problem:
    return replace(problem, log_y_N=log_y_N)


def within_binomial(share: np.ndarray, data_sets: int, low: float = 0.90, high: float = 0.98) -> np.ndarray:
    """Whether shares lie in [low, high], give or take what `data_sets` simulations cannot tell (99.9 %)."""
    slack = stats.norm.ppf(0.9995) * np.sqrt(0.95 * 0.05 / data_sets)
    return (share >= low - slack) & (share <= max(high, 0.95 + slack))


@pytest.mark.parametrize("estimator", [LeastSquares(), Huber(0.01), StudentT()], ids=lambda e: type(e).__name__)
def test_profile_intervals_of_chinchilla_cover(estimator):
    law = next(law for law in LAWS if law.form.name == "chinchilla")
    share = covered(law, estimator, 200).mean(axis=0)
    assert within_binomial(share, 200).all(), dict(zip(law.form.names, share))


@pytest.mark.long
@pytest.mark.parametrize("law", LAWS, ids=lambda law: law.form.name)
def test_profile_intervals_cover_for_every_form(law: Planted):
    share = covered(law, LeastSquares(), 400).mean(axis=0)
    assert within_binomial(share, 400).all(), dict(zip(law.form.names, share.round(3)))
