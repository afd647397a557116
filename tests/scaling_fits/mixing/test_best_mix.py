"""Best mix, exchange rate and tests on tables simulated from planted constants, against closed forms."""

import json
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from scaling_fits.compute_optimal.compute import flops_per_record
from scaling_fits.estimation.estimators import LeastSquares
from scaling_fits.estimation.multistart import Search
from scaling_fits.fit import Fit, fit
from scaling_fits.laws.data_mix import COMMON_RATE
from scaling_fits.laws.size_and_data import CHINCHILLA
from scaling_fits.mixing import best_mix, synthetic_benefit
from scaling_fits.uncertainty.bootstrap import Bootstrap

TRUTH = {"E": 0.08, "G": 0.1, "A": 2.2, "B": 6.0, "alpha": 0.3, "beta": 0.4, "kappa": 0.15, "R_D": 8.0}
AT = {"n": 1e5, "records": 6.4e4, "pool": 1487.0}


def law(n, real, synthetic, pool, c):
    """M0, written out independently of `mixtures`."""
    unique = np.where(pool > 0, pool, 1.0)
    repeats = np.maximum(real / unique - 1, 0)
    effective = np.minimum(real, unique) + unique * c["R_D"] * (1 - np.exp(-repeats / c["R_D"]))
    effective = np.where(real > 0, effective, 0) + c["kappa"] * synthetic
    return c["E"] + np.where(real > 0, 0, c["G"]) + c["A"] / n ** c["alpha"] + c["B"] / effective ** c["beta"]


def table(noise=0.01, seed=0, fractions=(0.0, 0.1, 0.5, 0.9, 1.0), trunk_noise=0.0, **constants) -> pd.DataFrame:
    rows = [
        (n, d, r, pool if r > 0 else 0.0)
        for r in fractions
        for pool in ((150.0, 1487.0) if r > 0 else (0.0,))
        for n in (3e4, 1e5, 3e5, 1e6)
        for d in (4e3, 1.6e4, 6.4e4)
    ]
    frame = pd.DataFrame(rows, columns=["n_params", "records_seen", "real_fraction", "unique_real_records"])
    trunks = zip(frame.n_params, frame.real_fraction, frame.unique_real_records)
    frame["trunk_id"] = [f"{n:g} {r} {u:g}" for n, r, u in trunks]
    rng = np.random.default_rng(seed)
    real = frame["records_seen"] * frame["real_fraction"]
    exact = law(frame.n_params, real, frame.records_seen - real, frame.unique_real_records, {**TRUTH, **constants})
    trunk = dict(zip(frame["trunk_id"].unique(), rng.normal(0, trunk_noise, frame["trunk_id"].nunique())))
    return frame.assign(loss=exact * np.exp(rng.normal(0, noise, len(frame)) + frame["trunk_id"].map(trunk)))


def fitted(frame: pd.DataFrame, replicates: int = 200, **options) -> Fit:
    plan = Bootstrap(replicates)
    return fit(
        COMMON_RATE,
        frame,
        estimator=LeastSquares(),
        bootstrap=plan,
        profiles=False,
        search=Search(starts=64),
        **options,
    )


@pytest.fixture(scope="module")
def noisy() -> Fit:
    return fitted(table())


@pytest.fixture(scope="module")
def exact() -> Fit:
    return fitted(table(noise=0.0), replicates=0)


def best_by_hand(records: float, pool: float, c: dict[str, float]) -> float:
    """Real records until a repetition is worth no more than a synthetic one: exp(-(R/U - 1) / R_D) = kappa."""
    return min(1.0, pool * (1 + c["R_D"] * np.log(1 / c["kappa"])) / records)


def test_the_best_fraction_is_where_a_repeat_is_worth_a_synthetic_record(exact, noisy):
    found = best_mix.best_mix(exact, **AT)
    assert found.fraction.value == pytest.approx(best_by_hand(6.4e4, 1487, TRUTH), rel=1e-5)
    assert found.edge is None and found.fraction.interval is None
    best = law(1e5, found.fraction.value * 6.4e4, (1 - found.fraction.value) * 6.4e4, 1487, TRUTH)
    half, pure = law(1e5, 3.2e4, 3.2e4, 1487, TRUTH), law(1e5, 0.0, 6.4e4, 0, TRUTH)
    assert found.loss == pytest.approx(float(best), rel=1e-8)
    assert found.penalty.value == pytest.approx(np.log(half / best), abs=1e-7)
    assert found.jump.value == pytest.approx(np.log(pure / law(1e5, 1.0, 6.4e4 - 1, 1487, TRUTH)), abs=1e-7)
    found = best_mix.best_mix(noisy, **AT)
    assert found.fraction.value == pytest.approx(best_by_hand(6.4e4, 1487, noisy.parameters), rel=1e-5)
    assert found.fraction.interval[0] < best_by_hand(6.4e4, 1487, TRUTH) < found.fraction.interval[1]
    assert found.penalty.interval[0] > 0 and found.share_inside == 1


