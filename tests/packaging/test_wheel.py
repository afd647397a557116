"""The wheel has what it needs, and nothing of studies and benchmarks: tried in environments without the checkout."""

import hashlib
import shutil
import subprocess
import sys
import sysconfig
import venv
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGES = ("ecg_jax", "scaling_fits")
#: MiB of files of a fresh base install.
LARGEST_MIB = 800

GENERATE = """
import hashlib, ecg_jax
from ecg_jax.evaluate.frozen import RESPONSE
source = ecg_jax.SyntheticSource(0, ecg_jax.recipe(ecg_jax.Tier.ECGSYN))
print(ecg_jax.__version__, source.read([0, 1]).shape, hashlib.sha256(RESPONSE.read_bytes()).hexdigest())
print(ecg_jax.__file__)
"""
FIT = """
import scaling_fits
from scaling_fits import Bootstrap, Search, fit
law = fit("power_law_N", "runs.csv", columns={"N": "params"}, bootstrap=Bootstrap(0), search=Search(starts=8), profiles=False)
print(scaling_fits.__version__, f"{law.parameters['E']:.2f} {law.parameters['alpha']:.2f}")
print(scaling_fits.__file__)
"""  # noqa: E501
STUDIES = "import importlib.util as u; print([n for n in ('experiments', 'benchmarks', 'tests') if u.find_spec(n)])"


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> Path:
    """The wheel, built from a copy, so that the checkout stays as it is and nothing built before gets in."""
    source, out = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("wheel")
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    for name in (*PACKAGES, "experiments", "benchmarks"):
        shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
    pip("wheel", ".", "--no-deps", "--no-build-isolation", "--no-index", "--wheel-dir", str(out), cwd=source)
    (built,) = out.glob("*.whl")
    return built


@pytest.fixture(scope="module")
def elsewhere(tmp_path_factory) -> Path:
    """A folder that is not the checkout, with a table to fit."""
    folder = tmp_path_factory.mktemp("elsewhere")
    rows = [f"{n},{0.2 + 30 / n**0.5 * (1 + 0.001 * (-1) ** k)}" for k, n in enumerate(10**i for i in range(4, 12))]
    (folder / "runs.csv").write_text("\n".join(["params,loss", *rows]))
    return folder


def pip(*arguments: str, cwd: Path | None = None, python: Path | str = sys.executable) -> None:
    command = [str(python), "-m", "pip", "--disable-pip-version-check", *arguments]
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-1000:] + done.stderr[-2000:]


def run(python: Path, code: str, cwd: Path) -> list[str]:
    """What `code` prints where neither the checkout nor the user's environment is seen."""
    done = subprocess.run([python, "-I", "-c", code], cwd=cwd, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout.splitlines()


def site_of(environment: Path) -> Path:
    return Path(sysconfig.get_path("purelib", "venv", {"base": str(environment)}))


def check_works(environment: Path, elsewhere: Path) -> None:
    """Three lines of each package, from another folder, from the environment's own files."""
    python, site = environment / "bin" / "python", site_of(environment)
    told, where = run(python, GENERATE, elsewhere)
    frozen = hashlib.sha256((ROOT / "results" / "pilot" / "response.json").read_bytes()).hexdigest()
    assert told.split(" ", 1)[1] == f"(2, 1000, 12) {frozen}" and Path(where) == site / "ecg_jax" / "__init__.py"
    told, where = run(python, FIT, elsewhere)
    assert told.split(" ", 1)[1] == "0.20 0.50" and Path(where) == site / "scaling_fits" / "__init__.py"
    assert run(python, STUDIES, elsewhere) == ["[]"]


def test_the_wheel_holds_both_packages_whole_and_nothing_else(wheel):
    with zipfile.ZipFile(wheel) as archive:
        held = {name for name in archive.namelist() if ".dist-info/" not in name}
    files = [path for name in PACKAGES for path in (ROOT / name).rglob("*") if path.is_file()]
    assert held == {str(path.relative_to(ROOT)) for path in files if "__pycache__" not in path.parts}


def test_what_the_pilot_froze_comes_with_the_package_byte_by_byte():
    from ecg_jax.evaluate.frozen import RESPONSE

    assert RESPONSE.read_bytes() == (ROOT / "results" / "pilot" / "response.json").read_bytes()


def test_the_installed_wheel_works_outside_the_checkout(wheel, elsewhere, tmp_path):
    venv.create(tmp_path / "env", with_pip=False)
    site = site_of(tmp_path / "env")
    pip("install", "--quiet", "--no-deps", "--no-index", "--no-compile", "--target", str(site), str(wheel))
    # Other packages are this environment's; a .pth of its own in there, such as an editable install's, is not followed.
    (site / "others.pth").write_text(f"{sysconfig.get_path('purelib')}\n")
    check_works(tmp_path / "env", elsewhere)


@pytest.mark.long
def test_a_fresh_base_install_is_small_and_works(wheel, elsewhere, tmp_path):
    environment = tmp_path / "env"
    venv.create(environment, with_pip=True)
    site = site_of(environment)
    before = size_mib(site)
    constraints = ("--constraint", str(ROOT / "constraints.txt"))
    pip("install", "--quiet", *constraints, str(wheel), python=environment / "bin" / "python")
    check_works(environment, elsewhere)
    size = size_mib(site) - before
    assert size <= LARGEST_MIB, f"a base install takes {size:.0f} MiB"
    told = "import ecg_jax\ntry: ecg_jax.load_encoder\nexcept ModuleNotFoundError as error: print(error)"
    assert run(environment / "bin" / "python", told, elsewhere) == [
        "flax is not installed: pip install 'ecg-jax[train]'"
    ]


def size_mib(folder: Path) -> float:
    """What the files in a folder hold, compiled ones included; a file system's blocks take a few per cent more."""
    return sum(path.lstat().st_size for path in folder.rglob("*")) / 2**20
