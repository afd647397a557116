"""Backtests: folds, scores against hand-made numbers, the protocol's gate, and public held-out benchmarks."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from scaling_fits.estimation.columns import Columns
from scaling_fits.estimation.estimators import Huber, LeastSquares
from scaling_fits.estimation.multistart import Search
from scaling_fits.estimation.problem import log_predictions
from scaling_fits.laws.data_mix import COMMON_RATE, FLOOR_OF_MIX, RATE_OF_SIZE, SATURATING, exponential_mixing
from scaling_fits.laws.law import Law, Parameter, Variable
from scaling_fits.laws.size_and_data import CHINCHILLA, COUPLED, FARSEER, REPETITION, power_law
from scaling_fits.selection.admission import AdmissionRule, admit
from scaling_fits.selection.backtest import (
    backtest,
    leave_largest_size_out,
    rolling_cuts,
    split_fold,
)
from scaling_fits.tables.run_table import read_runs
from scaling_fits.uncertainty.bootstrap import Bootstrap

LINE, FLOORED = power_law("N", with_floor=False), power_law("N")
QUICK = {"estimator": LeastSquares(), "search": Search(starts=16)}
POINT = {**QUICK, "bootstrap": Bootstrap(0)}
# The order of Farseer's nine published constants, found as the one assignment that gives the reported test R2.
FARSEER_ORDER = ("F", "s", "q", "G", "B", "b", "H", "A", "a")
FARSEER_PUBLISHED = (
    *(3.133347198805445, -0.062465473, 0.13, 0.1284880679442551, 230.73437075885855),
    *(-0.1729, -1.544209554, -1.665630816, 0.0458999999999619),
)


def runs_in_size(floor: float, noise: float = 0.01, trunks: int = 6, sizes: int = 6, seed: int = 0) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    rows = [(f"t{n:.0f}-{k}", n) for n in np.geomspace(1e4, 3e6, sizes) for k in range(trunks)]
    frame = pd.DataFrame(rows, columns=["trunk_id", "n_params"])
    frame["loss"] = (floor + 40 / frame["n_params"] ** 0.5) * np.exp(rng.normal(0, noise, len(frame)))
    frame["train_flops"] = 6 * frame["n_params"] * 1e5
    return frame


def test_folds_fit_below_the_cut_and_predict_above_it():
    frame = runs_in_size(0.2)
    (largest,) = leave_largest_size_out(frame)
    assert set(largest.held_out.rows["n_params"]) == {frame["n_params"].max()}
    assert len(largest.fitted.rows) + len(largest.held_out.rows) == len(frame)
    cuts = rolling_cuts(frame, "train_flops", folds=3, least_share=0.4)
    assert [len(fold.fitted.rows) for fold in cuts] == [18, 24, 30]
    for fold in cuts:
        assert fold.fitted.rows["train_flops"].max() < fold.held_out.rows["train_flops"].min()
    with pytest.raises(ValueError, match="'n_params' has 1 distinct value"):
        leave_largest_size_out(frame[frame["n_params"] == frame["n_params"].max()])
    with pytest.raises(ValueError, match="missing columns"):
        rolling_cuts(frame.drop(columns="train_flops"))


def test_scores_are_those_of_the_held_out_errors():
    frame = runs_in_size(0.2)
    (fold,) = leave_largest_size_out(frame)
    scores = backtest([LINE], [fold], **POINT)
    fitted, held_out = fold.fitted.rows, fold.held_out.rows
    slope, intercept, *_ = stats.linregress(np.log(fitted["n_params"]), np.log(fitted["loss"]))
    predicted = np.exp(intercept + slope * np.log(held_out["n_params"].to_numpy()))
    measured = held_out["loss"].to_numpy()
    score = scores.score(LINE.name)
    assert score.rmse_log == pytest.approx(np.sqrt(np.mean(np.log(predicted / measured) ** 2)), rel=1e-6)
    assert score.mae_log == pytest.approx(np.mean(np.abs(np.log(predicted / measured))), rel=1e-6)
    assert score.relative_error == pytest.approx(np.mean(np.abs(predicted / measured - 1)), rel=1e-6)
    spread = ((measured - measured.mean()) ** 2).sum()
    assert score.r_squared == pytest.approx(1 - ((predicted - measured) ** 2).sum() / spread, rel=1e-6)
    assert score.r_squared < 0
    assert (score.rows, score.clusters, score.coverage) == (6, 6, None)


def test_the_paired_interval_finds_the_better_law_and_doubts_a_single_cluster():
    scores = backtest([LINE, FLOORED], leave_largest_size_out(runs_in_size(0.2)), **POINT)
    difference = scores.difference(FLOORED.name, LINE.name)
    assert difference.interval[1] < 0 < difference.improvement
    assert difference.estimate == pytest.approx(difference.law_rmse_log - difference.base_rmse_log)
    errors = np.stack([scores.of(name)[0].log_error_N for name in (FLOORED.name, LINE.name)])
    without = np.array([np.diff(np.sqrt((np.delete(errors, k, axis=1) ** 2).mean(axis=1)))[0] for k in range(6)])
    error = np.sqrt(5 / 6 * ((-without - difference.estimate) ** 2).sum())
    assert difference.standard_error == pytest.approx(error, rel=1e-9)
    half = stats.t.ppf(0.975, 5) * error
    assert difference.interval == pytest.approx((difference.estimate - half, difference.estimate + half))
    lone = replace(scores, predictions=tuple(replace(p, cluster_N=np.full(6, "t")) for p in scores.predictions))
    alone = lone.difference(FLOORED.name, LINE.name)
    assert alone.interval is None and "1 held-out clusters" in alone.reason


def test_intervals_of_a_new_run_are_scored():
    folds = leave_largest_size_out(runs_in_size(0.2, noise=0.03))
    score = backtest([FLOORED], folds, bootstrap=Bootstrap(300), **QUICK).score(FLOORED.name)
    assert score.coverage >= 5 / 6
    # Normal forecasts that are right score sigma / sqrt(pi); a forecast without spread would score the mean error.
    assert 0.4 * 0.03 / np.sqrt(np.pi) < score.crps_log < 2 * 0.03 / np.sqrt(np.pi)
    assert score.crps_log < score.mae_log


def test_a_law_that_fails_in_a_fold_is_named_and_left_out_of_the_pairs():
    frame = runs_in_size(0.2)
    few = split_fold(frame.iloc[:2], frame.iloc[30:], label="two rows")
    both = [*few, *leave_largest_size_out(frame)]
    scores = backtest([FLOORED, LINE], both, **POINT)
    assert set(scores.failures) == {f"{FLOORED.name}, two rows", f"{LINE.name}, two rows"}
    assert scores.table().set_index(["law", "fold"])["reason"][FLOORED.name, "two rows"]
    assert scores.score(FLOORED.name).rows == 6
    assert scores.score(FLOORED.name, common=True).rows == scores.difference(FLOORED.name, LINE.name).rows == 6
    assert "two rows" in str(scores)


def test_an_extension_is_admitted_only_when_it_predicts_better_by_the_margin():
    rule = AdmissionRule(margin=0.05)
    (needed,), _ = admit(LINE, [FLOORED], runs_in_size(0.2), rule, **QUICK)
    assert needed.admitted and needed.difference.interval[1] < 0
    (needless,), _ = admit(LINE, [FLOORED], runs_in_size(0.0), rule, **QUICK)
    assert not needless.admitted
    assert "not admitted over" in str(needless) and "RMSE of ln loss" in str(needless)
    (strict,), _ = admit(LINE, [FLOORED], runs_in_size(0.2), AdmissionRule(margin=0.99), **QUICK)
    assert not strict.admitted
    broken = Law(
        name="needs_more",
        equation="L = A / N^alpha, and more constants than rows",
        source="this test",
        variables=(Variable("N", "N"),),
        parameters=(*LINE.parameters, *(Parameter(f"c_{k}", -1, 1, (-1, 1)) for k in range(60))),
        log_loss=LINE.log_loss,
    )
    (impossible,), _ = admit(LINE, [broken], runs_in_size(0.2), rule, **QUICK)
    assert not impossible.admitted and "failed in" in impossible.why


def mixed_runs(kappa_slope: float, seed: int = 0) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    rows = []
    for n in np.geomspace(3e4, 3e6, 5):
        for r in (0.0, 0.5, 1.0):
            for k in range(3):
                for d in (4e3, 1e4, 2.5e4, 6.4e4):
                    kappa = 0.3 * (n / 3e5) ** kappa_slope
                    worth = r * d + kappa * (1 - r) * d
                    loss = 0.1 + 0.05 * (r == 0) + 6 / n**0.35 + 20 / worth**0.45
                    rows.append((f"{n:g}-{r}-{k}", n, r * d, (1 - r) * d, 1e9 * (r > 0), loss))
    names = ["trunk_id", "n_params", "real_seen", "synthetic_seen", "unique_real_records", "loss"]
    frame = pd.DataFrame(rows, columns=names)
    frame["loss"] *= np.exp(rng.normal(0, 0.005, len(frame)))
    return frame


@pytest.mark.long
def test_the_protocols_extensions_pass_or_fail_the_gate():
    extensions = [RATE_OF_SIZE, SATURATING, FLOOR_OF_MIX]
    options = {"estimator": LeastSquares(), "search": Search(starts=64, allow_unconverged=True), "profiles": False}
    moving, _ = admit(COMMON_RATE, extensions, mixed_runs(0.3), AdmissionRule(), **options)
    assert [one.admitted for one in moving] == [True, False, False], list(map(str, moving))
    constant, _ = admit(COMMON_RATE, extensions, mixed_runs(0.0), AdmissionRule(), **options)
    assert not any(one.admitted for one in constant), list(map(str, constant))


def farseer(folder):
    parts = [pd.read_csv(folder / "scalebench" / f"farseer_scaling_law_{part}.csv") for part in ("train", "test")]
    return parts, {"columns": {"N": "N", "D": "D"}, "bootstrap": Bootstrap(0)}


def r_squared(predicted, measured):
    return 1 - ((predicted - measured) ** 2).sum() / ((measured - measured.mean()) ** 2).sum()


def test_farseers_published_constants_give_the_reported_score(scaling_data_dir):
    (_, test), _ = farseer(scaling_data_dir)
    constants = dict(zip(FARSEER_ORDER, FARSEER_PUBLISHED, strict=True))
    constants |= {"G": np.exp(constants["G"]), "H": np.exp(constants["H"])}
    none = {"L": 0.0, "N": 0.0}
    theta = FARSEER.working(np.array([[constants[name] for name in FARSEER.names]]), none)
    x = FARSEER.prepare({"N": test["N"].to_numpy(), "D": test["D"].to_numpy()}, none)
    predicted, measured = np.exp(log_predictions(FARSEER, theta, x)[0]), test["loss"].to_numpy()
    assert r_squared(predicted, measured) == pytest.approx(0.9174, abs=5e-5)
    assert 100 * np.mean(np.abs(predicted / measured - 1)) == pytest.approx(0.4764, abs=5e-5)


@pytest.mark.long
def test_large_models_held_out_by_farseer(scaling_data_dir):
    """Coupled and Farseer predict Farseer's larger models, Chinchilla does not.

    Farseer's own refit does not converge in the steps that a fit has, and that is the equation's doing, not a bound's
    or an overflow's. In A N^a + F only A + F, A a and, through a, the curvature in ln N are seen; the best a is 0.0079
    here, so that A = -19.9 (N in units of its mean) and F = +18.7 nearly cancel, with the same trade between G and s at
    q = 0.05. The fit creeps along that ridge from (A, F) = (-5.2, 4.0): 400 further steps five times over lower the
    objective by 0.2 %, to 3.88731865e-4. Written as exp(c + k (N^a - 1) / a), and so for the other two powers, half of
    48 starts end at that same minimum within 100 steps. The held-out R2 hardly moves along the ridge: 0.9321 where the
    fit stops, 0.9315 at the minimum.
    """
    (train, test), options = farseer(scaling_data_dir)
    folds = split_fold(train, test)
    scores = backtest([CHINCHILLA, COUPLED], folds, estimator=Huber(1e-3), search=Search(starts=48), **options)
    chinchilla, coupled = scores.score(CHINCHILLA.name), scores.score(COUPLED.name)
    assert chinchilla.r_squared == pytest.approx(-2.03, abs=0.005)
    assert 100 * chinchilla.relative_error == pytest.approx(2.988, abs=0.001)
    assert coupled.r_squared >= 0.91
    assert 100 * coupled.relative_error < 0.49
    assert scores.difference(COUPLED.name, CHINCHILLA.name).interval[1] < 0
    refit = backtest(
        [FARSEER], folds, estimator=Huber(1e-3), search=Search(starts=16, allow_unconverged=True), **options
    )
    assert refit.score(FARSEER.name).r_squared > 0.91


# Mean over curves of the RMSE of ln loss at the rows not fitted; least squares on ln loss.
NSL_REFERENCE = {"NMT": (0.222, 0.048), "LM": (0.0140, 0.0011), "BB": (0.0148, 0.0100)}


def nsl_errors(folder, domain):
    rows = pd.read_csv(folder / "revisiting_nsl" / "benchmark.lang.csv")
    folds = []
    for name, curve in rows[rows["Domain"] == domain].groupby(["Task", "Model"]):
        parts = [
            read_runs(curve.loc[curve["Training"] == flag, ["Seen Examples", "Loss"]], response="Loss")
            for flag in (1, 0)
        ]
        folds += split_fold(*parts, label=str(name))
    laws = [power_law("D", with_floor=False), power_law("D")]
    point = {**POINT, "search": Search(starts=16, allow_unconverged=True)}
    scores = backtest(laws, folds, columns=Columns({"D": "Seen Examples"}, "Loss"), **point)
    return [np.mean([scores.score(law.name, fold=fold.label).rmse_log for fold in folds]) for law in laws]


@pytest.mark.long
@pytest.mark.parametrize("domain", list(NSL_REFERENCE))
def test_curves_are_extrapolated_as_the_reference_does(scaling_data_dir, domain):
    line, floored = nsl_errors(scaling_data_dir, domain)
    assert (line, floored) == pytest.approx(NSL_REFERENCE[domain], rel=0.03)
    assert floored < line


@pytest.mark.long
def test_the_repetition_law_does_not_predict_larger_data_constrained_runs_better(scaling_data_dir):
    parts = [
        pd.read_csv(scaling_data_dir / "scalebench" / f"data_constrained_scaling_law_{part}.csv")
        for part in ("train", "test")
    ]
    columns = {"N": "params", "D": "tokens", "U": "unique_tokens"}
    options = {"columns": columns, "bootstrap": Bootstrap(0), "search": Search(starts=64), "estimator": Huber(1e-3)}
    scores = backtest([CHINCHILLA, REPETITION], split_fold(*parts), **options)
    # Measured, against expectation: decaying repetitions, seven free constants, extrapolate worse than none.
    assert scores.score(CHINCHILLA.name).relative_error == pytest.approx(0.02795, abs=2e-4)
    assert scores.score(REPETITION.name).relative_error == pytest.approx(0.0382, abs=2e-4)
    assert scores.difference(REPETITION.name, CHINCHILLA.name).estimate > 0


@pytest.mark.long
def test_exponential_mixing_predicts_held_out_mixtures(scaling_data_dir):
    frames = [
        pd.read_csv(scaling_data_dir / "scalebench" / f"domain_mixture_scaling_law_{part}.csv")
        for part in ("train", "test")
    ]
    law = exponential_mixing(5)
    columns = {f"h_{i}": f"proportion_domain_{i}" for i in range(1, 6)}
    for domain in range(1, 6):
        for size in sorted(set(frames[0]["group"])):
            folds = split_fold(*(f[f["group"] == size] for f in frames), response=f"loss_domain_{domain}")
            scores = backtest([law], folds, columns=Columns(columns, f"loss_domain_{domain}"), **POINT)
            assert scores.score(law.name).relative_error < 0.02, (domain, size)
