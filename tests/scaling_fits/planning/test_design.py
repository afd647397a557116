"""Designs on a planted law: predicted errors against refits, chosen against random runs, what cannot be learned."""

import json
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from scaling_fits.estimation.estimators import Huber, LeastSquares
from scaling_fits.estimation.multistart import Search
from scaling_fits.estimation.problem import log_predictions
from scaling_fits.estimation.solver import minimise
from scaling_fits.fit import Fit, fit
from scaling_fits.laws.data_mix import COMMON_RATE
from scaling_fits.planning.design import best_fraction, constant, next_runs, predicted_error, prediction, runs_needed
from scaling_fits.uncertainty.bootstrap import Bootstrap

TRUTH = {"E": 0.08, "G": 0.1, "A": 2.2, "B": 6.0, "alpha": 0.3, "beta": 0.4, "kappa": 0.15, "R_D": 8.0}
NOISE = 0.01


def runs(sizes, budgets, fractions, pools) -> pd.DataFrame:
    rows = [
        (n, r * d, (1 - r) * d, pool if r > 0 else 0.0, 300.0 * n * d)
        for r in fractions
        for pool in (pools if r > 0 else (0.0,))
        for n in sizes
        for d in budgets
    ]
    return pd.DataFrame(rows, columns=["N", "R", "S", "U", "flops"])


def losses(rows: pd.DataFrame) -> np.ndarray:
    """M0, written out independently of `mixtures`."""
    n, real, synthetic, pool = (rows[letter].to_numpy() for letter in "NRSU")
    c, unique = TRUTH, np.where(pool > 0, pool, 1.0)
    repeats = np.maximum(real / unique - 1, 0)
    effective = np.minimum(real, unique) + unique * c["R_D"] * (1 - np.exp(-repeats / c["R_D"]))
    effective = np.where(real > 0, effective, 0) + c["kappa"] * synthetic
    return c["E"] + np.where(real > 0, 0, c["G"]) + c["A"] / n ** c["alpha"] + c["B"] / effective ** c["beta"]


def fitted(rows: pd.DataFrame, noise: float = NOISE, estimator=None, replicates: int = 12, **options) -> Fit:
    drawn = np.random.default_rng(0).normal(0, noise, len(rows))
    return fit(
        COMMON_RATE,
        rows.assign(loss=losses(rows) * np.exp(drawn)),
        columns={letter: letter for letter in "NRSU"},
        estimator=estimator or LeastSquares(),
        bootstrap=Bootstrap(replicates),
        profiles=False,
        search=Search(starts=64),
        **options,
    )


# With at most 12 more runs the solver's arrays keep their size, and its programs serve again.
DONE = runs((3e4, 1e5, 3e5, 1e6), (4e3, 1.6e4, 6.4e4), (0.0, 0.1, 0.5, 1.0), (150.0, 1487.0))
CANDIDATES = runs((3e4, 3e5, 3e6), (4e3, 6.4e4), (0.0, 0.1, 0.5, 1.0), (150.0, 1487.0))
BUDGET = 2e14


@pytest.fixture(scope="module")
def done() -> Fit:
    return fitted(DONE)


def errors_of_refits(of: Fit, rows: pd.DataFrame, quantities, trunk_sd: float = 0.0, trials: int = 400) -> np.ndarray:
    """Standard deviations of the quantities over refits of simulated data at the rows fitted and `rows`."""
    problem, references = of.observations.problem, of.observations.references
    values = {letter: np.concatenate([of.observations.values[letter], rows[letter]]) for letter in "NRSU"}
    ones = np.ones(len(values["N"]))
    x = of.law.prepare(values, references)
    theta_P = of.theta_KxP[0]
    log_y_N = log_predictions(of.law, theta_P[None], x)[0]
    trunk_N = np.concatenate([of.observations.cluster_N, 10**6 + rows.get("trunk_id", rows.index).to_numpy()])
    _, trunk_N = np.unique(trunk_N, return_inverse=True)
    rng = np.random.default_rng(1)
    drawn = NOISE * rng.normal(size=(trials, len(ones))) + trunk_sd * rng.normal(size=(trials, len(ones)))[:, trunk_N]
    whole = replace(problem, x=x, log_y_N=log_y_N, weight_N=ones, sd_N=ones)
    ends = minimise(whole, np.tile(theta_P, (trials, 1)), log_y_SxN=log_y_N + drawn).theta_SxP
    return np.array([quantity.evaluate(of, ends).std(ddof=1) for quantity in quantities])


