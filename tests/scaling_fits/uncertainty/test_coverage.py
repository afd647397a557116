"""Coverage by simulation: profile intervals hold the truth as often as they say, for every law."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from support.planted_laws import LAWS, Planted

from benchmarks.fits.coverage_studies import Cell, bootstraps, law_table, profiles
from scaling_fits.estimation.columns import Columns
from scaling_fits.estimation.estimators import Huber, LeastSquares, StudentT
from scaling_fits.estimation.observations import observe
from scaling_fits.estimation.problem import Problem
from scaling_fits.estimation.solver import minimise
from scaling_fits.fit import fit
from scaling_fits.laws.size_and_data import CHINCHILLA
from scaling_fits.uncertainty.bootstrap import Bootstrap, cluster_noise
from scaling_fits.uncertainty.profile_likelihood import thresholds


def covered(planted: Planted, estimator, data_sets: int) -> np.ndarray:
    """(data sets, P): whether the 95 % profile interval of each constant holds its true value.

    It does exactly when holding the constant at the truth raises the objective by no more than the threshold.
    """
    law = planted.law
    data = observe(law, planted.table(), estimator, columns=planted.columns)
    # In the units of the columns a working coordinate is a published constant, so that the truth can be held.
    zero = dict.fromkeys(data.references, 0.0)
    box = tuple(np.where([bool(p.units) for p in law.parameters], end, b) for end, b in zip((-1e4, 1e4), law.bounds))
    problem = replace(data.problem, x=law.prepare(data.values, zero), log_unit=0.0, box=box)
    truth = law.working(np.array([[planted.constants[name] for name in law.names]]), zero)[0]
    if estimator.estimates_scale:
        truth = np.append(truth, np.log(planted.noise))
    exact = data.problem.log_y_N + data.references["L"]
    noisy = exact + np.random.default_rng(5).normal(0, planted.noise, (data_sets, len(exact)))
    start = np.tile(truth, (data_sets, 1))
    best = minimise(problem, start, log_y_SxN=noisy)
    limit = np.array(
        [thresholds(_seeing(problem, y), theta, np.arange(len(y)))[0] for y, theta in zip(noisy, best.theta_SxP)]
    )
    inside = []
    for p in range(len(law.parameters)):
        low, high = (bound.copy() for bound in problem.bounds)
        low[p] = high[p] = truth[p]
        from_best = best.theta_SxP.copy()
        held = minimise(problem, from_best, box=(low, high), log_y_SxN=noisy).objective_S
        # A second start can only bring more inside.
        out = np.flatnonzero(held - best.objective_S > limit)
        if len(out):
            again = minimise(problem, start[out], box=(low, high), log_y_SxN=noisy[out]).objective_S
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
    planted = next(one for one in LAWS if one.law.name == "chinchilla")
    share = covered(planted, estimator, 200).mean(axis=0)
    assert within_binomial(share, 200).all(), dict(zip(planted.law.names, share))


@pytest.mark.parametrize("estimator", [LeastSquares(), Huber(0.001)], ids=lambda e: type(e).__name__)
@pytest.mark.parametrize("cell", [Cell(4, 0.9), Cell(8, 0.0), Cell(8, 0.9)], ids=str)
def test_profile_intervals_cover_where_rows_share_trunks(cell, estimator):
    share = {tally.quantity: tally.held / tally.studies for tally in profiles(cell, estimator, 200, seed=2)}
    # Thresholds of independent rows hold A and alpha of 8 trunks in 53 %, and B and beta in 100 %.
    assert within_binomial(np.array(list(share.values())), 200, low=0.92).all(), share


@pytest.mark.parametrize("cell", [Cell(8, 0.0), Cell(8, 0.9)], ids=str)
def test_bootstrap_intervals_cover_where_rows_share_trunks(cell):
    tallies = list(bootstraps(cell, LeastSquares(), 100, 100, seed=3))
    assert all(tally.printed == 100 for tally in tallies)
    share = {tally.quantity: tally.held / tally.printed for tally in tallies}
    assert within_binomial(np.array(list(share.values())), 100, low=0.92).all(), share  # pairs: B and beta in 88 %


def _clustered(trunks: int) -> pd.DataFrame:
    cell = Cell(trunks, 0.9)
    table = law_table(cell)
    return table.assign(loss=table["loss"] * np.exp(cell.noise(1, np.random.default_rng(4))[0].ravel()))


def test_rows_of_three_trunks_support_no_interval_and_the_output_says_why():
    law = fit(CHINCHILLA, _clustered(3), estimator=LeastSquares())
    assert law.profiles == () and law.intervals is None
    reason = "no profile intervals: 18 rows depend on each other within 3 clusters"
    assert reason in str(law) and reason in law.to_latex() and "---" in law.to_latex() and "open" not in law.to_latex()
    assert any(note.startswith(reason) for note in law.to_dict()["interval_notes"])
    with pytest.raises(ValueError, match="no profile intervals"):
        law.profile("alpha")


def test_the_intervals_of_a_law_follow_its_clusters_alone():
    clustered = _clustered(8)
    within = fit(CHINCHILLA, clustered, estimator=LeastSquares(), bootstrap=Bootstrap(50))
    alone = fit(
        CHINCHILLA, clustered, estimator=LeastSquares(), columns=Columns(cluster="run_id"), bootstrap=Bootstrap(50)
    )
    assert within.parameters == alone.parameters
    width = [{i.name: np.log(i.high / i.low) for i in law.profiles} for law in (within, alone)]
    assert width[0]["alpha"] > 2 * width[1]["alpha"]  # told by the spread between trunks
    assert width[0]["beta"] < width[1]["beta"]  # told within every trunk
    assert "random effects" in within.draws.sentence and "pairs" in alone.draws.sentence
    assert "profile intervals allow for 8 clusters of 48 rows" in str(within)


def test_the_noise_between_and_within_trunks_is_told_apart():
    law = fit(CHINCHILLA, _clustered(16), estimator=LeastSquares(), bootstrap=Bootstrap(0), profiles=False)
    within, between = cluster_noise(law.observations, law.theta_KxP[0]).sds
    assert within == pytest.approx(0.0104 * 0.1**0.5, rel=0.2) and between == pytest.approx(0.0104 * 0.9**0.5, rel=0.5)


@pytest.mark.long
@pytest.mark.parametrize("planted", LAWS, ids=lambda planted: planted.law.name)
def test_profile_intervals_cover_for_every_law(planted: Planted):
    share = covered(planted, LeastSquares(), 400).mean(axis=0)
    assert within_binomial(share, 400).all(), dict(zip(planted.law.names, share.round(3)))
