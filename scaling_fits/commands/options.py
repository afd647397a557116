"""Parsed options of a command, which know which of them were looked at.

Every option is looked at before any work is done: one that was given and has no part in what the others ask for is an
error, never ignored.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Mapping
from typing import Any


class Options:
    """Parsed options, each an attribute by its name, and which of them were looked at.

    `flags` maps names to how they are written, `defaults` to what they are unless given.
    """

    def __init__(self, values: argparse.Namespace, flags: Mapping[str, str], defaults: Mapping[str, object]) -> None:
        self._values, self._flags, self._defaults = vars(values), flags, defaults
        self._seen: set[str] = set()

    def __getattr__(self, name: str) -> Any:
        try:
            value = self._values[name]
        except KeyError:
            raise AttributeError(name) from None
        self._seen.add(name)
        return value

    def has(self, name: str) -> bool:
        """Whether the command lists the option."""
        return name in self._values

    def given(self, name: str) -> bool:
        """Whether the command lists the option and it is not at its default."""
        return name in self._values and self._values[name] != self._defaults.get(name)

    def refuse_unused(self) -> None:
        """ValueError for options that were given and that nothing looked at."""
        unused = [name for name in self._flags if self.given(name) and name not in self._seen]
        if unused:
            words = ", ".join(f"{self._flags[name]} {self._shown(name)}".strip() for name in sorted(unused))
            raise ValueError(f"{words}: has no part in what the other options ask for; leave it out, or change them")

    def _shown(self, name: str) -> str:
        value = self._values[name]
        return "" if value is True else " ".join(map(str, value)) if isinstance(value, list) else str(value)


def read_numbers(flag: str, text: str) -> tuple[float, ...]:
    """Numbers separated by commas."""
    try:
        found = tuple(float(value) for value in text.split(","))
    except ValueError as error:
        raise ValueError(f"{flag} {text!r} must be numbers with commas, like 1e5,1e6") from error
    if not all(map(math.isfinite, found)):
        raise ValueError(f"{flag} {text!r} must be finite numbers")
    return found
