"""What a program may do with sandboxes: the commands of `sandbox`, as functions, without a terminal.

    from engine.api import Wishes, down, exec, load, up

    outcome, = up(load("shop"), wishes=Wishes(yes=True))
    print(exec(outcome.instance.name, ["uname", "-r"]).stdout.decode())
    down(outcome.instance.name)

What waits for machines is there twice, as `up` and as the coroutine `up_async`. Progress and questions go to an
`Audience`; without one nothing is shown, and what needs an answer is an EngineError with exit code 2. What is raised
for people is an EngineError, a SandboxfileError or, from the machine, a VmmError: `brief` says what, `details` and
`hint` more. `layout` is where sandboxes and what was built are kept; default: where the command keeps them.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from engine.errors import EngineError
from engine.lifecycle.audience import Audience, Replacement
from engine.lifecycle.copy import copy, read_way
from engine.lifecycle.down import bring_down
from engine.lifecycle.intent import Wishes
from engine.lifecycle.journal import journal_lines
from engine.lifecycle.logs import logs_command
from engine.lifecycle.members import Members, choose_members
from engine.lifecycle.outcome import Outcome
from engine.lifecycle.outlook import Outlook, look_ahead
from engine.lifecycle.project_file import load_file
from engine.lifecycle.selection import choose, choose_running, open_layout, words_of
from engine.lifecycle.sign_in import MissingCredential
from engine.lifecycle.stop import can_start, check_start, start_stopped
from engine.lifecycle.suggesting import suggest_endpoints
from engine.lifecycle.suggestion import Suggestion
from engine.lifecycle.temporary import Said, Saying, say
from engine.lifecycle.up import agreed, carry_out
from engine.resolve.preflight import check_host
from engine.state.instances import Instance, Listed, list_instances, look_up
from engine.state.layout import Layout
from engine.trust.agreement import HostAccess
from sandboxfile import Loaded, SandboxfileError
from vmm.channel.client import connect
from vmm.channel.guest import Completed
from vmm.errors import VmmError

__all__ = [
    "Audience",
    "Completed",
    "EngineError",
    "HostAccess",
    "Instance",
    "Layout",
    "Listed",
    "Loaded",
    "MissingCredential",
    "Outcome",
    "Outlook",
    "Replacement",
    "Said",
    "SandboxfileError",
    "Suggestion",
    "VmmError",
    "Wishes",
    "allow",
    "allow_async",
    "cp",
    "cp_async",
    "deny",
    "deny_async",
    "down",
    "down_async",
    "exec",
    "exec_async",
    "journal",
    "load",
    "logs",
    "logs_async",
    "ls",
    "plan",
    "suggest",
    "up",
    "up_async",
]

EXEC_S = 3600.0
USER = "agent"


def load(path: Path | str | None = None, *, files: Sequence[Path] = (), assignments: Sequence[str] = ()) -> Loaded:
    """The checked file at `path`, a file or its directory; default: the nearest one upwards.

    `files` and `assignments` (PATH=VALUE) lie over it. Raises EngineError where there is none, SandboxfileError with
    all its problems.
    """
    return load_file(Path(path) if path is not None else None, files, assignments)


def plan(
    loaded: Loaded, *, name: str | None = None, agent: str | None = None, layout: Layout | None = None
) -> tuple[Outlook, ...]:
    """What `up` would build, and change about a sandbox that runs: one value for each sandbox of the file.

    Changes nothing. Hashes what is copied of the project. Raises EngineError and SandboxfileError.
    """
    layout = layout or open_layout()
    members = choose_members(loaded, layout, name, agent).each
    for member in members:
        check_host(member.loaded, ports=False)
    return tuple(look_ahead(member, layout) for member in members)


async def up_async(
    loaded: Loaded,
    *,
    name: str | None = None,
    agent: str | None = None,
    wishes: Wishes | None = None,
    audience: Audience | None = None,
    layout: Layout | None = None,
) -> tuple[Outcome, ...]:
    """Make the sandboxes of a file run as it says, and return when all are ready; `audience` hears of each before.

    One that is stopped is started from its disk first, unless it is to be made anew (`recreate`).
    Looking and asking, up to a second without the audience's own time, happen in the loop's thread. Waits as long as
    builds, images and health checks take; cancelled, it takes down what is half started. Raises EngineError,
    SandboxfileError and VmmError; sandboxes that are up by then stay.
    """
    layout, wishes, audience = layout or open_layout(), wishes or Wishes(), audience or Audience()
    members = choose_members(loaded, layout, name, agent)
    for stopped in _to_start(members, layout, wishes):
        check_start(layout, stopped, audience, yes=wishes.yes)
        await start_stopped(layout, stopped, lambda line: None)
    with agreed(members, layout, wishes, audience) as agreement:
        return tuple(await carry_out(agreement, audience))


def up(
    loaded: Loaded,
    *,
    name: str | None = None,
    agent: str | None = None,
    wishes: Wishes | None = None,
    audience: Audience | None = None,
    layout: Layout | None = None,
) -> tuple[Outcome, ...]:
    """The same for a program without a loop; questions are asked before one is started."""
    layout, wishes, audience = layout or open_layout(), wishes or Wishes(), audience or Audience()
    members = choose_members(loaded, layout, name, agent)
    for stopped in _to_start(members, layout, wishes):
        check_start(layout, stopped, audience, yes=wishes.yes)
        asyncio.run(start_stopped(layout, stopped, lambda line: None))
    with agreed(members, layout, wishes, audience) as agreement:
        return tuple(asyncio.run(carry_out(agreement, audience)))


def _to_start(members: Members, layout: Layout, wishes: Wishes) -> list[str]:
    """Those that are stopped, and whose disks are to stay."""
    names = [] if wishes.recreate else [member.name for member in members.each]
    return [name for name in names if can_start(layout, look_up(layout, name))]


async def exec_async(
    name: str | None,
    argv: Sequence[str],
    *,
    user: str = USER,
    cwd: str | None = None,
    env: Mapping[str, str] | None = None,
    stdin: bytes | None = None,
    timeout_s: float = EXEC_S,
    on_output: Callable[[str, bytes], None] | None = None,
    layout: Layout | None = None,
) -> Completed:
    """Run a command in the sandbox `name` (None: the one of the project around the working directory) to its end.

    `cwd` is the first mount's target by default. `on_output` gets ("stdout" or "stderr", bytes) as they come; the last
    part of each stream is in the result, with the exit code, which is no error. Raises EngineError where no sandbox
    runs, GuestError (a VmmError) for a command that cannot be run or is not done within `timeout_s`.
    """
    instance, control = choose_running(layout or open_layout(), name)
    where = cwd or instance.working_directory
    async with await connect(control) as guest:
        return await guest.run(
            argv, user=user, cwd=where, env=env, stdin=stdin, timeout_s=timeout_s, on_output=on_output
        )


def exec(name: str | None, argv: Sequence[str], **options: Any) -> Completed:
    """The same for a program without a loop, with the options of `exec_async`."""
    return asyncio.run(exec_async(name, argv, **options))


async def cp_async(source: str, destination: str, *, layout: Layout | None = None) -> tuple[str, ...]:
    """Copy a file or directory; one side is NAME:/absolute/path. Returns the names of what was left out (sockets,
    devices). Raises EngineError and GuestError."""
    return tuple((await copy(layout or open_layout(), read_way(source, destination))).skipped)


def cp(source: str, destination: str, *, layout: Layout | None = None) -> tuple[str, ...]:
    """The same for a program without a loop."""
    return asyncio.run(cp_async(source, destination, layout=layout))


def ls(*, layout: Layout | None = None) -> list[Listed]:
    """Every sandbox of this user by name. Waits up to a second for each that does not answer."""
    return list_instances(layout or open_layout())


async def logs_async(
    name: str | None, service: str | None = None, *, tail: int | None = None, layout: Layout | None = None
) -> str:
    """What a service, or every service, of a running sandbox printed: the last `tail` lines of each, all by default.

    Raises EngineError and GuestError.
    """
    instance, control = choose_running(layout or open_layout(), name)
    argv = logs_command(instance, service, tail=tail, follow=False)
    async with await connect(control) as guest:
        done = await guest.run(argv, user="root", cwd="/", timeout_s=EXEC_S)
    if done.code != 0:
        raise EngineError(f"the logs of {instance.name} cannot be read", done.stderr.decode(errors="replace"))
    return done.stdout.decode(errors="replace")


def logs(name: str | None, service: str | None = None, *, tail: int | None = None, layout: Layout | None = None) -> str:
    """The same for a program without a loop."""
    return asyncio.run(logs_async(name, service, tail=tail, layout=layout))


def journal(
    name: str | None = None, *, refused: bool = False, layout: Layout | None = None
) -> Iterator[dict[str, Any]]:
    """What the gateway of a sandbox decided so far, oldest first; only what it refused or failed at with `refused`.

    Also of a sandbox whose start failed. The guest chose the names and paths in it. Raises EngineError.
    """
    paths, _ = words_of(layout or open_layout(), name)
    return journal_lines(paths.journal, refused=refused)


def suggest(name: str | None = None, *, layout: Layout | None = None) -> Suggestion:
    """The narrowest endpoints that a sandbox needed so far, from its journal; its `render()` is YAML to paste.

    Asks the host's package clients, which takes seconds. Raises EngineError.
    """
    layout = layout or open_layout()
    paths, _ = words_of(layout, name)
    return suggest_endpoints(layout, paths).suggestion


async def allow_async(
    host: str,
    name: str | None = None,
    *,
    methods: Sequence[str] = (),
    paths: Sequence[str] = (),
    for_s: float | None = None,
    save: bool = False,
    layout: Layout | None = None,
) -> Said:
    """Let the running sandbox `name` reach a host (HOST, HOST:PORT, *.DOMAIN, a group) from its next request on.

    It ends after `for_s` seconds, or with the sandbox; with `save` the sandbox's file has it, too. Raises EngineError
    (such as for a host that the file denies), SandboxfileError and GuestError; nothing has been changed then.
    """
    saying = Saying(host, False, tuple(methods), tuple(paths), for_s, save)
    return await say(layout or open_layout(), name, saying)


def allow(host: str, name: str | None = None, **options: Any) -> Said:
    """The same for a program without a loop, with the options of `allow_async`."""
    return asyncio.run(allow_async(host, name, **options))


async def deny_async(
    host: str,
    name: str | None = None,
    *,
    methods: Sequence[str] = (),
    paths: Sequence[str] = (),
    for_s: float | None = None,
    save: bool = False,
    layout: Layout | None = None,
) -> Said:
    """Refuse a host to the running sandbox `name` from its next request on; open connections are cut. Else as
    `allow_async`."""
    saying = Saying(host, True, tuple(methods), tuple(paths), for_s, save)
    return await say(layout or open_layout(), name, saying)


def deny(host: str, name: str | None = None, **options: Any) -> Said:
    """The same for a program without a loop, with the options of `deny_async`."""
    return asyncio.run(deny_async(host, name, **options))


async def down_async(name: str | None = None, *, layout: Layout | None = None) -> None:
    """End a sandbox (None: the one of this project) and remove everything it left. Waits up to half a minute. Raises
    EngineError."""
    layout = layout or open_layout()
    await bring_down(layout, choose(layout, name).name)


def down(name: str | None = None, *, layout: Layout | None = None) -> None:
    """The same for a program without a loop."""
    asyncio.run(down_async(name, layout=layout))
