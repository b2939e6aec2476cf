"""Whether a process is held as the table of confinement says: the facts of a process against its row."""

from __future__ import annotations

import platform
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from seen_process import Opened, Seen

from engine.lifecycle.confinement import CODE, HEAD, PROCESSES, Held
from vmm.confine import NO_CORE, landlock_version
from vmm.jail import SYSTEM_LIBRARIES
from vmm.system_calls import ARCHITECTURES

NOTHING = "0" * 16  # of a set of capabilities
CAPABILITY_SETS = ("CapInh", "CapPrm", "CapEff", "CapAmb", "CapBnd")
# What the table says, and what the text around it says of all of them.
FILES, NETWORK, PROGRAMS, CAPABILITIES, CALLS = HEAD[1:-1]
LIMITS, VARIABLES, DUMPS = "limits", "variables", "core dumps"
COLUMNS = (FILES, NETWORK, PROGRAMS, CAPABILITIES, CALLS, LIMITS, VARIABLES, DUMPS)


class Complaint(NamedTuple):
    """What is otherwise than a row says: the row, the column, and what was seen."""

    row: str
    column: str
    what: str


@dataclass(frozen=True)
class Host:
    """Where it runs: our own namespaces, whether we are root, and what the table's words stand for."""

    namespaces: Mapping[str, str]
    is_root: bool
    words: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    filtered: bool = platform.machine() in ARCHITECTURES
    landlock: bool = landlock_version() > 1

    def spelled(self, words: tuple[str, ...]) -> tuple[str, ...]:
        """Beginnings of targets, each with a line's end where it is all of one."""
        return tuple(text for word in words for text in self.words.get(word, (word,)))


def kind_of(command: str) -> Held | None:
    """Which row of the table a command line belongs to."""
    return next((held for held in PROCESSES if all(mark in command for mark in held.marks)), None)


def complaints(seen: Seen, held: Held, host: Host) -> Iterator[Complaint]:
    """All that is otherwise than the row says."""
    for column, judge in JUDGES.items():
        for what in judge(seen, held, host):
            yield Complaint(held.name, column, what)


def _files(seen: Seen, held: Held, host: Host) -> Iterator[str]:
    if held.descriptors is not None and seen.descriptors is not None:
        allowed = host.spelled(held.descriptors)
        yield from (f"open: {one.target}" for one in seen.descriptors if not f"{one.target}\n".startswith(allowed))
    if held.writes is not None and seen.descriptors is not None:
        allowed = ("/dev/null\n", "/memfd:", *host.spelled(held.writes))
        for one in seen.descriptors:
            if one.writable and one.target.startswith("/") and not f"{one.target}\n".startswith(allowed):
                yield f"open for writing: {one.target}"
    if held.root and seen.mounts != ("/",):
        yield f"its root is not the only mount that it sees: {seen.mounts}"
    if held.landlocked and seen.tried is not None:
        if seen.tried["open"] not in ("EACCES", "ENOENT"):
            yield f"it opens a file of the user's: {seen.tried['open'] or 'done'}"
        # A stand-in holds nothing beside its share, nor the share: there is nothing that it could have been asked.
        if held.root and host.landlock and seen.tried["beside"] not in ("EACCES", None):
            yield f"it opens what it holds beside its share: {seen.tried['beside'] or 'done'}"
    yield from _shared(seen, held, host, {"mnt"})


def _network(seen: Seen, held: Held, host: Host) -> Iterator[str]:
    yield from _shared(seen, held, host, {"net"})
    if "net" in held.namespaces:
        if seen.devices is not None and (more := seen.devices - {"lo"}):
            yield f"its network has {sorted(more)}"
        if seen.routes:
            yield f"its network has {seen.routes} routes"
    if seen.listening is not None:
        yield from (
            f"listens on {address}" for address in sorted(seen.listening) if not address.startswith(held.listens)
        )
    if held.landlocked and host.filtered and seen.tried is not None and seen.tried["socket"] != "EPERM":
        yield f"it makes a socket: {seen.tried['socket'] or 'done'}"


def _programs(seen: Seen, held: Held, host: Host) -> Iterator[str]:
    for command in seen.starts:
        if not any(mark in command for mark in held.starts):
            yield f"it has started {command!r}"
    if held.confined and seen.code is not None:
        own = (*SYSTEM_LIBRARIES, *host.spelled((CODE,)))
        yield from (f"it runs {path}" for path in sorted(seen.code) if not path.startswith(own))
    if held.landlocked and host.filtered and seen.tried is not None and seen.tried["signal"] != "EPERM":
        yield f"it may signal who has started it: {seen.tried['signal'] or 'done'}"
    yield from _shared(seen, held, host, {"ipc", "uts", "pid", "cgroup"})


