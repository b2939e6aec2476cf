"""The `mounts` section: which directories of the host the guest sees."""

from __future__ import annotations

import posixpath
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, GetJsonSchemaHandler, model_validator
from pydantic_core import CoreSchema, PydanticCustomError

from sandboxfile.diagnostics import quote
from sandboxfile.sections.fields import OneOf, Part, RelativePath, SchemaPattern, ShortForm, Text, long_or_short, refuse
from sandboxfile.windows import split_windows_mount, windows_path

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
Paths = Annotated[tuple[RelativePath, ...], Field(max_length=1000)]


class Mount(Part):
    """One directory of the host, seen in the guest."""

    source: Annotated[Text, AfterValidator(_source)] = Field(
        description="Directory on the host, absolute or relative to this file."
    )
    target: Target = Field(description="Directory in the guest, absolute.")
    mode: Annotated[Literal["rw", "ro", "clone"], OneOf(("rw", "ro", "clone"))] = Field(
        default="rw", description="rw: live; ro: live, the guest cannot write; clone: a private copy in the guest."
    )
    hide: Paths = Field(default=(), description="Files and patterns that the guest must not see.")
    local: Paths = Field(default=(), description="Directories that live on the guest's own disk instead.")

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

    @classmethod
    def __get_pydantic_json_schema__(cls, schema: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        description = "SOURCE:TARGET or SOURCE:TARGET:MODE, such as .:/workspace or ../docs:/docs:ro"
        pattern = r"^[^:\x00-\x1f\x7f]+:/[^:\x00-\x1f\x7f]*(:(rw|ro|clone))?$"
        return long_or_short(schema, handler, ShortForm(("string",), description, pattern))
