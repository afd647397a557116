"""What brings the steps of a converter to millivolts, and what leaves the amplitude unknown."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

#: Millivolts per unit, by its name in lower case.
MILLIVOLTS = {
    **dict.fromkeys(("mv", "mvolt", "mvolts", "millivolt", "millivolts", "мв"), 1.0),
    **dict.fromkeys(("uv", "uvolt", "uvolts", "microv", "microvolt", "microvolts", "мкв"), 1e-3),
    **dict.fromkeys(("nv", "nanovolt", "nanovolts"), 1e-6),
    **dict.fromkeys(("v", "volt", "volts"), 1e3),
}
#: The sign "µ" in any encoding, read as Latin-1 or any other, or as the "?" of what could not write it: of all prefixes
#: of a volt in Latin letters it alone is not ASCII. In East Asian encodings its second byte may be.
_MICRO = re.compile(r"(?:(?:[^\x00-\x7f\u0400-\u04ff]|\?){1,6}|£g|Û\|)(?=V(olts?)?$)", re.IGNORECASE)
#: Units of signals that were never calibrated, or no longer are.
_NO_UNIT = frozenset(
    {"", "?", "nu", "n/u", "adu", "au", "a.u.", "count", "counts", "digit", "digits", "lsb", "unknown"}
)
#: Gains per mV that publishers wrote by mistake. Georgia's headers say 4880 where 1000 is meant.
WRONG_GAINS = {4880.0: "Georgia's mistake for 1000"}


class Calibrated(Protocol):
    """A signal with its steps per unit (None where unknown) and its unit, as a header gives them."""

    @property
    def name(self) -> str:
        """As the file names it."""
        ...

    @property
    def gain(self) -> float | None:
        """Steps per unit."""
        ...

    @property
    def unit(self) -> str:
        """As the file writes it."""
        ...


def millivolts(unit: str) -> float:
    """Millivolts per `unit`, however its "µ" is written. Raises ValueError, as "unit: details", for no voltage."""
    plain = _MICRO.sub("u", unicodedata.normalize("NFKC", unit.strip())).lower()
    if plain not in MILLIVOLTS:
        raise ValueError(f"unit: {unit.strip()!r:.40}, expected mV, uV or V")
    return MILLIVOLTS[plain]


def is_voltage(unit: str) -> bool:
    """Whether a signal may be one: not where its unit is that of something else, such as a pressure."""
    if unit.strip().lower() in _NO_UNIT:
        return True
    try:
        return millivolts(unit) > 0
    except ValueError:
        return False


def scale_of(signals: Sequence[Calibrated], path: Path) -> tuple[list[float], str | None]:
    """Millivolts per unit of each signal, and why the amplitude is unknown, where it is.

    Raises ValueError, as "reason: details", for a gain known to be wrong, and for a unit of something else than a
    voltage, such as a pressure.
    """
    wrong = sorted({signal.gain for signal in signals if signal.gain in WRONG_GAINS})
    if wrong:
        raise ValueError(f"gain: {wrong[0]:g} per unit in {path.name}, {WRONG_GAINS[wrong[0]]}; correct the header")
    unknown = None
    scale = []
    for signal in signals:
        try:
            scale.append(millivolts(signal.unit))
        except ValueError as error:
            if not is_voltage(signal.unit):
                raise
            scale.append(1.0)
            unknown = f"{error}; the amplitude is unknown: --unit NU takes it in standard deviations"
    without = [signal.name for signal in signals if signal.gain is None]
    if without:
        unknown = (
            f"gain: 0 or none in {path.name} for {', '.join(without)}; the amplitude is unknown: --unit NU takes it in "
            "standard deviations"
        )
    return scale, unknown
