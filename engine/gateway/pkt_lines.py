"""git's pkt-lines, read as they come: four hexadecimal digits that count themselves, then that many bytes less four."""

from __future__ import annotations

import re
from collections.abc import Iterator

from engine.gateway.errors import GatewayError

LONGEST = 65520  # bytes of a line with its length; what git takes
_LENGTH = re.compile(rb"[0-9a-f]{4}")


class BadLine(GatewayError):
    """Bytes that are no pkt-line, or one that readers take differently."""


def write_line(text: bytes) -> bytes:
    """A pkt-line of up to LONGEST - 4 bytes."""
    return b"%04x" % (len(text) + 4) + text


class PktLines:
    """`rest` is what has come and was not read: the beginning of a line, or what follows where the reader stopped."""

    def __init__(self) -> None:
        self.rest = bytearray()

    def feed(self, data: bytes) -> Iterator[bytes | None]:
        """The lines that are whole now, None for a flush. Whoever stops iterating leaves what follows in `rest`.

        Raises BadLine for a length that is none, and for the delimiter and the end of a response, which no line of a
        push is.
        """
        self.rest += data
        while len(self.rest) >= 4:
            digits = bytes(self.rest[:4])
            if not _LENGTH.fullmatch(digits):
                raise BadLine("a pkt-line without a length in lower-case hexadecimal digits")
            length = int(digits, 16)
            if 0 < length <= 4 or length > LONGEST:
                raise BadLine(f"a pkt-line of the length {digits.decode()}")
            if len(self.rest) < length:
                return
            line = bytes(self.rest[4:length]) if length else None
            del self.rest[: length or 4]
            yield line