def test_edges_are_said_and_never_claimed(noisy):
    assert "r* = 1" in best_mix.best_mix(noisy, n=1e5, records=4e3, pool=1487).edge
    below = best_mix.best_mix(noisy, n=1e5, records=6.4e4, pool=150)
    assert "smallest fraction above 0 that was measured, 0.1" in below.edge and below.share_inside == 0
    assert "NO CLAIM OF A BEST MIX" in str(below)
    far = best_mix.best_mix(noisy, n=1e8, records=1e6, pool=1487)
    assert [note.split(" = ")[0] for note in far.notes] == ["extrapolation: N", "extrapolation: records"]


def test_a_synthetic_record_worth_more_than_a_real_one_leaves_a_jump_not_an_optimum():
    dear = fitted(table(noise=0.0, kappa=1.5), replicates=0)
    found = best_mix.best_mix(dear, n=1e5, records=1.6e4, pool=1487)
    assert "it jumps at r = 0" in found.edge and found.jump.value > 0.1
    without_gap = fitted(table(noise=0.0, kappa=1.5, G=1e-9), replicates=0)
    assert "r* = 0" in best_mix.best_mix(without_gap, n=1e5, records=1.6e4, pool=1487).edge


def test_size_records_and_mix_are_best_together(noisy):
    budget, per_record = 2e12, flops_per_record("6 N 50", lambda n: 300 * n)
    found = best_mix.best_mix_at_budget(noisy, budget=budget, pool=1487, compute=per_record, sizes=(5e3, 1e6))
    n = np.geomspace(5e3, 1e6, 4001)
    records = budget / (300 * n)
    r = np.minimum(1, 1487 * (1 + noisy.parameters["R_D"] * np.log(1 / noisy.parameters["kappa"])) / records)
    loss = law(n, r * records, (1 - r) * records, 1487, noisy.parameters)
    at = loss.argmin()
    assert found.n.value == pytest.approx(n[at], rel=5e-3)
    assert found.loss == pytest.approx(loss[at], rel=1e-7)
    assert found.fraction.value == pytest.approx(r[at], rel=5e-3)
    assert found.records.value * found.n.value * 300 == pytest.approx(budget, rel=1e-9)
    assert found.n.interval[0] < found.n.value < found.n.interval[1]
    cut = best_mix.best_mix_at_budget(noisy, budget=budget, pool=1487, compute=per_record, sizes=(1e5, 1e6))
    assert "end of the sizes searched" in cut.edge
    json.dumps(found.to_dict(), allow_nan=False)


def test_exchange_rates_have_their_closed_forms(noisy):
    kappa, r_d = noisy.parameters["kappa"], noisy.parameters["R_D"]
    fresh = best_mix.exchange_rate(noisy, n=1e5, real=1e3, synthetic=5e3, pool=1487)
    assert fresh.marginal.value == pytest.approx(kappa, rel=1e-9)
    assert fresh.marginal_new.value == pytest.approx(kappa, rel=1e-9)
    assert fresh.average_new.value == pytest.approx(kappa, rel=1e-8)
    assert fresh.synthetic_per_new_real == pytest.approx(1 / kappa, rel=1e-8)
    assert fresh.marginal.interval[0] < TRUTH["kappa"] < fresh.marginal.interval[1]
    # At 10 epochs: an exposure is worth exp(-9/R_D); a new one also spares the others a little repetition.
    repeated = best_mix.exchange_rate(noisy, n=1e5, real=14870, synthetic=5e3, pool=1487)
    decay = np.exp(-9 / r_d)
    assert repeated.marginal.value == pytest.approx(kappa / decay, rel=1e-9)
    assert repeated.marginal_new.value == pytest.approx(kappa / (1 + r_d * (1 - decay) - 9 * decay), rel=1e-9)
    # No number of exposures to 150 records replaces so much.
    lost = best_mix.exchange_rate(noisy, n=1e5, real=6e3, synthetic=6e4, pool=150)
    assert np.isinf(lost.average.value) and lost.average_new.value < kappa
    assert lost.to_dict()["average"]["value"] is None
    json.dumps(lost.to_dict(), allow_nan=False)


