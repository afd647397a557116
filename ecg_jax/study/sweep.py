"""Sweeps: from axes to run configs.

An axis is a list of values for a field, `"data.real_fraction": [0, 0.5, 1]`; `grid` takes their product, `zip_axes`
walks them together, and sweeps are chained with `+`.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Mapping, Sequence
from typing import Any

from ecg_jax.config import RunConfig


def grid(base: RunConfig, axes: Mapping[str, Sequence[Any]]) -> list[RunConfig]:
    """A config for every combination of values; the last axis runs fastest."""
    return [replace(base, dict(zip(axes, values, strict=True))) for values in itertools.product(*axes.values())]


def zip_axes(base: RunConfig, axes: Mapping[str, Sequence[Any]]) -> list[RunConfig]:
    """A config for every position of axes of equal length. Raises ValueError when they are not."""
    return [replace(base, dict(zip(axes, values, strict=True))) for values in zip(*axes.values(), strict=True)]


def replace(config: Any, changes: Mapping[str, Any]) -> Any:
    """`config` with fields replaced, nested ones by their path (`"data.real_fraction"`), all at once."""
    direct = {path: value for path, value in changes.items() if "." not in path}
    for head in {path.partition(".")[0] for path in changes if "." in path}:
        inner = {p.removeprefix(f"{head}."): v for p, v in changes.items() if p.startswith(f"{head}.")}
        direct[head] = replace(direct.get(head, getattr(config, head)), inner)
    return dataclasses.replace(config, **direct)
