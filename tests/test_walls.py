"""What may import what, how long and how wide functions are, and what an import loads."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest
from support.places import REPOSITORY

MOST_LINES_OF_A_FILE, MOST_LINES_OF_A_FUNCTION = 400, 60
MOST_ROOMS = {"ecg_jax": 26, "scaling_fits": 18}
PACKAGES = ("ecg_jax", "scaling_fits", "experiments", "benchmarks")


def run(*words: str) -> None:
    """Runs a tool of this environment in the repository; what it prints is what a failure says."""
    done = subprocess.run([sys.executable, *words], cwd=REPOSITORY, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]


def test_nothing_imports_past_a_wall():
    run("-c", "from importlinter.cli import lint_imports; raise SystemExit(lint_imports(cache_dir=None))")


def test_ruff_finds_nothing():
    run("-m", "ruff", "check", ".")
    run("-m", "ruff", "format", "--check", ".")


def test_types_hold():
    run("-m", "mypy")


def too_long(path: Path) -> set[str]:
    text, name = path.read_text(), path.relative_to(REPOSITORY).as_posix()
    found = {name} if text.count("\n") > MOST_LINES_OF_A_FILE else set()
    for node in ast.walk(ast.parse(text)):
        is_function = isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        if is_function and node.end_lineno - node.lineno + 1 > MOST_LINES_OF_A_FUNCTION:
            found.add(f"{name}: {node.name}")
    return found


def test_files_and_functions_fit():
    paths = [path for package in PACKAGES for path in (REPOSITORY / package).rglob("*.py")]
    assert not set().union(*map(too_long, paths))


@pytest.mark.parametrize("package", MOST_ROOMS)
def test_rooms_can_be_counted(package):
    """A room is a package or a module directly below; modules that are commands or the public face are none."""
    root = REPOSITORY / package
    rooms = {path.parent.name for path in root.glob("*/__init__.py")} | {path.stem for path in root.glob("*.py")}
    assert len(rooms - {"__init__", "__main__"}) <= MOST_ROOMS[package], sorted(rooms)


LOADED = """
import sys
import {module}
heavy = ("orbax", "grain", "tensorflow_datasets", "ecg_jax.train", "ecg_jax.store", "ecg_jax.study", {more})
print([name for name in sys.modules if name.startswith(heavy)])
"""


@pytest.mark.parametrize(
    ("module", "more"), [("ecg_jax", '"jax", "numpy"'), ("ecg_jax.encoder", '"wfdb"'), ("scaling_fits", '"jax"')]
)
def test_an_import_loads_no_training(module, more):
    done = subprocess.run(
        [sys.executable, "-c", LOADED.format(module=module, more=more)], cwd=REPOSITORY, capture_output=True, text=True
    )
    assert done.stdout == "[]\n", done.stdout + done.stderr
