"""Generated records against the published numbers, and what is published for whom."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np

from ecg_jax.data.synthetic.norms.measure import MEASURES
from ecg_jax.data.synthetic.norms.table import Norm, published

#: Years, both ends included.
AGE_GROUPS = ((18, 39), (40, 59), (60, 74), (75, 90))
#: What is asked of a median (or mean) and of a tail, as a share of the published number.
MEDIAN_TOLERANCE, TAIL_TOLERANCE = 0.10, 0.15
#: Fewer records than these decide nothing: a median; a tail beyond the 2nd or 98th percentile, or an extreme.
LEAST_FOR_MEDIAN, LEAST_FOR_TAIL = 30, 100
#: Measures whose zero is arbitrary, or that lie about it: their ratio means nothing, and none is given.
WITHOUT_RATIO = ("p_axis_deg", "qrs_axis_deg", "t_axis_deg")
_TAILS = ("p02", "p90", "p98", "sd", "min", "max")


@dataclasses.dataclass(frozen=True)
class Comparison:
    """One published number beside the same statistic of the generated records of that sex and age."""

    norm: Norm
    records: int
    generated: float  # NaN where too few records decide
    ratio: float  # generated to published; NaN where it means nothing
    is_met: bool | None  # within tolerance; None: undecided


def compare(
    measured: dict[str, np.ndarray], is_female: np.ndarray, age_years: np.ndarray, norms: Sequence[Norm] | None = None
) -> list[Comparison]:
    """Every published number beside the generated one. `measured` as from `measure`, all arrays `(B,)`.

    Extremes (`min`, `max`) are of collected series of unknown size: they are given, and never met or missed.
    """
    return [_compared(norm, measured[norm.measure], is_female, age_years) for norm in norms or published()]


def _compared(norm: Norm, values: np.ndarray, is_female: np.ndarray, age_years: np.ndarray) -> Comparison:
    of_sex = np.full(len(values), True) if norm.sex == "both" else (is_female >= 0.5) == (norm.sex == "women")
    chosen = values[of_sex & (age_years >= norm.age_from) & (age_years < norm.age_to + 1) & np.isfinite(values)]
    is_tail = norm.statistic in _TAILS
    if len(chosen) < (LEAST_FOR_TAIL if is_tail else LEAST_FOR_MEDIAN):
        return Comparison(norm, len(chosen), np.nan, np.nan, None)
    generated = statistic(chosen, norm.statistic)
    if norm.measure in WITHOUT_RATIO or norm.value == 0:
        return Comparison(norm, len(chosen), generated, np.nan, None)
    ratio = generated / norm.value
    tolerance = TAIL_TOLERANCE if is_tail else MEDIAN_TOLERANCE
    is_met = None if norm.statistic in ("min", "max") else abs(ratio - 1.0) <= tolerance
    return Comparison(norm, len(chosen), generated, ratio, is_met)


def statistic(values: np.ndarray, name: str) -> float:
    """A statistic of `table.STATISTICS` of values `(n,)`."""
    match name:
        case "mean":
            return float(values.mean())
        case "sd":
            return float(values.std(ddof=1))
        case "min":
            return float(values.min())
        case "max":
            return float(values.max())
    return float(np.percentile(values, float(name[1:])))


def coverage() -> dict[tuple[str, str, tuple[int, int]], str]:
    """What is published by measure, sex and age group: `percentiles` (median and both tails), `part`, or `none`.

    A number counts for an age group of which it covers the middle, and one of both sexes for either.
    """
    cells = {}
    for name in MEASURES:
        for sex in ("men", "women"):
            for low, high in AGE_GROUPS:
                middle = (low + high) / 2
                found = {
                    norm.statistic
                    for norm in published()
                    if norm.measure == name and norm.sex in (sex, "both") and norm.age_from <= middle <= norm.age_to
                }
                whole = {"p02", "p98"} <= found and bool({"p50", "mean"} & found)
                cells[name, sex, (low, high)] = "percentiles" if whole else "part" if found else "none"
    return cells
