"""Settings from the command line: `name=value` texts into frozen dataclasses, strictly."""

import dataclasses
import math
import typing
from collections.abc import Iterable
from typing import Any, TypeVar

from ..errors import TrainError

T = TypeVar("T")


def override(settings: T, assignments: Iterable[str]) -> T:
    """Return settings with some values changed.

    Args:
        settings: a dataclass, maybe with others inside, and with tables as tuples of `(name, number)` pairs.
        assignments: such as `batch=8`, `perturbation.pitch=1.2`, `weights.mel=2` or `windows=1024,512`.

    Raises:
        TrainError: if a name is unknown, or a value is not of the type that it replaces.
    """
    for text in assignments:
        key, found, value = text.partition("=")
        if not found:
            raise TrainError(f"a setting is written name=value, got {text!r}")
        settings = _changed(settings, key.split("."), value, key)
    return settings


def _changed(held: Any, path: list[str], text: str, key: str) -> Any:
    """Return what stands at the end of a path, changed; a part of a path steps into a dataclass or a table."""
    if not path:
        return _parsed(held, text, key)
    name, *rest = path
    if dataclasses.is_dataclass(held) and not isinstance(held, type):
        known = [field.name for field in dataclasses.fields(held)]
        _check(name, known, key)
        return dataclasses.replace(held, **{name: _changed(getattr(held, name), rest, text, key)})
    if _is_table(held):
        table = dict(typing.cast("tuple[tuple[str, Any], ...]", held))
        _check(name, list(table), key)
        return tuple((table | {name: _changed(table[name], rest, text, key)}).items())
    raise TrainError(f"{key} goes too deep: there is nothing inside a {type(held).__name__}")


def _check(name: str, known: list[str], key: str) -> None:
    if name not in known:
        raise TrainError(f"unknown setting {key!r}: no {name!r} among {', '.join(known)}")


def _is_table(held: Any) -> bool:
    return isinstance(held, tuple) and any(isinstance(entry, tuple) for entry in typing.cast(tuple[Any, ...], held))


def _parsed(held: Any, text: str, key: str) -> Any:
    """Return a text as the type of the value that it replaces."""
    if dataclasses.is_dataclass(held) or _is_table(held):
        raise TrainError(f"{key} has parts; set one of them: {key}.name=value")
    if isinstance(held, tuple):
        return tuple(_parsed(held[0] if held else 0, part, key) for part in text.split(",") if part)
    if isinstance(held, bool):
        if text.lower() not in ("true", "false"):
            raise TrainError(f"{key} is true or false, got {text!r}")
        return text.lower() == "true"
    if isinstance(held, str):
        return text
    try:
        number = type(held)(text)
    except ValueError as error:
        raise TrainError(f"{key} must be {'a whole number' if isinstance(held, int) else 'a number'}, got {text!r}") from error
    if not math.isfinite(number):
        raise TrainError(f"{key} must be finite, got {text!r}")
    return number
