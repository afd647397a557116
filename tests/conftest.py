"""Fixtures shared by all tests. Missing shared data skips a test on a person's machine and fails it in CI."""

import os
from pathlib import Path

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
def scaling_data_dir() -> Path:
    """The folder of public scaling data."""
    return _folder("SCALING_DATA_DIR")


@pytest.fixture
def mesh():
    """An explicit mesh of one device, set for the duration of a test."""
    from ecg_jax.mesh import make_mesh

    with jax.set_mesh(make_mesh(jax.devices()[:1])):
        yield
