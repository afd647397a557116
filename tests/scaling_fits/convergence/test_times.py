"""Records to a target from fitted laws, and effects on them with censored trunks, against simulated truth."""

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from scaling_fits.convergence.censored import LogEffect, censored_regression, size_effect, speed_effect
from scaling_fits.convergence.law_times import BEYOND_RANGE, NEVER, law_ratio, law_records_to_target

EFFECT, SLOPE = -0.7, -0.3
MEASURED = (1e3, 1e5)


def law(E=0.2, A=5.0, B=4.0, alpha=0.3, beta=0.4):
    return lambda N, D: E + A * N**-alpha + B * D**-beta


def draws(spread=0.02, count=400, E=0.2):
    rng = np.random.default_rng(0)
    E_Sx1 = E * np.exp(spread * rng.normal(size=(count, 1)))
    B_Sx1 = 4.0 * np.exp(spread * rng.normal(size=(count, 1)))
    return lambda N, D: E_Sx1 + 5.0 * N**-0.3 + B_Sx1 * D[None] ** -0.4


def at(n):
    return lambda records: {"N": n, "D": records}


def arms(rng, sizes=(3e4, 1e5, 3e5), seeds=3, sd=0.25, cut=np.inf, first=0.0):
    """Two arms as `add_axes` gives them; ln records is normal around 9 + EFFECT [arm a] + SLOPE ln(N / 1e5)."""
    frames = []
    for effect in (EFFECT, 0.0):
        n, seed = (values.ravel() for values in np.meshgrid(sizes, np.arange(seeds), indexing="ij"))
        true = np.exp(9.0 + effect + SLOPE * np.log(n / 1e5) + sd * rng.normal(size=n.size))
        status = np.where(true > cut, "not_reached", np.where(true < first, "before_first_point", "reached"))
        frame = pd.DataFrame({"trunk_id": [f"{effect}-{i}" for i in range(n.size)], "n_params": n, "seed": seed})
        records = np.where(status == "reached", true, np.nan)
        frames.append(frame.assign(target=0.3, records=records, status=status, first_records=first, last_records=cut))
    return frames


def covers(interval, truth):
    low, high = interval
    return (low is None or low <= truth) and (high is None or truth <= high)


def test_the_law_is_inverted_exactly_and_converts_to_flops():
    target = float(law()(1e5, 2e4))
    time = law_records_to_target(law(), target, at(1e5), MEASURED, predict_draws=draws())
    assert time.status == "reached" and time.amount == pytest.approx(2e4, rel=1e-10)
    assert time.interval[0] < 2e4 < time.interval[1] and time.never_share == 0.0
    flops = time.measured_in("FLOPs", 3e7)
    assert flops.amount == pytest.approx(6e11) and flops.interval[0] == pytest.approx(3e7 * time.interval[0])
    assert "FLOPs" in str(flops)
    # Each draw against the closed form.
    floor_S = draws()(1e5, np.array([1e300]))[:, 0]
    B_S = draws()(1e5, np.array([1.0]))[:, 0] - floor_S
    assert time.low_S == pytest.approx((B_S / (target - floor_S)) ** 2.5, rel=1e-3)


def test_a_target_below_the_floor_is_never_reached_and_draws_say_how_surely():
    floor = 0.2 + 5.0 * 1e5**-0.3
    never = law_records_to_target(law(), floor * 0.999, at(1e5), MEASURED, predict_draws=draws())
    assert never.status == NEVER and never.amount is None and "never under this law" in str(never)
    assert 0.5 < never.never_share < 0.9 and never.interval[1] is None
    reached = law_records_to_target(law(), floor * 1.1, at(1e5), MEASURED, predict_draws=draws(0.3))
    assert reached.status == "reached" and 0 < reached.never_share < 0.5 and reached.interval[1] is None


