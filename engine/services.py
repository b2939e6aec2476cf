"""The services of a sandbox, as seen from outside its guest: the Compose file, start and health."""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from engine.errors import EngineError
from vmm.channel import GuestChannel

# Compose looks for its file in the working directory and every directory above it: at the root it is found from
# everywhere in the guest, and a compose.yaml of the user's own always comes first.
FILE = "/compose.yaml"
START_S = 3600.0
HEALTH_S = 600.0


async def write_compose(channel: GuestChannel, text: str) -> None:
    """Put the project's Compose file into the guest."""
    script = f"cat > {FILE}.new && chmod 644 {FILE}.new && mv {FILE}.new {FILE}"
    done = await channel.run(["sh", "-c", script], stdin=text.encode() + b"\n", timeout_s=60)
    if done.code != 0:
        raise EngineError("the Compose file could not be written in the guest", done.stderr.decode(errors="replace"))


async def start_services(channel: GuestChannel, names: Sequence[str], log: Callable[[str], None]) -> None:
    """`docker compose up --wait` for `names`; raises EngineError with the logs of the services that failed."""
    up = ["docker", "compose", "-f", FILE, "--progress", "plain", "up", "-d", "--no-build", "--wait", *names]
    try:
        await run_logged(channel, log, up, title="starting services", timeout_s=START_S)
    except EngineError as error:
        logs = ["docker", "compose", "-f", FILE, "logs", "--no-color", "--tail", "30", *names]
        said = await channel.run(logs, timeout_s=60)
        text = "\n".join(filter(None, (error.details, said.stdout.decode(errors="replace"))))
        raise EngineError(error.brief, text, "fix the service or its health check, then `sandbox up` again") from error


async def wait_healthy(channel: GuestChannel, project: str, names: Sequence[str]) -> list[dict[str, Any]]:
    """Wait until every service runs and is healthy where it has a check; [{name, state, health}] in the given order.

    Raises EngineError with the health log of those that are not, at once when one failed or after HEALTH_S seconds.
    """
    answer = await channel.call("health", timeout_s=HEALTH_S, project=project, services=list(names))
    seen: Mapping[str, Mapping[str, Any]] = answer["services"]
    if not answer["ready"]:
        lines = [f"{name}: {json.dumps(state)}" for name, state in seen.items()]
        raise EngineError("services are not healthy", "\n".join(lines), "`sandbox logs SERVICE` shows what it printed")
    return [{"name": name, "state": seen[name]["state"], "health": seen[name]["health"]} for name in names]


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
    lines = LineLog(log)
    done = await channel.run(
        list(argv),
        user=user,
        cwd=cwd,
        env=dict(env or {}),
        timeout_s=timeout_s,
        on_output=lambda stream, data: lines.feed(data),
    )
    lines.close()
    if done.code != 0:
        raise EngineError(
            f"{title} failed with code {done.code}",
            details="\n".join(lines.tail) or None,
            hint=f"the command was: {shlex.join(argv)}",
        )


class LineLog:
    """Cuts a byte stream into lines for `log` and keeps the last ones."""

    def __init__(self, log: Callable[[str], None], keep: int = 60) -> None:
        self._log = log
        self._keep = keep
        self._rest = b""
        self.tail: list[str] = []

    def feed(self, data: bytes) -> None:
        *lines, self._rest = (self._rest + data).replace(b"\r", b"\n").split(b"\n")
        self._rest = self._rest[-8192:]
        for line in lines:
            self._line(line)

    def close(self) -> None:
        self._line(self._rest)
        self._rest = b""

    def _line(self, line: bytes) -> None:
        text = line.decode(errors="replace").rstrip()
        if text:
            self.tail = [*self.tail[-self._keep + 1 :], text]
            self._log(text)
