"""Public data against published and verified optima (`ACCEPTANCE.json` of the data folder tells each story)."""

import json

import numpy as np
import pandas as pd
import pytest

from scaling_fits.estimation.estimators import LEAST_ABSOLUTE, Huber, LeastSquares, Quantile, Residual
from scaling_fits.estimation.observations import observe
from scaling_fits.estimation.problem import log_predictions, row_losses
from scaling_fits.fit import fit
from scaling_fits.laws.size_and_data import CHINCHILLA, COUPLED, FARSEER, REPETITION
from scaling_fits.uncertainty.bootstrap import Bootstrap, published, refit

QUICK = {"bootstrap": Bootstrap(0), "profiles": False}
ND = {"N": "N", "D": "D"}


@pytest.fixture(scope="module")
def cases(scaling_data_dir):
    return {case["id"]: case for case in json.loads((scaling_data_dir / "ACCEPTANCE.json").read_text())}


@pytest.fixture(scope="module")
def epoch(scaling_data_dir):
    """The 245 digitised Chinchilla runs as published; the five highest losses are to be dropped."""
    frame = pd.read_csv(scaling_data_dir / "chinchilla_epoch" / "svg_extracted_data.csv")
    n = frame["Model Size"]
    return pd.DataFrame(
        {"N": n, "D": frame["Training FLOP"] / (6 * n), "C": frame["Training FLOP"], "loss": frame["loss"]}
    ).iloc[5:]


def test_huber_optimum_of_the_chinchilla_runs(epoch, cases):
    case = cases["chinchilla_huber"]
    result = fit(CHINCHILLA, epoch, columns=ND, **QUICK)
    assert result.data.rows == case["n"]
    assert result.objective == pytest.approx(case["verified_objective"], rel=1e-10)
    assert result.objective < case["published"]["objective"]
    values = [np.log(result.parameters[name]) for name in "ABE"] + [result.parameters[k] for k in ("alpha", "beta")]
    assert values == pytest.approx(
        [case["verified_optimum"][name] for name in ("a", "b", "e", "alpha", "beta")], abs=2e-7
    )
    assert result.certificate.share_at_best > 0.95 and result.certificate.starts >= 256
    # The constants as written are exact enough to give the objective back.
    written = json.loads(result.to_json())["parameters"]
    law = written["E"] + written["A"] / epoch["N"] ** written["alpha"] + written["B"] / epoch["D"] ** written["beta"]
    size = np.abs(np.log(law) - np.log(epoch["loss"]))
    objective = (np.minimum(size, 1e-3) * (size - np.minimum(size, 1e-3) / 2)).sum()
    assert objective == pytest.approx(result.objective, rel=1e-9)


def test_least_absolute_deviation_is_what_was_published(epoch, cases):
    case = cases["besiroglu_lad"]
    result = fit(CHINCHILLA, epoch, columns=ND, estimator=LEAST_ABSOLUTE, **QUICK)
    assert 2 * result.objective == pytest.approx(case["verified_objective"], rel=1e-10)
    assert result.parameters == pytest.approx(case["verified_optimum"], rel=1e-5)
    assert int((np.abs(result.residuals) < 1e-10).sum()) == 5  # on the kink, not near it


def test_four_thousand_bootstraps_give_the_verified_errors(epoch, cases):
    case = cases["besiroglu_bootstrap"]
    result = fit(CHINCHILLA, epoch, columns=ND, **QUICK)
    legacy = np.random.RandomState(42)
    rows = len(epoch)
    counts = np.stack([np.bincount(legacy.choice(rows, size=rows), minlength=rows) for _ in range(4000)])
    # Row k of the fit is the run numbered k in the table's own order of its contents.
    order = epoch.reset_index(drop=True).sort_values(sorted(epoch.columns), kind="stable").index
    theta = refit(result.observations.problem, result.theta_KxP, result.initial_SxP, counts[:, order].astype(float))
    constants = published(result.observations, theta)
    errors = dict(zip(result.law.names, constants.std(axis=0, ddof=1)))
    assert errors == pytest.approx(case["verified_se"], rel=1e-3)
    low, high = np.quantile(constants, [0.025, 0.975], axis=0)
    for p, name in enumerate(result.law.names):
        assert (low[p], high[p]) == pytest.approx(case["verified_ci95"][name], rel=2e-3)


def test_squares_of_the_loss_itself(epoch, cases):
    case = cases["scalefit_mse"]["verified"]
    rows = epoch[epoch["C"] < 1e21].assign(N=lambda f: f["N"] / 1e6, D=lambda f: f["D"] / 1e9)
    result = fit(CHINCHILLA, rows, columns=ND, estimator=LeastSquares(Residual.RAW), **QUICK)
    assert result.data.rows == 217
    assert 2 * result.objective == pytest.approx(case["RSS"], rel=1e-9)
    assert result.parameters == pytest.approx({name: case[name] for name in result.parameters}, rel=1e-6)


