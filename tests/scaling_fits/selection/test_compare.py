"""Choosing between laws: F tests against hand-made ones, boundaries, dependent rows, criteria, the table."""

import json
import math

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from scaling_fits.estimation.columns import Columns
from scaling_fits.estimation.estimators import Huber, LeastSquares, Residual, StudentT
from scaling_fits.estimation.multistart import Search
from scaling_fits.fit import fit
from scaling_fits.laws.data_mix import COMMON_RATE, FLOOR_OF_MIX, RATE_OF_SIZE, SATURATING
from scaling_fits.laws.size_and_data import CHINCHILLA, COUPLED, KAPLAN, TIED, broken_power_law, power_law
from scaling_fits.selection.compare import compare, information_criteria
from scaling_fits.selection.nested import nested_test, restriction
from scaling_fits.uncertainty.bootstrap import Bootstrap

LINE, FLOORED = power_law("N", with_floor=False), power_law("N")
QUICK = {"search": Search(starts=16), "profiles": False, "bootstrap": Bootstrap(0)}


def runs(floor: float, noise: float = 0.02, seed: int = 0, shared: float = 0.0) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    sizes = np.repeat(np.geomspace(1e4, 3e6, 12), 4)
    trunk = np.repeat(np.arange(12), 4)
    frame = pd.DataFrame({"n_params": sizes, "trunk_id": [f"t{k:02d}" for k in trunk]})
    wobble = rng.normal(0, noise, len(frame)) + shared * rng.normal(size=12)[trunk]
    return frame.assign(loss=(floor + 40 / sizes**0.5) * np.exp(wobble))


def pair(frame, estimator, *, clustered=False):
    rows = frame if clustered else frame.drop(columns="trunk_id")
    return [fit(law, rows, estimator=estimator, **QUICK) for law in (LINE, FLOORED)]


def test_the_nesting_of_the_laws_is_read_from_their_declarations():
    assert restriction(TIED, CHINCHILLA).names == ("beta",)
    assert restriction(TIED, CHINCHILLA).edge == ()
    assert restriction(CHINCHILLA, COUPLED).values == (1.0,)
    assert set(restriction(TIED, COUPLED).names) == {"g", "beta"} and restriction(TIED, COUPLED).lost == ()
    assert restriction(LINE, FLOORED).half
    bend = restriction(power_law("D"), broken_power_law("D"))
    assert (bend.names, bend.lost) == (("d", "f", "c_1"), ("d", "f"))
    assert restriction(COMMON_RATE, RATE_OF_SIZE).edge == ()
    for law, name in ((SATURATING, "T"), (FLOOR_OF_MIX, "phi")):
        beyond = restriction(COMMON_RATE, law)
        assert beyond.edge == (name,) and math.isinf(beyond.values[0]) and not beyond.half
    with pytest.raises(ValueError, match="kaplan is not a special case of coupled"):
        restriction(KAPLAN, COUPLED)


def test_for_least_squares_the_test_is_the_f_test_halved_at_the_boundary():
    small, large = pair(runs(0.02), LeastSquares())
    test = nested_test(small, large, replicates=0)
    residual_sums = [float((law.residuals**2).sum()) for law in (small, large)]
    f = (residual_sums[0] - residual_sums[1]) / (residual_sums[1] / 45)
    assert (test.df, test.df_residual) == (1, 45)
    assert test.statistic == pytest.approx(f, rel=1e-6)
    assert test.p_value == pytest.approx(stats.f.sf(f, 1, 45) / 2, rel=1e-5)
    assert "boundary" in test.reference and "half" in test.reference


@pytest.mark.parametrize("estimator", [LeastSquares(), Huber(1e-2)])
def test_a_needed_floor_is_found_and_a_needless_one_is_not(estimator):
    assert nested_test(*pair(runs(0.1), estimator), replicates=0).p < 1e-3
    needless = [nested_test(*pair(runs(0.0, seed=seed), estimator), replicates=0) for seed in range(8)]
    assert sum(test.p <= 0.05 for test in needless) <= 2
    assert all(0 <= test.statistic < 12 for test in needless)


def test_rows_that_depend_on_each_other_are_tested_by_cluster():
    frame = runs(0.02, noise=0.002, shared=0.08)
    naive = nested_test(*pair(frame, LeastSquares()), replicates=0)
    robust = nested_test(*pair(frame, LeastSquares(), clustered=True), replicates=199)
    assert robust.p_value is None and robust.clusters == 12 and robust.replicates == 199
    assert robust.statistic == pytest.approx(naive.statistic, rel=1e-9)
    assert robust.p > 2 * naive.p
    needed = nested_test(*pair(runs(0.3, shared=0.02), LeastSquares(), clustered=True), replicates=199)
    assert needed.p < 0.02
    again = nested_test(*pair(frame, LeastSquares(), clustered=True), replicates=199)
    assert again == robust


