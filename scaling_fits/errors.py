"""What an error tells a reader to do: the remedy in Python or on the command line, and the name that was meant."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class Refused(ValueError):
    """A ValueError whose remedy has other words in Python (`str(error)`) than on the command line (`command`).

    `reason` is what is wrong alone, for tables of several laws, which both print.
    """

    def __init__(self, reason: str, *, python: str, command: str) -> None:
        super().__init__(f"{reason}; {python}")
        self.reason, self.command = reason, f"{reason}; {command}"


def reason_of(error: ValueError) -> str:
    """What is wrong, without a remedy that only one of Python and the command line knows."""
    return error.reason if isinstance(error, Refused) else str(error)


def nearest(given: Iterable[str], among: Iterable[str]) -> str:
    """` (did you mean 'trunk'?)` for names of which others were given, "" where none is near."""
    known = sorted(map(str, among))
    lowered = {name.lower(): name for name in reversed(known)}
    found = []
    for one in given:
        close = difflib.get_close_matches(str(one).lower(), lowered, n=1, cutoff=0.6)
        found += [repr(lowered[name]) for name in close]
    return f" (did you mean {' and '.join(dict.fromkeys(found))}?)" if found else ""
