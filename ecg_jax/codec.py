"""Frozen dataclasses as JSON and back, with an identity that survives the growth of their fields.

The fields that a class began with stand in every file. One that came later, declared with `added`, is left out where
it holds its default, in files and in the fingerprint: a run of before and a run that does not use it are the same run.
"""

from __future__ import annotations

import dataclasses
import enum
import functools
import hashlib
import json
import types
import typing
from typing import Any


def added(schema: int, default: Any) -> Any:
    """A dataclass field that came with `schema`, the number that the classes' fields had then; 2 is the first."""
    return dataclasses.field(default=default, metadata={"schema": schema})


def to_json(config: object) -> dict[str, Any]:
    """A dataclass as plain JSON types, less later fields at their default."""
    return json.loads(json.dumps(config, default=written_fields))


def written_fields(config: object) -> dict[str, Any]:
    """The fields of a dataclass that its JSON form holds, by name: all, less later ones at their default."""
    cls: type = type(config)
    values = ((name, later, getattr(config, name)) for name, later in _fields_of(cls))
    return {name: value for name, later, value in values if later is None or value != later.default}


@functools.cache
def _fields_of(cls: type) -> tuple[tuple[str, dataclasses.Field[Any] | None], ...]:
    """The fields of a dataclass by name, those that came later with what is known of them."""
    return tuple((field.name, field if "schema" in field.metadata else None) for field in dataclasses.fields(cls))


def fingerprint(tree: Any) -> str:
    """Sixteen hex digits of the SHA-256 of a JSON tree in canonical form; a dataclass counts as its `to_json`."""
    return hashlib.sha256(_CANONICAL.encode(tree).encode()).hexdigest()[:16]


#: Made once: `json.dumps` would make one for every run.
_CANONICAL = json.JSONEncoder(sort_keys=True, separators=(",", ":"), default=written_fields)


def differences(ours: dict[str, Any], theirs: dict[str, Any], prefix: str = "") -> list[str]:
    """The leaves in which two JSON trees differ, as `path: theirs -> ours`."""
    lines = []
    for key in sorted(ours.keys() | theirs.keys()):
        a, b = ours.get(key, "(absent)"), theirs.get(key, "(absent)")
        if isinstance(a, dict) and isinstance(b, dict):
            lines += differences(a, b, f"{prefix}{key}.")
        elif a != b:
            lines.append(f"{prefix}{key}: {b!r} -> {a!r}")
    return lines


def from_json(cls: type, tree: dict[str, Any], schema: int) -> Any:
    """The dataclass that `to_json` wrote, where `schema` is today's number; `tree` may tell its own.

    Raises ValueError, naming the field, on an unknown, missing or mistyped one, and both schemas where a newer
    ecg-jax wrote the tree.
    """
    if not isinstance(tree, dict):
        raise ValueError(f"{cls.__name__} = {tree!r} is no set of fields")
    written = tree.get("schema", 1)
    if type(written) is not int or written < 1:
        raise ValueError(f"{cls.__name__}.schema = {written!r} is no number from 1 on")
    hint = "; a newer ecg-jax may have written it: upgrade"
    if written > schema:
        hint = f"; it is of schema {written} and this ecg-jax reads up to {schema}: upgrade ecg-jax"
    return _read(cls, {key: value for key, value in tree.items() if key != "schema"}, cls.__name__, hint)


def coerce_fields(config: object) -> None:
    """Gives every field its declared type: an int where a float belongs, or an option's name, would otherwise make a
    config that is equal to another, or acts as another, of another identity. Raises ValueError by field."""
    cls: type = type(config)
    for name, kind in _types_of(cls).items():
        value = getattr(config, name)
        if type(value) is not kind:
            object.__setattr__(config, name, _value(kind, value, f"{cls.__name__}.{name}", ""))


@functools.cache
def _types_of(cls: type) -> dict[str, Any]:
    return typing.get_type_hints(cls)


def _read(cls: type, tree: Any, where: str, hint: str) -> Any:
    if not isinstance(tree, dict):
        raise ValueError(f"{where} = {tree!r} is no set of fields")
    fields = dataclasses.fields(cls)
    unknown = sorted(tree.keys() - {field.name for field in fields})
    missing = sorted(field.name for field in fields if field.name not in tree and "schema" not in field.metadata)
    if unknown or missing:
        raise ValueError(f"{where}: unknown fields {unknown}, missing fields {missing}{hint if unknown else ''}")
    types_of = _types_of(cls)
    return cls(**{name: _value(types_of[name], tree[name], f"{where}.{name}", hint) for name in sorted(tree)})


def _part(cls: type, tree: Any, where: str, hint: str) -> Any:
    """A config within another. The runs of a study share few of them, so equal ones are made once."""
    if not isinstance(tree, dict) or not all(isinstance(value, _PLAIN) for value in tree.values()):
        return _read(cls, tree, where, hint)
    return _shared_part(cls, where, hint, tuple(tree), *tree.values())


@functools.lru_cache(maxsize=4096, typed=True)  # typed: 1, 1.0 and True are equal, and not the same in a config
def _shared_part(cls: type, where: str, hint: str, names: tuple[str, ...], *values: Any) -> Any:
    return _read(cls, dict(zip(names, values, strict=True)), where, hint)


#: What a field of a config that holds no other is in JSON.
_PLAIN = (str, int, float, type(None))


def _value(kind: Any, value: Any, where: str, hint: str) -> Any:
    if type(value) is kind:
        return value
    if isinstance(kind, type) and dataclasses.is_dataclass(kind):
        return _part(kind, value, where, hint)
    options = typing.get_args(kind) if isinstance(kind, types.UnionType) else (kind,)
    for option in options:
        if option is type(None) and value is None:
            return None
        if isinstance(option, type) and issubclass(option, enum.Enum):
            if value not in list(option):
                raise ValueError(f"{where} = {value!r} is none of {', '.join(option)}{hint}")
            return option(value)
        if option is float and isinstance(value, int | float) and not isinstance(value, bool):
            return float(value)
        if isinstance(option, type) and type(value) is option:
            return value
    raise ValueError(f"{where} = {value!r} is not of type {kind}")
