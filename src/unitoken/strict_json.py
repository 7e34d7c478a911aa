"""Frozen dataclasses out of JSON, strictly: no unknown key, no value of another type."""

import dataclasses
import types
import typing
from typing import Any, Literal

from .errors import ConfigError


def build(cls: type[Any], data: Any, where: str) -> Any:
    """Return a dataclass made of a parsed JSON object; fields left out keep their defaults.

    Args:
        cls: the dataclass; its fields are numbers, texts, tuples, literals, optional ones of these, or dataclasses.
        data: the object.
        where: its name in errors.

    Raises:
        ConfigError: on unknown keys and on values of the wrong type.
    """
    if not isinstance(data, dict):
        raise ConfigError(f"{where} must be a JSON object, got {data!r}")
    hints = typing.get_type_hints(cls)
    if unknown := sorted(set(data) - set(hints)):
        raise ConfigError(f"{where} has unknown keys {unknown} (known: {sorted(hints)}); was this saved by a newer unitoken?")
    return cls(**{key: _value(hints[key], value, f"{where}.{key}") for key, value in data.items()})


def _value(hint: Any, value: Any, where: str) -> Any:
    """Check one JSON value against a field's type and return it as that type."""
    if dataclasses.is_dataclass(hint):
        return build(typing.cast(type[Any], hint), value, where)
    origin, choices = typing.get_origin(hint), typing.get_args(hint)
    if origin is tuple and isinstance(value, list):
        return tuple(_value(choices[0], item, where) for item in value)
    if origin is Literal and value in choices:
        return value
    if origin is types.UnionType:
        if value is None and types.NoneType in choices:
            return None
        return _value(_fitting(choices, value), value, where)
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if isinstance(hint, type) and origin is None and isinstance(value, hint) and (hint is bool or not isinstance(value, bool)):
        return value
    wanted = f"one of {', '.join(map(repr, choices))}" if origin is Literal else getattr(hint, "__name__", hint)
    raise ConfigError(f"{where} must be {wanted}, got {value!r}")


def _fitting(choices: tuple[Any, ...], value: Any) -> Any:
    """Return the first choice that is a dataclass with all keys of an object, or the first of all, whose error then says what is wrong."""
    keys = set(value) if isinstance(value, dict) else set[Any]()
    for choice in choices:
        if dataclasses.is_dataclass(choice) and keys <= {field.name for field in dataclasses.fields(choice)}:
            return choice
    return choices[0]
