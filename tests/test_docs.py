"""README and docs: links lead somewhere, modules and files that they name are there, and README's Python runs."""

import importlib.util
import re

import pytest
from support.places import REPOSITORY

PAGES = sorted([REPOSITORY / "README.md", REPOSITORY / "CONTRIBUTING.md", *(REPOSITORY / "docs").glob("*.md")])
README = (REPOSITORY / "README.md").read_text()
#: Folders against which pages name files.
BASES = ("", "ecg_jax", "ecg_jax/data/real", "ecg_jax/data/synthetic", "scaling_fits", "tests")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page):
    links = [link for link in re.findall(r"\]\(([^)#]+)\)", page.read_text()) if "://" not in link]
    assert not [link for link in links if not (page.parent / link).exists()]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_modules_and_files_that_are_named_are_there(page):
    text = page.read_text()
    modules = set(re.findall(r"python -m ((?:ecg_jax|scaling_fits|experiments|benchmarks)[\w.]*\w)", text))
    assert not [module for module in modules if importlib.util.find_spec(module) is None]
    paths = set(re.findall(r"`((?:[a-z_]+/)+[a-z_]+\.(?:py|md|json|csv))`", text))
    assert not [path for path in paths if not any((REPOSITORY / base / path).exists() for base in BASES)]


def test_readme_fits_a_few_screens():
    assert len(README.splitlines()) <= 120


@pytest.mark.parametrize("number", range(len(re.findall(r"```python\n", README))))
def test_the_python_of_the_readme_runs(number, monkeypatch, capsys):
    monkeypatch.chdir(REPOSITORY)
    exec(re.findall(r"```python\n(.*?)```", README, re.DOTALL)[number], {})
