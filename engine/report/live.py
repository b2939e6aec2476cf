"""The reporter for a terminal: a line with a spinner for each running node, and the finished nodes above."""

from __future__ import annotations

import time
from dataclasses import dataclass
from threading import RLock
from typing import Self, TextIO

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.spinner import Spinner
from rich.table import Table
from rich.text import Text

from engine.report.text import Tails, clean_line


@dataclass
class _Running:
    title: str
    started: float
    spinner: Spinner
    message: str = ""


class LiveReporter:
    """Shows nodes on a terminal. Text from outside is never taken for markup, and never wider than the terminal."""

    def __init__(self, stream: TextIO, console: Console | None = None) -> None:
        self._console = console or Console(file=stream, highlight=False, markup=False, emoji=False)
        self._running: dict[str, _Running] = {}
        self._titles: dict[str, str] = {}
        self._tails = Tails()
        self._lock = RLock()  # rich draws in a thread of its own
        self._live = Live(console=self._console, get_renderable=self._render, transient=True, refresh_per_second=8)

    def __enter__(self) -> Self:
        self._live.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._live.stop()

    def node_started(self, node: str, title: str) -> None:
        with self._lock:
            self._titles[node] = clean_line(title)
            self._running[node] = _Running(clean_line(title), time.monotonic(), Spinner("dots"))

    def node_line(self, node: str, line: str) -> None:
        with self._lock:
            self._tails.add(node, cleaned := clean_line(line))
            if cleaned.strip() and node in self._running:
                self._running[node].message = cleaned.strip()

    def node_waiting(self, node: str, message: str) -> None:
        with self._lock:
            if node in self._running:
                self._running[node].message = f"waiting: {clean_line(message)}"

    def node_finished(self, node: str, seconds: float) -> None:
        title = self._end(node)
        self._tails.take(node)
        self._print(Text.assemble((f"{self._sign('✓', 'ok')} ", "green"), title, (f"  {seconds:.1f} s", "dim")))

    def node_failed(self, node: str, message: str, seconds: float) -> None:
        title = self._end(node)
        with self._lock:
            tail = self._tails.take(node)
        self._print(
            Text.assemble((f"{self._sign('✗', 'failed')} ", "red"), title, (f"  {seconds:.1f} s", "dim")),
            *(Text(f"    {line}", style="dim") for line in tail),
            Text(f"  {clean_line(message)}", style="red"),
        )

    def node_skipped(self, node: str, reason: str) -> None:
        self._end(node)
        self._print(Text(f"- {node}  {clean_line(reason)}", style="dim"))

    def note(self, text: str) -> None:
        self._print(*(Text(clean_line(line)) for line in text.splitlines()))

    def _end(self, node: str) -> str:
        with self._lock:
            self._running.pop(node, None)
            return self._titles.get(node, node)

    def _print(self, *lines: Text) -> None:
        for line in lines:
            self._console.print(line, soft_wrap=True)  # the terminal wraps the lines, so that they can be copied

    def _sign(self, sign: str, plain: str) -> str:
        return sign if self._console.encoding.startswith("utf") else plain

    def _render(self) -> RenderableType:
        with self._lock:
            table = Table.grid(padding=(0, 1))
            table.add_column(width=1)
            table.add_column(no_wrap=True, overflow="ellipsis", max_width=max(self._console.width // 3, 10))
            table.add_column(no_wrap=True, justify="right", min_width=5)
            table.add_column(no_wrap=True, overflow="ellipsis", ratio=1)
            for running in self._running.values():
                elapsed = f"{time.monotonic() - running.started:.0f} s"
                message = Text(running.message, style="dim")
                table.add_row(running.spinner, Text(running.title), Text(elapsed, style="dim"), message)
            return Group(table) if self._running else Text("")