def test_repetition_has_a_better_optimum_than_the_published_one(scaling_data_dir, cases):
    case = cases["muennighoff"]
    runs = pd.read_csv(scaling_data_dir / "muennighoff_data_constrained" / "runs.csv").drop(columns="name")
    held = case["fixed"]
    fixed = {"A": np.exp(held["a"]), "B": np.exp(held["b"]), "E": np.exp(held["e"])}
    fixed |= {"alpha": held["alpha"], "beta": held["beta"]}
    columns = {"N": "params", "D": "tokens", "U": "unique_tokens"}
    result = fit(REPETITION, runs, columns=columns, fixed=fixed, bootstrap=Bootstrap(0))
    assert result.data.rows == case["n"]
    best, local = case["global_optimum"], case["local_optimum"]
    assert result.objective == pytest.approx(best["objective"], rel=1e-9)
    assert result.parameters["R_D"] == pytest.approx(best["R_D"], rel=1e-4)
    assert result.parameters["R_N"] == pytest.approx(best["R_N"], rel=1e-4)
    found = [o for o in result.certificate.optima if o.parameters["R_D"] == pytest.approx(local["R_D"], rel=1e-4)]
    assert found and found[0].parameters["R_N"] == pytest.approx(local["R_N"], rel=1e-4)
    assert (1 + found[0].relative_excess) * result.objective == pytest.approx(local["objective"], rel=1e-9)
    profile = next(interval for interval in result.profiles if interval.name == "R_D")
    assert profile.high is None and 1 < profile.low < 15.4  # from above, nothing bounds it
    assert any("R_D is not identified" in warning for warning in result.warnings)


def test_misfittings_objective_is_that_of_all_its_rows(scaling_data_dir, cases):
    case = cases["misfitting_hoffmann"]
    rows = pd.read_csv(scaling_data_dir / "misfitting" / "scaling_results_last_ckpt_only.csv")
    for n in ("N", "N_no_emb"):
        data = observe(CHINCHILLA, rows[[n, "D", "loss"]], Huber(1e-3), columns={"N": n, "D": "D"})
        a, b, e, alpha, beta = case["published"]["params"]
        theta = CHINCHILLA.working(np.array([[np.exp(e), np.exp(a), np.exp(b), alpha, beta]]), data.references)
        at_published = row_losses(data.problem, theta).sum()
        if at_published == pytest.approx(case["published"]["objective"], rel=1e-9):
            break
    else:
        pytest.fail("neither definition of N gives the published objective")
    result = fit(CHINCHILLA, rows[[n, "D", "loss"]], columns={"N": n, "D": "D"}, **QUICK)
    assert result.data.rows == case["n"]
    assert result.objective == pytest.approx(case["verified"]["objective"], rel=1e-10)
    assert result.objective <= at_published
    found = [np.log(result.parameters[k]) for k in "ABE"] + [result.parameters[k] for k in ("alpha", "beta")]
    assert found == pytest.approx(case["verified"]["params"], rel=1e-5)


def test_a_lower_envelope_is_a_quantile(scaling_data_dir, cases):
    case = cases["kyo_readme"]
    rows = pd.read_csv(scaling_data_dir / "kyo_chinchilla_example" / "df.csv")
    result = fit(CHINCHILLA, rows, columns=ND, estimator=Quantile(1 / 11, Residual.RAW), **QUICK)
    # Their mean of errors, too high ones weighed ten times, is ours up to the factor 11 / rows.
    assert result.objective * 11 / len(rows) == pytest.approx(case["verified_objective"], rel=1e-8)
    assert result.parameters == pytest.approx(case["verified"], rel=1e-5)


def _held_out(scaling_data_dir):
    folder = scaling_data_dir / "scalebench"
    return (pd.read_csv(folder / f"farseer_scaling_law_{part}.csv")[["N", "D", "loss"]] for part in ("train", "test"))


def test_the_coupled_law_predicts_larger_models_and_chinchilla_does_not(scaling_data_dir, cases):
    case = cases["farseer"]["verified"]
    train, test = _held_out(scaling_data_dir)

    def r2(law):
        fitted = fit(law, train, columns=ND, estimator=Huber(1e-3), **QUICK)
        error = fitted.predict(N=test["N"], D=test["D"]) - test["loss"]
        return 1 - (error**2).sum() / ((test["loss"] - test["loss"].mean()) ** 2).sum()

    coupled = r2(COUPLED)
    assert coupled == pytest.approx(case["coupled6_test_R2"], abs=0.01) and coupled > 0.91
    assert r2(CHINCHILLA) == pytest.approx(case["chinchilla_test_R2"], abs=0.1)


def test_farseers_published_constants_predict_as_reported(scaling_data_dir, cases):
    train, test = _held_out(scaling_data_dir)
    case = cases["farseer"]
    # The released vector's order is not documented: of all 362,880 only this one gives the reported score.
    f, s, q, log_g, b_factor, b, log_h, a_factor, a = case["published"]["farseer9_params"]
    constants = {"G": np.exp(log_g), "s": s, "q": q, "H": np.exp(log_h), "B": b_factor, "b": b}
    constants |= {"A": a_factor, "a": a, "F": f}
    data = observe(FARSEER, train, LeastSquares(), columns=ND)
    theta = FARSEER.working(np.array([[constants[name] for name in FARSEER.names]]), data.references)
    x = FARSEER.prepare({"N": test["N"], "D": test["D"]}, data.references)
    prediction = np.exp(log_predictions(FARSEER, theta, x)[0] + data.references["L"])
    r2 = 1 - ((prediction - test["loss"]) ** 2).sum() / ((test["loss"] - test["loss"].mean()) ** 2).sum()
    assert r2 == pytest.approx(case["verified"]["published_params_test_R2"], abs=1e-3)
    error = 100 * (np.abs(prediction - test["loss"]) / test["loss"]).mean()
    assert error == pytest.approx(case["verified"]["published_params_test_MRE_pct"], abs=0.01)
