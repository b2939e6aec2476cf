"""Bytes of a file as text, or the place of the first one that is none."""

from __future__ import annotations

import re

from sandboxfile.positions import Position

LINE_BREAK = re.compile(r"\r\n|\n|\r")


class NotUtf8(Exception):
    """The bytes are not UTF-8; `position`, `message` and `hint` are for people."""

    hint = "save it as UTF-8"

    def __init__(self, position: Position, byte: int) -> None:
        self.position = position
        self.message = f"the file is not UTF-8: byte 0x{byte:02x} cannot be read"
        super().__init__(self.message)


def decode(data: bytes) -> str:
    """The text. Raises NotUtf8."""
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise NotUtf8(end_of(data[: error.start].decode("utf-8")), data[error.start]) from None


def end_of(text: str) -> Position:
    """The place behind the last character."""
    lines = LINE_BREAK.split(text)
    return Position(len(lines), len(lines[-1]) + 1)
