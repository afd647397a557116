"""What the commands of README and of the help write beside the code never gets into the repository by accident."""

import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
#: Options whose value is a path, of the commands in README, docstrings and help.
OPTIONS = "out|to|source|data-dir|export-data|data-files|labels|tensorboard|real|cache|logs|profile|checkpoints"
#: Other places that README names, and their contents.
MORE = ("runs.csv", "sweep.csv", "candidates.csv", "my_ecgs/ward7/0001.dat", "data/built/mine-100hz.exclusions.csv")
TEXTS = (
    "README.md",
    "docs/*.md",
    "Makefile",
    "ecg_jax/**/*.py",
    "experiments/**/*.py",
    "scaling_fits/**/*.py",
    "notebooks/*.ipynb",
)


def git(*arguments: str) -> subprocess.CompletedProcess:
    if not (ROOT / ".git").exists():
        pytest.skip("this is no checkout")
    return subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, text=True)


def named() -> set[str]:
    """Relative paths, in lower case, that are the value of an option; results/ is committed by design, capitals stand
    for something else."""
    found = set(MORE)
    for pattern in TEXTS:
        for path in ROOT.glob(pattern):
            for value in re.findall(rf"--(?:{OPTIONS})[ =]([\w./-]+)", path.read_text()):
                if re.fullmatch(r"[a-z][a-z0-9_]*(/[\w.-]*)+|[a-z]\w*\.(csv|json|png|pdf|svg)|my_ecgs", value):
                    found.add(value)
    return {value for value in found if not value.startswith("results/")}


def test_what_commands_write_is_ignored():
    paths = named()
    assert {
        "data/ptbxl",
        "my_ecgs",
        "my_labels.csv",
        "reports/mine",
        "records/",
        "pool/",
        "page.png",
        "out/data",
    } <= paths
    for path in sorted(paths):
        inside = f"{path.rstrip('/')}/x" if "." not in Path(path).name else path
        assert git("check-ignore", "--no-index", "-q", inside).returncode == 0, path


def test_nothing_of_the_repository_is_hidden():
    assert git("ls-files", "--cached", "--ignored", "--exclude-standard").stdout == ""
    for path in (
        "ecg_jax/data/new.py",
        "tests/data/new.py",
        "results/pilot/new.csv",
        "results/new/figure.png",
        "docs/x.md",
    ):
        assert git("check-ignore", "--no-index", "-q", path).returncode == 1, path