def test_extrapolation_is_refused_unless_asked():
    target = float(law()(1e5, 1e6))
    refused = law_records_to_target(law(), target, at(1e5), MEASURED, predict_draws=draws(0.001))
    assert refused.status == BEYOND_RANGE and refused.amount is None and refused.beyond_share == 1.0
    assert refused.interval == (pytest.approx(1e5 * 10**0.5), None)
    assert law_records_to_target(law(), target, at(1e5), MEASURED, beyond=20).amount == pytest.approx(1e6, rel=1e-9)
    with pytest.raises(ValueError, match="rises with records"):
        law_records_to_target(lambda N, D: D**0.1, 2.0, at(1e5), MEASURED)
    with pytest.raises(ValueError, match="positive target"):
        law_records_to_target(law(), -1.0, at(1e5), MEASURED)


def test_the_ratio_of_two_arms_of_one_law_uses_common_draws():
    times = [
        law_records_to_target(
            law(B=b), 0.5, at(1e5), MEASURED, predict_draws=lambda N, D, b=b: draws()(N, D * (4 / b) ** 2.5)
        )
        for b in (2.0, 4.0)
    ]
    ratio, (low, high) = law_ratio(*times)
    # B enters as (B / …)^(1/beta), the same in both arms under every draw: the ratio is certain.
    assert ratio == pytest.approx(0.5**2.5) and (low, high) == pytest.approx((0.5**2.5, 0.5**2.5), rel=1e-3)
    hard = law_records_to_target(law(), 0.5, at(1e5), (1e2, 5e2), predict_draws=draws())
    easy = law_records_to_target(law(B=1.0), 0.5, at(1e5), (1e2, 5e2), predict_draws=lambda N, D: draws()(N, D * 32))
    assert hard.status == BEYOND_RANGE and easy.status == "reached"
    ratio, (low, high) = law_ratio(hard, easy)
    assert ratio is None and high is None and 1.0 < low < 32.0
    with pytest.raises(ValueError, match="one absolute target"):
        law_ratio(times[0], law_records_to_target(law(), 0.6, at(1e5), MEASURED, predict_draws=draws()))


def test_without_censoring_the_profile_interval_is_the_t_interval_of_least_squares():
    rng = np.random.default_rng(0)
    x, log_n = np.repeat([1.0, 0.0], 9), np.tile(np.log([3e4, 1e5, 3e5]), 6)
    y = 9 + EFFECT * x + SLOPE * (log_n - log_n.mean()) + 0.25 * rng.normal(size=18)
    found = censored_regression(LogEffect("", "", 0.3, "records", 0.95, 18, 0), y, y, [x, log_n])
    design = np.column_stack([x, np.ones(18), log_n])
    expected, residual = np.linalg.lstsq(design, y, rcond=None)[:2]
    error = np.sqrt(residual[0] / 15 * np.linalg.inv(design.T @ design)[0, 0])
    half = stats.t.ppf(0.975, 15) * error
    assert found.estimate == pytest.approx(expected[0], abs=1e-9)
    assert found.interval == pytest.approx((expected[0] - half, expected[0] + half), abs=1e-7)
    assert found.p_value == pytest.approx(2 * stats.t.sf(abs(expected[0]) / error, 15), rel=1e-6)


def test_paired_trunks_that_all_reach_give_a_t_interval():
    a, b = arms(np.random.default_rng(3))
    effect = speed_effect(a, b)
    difference = np.log(a["records"]) - np.log(b["records"])
    interval = stats.t.interval(0.95, 8, difference.mean(), difference.std() / 3)
    assert effect.method == "paired t" and effect.interval == pytest.approx(interval)
    assert effect.speed_up == pytest.approx(1 / effect.ratio)
    assert effect.speed_up_interval == pytest.approx((1 / effect.ratio_interval[1], 1 / effect.ratio_interval[0]))
    swapped = speed_effect(b, a)
    assert swapped.ratio == pytest.approx(effect.speed_up)
    few = speed_effect(a.iloc[:2], b.iloc[:2])
    assert few.interval is None and "2 pairs" in few.reason


