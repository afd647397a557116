"""Where compiled programs are kept, and that a machine without such a place runs all the same."""

import os
import subprocess
import sys
from pathlib import Path

import jax
import pytest

from ecg_jax.distributed import backend

#: What names the place of a cache.
PLACES = ("HOME", "XDG_CACHE_HOME", "JAX_COMPILATION_CACHE_DIR")
#: It becomes nobody when all is loaded, since the interpreter itself may lie in somebody's home.
SCRIPT = """
import os, pwd
import jax
from ecg_jax.distributed import backend
before = float(jax.jit(lambda x: x + 1)(0.0))
os.setuid(54321)
backend.configure()
print(jax.config.jax_compilation_cache_dir, before + 1)
"""


@pytest.fixture
def config(monkeypatch):
    """Keeps the suite's own cache."""
    names = ("jax_compilation_cache_dir", "jax_persistent_cache_min_compile_time_secs")
    before = {name: getattr(jax.config, name) for name in names}
    for name in PLACES:
        monkeypatch.delenv(name, raising=False)
    yield monkeypatch
    for name, value in before.items():
        jax.config.update(name, value)


def cache() -> str | None:
    backend.configure()
    return jax.config.jax_compilation_cache_dir


def test_programs_are_kept_in_the_users_cache_or_where_one_says(config, tmp_path):
    config.setenv("HOME", str(tmp_path))
    assert cache() == str(tmp_path / ".cache" / "ecg-jax" / "compiled")
    config.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert cache() == str(tmp_path / "xdg" / "ecg-jax" / "compiled")
    config.setenv("JAX_COMPILATION_CACHE_DIR", str(tmp_path / "own"))
    assert cache() == str(tmp_path / "own") and list((tmp_path / "own").iterdir()) == []
    config.setenv("JAX_COMPILATION_CACHE_DIR", "gs://bucket/compiled")
    assert cache() == "gs://bucket/compiled"


def test_without_a_home_there_is_no_cache_and_no_error(config):
    def homeless():
        raise RuntimeError("Could not determine home directory.")

    config.setattr(Path, "home", staticmethod(homeless))
    assert cache() is None


@pytest.mark.parametrize("named", ["XDG_CACHE_HOME", "JAX_COMPILATION_CACHE_DIR", "HOME"])
def test_a_place_that_cannot_be_written_to_is_left_out(named, config, tmp_path):
    (tmp_path / "file").write_text("no folder")
    config.setenv(named, str(tmp_path / "file" / "cache"))
    assert cache() is None


def test_a_read_only_cache_is_left_out(config, tmp_path):
    done = subprocess.run(["mount", "-t", "tmpfs", "-o", "ro", "tmpfs", str(tmp_path)], capture_output=True, text=True)
    if done.returncode:
        pytest.skip(f"no file system can be mounted here: {done.stderr.strip()}")
    try:
        config.setenv("XDG_CACHE_HOME", str(tmp_path))
        assert cache() is None
    finally:
        subprocess.run(["umount", str(tmp_path)], check=True)


def test_a_process_of_nobody_runs():
    """Without HOME, and of a user who stands in no list of users."""
    if os.geteuid() != 0:
        pytest.skip("only root may become somebody else")
    environment = {name: value for name, value in os.environ.items() if name not in PLACES}
    done = subprocess.run([sys.executable, "-c", SCRIPT], env=environment, capture_output=True, text=True)
    assert done.returncode == 0 and done.stdout == "None 2.0\n", done.stderr[-2000:]
