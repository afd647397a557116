"""The laws that have a name of their own: what `fit("chinchilla", …)` and `--law` may ask for."""

from __future__ import annotations

from scaling_fits.errors import nearest
from scaling_fits.laws.data_mix import COMMON_RATE, D_CPT, FLOOR_OF_MIX, RATE_OF_SIZE, SATURATING
from scaling_fits.laws.law import Law
from scaling_fits.laws.size_and_data import (
    CHINCHILLA,
    COUPLED,
    FARSEER,
    KAPLAN,
    REPETITION,
    TIED,
    broken_power_law,
    power_law,
)

LAWS: tuple[Law, ...] = (
    power_law("N"),
    power_law("D"),
    power_law("C"),
    KAPLAN,
    TIED,
    CHINCHILLA,
    COUPLED,
    FARSEER,
    REPETITION,
    broken_power_law("D"),
    D_CPT,
    COMMON_RATE,
    RATE_OF_SIZE,
    SATURATING,
    FLOOR_OF_MIX,
)


def named_law(name: str) -> Law:
    """The law of that name, `-` for `_` and capitals allowed; ValueError with the nearest and all there are."""
    wanted = name.strip().replace("-", "_").lower()
    for law in LAWS:
        if law.name.lower() == wanted:
            return law
    names = sorted(law.name for law in LAWS)
    raise ValueError(f"no law {name!r}{nearest([name], names)}; there are {', '.join(names)}")


def as_law(law: Law | str) -> Law:
    """`law` itself, or the law of that name."""
    return named_law(law) if isinstance(law, str) else law