QUANTITIES = (
    constant("alpha"),
    constant("kappa"),
    constant("R_D"),
    prediction(N=1e7, R=3.2e4, S=3.2e4, U=1487.0),
    best_fraction(n=1e5, records=6.4e4, pool=1487.0),
)


def test_predicted_errors_are_those_of_refits(done):
    design = next_runs(done, CANDIDATES.iloc[::4], constant("alpha"), budget=1e14, noise_sd=NOISE, repeats=1)
    chosen = pd.DataFrame(design.rows)
    assert design.after.at_fit < 0.9 * design.before.at_fit
    predicted = [predicted_error(done, chosen, quantity, noise_sd=NOISE) for quantity in QUANTITIES]
    refits = errors_of_refits(done, chosen, QUANTITIES)
    assert predicted == pytest.approx(refits, rel=0.2)


def test_shared_noise_of_trunks_is_counted(done):
    trunks = CANDIDATES.assign(trunk_id=CANDIDATES.groupby(["N", "U", "S"], sort=False).ngroup() // 2)
    chosen = trunks[trunks["trunk_id"] < 4].reset_index(drop=True).head(12)
    predicted = [predicted_error(done, chosen, q, noise_sd=NOISE, trunk_sd=2 * NOISE) for q in QUANTITIES]
    refits = errors_of_refits(done, chosen, QUANTITIES, trunk_sd=2 * NOISE)
    assert predicted == pytest.approx(refits, rel=0.2)
    design = next_runs(done, trunks, QUANTITIES[1], budget=BUDGET, trunk_sd=2 * NOISE, repeats=1)
    taken = pd.DataFrame(design.rows).groupby("trunk_id").size()
    assert (taken == trunks.groupby("trunk_id").size()[taken.index]).all()


@pytest.mark.parametrize("quantity", QUANTITIES[1::3] + QUANTITIES[3:4], ids=lambda quantity: quantity.name[:5])
def test_chosen_runs_beat_random_ones_at_equal_cost(done, quantity):
    design = next_runs(done, CANDIDATES, quantity, budget=BUDGET)
    assert design.flops <= BUDGET and design.after.at_fit < 0.9 * design.before.at_fit
    rng = np.random.default_rng(0)
    random = []
    for _ in range(20):
        order = CANDIDATES.loc[np.tile(CANDIDATES.index, 3)].sample(frac=1, random_state=int(rng.integers(1 << 31)))
        random.append(predicted_error(done, order[order["flops"].cumsum() <= BUDGET], quantity))
    after = predicted_error(done, pd.DataFrame(design.rows), quantity)
    assert after == pytest.approx(design.after.at_fit / 1.95996, rel=1e-4)
    assert after <= min(random) and after < 0.9 * np.median(random)
    json.dumps(design.to_dict(), allow_nan=False)


def test_d_optimal_runs_serve_all_constants(done):
    d = next_runs(done, CANDIDATES, constant("alpha"), budget=BUDGET, criterion="D")
    c = next_runs(done, CANDIDATES, constant("alpha"), budget=BUDGET)
    assert c.after.at_fit <= d.after.at_fit
    errors = {
        which: [predicted_error(done, pd.DataFrame(design.rows), constant(name)) for name in COMMON_RATE.names]
        for which, design in (("c", c), ("D", d))
    }
    assert np.log(errors["D"]).mean() < np.log(errors["c"]).mean()


def test_a_greedy_choice_is_close_to_the_best_of_all_subsets(done):
    few = CANDIDATES.iloc[::4].reset_index(drop=True)
    subsets = (np.arange(1 << len(few))[:, None] >> np.arange(len(few))) & 1
    afforded = subsets[(subsets @ few["flops"].to_numpy() <= 5e13) & (subsets.sum(axis=1) > 0)]
    at_fit = replace(done, draws=replace(done.draws, theta_RxP=done.draws.theta_RxP[:0], reason="left out"))
    design = next_runs(at_fit, few, QUANTITIES[1], budget=5e13, repeats=1)
    sample = afforded[np.random.default_rng(0).permutation(len(afforded))[:100]]
    best = min(predicted_error(at_fit, few[mask.astype(bool)], QUANTITIES[1]) for mask in sample)
    assert design.after.draws is None and design.after.at_fit / 1.95996 <= 1.01 * best


def test_how_many_runs_it_takes(done):
    need = runs_needed(done, CANDIDATES, constant("kappa"), relative=0.01)
    times = need.runs / len(CANDIDATES)
    copies = pd.concat([CANDIDATES] * int(np.ceil(times)))
    fewer = pd.concat([CANDIDATES] * int(np.floor(times)))
    half = 1.95996 * np.array([predicted_error(done, rows, constant("kappa")) for rows in (copies, fewer)]) / need.value
    assert half[0] <= 0.01 < half[1]
    assert need.flops == pytest.approx(times * CANDIDATES["flops"].sum()) and need.runs_80 >= need.runs * 0.5
    assert runs_needed(done, CANDIDATES, constant("kappa"), relative=0.9).runs == 0


def test_what_no_run_shows_is_not_identified_and_said():
    fresh = runs((3e4, 1e5, 3e5, 1e6), (4e3, 1.6e4, 6.4e4), (0.0, 0.1, 0.5, 1.0), (1e6, 2e6))
    never = fitted(fresh, replicates=0, fixed={"R_D": 5.0})
    unpinned = replace(never.observations, problem=replace(never.observations.problem, fixed=()))
    never = replace(never, observations=unpinned)
    more = runs((1e6,), (4e3, 6.4e4), (0.5, 1.0), (1e6,))
    assert np.isinf(predicted_error(never, None, constant("R_D")))
    design = next_runs(never, more, constant("R_D"), budget=1e15)
    assert np.isinf(design.after.at_fit) and "nor by what this budget buys" in design.notes[0]
    assert design.to_dict()["after"]["at_fit"] is None and "not identified" in str(design)
    need = runs_needed(never, more, constant("R_D"))
    assert need.runs is None and np.isinf(need.limit) and "not identified by this plan" in str(need)
    small = runs((1e6,), (6.4e4,), (0.5, 1.0), (150.0,))
    design = next_runs(never, small, constant("R_D"), budget=1e15)
    assert np.isfinite(design.after.at_fit) and "the chosen runs identify it" in design.notes[0]
    assert np.isfinite(predicted_error(never, None, constant("alpha")))


def test_a_quantity_at_an_edge_has_no_width(done):
    need = runs_needed(done, CANDIDATES, best_fraction(n=1e5, records=1e3, pool=1487.0))
    assert need.value == 1 and "at an edge" in need.notes[0]


@pytest.mark.long
def test_a_robust_estimator_needs_more_runs_under_normal_noise(done):
    robust = fitted(DONE, estimator=Huber(1e-3), replicates=0)
    ratio = predicted_error(robust, None, QUANTITIES[3]) / predicted_error(done, None, QUANTITIES[3])
    assert 1.05 < ratio < 1.6  # sqrt(pi / 2) for the median


def test_wrong_questions_are_refused(done):
    with pytest.raises(ValueError, match="missing columns \\['U', 'flops'\\]"):
        next_runs(done, CANDIDATES[["N", "R", "S"]], constant("alpha"), budget=BUDGET)
    with pytest.raises(ValueError, match="buy none of the candidates; the cheapest costs"):
        next_runs(done, CANDIDATES, constant("alpha"), budget=1.0)
    with pytest.raises(ValueError, match="has the constants"):
        runs_needed(done, CANDIDATES, constant("gamma"))
    with pytest.raises(ValueError, match="must be finite and not below 0"):
        runs_needed(done, CANDIDATES.assign(N=0.0), constant("alpha"))
    with pytest.raises(ValueError, match="noise_sd must be finite and above 0"):
        predicted_error(done, None, constant("alpha"), noise_sd=-1.0)
