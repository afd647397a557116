"""The table of published norms: one number a row, checked when it is read."""

from __future__ import annotations

import csv
import dataclasses
import functools
import importlib.resources
import math
from typing import Any

from ecg_jax.data.synthetic.norms.measure import MEASURES

#: `mean` and `sd` where a source gives no percentiles; `min` and `max` where it gives the extremes that it saw.
STATISTICS = ("p02", "p50", "p90", "p98", "mean", "sd", "min", "max")
SEXES = ("men", "women", "both")
#: `read`: in the paper's text, abstract or table. `recalled`: from memory of the paper, to be checked before it is
#: cited. `derived`: from two papers, as the row says.
CONFIDENCE = ("read", "recalled", "derived")
_FOLDER = "ecg_jax.data.synthetic.norms"


@dataclasses.dataclass(frozen=True)
class Norm:
    """One published number: a statistic of a measure (in its unit, see `MEASURES`) in a sex and an age group."""

    measure: str
    sex: str
    age_from: int  # years, both ends included
    age_to: int
    statistic: str
    value: float
    source: str  # a key of `sources`
    place: str  # where in the source, and how it was taken
    confidence: str

    def __post_init__(self) -> None:
        """Raises ValueError for a number that names no known measure, sex, statistic or source, or is none."""
        for name, known in (
            ("measure", MEASURES),
            ("sex", SEXES),
            ("statistic", STATISTICS),
            ("source", sources()),
            ("confidence", CONFIDENCE),
        ):
            if getattr(self, name) not in known:
                raise ValueError(f"{name} is {getattr(self, name)!r}: it must be one of {', '.join(known)}")
        if not 0 < self.age_from <= self.age_to < 120 or not math.isfinite(self.value):
            raise ValueError(f"{self.measure}: {self.value} at {self.age_from} to {self.age_to} years is no norm")


@functools.cache
def sources() -> dict[str, tuple[str, str]]:
    """The sources by key: citation, and whom it describes."""
    return {row["source"]: (row["citation"], row["population"]) for row in _rows("sources.csv")}


@functools.cache
def published() -> tuple[Norm, ...]:
    """Every published number. Raises ValueError, naming the line, for a row that is not one or stands there twice."""
    norms: dict[tuple[str, ...], Norm] = {}
    for line, row in enumerate(_rows("published.csv"), 2):
        try:
            fields: dict[str, Any] = dict(row)
            fields |= {"age_from": int(row["age_from"]), "age_to": int(row["age_to"]), "value": float(row["value"])}
            norm = Norm(**fields)
        except (TypeError, ValueError) as error:
            raise ValueError(f"published.csv, line {line}: {error}") from error
        key = (norm.measure, norm.sex, row["age_from"], row["age_to"], norm.statistic, norm.source)
        if norms.setdefault(key, norm) is not norm:
            raise ValueError(f"published.csv, line {line}: {', '.join(key)} stands there twice")
    return tuple(norms.values())


def _rows(name: str) -> list[dict[str, str]]:
    text = importlib.resources.files(_FOLDER).joinpath(name).read_text(encoding="utf-8")
    return list(csv.DictReader(text.splitlines()))
