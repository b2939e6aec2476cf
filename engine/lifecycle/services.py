"""What is done to the services of a running sandbox by the Compose in its guest."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from typing import TYPE_CHECKING

from engine.errors import EngineError

if TYPE_CHECKING:
    from engine.state.instances import Instance

# `up --wait` starts nothing anew here: it ends when what has been started is healthy.
_RESTART = 'docker compose $0 restart "$@" && exec docker compose $0 up -d --no-build --no-recreate --wait "$@"'


def check_services(instance: Instance, names: Sequence[str], hint: str | None = None) -> None:
    """Raise EngineError where the sandbox has no services (with `hint`), or none with one of these names (code 2)."""
    if not instance.services:
        raise EngineError(f"the sandbox {instance.name} has no services", hint=hint)
    for name in names:
        if name not in instance.services:
            near = difflib.get_close_matches(name, instance.services, n=1)
            known = f"did you mean {near[0]!r}?" if near else f"there is: {', '.join(sorted(instance.services))}"
            raise EngineError(f"the sandbox {instance.name} has no service {name!r}", hint=known, exit_code=2)


def restart_command(instance: Instance, names: Sequence[str]) -> list[str]:
    """The command that restarts services and waits until they are healthy; without names, all. Root has to run it.

    Their containers stay the same ones, and so does what they wrote. Raises EngineError as `check_services`.
    """
    from engine.guest.compose_project import FILE

    machine = f"the machine itself: `sandbox down {instance.name}`, then `sandbox up`"
    if names == (instance.name,) and instance.name not in instance.services:
        raise EngineError(f"{instance.name} is a sandbox, and no service of it", hint=machine, exit_code=2)
    check_services(instance, names, machine)
    return ["sh", "-c", _RESTART, f"-f {FILE}", *(names or sorted(instance.services))]
