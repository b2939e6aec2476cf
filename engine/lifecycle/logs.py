"""`logs`: what the services of a sandbox have printed. Compose in the guest keeps it."""

from __future__ import annotations

import difflib
from typing import TYPE_CHECKING

from engine.errors import EngineError

if TYPE_CHECKING:
    from engine.state.instances import Instance


def logs_command(instance: Instance, service: str | None = None, *, tail: int | None = None, follow: bool) -> list[str]:
    """The command that prints the logs of `service`, or of all services; root has to run it in the guest.

    `tail` is the number of lines at the end to print; None is all. Raises EngineError, with exit code 2 for an unknown
    service.
    """
    from engine.guest.compose_project import FILE

    if not instance.services:
        raise EngineError(f"the sandbox {instance.name} has no services")
    if service is not None and service not in instance.services:
        near = difflib.get_close_matches(service, instance.services, n=1)
        hint = f"did you mean {near[0]!r}?" if near else f"there is: {', '.join(sorted(instance.services))}"
        raise EngineError(f"the sandbox {instance.name} has no service {service!r}", hint=hint, exit_code=2)
    argv = ["docker", "compose", "--ansi", "never", "-f", FILE, "logs", "--no-color"]
    argv += ["--tail", "all" if tail is None else str(tail)]
    return [*argv, *(["--follow"] if follow else []), *([service] if service else [])]
