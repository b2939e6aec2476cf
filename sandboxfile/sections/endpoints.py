"""The `endpoints` section: what the guest may talk to. Everything that is not listed is refused."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    GetJsonSchemaHandler,
    Strict,
    WithJsonSchema,
    model_validator,
)
from pydantic_core import CoreSchema

from sandboxfile.diagnostics import did_you_mean, one_of, quote
from sandboxfile.names import GROUPS, NAMED, PARAMETERISED
from sandboxfile.sections.fields import (
    Grammar,
    Maybe,
    Name,
    OneOf,
    Part,
    PortNumber,
    SchemaPattern,
    ShortForm,
    Text,
    long_or_short,
    refuse,
)
from sandboxfile.sections.preset_keys import Accesses, Changes, RefPatterns, Repositories

SECRET_PLACES = ("header", "query", "body")
METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE")

# Keys that only some endpoints can have.
_OF_HTTP = ("methods", "paths", "secret", "secret_in", "intercept", "bypass", "ech", "foreign_credentials")
_OF_HOSTS = ("port", "protocol", "secret_in", "as_", "private", "bypass", "ech", "foreign_credentials")
_OF_ALLOWED = ("secret", "as_", "private", "intercept", "bypass", "ech", "foreign_credentials")
_SOME = (*GROUPS, "anthropic")  # for messages: the list is long

_LABEL = re.compile(r"[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?")


def check_host(text: str) -> str:
    """A host's name as it is sent over the network: lower-case ASCII without a dot at its end. It may begin with `*.`.

    Raises the model's error for everything that is no name, and for IP addresses: the gateway decides by name.
    """
    if match := re.match(r"[A-Za-z][A-Za-z0-9+.-]*://([^/:?#]*)", text):
        raise refuse(f"must be a host's name, not a URL, got {quote(text)}", f"write {match.group(1)}")
    if "/" in text:
        raise refuse(f"must be a host's name without a path, got {quote(text)}", "a path belongs into `paths`")
    if ":" in text or "[" in text:
        raise refuse(
            f"must be a host's name, got {quote(text)}", "IP addresses cannot be endpoints; a port has its own key"
        )
    wildcard = text.startswith("*.")
    name = _to_ascii(text.removeprefix("*.").removesuffix("."), text)
    labels = name.split(".")
    if "*" in name:
        raise refuse(f"may have `*.` only at the beginning, got {quote(text)}", "such as *.example.com")
    if len(name) > 253 or not all(_LABEL.fullmatch(label) for label in labels):
        raise refuse(f"is no valid host name, got {quote(text)}")
    # By the URL standard, a name whose last label is a number is an IPv4 address, whatever its form.
    if re.fullmatch(r"[0-9]+|0x[0-9a-f]*", labels[-1]):
        raise refuse(f"must be a host's name, got the address {quote(text)}", "the gateway decides by name")
    if wildcard and len(labels) < 2:
        raise refuse(f"is too wide: {quote(text)} would match every name below {quote(name)}", "such as *.example.com")
    return f"*.{name}" if wildcard else name


def _to_ascii(name: str, text: str) -> str:
    if name.isascii():
        return name.lower()
    try:
        return name.lower().encode("idna").decode("ascii")
    except UnicodeError:
        raise refuse(f"is no valid internationalised host name, got {quote(text)}")


Group = Annotated[str, OneOf(NAMED)]
Host = Annotated[
    Text,
    AfterValidator(check_host),
    SchemaPattern(r"^(\*\.)?[^\x00-\x20\x7f*/:\[\]]+$"),
]
Method = Annotated[str, OneOf(METHODS)]
UrlPath = Annotated[
    str, Strict(), Grammar(r"^/[^\x00-\x20\x7f?#]{0,2000}$", "must be a path or pattern that begins with /")
]
SecretName = Annotated[
    str, Strict(), Grammar(r"^[a-z0-9][a-z0-9_-]{0,63}$", "must be lower-case letters, digits, - and _")
]


def _one_place(value: Any) -> Any:
    return [value] if isinstance(value, str) else value


def _each_once(value: tuple[str, ...]) -> tuple[str, ...]:
    if not value:
        raise refuse("must not be empty", f"the places are {one_of(SECRET_PLACES)}")
    if len(set(value)) != len(value):
        raise refuse("names a place twice")
    return value


SecretPlace = Annotated[Literal["header", "query", "body"], OneOf(SECRET_PLACES)]
SecretPlaces = Annotated[
    tuple[SecretPlace, ...],
    BeforeValidator(_one_place),
    AfterValidator(_each_once),
    WithJsonSchema(
        {
            "anyOf": [
                {"type": "string", "enum": list(SECRET_PLACES)},
                {
                    "type": "array",
                    "items": {"type": "string", "enum": list(SECRET_PLACES)},
                    "minItems": 1,
                    "uniqueItems": True,
                },
            ]
        }
    ),
]


class Endpoint(Part):
    """One rule: a named group, a repository, or a host with the requests that it is for."""

    group: Maybe[Group] = Field(
        default=None, description="A named group of hosts; `sandbox endpoints ls` lists them, such as npm."
    )
    github: Repositories = Field(
        default=(), description="Repositories of GitHub: OWNER/REPOSITORY or OWNER/*, one or a list."
    )
    access: Accesses = Field(
        default=(),
        description="What for, of a group or repository, one or a list; `sandbox endpoints show` says what there is.",
    )
    push: RefPatterns = Field(
        default=(), description="Branches, and patterns of branches or whole refs, that may be pushed to."
    )
    changes: Changes = Field(
        default=(),
        description="What a push may do to them. Default: create and update. An update may be a forced one.",
    )
    host: Maybe[Host] = Field(default=None, description="The host's name, or *.example.com for all names below it.")
    port: Maybe[PortNumber] = Field(default=None, description="Port. Default: 443 and 80; of https 443, of http 80.")
    protocol: Maybe[Annotated[Literal["https", "http", "tcp"], OneOf(("https", "http", "tcp"))]] = Field(
        default=None,
        description="https, http, or tcp for anything else, such as ssh or a database, by an exact name and a port.",
    )
    methods: Annotated[tuple[Method, ...], Field(max_length=20)] = Field(
        default=(), description="HTTP methods. Default: all."
    )
    paths: Annotated[tuple[UrlPath, ...], Field(max_length=1000)] = Field(
        default=(), description="Paths and patterns such as /repos/acme/**. Default: all."
    )
    secret: Maybe[SecretName] = Field(
        default=None, description="The secret, from `secrets`, that requests to this host carry."
    )
    secret_in: Maybe[SecretPlaces] = Field(
        default=None,
        description="Where requests carry it: header, or query or body, in its placeholder's place. Default: header.",
    )
    as_: Maybe[Name] = Field(
        default=None,
        alias="as",
        description="The name by which the guest reaches a service of the host (host: localhost), or another host.",
    )
    private: Annotated[bool, Strict()] = Field(
        default=False, description="The name may lead into your private network. `up` asks about that."
    )
    intercept: Annotated[bool, Strict()] = Field(
        default=False, description="Look inside TLS although no secret, method or path needs it."
    )
    bypass: Annotated[bool, Strict()] = Field(
        default=False,
        description="Never look inside TLS, even if an endpoint such as *.example.com does: for clients that pin"
        " certificates.",
    )
    ech: Maybe[Annotated[Literal["allow"], OneOf(("allow",))]] = Field(
        default=None,
        description="allow: a client may encrypt the name it asks for (ECH), so that it could reach any name of the"
        " same servers. Default: refused, unless TLS is looked into.",
    )
    foreign_credentials: Maybe[Annotated[Literal["allow"], OneOf(("allow",))]] = Field(
        default=None,
        description="allow: requests may carry other credentials than the secret. Default: they are refused.",
    )
    deny: Annotated[bool, Strict()] = Field(default=False, description="Refuse instead of allow. Deny beats allow.")

    @model_validator(mode="before")
    @classmethod
    def _short_form(cls, value: Any) -> Any:
        if not isinstance(value, str):
            return value
        if value in NAMED:
            return {"group": value}
        host, colon, port = value.rpartition(":")
        if colon and re.fullmatch("[0-9]{1,9}", port) and ":" not in host:
            return {"host": host, "port": int(port)}
        if re.fullmatch(r"[A-Za-z0-9_-]+", value) and value.lower() != "localhost":
            hint = did_you_mean(value, NAMED) or (
                f"groups are such as {one_of(_SOME)} (`sandbox endpoints ls`); write {{host: {value}}} for a host"
            )
            if value in PARAMETERISED:
                hint = f"write {{{value}: OWNER/REPOSITORY}}"
            raise refuse(f"unknown group {quote(value)}", hint)
        return {"host": value}

    @model_validator(mode="after")
    def _fits_together(self) -> Endpoint:
        if sum((self.group is not None, self.host is not None, bool(self.github))) != 1:
            raise refuse("needs either `host` or `group`, or a repository as `github`")
        of_host = (*_OF_HOSTS, *(["secret"] if self.group in GROUPS else []))
        if self.host is None and (key := self._first(of_host)):
            raise refuse("belongs to a host, not to a group", "list the host instead", key)
        self._check_preset()
        if self.protocol == "tcp":
            self._check_tcp()
        if self.deny and (key := self._first(_OF_ALLOWED)):
            raise refuse("has no use for a host that is denied", key=key)
        if self.bypass and (key := self._first(("secret", "methods", "paths", "intercept"))):
            raise refuse("needs a look inside TLS, which `bypass` forbids", "give one of the two up", key)
        if self.protocol == "http" and (key := self._first(("intercept", "bypass", "ech"))):
            raise refuse("belongs to https, not to http", key=key)
        if self.foreign_credentials and self.secret is None:
            hint = "without a secret of ours, requests may carry any credential"
            raise refuse("belongs to a host that gets a secret", hint, "foreign_credentials")
        if self.secret_in and self.secret is None:
            raise refuse("says where a secret goes, and there is no `secret`", "add it: secret: NAME", "secret_in")
        self._check_host_service()
        return self

    def _first(self, keys: Iterable[str]) -> str | None:
        """The first of these keys, as the file spells it, that has a value."""
        return next((key.rstrip("_") for key in keys if getattr(self, key)), None)

    def _check_tcp(self) -> None:
        if self.port is None:
            raise refuse("tcp needs a port", key="protocol")
        if key := self._first(_OF_HTTP):
            raise refuse("belongs to http and https, not to tcp", key=key)
        if (self.host or "").startswith("*.") and not self.deny:
            hint = "each name gets an address of its own in the guest: list the names"
            raise refuse("tcp needs one exact name", hint, "protocol")

    def _check_preset(self) -> None:
        preset = bool(self.github or self.access) or self.group not in (None, *GROUPS)
        if not self.github and (key := self._first(("push", "changes"))):
            raise refuse("belongs to a repository", "such as {github: acme/shop, push: [agent/*]}", key)
        if self.access and self.host is not None:
            hint = "a host has `methods` and `paths`"
            raise refuse("belongs to a group or a repository, not to a host", hint, "access")
        if self.changes and not self.push:
            hint = "name the branches: push: [agent/*]"
            raise refuse("says what pushes may do, and nothing is pushed", hint, "changes")
        if preset and (key := self._first(("methods", "paths", "intercept"))):
            raise refuse("belongs to a host", "`access` says which requests there are", key)
        if self.deny and (self.github or self.access):
            raise refuse("has no use here", "what no endpoint allows is refused anyway", "deny")

    def _check_host_service(self) -> None:
        local = self.host is not None and (self.host == "localhost" or self.host.endswith(".localhost"))
        if local and (self.host != "localhost" or self.as_ is None or self.port is None) and not self.deny:
            hint = "such as {host: localhost, port: 11434, as: ollama}"
            raise refuse("a service of the host itself needs the host localhost, a port and a name of its own", hint)
        if local and self.private:
            raise refuse("belongs to a name of the network, not to this host", key="private")
        if self.as_ == "localhost":
            raise refuse("localhost is the guest itself", "choose another name", "as")
        if self.as_ and (self.as_.isdecimal() or self.as_.endswith("-")):
            raise refuse(f"is no host's name, got {quote(self.as_)}", "such as ollama", "as")
        if self.as_ and (self.port is None or (self.host or "").startswith("*.")):
            raise refuse("a name of its own needs one exact host and a port", key="as")

    @classmethod
    def __get_pydantic_json_schema__(cls, schema: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        description = f"A group (such as {one_of(_SOME)}), HOST, HOST:PORT or *.DOMAIN"
        # A word with a port, or with any character that no label has, such as a dot, is a host. Other words are groups.
        char = r"[^\x00-\x20/\[\]:]"
        host = rf"{char}*[^\x00-\x20/\[\]:A-Za-z0-9_-]{char}*|{char}+:[0-9]{{1,9}}"
        pattern = rf"^({'|'.join(NAMED)}|{host})$"
        reference = long_or_short(schema, handler, ShortForm(("string",), description, pattern))
        long_form = handler.resolve_ref_schema(reference)["anyOf"][1]
        properties = long_form["properties"]
        filled = [
            {"required": [key], "properties": {key: {"minItems": 1, "description": properties[key]["description"]}}}
            for key in PARAMETERISED
        ]
        long_form["oneOf"] = [{"required": ["host"]}, {"required": ["group"]}, *filled]
        long_form["dependentRequired"] = {"push": ["github"], "changes": ["push"]}
        return reference
