"""How a figure is asked to look, apart from what it shows."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from scaling_fits.figures.style import Width


@dataclass(frozen=True)
class Look:
    """Width (None: the figure's own), title, a note under it that cannot be missed, other names of letters and "L"."""

    width: Width | None = None
    title: str = ""
    note: str | None = None
    names: Mapping[str, str] | None = None


PLAIN = Look()
