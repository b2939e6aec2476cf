"""`extends: {file: common.yaml, service: web}`: laying a service over one of another Compose file of the project.

A service that extends one of its own file is left as it is: Compose in the guest has both services, and merges them.
"""

from __future__ import annotations

import posixpath
from typing import NamedTuple

from sandboxfile.compose.files import ComposeFiles
from sandboxfile.diagnostics import did_you_mean, quote
from sandboxfile.reading.document import Placed, child, leaves, place, plain
from sandboxfile.reading.layers import lay_service_over
from sandboxfile.reading.source import MAX_VALUES, Source

KEY = "extends"
MOST_STEPS = 20
MOST_COPIED = 5 * MAX_VALUES  # the values of extended services, counted again for each service that extends them


class _Step(NamedTuple):
    """A service of a Compose file."""

    file: str
    name: str


class Extensions:
    """Lays services over those of other files that they extend."""

    def __init__(self, files: ComposeFiles) -> None:
        self._files = files
        self._known: dict[_Step, Placed] = {}  # services that are resolved already
        self._copied = 0

    def resolve(self, services: Placed) -> Placed:
        """The `services` section with what its services extend; all paths are relative to the project.

        Where an extended service cannot be read, that is reported, and the `extends` is left out.
        """
        if not isinstance(services.value, dict):
            return services
        resolved = {name: self._extend(service, None, ()) for name, service in services.value.items()}
        return Placed(resolved, services.source, services.path)

    def _extend(self, service: Placed, source: Source | None, chain: tuple[_Step, ...]) -> Placed:
        """`service` laid over what it extends.

        `source` is the file that the service is in, None for the Sandboxfile itself, whose services the guest will
        have.
        """
        extends = child(service.value, KEY)
        file, name = _target(extends)
        if extends is None or name is None or (file is None and source is None):
            return service
        rest = Placed({key: item for key, item in service.value.items() if key != KEY}, service.source, service.path)
        if file is not None:
            source = self._files.read(child(extends.value, "file") or extends, posixpath.normpath(file))
        if source is None:
            return rest
        step = _Step(source.file, name)
        if step in chain or len(chain) >= MOST_STEPS:
            steps = [*(before.name for before in chain), name]
            message = "extends itself" if step in chain else f"extends more than {MOST_STEPS} others"
            self._files.complain(extends, f"{message}: {' -> '.join(steps)}")
            return rest
        base = self._base(extends, source, step, chain)
        return rest if base is None else lay_service_over(base, rest, name)

    def _base(self, extends: Placed, source: Source, step: _Step, chain: tuple[_Step, ...]) -> Placed | None:
        if self._copied > MOST_COPIED:
            return None  # reported already
        if step not in self._known:
            section = source.data.get("services")
            services = section if isinstance(section, dict) else {}
            if not isinstance(services.get(step.name), dict):
                hint = did_you_mean(step.name, services)
                named_at = child(extends.value, "service") or extends
                self._files.complain(named_at, f"there is no service {quote(step.name)} in {step.file}", hint)
                return None
            service = place(services[step.name], source, ("services", step.name))
            self._known[step] = self._extend(service, source, (*chain, step))
        base = self._known[step]
        self._copied += sum(1 for _ in leaves(plain(base)))
        if self._copied > MOST_COPIED:
            self._files.complain(extends, f"the extended services have together more than {MOST_COPIED} values")
        return base


def _target(extends: Placed | None) -> tuple[str | None, str | None]:
    """(file, service) that an `extends` names; the service is None when the value is no proper `extends`."""
    if extends is None:
        return None, None
    if isinstance(extends.value, str):
        return None, extends.value
    file, name = (None if (item := child(extends.value, key)) is None else item.value for key in ("file", "service"))
    if not isinstance(name, str) or not (file is None or isinstance(file, str)):
        return None, None
    return file, name
