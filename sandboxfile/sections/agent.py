"""The `agent` and `secrets` sections."""

from __future__ import annotations

import re
import shlex
from typing import Annotated, Any

from pydantic import BeforeValidator, ConfigDict, Field, Strict, WithJsonSchema, model_validator

from sandboxfile.diagnostics import quote
from sandboxfile.sections.fields import Environment, EnvironmentName, Grammar, Maybe, Part, Text, UserName, refuse


def _split(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    try:
        words = shlex.split(value)
    except ValueError as error:
        raise refuse(f"cannot be split into words: {str(error).lower()}", "quote the words, or write a list of them")
    if not words:
        raise refuse(f"must name a program, got {quote(value)}")
    return words


Command = Annotated[
    tuple[Text, ...],
    Field(min_length=1, max_length=1000),
    BeforeValidator(_split),
    WithJsonSchema(
        {
            "anyOf": [
                {"type": "string", "pattern": r"\S"},
                {"type": "array", "items": {"type": "string", "minLength": 1, "maxLength": 4096}, "minItems": 1},
            ]
        }
    ),
]
Version = Annotated[str, Strict(), Grammar(r"^[A-Za-z0-9][A-Za-z0-9.+~_-]{0,99}$", "must be a version")]

_NAME = r"[a-z0-9][a-z0-9-]{0,39}"
_PACKAGE = r"npm:(@[a-z0-9~-][a-z0-9._~-]*/)?[a-z0-9~-][a-z0-9._~-]*@[0-9]+\.[0-9]+\.[0-9]+[A-Za-z0-9.+-]{0,80}"
_OF_NPM = (
    "name one package and one version, such as npm:@scope/package@1.2.3; `npm view PACKAGE version` has the latest"
)


def _a_use(value: Any) -> Any:
    """A package without a version would be another one each day."""
    if isinstance(value, str) and value.startswith("npm:") and not re.fullmatch(_PACKAGE, value):
        raise refuse(f"must be a package of npm in one version, got {quote(value)}", _OF_NPM)
    return value


Use = Annotated[
    str,
    Strict(),
    Grammar(
        f"^({_NAME}|{_PACKAGE})$",
        "must be the name of an agent, 1 to 40 lower-case letters, digits and dashes, or npm:PACKAGE@VERSION",
    ),
    BeforeValidator(_a_use),
]


class Agent(Part):
    """The coding agent that works in the sandbox."""

    model_config = ConfigDict(
        json_schema_extra={
            "anyOf": [{"required": ["use"]}, {"required": ["command"]}],
            "dependentRequired": {"version": ["use"]},
        }
    )

    use: Maybe[Use] = Field(
        default=None,
        description="The agent's definition: the name of a template, such as claude-code, or of one of your own; or"
        " npm:PACKAGE@VERSION for any program of npm, with `command`.",
    )
    version: Maybe[Version] = Field(default=None, description="The version of the agent that `use` names.")
    command: Maybe[Command] = Field(
        default=None, description="The agent's command: a string, split as a shell would, or a list of words."
    )
    args: Annotated[tuple[Text, ...], Field(max_length=1000)] = Field(
        default=(), description="Arguments after the command."
    )
    env: Environment = Field(default_factory=dict, description="Environment variables of the agent.")
    user: UserName = Field(default="agent", description="The user that runs the agent.")
    note: Annotated[bool, Strict()] = Field(
        default=True, description="Whether the agent's home has a note about what it can reach and what runs beside it."
    )

    keep: Annotated[bool, Strict()] = Field(
        default=False, description="Whether sessions and shell history are there again after `down` and `up`."
    )

    @model_validator(mode="after")
    def _has_something_to_run(self) -> Agent:
        if self.use is None and self.command is None:
            raise refuse("needs a command", "write `command: [...]`, or `use:` with the name of a template")
        if self.version is not None and self.use is None:
            raise refuse("is the version of nothing: there is no `use`", key="version")
        if self.use is not None and self.use.startswith("npm:"):
            if self.command is None:
                raise refuse("needs a command", "write `command: [...]`, the program of the package", "command")
            if self.version is not None:
                raise refuse("stands in `use` already, after the package", key="version")
        return self


def home_of(agent: Agent) -> str:
    """The home directory in the guest of the user that runs the agent."""
    return "/root" if agent.user in ("root", "0") else f"/home/{agent.user}"


class Secret(Part):
    """Where the value of a secret comes from. The value stays with the user: it never enters the machine or this file.

    Without a source it is the entry of the user's keyring that has the name of the secret.
    """

    model_config = ConfigDict(json_schema_extra={"maxProperties": 1})

    env: Maybe[EnvironmentName] = Field(
        default=None, description="The variable of the user's environment that holds the value."
    )
    file: Maybe[Text] = Field(default=None, description="The file of the user that holds the value.")
    keyring: Maybe[Text] = Field(
        default=None,
        description="The entry of the user's keyring that holds the value. Default: the secret's own name.",
    )

    @model_validator(mode="before")
    @classmethod
    def _no_value(cls, value: Any) -> Any:
        if not isinstance(value, (dict, cls)):
            raise refuse("must say where the value comes from, and never the value itself", "such as {env: NAME}")
        return value

    @model_validator(mode="after")
    def _one_source(self) -> Secret:
        given = [f"`{name}`" for name in ("env", "file", "keyring") if getattr(self, name) is not None]
        if len(given) > 1:
            raise refuse(f"takes its value from one source, not from {' and '.join(given)}")
        return self
