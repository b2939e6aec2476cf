"""Turning plain data into the model, and the model's errors into problems with a path, a message and a hint."""

from __future__ import annotations

from typing import Any

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from sandboxfile.checks.forms import as_list, as_mapping, as_text, is_command, keyboard_quotes, other_key, other_tool
from sandboxfile.diagnostics import Problem, did_you_mean, quote
from sandboxfile.positions import KeyPath
from sandboxfile.reading.document import has_path
from sandboxfile.sections.model import Sandbox
from sandboxfile.sections.structure import fields_at

_EXPECTED = {
    "string_type": "a string",
    "int_type": "a whole number",
    "int_parsing": "a whole number",
    "int_from_float": "a whole number",
    "bool_type": "true or false",
    "tuple_type": "a list",
    "dict_type": "a mapping",
    "model_type": "a mapping",
    "model_attributes_type": "a mapping",
}
# Models with a short form also accept a string, which the message has to say.
_SHORT_FORMS = {"SetupStep": "a command", "Mount": "SOURCE:TARGET", "Endpoint": "a name", "Port": "HOST:GUEST"}


def check_shape(data: Any) -> Sandbox | list[Problem]:
    """The model of `data`, or all problems that keep `data` from being one."""
    try:
        return Sandbox.model_validate(data)
    except ValidationError as error:
        problems = _without_consequences([_problem(details, data) for details in error.errors(include_url=False)])
    if (other := other_tool(data)) is None:
        return problems
    version = ("version",)
    return [problem._replace(hint=other) if problem.path == version else problem for problem in problems]


def _problem(details: ErrorDetails, data: Any) -> Problem:
    path = _path(details["loc"], data)
    kind = details["type"]
    if kind == "extra_forbidden":
        name = str(path[-1])
        if path[:1] == ("setup",) and is_command(name):
            command = as_text({name: details["input"]}) or "quote the whole command"
            return Problem(path, _NO_KEY, command, at_key=True)
        known = list(fields_at(Sandbox, path[:-1]))
        hint = (
            other_key(path)
            or did_you_mean(name, known)
            or (f"the keys here are {', '.join(sorted(known))}" if known else None)
        )
        return Problem(path, "unknown key", hint, at_key=True)
    if kind == "missing":
        return Problem(path, "is missing", _MISSING_HINTS.get(path))
    if kind == "refused" and (key := details["ctx"]["key"]):
        path = (*path, key)
    message, hint = _explain(details, kind, path)
    hint = hint or keyboard_quotes(details["input"])
    return Problem(path, message, hint, at_key=details["loc"][-1:] == ("[key]",))


_NO_KEY = "is read as a key, since its colon has a space after it"


def _without_consequences(problems: list[Problem]) -> list[Problem]:
    """Without what is missing beside a command that was taken for a key."""
    entries = {problem.path[:-1] for problem in problems if problem.message == _NO_KEY}
    return [problem for problem in problems if problem.message != "is missing" or problem.path[:-1] not in entries]


_MISSING_HINTS: dict[KeyPath, str] = {("version",): 'write version: "1"'}


def _path(location: tuple[int | str, ...], data: Any) -> KeyPath:
    """The location of a model's error as a path of the file.

    The location has segments that the file does not have, such as `[key]` or the tag of a union: they are skipped. The
    last segment stays if it is a field's name, even when the file lacks it (the field is missing, or part of a short
    form): the message is about that field.
    """
    path: KeyPath = ()
    for index, segment in enumerate(location):
        last = index == len(location) - 1
        if has_path(data, (*path, segment)) or (last and isinstance(segment, str) and segment.isidentifier()):
            path = (*path, segment)
    return path


def _explain(details: ErrorDetails, kind: str, path: KeyPath) -> tuple[str, str | None]:
    value, context = details["input"], details.get("ctx", {})
    if kind == "refused":
        return context["problem"], context["hint"]
    if kind in _EXPECTED:
        return _wrong_type(path, _EXPECTED[kind], value, context)
    if kind in ("greater_than_equal", "less_than_equal"):
        bound = f"at least {context['ge']}" if "ge" in context else f"at most {context['le']}"
        return f"must be {bound}, got {quote(value)}", None
    if kind in ("string_too_short", "too_short"):
        return "must not be empty", None
    if kind == "string_too_long":
        return f"must have at most {context['max_length']} characters", None
    if kind == "too_long":
        return f"must have at most {context['max_length']} entries", None
    return f"{details['msg'][:1].lower()}{details['msg'][1:]}, got {quote(value)}", None


def _wrong_type(path: KeyPath, expected: str, value: Any, context: dict[str, Any]) -> tuple[str, str | None]:
    short = _SHORT_FORMS.get(context.get("class_name", ""))
    if short:
        expected = f"{short} or a mapping"
    if value is None:
        what = "entry" if path and isinstance(path[-1], int) else "key"
        return f"is empty, must be {expected}", _MISSING_HINTS.get(path, f"remove the {what} or fill it")
    hint = None
    if expected == "a string" and isinstance(value, (int, float, bool)):
        # It is not known any more how a float was written: 1.10 has become 1.1.
        text = "" if isinstance(value, float) else f': "{str(value).lower()}"'
        hint = f"quote it{text}"
    elif path[:1] == ("secrets",):
        pass  # a hint would repeat what may be a secret's value
    elif expected in ("a string", "a command or a mapping"):
        hint = as_text(value)
    elif expected == "a list":
        hint = as_list(path, value)
    elif expected == "a mapping":
        hint = as_mapping(path, value)
    return f"must be {expected}, got {_kind(value)}", hint


def _kind(value: Any) -> str:
    if isinstance(value, dict):
        return "a mapping"
    if isinstance(value, list):
        return "a list"
    return f"{str(value).lower()}" if isinstance(value, bool) else quote(value)
