"""How long work takes at rates that were seen: one estimate, whoever asks and wherever the rates are from.

Small models use a machine worse than large ones, so each size has its own rate; one that was not seen is priced at that
of the next smaller one, which uses the machine no better: then it is the most it will take. Below the smallest that was
seen, its rate is all that is known.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import NamedTuple


class Rate(NamedTuple):
    """Training FLOP/s, and on which number of parameters it was seen."""

    flops: float
    parameters: int


class Estimate(NamedTuple):
    """Seconds; `at_most` where a size's rate had to be borrowed."""

    seconds: float
    at_most: bool


def nearest_rate(rates: Mapping[int, float], parameters: int) -> Rate | None:
    """The rate of a size, from rates by number of parameters; None where there are none."""
    if not rates:
        return None
    size = max((known for known in rates if known <= parameters), default=min(rates))
    return Rate(rates[size], size)


def estimate(work: Iterable[tuple[int, float]], rates: Mapping[int, float]) -> Estimate | None:
    """How long work takes that is given as (number of parameters, FLOPs); None where no rate is known."""
    seconds, at_most = 0.0, False
    for parameters, flops in work:
        rate = nearest_rate(rates, parameters)
        if rate is None:
            return None
        seconds += flops / rate.flops
        at_most |= rate.parameters != parameters
    return Estimate(seconds, at_most)
