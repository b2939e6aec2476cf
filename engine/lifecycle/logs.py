"""`logs`: what the services of a sandbox have printed. Compose in the guest keeps it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from engine.lifecycle.services import check_services

if TYPE_CHECKING:
    from engine.state.instances import Instance


def logs_command(instance: Instance, service: str | None = None, *, tail: int | None = None, follow: bool) -> list[str]:
    """The command that prints the logs of `service`, or of all services; root has to run it in the guest.

    `tail` is the number of lines at the end to print; None is all. Raises EngineError, with exit code 2 for an unknown
    service.
    """
    from engine.guest.compose_project import FILE

    check_services(instance, () if service is None else (service,))
    argv = ["docker", "compose", "--ansi", "never", "-f", FILE, "logs", "--no-color"]
    argv += ["--tail", "all" if tail is None else str(tail)]
    return [*argv, *(["--follow"] if follow else []), *([service] if service else [])]
