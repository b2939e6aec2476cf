"""The keys of an endpoint that speak of a preset: `github`, `access`, `push` and `changes`.

What a preset's accesses are is in its file, which only checks/presets.py reads: here is the form alone.
"""

from __future__ import annotations

import re
from typing import Annotated, Any

from pydantic import BeforeValidator, Field, Strict

from sandboxfile.diagnostics import quote
from sandboxfile.names import ACCESS, CHANGES
from sandboxfile.sections.fields import Grammar, OneOf, Text, refuse

_URL = re.compile(r"(?:https?://|git@|ssh://git@)?github\.com[/:](?P<name>[^/]+/[^/]+?)(?:\.git)?/?")


def _plain_repository(value: Any) -> Any:
    """Say what to write for an address; everything else is the grammar's."""
    if isinstance(value, str) and (match := _URL.fullmatch(value)):
        raise refuse(f"must be OWNER/REPOSITORY, got {quote(value)}", f"write {match['name']}")
    return value


def _listed(value: Any) -> Any:
    return [value] if isinstance(value, str) else value


Repository = Annotated[
    str,
    Strict(),
    Grammar(
        r"^[A-Za-z0-9][A-Za-z0-9_-]{0,38}/(\*|(?!\.{1,2}$)(?!.*\.git$)[A-Za-z0-9._-]{1,100})$",
        "must be OWNER/REPOSITORY, or OWNER/* for all of an owner",
        "such as acme/shop, without .git at its end",
    ),
    BeforeValidator(_plain_repository),
]
Repositories = Annotated[
    tuple[Repository, ...],
    Field(max_length=100),
    BeforeValidator(_listed, json_schema_input_type=Repository | tuple[Repository, ...]),
]
AccessWord = Annotated[str, OneOf(ACCESS)]
Accesses = Annotated[
    tuple[AccessWord, ...],
    Field(max_length=len(ACCESS)),
    BeforeValidator(_listed, json_schema_input_type=AccessWord | tuple[AccessWord, ...]),
]
RefPattern = Annotated[
    Text,
    Grammar(
        r"^(?![/.-])(?!.*(//|\.\.|/\.|@\{))(?!.*(/|\.|\.lock)$)[^\x00-\x20\x7f~^:?\[\\]{1,200}$",
        "must be a branch, or a pattern of branches or of whole refs",
        "such as agent/* or refs/tags/agent-*",
    ),
]
RefPatterns = Annotated[
    tuple[RefPattern, ...],
    Field(max_length=100),
    BeforeValidator(_listed, json_schema_input_type=RefPattern | tuple[RefPattern, ...]),
]
Change = Annotated[str, OneOf(CHANGES)]
Changes = Annotated[tuple[Change, ...], Field(max_length=len(CHANGES))]
