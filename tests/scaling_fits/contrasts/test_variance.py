"""The four parts of a difference's uncertainty, on planted tables whose components are known."""

import json
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from scaling_fits.contrasts.contrasts import paired_differences, select_arm
from scaling_fits.contrasts.variance import Part, arm_differences, combine, four_parts, run_components
from scaling_fits.tables.run_table import RunTable, read_runs

PARTS = {"seed": 0.01, "draw": 0.01, "interplay": 0.005, "patient": 0.1, "patient_run": 0.05, "mask": 0.05}


def losses(rng, labels, patients=60, masks=4, effect=0.0, sd=PARTS):
    """Losses (J, P, M) of pairs of runs: ln l_a - ln l_b has the planted mean and components."""
    seeds, draws = rng.normal(0, sd["seed"], 99), rng.normal(0, sd["draw"], 99)
    base = np.exp(rng.normal(0, 0.3, patients)[:, None] + rng.normal(0, 0.1, (patients, masks)))
    shared = rng.normal(0, sd["patient"], patients)[:, None] + rng.normal(0, sd["mask"], (patients, masks))
    a = []
    for seed, draw in labels:
        own = rng.normal(0, sd["interplay"]) + rng.normal(0, sd["patient_run"], (patients, 1))
        a.append(base * np.exp(effect + seeds[seed] + draws[draw] + own + shared))
    return np.array(a), np.array([base] * len(labels))


def crossed(seeds, draws):
    return [(s, k) for s in range(seeds) for k in range(draws)]


def simulate(labels, studies, seed, **planted):
    """Standard deviation of the estimate, root mean square of its standard error, coverage of the 95 % interval."""
    rng = np.random.default_rng(seed)
    fits = [four_parts(*losses(rng, labels, **planted), *zip(*labels)) for _ in range(studies)]
    estimates = np.array([estimate for estimate, _ in fits])
    errors, halves = np.array([combine(parts) for _, parts in fits]).T
    covered = np.abs(estimates - estimates.mean()) < halves
    return estimates.std(), float(np.sqrt(np.mean(errors**2))), float(covered.mean())


def tables(labels, pool=150, effect=-0.1, seed=0, shared=False) -> tuple[RunTable, pd.DataFrame]:
    """Run and patients tables of one size and budget: r = 0.5 against r = 1 (or one r = 0 run per seed)."""
    a, b = losses(np.random.default_rng(seed), labels, effect=effect)
    runs, rows = [], []
    for arm, values, fraction in (("a", a, 0.5), ("b", b, 0.0 if shared else 1.0)):
        for (s, k), table in zip(labels, values):
            name = f"{arm}-{s}-{0 if shared and arm == 'b' else k}"
            if name in {run[0] for run in runs}:
                continue
            of_pool = pool if fraction else 0
            runs.append((name, name, 1e5, 1e4, s, k if fraction else 0, fraction, of_pool, table.mean()))
            frame = pd.DataFrame(table).rename_axis("patient_id").rename_axis("mask", axis=1).stack()
            rows.append(frame.rename("loss").reset_index().assign(run_id=name))
    columns = ["run_id", "trunk_id", "n_params", "records_seen", "seed", "pool_shuffle", "real_fraction"]
    frame = pd.DataFrame(runs, columns=[*columns, "unique_real_patients", "loss"])
    return read_runs(frame), pd.concat(rows).sample(frac=1, random_state=0)


def difference(labels, **options):
    available = options.pop("available", None)
    table, patients = tables(labels, **options)
    reference = 0.0 if options.get("shared") else 1.0
    arms = select_arm(table, 0.5), select_arm(table, reference)
    (found,) = arm_differences(*arms, patients, available_patients=available)
    return found


