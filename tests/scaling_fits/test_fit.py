"""Fits: planted laws, exact derivatives, the published Chinchilla case, certificates and honest uncertainty."""

import json
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from support.exported_tables import exported

from scaling_fits.__main__ import main
from scaling_fits.estimation.certificate import NotConverged
from scaling_fits.estimation.columns import Columns, Link
from scaling_fits.estimation.estimators import LEAST_ABSOLUTE, Huber, LeastSquares, Quantile, StudentT
from scaling_fits.estimation.multistart import Search
from scaling_fits.estimation.observations import observe
from scaling_fits.estimation.problem import derivatives, row_losses
from scaling_fits.estimation.solver import minimise
from scaling_fits.fit import fit
from scaling_fits.laws.size_and_data import CHINCHILLA, power_law
from scaling_fits.tables.run_table import read_runs
from scaling_fits.uncertainty.bootstrap import Bootstrap, Resampling

TRUTH = {"E": 0.15, "A": 12.0, "B": 60.0, "alpha": 0.35, "beta": 0.45}
NONE = Bootstrap(0)


def planted(noise: float = 0.0, seeds: int = 3, seed: int = 0, **changes: float) -> pd.DataFrame:
    truth = TRUTH | changes
    rng = np.random.default_rng(seed)
    rows = []
    for n in (3e4, 1e5, 3e5, 1e6):
        for s in range(seeds):
            shared = rng.normal(0, noise)
            for d in (4e3, 1e4, 2.5e4, 6.4e4):
                loss = truth["E"] + truth["A"] / n ** truth["alpha"] + truth["B"] / d ** truth["beta"]
                loss *= np.exp(shared + rng.normal(0, noise / 2))
                rows.append((f"r{len(rows):03d}", f"t{n:g}-{s}", n, d, s, loss))
    return pd.DataFrame(rows, columns=["run_id", "trunk_id", "n_params", "records_seen", "seed", "loss"])


@pytest.mark.parametrize(
    "estimator", [Huber(1e-3), LeastSquares(), LEAST_ABSOLUTE, StudentT()], ids=lambda e: type(e).__name__
)
def test_a_planted_law_is_recovered(estimator):
    rows = planted(1e-5 if isinstance(estimator, StudentT) else 0.0)  # a likelihood has no optimum without noise
    result = fit(CHINCHILLA, rows, estimator=estimator, bootstrap=NONE, profiles=False)
    assert result.parameters == pytest.approx(TRUTH, rel=1e-3 if isinstance(estimator, StudentT) else 1e-5)
    assert result.predict(N=1e6, D=6.4e4) == pytest.approx(planted()["loss"].iloc[-1], rel=1e-4)
    assert result.units == {"E": "loss", "A": "loss N^alpha", "B": "loss D^beta", "alpha": "1", "beta": "1"}


def test_the_law_in_one_variable_is_recovered():
    rows = pd.DataFrame({"n_params": np.geomspace(1e4, 1e7, 12)})
    rows["loss"] = 0.2 + 30 / rows["n_params"] ** 0.5
    result = fit(power_law("N"), rows, bootstrap=NONE)
    assert result.parameters == pytest.approx({"E": 0.2, "A": 30.0, "alpha": 0.5}, rel=1e-6)
    assert all(interval.identified for interval in result.profiles)


@pytest.mark.parametrize("estimator", [LeastSquares(), StudentT(), Huber(0.01)], ids=lambda e: type(e).__name__)
def test_gradient_and_hessian_match_finite_differences(estimator):
    problem = observe(CHINCHILLA, planted(0.02), estimator).problem
    theta = np.array([-1.0, -1.5, -0.7, 0.3, 0.5, -1.0][: problem.size])
    gradient, hessian, _ = derivatives(problem, theta)
    for p, step in enumerate(1e-6 * np.eye(problem.size)):
        rise = row_losses(problem, np.stack([theta + step, theta - step])).sum(axis=1)
        assert gradient[p] == pytest.approx((rise[0] - rise[1]) / 2e-6, rel=1e-6, abs=1e-8)
        slope = (derivatives(problem, theta + step)[0] - derivatives(problem, theta - step)[0]) / 2e-6
        np.testing.assert_allclose(hessian[:, p], slope, rtol=1e-4, atol=1e-4 * np.abs(hessian).max())


