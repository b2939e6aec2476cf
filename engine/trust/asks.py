"""What a checked file asks of the host, as one value, and whether that is more than was approved.

A file is a stranger's until its user agrees to it. The user has to agree to everything that reaches beyond the machine:
directories of the host that the guest sees, secrets that are sent to another host, services and ports of the host,
every name below a domain, names in the user's private network or hidden from the gateway, variables of the user's
environment, most of the host's memory, processors or disk, and more of busy processors than others get.
Nobody is asked about named groups and single names of the network: almost every file has some.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, get_args

from engine.resolve.capacity import Capacity
from engine.resolve.paths import real_source
from engine.resolve.registries import UrlCredential
from engine.secrets.secrecy import is_credential
from engine.trust.places import Places
from engine.trust.unnamed import Past, can_be_written, digest_of, known_as, lent_by
from sandboxfile import Loaded
from sandboxfile.compose.services import published_ports
from sandboxfile.names import GROUPS
from sandboxfile.presets.expansion import hosts_of
from sandboxfile.quantities import format_size
from sandboxfile.sections.agent import Secret
from sandboxfile.sections.endpoints import Endpoint
from sandboxfile.sections.mounts import Mount
from vmm.processor_share import DEFAULT

Kind = Literal[
    "machine",
    "wildcard",
    "private",
    "hidden",
    "port",
    "service",
    "input",
    "variable",
    "registry credential",
    "directory",
    "confinement",
    "secret",
]
KINDS: tuple[Kind, ...] = get_args(Kind)

# What the guest may do with a directory of the host, by the mount's mode. A clone is a copy, so the host is only read.
RIGHTS = {
    "rw": ("read", "write"),
    "rw unprotected": ("read", "write", "write what this host runs"),
    "ro": ("read",),
    "clone": ("read",),
}
WITHOUT = " without "  # what a mount hides follows its mode

_FREE_PORT = "any free port"


@dataclass(frozen=True, order=True)
class Ask:
    """One thing that a file asks for.

    `subject` is what the file wants of the host: a real path, a port, the source of a secret. `detail` says for what,
    or how much: a mount's mode, the host that a secret is sent to, a file's digest, an amount. The user approves the
    kind, the subject and the detail; `note` and `warning` only explain them.
    """

    kind: Kind
    subject: str
    detail: str = ""
    note: str = ""
    warning: str = ""

    def units(self) -> frozenset[tuple[str, str, str]]:
        """The smallest parts that can be approved.

        Who may write a directory may also read it: that ask has two parts. What is hidden makes the parts smaller.
        """
        if self.kind == "directory":
            mode, without, hidden = self.detail.partition(WITHOUT)
            details = tuple(f"{right}{without}{hidden}" for right in RIGHTS[mode])
        else:
            details = (self.detail,)
        return frozenset((self.kind, self.subject, detail) for detail in details)


UNCONFINED = Ask(
    "confinement",
    "live mounts",
    warning="on a host without namespaces and Landlock, a flaw in the file server opens all that you can open",
)


@dataclass(frozen=True)
class Surroundings:
    """What the asks of a file depend on: this host's directories and capacity, and the project's earlier sandboxes."""

    places: Places
    capacity: Capacity
    past: Past = field(default_factory=Past)
    credentials: tuple[UrlCredential, ...] = ()  # in the URLs of registries that the file's guests are given
    unconfined: bool = False  # the user wants mounts even from a file server that nothing confines


def asks_of(loaded: Loaded, around: Surroundings) -> tuple[Ask, ...]:
    """Everything that all sandboxes of the file ask of the host, each ask once, in a fixed order.

    Follows links to the real paths. The values of variables and secrets are neither read nor shown.
    """
    asks: dict[frozenset[tuple[str, str, str]], Ask] = {}
    for one in loaded.each():
        for ask in (*_directories(one, around.places), *_secrets(one, around.places), *_network(one), *_ports(one)):
            asks.setdefault(ask.units(), ask)
    for ask in (
        *_machine(loaded, around.capacity),
        *_inputs(loaded, around.past),
        *_variables(loaded),
        *_registries(around),
        *((UNCONFINED,) if around.unconfined else ()),
    ):
        asks.setdefault(ask.units(), ask)
    return tuple(sorted(asks.values(), key=lambda ask: (KINDS.index(ask.kind), _natural(ask.subject), ask)))


def widened(asks: Iterable[Ask], approved: Iterable[Ask]) -> tuple[Ask, ...]:
    """Those of `asks` that ask for more than everything in `approved` together."""
    approved = tuple(approved)
    approved_units = frozenset(unit for ask in approved for unit in ask.units())
    approved_amounts: dict[str, int] = {}
    for ask in approved:
        if ask.kind == "machine":
            approved_amounts[ask.subject] = max(int(ask.detail), approved_amounts.get(ask.subject, 0))

    def is_approved(ask: Ask) -> bool:
        within_amount = ask.kind == "machine" and int(ask.detail) <= approved_amounts.get(ask.subject, 0)
        return within_amount or all(_smaller(unit, approved_units) for unit in ask.units())

    return tuple(ask for ask in asks if not is_approved(ask))


def _smaller(unit: tuple[str, str, str], approved: frozenset[tuple[str, str, str]]) -> bool:
    kind, subject, detail = unit
    if kind == "directory" and (kind, subject, detail.partition(WITHOUT)[0]) in approved:
        return True  # with nothing hidden
    return unit in approved


def digest(asks: Iterable[Ask]) -> str:
    """A digest of what is asked. Neither the order of the asks nor their notes and warnings change it."""
    units = sorted({unit for ask in asks for unit in ask.units()})
    return hashlib.sha256(json.dumps(units).encode()).hexdigest()


def _directories(loaded: Loaded, places: Places) -> Iterator[Ask]:
    project = loaded.project.resolve()
    for mount in loaded.sandbox.mounts:
        try:
            real = real_source(loaded.project, mount.source)
        except (OSError, RuntimeError):
            continue  # `up` refuses a source that cannot be mounted
        warning = places.why_sensitive(real)
        if real.is_relative_to(project) and mount.mode != "rw" and not warning:
            continue
        hidden = f"{WITHOUT}{', '.join(mount.hide)}" if mount.hide else ""
        mode = "rw unprotected" if mount.mode == "rw" and not mount.protect else mount.mode
        yield Ask("directory", str(real), f"{mode}{hidden}", _note(loaded, mount, real, project), warning)


def _note(loaded: Loaded, mount: Mount, real: Path, project: Path) -> str:
    where = "this project" if real == project else "in this project" if real.is_relative_to(project) else "OUTSIDE"
    written = os.path.normpath(project / Path(mount.source).expanduser())
    through = f", through the link {mount.source}" if written != str(real) else ""
    return f"{where}{through}, as {mount.target}"


def _secrets(loaded: Loaded, places: Places) -> Iterator[Ask]:
    for endpoint in loaded.sandbox.endpoints:
        if endpoint.secret is None or (secret := loaded.sandbox.secrets.get(endpoint.secret)) is None:
            continue
        source, warnings = _source(loaded, endpoint.secret, secret, places)
        if endpoint.foreign_credentials:
            warnings.append("credentials of others go there, too")
        if endpoint.host is None:
            for host in hosts_of(endpoint, secret=True):
                yield Ask("secret", source, host, f"called {endpoint.secret}", "; ".join(warnings))
            continue
        if endpoint.host.startswith("*."):
            warnings.append(f"every host below {endpoint.host[2:]} gets it")
        if endpoint.protocol == "http" or endpoint.port == 80:
            warnings.append(f"it goes to {_host(endpoint)} unencrypted")
        yield Ask("secret", source, _host(endpoint), f"called {endpoint.secret}", "; ".join(warnings))


def _source(loaded: Loaded, name: str, secret: Secret, places: Places) -> tuple[str, list[str]]:
    own = f", else keyring entry {name}"  # resolve.secrets looks there, too
    if secret.env is not None:
        return f"variable {secret.env}{own}", []
    if secret.file is not None:
        try:
            path = real_source(loaded.project, secret.file)
        except (OSError, RuntimeError):
            return f"file {secret.file}{own}", []
        told = places.why_sensitive(path)
        return f"file {path}{own}", [told] if told else []
    return f"keyring entry {secret.keyring or name}", []


def _host(endpoint: Endpoint) -> str:
    port = f":{endpoint.port}" if endpoint.port is not None else ""
    return f"{endpoint.host}{port}" + (f" ({endpoint.protocol})" if endpoint.protocol in ("http", "tcp") else "")


def _network(loaded: Loaded) -> Iterator[Ask]:
    for endpoint in loaded.sandbox.endpoints:
        if endpoint.deny or endpoint.host is None:
            continue
        if endpoint.host == "localhost":
            yield Ask("service", _host(endpoint), "", f"as {endpoint.as_}")
        elif endpoint.host.startswith("*."):
            yield Ask("wildcard", _host(endpoint))
        if endpoint.private:
            yield Ask("private", _host(endpoint))
        if endpoint.ech:
            yield Ask("hidden", _host(endpoint))


def _ports(loaded: Loaded) -> Iterator[Ask]:
    for port in loaded.sandbox.ports:
        yield _port(port.host, port.guest, "")
    for published in published_ports(loaded.sandbox.services):
        if published.protocol == "tcp" and published.host_port is not None:
            yield _port(published.host_port, published.guest_port, f" of the service {published.service}")


def _port(host: int | None, guest: int, whose: str) -> Ask:
    if host is None:
        return Ask("port", _FREE_PORT, f"for port {guest}")
    warning = "programs of this host expect a service of this host there" if host < 1024 else ""
    return Ask("port", str(host), "", f"for port {guest}{whose}", warning)


def _machine(loaded: Loaded, capacity: Capacity) -> Iterator[Ask]:
    """An amount that the file sets itself: over half of the memory or free disk, more processors than there are, or
    more of them than others get while they are busy."""
    machines = [one.sandbox.machine for one in loaded.each()]
    together = ", of all its sandboxes together" if len(machines) > 1 else ""
    memory, disk = sum(machine.memory for machine in machines), sum(machine.disk for machine in machines)
    cpus, weight = max(machine.cpus for machine in machines), max(machine.cpu_weight for machine in machines)
    rows = (
        ("memory", memory, capacity.memory // 2, f"{format_size(memory)}{together}, of {_about(capacity.memory)}"),
        ("cpus", cpus, capacity.cpus, f"{cpus}, of {capacity.cpus}"),
        ("disk", disk, capacity.disk // 2, f"{format_size(disk)}{together}, of {_about(capacity.disk)} that are free"),
        ("cpu_weight", weight, DEFAULT, f"{weight} of busy processors, where others have {DEFAULT}"),
    )
    for name, amount, limit, note in rows:
        if amount > limit and any(name in machine.model_fields_set for machine in machines):
            yield Ask("machine", name, str(amount), note)


def _about(size: int) -> str:
    return f"{size / 1024**3:.1f} GiB"


def _inputs(loaded: Loaded, past: Past) -> Iterator[Ask]:
    """The unnamed files that are read with this one and that its sandboxes, or earlier ones, can write."""
    writable = (*lent_by(loaded), *past.lent)
    for file, content in loaded.unnamed.items():
        if not can_be_written(file, writable):
            continue
        name, digest = known_as(file), digest_of(content)
        names = ", ".join(sorted(name for name, where in loaded.variables.items() if where == file.name))
        change = past.change(name, digest)
        warning = f"it {change} since a sandbox of this project was started, which could have written it"
        note = f"gives {names}" if names else f"lies over {loaded.path.name}"
        yield Ask("input", name, digest, note, warning if change else "")


def _variables(loaded: Loaded) -> Iterator[Ask]:
    for name, where in loaded.variables.items():
        if where == "environment":
            warning = "by its name a credential: its value would be part of the file" if is_credential(name) else ""
            yield Ask("variable", name, "", "", warning)


def groups_of(loaded: Loaded) -> set[str]:
    """The named groups whose package clients in the guest get the configuration of this host's clients."""
    used = {endpoint.group for one in loaded.each() for endpoint in one.sandbox.endpoints}
    groups = {group for group in GROUPS if group in used}
    return groups | ({"debian"} if any(one.sandbox.packages for one in loaded.each()) else set())


def _registries(around: Surroundings) -> Iterator[Ask]:
    for one in around.credentials:
        warning = "what looks like a credential in its path would be the guest's, and in its snapshots"
        yield Ask("registry credential", one.url, "", f"{one.group}: {one.origin}", warning)


def _natural(text: str) -> tuple[int, str]:
    return (int(text), "") if text.isdecimal() else (0, text)
