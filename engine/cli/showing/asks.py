"""What a file asks of this host, as lines for people."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING

from engine.report.columns import align

if TYPE_CHECKING:
    from engine.state.layout import Layout
    from engine.trust.asks import Ask, Surroundings
    from engine.trust.places import Places
    from sandboxfile import Loaded

TITLES = {
    "machine": "more of this host than a sandbox should need",
    "wildcard": "every name below a domain",
    "port": "ports of this host's loopback address",
    "service": "services of this host",
    "input": "files that are read with it, and that its sandbox can write",
    "variable": "variables of your environment, whose values become part of the file",
    "registry credential": "registries of this host, with what looks like a credential",
    "directory": "directories of this host",
    "confinement": "file servers that nothing confines",
    "secret": "secrets, which leave for a host",
}
MODES = {"rw": "live, read and write", "ro": "live, read only", "clone": "as a copy"}
MOST = 20  # of one kind in a question: a file that asks for more hides something, or is for a reader with time


def places_of(layout: Layout) -> Places:
    """The places of this host to tell of, our own directories among them."""
    from engine.trust.places import Places

    ours = "where `sandbox` keeps "
    return Places.of_user(
        {
            layout.state.resolve(): f"{ours}what you approved, and its sandboxes",
            layout.runtime.resolve(): f"{ours}the sockets of its sandboxes",
            layout.cache.resolve(): f"{ours}its tools and images",
        }
    )


def around(layout: Layout, loaded: Loaded, *, unconfined: bool = False) -> Surroundings:
    """What of this host, and of the project's past, decides about what the file asks.

    Asks the host's package clients where the file names a group, which may take a second. Raises EngineError.
    """
    from engine.errors import EngineError
    from engine.resolve.capacity import Capacity
    from engine.resolve.clients import RegistryError
    from engine.resolve.registries import credentials_of
    from engine.trust.asks import Surroundings, groups_of
    from engine.trust.unnamed import look_back

    try:
        credentials = credentials_of(groups) if (groups := groups_of(loaded)) else ()
    except RegistryError as error:
        raise EngineError(error.brief, error.details, error.hint) from error
    past = look_back(layout, loaded.project)
    return Surroundings(places_of(layout), Capacity.of_host(layout), past, credentials, unconfined=unconfined)


def render(asks: Sequence[Ask], new: Collection[Ask], most: int | None = None) -> str:
    """Groups with a title each, at last what to look at closely. `+` stands before those in `new` where some are not.

    At most `most` of a group are shown, new ones first. Whatever a name holds, it stays on its line.
    """
    from engine.trust.asks import KINDS

    marks = 0 < len(new) < len(asks)
    lines = []
    for kind in KINDS:
        group = sorted((ask for ask in asks if ask.kind == kind), key=lambda ask: ask not in new)
        rows = [
            (f"{'+' if marks and fresh else ' '} {first}", *rest) for fresh, (first, *rest) in _rows(kind, group, new)
        ]
        if rows:
            lines += [f"  {TITLES[kind]}", align(rows[:most], indent="   ")]
            if most is not None and len(rows) > most:
                lines.append(f"     ... and {len(rows) - most} more; `sandbox trust show` lists all")
    return "\n".join([*lines, *_warnings(asks, most)])


def _rows(kind: str, group: Sequence[Ask], new: Collection[Ask]) -> Iterator[tuple[bool, tuple[str, ...]]]:
    from sandboxfile.diagnostics import printable

    if kind == "port":
        yield from _ports(group, new)
        return
    for ask in group:
        if kind == "directory":
            cells = (ask.subject, MODES[ask.detail], ask.note)
        elif kind == "secret":
            cells = (ask.subject, f"to {ask.detail}", ask.note)
        else:
            cells = (ask.subject, ask.note, "")
        yield ask in new, tuple(map(printable, cells))


def _ports(group: Iterable[Ask], new: Collection[Ask]) -> Iterator[tuple[bool, tuple[str, ...]]]:
    """A line for each, or for a row of numbers without a gap."""
    runs: list[list[Ask]] = []
    for ask in group:
        last = runs[-1][-1] if runs else None
        follows = (
            last is not None
            and ask.subject.isdecimal()
            and last.subject.isdecimal()
            and int(ask.subject) == int(last.subject) + 1
            and (ask in new) == (last in new)
        )
        if follows:
            runs[-1].append(ask)
        else:
            runs.append([ask])
    for run in runs:
        first, last = run[0], run[-1]
        if len(run) > 2:
            yield first in new, (f"{first.subject} to {last.subject}", f"{len(run)} ports")
        else:
            yield from ((ask in new, (ask.subject, ask.note or ask.detail)) for ask in run)


def _warnings(asks: Sequence[Ask], most: int | None) -> list[str]:
    from sandboxfile.diagnostics import printable

    # What matters most stands next to the question, however long the rest is.
    found = [
        f"   ! {'port ' if ask.kind == 'port' else ''}{printable(ask.subject)}: {printable(ask.warning)}"
        for ask in asks
        if ask.warning
    ]
    if not found:
        return []
    cut = found if most is None else found[-most:]
    left = [f"     ... {len(found) - len(cut)} more of these"] if len(cut) < len(found) else []
    return ["  look closely at", *left, *cut]