def test_scaling_the_objective_as_a_mean_would_does_not_move_the_optimum():
    result = fit(CHINCHILLA, planted(0.02), bootstrap=NONE, profiles=False)
    problem = result.observations.problem
    rows = len(problem.log_y_N)
    means = minimise(problem, result.initial_SxP[:32], weight_SxN=np.full((32, rows), 1 / rows))
    assert means.objective_S.min() * rows == pytest.approx(result.objective, rel=1e-10)


def test_row_weights_stand_for_rows_and_standard_errors_for_weights():
    rows = planted(0.02)
    twice = pd.concat([rows, rows[rows["seed"] == 0].assign(run_id=lambda r: r["run_id"] + "b")])
    weighted = rows.assign(times=np.where(rows["seed"] == 0, 2.0, 1.0))
    quick = {"bootstrap": NONE, "profiles": False}
    a, b = fit(CHINCHILLA, twice, **quick), fit(CHINCHILLA, weighted, columns=Columns(weight="times"), **quick)
    assert a.objective * len(rows) / len(twice) == pytest.approx(b.objective, rel=1e-9)  # weights have the mean 1
    assert a.parameters == pytest.approx(b.parameters, rel=1e-6)
    known = rows.assign(noise=np.where(rows["seed"] == 0, 0.02 / 2**0.5, 0.02))
    c = fit(CHINCHILLA, known, columns=Columns(sd="noise"), estimator=LeastSquares(), **quick)
    d = fit(CHINCHILLA, weighted, columns=Columns(weight="times"), estimator=LeastSquares(), **quick)
    assert c.parameters == pytest.approx(d.parameters, rel=1e-6)


@pytest.mark.parametrize("estimator", [Huber(1e-3), LeastSquares(), StudentT()], ids=lambda e: type(e).__name__)
@pytest.mark.parametrize("option", ["weight", "sd"])
def test_a_constant_factor_of_weights_or_standard_deviations_changes_nothing(option, estimator):
    rows = planted(0.02)
    column = np.random.default_rng(4).uniform(0.5, 2.0, len(rows))
    texts = set()
    for factor in (1.0, 1 / column.sum(), 100.0, 3e-9):
        law = fit(
            CHINCHILLA,
            rows.assign(column=factor * column),
            estimator=estimator,
            columns=Columns(cluster="run_id", **{option: "column"}),
            bootstrap=Bootstrap(20),
        )
        texts.add(law.to_json())
    assert len(texts) == 1 and all(interval.identified for interval in law.profiles)


def test_profile_intervals_do_not_take_a_sum_of_weights_for_a_number_of_rows():
    rows = planted(0.02).assign(w=0.01)
    options = {"estimator": LeastSquares(), "bootstrap": NONE}
    weighted = fit(CHINCHILLA, rows, columns=Columns(weight="w", cluster="run_id"), **options)
    plain = fit(CHINCHILLA, rows, columns=Columns(cluster="run_id"), **options)
    for one, other in zip(weighted.profiles, plain.profiles, strict=True):
        assert (one.low, one.high) == pytest.approx((other.low, other.high), rel=1e-9)


@pytest.mark.parametrize("sd", [1e-3, 0.02, 4.0])
def test_hubers_delta_is_one_of_ln_residuals_whatever_the_unit_of_standard_deviations(sd):
    rows = planted(0.02)
    beside = fit(CHINCHILLA, rows.assign(sd=sd), columns=Columns(sd="sd"), bootstrap=NONE, profiles=False)
    assert beside.parameters == pytest.approx(fit(CHINCHILLA, rows, bootstrap=NONE, profiles=False).parameters)


