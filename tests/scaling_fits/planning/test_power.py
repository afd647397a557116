"""Power by simulation: the estimator is the one of the analysis, and known cases come out as theory says."""

import json
import math

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from scaling_fits.__main__ import main
from scaling_fits.contrasts.contrasts import slope_in_size
from scaling_fits.planning.power import (
    Noise,
    Plan,
    Power,
    SeedsNeeded,
    detectable_slope,
    noise_from_pilot,
    power_of,
    seeds_needed,
    simulate_differences,
)

SIZES, BUDGETS = (3e4, 1e5, 3e5), (4e3, 1e4, 2.5e4)
PLAN, NOISE = Plan(SIZES, BUDGETS, 3), Noise(0.014, 0.007)


def test_simulated_studies_are_analysed_by_the_estimator_of_the_analysis():
    plan = Plan(SIZES, BUDGETS, 2, pool_shuffles=2, shared_reference=True)
    y_MxR = simulate_differences(plan, NOISE, -0.04, np.random.default_rng(0), 50)
    slopes = [slope_in_size("P1", "", plan.pairs().assign(difference=y_R)) for y_R in y_MxR]
    # The same draws: the power is the share of these very studies.
    found = power_of(plan, NOISE, -0.04, alpha=0.05, simulations=50, seed=0)
    assert found.clusters == slopes[0].clusters == 6 and slopes[0].pairs == 36
    assert found.rejected == np.mean([slope.p_value < 0.05 for slope in slopes])
    floor = math.log(1.035)
    claimed = [slope.p_value < 0.05 and slope.effect_over_range < -floor for slope in slopes]
    assert found.claimed == np.mean(claimed)


def test_noise_has_the_stated_spread_and_shared_references_correlate():
    plan = Plan(SIZES, BUDGETS, 1, pool_shuffles=2, shared_reference=True)
    y_MxR = simulate_differences(plan, NOISE, 0.0, np.random.default_rng(0), 20000)
    covariance = np.cov(y_MxR[:, :6].T)
    trunk, residual = NOISE.trunk_sd**2, NOISE.residual_sd**2
    assert covariance[0, 0] == pytest.approx(trunk + residual, rel=0.05)
    assert covariance[0, 1] == pytest.approx(trunk, rel=0.05)  # another budget of the same pair of trunks
    assert covariance[0, 3] == pytest.approx((trunk + residual) / 2, rel=0.05)  # another draw, the same reference run
    assert covariance[0, 4] == pytest.approx(trunk / 2, rel=0.1)
    assert abs(np.corrcoef(y_MxR[:, [0, 6]].T)[0, 1]) < 0.03  # another size


def test_power_is_near_the_noncentral_t_with_many_clusters():
    plan = Plan(SIZES, BUDGETS, 20)
    x = np.log(np.repeat(SIZES, 20))
    error = math.sqrt((NOISE.trunk_sd**2 + NOISE.residual_sd**2 / 3) / np.sum((x - x.mean()) ** 2))
    slope = 3.0 * error
    theory = stats.nct.sf(stats.t.ppf(0.975, 58), 58, slope / error)
    found = power_of(plan, NOISE, slope, alpha=0.05)
    assert found.rejected == pytest.approx(theory, abs=0.03)
    assert found.rejected_error == pytest.approx(math.sqrt(found.rejected * (1 - found.rejected) / 4000))
    assert "+-" in str(found) and "60 clusters" in str(found)


def test_size_of_the_test_over_designs():
    # 100,000 studies gave these; on clusters - 1 degrees of freedom they would be 5.4, 6.1 and 5.1 %.
    for plan, expected in ((PLAN, 0.050), (Plan(SIZES, BUDGETS, 2), 0.051), (Plan(SIZES, BUDGETS, 3, 3), 0.050)):
        found = power_of(plan, NOISE, 0.0, alpha=0.05, simulations=20_000)
        assert abs(found.rejected - expected) < 4 * found.rejected_error


@pytest.mark.long
def test_size_of_the_test_is_what_the_docstring_says():
    budgets = (4e3, 1e4, 2.5e4, 6.4e4)
    for seeds, alpha, expected in ((3, 0.05, 0.050), (3, 0.05 / 3, 0.020), (2, 0.05, 0.051), (2, 0.05 / 3, 0.022)):
        found = power_of(Plan(SIZES, budgets, seeds), NOISE, 0.0, alpha=alpha, simulations=100_000)
        assert found.rejected == pytest.approx(expected, abs=4 * found.rejected_error), (seeds, alpha)


def test_the_detectable_slope_is_claimed_with_the_wanted_power():
    found = detectable_slope(PLAN, NOISE, power=0.8)
    assert found.low < found.slope < found.high and found.high - found.low < 0.1 * found.slope
    assert power_of(PLAN, NOISE, found.slope).claimed == pytest.approx(0.8, abs=0.001)  # the same simulated studies
    other = power_of(PLAN, NOISE, -found.slope, seed=1)
    assert other.claimed == pytest.approx(0.8, abs=4 * other.claimed_error)
    assert detectable_slope(PLAN, Noise(1e-6, 1e-6)).effect_over_range == pytest.approx(math.log(1.035), rel=1e-3)


def test_more_seeds_are_needed_for_smaller_slopes():
    few, many = (seeds_needed(PLAN, NOISE, slope, simulations=1000) for slope in (-0.04, -0.02))
    assert few.seeds < many.seeds
    powers = {power.plan.seeds: power.claimed for power in many.tried}
    assert powers[many.seeds] >= 0.8 > powers[many.seeds - 1]
    never = seeds_needed(PLAN, NOISE, 0.01, simulations=500, seeds_max=8)  # 2.3 % over the sizes: below 3.5 %
    assert never.seeds is None and never.tried[-1].plan.seeds == 8 and never.firm
    two = seeds_needed(PLAN, NOISE, -0.5, simulations=200)
    assert two.seeds == 2  # one seed leaves three clusters


