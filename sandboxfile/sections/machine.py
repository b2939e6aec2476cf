"""The `machine`, `packages` and `setup` sections: what the guest is made of."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, GetJsonSchemaHandler, Strict, WithJsonSchema, model_validator
from pydantic_core import CoreSchema

from sandboxfile.quantities import DURATION_PATTERN, GIB, KIB, MIB, TIB
from sandboxfile.sections.amounts import DURATION_SCHEMA, RATE_SCHEMA, SIZE_SCHEMA, duration, rate, size
from sandboxfile.sections.fields import (
    Environment,
    Grammar,
    Maybe,
    Part,
    RelativePath,
    Script,
    ShortForm,
    UserName,
    long_or_short,
)


class Idle(Part):
    """What becomes of a sandbox that nobody uses. See docs/lifecycle.md for what counts as use."""

    after: Annotated[int, BeforeValidator(duration), WithJsonSchema(DURATION_SCHEMA)] = Field(
        description="The time that nobody has used it, such as 30m or 8h."
    )
    do: Literal["stop", "pause"] = Field(
        default="stop",
        description="`stop` keeps its disk, `pause` its memory, too: then it goes on in a second, and a connection to a"
        " published port wakes it.",
    )

    @model_validator(mode="before")
    @classmethod
    def _short_form(cls, value: Any) -> Any:
        if isinstance(value, Mapping | Idle):
            return value
        duration(value)
        return {"after": value}

    @classmethod
    def __get_pydantic_json_schema__(cls, schema: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        return long_or_short(
            schema, handler, ShortForm(("string",), "The time alone: `30m` stops it.", DURATION_PATTERN)
        )


class Machine(Part):
    """The virtual machine's size."""

    cpus: Annotated[int, Strict()] = Field(default=2, ge=1, le=64, description="Number of virtual processors.")
    memory: Annotated[int, size(512 * MIB, TIB), WithJsonSchema(SIZE_SCHEMA)] = Field(
        default=2 * GIB, description="Memory, 512MiB or more, such as 4GiB.", json_schema_extra={"default": "2GiB"}
    )
    disk: Annotated[int, size(2 * GIB, 16 * TIB), WithJsonSchema(SIZE_SCHEMA)] = Field(
        default=20 * GIB,
        description="The largest size the machine's disk can grow to, 2GiB or more.",
        json_schema_extra={"default": "20GiB"},
    )
    idle: Maybe[Idle] = Field(
        default=None,
        description="Stop or pause the sandbox when nobody has used it for a time, such as 30m or 8h. Default: never.",
    )
    network_rate: Maybe[Annotated[int, rate(64 * KIB, TIB), WithJsonSchema(RATE_SCHEMA)]] = Field(
        default=None,
        description="How much it may send and receive in a second, both together, such as 10MiB/s. Default: no limit.",
    )
    cpu_weight: Annotated[int, Strict()] = Field(
        default=100,
        ge=1,
        le=10000,
        description="Its share of this host's processors when others want them, too: 50 is half of what 100 gets.",
    )


PackageName = Annotated[
    str,
    Strict(),
    Grammar(
        r"^[a-z0-9][a-z0-9+.-]{1,99}$",
        "must be the name of a Debian package (lower-case letters, digits, +, - and .)",
        "versions and options are not part of the name",
    ),
]


class SetupStep(Part):
    """One step of the machine's set-up: a command that runs once in the guest. Its result is kept in a snapshot."""

    run: Script = Field(description="The command, run by a shell in the first mount's target.")
    inputs: Annotated[tuple[RelativePath, ...], Field(max_length=1000)] = Field(
        default=(),
        description="Files and patterns of the project that are copied in first; the step runs again when they change.",
    )
    env: Environment = Field(default_factory=dict, description="Environment variables of the command.")
    user: UserName = Field(default="agent", description="The user that runs the command.")

    @model_validator(mode="before")
    @classmethod
    def _short_form(cls, value: Any) -> Any:
        return {"run": value} if isinstance(value, str) else value

    @classmethod
    def __get_pydantic_json_schema__(cls, schema: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        return long_or_short(schema, handler, ShortForm(("string",), "The command alone: `npm ci`.", r"\S"))
