"""Host names in the one form in which they are compared: lower case, A-labels, no trailing dot."""

from __future__ import annotations

import ipaddress
import re
import unicodedata

from engine.gateway.errors import GatewayError
from engine.report.text import cut

_LABEL = re.compile(r"(?!-)[a-z0-9_-]{1,63}(?<!-)")
_NUMBER = re.compile(r"[0-9]+|0x[0-9a-f]*")


class BadName(GatewayError):
    """The text is no host name that a rule or a guest may use."""


def canonical_name(text: str) -> str:
    """The comparable form of one host name.

    Raises BadName for IP addresses in any spelling (the C library also takes `127.1` and `0x7f000001`), for what
    DNS cannot carry, and for a name that IDNA would quietly turn into a different one.
    """
    name = text.removesuffix(".").lower()
    if not name:
        raise BadName("the host name is empty")
    if is_address(name):
        raise BadName(f"{_shown(text)} is an IP address; only host names can be allowed")
    if not name.isascii():
        name = _encode(text, unicodedata.normalize("NFC", name))
    if len(name) > 253 or not all(_LABEL.fullmatch(label) for label in name.split(".")):
        raise BadName(f"{_shown(text)} is not a host name")
    if _NUMBER.fullmatch(name.rsplit(".", 1)[-1]):
        raise BadName(f"{_shown(text)} reads as an IP address; only host names can be allowed")
    return name


def is_address(text: str) -> bool:
    """Whether the text is an IPv4 or IPv6 literal, with or without brackets and zone."""
    try:
        ipaddress.ip_address(text.strip("[]"))
    except ValueError:
        return False
    return True


def _encode(text: str, name: str) -> str:
    try:
        encoded = name.encode("idna").decode("ascii")
        decoded = encoded.encode("ascii").decode("idna")
    except UnicodeError:
        raise BadName(f"{_shown(text)} is not a host name") from None
    if decoded != name:
        # IDNA 2003 maps some letters to others, where 2008 keeps them: two readers would see two hosts.
        raise BadName(f"{_shown(text)} has more than one encoding", hint="write it in its xn-- form")
    return encoded


def _shown(text: str) -> str:
    return repr(cut(text, 80))
