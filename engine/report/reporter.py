"""Telling a person, a log or a program how a build goes. Progress is for stderr, results for stdout."""

from __future__ import annotations

import re
from collections import deque
from typing import Literal, Protocol, TextIO

TAIL_LINES = 30  # of a node's output, shown when it fails
LINE_MAX = 2000  # characters; a guest may print megabytes without a line end

Mode = Literal["auto", "plain", "quiet", "json"]

_ESCAPES = re.compile(
    r"\x1b\[[0-?]*[ -/]*[@-~]"  # CSI: colours, cursor
    r"|\x1b[\]PX^_].*?(?:\x07|\x1b\\|$)"  # OSC, DCS and kin: window titles, clipboard
    r"|\x1b[ -/]*[0-~]",  # the rest
    re.DOTALL,
)
# C0, DEL, C1; marks that reorder or hide text; lone surrogates, which no stream can encode
_CONTROLS = re.compile(r"[\x00-\x1f\x7f-\x9f\u00ad\u061c\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff\ud800-\udfff]")


class Reporter(Protocol):
    """Hears of every node. May be called from any thread. Leaving it as a context manager restores the terminal."""

    def node_started(self, node: str, title: str) -> None: ...
    def node_line(self, node: str, line: str) -> None: ...
    def node_waiting(self, node: str, message: str) -> None: ...
    def node_finished(self, node: str, seconds: float) -> None: ...
    def node_failed(self, node: str, message: str, seconds: float) -> None: ...
    def node_skipped(self, node: str, reason: str) -> None: ...
    def note(self, text: str) -> None: ...
    def __enter__(self) -> Reporter: ...
    def __exit__(self, *exc: object) -> None: ...


def make_reporter(stream: TextIO, mode: Mode = "auto") -> Reporter:
    """`auto` is live on a terminal and plain lines elsewhere."""
    if mode == "json":
        from engine.report.lines import JsonReporter

        return JsonReporter(stream)
    if mode == "quiet":
        from engine.report.lines import QuietReporter

        return QuietReporter(stream)
    if mode == "auto" and stream.isatty():
        from engine.report.live import LiveReporter

        return LiveReporter(stream)
    from engine.report.lines import PlainReporter

    return PlainReporter(stream)


def clean_line(text: str) -> str:
    """One line that is safe to print: no escape sequences, control characters or marks that reorder text.

    Of a line that overwrites itself (progress bars end in carriage returns) what was last visible stays. Tabs and line
    ends become spaces. At most LINE_MAX characters.
    """
    text = _ESCAPES.sub("", text[: 8 * LINE_MAX]).rstrip("\r\n")
    text = text.rpartition("\r")[2].replace("\t", " ").replace("\n", " ")
    return _CONTROLS.sub("", text)[:LINE_MAX]


class Tails:
    """The last lines of every running node."""

    def __init__(self) -> None:
        self._lines: dict[str, deque[str]] = {}

    def add(self, node: str, line: str) -> None:
        self._lines.setdefault(node, deque(maxlen=TAIL_LINES)).append(line)

    def last(self, node: str) -> str:
        lines = self._lines.get(node)
        return lines[-1] if lines else ""

    def take(self, node: str) -> list[str]:
        """The lines, forgotten afterwards."""
        return list(self._lines.pop(node, ()))
