"""What an answer may bring to the guest: never the value of a secret that its host gets, packed or not.

A request to such a host asks for an answer that is not packed. One that comes packed all the same is unpacked beside
the stream, a little at a time, and passed on as it came; what cannot be unpacked here is refused.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable
from typing import Any

from engine.gateway.errors import GatewayError
from engine.gateway.redaction import Redactor

_AT_ONCE = 64 << 10  # bytes that are unpacked at once, looked at and forgotten
_MOST = 16 << 20  # bytes that one piece of a stream may unpack to: the gateway has other guests' requests to see to
_MOST_HELD = 256 << 10
_WINDOWS = {"gzip": 31, "x-gzip": 31, "deflate": 15}
_BODILESS = frozenset({204, 304})


class AnswerRefused(GatewayError):
    """An answer that the guest must not have. It gets 502, or, if it has a part already, the end of its connection."""


class Incoming:
    """One answer on its way to the guest; `found` says whether it held a value."""

    def __init__(self, values: Iterable[bytes] = (), host: str = "") -> None:
        self._redactor = Redactor(values)
        self._host = host
        self._encoding = ""
        self._unpacking: Any = None
        self._packed = bytearray()  # looked at, but for a value that may have begun in it

    def __bool__(self) -> bool:
        """Whether there is anything to look for."""
        return bool(self._redactor)

    @property
    def found(self) -> bool:
        return self._redactor.found

    def begin(self, status: int, headers: Iterable[tuple[bytes, bytes]], *, bodiless: bool = False) -> None:
        """Look at the head of the final answer. Raises AnswerRefused for a body that cannot be looked into."""
        if not self._redactor or bodiless or status in _BODILESS:
            return
        named = [value for name, value in headers if name.lower() == b"content-encoding"]
        encodings = [one.strip().lower().decode("latin-1") for value in named for one in value.split(b",")]
        encodings = [one for one in encodings if one not in ("", "identity")]
        if not encodings:
            return
        if len(encodings) > 1 or encodings[0] not in _WINDOWS:
            raise AnswerRefused(
                f"{self._host} packed its answer ({self.clean_text(', '.join(encodings))[:80]}) although it was asked"
                " not to, and nobody can look into it for the value of a secret"
            )
        self._encoding = encodings[0]
        self._unpacking = zlib.decompressobj(_WINDOWS[self._encoding])

    def feed(self, data: bytes) -> bytes:
        """What may go on now. Raises AnswerRefused."""
        if self._unpacking is None:
            return self._redactor.feed(data)
        self._packed += data
        try:
            self._look_into(data)
        except zlib.error:
            raise AnswerRefused(f"{self._host} sent what is not {self._encoding}, as which it was packed") from None
        if self._redactor.found:
            raise AnswerRefused(f"the answer of {self._host} holds a secret's value, packed as {self._encoding}")
        if self._redactor.holds:
            if len(self._packed) > _MOST_HELD:
                raise AnswerRefused(f"the answer of {self._host} cannot be looked into for the value of a secret")
            return b""
        return self._take()

    def finish(self) -> bytes:
        """What was held back, at the end of the body."""
        return self._redactor.finish() if self._unpacking is None else self._take()

    def cover(self) -> bytes:
        """At the end of one of many messages: stars for what was held back of it."""
        return self._redactor.cover()

    def clean(self, data: bytes) -> bytes:
        """A header's value, or another piece that is whole by itself."""
        return self._redactor.clean(data)

    def clean_text(self, text: str) -> str:
        return self.clean(text.encode("latin-1", "replace")).decode("latin-1")

    def _take(self) -> bytes:
        packed = bytes(self._packed)
        self._packed.clear()
        return packed

    def _look_into(self, data: bytes) -> None:
        size = 0
        while data and not self._redactor.found:
            if self._unpacking.eof:
                if not data.strip(b"\0"):  # gzip may be padded
                    return
                self._unpacking = zlib.decompressobj(_WINDOWS[self._encoding])
            piece = self._unpacking.decompress(data, _AT_ONCE)
            size += len(piece)
            if size > _MOST:
                raise AnswerRefused(f"the answer of {self._host} unpacks to more than can be looked into")
            self._redactor.feed(piece)
            data = self._unpacking.unused_data if self._unpacking.eof else self._unpacking.unconsumed_tail
