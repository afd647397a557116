"""The posterior agrees with what is known in closed form, and refuses what data do not identify."""

import numpy as np
import pandas as pd
import pytest

from scaling_fits.estimation.estimators import LeastSquares
from scaling_fits.fit import fit
from scaling_fits.laws.size_and_data import power_law
from scaling_fits.posterior import posterior_predict, sample_posterior
from scaling_fits.uncertainty.bootstrap import Bootstrap

QUICK = {"estimator": LeastSquares(), "bootstrap": Bootstrap(0), "profiles": False}


def line(noise: float = 0.02, rows: int = 40) -> pd.DataFrame:
    n = np.geomspace(1e4, 1e7, rows)
    loss = 30 / n**0.4 * np.exp(np.random.default_rng(0).normal(0, noise, rows))
    return pd.DataFrame({"n_params": n, "loss": loss})


def test_of_a_straight_line_it_is_the_textbook_one():
    table = line()
    law = fit(power_law("N", with_floor=False), table, **QUICK)
    found = sample_posterior(law, nu=np.inf, draws=400, warmup=200)
    assert found.converged and found.effective > 100
    x, y = np.log(table["n_params"]), np.log(table["loss"])
    residual = y - np.polyval(np.polyfit(x, y, 1), x)
    error = np.sqrt((residual**2).sum() / (len(x) - 2) / ((x - x.mean()) ** 2).sum())
    assert found.standard_deviations()["alpha"] == pytest.approx(error, rel=0.15)
    assert found.constants_SxP[:, 1].mean() == pytest.approx(law.parameters["alpha"], abs=0.2 * error)
    assert posterior_predict(law, found, N=1e8).mean() == pytest.approx(law.predict(N=1e8), rel=0.02)


def test_a_constant_without_evidence_has_no_posterior():
    with pytest.raises(ValueError, match="not identified"):
        sample_posterior(fit(power_law("N"), line(0.05, 12), **QUICK))
