"""The keys of an endpoint that speak of a preset: `github`, `access`, `push` and `changes`.

What a preset's accesses are is in its file, which only checks/presets.py reads: here is the form alone.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import BeforeValidator, Field, Strict

from sandboxfile.diagnostics import quote
from sandboxfile.names import ACCESS, CHANGES, GROUPS
from sandboxfile.sections.fields import Grammar, OneOf, Text, refuse

if TYPE_CHECKING:
    from sandboxfile.sections.endpoints import Endpoint

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
    Field(min_length=1, max_length=100),
    BeforeValidator(_listed, json_schema_input_type=Repository | tuple[Repository, ...]),
]
AccessWord = Annotated[str, OneOf(ACCESS)]
Accesses = Annotated[
    tuple[AccessWord, ...],
    Field(min_length=1, max_length=len(ACCESS)),
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
    Field(min_length=1, max_length=100),
    BeforeValidator(_listed, json_schema_input_type=RefPattern | tuple[RefPattern, ...]),
]
Change = Annotated[str, OneOf(CHANGES)]
Changes = Annotated[tuple[Change, ...], Field(min_length=1, max_length=len(CHANGES))]


def check_preset_keys(endpoint: Endpoint) -> None:
    """Raises the model's error where the keys do not fit together."""
    named = bool(endpoint.github) or (endpoint.group is not None and endpoint.group not in GROUPS)
    judged = bool(endpoint.github or endpoint.access) or named
    if not endpoint.github:
        for key in ("push", "changes"):
            if getattr(endpoint, key):
                raise refuse("belongs to a repository", "such as {github: acme/shop, push: [agent/*]}", key)
    if endpoint.access and endpoint.host is not None:
        raise refuse("belongs to a group or a repository, not to a host", "a host has `methods` and `paths`", "access")
    if endpoint.changes and not endpoint.push:
        raise refuse("says what pushes may do, and nothing is pushed", "name the branches: push: [agent/*]", "changes")
    if judged and (wrong := next((key for key in ("methods", "paths") if getattr(endpoint, key)), None)):
        raise refuse("belongs to a host", "`access` says which requests there are", wrong)
    if endpoint.deny and (endpoint.github or endpoint.access):
        raise refuse("has no use here", "what no endpoint allows is refused anyway", "deny")
