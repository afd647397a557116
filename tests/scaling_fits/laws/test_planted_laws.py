"""Every law: units are what is declared, and planted constants come back."""

from dataclasses import replace

import numpy as np
import pytest
from support.planted_laws import LAWS, Planted

from scaling_fits.estimation.estimators import LeastSquares
from scaling_fits.estimation.multistart import Search
from scaling_fits.estimation.problem import log_predictions
from scaling_fits.fit import fit
from scaling_fits.laws.law import LOSS
from scaling_fits.uncertainty.bootstrap import Bootstrap

BY_NAME = pytest.mark.parametrize("planted", LAWS, ids=lambda planted: planted.law.name)


@BY_NAME
def test_units_are_as_declared(planted: Planted):
    """The same constants describe the same numbers whatever units the fit works in."""
    law, wanted = planted.law, planted.log_loss()
    references = {v.dimension: 0.7 + 2.3 * i for i, v in enumerate(law.variables) if v.dimension} | {LOSS: -1.9}
    constants = np.array([[planted.constants[name] for name in law.names]])
    theta = law.working(constants, references)
    found = log_predictions(law, theta, law.prepare(planted.values, references))[0] + references[LOSS]
    np.testing.assert_allclose(found, wanted, rtol=0, atol=1e-12)
    np.testing.assert_allclose(law.published(theta, references), constants, rtol=1e-12)


@BY_NAME
def test_the_equation_is_the_one_printed(planted: Planted):
    assert planted.law.equation.startswith("L = ") and "arXiv" in planted.law.source
    for name in (*planted.law.names, *planted.law.letters):
        stem = name.rstrip("0123456789")
        assert stem in planted.law.equation, f"{name} is not in {planted.law.equation}"


@pytest.mark.parametrize(
    "planted",
    [pytest.param(planted, marks=[pytest.mark.long] if len(planted.constants) > 8 else []) for planted in LAWS],
    ids=lambda planted: planted.law.name,
)
def test_planted_constants_come_back(planted: Planted):
    quick = {"bootstrap": Bootstrap(0), "profiles": False, "search": Search(starts=64)}
    result = fit(planted.law, planted.table(), columns=planted.columns, estimator=LeastSquares(), **quick)
    assert result.residual_log_sd < 1e-7
    assert result.parameters == pytest.approx(planted.constants, rel=1e-3)
    assert result.data.columns == planted.columns


RENAMED = {"coupled": {"alpha": "a", "beta": "b"}, "broken_power_law_D": {"A": "B", "alpha": "c_0"}}


@pytest.mark.parametrize("planted", [one for one in LAWS if one.law.reduces_at], ids=lambda planted: planted.law.name)
def test_a_law_becomes_its_special_case_where_it_says(planted: Planted):
    at = {name: min(value, 1e12) for name, value in planted.law.reduces_at}
    names = RENAMED.get(planted.law.name, {})
    smaller = planted.law.special_case
    contained = {name: planted.constants[names.get(name, name)] for name in smaller.names}
    whole = replace(planted, constants=planted.constants | at)
    np.testing.assert_allclose(
        whole.log_loss(), replace(planted, law=smaller, constants=contained).log_loss(), atol=1e-5
    )