def test_exact_duplicates_are_named_and_counted_once(tmp_path, capsys):
    once = planted(0.01).drop(columns=["run_id", "trunk_id"])
    table = tmp_path / "thrice.csv"
    pd.concat([once] * 3, ignore_index=True).to_csv(table, index=False)
    law = fit(CHINCHILLA, table, bootstrap=Bootstrap(30))
    alone = fit(CHINCHILLA, once, bootstrap=Bootstrap(30))
    assert law.data.rows == 48 and law.data.excluded == {"exact_duplicate": 96}
    assert law.parameters == alone.parameters and law.intervals == alone.intervals
    assert [(i.low, i.high) for i in law.profiles] == [(i.low, i.high) for i in alone.profiles]
    named = "96 rows given twice, counted once: row "
    assert any(warning.startswith(named) and warning.endswith("and 91 more") for warning in law.warnings)
    assert main(["compare", str(table), "--laws", "tied,chinchilla", "--replicates", "0", "--quiet"]) == 0
    assert capsys.readouterr().out.count(named) >= 1
    runs = planted(0.01)
    again = pd.concat([runs, runs.iloc[:2]], ignore_index=True)
    assert read_runs(again).notes == ("2 rows given twice, counted once: r000, r001",)
    again.loc[48, "loss"] *= 1.001
    with pytest.raises(ValueError, match="names 'r000' twice, in rows that differ"):
        read_runs(exported(again))


def test_a_quantile_leaves_its_share_below():
    rng = np.random.default_rng(1)
    rows = pd.concat([planted()] * 4, ignore_index=True).drop(columns="run_id")
    rows["loss"] *= np.exp(rng.exponential(0.05, len(rows)))
    # The median is fitted to a published law in the acceptance tests.
    result = fit(CHINCHILLA, rows, estimator=Quantile(0.1), bootstrap=NONE, profiles=False, search=Search(starts=32))
    below = int((result.residuals > 1e-9).sum())
    assert abs(below - 0.1 * len(rows)) <= len(TRUTH)
    # As many rows lie on the law itself as it has constants.
    assert int((np.abs(result.residuals) < 1e-9).sum()) == len(TRUTH)


def test_a_bounded_response_is_fitted_through_its_odds():
    rows = planted()
    odds = rows["loss"]
    rows = rows.assign(auroc=1 / (1 + odds))
    columns = Columns(response="auroc", link=Link.LOGIT)
    result = fit(CHINCHILLA, rows, columns=columns, bootstrap=Bootstrap(50), profiles=False)
    assert result.parameters == pytest.approx(TRUTH, rel=1e-5)
    assert result.predict(N=1e12, D=1e9) == pytest.approx(1 / (1 + 0.15), rel=0.02)
    assert (np.asarray(result.interval(N=[1e3, 1e9], D=1e5, new_run=True)) < 1).all()
    with pytest.raises(ValueError, match="strictly between 0 and 1"):
        fit(CHINCHILLA, rows.assign(auroc=1.0), columns=columns)


def test_constants_can_be_held_at_published_values():
    rows = planted(0.01)
    held = fit(CHINCHILLA, rows, fixed={"alpha": 0.35, "A": 12.0}, bootstrap=NONE)
    assert held.parameters["alpha"] == 0.35 and held.parameters["A"] == pytest.approx(12.0, rel=1e-12)
    assert {interval.name for interval in held.profiles} == {"E", "B", "beta"}
    with pytest.raises(ValueError, match=r"only together with \['alpha'\]"):
        fit(CHINCHILLA, rows, fixed={"A": 12.0})


def test_the_same_table_in_any_order_gives_the_same_bytes():
    rows = planted(0.02)
    plan = Bootstrap(40)
    texts = {fit(CHINCHILLA, f, bootstrap=plan).to_json() for f in (rows, rows, rows.sample(frac=1, random_state=3))}
    assert len(texts) == 1
    assert fit(CHINCHILLA, rows, bootstrap=Bootstrap(40, seed=1)).to_json() not in texts


