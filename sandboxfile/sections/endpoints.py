"""The `endpoints` section: what the guest may talk to. Everything that is not listed is refused."""

from __future__ import annotations

import re
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

GROUPS = ("debian", "npm", "pypi")
SECRET_PLACES = ("header", "query", "body")
METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE")

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


Group = Annotated[str, OneOf(GROUPS)]
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
    """One rule: a named group, or a host with the requests that it is for."""

    group: Maybe[Group] = Field(default=None, description=f"A named group of hosts: {one_of(GROUPS)}.")
    host: Maybe[Host] = Field(default=None, description="The host's name, or *.example.com for all names below it.")
    port: Maybe[PortNumber] = Field(default=None, description="Port. Default: 443 and 80.")
    protocol: Maybe[Annotated[Literal["https", "http", "tcp"], OneOf(("https", "http", "tcp"))]] = Field(
        default=None, description="https, http, or tcp for anything else."
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
    secret_in: SecretPlaces = Field(
        default=(),
        description="Where requests carry it: header, or query or body, in its placeholder's place. Default: header.",
    )
    as_: Maybe[Name] = Field(
        default=None, alias="as", description="The name by which the guest reaches a service of the host."
    )
    deny: Annotated[bool, Strict()] = Field(default=False, description="Refuse instead of allow. Deny beats allow.")

    @model_validator(mode="before")
    @classmethod
    def _short_form(cls, value: Any) -> Any:
        if not isinstance(value, str):
            return value
        if value in GROUPS:
            return {"group": value}
        host, colon, port = value.rpartition(":")
        if colon and re.fullmatch("[0-9]{1,9}", port) and ":" not in host:
            return {"host": host, "port": int(port)}
        if re.fullmatch(r"[A-Za-z0-9_-]+", value) and value.lower() != "localhost":
            hint = did_you_mean(value, GROUPS) or f"the groups are {one_of(GROUPS)}; write {{host: {value}}} for a host"
            raise refuse(f"unknown group {quote(value)}", hint)
        return {"host": value}

    @model_validator(mode="after")
    def _fits_together(self) -> Endpoint:
        if (self.group is None) == (self.host is None):
            raise refuse("needs either `host` or `group`")
        if self.group and (self.port or self.protocol or self.as_ or self.secret):
            key = next(key for key in ("port", "protocol", "secret", "as_") if getattr(self, key)).rstrip("_")
            raise refuse("belongs to a host, not to a group", "list the host instead", key)
        if self.protocol == "tcp":
            if self.port is None:
                raise refuse("tcp needs a port", key="protocol")
            if rules := [key for key in ("methods", "paths", "secret") if getattr(self, key)]:
                raise refuse("belongs to http and https, not to tcp", key=rules[0])
        if self.deny and (self.secret or self.as_):
            raise refuse("has no use for a host that is denied", key="secret" if self.secret else "as")
        if self.secret_in and self.secret is None:
            raise refuse("says where a secret goes, and there is no `secret`", "add it: secret: NAME", "secret_in")
        self._check_host_service()
        return self

    def _check_host_service(self) -> None:
        local = self.host is not None and (self.host == "localhost" or self.host.endswith(".localhost"))
        if local and (self.host != "localhost" or self.as_ is None or self.port is None) and not self.deny:
            hint = "such as {host: localhost, port: 11434, as: ollama}"
            raise refuse("a service of the host itself needs the host localhost, a port and a name of its own", hint)
        if self.as_ == "localhost":
            raise refuse("localhost is the guest itself", "choose another name", "as")
        if self.as_ and (self.port is None or (self.host or "").startswith("*.")):
            raise refuse("a name of its own needs one exact host and a port", key="as")

    @classmethod
    def __get_pydantic_json_schema__(cls, schema: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        description = f"A group ({one_of(GROUPS)}), HOST, HOST:PORT or *.DOMAIN"
        # A word with a port, or with any character that no label has, such as a dot, is a host. Other words are groups.
        char = r"[^\x00-\x20/\[\]:]"
        host = rf"{char}*[^\x00-\x20/\[\]:A-Za-z0-9_-]{char}*|{char}+:[0-9]{{1,9}}"
        pattern = rf"^({'|'.join(GROUPS)}|{host})$"
        reference = long_or_short(schema, handler, ShortForm(("string",), description, pattern))
        long_form = handler.resolve_ref_schema(reference)["anyOf"][1]
        long_form["oneOf"] = [{"required": ["host"]}, {"required": ["group"]}]
        return reference
