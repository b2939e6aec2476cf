"""Asking the person at the terminal, one question at a time, about names that no endpoint names."""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from engine.lifecycle.asking import Answer, NameQuestion, QuestionClosed, Watching
    from engine.state.layout import Layout

    Event = Watching | NameQuestion | QuestionClosed

WORDS: dict[str, Answer] = {"o": "once", "a": "always", "n": "never", "": "not now"}
CHOICES = "[o]nce, [a]lways, [n]ever, or Enter for not now"
DONE = {
    "once": "allowed until the sandbox ends",
    "always": "allowed, and in the file",
    "never": "denied until the sandbox ends",
    "not now": "refused; not asked again for ten minutes",
}
END = "nobody is asked any more: unknown names are refused at once again, and the sandbox goes on"


def can_ask() -> bool:
    return sys.stdin.isatty() and sys.stderr.isatty()


async def ask_names(layout: Layout, sandboxes: Sequence[str]) -> None:
    """Ask until all of the sandboxes have ended, or the input has (^D). Raises GuestError where one does not answer."""
    events: asyncio.Queue[Event | None] = asyncio.Queue()
    watching = asyncio.ensure_future(_watch(layout, sandboxes, events))
    try:
        async with _lines() as lines:
            await _Desk(layout).serve(events, lines)
    except asyncio.CancelledError:
        _tell("")
        raise
    finally:
        watching.cancel()
        await asyncio.gather(watching, return_exceptions=True)
        _tell(END)
    if not watching.cancelled():
        watching.result()


async def _watch(layout: Layout, sandboxes: Sequence[str], events: asyncio.Queue[Event | None]) -> None:
    from engine.lifecycle.asking import questions

    async def forward(sandbox: str) -> None:
        async for event in questions(layout, sandbox):
            await events.put(event)

    try:
        await asyncio.gather(*map(forward, sandboxes))
    finally:
        events.put_nowait(None)


class _Desk:
    """Shows one question, and keeps the others until it has its answer."""

    def __init__(self, layout: Layout) -> None:
        self._layout = layout
        self._waiting: dict[tuple[str, str, int], NameQuestion] = {}
        self._shown: NameQuestion | None = None

    async def serve(
        self,
        events: asyncio.Queue[Event | None],
        lines: asyncio.Queue[str | None],
    ) -> None:
        event, line = asyncio.ensure_future(events.get()), asyncio.ensure_future(lines.get())
        try:
            while True:
                self._show_next(lines)
                await asyncio.wait({event, line}, return_when=asyncio.FIRST_COMPLETED)
                if event.done():
                    if (told := event.result()) is None:
                        return
                    self._hear(told)
                    event = asyncio.ensure_future(events.get())
                if line.done():
                    if (text := line.result()) is None:
                        return
                    await self._answer(text)
                    line = asyncio.ensure_future(lines.get())
        finally:
            for task in (event, line):
                task.cancel()

    def _hear(self, told: Event) -> None:
        from engine.lifecycle.asking import NameQuestion, Watching

        if isinstance(told, Watching):
            _tell(f"asking here about names that no endpoint of {told.sandbox} names; ^C ends the asking")
            return
        if isinstance(told, NameQuestion):
            self._waiting[told.key] = told
            return
        self._waiting.pop(told.key, None)
        if self._shown is not None and self._shown.key == told.key:
            _tell(f"\n  {told.why or 'answered elsewhere'}")
            self._shown = None

    def _show_next(self, lines: asyncio.Queue[str | None]) -> None:
        from engine.report.text import clean_line

        if self._shown is not None or not self._waiting:
            return
        self._shown = next(iter(self._waiting.values()))
        _forget_input(lines)  # what was typed before the question is no answer to it
        question = self._shown
        why = f" ({clean_line(question.why)})" if question.why else ""
        _tell(f"{question.sandbox} wants to reach {question.host}:{question.port}{why}. {CHOICES}: ", end=False)

    async def _answer(self, text: str) -> None:
        from engine.errors import EngineError
        from engine.lifecycle.asking import answer
        from sandboxfile import SandboxfileError
        from vmm.errors import VmmError

        question = self._shown
        if question is None:
            return
        word = next((word for key, word in WORDS.items() if text.strip().lower() in (key, word)), None)
        if word is None:
            _tell(f"  {CHOICES}: ", end=False)
            return
        self._shown = None
        self._waiting.pop(question.key, None)
        try:
            await answer(self._layout, question, word)
        except (EngineError, VmmError, SandboxfileError) as error:
            _tell(f"  not {word}: {getattr(error, 'brief', error)}")
            with contextlib.suppress(EngineError, VmmError):
                await answer(self._layout, question, "not now")
            return
        _tell(f"  {question.name}: {DONE[word]}")


@asynccontextmanager
async def _lines() -> AsyncIterator[asyncio.Queue[str | None]]:
    """Lines of standard input as they are typed; None at its end."""
    loop, descriptor = asyncio.get_running_loop(), sys.stdin.fileno()
    lines: asyncio.Queue[str | None] = asyncio.Queue()
    held = bytearray()

    def read() -> None:
        data = os.read(descriptor, 4096)
        if not data:
            loop.remove_reader(descriptor)
            lines.put_nowait(None)
        held.extend(data)
        while b"\n" in held:
            line, _, rest = held.partition(b"\n")
            held[:] = rest
            lines.put_nowait(line.decode(errors="replace"))

    loop.add_reader(descriptor, read)
    try:
        yield lines
    finally:
        loop.remove_reader(descriptor)


def _forget_input(lines: asyncio.Queue[str | None]) -> None:
    import termios

    with contextlib.suppress(termios.error):
        termios.tcflush(sys.stdin.fileno(), termios.TCIFLUSH)
    while not lines.empty():
        if lines.get_nowait() is None:
            lines.put_nowait(None)
            return


def _tell(text: str, *, end: bool = True) -> None:
    """To standard error. The names are the guest's, and the gateway lets only host names through."""
    click.echo(text, err=True, nl=end)
