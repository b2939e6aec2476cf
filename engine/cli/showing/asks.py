"""What a file asks of this host, as lines for people."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING

from engine.report.columns import align

if TYPE_CHECKING:
    from engine.trust.asks import Ask

TITLES = {
    "machine": "more of this host than a sandbox should need",
    "wildcard": "every name below a domain",
    "private": "hosts of your private network",
    "hidden": "hosts at which a client may hide which name it asks for",
    "port": "ports of this host's loopback address",
    "service": "services of this host",
    "input": "files that are read with it, and that its sandbox can write",
    "variable": "variables of your environment, whose values become part of the file",
    "registry credential": "registries of this host, with what looks like a credential",
    "directory": "directories of this host",
    "confinement": "file servers that nothing confines",
    "secret": "secrets, which leave for a host",
}
MODES = {
    "rw": "live, read and write",
    "rw unprotected": "live, read and write, with git's hooks and editors' tasks",
    "ro": "live, read only",
    "clone": "as a copy",
}
MOST = 20  # asks of one kind in a question; who wants to read more calls `sandbox trust show`


def render(asks: Sequence[Ask], new: Collection[Ask], most: int | None = None) -> str:
    """The asks in groups, each with a title, and at the end the warnings.

    A `+` marks the asks that are in `new`, unless all are. At most `most` of a group are shown, the new ones first. No
    name can break its line, whatever characters it has.
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
            mode, without, hidden = ask.detail.partition(" without ")
            cells = (ask.subject, f"{MODES[mode]}{without}{hidden}", ask.note)
        elif kind == "secret":
            cells = (ask.subject, f"to {ask.detail}", ask.note)
        else:
            cells = (ask.subject, ask.note, "")
        yield ask in new, tuple(map(printable, cells))


def _ports(group: Iterable[Ask], new: Collection[Ask]) -> Iterator[tuple[bool, tuple[str, ...]]]:
    """One line for each port; three or more numbers in a row share a line."""
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

    # The warnings come last, next to the question, however long the list is; of many, the last ones are kept.
    warnings = [
        f"   ! {'port ' if ask.kind == 'port' else ''}{printable(ask.subject)}: {printable(ask.warning)}"
        for ask in asks
        if ask.warning
    ]
    if not warnings:
        return []
    shown = warnings if most is None else warnings[-most:]
    left = [f"     ... {len(warnings) - len(shown)} more of these"] if len(shown) < len(warnings) else []
    return ["  look closely at", *left, *shown]