def _capabilities(seen: Seen, held: Held, host: Host) -> Iterator[str]:
    if not held.confined:
        return
    for name in CAPABILITY_SETS:
        # passt keeps the bounding set, of which it can get nothing: it is nobody, and gets no privileges by a program.
        if seen.status[name] != NOTHING and not (name == "CapBnd" and held.name == "passt"):
            yield f"{name} {seen.status[name]}"
    if seen.status["NoNewPrivs"] != "1":
        yield "it could get privileges by a program"
    if not host.is_root and held.namespaces and seen.namespaces and seen.namespaces["user"] == host.namespaces["user"]:
        yield "it is in the user's own user namespace"


def _calls(seen: Seen, held: Held, host: Host) -> Iterator[str]:
    if held.calls and host.filtered:
        if seen.status["Seccomp"] != "2":
            yield "no filter of system calls"
        if int(seen.status["Seccomp_filters"]) < held.calls:
            yield f"{seen.status['Seccomp_filters']} filters of system calls instead of {held.calls}"


def _limits(seen: Seen, held: Held, host: Host) -> Iterator[str]:
    for name, most in held.limits:
        limit, highest = seen.limits[name]
        if "unlimited" in (limit, highest) or (most is not None and int(highest) > most):
            yield f"{name}: {limit}, {highest}"


def _variables(seen: Seen, held: Held, host: Host) -> Iterator[str]:
    yield from (
        f"it has the variable {name}" for name in sorted(seen.variables or ()) if not name.startswith(held.variables)
    )


def _dumps(seen: Seen, held: Held, host: Host) -> Iterator[str]:
    if seen.limits["Max core file size"] not in ((str(NO_CORE),) * 2, ("0", "0")):
        yield f"core dumps of {seen.limits['Max core file size']}"


def _shared(seen: Seen, held: Held, host: Host, kinds: set[str]) -> Iterator[str]:
    """The namespaces that it should have of its own, and has with us."""
    if seen.namespaces is not None:
        for kind in sorted(held.namespaces & kinds):
            if seen.namespaces[kind] == host.namespaces[kind]:
                yield f"it shares the namespace {kind}"


JUDGES: Mapping[str, Callable[[Seen, Held, Host], Iterator[str]]] = {
    FILES: _files,
    NETWORK: _network,
    PROGRAMS: _programs,
    CAPABILITIES: _capabilities,
    CALLS: _calls,
    LIMITS: _limits,
    VARIABLES: _variables,
    DUMPS: _dumps,
}


def as_told(held: Held, host: Host) -> Seen:
    """A process that is just as the row says, and has all that it may have."""
    own = {kind: f"{kind}:[2]" if kind in held.namespaces else name for kind, name in host.namespaces.items()}
    if held.namespaces and not host.is_root:
        own["user"] = "user:[2]"
    opened = tuple(Opened(text.rstrip("\n"), False) for text in host.spelled(held.descriptors or ()))
    written = tuple(Opened(text.rstrip("\n"), True) for text in host.spelled(held.writes or ()))
    capabilities = dict.fromkeys(CAPABILITY_SETS, NOTHING if held.confined else "1ff")
    return Seen(
        command=" ".join(held.marks),
        status={
            **capabilities,
            "NoNewPrivs": str(int(held.confined)),
            "Seccomp": "2" if held.calls else "0",
            "Seccomp_filters": str(held.calls),
        },
        limits={"Max core file size": ("1", "1"), **{name: (str(most or 9),) * 2 for name, most in held.limits}},
        namespaces=own,
        descriptors=(*opened, *written),
        mounts=("/",) if held.root else ("/", "/proc", "/home"),
        code=frozenset({"/usr/bin/program"}),
        variables=frozenset({"PATH", "SANDBOX_STATE_DIR"}),
        devices=frozenset({"lo"} if "net" in held.namespaces else {"lo", "eth0"}),
        routes=0 if "net" in held.namespaces else 2,
        listening=frozenset(f"{beginning}1:80" for beginning in held.listens),
        starts=held.starts,
        tried=_refused(held) if held.landlocked else None,
    )


def _refused(held: Held) -> dict[str, str | None]:
    return {"open": "EACCES", "socket": "EPERM", "signal": "EPERM", "beside": "EACCES" if held.root else ""}
