"""What users call is found in `ecg_jax`, which loads it when it is asked for, and shows itself shortly."""

import dataclasses
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from support.configs import make_config
from support.synthetic_pools import made_up_pool

import ecg_jax
from ecg_jax.store.tables import Run


def test_the_package_loads_nothing_heavy():
    code = "import sys, ecg_jax; print([n for n in ('jax', 'numpy', 'pandas', 'rich', 'flax') if n in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_every_public_name_is_there_and_declared_for_type_checkers():
    declared = re.findall(r"^    from .* import (\w+) as \1$", Path(ecg_jax.__file__).read_text(), re.M)
    assert sorted(declared) == sorted(ecg_jax.__all__)
    assert all(getattr(ecg_jax, name) is not None for name in declared)
    assert {*declared, "__version__"} <= set(dir(ecg_jax))
    with pytest.raises(AttributeError, match="no attribute 'load_encodr'"):
        ecg_jax.load_encodr  # noqa: B018


def test_the_version_is_that_of_the_project_and_of_its_citation(monkeypatch):
    root = Path(__file__).parents[2]
    version = re.search(r'^version = "(.+)"$', (root / "pyproject.toml").read_text(), re.M)[1]
    assert re.search(r"^version: (.+)$", (root / "CITATION.cff").read_text(), re.M)[1] == version
    assert ecg_jax.__version__ == version

    def missing(name):
        raise ecg_jax.importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr("importlib.metadata.version", missing)
    assert ecg_jax.__version__ == "0+checkout"


def test_pools_and_runs_show_themselves_shortly_and_as_html():
    pool = dataclasses.replace(made_up_pool(1200, 3), source="a<b>")
    assert repr(pool) == "<RecordPool a<b>: 1,200 records of 1,200 patients, 10 s at 100 Hz>"
    page = pool._repr_html_()
    assert "a&lt;b&gt;" in page and "<b>" not in page and page.count("<tr>") == 2 + len(np.unique(pool.fold))
    config = make_config(study="s")
    patients = pd.DataFrame({"patient_id": [1, 2, 1, 2], "mask": [0, 0, 1, 1], "loss": [0.5, 0.6, 0.5, 0.6]})
    run = Run(config, {"run_id": config.run_id, "loss": 0.55}, patients, patients, None, None)
    assert repr(run) == f"<Run {config.run_id} of s: {config.budget_records:,} records, loss 0.55 on 2 patients>"
    assert run._repr_html_().count("<tr>") == 2 and "<th>loss</th><td>0.55</td>" in run._repr_html_()
