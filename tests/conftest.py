"""Fixtures shared by all tests. Missing shared data skips a test on a person's machine and fails it in CI."""

import os
import signal
import subprocess
import tempfile
from pathlib import Path

# Before NumPy and JAX are loaded. Small matrices: more threads only wait for each other. And what one test has
# compiled, the others, in any worker, and the processes they start need not compile again.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
if "PYTEST_XDIST_WORKER" not in os.environ:
    _CACHE = tempfile.TemporaryDirectory(prefix="ecg-jax-compiled-")
    os.environ["JAX_COMPILATION_CACHE_DIR"] = _CACHE.name
    os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0.5"

# Started in the background of a script, a process ignores Ctrl-C, and so would the commands that tests interrupt.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

import jax
import pytest


def _folder(variable: str) -> Path:
    value = os.environ.get(variable)
    if value and Path(value).is_dir():
        return Path(value).resolve()
    reason = f"{variable} is {value!r}, which is not a folder"
    if os.environ.get("CI") == "true":
        pytest.fail(f"{reason}; CI needs it")
    pytest.skip(reason)


@pytest.fixture(scope="session")
def ecg_data_dir() -> Path:
    """The folder of real recordings."""
    return _folder("ECG_DATA_DIR")


@pytest.fixture(scope="session")
def ptbxl_cache(tmp_path_factory) -> Path:
    """A folder in which PTB-XL is prepared once for all tests."""
    return tmp_path_factory.mktemp("ptbxl")


@pytest.fixture(scope="session")
def scaling_data_dir() -> Path:
    """The folder of public scaling data."""
    return _folder("SCALING_DATA_DIR")


@pytest.fixture
def mesh():
    """An explicit mesh of one device, set for the duration of a test."""
    from ecg_jax.distributed.mesh import make_mesh

    with jax.set_mesh(make_mesh(jax.devices()[:1])):
        yield


@pytest.fixture
def small_disk(tmp_path):
    """A file system in memory: `mount(size)` makes it, or gives it another size or options."""
    folder = tmp_path / "disk"
    folder.mkdir()

    def mount(options: str) -> None:
        verb = ["-o", f"remount,{options}"] if os.path.ismount(folder) else ["-t", "tmpfs", "-o", options]
        done = subprocess.run(["mount", *verb, "tmpfs", str(folder)], capture_output=True, text=True)
        if done.returncode:
            pytest.skip(f"no file system can be mounted here: {done.stderr.strip()}")

    yield folder, mount
    if os.path.ismount(folder):
        subprocess.run(["umount", "--lazy", str(folder)], check=True)  # a writer that failed may hold its file