def test_intervals_need_eight_trunks_and_resample_trunks():
    rows = planted(0.02)
    result = fit(CHINCHILLA, rows, bootstrap=Bootstrap(200), profiles=False)
    assert result.draws.clusters == 12
    for name, (low, high) in result.intervals.items():
        assert low < result.parameters[name] < high
    few = fit(CHINCHILLA, rows[rows["seed"] == 0], profiles=False)
    assert few.intervals is None and "4 clusters" in few.draws.reason and "no intervals: 4 clusters" in str(few)
    with pytest.raises(ValueError, match="no draws"):
        few.predict_draws(N=1e5, D=1e4)
    # Rows as their own trunks hide the noise that trunks share: the level looks better known than it is.
    alone = fit(CHINCHILLA, rows, columns=Columns(cluster="run_id"), bootstrap=Bootstrap(200), profiles=False)
    width = {key: np.ptp(value.interval(N=1e5, D=1e4)) for key, value in {"trunk": result, "row": alone}.items()}
    assert width["row"] < width["trunk"]


@pytest.mark.parametrize("resampling", [Resampling.WILD, Resampling.RESIDUALS])
def test_other_bootstraps_agree_with_the_sandwich_on_clean_noise(resampling):
    rows = planted(0.01)
    rows["loss"] = planted()["loss"] * np.exp(np.random.default_rng(2).normal(0, 0.01, len(rows)))
    result = fit(
        CHINCHILLA,
        rows,
        columns=Columns(cluster="run_id"),
        estimator=LeastSquares(),
        bootstrap=Bootstrap(200, resampling=resampling),
        profiles=False,
    )
    for name, error in result.sandwich_errors.items():
        assert 0.6 < result.draws.standard_errors[name] / error < 1.7


def test_a_floor_that_is_not_there_is_said_to_be_unidentified():
    result = fit(CHINCHILLA, planted(0.01, E=1e-9), bootstrap=NONE)
    assert any(warning.startswith("E is") and "not identified" in warning for warning in result.warnings)
    assert "WARNING: E is" in str(result)
    profile = next(interval for interval in result.profiles if interval.name == "E")
    assert profile.low is None and profile.high is not None
    json.loads(result.to_json())


def test_an_exponent_without_size_effect_is_said_to_be_unidentified():
    result = fit(CHINCHILLA, planted(0.01, A=1e-12), bootstrap=NONE, search=Search(allow_unconverged=True))
    assert {"A", "alpha"} <= {warning.split()[0] for warning in result.warnings}


def test_profile_intervals_of_least_squares_agree_with_the_f_test():
    rows = planted(0.01).drop(columns="trunk_id")
    result = fit(CHINCHILLA, rows, estimator=LeastSquares(), bootstrap=NONE)
    for interval in result.profiles:
        assert interval.low < result.parameters[interval.name] < interval.high
    low = next(interval.low for interval in result.profiles if interval.name == "beta")
    pinned = fit(CHINCHILLA, rows, estimator=LeastSquares(), fixed={"beta": low}, bootstrap=NONE, profiles=False)
    spare = len(rows) - 5
    f_value = (pinned.objective / result.objective - 1) * spare
    assert f_value == pytest.approx(stats.f.ppf(0.95, 1, spare), rel=0.01)
    curve = result.profile("beta", points=9)
    assert curve.rise.min() == pytest.approx(0, abs=0.05) and curve.rise.max() > 1


def test_a_fit_that_has_not_converged_is_an_error(monkeypatch):
    from scaling_fits.estimation import solver

    monkeypatch.setattr(solver, "STEPS_MAX", 8)
    monkeypatch.setattr(solver, "DAMPING_FIRST", 1e11)
    with pytest.raises(NotConverged, match="did not converge: stationarity"):
        fit(CHINCHILLA, planted(0.02), bootstrap=NONE, profiles=False)
    lenient = fit(CHINCHILLA, planted(0.02), bootstrap=NONE, profiles=False, search=Search(allow_unconverged=True))
    assert any("not converged" in warning for warning in lenient.warnings)


def test_influence_names_the_row_that_was_changed():
    rows = planted(0.003)
    rows.loc[7, "loss"] *= 1.3
    found = fit(CHINCHILLA, rows, estimator=LeastSquares(), bootstrap=NONE, profiles=False).identifiability
    assert found.influential[0].row == "r007" and "without r007" in str(found)
    assert found.without_them["beta"] == pytest.approx(TRUTH["beta"], rel=0.15)


