"""Every form: units are what is declared, and planted constants come back."""

from dataclasses import replace

import numpy as np
import pytest
from planted_laws import LAWS, Planted

from scaling_fits.estimation.estimators import LeastSquares
from scaling_fits.estimation.problem import log_predictions
from scaling_fits.fit import fit
from scaling_fits.laws.law import LOSS
from scaling_fits.uncertainty.bootstrap import Bootstrap

BY_NAME = pytest.mark.parametrize("law", LAWS, ids=lambda law: law.form.name)


@BY_NAME
def test_units_are_as_declared(law: Planted):
    """The same constants describe the same numbers whatever units the fit works in."""
    form, wanted = law.form, law.log_loss()
    references = {v.dimension: 0.7 + 2.3 * i for i, v in enumerate(form.variables) if v.dimension} | {LOSS: -1.9}
    constants = np.array([[law.constants[name] for name in form.names]])
    theta = form.working(constants, references)
    found = log_predictions(form, theta, form.prepare(law.values, references))[0] + references[LOSS]
    np.testing.assert_allclose(found, wanted, rtol=0, atol=1e-12)
    np.testing.assert_allclose(form.published(theta, references), constants, rtol=1e-12)


@BY_NAME
def test_the_equation_is_the_one_printed(law: Planted):
    assert law.form.equation.startswith("L = ") and "arXiv" in law.form.source
    for name in (*law.form.names, *law.form.letters):
        stem = name.rstrip("0123456789")
        assert stem in law.form.equation, f"{name} is not in {law.form.equation}"


@pytest.mark.parametrize(
    "law",
    [pytest.param(law, marks=[pytest.mark.long] if len(law.constants) > 8 else []) for law in LAWS],
    ids=lambda law: law.form.name,
)
def test_planted_constants_come_back(law: Planted):
    quick = {"bootstrap": Bootstrap(0), "profiles": False, "starts": 64}
    result = fit(law.form, law.table(), columns=law.columns, estimator=LeastSquares(), **quick)
    assert result.residual_log_sd < 1e-7
    assert result.parameters == pytest.approx(law.constants, rel=1e-3)
    assert result.data.columns == law.columns


RENAMED = {"coupled": {"alpha": "a", "beta": "b"}, "broken_power_law_D": {"A": "B", "alpha": "c_0"}}


@pytest.mark.parametrize("law", [law for law in LAWS if law.form.reduces_at], ids=lambda law: law.form.name)
def test_a_form_becomes_its_special_case_where_it_says(law: Planted):
    at = {name: min(value, 1e12) for name, value in law.form.reduces_at}
    names = RENAMED.get(law.form.name, {})
    smaller = law.form.special_case
    contained = {name: law.constants[names.get(name, name)] for name in smaller.names}
    whole = replace(law, constants=law.constants | at)
    np.testing.assert_allclose(whole.log_loss(), replace(law, form=smaller, constants=contained).log_loss(), atol=1e-5)
