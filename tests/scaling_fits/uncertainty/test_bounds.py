"""Optima at bounds: said to be there, with what lies beyond; and the tables that no falling law fits."""

import json

import numpy as np
import pandas as pd
import pytest
from scipy import optimize

from scaling_fits.estimation.estimators import Huber, LeastSquares, Residual
from scaling_fits.estimation.multistart import Search
from scaling_fits.fit import fit
from scaling_fits.laws.data_mix import COMMON_RATE, exponential_mixing
from scaling_fits.laws.size_and_data import CHINCHILLA, COUPLED, power_law
from scaling_fits.uncertainty.bootstrap import Bootstrap, published
from scaling_fits.uncertainty.bounds import open_ends

N = np.geomspace(1e5, 1e9, 16)
DRAWN = Bootstrap(40)


def line(floor: float, noise: float = 0.002, seed: int = 0) -> pd.DataFrame:
    loss = (floor + 12 / N**0.1) * np.exp(np.random.default_rng(seed).normal(0, noise, len(N)))
    return pd.DataFrame({"N": N, "loss": loss})


@pytest.fixture(scope="module")
def pushed():
    """A law whose true floor is below 0."""
    return fit(power_law("N"), line(-0.7), columns={"N": "N"}, estimator=LeastSquares(), bootstrap=DRAWN)


def test_a_floor_below_zero_is_said_to_be_wanted_with_its_gain_and_the_bias(pushed):
    (found,) = pushed.at_bounds
    assert (found.name, found.side, found.bound, found.wanted) == ("E", "lower", 0.0, True)
    # What lies beyond is the optimum of the law with a floor of either sign.
    logs = np.log(line(-0.7)["loss"].to_numpy())

    def residual(at):
        floor, log_a, alpha = at
        return np.log(np.maximum(floor + np.exp(log_a) * N**-alpha, 1e-9)) - logs

    starts = ((floor, 2.5, 0.1) for floor in (-0.3, -0.7, -1.2))
    best = min(
        (optimize.least_squares(residual, at, xtol=1e-14, ftol=1e-14) for at in starts), key=lambda end: end.cost
    )
    assert found.beyond == pytest.approx(best.x[0], rel=1e-3)
    assert found.gain == pytest.approx(pushed.objective - best.cost, rel=1e-6)
    assert found.share == pytest.approx(found.gain / pushed.objective)
    held, free_alpha = found.moved["alpha"]
    assert held == pushed.parameters["alpha"] and free_alpha == pytest.approx(best.x[2], rel=1e-3)
    words = [warning for warning in pushed.warnings if warning.startswith("E ")]
    assert len(words) == 1 and "the data want E < 0" in words[0] and "which biases alpha" in words[0]
    assert not any("E is not identified" in warning for warning in pushed.warnings)


def test_ends_of_intervals_that_are_bounds_are_open_everywhere(pushed):
    assert pushed.intervals["E"] == (None, None) and None not in pushed.intervals["alpha"]
    tree = json.loads(pushed.to_json())
    assert tree["bootstrap"]["intervals"]["E"] == [None, None]
    assert tree["at_bounds"][0]["gain"] == pushed.at_bounds[0].gain
    assert "bootstrap open to open" in str(pushed)
    latex = pushed.to_latex()
    assert (
        r"E & 0 & open to" in latex
        and r"the data want E \textless  0" in latex
        and "%)" not in latex.replace(r"\%", "")
    )


def test_a_floor_that_noise_alone_pushes_to_zero_is_not_said_to_be_wanted():
    for seed in range(20):
        law = fit(power_law("N"), line(0.0, 0.02, seed), columns={"N": "N"}, estimator=LeastSquares(), bootstrap=DRAWN)
        if law.at_bounds and not law.at_bounds[0].wanted:
            break
    sentence = law.at_bounds[0].sentence
    assert "stands at its lower bound 0" in sentence and "no more than noise explains" in sentence
    assert any("E is not identified" in warning for warning in law.warnings)


def test_a_constant_away_from_its_bounds_and_one_held_there_on_purpose_are_not_named():
    assert fit(power_law("N"), line(0.4), columns={"N": "N"}, bootstrap=Bootstrap(0), profiles=False).at_bounds == ()
    law = fit(power_law("N", with_floor=False), line(0.4), columns={"N": "N"}, bootstrap=Bootstrap(0), profiles=False)
    assert law.at_bounds == ()


