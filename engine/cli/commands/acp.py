"""`sandbox acp`."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import click

from engine.cli.options import assignment_option, progress_option

if TYPE_CHECKING:
    from engine.report.reporter import Mode


@click.command(
    "acp",
    epilog="""\b
Examples:
  sandbox acp                            the agent of this project's file
  sandbox acp reviewer -C ~/src/shop     one of the `agents` of another project
  sandbox acp --command claude-agent-acp an adapter that `setup` has installed
  sandbox up -d && sandbox acp           the first start of a project asks, `acp` does not
""",
)
@click.argument("agent", required=False)
@click.option("--command", "given", metavar="WORDS", help="What speaks the protocol in the guest, such as an adapter.")
@click.option("-y", "--yes", is_flag=True, help="Agree to what the file asks of this host.")
@progress_option
@click.option("-C", "--directory", "path", type=click.Path(path_type=Path), help="The project; default: this one.")
@assignment_option
def command(
    agent: str | None, given: str | None, yes: bool, progress: Mode, path: Path | None, assignments: tuple[str, ...]
) -> int:
    """Speak the Agent Client Protocol on standard input and output, for an editor's agent panel.

    The agent works in the sandbox, which is brought up if it does not run, and goes on running afterwards. Paths of the
    project are translated both ways. The agent is told that the editor has no files, terminals or MCP servers for it:
    those would be this host's. Progress goes to standard error, and nobody is asked anything.
    """
    from engine.cli.asking.terminal import Terminal
    from engine.cli.running import run
    from engine.cli.waking import start_members
    from engine.lifecycle.acp import acp_command, speak_acp
    from engine.lifecycle.audience import Replacement
    from engine.lifecycle.intent import Wishes
    from engine.lifecycle.members import choose_members
    from engine.lifecycle.project_file import load_file
    from engine.lifecycle.selection import open_layout
    from engine.lifecycle.sign_in import MissingCredential
    from engine.lifecycle.up import agreed, carry_out
    from engine.trust.agreement import HostAccess

    class Unasked(Terminal):
        """An editor reads our standard output and shows our standard error: nobody would see a question."""

        def ask(self, question: HostAccess | Replacement | MissingCredential) -> bool | None:
            return None

    loaded, layout = load_file(path, (), assignments), open_layout()
    members = choose_members(loaded, layout, None, agent)
    if len(members.each) > 1:
        raise click.UsageError("the file has several agents: name one of them")
    argv = acp_command(members.each[0].loaded, given)  # an agent that cannot is told of before anything is built
    audience = Unasked(progress)
    start_members(layout, [member.name for member in members.each], yes=yes, audience=audience)
    with agreed(members, layout, Wishes(yes=yes), audience) as plan:
        (outcome,) = run(carry_out(plan, audience))
    control = layout.instance(outcome.instance.name).sockets.control

    async def speak() -> int:
        return await speak_acp(control, outcome.instance, argv, await _standard_input(), _write, _log(), _say)

    return run(speak())


async def _standard_input() -> asyncio.StreamReader:
    reader = asyncio.StreamReader(limit=1 << 20)
    try:
        await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    except (ValueError, PermissionError):
        raise click.UsageError("standard input must be a pipe: an editor starts this command") from None
    return reader


async def _write(data: bytes) -> None:
    await asyncio.to_thread(_write_all, data)


def _write_all(data: bytes) -> None:
    view = memoryview(data)
    while view:
        try:
            view = view[os.write(1, view) :]
        except BlockingIOError:  # a descriptor that is shared with standard input, which asyncio reads
            import select

            select.select([], [1], [])


def _log() -> Callable[[bytes], None]:
    """What the agent prints beside its messages is for the editor's log, which is no terminal of the guest's."""
    from engine.report.text import clean_line
    from vmm.lines import LineSplitter

    lines = LineSplitter()

    def log(data: bytes) -> None:
        for line in lines.feed(data):
            click.echo(clean_line(line), err=True)

    return log


def _say(text: str) -> None:
    from engine.report.text import clean_line

    click.echo(f"sandbox acp: {clean_line(text)}", err=True)
