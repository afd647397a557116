"""README and docs: links lead somewhere, modules and files that they name are there, and README's Python runs."""

import contextlib
import importlib
import importlib.util
import re

import pytest
from support.places import REPOSITORY

from ecg_jax.moved import COMMANDS

PAGES = sorted([*REPOSITORY.glob("[CR]*.md"), *(REPOSITORY / "docs").glob("*.md")])
REFERENCE = sorted((REPOSITORY / "docs/reference").glob("*.md"))
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
    assert not [module for module in modules - COMMANDS.keys() if importlib.util.find_spec(module) is None]
    paths = set(re.findall(r"`((?:[a-z_]+/)+[a-z_]+\.(?:py|md|json|csv))`", text))
    assert not [path for path in paths if not any((REPOSITORY / base / path).exists() for base in BASES)]


#: Packages from which pages name modules.
ROOTS = ("", "ecg_jax.", "scaling_fits.", "ecg_jax.data.real.datasets.", "ecg_jax.models.", "ecg_jax.evaluate.")
#: Names of other packages, and of modules of before that the changes tell of.
ELSEWHERE = ("wfdb.", "scaling_fits.forms")


def is_there(name: str) -> bool:
    """Whether a dotted name is a module, or an attribute of one."""
    with contextlib.suppress(ModuleNotFoundError):
        if importlib.util.find_spec(name):
            return True
    module, _, attribute = name.rpartition(".")
    with contextlib.suppress(ModuleNotFoundError):
        return bool(module) and hasattr(importlib.import_module(module), attribute)
    return False


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_dotted_names_are_there(page):
    names = set(re.findall(r"`([a-z_]+(?:\.[A-Za-z_]\w*)+)(?:\([^`]*\))?`", page.read_text()))
    names = {name for name in names if not re.search(r"\.(py|md|csv|json|toml|yaml|typed)$", name)}
    assert not [n for n in names if not n.startswith(ELSEWHERE) and not any(is_there(root + n) for root in ROOTS)]


@pytest.mark.parametrize("page", REFERENCE, ids=lambda page: page.name)
def test_the_reference_names_what_is_there(page):
    named = re.findall(r"^::: (\S+)$", page.read_text(), re.MULTILINE)
    assert named and not [name for name in named if not is_there(name)]


def test_readme_fits_a_few_screens():
    assert len(README.splitlines()) <= 120


@pytest.mark.parametrize("number", range(len(re.findall(r"```python\n", README))))
def test_the_python_of_the_readme_runs(number, monkeypatch, capsys):
    monkeypatch.chdir(REPOSITORY)
    exec(re.findall(r"```python\n(.*?)```", README, re.DOTALL)[number], {})
