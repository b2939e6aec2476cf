"""A stream of bytes as lines of text, for logs and last words."""

from __future__ import annotations

LONGEST_LINE = 4096  # bytes: a guest may print megabytes without a line end


class LineSplitter:
    """Cuts what arrives into lines, without their ends and trailing spaces; blank ones are left out.

    A carriage return redraws a progress line: that is a new line. Of a line longer than LONGEST_LINE bytes the end
    stays. Bytes that are no UTF-8 are replaced.
    """

    def __init__(self) -> None:
        self._rest = b""

    @property
    def unfinished(self) -> str:
        """What has arrived of the next line; "" when that is blank."""
        return self._rest.decode(errors="replace").rstrip()

    def feed(self, data: bytes) -> list[str]:
        """The lines that end in `data`."""
        *ended, rest = (self._rest + data).replace(b"\r", b"\n").split(b"\n")
        self._rest = rest[-LONGEST_LINE:]
        lines = (line[-LONGEST_LINE:].decode(errors="replace").rstrip() for line in ended)
        return [line for line in lines if line]

    def close(self) -> list[str]:
        """The last line, if the stream ended without a line end."""
        return self.feed(b"\n")
