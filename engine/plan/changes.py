"""What is different between the configuration that a sandbox runs with and the one that its file asks for now.

Everything here computes values from values. `engine/lifecycle/change.py` carries out the changes.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any, Final, Literal, NamedTuple

from engine.plan.differences import (
    ANOTHER_ORDER,
    Difference,
    compare_items,
    compare_values,
    describe,
    describe_changes,
    removed_and_added,
)
from engine.report.columns import align
from engine.report.text import clean_line
from engine.secrets.secrecy import masked_inputs
from engine.state.configuration import PARTS, Configuration, Part
from sandboxfile import Endpoint
from sandboxfile.names import GROUPS
from sandboxfile.positions import KeyPath, render_path
from sandboxfile.quantities import format_duration, format_rate, format_size
from vmm.processor_share import DEFAULT

How = Literal["live", "new machine"]

# Each field of the file's model, and the part of a running sandbox that has to change when the field does. A test
# checks that no field is missing. "record": only the instance's record changes, and the next command that reads it sees
# the new value. NEW: only a new machine can have the new value. None: the field is not compared. `version` says nothing
# about a sandbox, and each sandbox of `agents` has been made a value of its own before two configurations are compared,
# with those services only that `profiles` have left.
NEW: Final = "new machine"
FIELDS: Mapping[str, Part | Literal["new machine"] | None] = {
    "version": None,
    "name": NEW,
    "agent.use": NEW,
    "agent.version": NEW,
    "agent.command": "record",
    "agent.args": "record",
    "agent.env": "record",
    "agent.user": "record",
    "agent.note": "record",
    "agent.keep": "record",
    "agents": None,
    "machine.cpus": NEW,
    "machine.memory": NEW,
    "machine.disk": NEW,
    "machine.idle": "record",
    "machine.network_rate": "record",
    "machine.cpu_weight": "record",
    "packages": NEW,
    "setup": NEW,
    "mounts": NEW,
    "endpoints": "endpoints",
    "secrets": "endpoints",
    "services": "services",
    "profiles": None,
    "volumes": "services",
    "networks": "services",
    "configs": "services",
    "ports": "ports",
}

# Inputs of build nodes whose changes are reported already: as another node's, or as a field's of the file.
_REPORTED_ELSEWHERE = {"parent", "toolchain", "qemu", "image", "initramfs", "cpus", "memory", "disk", "size"}
_REPORTED_ELSEWHERE |= {"run", "user", "directory"}
_DEFAULTS = {"user": "agent", "mode": "rw", "protect": True}  # of list items; a description leaves them out
NO_LIMIT = ("limit", None)
_FIRST_CERTIFICATE = "TLS is intercepted from now on, and containers that run already would not trust that"
_NEW_PORT = "(a new port needs a new machine)"


class Change(NamedTuple):
    """One difference.

    `path` is the place in the file, or a node of the build; `what` is the old and the new value in a few words. `part`
    is the part of the running sandbox that has to change; None when the change needs a new machine.
    """

    path: str
    part: Part | None
    what: str

    @property
    def how(self) -> How:
        return "new machine" if self.part is None else "live"

    def to_json(self) -> dict[str, str]:
        return {"path": self.path, "how": self.how, "what": self.what}


def compare(
    old: Configuration,
    new: Configuration,
    *,
    without_listener: Collection[int | str] = (),
    unfinished: Collection[str] = (),
) -> tuple[Change, ...]:
    """Every difference, in the order of the file's model.

    `without_listener` are ports that the new endpoints need and on which the gateway does not listen, and names
    (NAME:PORT) with an address of their own that it does not have; it cannot begin to while the machine runs.
    `unfinished` are the parts whose last change did not come to its end: each counts as changed, whatever the file
    says.
    """
    changes = [*_compare_fields(old, new, without_listener), *_compare_contents(old, new), *_compare_build(old, new)]
    due = {change.part for change in changes}
    changes += [
        Change(part, part, "the last change of it did not come to its end")
        for part in PARTS
        if part in unfinished and part not in due
    ]
    return tuple(changes)


def sections_of(part: Part) -> tuple[str, ...]:
    """The sections of the file whose values a running sandbox has when `part` has been applied to it."""
    return tuple(dict.fromkeys(path.split(".")[0] for path, kind in FIELDS.items() if kind == part))


def needs_new_machine(changes: Collection[Change]) -> bool:
    """Whether at least one of the changes cannot be made while the sandbox runs."""
    return any(change.part is None for change in changes)


def render(changes: Sequence[Change]) -> str:
    """One line for each change, in aligned columns. Equal changes give equal text."""
    rows = [(clean_line(change.path), change.how, clean_line(change.what)) for change in changes]
    return "".join(f"{line}\n" for line in align(rows, indent="  ").splitlines())


def _compare_fields(
    old: Configuration, new: Configuration, without_listener: Collection[int | str]
) -> Iterator[Change]:
    agents = (old.sandbox.get("agent"), new.sandbox.get("agent"))
    if None in agents and agents[0] != agents[1]:
        part: Part | None = None if any(agent and agent.get("use") for agent in agents) else "record"
        yield Change("agent", part, "removed" if agents[1] is None else "added")
    for field, kind in FIELDS.items():
        path: KeyPath = tuple(field.split("."))
        if kind is None or (path[0] == "agent" and None in agents):
            continue
        if field == "endpoints":
            yield from _compare_endpoints(old.sandbox.get(field) or (), new.sandbox[field], without_listener)
            if _looks_inside(new) and not _looks_inside(old) and old.sandbox.get("services"):
                yield Change("endpoints", None, _FIRST_CERTIFICATE)
            continue
        for place, what in _compare_field(path, _at(old.sandbox, path), _at(new.sandbox, path)):
            yield Change(render_path(place), kind if kind != NEW else None, what)
    for index, (before, now) in enumerate(zip(old.mounts, new.mounts, strict=False)):
        if before != now and old.sandbox["mounts"] == new.sandbox["mounts"]:
            yield Change(f"mounts[{index}].source", None, f"{before} -> {now}")


def _looks_inside(configuration: Configuration) -> bool:
    endpoints = configuration.sandbox.get("endpoints") or ()
    keys = ("secret", "methods", "paths", "intercept", "github", "access")  # a record of an older version lacks some
    return any(item.get(key) for item in endpoints for key in keys) or any(_is_preset(item) for item in endpoints)


def _is_preset(endpoint: Mapping[str, Any]) -> bool:
    return endpoint.get("group") is not None and endpoint["group"] not in GROUPS


def _compare_endpoints(
    old: Sequence[Mapping[str, Any]], new: Sequence[Mapping[str, Any]], without_listener: Collection[int | str]
) -> Iterator[Change]:
    # The record of an older version lacks keys that are newer than it.
    blank = Endpoint(host="blank.example").model_dump(mode="json", by_alias=True)
    old = [{**blank, **item} for item in old]
    removed, added = removed_and_added(old, new)
    for item in removed:
        yield Change("endpoints", "endpoints", f"- {_describe_item(item)}")
    for item in added:
        if _door(item) in without_listener:
            yield Change("endpoints", None, f"+ {_describe_item(item)} {_NEW_PORT}")
        else:
            yield Change("endpoints", "endpoints", f"+ {_describe_item(item)}")
    if list(old) != list(new) and not removed and not added:
        yield Change("endpoints", "endpoints", ANOTHER_ORDER)
    # The remaining ports are those of a named group: its registry is now at another port.
    for port in sorted({port for port in without_listener if isinstance(port, int)}.difference(map(_door, new))):
        yield Change("endpoints", None, f"port {port} {_NEW_PORT}")


def _door(item: Mapping[str, Any]) -> int | str | None:
    return f"{item['as'] or item['host']}:{item['port']}" if item["protocol"] == "tcp" else item["port"]


def _compare_field(path: KeyPath, old: Any, new: Any) -> Iterator[Difference]:
    if old == new or not (old or new):  # the record of an older version lacks sections that are newer than it
        return
    if path == ("mounts",):
        old, new = _mounts_in_words(old or ()), _mounts_in_words(new)
    match path:
        case ("machine", "memory" | "disk"):
            yield Difference(path, f"{format_size(old)} -> {format_size(new)}")
        case ("machine", "idle"):
            if _idle(old) != _idle(new):
                yield Difference(path, f"{_idle(old)} -> {_idle(new)}")
        case ("machine", "network_rate"):
            yield Difference(path, f"{_rate(old)} -> {_rate(new)}")
        case ("machine", "cpu_weight"):
            if (before := old or DEFAULT) != new:  # the record of an older version has none
                yield Difference(path, f"{before} -> {new}")
        case ("packages",):
            yield from compare_items(path, sorted(set(old)), sorted(set(new)), str)
        case ("ports",):
            yield from compare_items(path, old or (), new, _describe_item)
        case ("setup" | "mounts",) if len(old) != len(new):
            yield from compare_items(path, old, new, _describe_item)
        case ("setup" | "mounts",):
            for index, (before, now) in enumerate(zip(old, new, strict=True)):
                yield from compare_values((*path, index), before, now)
        case _:
            yield from compare_values(path, old, new)


def _compare_contents(old: Configuration, new: Configuration) -> Iterator[Change]:
    """Files and build contexts of services that have the same path as before and another content."""
    for place, key in new.contents.items():
        if old.contents.get(place, key) != key:
            yield Change(place, "services", "its content changed")


def _compare_build(old: Configuration, new: Configuration) -> Iterator[Change]:
    """What has changed about how the machine is built, except what a field of the file reports already."""
    first = True
    for id, made in new.build.items():
        before = old.build.get(id)
        if before is None or before["key"] == made["key"]:
            continue
        if first and masked_inputs(before["inputs"]) == made["inputs"]:
            yield Change(id, None, "the way it is built changed")
        first = False
        is_setup = id.startswith("setup[")
        if id == "packages" or (is_setup and old.sandbox["setup"] != new.sandbox["setup"]):
            continue
        if text := describe_changes(_own_inputs(before), _own_inputs(made)):
            yield Change(id, None, text)


def _own_inputs(made: Mapping[str, Any]) -> dict[str, str]:
    inputs = masked_inputs(made["inputs"]).items()
    return {name: text for name, text in inputs if name not in _REPORTED_ELSEWHERE and not name.startswith("env ")}


def _at(value: Any, path: KeyPath) -> Any:
    for key in path:
        value = value.get(key) if isinstance(value, Mapping) else None
    return value


def _mounts_in_words(mounts: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """With limits as people write them, and none where there is none: the record of an older version lacks the key."""
    return [
        {
            key: format_size(value) if key == "limit" else value
            for key, value in mount.items()
            if (key, value) != NO_LIMIT
        }
        for mount in mounts
    ]


def _idle(value: int | Mapping[str, Any] | None) -> str:
    """As older versions wrote it down, too: the seconds alone."""
    if value is None:
        return "never"
    if isinstance(value, int):
        return format_duration(value)
    return format_duration(value["after"]) + (", then pause" if value["do"] == "pause" else "")


def _rate(rate: int | None) -> str:
    return "no limit" if rate is None else format_rate(rate)


def _describe_item(item: Mapping[str, Any]) -> str:
    """An endpoint, port, mount or setup step: first what identifies it, then its other values, without defaults."""
    heads = ("host", "guest") if "guest" in item else ("group", "github", "host", "port", "source", "target", "run")
    head = ":".join(describe(item[key]) for key in heads if item.get(key))
    rest = [
        key if value is True else f"{key}={describe(value, (key,))}"
        for key, value in item.items()
        if (value or _DEFAULTS.get(key)) and key not in heads and _DEFAULTS.get(key) != value
    ]
    return " ".join([head, *rest])
