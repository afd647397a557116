"""What users call is found in the package, which loads it when it is asked for, and shows itself shortly."""

import inspect
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import scaling_fits
from scaling_fits import Bootstrap, Huber, Search, compare, fit, named_law, read_runs
from scaling_fits.fit import Fit
from scaling_fits.fit import fit as function

QUICK = {"columns": {"N": "params"}, "profiles": False, "search": Search(starts=16)}


@pytest.fixture
def table(tmp_path) -> Path:
    n = np.geomspace(1e5, 1e8, 12)
    frame = pd.DataFrame({"params": n, "loss": (0.2 + 30 / n**0.5) * (1 + 0.01 * (-1) ** np.arange(12))})
    frame.to_csv(tmp_path / "run<s>.csv", index=False)
    return tmp_path / "run<s>.csv"


def run(code: str) -> str:
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return done.stdout.strip()


def test_the_package_loads_nothing_heavy_and_a_fit_no_figures():
    heavy = "[name for name in ('jax', 'numpy', 'pandas', 'scipy', 'matplotlib') if name in sys.modules]"
    assert run(f"import sys, scaling_fits; print({heavy})") == "[]"
    assert "matplotlib" not in run(f"import sys, scaling_fits.commands.run_fit; print({heavy})")


def test_every_public_name_is_there_and_declared_for_type_checkers():
    declared = re.findall(r"^    from .* import (\w+) as \1$", Path(scaling_fits.__file__).read_text(), re.M)
    assert sorted(declared) == sorted({*scaling_fits._FACE, "fit"})
    assert all(getattr(scaling_fits, name) is not None for name in declared)
    assert {*declared, "__version__"} <= set(dir(scaling_fits))
    assert re.fullmatch(r"\d+\.\d+\.\d+\S*", scaling_fits.__version__)
    with pytest.raises(AttributeError, match="no attribute 'fitt'"):
        scaling_fits.fitt  # noqa: B018


def test_fit_is_one_thing_however_it_is_imported():
    import scaling_fits.fit as module

    assert module is scaling_fits.fit is fit and module.fit is function
    assert inspect.signature(fit) == inspect.signature(function)
    code = "import scaling_fits; f = scaling_fits.fit; from scaling_fits import fit; print(callable(f), f is fit)"
    assert run(code) == "True True"


def test_names_of_laws_and_paths_as_strings_are_enough(table):
    by_name = fit("Power-Law-N", str(table), bootstrap=Bootstrap(0), **QUICK)
    by_object = function(named_law("power_law_N"), read_runs(table), bootstrap=Bootstrap(0), **QUICK)
    assert isinstance(by_name, Fit) and by_name.to_json() == by_object.to_json()
    told = {"columns": {"N": "params"}, "search": Search(starts=16), "bootstrap": Bootstrap(0), "replicates": 0}
    assert [one.law for one in compare(["power_law_N"], str(table), **told).entries] == ["power_law_N"]
    with pytest.raises(ValueError, match=r"no law 'chinchila' \(did you mean 'chinchilla'\?\)"):
        fit("chinchila", str(table))


def test_fits_and_tables_show_themselves_shortly_and_as_html(table):
    fitted = fit("power_law_N", table, estimator=Huber(1e-3), bootstrap=Bootstrap(20), **QUICK)
    assert repr(fitted).startswith("<Fit of power_law_N to 12 rows of run<s>.csv: E = ") and len(repr(fitted)) < 120
    page = fitted._repr_html_()
    assert "run&lt;s&gt;.csv" in page and "<s>" not in page and page.count("<tr>") == 4
    low, high = fitted.intervals["alpha"]
    assert f"<td>{low:.4g} to {high:.4g}</td>" in page
    runs = read_runs(table, positive=["params"])
    twice = read_runs(pd.concat([runs.rows] * 2).assign(run_id="r"))
    assert repr(runs) == "<RunTable of run<s>.csv: 12 of 12 rows count>"
    assert repr(twice) == "<RunTable of the table: 12 of 24 rows count, excluded {'exact_duplicate': 12}>"
    assert "&lt;RunTable of run&lt;s&gt;.csv" in runs._repr_html_() and runs._repr_html_().count("<tr") == 11
