"""Options that had another name: who types the old one is told the new one."""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from typing import Any, NoReturn


def add_renamed(parser: argparse.ArgumentParser, names: Mapping[str, str]) -> None:
    """Adds old names of options, which are errors that say the new ones."""
    for before, now in names.items():
        parser.add_argument(before, action=_Renamed, now=now)


class _Renamed(argparse.Action):
    def __init__(self, option_strings: Sequence[str], dest: str, *, now: str):
        super().__init__(option_strings, argparse.SUPPRESS, nargs="?", help=argparse.SUPPRESS)
        self._now = now

    def __call__(self, parser: argparse.ArgumentParser, _: object, __: Any, option: str | None = None) -> NoReturn:
        """Ends the command."""
        parser.error(f"{option} is {self._now} now")
