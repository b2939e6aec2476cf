"""`extends: {file: common.yaml, service: web}`: a service of another Compose file of the project under one of this.

Compose does the rest: a service that extends one of its own file is left as it is, since both are in the guest.
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
MOST_COPIED = 5 * MAX_VALUES  # values of extended services, counted for each service that extends them


class _Step(NamedTuple):
    """A service of a Compose file."""

    file: str
    name: str


class Extensions:
    """Lays extended services of other files under the ones that extend them."""

    def __init__(self, files: ComposeFiles) -> None:
        self._files = files
        self._known: dict[_Step, Placed] = {}  # each with what it extends
        self._copied = 0

    def resolve(self, services: Placed) -> Placed:
        """A `services` section, its paths relative to the project. What cannot be had is complained of and left out."""
        if not isinstance(services.value, dict):
            return services
        found = {name: self._extend(service, None, ()) for name, service in services.value.items()}
        return Placed(found, services.source, services.path)

    def _extend(self, service: Placed, source: Source | None, chain: tuple[_Step, ...]) -> Placed:
        """`service` with what it extends; without `source` it is in the file that the guest will have."""
        wanted = child(service.value, KEY)
        file, name = _target(wanted)
        if wanted is None or name is None or (file is None and source is None):
            return service
        rest = Placed({key: item for key, item in service.value.items() if key != KEY}, service.source, service.path)
        if file is not None:
            source = self._files.read(child(wanted.value, "file") or wanted, posixpath.normpath(file))
        if source is None:
            return rest
        step = _Step(source.file, name)
        if step in chain or len(chain) >= MOST_STEPS:
            steps = [*(before.name for before in chain), name]
            said = "extends itself" if step in chain else f"extends more than {MOST_STEPS} others"
            self._files.complain(wanted, f"{said}: {' -> '.join(steps)}")
            return rest
        base = self._base(wanted, source, step, chain)
        return rest if base is None else lay_service_over(base, rest, name)

    def _base(self, wanted: Placed, source: Source, step: _Step, chain: tuple[_Step, ...]) -> Placed | None:
        if self._copied > MOST_COPIED:
            return None  # complained of
        if step not in self._known:
            section = source.data.get("services")
            services = section if isinstance(section, dict) else {}
            if not isinstance(services.get(step.name), dict):
                hint = did_you_mean(step.name, services)
                place_of = child(wanted.value, "service") or wanted
                self._files.complain(place_of, f"there is no service {quote(step.name)} in {step.file}", hint)
                return None
            service = place(services[step.name], source, ("services", step.name))
            self._known[step] = self._extend(service, source, (*chain, step))
        found = self._known[step]
        self._copied += sum(1 for _ in leaves(plain(found)))
        if self._copied > MOST_COPIED:
            self._files.complain(wanted, f"the extended services have together more than {MOST_COPIED} values")
        return found


def _target(wanted: Placed | None) -> tuple[str | None, str | None]:
    """(file, service) of an `extends`; no service when it has not the shape of one."""
    if wanted is None:
        return None, None
    if isinstance(wanted.value, str):
        return None, wanted.value
    file, name = (None if (item := child(wanted.value, key)) is None else item.value for key in ("file", "service"))
    if not isinstance(name, str) or not (file is None or isinstance(file, str)):
        return None, None
    return file, name