def test_laws_are_refused_where_they_do_not_hold():
    rows = planted()
    with pytest.raises(ValueError, match="16 of 48 rows repeat data"):
        fit(CHINCHILLA, exported(rows).assign(epochs_real=np.where(rows["seed"] == 0, 4.0, 1.0)))
    with pytest.raises(ValueError, match="states no law"):
        fit(CHINCHILLA, exported(rows).assign(pre_transition=rows["seed"] == 0))
    with pytest.raises(ValueError, match="more rows than constants"):
        fit(CHINCHILLA, rows.iloc[[0, 14, 25, 39, 47]])
    with pytest.raises(ValueError, match="at least two values"):
        fit(CHINCHILLA, rows[rows["n_params"] == 1e5])
    with pytest.raises(ValueError, match="perfectly collinear"):
        fit(CHINCHILLA, rows.assign(records_seen=20 * rows["n_params"]))
    with pytest.raises(ValueError, match=r"missing columns \['params'\].*the table has"):
        fit(CHINCHILLA, rows, columns={"N": "params"})
    with pytest.raises(ValueError, match="has the variables"):
        fit(CHINCHILLA, rows, columns={"M": "n_params"})


def test_units_mixed_up_are_warned_of():
    rows = planted(0.01)
    rows.loc[rows["seed"] == 2, "n_params"] /= 1e9
    assert any("another unit" in w for w in fit(CHINCHILLA, rows, bootstrap=NONE, profiles=False).warnings)
    rows = planted(0.01).assign(n_params=lambda r: r["n_params"] / 1e6)
    assert any("in millions" in w for w in fit(CHINCHILLA, rows, bootstrap=NONE, profiles=False).warnings)


def test_the_data_definition_names_columns_exclusions_and_axes():
    rows = exported(planted()).assign(tier="T1", diverged=False)
    rows.loc[3, "diverged"] = True
    data = fit(CHINCHILLA, rows, bootstrap=NONE, profiles=False).data
    assert data.columns == {"N": "n_params", "D": "records_seen"} and data.rows == 47
    assert data.excluded == {"diverged": 1}
    assert data.constant_axes == {"study": "s", "tier": "T1"} and data.varying_axes == {"seed": 3}


def test_nothing_of_jax_is_changed_by_importing_or_fitting():
    code = (
        "import jax, jax.numpy as jnp; before = dict(jax.config.values);"
        "import numpy as np, pandas as pd, scaling_fits.fit as f, scaling_fits.laws.size_and_data as laws;"
        "import scaling_fits.uncertainty.bootstrap as b, scaling_fits.__main__;"
        "n = np.geomspace(1e4, 1e7, 8);"
        "f.fit(laws.power_law('N'), pd.DataFrame({'n_params': n, 'loss': .2 + 9 / n**.5}), bootstrap=b.Bootstrap(0));"
        "assert before == dict(jax.config.values), 'changed'; print(jnp.ones(2).dtype)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout == "float32\n", done.stderr


def test_command_line(tmp_path, capsys):
    table, out = tmp_path / "runs.csv", tmp_path / "fit.json"
    planted(0.01).assign(real_fraction=0.0).to_csv(table, index=False)
    with pytest.raises(SystemExit):
        main(["--help"])
    help_text = capsys.readouterr().out
    assert "scaling-fits fit runs.csv" in help_text and "contrasts" in help_text
    words = ["fit", str(table), "--where", "real_fraction=0", "--replicates", "20", "--out", str(out)]
    assert main(words) == 0
    assert "L = E + A / N^alpha + B / D^beta" in capsys.readouterr().out
    assert json.loads(out.read_text())["data"]["clusters"] == 12
    assert main(["fit", str(table), "--n", "params"]) == 2
    assert "missing columns ['params']" in capsys.readouterr().err


def test_the_package_stands_alone():
    code = "import sys, scaling_fits.figures.run_figures, scaling_fits.__main__; print('ecg_jax' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "False\n"