def test_repeats_lose_their_worth_exponentially(noisy):
    curve = best_mix.repeat_value(noisy, (1, 4, 16))
    r_d = noisy.parameters["R_D"]
    assert [e.value for e in curve.marginal] == pytest.approx(np.exp(-np.array([0, 3, 15]) / r_d), rel=1e-9)
    average = (1 + r_d * (1 - np.exp(-15 / r_d))) / 16
    assert curve.average[2].value == pytest.approx(average, rel=1e-9)
    assert curve.marginal[1].interval[0] < np.exp(-3 / TRUTH["R_D"]) < curve.marginal[1].interval[1]
    assert not curve.notes and "extrapolation: epochs" in best_mix.repeat_value(noisy, (1, 1e4)).notes[0]


def test_synthetic_data_help_where_real_ones_are_worn_out_and_not_where_they_are_fresh(noisy):
    scarce = synthetic_benefit.synthetic_helps(noisy, n=1e5, records=6.4e4, pool=150)
    assert scarce.verdict("replacement") == scarce.verdict("additive") == "helps"
    assert scarce.p_kappa < 1e-6 and scarce.p_replacement < 0.01
    gain = np.log(law(1e5, 6.4e4, 0, 150, noisy.parameters) / law(1e5, 3.2e4, 3.2e4, 150, noisy.parameters))
    assert scarce.replacement[0.5].value == pytest.approx(gain, abs=1e-9)
    added = np.log(law(1e5, 6.4e4, 0, 150, noisy.parameters) / law(1e5, 6.4e4, 6.4e4, 150, noisy.parameters))
    assert scarce.additive[0.5].value == pytest.approx(added, abs=1e-9)
    ample = synthetic_benefit.synthetic_helps(noisy, n=1e5, records=4e3, pool=1487)
    assert ample.verdict("replacement") == "does not help" and ample.p_replacement > 0.5
    assert "contrasts" in str(ample)
    json.dumps(ample.to_dict(), allow_nan=False)


def test_worthless_synthetic_records_are_not_found_to_help():
    options = {"noise": 0.02, "fractions": (0.1, 0.5, 0.9, 1.0), "kappa": 1e-12, "trunk_noise": 0.01}
    frame = pd.concat([table(**options), table(**options, seed=1).head(12)])
    worthless = fitted(frame, fixed={"G": 0.1})
    test = synthetic_benefit.synthetic_helps(worthless, **AT)
    assert test.p_kappa > 0.05
    assert test.verdict("additive") == "unresolved" or test.additive[0.1].value < np.log(1.035)


def test_without_a_bootstrap_there_are_no_intervals_and_it_is_said(exact):
    test = synthetic_benefit.synthetic_helps(exact, **AT)
    assert test.p_replacement is None and test.verdict("replacement") == "unresolved"
    assert "no bootstrap was asked for" in " ".join(test.notes)
    assert "no interval" in str(best_mix.exchange_rate(exact, n=1e5, real=1e3, synthetic=1e3, pool=1487))


def test_wrong_questions_are_refused(noisy):
    with pytest.raises(ValueError, match="real must be finite and above 0, not 0"):
        best_mix.exchange_rate(noisy, n=1e5, real=0, synthetic=1e3, pool=1487)
    with pytest.raises(ValueError, match="epochs must be at least 1"):
        best_mix.repeat_value(noisy, (0.5, 2))
    with pytest.raises(ValueError, match="cannot all use up"):
        best_mix.best_mix_at_budget(
            noisy, budget=1e60, pool=1487, compute=flops_per_record("300 N", lambda n: 300 * n), sizes=(1e4, 1e6)
        )
    with pytest.raises(ValueError, match="chinchilla has the variables"):
        best_mix.best_mix(replace(noisy, law=CHINCHILLA), **AT)


@pytest.mark.long
def test_the_test_of_kappa_rejects_a_true_null_as_rarely_as_stated():
    p_values = []
    for seed in range(60):
        frame = table(0.015, seed, (0.1, 0.5, 0.9, 1.0), 0.015, kappa=1e-12)
        null = fitted(frame, replicates=0, fixed={"G": 0.1})
        p_values.append(synthetic_benefit.synthetic_helps(null, **AT).p_kappa)
    assert np.mean(np.array(p_values) < 0.05) <= 0.15  # 3 of 60 expected; 10 or more has probability 0.001
