"""The services of a sandbox, as seen from outside its guest: the Compose project, its images, start and health."""

from __future__ import annotations

import contextlib
import json
import shlex
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from engine.errors import EngineError
from engine.guest.compose_project import BUILD_ROOT, FILE_ROOT, ComposeProject
from engine.guest.compose_project import FILE as FILE
from engine.project.sending import put_piece
from engine.project.tree import ProjectTree
from vmm.channel.answers import read, read_mapping
from vmm.channel.errors import GuestError
from vmm.channel.guest import GuestChannel
from vmm.lines import LineSplitter

IMAGES_S = 3600.0
START_S = 3600.0
HEALTH_S = 600.0
LOOK_S = 5.0
KEPT = 1 << 15  # bytes of a command's output, for its error
TAIL_LINES, LONGEST_KEPT = 60, 1000  # the same in lines; all of it shall fit into one answer of the supervisor
LONGEST_WORD = 64  # of a state
LONGEST_LOG = 4096  # of a health check
SHOWN = ("state", "health", "exit_code", "log", "container")  # what people see of a service that is not healthy
COMPOSE = ("docker", "compose", "-f", FILE)

Log = Callable[[str], None]


async def put_contexts(
    channel: GuestChannel, tree: ProjectTree, project: ComposeProject, names: Iterable[str], log: Log
) -> None:
    """Copy what these services are built from into the guest, in the place of what was there.

    Raises ContentChanged when it is not what `project` has the keys of.
    """
    await run_logged(channel, log, ["mkdir", "-p", str(BUILD_ROOT)], title="making room for contexts", timeout_s=60)
    for name in names:
        for piece in project.contexts.get(name, ()):  # none of a remote one, which the guest's Docker fetches
            log(f"copying the build context of {name}: {piece.path}")
            remove = ["rm", "-rf", "--", piece.target]
            await run_logged(channel, log, remove, title=f"removing {piece.target}", timeout_s=60)
            await put_piece(channel, tree, piece)


async def put_project(channel: GuestChannel, tree: ProjectTree, project: ComposeProject, log: Log) -> None:
    """The Compose file and the files that it names. Raises ContentChanged as `put_contexts`."""
    await run_logged(channel, log, ["mkdir", "-p", str(FILE_ROOT)], title="making room for files", timeout_s=60)
    for piece in project.files:
        await put_piece(channel, tree, piece)
    await write_compose(channel, project.text)


async def get_images(channel: GuestChannel, project: ComposeProject, names: Iterable[str], log: Log) -> None:
    """Pull (what is not there) and build the images of `names`; raises EngineError with the end of the output."""
    wanted = set(names)
    # Without names Compose takes every service, those that `extends` a built one included.
    whole = wanted.issuperset(project.services)
    if pulled := [name for name in project.pulled if name in wanted]:
        pull = [*COMPOSE, "pull", "--quiet", "--ignore-buildable", "--policy", "missing", *([] if whole else pulled)]
        await run_logged(channel, log, pull, title="pulling images", timeout_s=IMAGES_S)
    if built := [name for name in project.built if name in wanted]:
        build = [*COMPOSE, "--progress", "plain", "build", *([] if whole else built)]
        await run_logged(channel, log, build, title="building images", timeout_s=IMAGES_S)


async def write_compose(channel: GuestChannel, text: str) -> None:
    """Put the project's Compose file into the guest."""
    script = f"cat > {FILE}.new && chmod 644 {FILE}.new && mv {FILE}.new {FILE}"
    done = await channel.run(["sh", "-c", script], stdin=text.encode() + b"\n", timeout_s=60)
    if done.code != 0:
        raise EngineError("the Compose file could not be written in the guest", done.stderr.decode(errors="replace"))


async def start_services(channel: GuestChannel, names: Sequence[str], log: Log) -> None:
    """`docker compose up --wait` for `names`; raises EngineError with the logs of the services that failed.

    Containers that are as the Compose file says are left alone; those of services that it no longer has are removed.
    """
    up = [*COMPOSE, "--progress", "plain", "up", "-d", "--no-build", "--remove-orphans", "--wait", *names]
    try:
        await run_logged(channel, log, up, title="starting services", timeout_s=START_S)
    except EngineError as error:
        logs = [*COMPOSE, "logs", "--no-color", "--tail", "30", *names]
        said = await channel.run(logs, timeout_s=60, keep=KEPT)
        text = "\n".join(filter(None, (error.details, said.stdout.decode(errors="replace"))))
        raise EngineError(error.brief, text, "fix the service or its health check, then `sandbox up` again") from error


