"""Plain data, as JSON gives it, as frozen dataclasses and named tuples: judged by the types of their fields."""

from __future__ import annotations

import types
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any, Literal, NoReturn, TypeVar, Union, cast, get_args, get_origin, get_type_hints

_Value = TypeVar("_Value")


def decode(kind: type[_Value], value: object) -> _Value:
    """What `dataclasses.asdict` or `_asdict` made of a `kind`, by way of JSON.

    Fields may be texts, numbers, paths, literals, tuples, lists, mappings by text, such classes themselves, and unions
    of these. A field with a default may be missing; names that are no field are passed over. Raises ValueError that
    says which place has a value of the wrong kind, and never what the value is: it may be a secret.
    """
    return cast(_Value, _decode(kind, value, ""))


def _decode(kind: Any, value: Any, place: str) -> Any:
    if kind is Any:
        return value
    origin, arguments = get_origin(kind), get_args(kind)
    if origin in (Union, types.UnionType):
        return _decode_union(arguments, value, place)
    if origin is Literal:
        if not any(type(value) is type(each) and value == each for each in arguments):
            _refuse(place, " or ".join(map(repr, arguments)), value)
        return value
    if origin is tuple and arguments[-1] is not Ellipsis:
        items = _sequence(value, place, len(arguments))
        return tuple(
            _decode(each, item, f"{place}[{n}]") for n, (each, item) in enumerate(zip(arguments, items, strict=True))
        )
    if origin in (tuple, list):
        return origin(_decode(arguments[0], item, f"{place}[{n}]") for n, item in enumerate(_sequence(value, place)))
    if origin in (dict, Mapping):
        key, each = arguments
        return {_decode(key, k, place): _decode(each, v, f"{place}.{k}") for k, v in _mapping(value, place).items()}
    if isinstance(kind, type) and (fields := _fields(kind)) is not None:
        return _decode_fields(kind, fields, _mapping(value, place), place)
    return _decode_scalar(kind, value, place)


def _decode_union(kinds: Sequence[Any], value: Any, place: str) -> Any:
    """As the first that fits. Of a type or None, the type says what is wrong."""
    if value is None and types.NoneType in kinds:
        return None
    kinds = [kind for kind in kinds if kind is not types.NoneType]
    for kind in kinds[:-1]:
        try:
            return _decode(kind, value, place)
        except ValueError:
            continue
    return _decode(kinds[-1], value, place)


def _decode_fields(kind: type, fields: Mapping[str, bool], value: Mapping[str, Any], place: str) -> Any:
    hints = _hints(kind)
    if missing := [name for name, needed in fields.items() if needed and name not in value]:
        _refuse(f"{place}.{missing[0]}", "a value", None)
    return kind(**{name: _decode(hints[name], value[name], f"{place}.{name}") for name in fields if name in value})


def _decode_scalar(kind: type, value: Any, place: str) -> Any:
    if kind is Path and isinstance(value, str):
        return Path(value)
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
        _refuse(place, kind.__name__, value)
    return value


@cache
def _hints(kind: type) -> Mapping[str, Any]:
    return get_type_hints(kind)


@cache
def _fields(kind: type) -> Mapping[str, bool] | None:
    """Names to whether there must be a value; None of what is no dataclass and no named tuple."""
    if (names := getattr(kind, "_fields", None)) is not None:
        return {name: name not in kind._field_defaults for name in names}  # type: ignore[attr-defined]
    if not hasattr(kind, "__dataclass_fields__"):
        return None
    from dataclasses import MISSING, fields  # `exec` reads a named tuple only: it takes as long as Python to start

    return {field.name: field.default is MISSING and field.default_factory is MISSING for field in fields(kind)}


def _mapping(value: Any, place: str) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else _refuse(place, "an object", value)


def _sequence(value: Any, place: str, length: int | None = None) -> Sequence[Any]:
    if not isinstance(value, list | tuple) or length not in (None, len(value)):
        _refuse(place, "a list" if length is None else f"a list of {length}", value)
    return value


def _refuse(place: str, needed: str, value: Any) -> NoReturn:
    raise ValueError(f"{place.lstrip('.') or 'the whole'}: {needed} is needed, not {type(value).__name__}")
