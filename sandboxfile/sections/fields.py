"""The types of fields that the sections consist of."""

from __future__ import annotations

import posixpath
import re
from dataclasses import dataclass
from typing import Annotated, Any, TypeVar

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    GetCoreSchemaHandler,
    GetJsonSchemaHandler,
    Strict,
    StringConstraints,
)
from pydantic_core import CoreSchema, PydanticCustomError, core_schema

from sandboxfile.diagnostics import did_you_mean, one_of, quote
from sandboxfile.windows import windows_path


class Part(BaseModel):
    """The base of all models of the file. They are frozen, and a key that is no field is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid", defer_build=True)


def refuse(problem: str, hint: str | None = None, key: str | None = None) -> PydanticCustomError:
    """The error that a check raises. `problem` is the text after the path, `hint` says what to write instead.

    A check of a whole model names the wrong field with `key`.
    """
    return PydanticCustomError("refused", "{problem}", {"problem": problem, "hint": hint, "key": key})


@dataclass(frozen=True)
class Grammar:
    """A pattern that the whole string must match, for both the model and the JSON schema."""

    pattern: str  # with ^ and $, in the syntax that Python and ECMAScript share
    problem: str
    hint: str | None = None

    def check(self, value: str) -> str:
        if not re.fullmatch(self.pattern, value):
            raise refuse(f"{self.problem}, got {quote(value)}", self.hint)
        return value

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_after_validator_function(self.check, handler(source))

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        return {**handler(schema), "pattern": self.pattern}


@dataclass(frozen=True)
class SchemaPattern:
    """A pattern for the JSON schema alone. It stands for a rule that is code in the model, as far as a pattern can."""

    pattern: str

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        return {**handler(schema), "pattern": self.pattern}


@dataclass(frozen=True)
class OneOf:
    """A closed list of words. For a misspelled one the error suggests the nearest word."""

    words: tuple[str, ...]

    def check(self, value: str) -> str:
        if value not in self.words:
            # Where one of the words is a number, it is a text all the same, and needs its quotes.
            words = [f'"{word}"' if word.isdigit() else word for word in self.words]
            raise refuse(f"must be {one_of(words)}, got {quote(value)}", did_you_mean(value, self.words))
        return value

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        words = core_schema.str_schema(strict=True)
        return core_schema.no_info_after_validator_function(self.check, words)

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        return {"type": "string", "enum": list(self.words)}


@dataclass(frozen=True)
class Filled:
    """A field that may be left out, but whose key must have a value when it is there: an empty `agent:` is an error."""

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        schema = handler(source)
        return schema["schema"] if schema["type"] == "nullable" else schema


T = TypeVar("T")
Maybe = Annotated[T | None, Filled()]


@dataclass(frozen=True)
class ShortForm:
    """Adds a short form (a string, sometimes a number) to the JSON schema of a model that takes one."""

    types: tuple[str, ...]
    description: str
    pattern: str | None = None

    def add_to(self, long_form: dict[str, Any]) -> dict[str, Any]:
        """The schema that accepts both the short form and `long_form`."""
        short: dict[str, Any] = {"type": self.types[0] if len(self.types) == 1 else list(self.types)}
        short["description"] = self.description
        if self.pattern:
            short["pattern"] = self.pattern
        if "integer" in self.types:
            short |= {"minimum": 1, "maximum": 65535}
        long_form = dict(long_form)
        title = long_form.pop("title", "")
        return {"title": title, "anyOf": [short, long_form]}


def long_or_short(schema: CoreSchema, handler: GetJsonSchemaHandler, short: ShortForm) -> dict[str, Any]:
    """The JSON schema of a model with a short form. It is changed in place, so that references to it stay valid."""
    reference = handler(schema)
    body = handler.resolve_ref_schema(reference)
    combined = short.add_to(body)
    body.clear()
    body.update(combined)
    return reference


def _text_of_number(value: Any) -> Any:
    # In Python a bool is an int. It is not converted: `true` can be written in several ways in an environment, and the
    # user must choose one.
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else value


def _normal_relative(value: str) -> str:
    if windows := windows_path(value):
        raise refuse(f"{windows[0]}: {quote(value)}", windows[1])
    if value.startswith(("/", "~")):
        raise refuse(f"must be relative to the project, got {quote(value)}")
    if ".." in value.split("/"):
        raise refuse(f"must stay inside the project, got {quote(value)}")
    return posixpath.normpath(value)


_PLAIN = Grammar(r"^[^\x00-\x1f\x7f-\x9f]*$", "must not contain control characters")

Text = Annotated[str, Strict(), StringConstraints(min_length=1, max_length=4096), _PLAIN]
"""One line of text, not empty."""

Script = Annotated[
    str,
    Strict(),
    StringConstraints(min_length=1, max_length=64 * 1024),
    Grammar(r"^(?=[\s\S]*\S)[^\x00-\x08\x0b\x0c\x0e-\x1f\x7f]*$", "must be a command without control characters"),
]
"""Shell text, which may have several lines."""

EnvironmentName = Annotated[
    str,
    Strict(),
    StringConstraints(max_length=256),
    Grammar(r"^[A-Za-z_][A-Za-z0-9_]*$", "must be a variable's name (letters, digits and _)"),
]
EnvironmentValue = Annotated[
    str,
    Strict(),
    StringConstraints(max_length=32 * 1024),
    Grammar(r"^[^\x00]*$", "must not contain NUL"),
    BeforeValidator(_text_of_number, json_schema_input_type=str | int),
]
Environment = Annotated[dict[EnvironmentName, EnvironmentValue], Field(max_length=500)]

RelativePath = Annotated[
    Text,
    AfterValidator(_normal_relative),
    SchemaPattern(r"^(?![/~])(?!(.*/)?\.\.(/|$))[^\x00-\x1f\x7f-\x9f]*$"),
]
"""A path or pattern inside the project, in POSIX form, normalised."""

UserName = Annotated[
    str, Strict(), Grammar(r"^[a-z_][a-z0-9_-]{0,31}$", "must be a user's name (lower-case letters, digits, - and _)")
]
PortNumber = Annotated[int, Strict(), Field(ge=1, le=65535)]
Name = Annotated[
    str,
    Strict(),
    Grammar(
        r"^[a-z0-9][a-z0-9-]{0,39}$",
        "must be 1 to 40 lower-case letters, digits and dashes, beginning with a letter or digit",
    ),
]
