"""The `ports` section: ports of the host's loopback that lead into the guest."""

from __future__ import annotations

import re
from typing import Any

from pydantic import Field, GetJsonSchemaHandler, model_validator
from pydantic_core import CoreSchema

from sandboxfile.diagnostics import quote
from sandboxfile.sections.fields import Maybe, Part, PortNumber, ShortForm, long_or_short, refuse


class Port(Part):
    """One TCP port of the guest, reachable on the host's loopback address."""

    guest: PortNumber = Field(description="Port in the guest.")
    host: Maybe[PortNumber] = Field(default=None, description="Port on the host's loopback. Default: a free one.")

    @model_validator(mode="before")
    @classmethod
    def _short_form(cls, value: Any) -> Any:
        if isinstance(value, int) and not isinstance(value, bool):
            return {"guest": value}
        if not isinstance(value, str):
            return value
        if match := re.fullmatch(r"(?:([0-9]{1,9}):)?([0-9]{1,9})", value):
            host, guest = match.groups()
            return {"guest": int(guest)} if host is None else {"host": int(host), "guest": int(guest)}
        hint = 'such as "3000:3000", or 3000 for a free port of the host'
        if value.count(":") > 1:
            hint = "the address is always the host's loopback: leave it out"
        elif "/" in value:
            hint = "only TCP ports can be published: leave the protocol out"
        raise refuse(f"must be HOST:GUEST or GUEST, got {quote(value)}", hint)

    @classmethod
    def __get_pydantic_json_schema__(cls, schema: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        description = 'HOST:GUEST such as "3000:3000", or GUEST alone for a free port of the host'
        pattern = r"^([0-9]{1,9}:)?[0-9]{1,9}$"
        return long_or_short(schema, handler, ShortForm(("string", "integer"), description, pattern))