def test_balanced_components_are_those_of_the_two_way_analysis_of_variance():
    values = np.random.default_rng(0).normal(size=(4, 3))
    labels = crossed(4, 3)
    found = run_components(values.ravel(), np.zeros((12, 12)), *zip(*labels))
    rows, columns = values.mean(axis=1, keepdims=True), values.mean(axis=0, keepdims=True)
    ms_seed = 3 * rows.var(ddof=1)
    ms_draw = 4 * columns.var(ddof=1)
    ms_rest = np.sum((values - rows - columns + values.mean()) ** 2) / 6
    assert found["pool draw"] == (pytest.approx((ms_draw - ms_rest) / 12), 2)
    assert found["seed"] == (pytest.approx((ms_seed - ms_rest) / 12 + ms_rest / 12), 3)


def test_nested_designs_and_confounded_ones():
    rng = np.random.default_rng(0)
    values, zero = rng.normal(size=6), np.zeros((6, 6))
    nested = run_components(values, zero, range(6), [0, 0, 0, 1, 1, 1])
    within = np.mean([values[:3].var(ddof=1), values[3:].var(ddof=1)])
    assert nested["seed"] == (pytest.approx(within / 6), 4)
    # The means of the draws vary by draw and by a third of the seeds' variance.
    assert nested["pool draw"][0] == pytest.approx(
        (np.var([values[:3].mean(), values[3:].mean()], ddof=1) - within / 3) / 2
    )
    assert run_components(values, zero, [0, 0, 0, 1, 1, 1], range(6))["pool draw"] == nested["seed"]
    together = run_components(values, zero, range(6), range(6))
    assert together == {"seed and pool draw together": (pytest.approx(values.var(ddof=1) / 6), 5)}
    assert run_components(values[:1], zero[:1, :1], [0], [0]) == {}


def test_a_part_that_could_not_be_estimated_is_missing_from_the_standard_error():
    sd, error, _ = simulate(crossed(3, 1), 400, 0)  # draws vary between studies, within none
    assert error < 0.93 * sd


def test_what_patients_add_to_the_spread_of_runs_is_taken_off():
    none = {**dict.fromkeys(PARTS, 0.0), "patient_run": 0.3}
    rng = np.random.default_rng(0)
    labels = crossed(4, 1)
    seeds = [four_parts(*losses(rng, labels, sd=none), *zip(*labels))[1][0] for _ in range(200)]
    spread = 0.3**2 / 60 / 4  # of the mean over seeds, were it not taken off
    below = [part for part in seeds if part.note]
    assert 60 < len(below) < 160 and "estimated below 0" in below[0].note
    assert np.mean([part.variance for part in seeds]) < 0.5 * spread


def test_the_standard_error_is_unbiased_and_its_interval_covers():
    for labels, planted in ((crossed(3, 1), {**PARTS, "draw": 0.0}), (crossed(3, 3), PARTS)):
        sd, error, coverage = simulate(labels, 400, 0, sd=planted)
        assert error == pytest.approx(sd, rel=0.12)
        assert 0.92 < coverage < 0.995


@pytest.mark.long
def test_coverage_over_designs_and_which_part_dominates():
    seeds_lead = {**PARTS, "seed": 0.03, "patient": 0.05}
    patients_lead = {**PARTS, "seed": 0.002, "draw": 0.0, "interplay": 0.0}
    for labels in (crossed(3, 1), crossed(5, 4), [(i, i) for i in range(4)], [*crossed(3, 1), (0, 1), (0, 2)]):
        for planted in (PARTS, seeds_lead, patients_lead):
            if labels == crossed(3, 1):
                planted = {**planted, "draw": 0.0}
            sd, error, coverage = simulate(labels, 1500, 1, sd=planted)
            assert error == pytest.approx(sd, rel=0.09), (labels, planted)
            assert 0.925 < coverage < 0.99, (labels, planted)


