"""What tasks of agents say: theirs while they work, and what became of them."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING

import click

from engine.cli.json_errors import note_answered

if TYPE_CHECKING:
    from engine.lifecycle.task import Done
    from engine.lifecycle.tasks import Ran

MOST_NAMED = 20
_LONGEST = 1 << 16  # of a line that has not ended


class Told:
    """Of `count` tasks. Of several, each line begins with the number of its task."""

    def __init__(self, count: int) -> None:
        self._several = count > 1
        self._begun: dict[int, bytearray] = {}

    def pass_on(self, number: int, data: bytes) -> None:
        """What the agent of a task prints on standard error. Of several agents, whole lines."""
        if not self._several:
            self._write(data)
            return
        begun = self._begun.setdefault(number, bytearray())
        begun += data
        *lines, rest = bytes(begun).split(b"\n")
        if len(rest) > _LONGEST:
            lines, rest = [*lines, rest], b""
        begun[:] = rest
        for line in lines:
            self._write(f"[{number}] ".encode() + line + b"\n")

    def show(self, found: list[Ran], *, as_json: bool) -> int:
        """Show what became of all, and return the worst exit code."""
        for number, begun in self._begun.items():
            if begun:
                self.pass_on(number, b"\n")
        if as_json:
            rows = [ran.to_json() for ran in found] if self._several else _only(found[0])
            click.echo(json.dumps(rows, indent=2, ensure_ascii=False))
            note_answered()
        for ran in found:
            self._show_one(ran, result=not as_json)
        return max(ran.code for ran in found)

    def _show_one(self, ran: Ran, *, result: bool) -> None:
        from engine.cli.boundary import show

        mark = f"[{ran.number}] " if self._several else ""
        if ran.done is None:
            if mark:
                click.echo(f"{mark}{ran.sandbox} could not be started:", err=True)
            show(ran.error or AssertionError("no task and no error"))
            return
        if result:
            click.echo("\n".join(f"{mark}{line}" for line in ran.done.result.split("\n")))
            _tell(mark, ran.done)
        if ran.done.why is not None:
            _explain(mark, ran.done)
        if ran.done.kept:
            click.echo(f"{mark}{ran.sandbox} runs on: `sandbox down {ran.sandbox}` ends it", err=True)

    @staticmethod
    def _write(data: bytes) -> None:
        sys.stderr.buffer.write(data)
        sys.stderr.buffer.flush()


def _only(ran: Ran) -> object:
    if ran.done is not None:
        return ran.done.to_json()
    return {name: value for name, value in ran.to_json().items() if name != "number"}


def _tell(mark: str, done: Done) -> None:
    count = "too many files to look at" if done.changed is None else f"{len(done.changed)} files changed"
    click.echo(f"{mark}done in {done.seconds:.1f} s, {count}", err=True)
    for name in (done.changed or ())[:MOST_NAMED]:
        click.echo(f"{mark}  {name}", err=True)
    if done.refused:
        click.echo(f"{mark}refused: {', '.join(done.refused)} (`sandbox add endpoint` allows a host)", err=True)


def _explain(mark: str, done: Done) -> None:
    """Why a task has failed, what the agent said last, and what to do."""
    click.echo(f"{mark}{done.agent} failed: {done.why}", err=True)
    for line in done.last_words:
        click.echo(f"{mark}  | {line}", err=True)
    for hint in _hints(done):
        click.echo(f"{mark}hint: {hint}", err=True)


def _hints(done: Done) -> list[str]:
    found = []
    if done.why is not None and "out of memory" in done.why:
        found.append("`machine: {memory: 4GiB}` in Sandboxfile.yaml gives it more, `--set machine.memory=4GiB` once")
    if not done.kept:
        found.append("`--keep-on-failure` leaves the machine for a look")
    return found