def test_an_answer_within_monte_carlo_error_is_not_firm():
    def tried(seeds, claimed):
        return Power(Plan(SIZES, BUDGETS, seeds), NOISE, 0.02, 0.05, 3 * seeds, 1000, claimed, claimed)

    assert not SeedsNeeded(4, 0.8, (tried(3, 0.79), tried(4, 0.9))).firm
    assert SeedsNeeded(4, 0.8, (tried(3, 0.6), tried(4, 0.9))).firm


def test_a_pilot_gives_its_noise():
    plan = Plan(SIZES, BUDGETS, 60)
    y_R = simulate_differences(plan, NOISE, 0.02, np.random.default_rng(0), 1)[0]
    pairs = plan.pairs().assign(difference=y_R)
    noise = noise_from_pilot(pairs)
    assert noise.trunk_sd == pytest.approx(0.014, rel=0.12) and noise.residual_sd == pytest.approx(0.007, rel=0.12)
    assert noise.source == "pilot of 180 clusters"
    small = pairs[pairs["seed"] < 2]
    assert noise_from_pilot(small, confidence=0.8).trunk_sd > 1.2 * noise_from_pilot(small).trunk_sd
    with pytest.raises(ValueError, match="3 independent clusters"):
        noise_from_pilot(pairs[pairs["seed"] == 0])


def test_plans_without_an_interval_are_refused():
    with pytest.raises(ValueError, match="3 clusters of trunks"):
        power_of(Plan(SIZES, BUDGETS, 1), NOISE, 0.02)
    with pytest.raises(ValueError, match="needs two sizes"):
        Plan((3e4,), BUDGETS, 3)
    with pytest.raises(ValueError, match="positive and distinct"):
        Plan((3e4, 3e4), BUDGETS, 3)
    with pytest.raises(ValueError, match="at least 1"):
        Plan(SIZES, BUDGETS, 0)
    with pytest.raises(ValueError, match="standard deviations"):
        Noise(-0.1, 0.1)
    with pytest.raises(ValueError, match="power must lie"):
        detectable_slope(PLAN, NOISE, power=1.0)


def test_power_on_the_command_line(tmp_path, capsys):
    with pytest.raises(SystemExit):
        main(["power", "--help"])
    help_text = capsys.readouterr().out
    assert "estimator of `contrasts`" in help_text and "--trunk-sd" in help_text and "80% limit" in help_text
    out, plan = tmp_path / "power.json", ["power", "--sizes", "3e4,1e5,3e5", "--budgets", "4e3,1e4,2.5e4"]
    noise = ["--trunk-sd", "0.014", "--residual-sd", "0.007"]
    assert main([*plan, "--slope", "-0.04", *noise, "--out", str(out)]) == 0
    wanted = seeds_needed(PLAN, NOISE, -0.04)
    text, found = capsys.readouterr().out, json.loads(out.read_text())
    assert found["seeds"] == wanted.seeds and [one["claimed"] for one in found["tried"]] == [
        one.claimed for one in wanted.tried
    ]
    assert f"{wanted.seeds} seeds per size reach power 0.8: {6 * wanted.seeds} trunks in both arms" in text
    assert main([*plan, "--slope", "0.01", *noise, "--seeds-max", "4"]) == 0
    assert "even 4 seeds per size do not reach power 0.8" in capsys.readouterr().out
    for words, reason in (
        (["--slope", "0.1"], "either --trunk-sd"),
        (["--slope", "0.1", *noise, "--pilot", "p.csv"], "either --trunk-sd"),
        (["--slope", "0.1", *noise, "--budgets", "a"], "--budgets 'a' must be numbers"),
        (["--slope", "0.1", "--pilot", "nowhere.csv"], "nowhere.csv"),
    ):
        assert main([*plan, *words]) == 2
        assert reason in capsys.readouterr().err


def test_a_pilot_on_the_command_line_gives_its_noise(tmp_path, capsys):
    plan = Plan(SIZES, BUDGETS, 3, pool_shuffles=2, shared_reference=True)
    y_R = simulate_differences(plan, NOISE, 0.02, np.random.default_rng(0), 1)[0]
    pairs = plan.pairs().assign(difference=y_R)
    mixed = pairs.assign(trunk_id=pairs["trunk_a"], pool_shuffle=pairs["trunk_a"].str[-1], real_fraction=0.5)
    mixed = mixed.assign(loss=np.exp(y_R), unique_real_patients=900)
    smaller = mixed.assign(loss=2.0, unique_real_patients=100)  # another pool: left out
    reference = pairs.drop_duplicates(["trunk_b", "records_seen"]).assign(loss=1.0, unique_real_patients=0)
    reference = reference.assign(trunk_id=reference["trunk_b"], pool_shuffle="none", real_fraction=0.0)
    runs = pd.concat([mixed, reference, smaller]).drop(columns=["trunk_a", "trunk_b", "difference"])
    runs.to_csv(tmp_path / "runs.csv", index=False)
    words = ["--sizes", "3e4,1e5,3e5", "--budgets", "4e3,1e4", "--slope", "0.05", "--seeds-max", "8"]
    assert main(["power", *words, "--pilot", str(tmp_path / "runs.csv")]) == 0
    noise = noise_from_pilot(pairs, confidence=0.8)
    stated = f"trunk s.d. {noise.trunk_sd:.4f}, residual s.d. {noise.residual_sd:.4f}, pilot of 9 clusters, upper 80 %"
    assert stated in capsys.readouterr().out