def test_fits_of_other_rows_or_estimators_are_not_compared():
    small, large = pair(runs(0.1), LeastSquares())
    with pytest.raises(ValueError, match="different rows"):
        nested_test(pair(runs(0.1, seed=1), LeastSquares())[0], large)
    with pytest.raises(ValueError, match="one estimator"):
        nested_test(pair(runs(0.1), Huber(1e-2))[0], large)
    with pytest.raises(ValueError, match="not a special case"):
        nested_test(large, small)


def test_criteria_follow_their_likelihood_and_are_refused_without_one():
    rows = runs(0.1).drop(columns="trunk_id")
    law = fit(FLOORED, rows, estimator=LeastSquares(), **QUICK)
    found = information_criteria(law)
    sigma = np.sqrt(np.mean(law.residuals**2))
    log_likelihood = stats.norm.logpdf(law.residuals, scale=sigma).sum()
    assert found.log_likelihood == pytest.approx(log_likelihood, rel=1e-9)
    assert found.aicc == pytest.approx(-2 * log_likelihood + 2 * 4 + 2 * 4 * 5 / (48 - 5), rel=1e-9)
    assert found.bic == pytest.approx(-2 * log_likelihood + 4 * np.log(48), rel=1e-9)
    heavy = fit(FLOORED, rows, estimator=StudentT(4.0), **QUICK)
    scale = float(np.exp(heavy.theta_KxP[0, -1]))
    log_t = stats.t.logpdf(heavy.residuals / scale, 4).sum() - 48 * np.log(scale)
    assert information_criteria(heavy).log_likelihood == pytest.approx(log_t, rel=1e-9)
    assert information_criteria(heavy).constants == 4
    raw = fit(FLOORED, runs(0.1), estimator=LeastSquares(Residual.RAW), **QUICK)
    assert information_criteria(raw).likelihood.startswith("Normal of loss")
    with pytest.raises(ValueError, match="no likelihood"):
        information_criteria(fit(FLOORED, rows, estimator=Huber(1e-2), **QUICK))
    weighted = fit(FLOORED, runs(0.1).assign(w=2.0), estimator=LeastSquares(), columns=Columns(weight="w"), **QUICK)
    with pytest.raises(ValueError, match="weighted rows"):
        information_criteria(weighted)


def test_the_table_sets_the_held_out_score_beside_the_fit_and_names_failures():
    quick = {"estimator": LeastSquares(), "search": Search(starts=16)}
    whole = compare([LINE, FLOORED, CHINCHILLA], runs(0.1), replicates=99, bootstrap=Bootstrap(0), **quick)
    frame = whole.frame().set_index("law")
    assert frame["held_out_rmse_log"][FLOORED.name] < frame["held_out_rmse_log"][LINE.name]
    assert frame["aicc"][FLOORED.name] < frame["aicc"][LINE.name]
    assert frame["constants"][FLOORED.name] == 3
    assert "records_seen" in frame["reason"][CHINCHILLA.name] and math.isnan(frame["aicc"][CHINCHILLA.name])
    assert whole.backtest.folds == (f"n_params <= {np.geomspace(1e4, 3e6, 12)[-2]:g}",)
    assert [(test.small, test.large) for test in whole.tests] == [(LINE.name, FLOORED.name)]
    written = json.loads(whole.to_json())
    assert written["laws"][1]["objective"] == whole.entries[1].objective
    assert "records_seen" in str(whole) and "F(1, 45)" in str(whole) and "None" not in str(whole)
    assert (
        str(compare([LINE], runs(0.1), bootstrap=Bootstrap(0), search=Search(starts=16))).count("line_N: sum of Huber")
        == 1
    )


@pytest.mark.long
@pytest.mark.parametrize(("clustered", "least", "most"), [(False, 1, 15), (True, 1, 18)])
def test_under_the_null_the_test_rejects_as_often_as_it_says(clustered, least, most):
    shared = 0.02 if clustered else 0.0
    rejected = 0
    for seed in range(120):
        laws = pair(runs(0.0, seed=seed, shared=shared), LeastSquares(), clustered=clustered)
        rejected += nested_test(*laws, replicates=99 if clustered else 0).p <= 0.05
    # 6 expected; 99.9 % binomial limits, and some room for 12 clusters, where the wild bootstrap is a little liberal.
    assert least <= rejected <= most


@pytest.mark.long
def test_a_coupled_law_is_preferred_on_farseers_runs(scaling_data_dir):
    rows = pd.read_csv(scaling_data_dir / "scalebench" / "farseer_scaling_law_train.csv")
    options = {
        "columns": {"N": "N", "D": "D"},
        "estimator": Huber(1e-3),
        "search": Search(starts=48),
        "bootstrap": Bootstrap(0),
    }
    whole = compare([TIED, CHINCHILLA, COUPLED], rows, replicates=0, **options)
    scores = whole.frame().set_index("law")["held_out_rmse_log"]
    assert scores[COUPLED.name] < scores[CHINCHILLA.name]
    tests = {(test.small, test.large): test.p for test in whole.tests}
    assert tests[CHINCHILLA.name, COUPLED.name] < 1e-6
    assert all(entry.criteria is None and "no likelihood" in entry.criteria_reason for entry in whole.entries)
