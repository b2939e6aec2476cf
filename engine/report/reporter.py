"""The interface through which a person, a log or a program learns how a build goes.

Progress goes to standard error; results go to standard output.
"""

from __future__ import annotations

from typing import Literal, Protocol

Mode = Literal["auto", "plain", "quiet", "json"]


class Reporter(Protocol):
    """Is told about every node, from any thread. It is a context manager, which restores the terminal at its end."""

    def node_started(self, node: str, title: str) -> None:
        """The node begins; `title` is for people."""

    def node_line(self, node: str, line: str) -> None:
        """The node has printed a line."""

    def node_waiting(self, node: str, message: str) -> None:
        """The node waits; `message` says for whom."""

    def node_finished(self, node: str, seconds: float) -> None:
        """The node is built, after `seconds`."""

    def node_failed(self, node: str, message: str, seconds: float) -> None:
        """The node has failed, after `seconds`."""

    def node_skipped(self, node: str, reason: str) -> None:
        """The node is not built, or was cancelled."""

    def note(self, text: str) -> None:
        """A message that is about no single node; it may have several lines."""

    def __enter__(self) -> Reporter: ...
    def __exit__(self, *exc: object) -> None: ...
