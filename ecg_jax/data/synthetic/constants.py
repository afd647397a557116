"""The register of the constants that decide what the generator emits.

A module declares its own at its end: `declare("rhythm", vars(), "LF_HZ")` makes `LF_HZ` part of the generator's
identity under the key "rhythm.LF_HZ". Keys are frozen, files are not: a constant that moves to another file is
declared there under the owner that it had, so that the fingerprint (`identity`) changes with a value only. Each version
of the generator has a register of its own: what version 3 declares is no part of version 2.
"""

from __future__ import annotations

import dataclasses
import enum
import numbers

import numpy as np

_DECLARED: dict[int, dict[str, object]] = {2: {}, 3: {}}


def declare(owner: str, module: dict[str, object], names: str, version: int = 2) -> None:
    """Makes the constants of `module` (its `vars()`) that `names` lists, blanks between them, part of the identity of
    the generator's `version`.

    Raises ValueError for a key that stands already for another value, KeyError for a name that the module lacks or a
    version that does not exist, and TypeError for a value that cannot be hashed.
    """
    register = _DECLARED[version]
    for name in names.split():
        key, plain = f"{owner}.{name}", to_plain(module[name])
        if register.setdefault(key, plain) != plain:
            raise ValueError(f"the constant {key} was declared before, with another value: choose another key")


def declared(version: int = 2) -> dict[str, object]:
    """What the modules imported so far have declared for a version of the generator, by key, as plain JSON types."""
    return dict(_DECLARED[version])


def to_plain(value: object) -> object:
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
            return to_plain(value.tolist())
        case slice():
            return [value.start, value.stop]
        case dict():
            return {str(to_plain(key)): to_plain(item) for key, item in value.items()}
        case list() | tuple():
            return [to_plain(item) for item in value]
        case type() if issubclass(value, enum.Enum):
            return {member.name: to_plain(member.value) for member in value}
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: to_plain(getattr(value, field.name)) for field in dataclasses.fields(value)}
    raise TypeError(f"cannot hash {type(value).__name__}")
