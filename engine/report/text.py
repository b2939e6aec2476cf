"""Making text from outside safe to print."""

from __future__ import annotations

import re
from collections import deque

TAIL_LINES = 30  # the last lines of a node's output, which are shown when it fails
LINE_MAX = 2000  # characters of a line; a guest may print megabytes without a line end

_ESCAPES = re.compile(
    r"\x1b\[[0-?]*[ -/]*[@-~]"  # CSI: colours, cursor
    r"|\x1b[\]PX^_].*?(?:\x07|\x1b\\|$)"  # OSC, DCS and kin: window titles, clipboard
    r"|\x1b[ -/]*[0-~]",  # the rest
    re.DOTALL,
)
# C0, DEL, C1; marks that reorder or hide text; lone surrogates, which no stream can encode
_CONTROLS = re.compile(
    r"[\x00-\x1f\x7f-\x9f\u00ad\u061c\u180e\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb\ud800-\udfff"
    r"\U000e0000-\U000e007f]"  # tags: letters that nobody sees, and programs read
)


def clean_line(text: str) -> str:
    """The text as one line that is safe to print: without escape sequences, control characters and bidirectional marks.

    A progress bar overwrites its line with carriage returns: only its last state stays. Tabs and line ends become
    spaces. The line has at most LINE_MAX characters.
    """
    text = _ESCAPES.sub("", text[: 8 * LINE_MAX]).rstrip("\r\n")
    text = text.rpartition("\r")[2].replace("\t", " ").replace("\n", " ")
    return _CONTROLS.sub("", text)[:LINE_MAX]


def cut(text: str, length: int) -> str:
    """The text in at most `length` characters. "..." stands for the end of a text that is longer."""
    return text if len(text) <= length else f"{text[: length - 3]}..."


class Tails:
    """The last lines of every running node."""

    def __init__(self) -> None:
        self._lines: dict[str, deque[str]] = {}

    def add(self, node: str, line: str) -> None:
        self._lines.setdefault(node, deque(maxlen=TAIL_LINES)).append(line)

    def take(self, node: str) -> list[str]:
        """The last lines of the node, which are forgotten afterwards."""
        return list(self._lines.pop(node, ()))
