"""The identity of what the generator emits: a hash over its version, every constant of the package, and the recipe."""

from __future__ import annotations

import dataclasses
import enum
import hashlib
import importlib
import json
import numbers
import pkgutil

import numpy as np

from ecg_jax.data import preprocess
from ecg_jax.data.synthetic.tiers import Recipe, Tier, recipe

#: Modules that measure, draw or store records, and decide nothing in them.
_FOR_PEOPLE = ("__main__", "page", "export", "pool", "annotation", "criteria", "identity")
_PACKAGE = "ecg_jax.data.synthetic"


def _plain(value: object) -> object:
    """`value` as JSON writes it; six digits of a float, so that a derived table hashes alike on every machine."""
    match value:
        case enum.Enum():
            return value.name
        case bool() | str() | None:
            return value
        case numbers.Integral():
            return int(value)
        case numbers.Real():
            return f"{float(value):.6g}"
        case np.ndarray():
            return _plain(value.tolist())
        case slice():
            return [value.start, value.stop]
        case dict():
            return {str(_plain(key)): _plain(item) for key, item in value.items()}
        case list() | tuple():
            return [_plain(item) for item in value]
        case type() if issubclass(value, enum.Enum):
            return {member.name: _plain(member.value) for member in value}
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: _plain(getattr(value, field.name)) for field in dataclasses.fields(value)}
    raise TypeError(f"cannot hash {type(value).__name__}")


def constants() -> dict[str, object]:
    """Every constant (a name in capitals) of the modules that make records, by module and name."""
    found = {}
    package = importlib.import_module(_PACKAGE)
    for info in pkgutil.iter_modules(package.__path__):
        if info.name in _FOR_PEOPLE:
            continue
        module = importlib.import_module(f"{_PACKAGE}.{info.name}")
        for name, value in vars(module).items():
            if name.isupper() and not callable(value):
                found[f"{info.name}.{name}"] = _plain(value)  # constants of another module repeat: no harm
    for name in ("BAND_HZ", "BUTTERWORTH_ORDER", "FILTER_RATE_HZ", "COUNTS_PER_UNIT"):
        found[f"preprocess.{name}"] = _plain(getattr(preprocess, name))
    return found


def fingerprint(made_by: Recipe | None = None, pool_digest: str = "") -> str:
    """SHA-256 of the generator's constants, a recipe (default: tier T1d) and, for a fitted tier, its pool's digest."""
    if made_by is None:
        made_by = recipe(Tier.ACQUISITION)
    identity = {"constants": constants(), "recipe": _plain(made_by), "pool": pool_digest}
    return hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()
