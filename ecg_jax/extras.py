"""Packages that not every install has: what is missing is told in one line, with what to install."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator


@contextlib.contextmanager
def needs(extra: str) -> Iterator[None]:
    """To stand around the import of what `pip install 'ecg-jax[extra]'` brings.

    Raises ModuleNotFoundError, saying so, where it is missing.
    """
    try:
        yield
    except ModuleNotFoundError as error:
        message = f"{error.name} is not installed: pip install 'ecg-jax[{extra}]'"
        raise ModuleNotFoundError(message, name=error.name) from error
