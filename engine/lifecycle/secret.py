"""The user's secrets: keeping, listing, removing, taking over from a file, and asking a vendor about one."""

from __future__ import annotations

import io
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from engine.errors import EngineError
from engine.files import directories_in
from engine.resolve.secrets import own_source, sources_of, used_secrets
from engine.secrets.errors import SecretError
from engine.secrets.redaction import hold
from engine.secrets.rules import form_of, kind_of, name_for, probe_for, vendor_called, vendor_of
from engine.secrets.secrecy import is_credential
from engine.secrets.settings import load_settings
from engine.secrets.sources import MAX_BYTES, Source, check_value, read_first, read_private, real_path
from engine.secrets.store import Place, Store, check_name, keyring_title, os_keyring, without_values
from engine.secrets.vendors import PLACEHOLDER, VENDORS, Probe, Vendor
from engine.state.configuration import load_running
from sandboxfile.reading.regular_file import read_regular_file

if TYPE_CHECKING:
    from engine.gateway.rules import Injection
    from engine.secrets.probe import Answer
    from engine.state.layout import Layout
    from sandboxfile import Loaded

LONGEST = MAX_BYTES + 3  # bytes that are read of standard input: a value and a line end
_MOST_OF_A_FILE = 1 << 20  # bytes


@dataclass(frozen=True)
class Kept:
    """A value that was kept: where, in words, and which sandboxes have it from now on.

    Of these, the guests of `otherwise` hold the placeholder of another kind of credential, until `up` renews it.
    """

    place: Place
    where: str
    used_by: tuple[str, ...]
    otherwise: tuple[str, ...] = ()


@dataclass(frozen=True)
class Known:
    """A secret, without its value.

    `sources` are the places in the order in which they are looked at, `there` whether one has a value (None: only its
    command knows). `hosts` are those that the project's file sends it to, `used_by` the names of sandboxes.
    """

    name: str
    sources: tuple[str, ...]
    there: bool | None
    set_at: str | None = None
    hosts: tuple[str, ...] = ()
    used_by: tuple[str, ...] = ()


@dataclass(frozen=True)
class Candidate:
    """A variable of a file that looks like a credential; `before` is since when another value is kept as `name`."""

    variable: str
    name: str
    before: str | None
    value: str = field(repr=False)


@dataclass(frozen=True)
class Question:
    """What asking a vendor takes. `foreign` is set where a file names the source, and the user has not agreed to it."""

    name: str
    vendor: Vendor
    source: Source
    probe: Probe
    injection: Injection
    foreign: bool
    value: str = field(repr=False)


def store_of(layout: Layout) -> Store:
    return Store(layout.secrets, layout.secrets_lock)


def keep(layout: Layout, name: str, value: str, label: str) -> Kept:
    """Keep a value under a name; `label` is what messages call its origin. Raises SecretError."""
    check_name(name)
    value = check_value(value, label)
    if PLACEHOLDER in value:
        raise SecretError(f"the value of {label} is the placeholder that guests hold, not a real one")
    store = store_of(layout)
    place = store.set(name, value)
    where = f"the keyring ({keyring_title(os_keyring())})" if place == "keyring" else str(store.path)
    users = users_of(layout, name)
    return Kept(place, where, users, tuple(user for user in users if _holds_another_kind(layout, user, name, value)))


def read_file(path: Path) -> str:
    """The text of a file with a value. Raises SecretError."""
    try:
        return read_private(real_path(path)).decode()
    except UnicodeDecodeError:
        raise SecretError(f"the value of file {path} is not text") from None


def forget(layout: Layout, name: str) -> tuple[str, ...]:
    """Remove a secret that is kept; the sandboxes that have lost it. Raises SecretError where there is none."""
    check_name(name)
    if name not in store_of(layout).entries():
        raise SecretError(f"you keep no secret {name}", hint="`sandbox secret ls` lists them")
    store_of(layout).remove(name)
    return users_of(layout, name)


def known_secrets(layout: Layout, loaded: Loaded | None) -> list[Known]:
    """What is kept, what the user's configuration names, and what the project's file uses, by name.

    Reads no value, asks no keyring and runs no command. Raises EngineError, SandboxfileError.
    """
    entries, settings = without_values(store_of(layout).entries()), load_settings(layout.secret_settings)
    places = dict(sources_of(loaded, settings)) if loaded is not None else {}
    hosts = used_secrets(loaded) if loaded is not None else {}
    for name in (*entries, *settings):
        places.setdefault(name, (own_source(name, settings),))
    found = []
    for name, sources in sorted(places.items()):
        there = [_is_there(source, entries) for source in sources]
        first = next((has for has in there if has is not False), False)
        entry = entries.get(name)
        shown = tuple(_words(source, entries) for source in sources)
        set_at = entry.set_at if entry is not None else None
        found.append(Known(name, shown, first, set_at, hosts.get(name, ()), users_of(layout, name)))
    return found


def users_of(layout: Layout, name: str) -> tuple[str, ...]:
    """The sandboxes that there are whose file has a secret of this name, or one that is kept under it."""
    return tuple(each for each in directories_in(layout.instances) if name in _names_in(layout, each))


def candidates_in(layout: Layout, path: Path) -> tuple[list[Candidate], list[str]]:
    """The credentials in a file of NAME=value lines, and why some are none. Raises SecretError."""
    from dotenv.parser import parse_stream

    entries = store_of(layout).entries()
    found: list[Candidate] = []
    notes: list[str] = []
    for binding in parse_stream(_open(path)):
        if binding.key is None or not binding.value or not _is_credential(binding.key):
            continue
        try:
            value = check_value(hold(binding.value), binding.key)
        except SecretError as error:
            notes.append(error.brief)
            continue
        name = name_for(binding.key)
        if any(name == other.name for other in found):
            name = binding.key.lower()
        entry = entries.get(name)
        found.append(Candidate(binding.key, name, entry.set_at if entry else None, value))
    return found, notes


