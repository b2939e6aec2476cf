"""The `mounts` section: which directories of the host the guest sees."""

from __future__ import annotations

import posixpath
import re
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, Field, GetJsonSchemaHandler, Strict, WithJsonSchema, model_validator
from pydantic_core import CoreSchema, PydanticCustomError

from sandboxfile.diagnostics import quote
from sandboxfile.quantities import MIB, TIB
from sandboxfile.sections.amounts import SIZE_SCHEMA, size
from sandboxfile.sections.fields import (
    Maybe,
    OneOf,
    Part,
    RelativePath,
    SchemaPattern,
    ShortForm,
    Text,
    long_or_short,
    refuse,
)
from sandboxfile.windows import split_windows_mount, windows_path

MOST_MOUNTS = 8  # a machine has room for as many: vmm.spec.MOST_MOUNTS
# A mount on one of these directories would hide files that the guest itself needs.
_SYSTEM_TREES = ("/proc", "/sys", "/dev", "/run", "/var/run", "/boot", "/var/lib/docker")
_SYSTEM_DIRECTORIES = (
    "/bin", "/etc", "/home", "/lib", "/lib32", "/lib64", "/root", "/sbin", "/tmp", "/usr", "/usr/bin", "/usr/lib",
    "/usr/libexec", "/usr/local", "/usr/local/bin", "/usr/sbin", "/usr/share", "/var", "/var/lib", "/var/log",
    "/var/tmp",
)  # fmt: skip


def _of_windows(value: str) -> PydanticCustomError:
    problem, hint = windows_path(value) or ("is no path", "such as .")
    return refuse(f"{problem}: {quote(value)}", hint)


def _source(value: str) -> str:
    if windows_path(value):
        raise _of_windows(value)
    return value


def _normal_target(value: str) -> str:
    if windows_path(value):
        raise refuse(f"must be a path of the machine, which is Linux, got {quote(value)}", "such as /workspace")
    if not value.startswith("/"):
        raise refuse(f"must be absolute, got {quote(value)}", f"write {quote('/' + value.removeprefix('./'))}?")
    if ".." in value.split("/"):
        raise refuse(f"must not contain '..', got {quote(value)}")
    target = posixpath.normpath("/" + value.lstrip("/"))
    if target == "/":
        raise refuse("must be a directory below /", "such as /workspace")
    if target in _SYSTEM_DIRECTORIES or any(f"{target}/".startswith(f"{tree}/") for tree in _SYSTEM_TREES):
        raise refuse(f"would hide the guest's own {quote(target)}", "choose a directory such as /workspace")
    return target


Target = Annotated[Text, AfterValidator(_normal_target), SchemaPattern("^/")]
MOST_STARS = 4  # in one name: each more multiplies the time that a comparison may take


def _checked_pattern(value: str) -> str:
    """A pattern of .gitignore that can be read in one way only. `!` takes back what an earlier one hides."""
    said = f"got {quote(value)}"
    path = value.removeprefix("!")
    names = path.strip("/").split("/")
    if value.startswith("#"):
        raise refuse(f"is a comment in .gitignore, {said}", f"write {quote(chr(92) + value)} for a file of that name")
    if value != value.strip():
        raise refuse(f"must not begin or end with a blank, {said}")
    if ".." in names or path.startswith("~"):
        raise refuse(f"must stay inside the project, {said}")
    if not all(names) or "." in names or path.startswith("//") or path.endswith("//"):
        raise refuse(f"must be a pattern as in .gitignore, {said}", 'such as .env, "*.pem" or config/secrets/')
    for name in names:
        if re.search(r"\\$", re.sub(r"\\.", "", name)):
            raise refuse(f"ends a name with a backslash, {said}")
        if re.search(r"(?<!\\)\[[^\]]*$|\[:", name):
            raise refuse(f"has a [ that is not closed, or a class by name, {said}", "such as [a-z]")
        if name != "**" and name.count("*") > MOST_STARS:
            raise refuse(f"has more than {MOST_STARS} * in one name, {said}")
    return value


Pattern = Annotated[
    Text, AfterValidator(_checked_pattern), SchemaPattern(r"^(?![#~])(?!(.*/)?\.\.(/|$))[^\x00-\x1f\x7f-\x9f]*$")
]
Patterns = Annotated[tuple[Pattern, ...], Field(max_length=200)]


def _plain_path(value: str) -> str:
    if value == ".":
        raise refuse("is the whole mount", "name a directory in it, such as node_modules")
    if re.search(r"[*?\[]", value):
        raise refuse(f"must be a plain path, got {quote(value)}", "name each directory, such as web/node_modules")
    return value


PlainPath = Annotated[
    RelativePath,
    AfterValidator(_plain_path),
    SchemaPattern(r"^(?![/~])(?!\.?/*$)(?!(.*/)?\.\.(/|$))[^*?\[\x00-\x1f\x7f-\x9f]*$"),
]
Paths = Annotated[tuple[PlainPath, ...], Field(max_length=1000)]


class Mount(Part):
    """One directory or file of the host, seen in the guest."""

    source: Annotated[Text, AfterValidator(_source)] = Field(
        description="Directory or file on the host, absolute or relative to this file."
    )
    target: Target = Field(description="Where it is in the guest: an absolute path.")
    mode: Annotated[Literal["rw", "ro", "clone"], OneOf(("rw", "ro", "clone"))] = Field(
        default="rw", description="rw: live; ro: live, the guest cannot write; clone: a private copy in the guest."
    )
    hide: Patterns = Field(
        default=(),
        description="Files that do not exist for the guest: patterns as in .gitignore, in any letter case.",
    )
    protect: Annotated[bool, Strict()] = Field(
        default=True,
        description="Whether git's hooks and configuration, editors' tasks and agents' settings are read-only in it.",
    )
    local: Paths = Field(
        default=(), description="Directories that live on the guest's own disk instead, as `setup` has left them."
    )
    limit: Maybe[Annotated[int, size(MIB, 16 * TIB), WithJsonSchema(SIZE_SCHEMA)]] = Field(
        default=None,
        description="How much the guest may add to it, such as 5GiB. Default: while a tenth of what was free is left.",
    )

    @model_validator(mode="before")
    @classmethod
    def _short_form(cls, value: Any) -> Any:
        if not isinstance(value, str):
            return value
        if windows := split_windows_mount(value):
            raise _of_windows(windows[0])
        parts = value.split(":")
        if len(parts) not in (2, 3) or not all(parts):
            raise refuse(f"must be SOURCE:TARGET or SOURCE:TARGET:MODE, got {quote(value)}", "such as .:/workspace")
        return dict(zip(("source", "target", "mode"), parts, strict=False))

    @model_validator(mode="after")
    def _limit_of_what_is_written(self) -> Self:
        if self.limit is not None and self.mode != "rw":
            raise refuse(f"is for what the guest writes to the host, not for mode {self.mode}", key="limit")
        return self

    @classmethod
    def __get_pydantic_json_schema__(cls, schema: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        description = "SOURCE:TARGET or SOURCE:TARGET:MODE, such as .:/workspace or ../docs:/docs:ro"
        pattern = r"^[^:\x00-\x1f\x7f]+:/[^:\x00-\x1f\x7f]*(:(rw|ro|clone))?$"
        return long_or_short(schema, handler, ShortForm(("string",), description, pattern))
