"""What is different between the configuration that a sandbox runs with and the one that its file asks for now.

Value to value: nothing is read or asked here. `apply.py` does what is found.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any, Final, Literal, NamedTuple

from engine.plan.differences import Difference, compare_items, compare_values, describe, describe_changes
from engine.report.columns import align
from engine.report.text import clean_line
from engine.secrets.secrecy import masked_inputs
from engine.state.configuration import PARTS, Configuration, Part
from sandboxfile.positions import KeyPath, render_path
from sandboxfile.quantities import format_duration, format_size

How = Literal["live", "new machine"]

# Every field of the file's model (a test compares), and the part of a running sandbox that a change of it concerns;
# "record" is what the next command that asks for it sees. NEW: only another machine can have it. None: the field is not
# compared. No sandbox is made of the version, and by now each of `agents` is a file's value of its own.
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
    "agents": None,
    "machine.cpus": NEW,
    "machine.memory": NEW,
    "machine.disk": NEW,
    "machine.idle": "record",
    "packages": NEW,
    "setup": NEW,
    "mounts": NEW,
    "endpoints": "endpoints",
    "secrets": "endpoints",
    "services": "services",
    "volumes": "services",
    "networks": "services",
    "configs": "services",
    "ports": "ports",
}

# Inputs of build nodes that are keys of other nodes, or that fields of the file say already.
_SAID_ELSEWHERE = {"parent", "toolchain", "qemu", "image", "initramfs", "cpus", "memory", "disk", "size"}
_SAID_ELSEWHERE |= {"run", "user", "directory"}
_UNSAID = {"user": "agent", "mode": "rw"}  # defaults of list items


class Change(NamedTuple):
    """`path` is the place in the file, or a node of the build; `what` is the old and the new value in a few words.

    `part` is what a running sandbox has to change for it; None when it needs a new machine.
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
    old: Configuration, new: Configuration, *, without_listener: Collection[int] = (), unfinished: Collection[str] = ()
) -> tuple[Change, ...]:
    """Every difference, in the order of the file's model.

    `without_listener` are ports that the new endpoints need and for which the gateway has no listener: a machine that
    runs gets none. `unfinished` are the parts whose last change did not come to its end: they differ, whatever the
    file says.
    """
    found = [*_compare_fields(old, new, without_listener), *_compare_contents(old, new), *_compare_build(old, new)]
    due = {change.part for change in found}
    found += [
        Change(part, part, "the last change of it did not come to its end")
        for part in PARTS
        if part in unfinished and part not in due
    ]
    return tuple(found)


def sections_of(part: Part) -> tuple[str, ...]:
    """The sections of the file that are in force when the part has been applied."""
    return tuple(dict.fromkeys(path.split(".")[0] for path, kind in FIELDS.items() if kind == part))


def needs_new_machine(changes: Collection[Change]) -> bool:
    return any(change.part is None for change in changes)


def render(changes: Sequence[Change]) -> str:
    """Aligned columns, one line a change. The same changes give the same text."""
    rows = [(clean_line(change.path), change.how, clean_line(change.what)) for change in changes]
    return "".join(f"{line}\n" for line in align(rows, indent="  ").splitlines())


def _compare_fields(old: Configuration, new: Configuration, without_listener: Collection[int]) -> Iterator[Change]:
    agents = (old.sandbox.get("agent"), new.sandbox.get("agent"))
    if None in agents and agents[0] != agents[1]:
        part: Part | None = None if any(agent and agent.get("use") for agent in agents) else "record"
        yield Change("agent", part, "removed" if agents[1] is None else "added")
    for field, kind in FIELDS.items():
        path: KeyPath = tuple(field.split("."))
        if kind is None or (path[0] == "agent" and None in agents):
            continue
        found = _compare_field(path, _at(old.sandbox, path), _at(new.sandbox, path))
        if field == "endpoints":
            yield from _judge_endpoints(found, new.sandbox["endpoints"], without_listener)
            continue
        for place, what in found:
            yield Change(render_path(place), kind if kind != NEW else None, what)
    for index, (before, now) in enumerate(zip(old.mounts, new.mounts, strict=False)):
        if before != now and old.sandbox["mounts"] == new.sandbox["mounts"]:
            yield Change(f"mounts[{index}].source", None, f"{before} -> {now}")


def _judge_endpoints(
    found: Iterable[Difference], endpoints: Sequence[Mapping[str, Any]], without_listener: Collection[int]
) -> Iterator[Change]:
    beyond = {f"+ {_describe_item(item)}": item["port"] for item in endpoints if item["port"] in without_listener}
    for _, what in found:
        if what in beyond:
            yield Change("endpoints", None, f"{what} (a new port needs a new machine)")
        else:
            yield Change("endpoints", "endpoints", what)
    for port in sorted(set(without_listener).difference(beyond.values())):  # of a named group: its registry has moved
        yield Change("endpoints", None, f"port {port} (a new port needs a new machine)")


def _compare_field(path: KeyPath, old: Any, new: Any) -> Iterator[Difference]:
    if old == new or not (old or new):  # a section that came into the format later is not in older records
        return
    match path:
        case ("machine", "memory" | "disk"):
            yield Difference(path, f"{format_size(old)} -> {format_size(new)}")
        case ("machine", "idle"):
            yield Difference(path, f"{_idle(old)} -> {_idle(new)}")
        case ("packages",):
            yield from compare_items(path, sorted(set(old)), sorted(set(new)), str)
        case ("endpoints" | "ports",):
            yield from compare_items(path, old or (), new, _describe_item)
        case ("setup" | "mounts",) if len(old) != len(new):
            yield from compare_items(path, old, new, _describe_item)
        case ("setup" | "mounts",):
            for index, (before, now) in enumerate(zip(old, new, strict=True)):
                yield from compare_values((*path, index), before, now)
        case _:
            yield from compare_values(path, old, new)


def _compare_contents(old: Configuration, new: Configuration) -> Iterator[Change]:
    """Files and build contexts of services that are named as before, and say something else."""
    for place, key in new.contents.items():
        if old.contents.get(place, key) != key:
            yield Change(place, "services", "its content changed")


def _compare_build(old: Configuration, new: Configuration) -> Iterator[Change]:
    """What has changed about the machine beneath, beside what the fields of the file say."""
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
    return {name: text for name, text in inputs if name not in _SAID_ELSEWHERE and not name.startswith("env ")}


def _at(value: Any, path: KeyPath) -> Any:
    for key in path:
        value = value.get(key) if isinstance(value, Mapping) else None
    return value


def _idle(seconds: int | None) -> str:
    return "never" if seconds is None else format_duration(seconds)


def _describe_item(item: Mapping[str, Any]) -> str:
    """An endpoint, port, mount or setup step: what it is first, then everything else that was said about it."""
    heads = ("host", "guest") if "guest" in item else ("group", "host", "port", "source", "target", "run")
    head = ":".join(describe(item[key]) for key in heads if item.get(key))
    rest = [
        key if value is True else f"{key}={describe(value, (key,))}"
        for key, value in item.items()
        if value and key not in heads and _UNSAID.get(key) != value
    ]
    return " ".join([head, *rest])