async def remove_services(channel: GuestChannel, project: str, log: Log) -> None:
    """End all services of the Compose project and forget its file; named volumes stay. Raises EngineError."""
    down = ["docker", "compose", "-p", project, "--progress", "plain", "down", "--remove-orphans"]
    await run_logged(channel, log, down, title="removing services", timeout_s=START_S)
    await run_logged(channel, log, ["rm", "-f", FILE], title="removing the Compose file", timeout_s=60)


async def look_at_services(channel: GuestChannel, project: str, names: Sequence[str]) -> list[dict[str, Any]]:
    """How services are now, as `wait_healthy` says it; those that settle within LOOK_S are waited for. Never raises."""
    seen: dict[str, ServiceState] = {}
    with contextlib.suppress(GuestError):
        answer = await channel.call("health", timeout_s=LOOK_S, project=project, services=list(names))
        seen = _read_states(answer, names)
    unknown = ServiceState("unknown", None, "")
    return [_row(name, seen.get(name, unknown)) for name in names]


async def wait_healthy(channel: GuestChannel, project: str, names: Sequence[str]) -> list[dict[str, Any]]:
    """Wait until every service runs and is healthy where it has a check; [{name, state, health}] in the given order.

    Raises EngineError with the health log of those that are not, at once when one failed or after HEALTH_S seconds.
    """
    answer = await channel.call("health", timeout_s=HEALTH_S, project=project, services=list(names))
    seen = _read_states(answer, names)
    if not read(answer, "ready", bool):
        lines = [f"{name}: {json.dumps(state.shown)}" for name, state in seen.items()]
        raise EngineError("services are not healthy", "\n".join(lines), "`sandbox logs SERVICE` shows what it printed")
    return [_row(name, seen[name]) for name in names]


class ServiceState(NamedTuple):
    """What the guest says of one service; `shown` is all of it, for people."""

    state: str
    health: str | None
    shown: Any


def _read_states(answer: Mapping[str, Any], names: Sequence[str]) -> dict[str, ServiceState]:
    """Of these services, whatever else the answer holds. Raises GuestError."""
    services = read_mapping(answer, "services")
    found = {}
    for name in names:
        row = read_mapping(services, name)
        health = None if row.get("health") is None else read(row, "health", str)[:LONGEST_WORD]
        shown = {key: row[key] for key in SHOWN if key in row and _is_short(row[key])}
        found[name] = ServiceState(read(row, "state", str)[:LONGEST_WORD], health, shown)
    return found


def _is_short(value: object) -> bool:
    return value is None or isinstance(value, int) or (isinstance(value, str) and len(value) <= LONGEST_LOG)


def _row(name: str, state: ServiceState) -> dict[str, Any]:
    return {"name": name, "state": state.state, "health": state.health}


async def run_logged(
    channel: GuestChannel,
    log: Callable[[str], None],
    argv: Sequence[str],
    *,
    title: str,
    timeout_s: float,
    user: str = "root",
    cwd: str = "/",
    env: Mapping[str, str] | None = None,
) -> None:
    """Run `argv` in the guest, each line of its output to `log`; raises EngineError with the end of it."""
    tail: deque[str] = deque(maxlen=TAIL_LINES)
    streams = {"stdout": LineSplitter(), "stderr": LineSplitter()}

    def take(lines: Iterable[str]) -> None:
        for line in lines:
            tail.append(line[:LONGEST_KEPT])
            log(line)

    done = await channel.run(
        list(argv),
        user=user,
        cwd=cwd,
        env=dict(env or {}),
        timeout_s=timeout_s,
        on_output=lambda stream, data: take(streams[stream].feed(data)),
        keep=KEPT,
    )
    for stream in streams.values():
        take(stream.close())
    if done.code != 0:
        raise EngineError(
            f"{title} failed with code {done.code}",
            details="\n".join(tail) or None,
            hint=f"the command was: {shlex.join(argv)}",
        )