def test_one_seed_or_one_draw_is_named_and_nothing_is_claimed():
    one = difference(crossed(1, 1), effect=-0.3)
    assert one.missing == ("seed", "pool draw") and one.verdict == "unresolved" and one.interval[1] < 0
    assert [part.standard_error for part in one.parts[:2]] == [None, None]
    assert "all parts but seed and pool draw" in str(one) and "seed not estimated (one seed)" in str(one)
    draws = difference(crossed(1, 3), effect=-0.3)
    assert draws.missing == ("seed",) and "run-to-run noise" in draws.parts[1].note
    assert difference(crossed(3, 1), effect=-0.3).missing == ("pool draw",)


def test_a_difference_is_claimed_with_all_parts_and_beyond_the_smallest_effect():
    full = difference(crossed(3, 3), effect=-0.3)
    assert full.missing == () and full.verdict == "a is lower"
    assert full.relative == pytest.approx(np.exp(-0.3) - 1, abs=0.05)
    assert json.loads(json.dumps(full.to_dict()))["verdict"] == "a is lower"
    assert sum(part.variance for part in full.parts) == pytest.approx(full.standard_error**2)
    small = replace(full, estimate=-0.03, interval=(-0.034, -0.026))
    assert (
        small.verdict == "unresolved"
        and replace(small, estimate=0.04, interval=(0.035, 0.045)).verdict == "a is higher"
    )
    whole = difference(crossed(3, 1), pool=1487, effect=-0.3, available=1487)
    assert whole.verdict == "a is lower" and "all 1487 patients" in whole.parts[1].note
    together = difference([(i, i) for i in range(4)], effect=-0.3)
    assert together.missing == () and together.verdict == "a is lower"
    assert together.parts[2].name == "seed and pool draw together"


def test_draws_share_one_pure_synthetic_run_per_seed():
    shared = difference(crossed(3, 3), effect=-0.3, shared=True)
    assert (shared.pairs, shared.patients, shared.masks) == (9, 60, 4)
    assert [part.levels for part in shared.parts] == [3, 3, 60, 4]
    table, _ = tables(crossed(3, 3), shared=True)
    arms = select_arm(table, 0.5), select_arm(table, 0.0)
    with pytest.raises(ValueError, match="pool_shuffle"):
        paired_differences(*arms)
    assert set(paired_differences(*arms, beside_a=["pool_shuffle"])["run_b"]) == {"b-0-0", "b-1-0", "b-2-0"}


def test_a_single_mask_is_part_of_the_patients():
    rng = np.random.default_rng(0)
    a, b = losses(rng, crossed(3, 1), masks=1)
    _, parts = four_parts(a, b, [0, 1, 2], [0, 0, 0])
    assert parts[-1].variance == 0 and "within the patient part" in parts[-1].note
    share = (a / a.mean(axis=(1, 2), keepdims=True) - b / b.mean(axis=(1, 2), keepdims=True)).mean(axis=(0, 2))
    assert parts[-2].variance == pytest.approx(share.var(ddof=1) / 60)


def test_half_widths_add_in_quadrature():
    parts = [Part("seed", 4.0, 3, 2.0), Part("patient", 1.0, 200, 199.0), Part("mask", None, 1)]
    half = np.hypot(2 * stats.t.ppf(0.975, 2), stats.t.ppf(0.975, 199))
    assert combine(parts) == (pytest.approx(np.sqrt(5)), pytest.approx(half))


def test_tables_that_do_not_fit_together_are_refused():
    table, patients = tables(crossed(2, 1))
    arms = select_arm(table, 0.5), select_arm(table, 1.0)
    with pytest.raises(ValueError, match="runs have no rows"):
        arm_differences(*arms, patients[patients["run_id"] != "a-1-0"])
    with pytest.raises(ValueError, match="same frozen masks"):
        arm_differences(*arms, patients.iloc[1:])
    with pytest.raises(ValueError, match="same response"):
        arm_differences(*arms, patients.assign(loss=2 * patients["loss"]))
    with pytest.raises(ValueError, match=r"missing columns \['mask'\]"):
        arm_differences(*arms, patients.drop(columns="mask"))
    with pytest.raises(ValueError, match="no run of"):
        arm_differences(arms[0].where(seed=0), arms[1].where(seed=1), patients)