def test_an_arm_that_never_reaches_gives_an_open_interval():
    a, b = arms(np.random.default_rng(1), sd=0.1, cut=np.exp(9.3))
    b = b.assign(status="not_reached", records=np.nan)
    effect = speed_effect(a, b)
    assert effect.estimate is None and effect.interval[0] is None and "only a bound" in effect.reason
    assert effect.interval[1] < -0.5 and effect.speed_up_interval[0] > 1.5 and effect.speed_up_interval[1] is None
    reverse = speed_effect(b, a)
    assert reverse.interval == (pytest.approx(-effect.interval[1], abs=1e-6), None)
    nobody = speed_effect(a.assign(status="not_reached"), b)
    assert nobody.interval is None and "0 of 18" in nobody.reason


def test_relative_times_and_unknown_costs_are_refused():
    a, b = arms(np.random.default_rng(1))
    with pytest.raises(ValueError, match="not mixed"):
        speed_effect(a.assign(target=np.linspace(0.2, 0.3, len(a))), b)
    with pytest.raises(ValueError, match="not mixed"):
        size_effect(pd.concat([a, b.assign(target=0.4)]))
    with pytest.raises(ValueError, match="real_records: unknown or zero"):
        speed_effect(a.assign(real_fraction=0.5), b.assign(real_fraction=0.0), measure="real_records")
    halves = speed_effect(a.assign(real_fraction=0.5), b.assign(real_fraction=1.0), measure="real_records")
    assert halves.estimate == pytest.approx(speed_effect(a, b).estimate - np.log(2))


def test_flops_of_a_censored_trunk_are_those_of_its_size():
    slow = arms(np.random.default_rng(1), cut=1.2e4)[1].assign(flops=lambda rows: 300 * rows.n_params * rows.records)
    assert set(slow["status"]) == {"reached", "not_reached"}
    slope, in_flops = size_effect(slow), size_effect(slow, measure="flops")
    assert in_flops.estimate == pytest.approx(slope.estimate + 1, abs=1e-5)
    assert in_flops.interval == pytest.approx((slope.interval[0] + 1, slope.interval[1] + 1), abs=1e-4)


def simulate(repeats, cut, first=0.0, seed=0):
    """Coverage of the effect's and of the slope's interval; mean estimates with censoring and without its trunks."""
    rng = np.random.default_rng(seed)
    effects, slopes, estimates, dropped = [], [], [], []
    for _ in range(repeats):
        a, b = arms(rng, cut=cut, first=first)
        effect, slope = speed_effect(a, b), size_effect(a)
        effects.append(effect.interval is None or covers(effect.interval, EFFECT))
        slopes.append(slope.interval is None or covers(slope.interval, SLOPE))
        estimates.append(EFFECT if effect.estimate is None else effect.estimate)
        dropped.append(np.log(a["records"]).mean() - np.log(b["records"]).mean())
    return np.mean(effects), np.mean(slopes), np.mean(estimates), np.nanmean(dropped)


def test_censored_trunks_are_used_and_not_dropped():
    effects, slopes, estimate, dropped = simulate(60, cut=8e3)
    # Below 52 of 60 has probability 0.005 at 95 %.
    assert min(effects, slopes) >= 52 / 60
    assert abs(estimate - EFFECT) < 0.06 < 0.2 < abs(dropped - EFFECT)


@pytest.mark.long
@pytest.mark.parametrize(("cut", "first"), [(np.inf, 0.0), (1.1e4, 0.0), (8e3, 0.0), (1.1e4, 3e3)])
def test_intervals_cover_at_the_nominal_rate(cut, first):
    effects, slopes, estimate, _ = simulate(800, cut, first, seed=1)
    assert 0.93 <= effects <= 0.985 and 0.93 <= slopes <= 0.985
    assert abs(estimate - EFFECT) < 0.03