def test_draws_at_either_bound_open_that_end(pushed):
    data = pushed.observations
    low, high = data.problem.bounds
    theta = np.tile(pushed.theta_KxP[0], (100, 1))
    theta[:, 0] = 0.0
    theta[:10, 2] = high[2]
    theta[90:, 0] = low[0]
    given = dict.fromkeys(data.problem.law.names, (1.0, 2.0))
    assert open_ends(data, theta, given, 0.95) == {"E": (None, 2.0), "A": (1.0, 2.0), "alpha": (1.0, None)}


def test_a_factor_is_open_where_the_bound_of_its_exponent_sets_its_size(pushed):
    data, high = pushed.observations, pushed.observations.problem.bounds[1]
    theta = np.tile(pushed.theta_KxP[0], (100, 1))
    theta[:, 0], theta[:10, 2] = 0.0, high[2]
    drawn = published(data, theta)
    given = {name: tuple(np.quantile(drawn[:, p], [0.025, 0.975])) for p, name in enumerate(data.problem.law.names)}
    found = open_ends(data, theta, given, 0.95)
    assert given["A"][1] > 1e50 and found["A"] == (given["A"][0], None)


def test_factors_of_a_coupled_law_are_reached_however_small_their_power_makes_them():
    n, d = (axis.ravel() for axis in np.meshgrid(np.geomspace(1e7, 1e10, 6), np.geomspace(1e9, 1e11, 6)))
    loss = 1.8 + ((0.6**20 / (n / 10**8.5) ** 6) + 0.3**20 / (d / 1e10) ** 7) ** 0.05
    frame = pd.DataFrame({"n_params": n, "records_seen": d, "loss": loss})
    law = fit(
        COUPLED, frame, estimator=LeastSquares(), bootstrap=Bootstrap(0), profiles=False, search=Search(starts=64)
    )
    assert law.objective < 1e-20 and law.at_bounds == ()
    assert [law.parameters[name] for name in "abg"] == pytest.approx([6, 7, 0.05], rel=1e-4)


@pytest.mark.parametrize(("kappa", "decay"), [(5000.0, 5.0), (1e-9, 5.0), (0.3, 1e-4)])
def test_an_exchange_rate_and_a_decay_are_reached_far_from_one(kappa, decay):
    n, seen = (axis.ravel() for axis in np.meshgrid(np.geomspace(1e5, 1e7, 4), np.geomspace(1e4, 1e6, 12)))
    real = seen * np.tile([0.0, 0.25, 0.5, 1.0, 0.5, 0.25], 8)
    unique = np.where(real > 0, 3000.0, 0.0)
    repeated = np.maximum(real / 3000 - 1, 0)
    worth = np.minimum(real, unique) + unique * decay * -np.expm1(-repeated / decay) + kappa * (seen - real)
    columns = {"n_params": n, "real_seen": real, "synthetic_seen": seen - real, "unique_real_records": unique}
    frame = pd.DataFrame(columns).assign(loss=0.3 + 0.05 * (real == 0) + 30 / n**0.5 + 20 / worth**0.4)
    law = fit(
        COMMON_RATE, frame, estimator=LeastSquares(), bootstrap=Bootstrap(0), profiles=False, search=Search(starts=64)
    )
    assert law.at_bounds == () and law.objective < 1e-20
    assert law.parameters["kappa"] == pytest.approx(kappa, rel=1e-3)
    assert law.parameters["R_D"] == pytest.approx(decay, rel=1e-3)


def test_constants_held_have_no_interval_and_are_held_within_their_law():
    held = {"estimator": LeastSquares(), "bootstrap": DRAWN, "fixed": {"alpha": 0.1}}
    law = fit(power_law("N"), line(0.4), columns={"N": "N"}, **held)
    assert json.loads(law.to_json())["fixed"] == ["alpha"] and r"alpha & 0.1 & held" in law.to_latex()
    assert "alpha   0.1            held" in str(law)
    for value in (-0.1, 11.0, np.nan):
        with pytest.raises(ValueError, match=r"alpha cannot be held at .*: 0 <= alpha <= 10"):
            fit(power_law("N"), line(0.4), columns={"N": "N"}, fixed={"alpha": value})