def make_question(layout: Layout, loaded: Loaded | None, name: str, vendor_name: str | None = None) -> Question:
    """Read the value of `name`, and find out whom to ask about it. Raises EngineError, SandboxfileError."""
    check_name(name)
    settings = load_settings(layout.secret_settings)
    of_file = sources_of(loaded, settings) if loaded is not None else {}
    hosts = used_secrets(loaded).get(name, ()) if loaded is not None else ()
    vendor = _whose(name, hosts, vendor_name)
    sources = of_file.get(name) or (own_source(name, settings),)
    value, source = read_first(name, sources, os.environ, store_of(layout))
    kind = kind_of(vendor.name, value)
    if (found := probe_for(vendor, name, kind)) is None:
        raise EngineError(f"no harmless request to {vendor.title} is known", exit_code=2)
    foreign = source != own_source(name, settings) and loaded is not None and not _is_approved(layout, loaded, name)
    return Question(name, vendor, source, *found, foreign, value)


def ask(question: Question) -> Answer:
    """Send the value to its vendor. Raises SecretError: it cannot be asked, does not take it, or says neither."""
    from engine.secrets.probe import ask_vendor

    answer = ask_vendor(question.probe, question.injection, question.value)
    said = f"{question.probe.host} said {answer.status}"
    if answer.verdict == "refused":
        raise SecretError(
            f"{question.vendor.title} does not take the value of {question.source.label}",
            said,
            f"`{question.source.set_by}` gives {question.name} another" if question.source.set_by else None,
        )
    if answer.verdict == "unclear":
        why = "it may be valid and not allowed to ask this" if answer.status == 403 else "try again later"
        raise SecretError(f"{said}, which tells nothing about {question.name}", hint=why)
    return answer


def _whose(name: str, hosts: tuple[str, ...], vendor_name: str | None) -> Vendor:
    """By what the user says, the hosts that it goes to, or its name."""
    if vendor_name is not None:
        found = vendor_called(vendor_name)
    else:
        found = next(filter(None, (vendor_of("", host) for host in hosts)), None) or vendor_of(name)
    if found is None:
        names = ", ".join(vendor.name for vendor in VENDORS)
        raise EngineError(f"whose secret {name} is cannot be told", hint=f"--vendor says it: {names}", exit_code=2)
    return found


def _is_approved(layout: Layout, loaded: Loaded, name: str) -> bool:
    """Whether the user has agreed that the file has this secret."""
    from engine.resolve.capacity import Capacity
    from engine.trust.approvals import find_approval, identity
    from engine.trust.asks import Surroundings, asks_of, widened
    from engine.trust.surroundings import places_of

    record = find_approval(layout, identity(loaded))
    if record is None or record.approval is None:
        return False
    asks = asks_of(loaded, Surroundings(places_of(layout), Capacity.of_host(layout)))
    of_it = [ask for ask in asks if ask.kind == "secret" and ask.note == f"called {name}"]
    return bool(of_it) and not widened(of_it, record.approval.asks)


def _holds_another_kind(layout: Layout, instance: str, name: str, value: str) -> bool:
    """Whether what the guest of a sandbox holds stands for another kind of credential than this value is of."""
    if (running := load_running(layout, instance)) is None:
        return False
    sandbox = running.configuration.sandbox
    for endpoint in sandbox.get("endpoints") or ():
        secret = str(endpoint.get("secret"))
        known = running.kinds.get(secret)
        if known is not None and name in (secret, (sandbox["secrets"].get(secret) or {}).get("keyring")):
            host = endpoint.get("host")
            if form_of(secret, kind_of(secret, value, host), host) != (known or form_of(secret, None, host)):
                return True
    return False


def _names_in(layout: Layout, instance: str) -> Iterator[str]:
    running = load_running(layout, instance)
    secrets = running.configuration.sandbox.get("secrets") if running is not None else None
    for name, secret in secrets.items() if isinstance(secrets, Mapping) else ():
        yield name
        if isinstance(secret, Mapping) and isinstance(entry := secret.get("keyring"), str):
            yield entry


def _is_there(source: Source, entries: Mapping[str, object]) -> bool | None:
    if source.kind == "env":
        return bool(os.environ.get(source.where))
    if source.kind == "file":
        return Path(source.where).is_file()
    return source.where in entries if source.kind == "keyring" else None


def _words(source: Source, entries: Mapping[str, object]) -> str:
    entry = entries.get(source.where) if source.kind == "keyring" else None
    return source.label if getattr(entry, "place", "keyring") == "keyring" else f"{source.label} (in a file)"


def _is_credential(variable: str) -> bool:
    known = {variable for vendor in VENDORS for kind in vendor.kinds for variable in kind.variables}
    return variable in known or is_credential(variable)


def _open(path: Path) -> io.StringIO:
    try:
        data = read_regular_file(path, _MOST_OF_A_FILE)
    except OSError as error:
        raise SecretError(f"{path} cannot be read: {error.strerror or error}", exit_code=2) from None
    if len(data) > _MOST_OF_A_FILE:
        raise SecretError(f"{path} is larger than 1 MiB")
    try:
        return io.StringIO(data.decode())
    except UnicodeDecodeError:
        raise SecretError(f"{path} is not text") from None
