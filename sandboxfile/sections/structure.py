"""Finding the keys that a model has at any path."""

from __future__ import annotations

from collections.abc import Iterator
from types import UnionType
from typing import Annotated, Any, Union, get_args, get_origin

from pydantic import BaseModel

from sandboxfile.positions import KeyPath


def fields_at(annotation: Any, path: KeyPath) -> Iterator[str]:
    """The keys that a pydantic model, ours or a library's, has at `path`; none where any key is allowed."""
    for model in _models(annotation):
        names = {(field.alias or name): field.annotation for name, field in model.model_fields.items()}
        if not path:
            yield from names
        elif path[0] in names:
            yield from fields_at(names[str(path[0])], path[1:])
    origin, arguments = get_origin(annotation), get_args(annotation)
    if hasattr(annotation, "__value__"):
        yield from fields_at(annotation.__value__, path)
    elif origin in (Union, UnionType):
        for member in arguments:
            yield from fields_at(member, path)
    elif origin is Annotated:
        yield from fields_at(arguments[0], path)
    elif path and origin in (tuple, list, set) and isinstance(path[0], int):
        yield from fields_at(arguments[0], path[1:])
    elif path and origin is dict and isinstance(path[0], str):
        yield from fields_at(arguments[1], path[1:])


def _models(annotation: Any) -> list[type[BaseModel]]:
    return [annotation] if isinstance(annotation, type) and issubclass(annotation, BaseModel) else []