def test_a_table_for_a_paper_says_when_its_intervals_are_those_of_the_profile():
    law = fit(power_law("N"), line(0.4), columns={"N": "N"}, estimator=LeastSquares(), bootstrap=Bootstrap(0))
    ends = law.profiles[0]
    assert f"{ends.low:.4g} to {ends.high:.4g}" in law.to_latex() and "intervals of the profile" in law.to_latex()


@pytest.mark.parametrize("log_k", [(-0.4, -0.8, -90.0), (-0.4, 1.0, -300.0), (40.0, 0.5, 0.2)])
def test_a_mixing_laws_constants_are_reached_however_small_or_large(log_k):
    shares = np.random.default_rng(5).dirichlet(np.ones(3), 40)
    shares[::4, 2], shares[::4, :2] = 0.0, shares[::4, :2] / shares[::4, :2].sum(axis=1, keepdims=True)
    loss = 3 + np.exp(shares @ np.array(log_k))
    frame = pd.DataFrame(shares, columns=["h_1", "h_2", "h_3"]).assign(loss=loss)
    frame["h_1"] = 1 - frame["h_2"] - frame["h_3"]
    estimator = LeastSquares() if max(log_k) > 10 else Huber(0.05, Residual.RAW)
    law = fit(exponential_mixing(3), frame, estimator=estimator, bootstrap=Bootstrap(0), profiles=False)
    assert law.objective < 1e-9 and law.at_bounds == ()
    for i, value in enumerate(log_k):
        assert np.log(law.parameters[f"k_{i + 1}"]) == pytest.approx(value, rel=1e-3, abs=1e-3)


def test_what_lies_beyond_an_upper_bound_is_the_optimum_of_the_wider_box():
    table = pd.DataFrame({"N": N[:6] ** 0.2, "loss": 1 + (10 / N[:6] ** 0.2) ** 12})
    kept = {"columns": {"N": "N"}, "estimator": LeastSquares(), "bootstrap": Bootstrap(0), "profiles": False}
    law = fit(power_law("N"), table, **kept)
    (found,) = law.at_bounds
    assert (found.name, found.side, found.bound, found.wanted) == ("alpha", "upper", 10.0, True)
    assert found.beyond == pytest.approx(12, rel=1e-3) and found.share == pytest.approx(1, abs=1e-6)
    assert "the data want alpha > 10" in found.sentence


def grid(loss) -> pd.DataFrame:
    n, d = (axis.ravel() for axis in np.meshgrid(np.geomspace(1e5, 1e8, 5), np.geomspace(1e6, 1e9, 4)))
    return pd.DataFrame({"n_params": n, "records_seen": d, "loss": loss(n, d)})


@pytest.mark.parametrize(
    ("letter", "loss"),
    [
        ("N", lambda n, d: 1 + 0.05 * np.log(n)),
        ("D", lambda n, d: 2 + 4 / n**0.3 + 0.02 * np.log(d)),
    ],
)
def test_a_loss_that_rises_is_said_to_in_one_sentence(letter, loss):
    law = fit(CHINCHILLA, grid(loss), bootstrap=Bootstrap(0))
    sentence = f"loss rises with {letter} (rank correlation +1.00 at equal others): a falling law does not hold"
    (found,) = law.warnings
    assert found.startswith(sentence) and found in law.to_latex().replace(r"\_", "_")
    assert found.removeprefix(sentence).split("; ")[1:] == [one.stands for one in law.at_bounds]


def test_sizes_that_follow_the_budget_do_not_make_a_falling_law_rise():
    n = np.tile(np.geomspace(1e5, 1e8, 7), 3)
    d = np.repeat([1e17, 1e18, 1e19], 7) / (6 * n)
    table = pd.DataFrame({"n_params": n, "records_seen": d, "loss": 0.5 + 40 / n**0.3 + 90 / d**0.3})
    assert fit(CHINCHILLA, table, bootstrap=Bootstrap(0), profiles=False).warnings == ()


def test_a_constant_loss_is_refused():
    with pytest.raises(ValueError, match=r"loss is 2\.5 in all 20 rows"):
        fit(CHINCHILLA, grid(lambda n, d: 0 * n + 2.5))
