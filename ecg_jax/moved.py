"""Modules that were commands once, and what to type now: who starts one is told, in place of "No module named …"."""

from __future__ import annotations

import importlib.abc
from collections.abc import Sequence
from types import ModuleType

#: By the name that was typed after `python -m`.
COMMANDS = {
    "ecg_jax.aot.__main__": "ecg-jax compile",
    "ecg_jax.sweep": "ecg-jax status|export|show|merge|replay",
    "ecg_jax.ladder": "ecg-jax ladder",
    "ecg_jax.data.real.download": "ecg-jax download",
    "ecg_jax.data.real.report": "ecg-jax report",
}


class Moved(importlib.abc.MetaPathFinder):
    """The last finder that is asked: what no other has found, and was a command, is an error with the new command."""

    def find_spec(self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None) -> None:
        """Finds nothing. Raises ModuleNotFoundError for a command that has moved."""
        if fullname in COMMANDS:
            typed = fullname.removesuffix(".__main__")
            raise ModuleNotFoundError(f"{typed} is a command now: {COMMANDS[fullname]}", name=fullname)
