"""Why records are left out, by name, and what to do when a first one is met."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable


@dataclasses.dataclass(frozen=True)
class Exclusion:
    """A recording that is left out, and why."""

    record_id: str
    reason: str


OnBad = Callable[[Exclusion], None]


def raise_first(exclusion: Exclusion) -> None:
    """The default answer to a flawed recording. Raises ValueError."""
    raise ValueError(
        f"{exclusion.record_id}: {exclusion.reason}; repair the file, or have such recordings left out, named and "
        "counted (--leave-out-flawed; in code, on_bad=excluded.append)"
    )


def kind_of(reason: str) -> str:
    """The name of a reason, without what is particular to the record: "flat lead V1 (all samples 0)" → "flat lead"."""
    words = re.split(r"[:;(,]", reason)[0].split()
    plain: list[str] = []
    for word in words:
        if re.search(r"[0-9A-Z/\\=<>']", word):
            break
        plain.append(word)
    while plain and plain[-1] in ("in", "of", "is", "at", "as", "for", "the", "a"):
        plain.pop()
    return " ".join(plain) or reason


def first_line(error: BaseException) -> str:
    """The first line of what a parser says of a file, cut to what a reason has room for."""
    return (str(error).splitlines() or [""])[0][:200]
