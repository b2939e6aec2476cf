"""Both sides of a clone with one content: what each has changed since the base, and where it goes.

What comes out of the clone goes by the plan of `apply`, and by nothing else. What goes in is what the host has changed
alone; what both have changed is that plan's, too, and where it merges, both get what was merged.
"""

from __future__ import annotations

import posixpath
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

from engine.clones.applying import Host, Step, plan_apply
from engine.clones.base import Base, Entry
from engine.clones.changes import Change, Changes
from engine.clones.interrupted import Intent
from engine.clones.putting import Put
from engine.errors import EngineError

Action = Literal["to host", "to copy", "merge", "same", "conflict", "held back", "refused"]
Ways = Literal["both", "from host", "to host"]
_IGNORED = "git ignored it when the copy was made"
_COLLISION = "a file and a directory of one name: make them one by hand"


@dataclass(frozen=True)
class Crossing:
    """What becomes of one file. `word` says what has become of it since the base: new, changed or gone.

    `step` is done on the host, and `put` in the clone. `common` is what the base becomes, None for no such file; it
    counts where the two sides `meet`. `intent` is of what both sides get merged.
    """

    path: str
    word: str
    action: Action
    why: str = ""
    step: Step | None = None
    put: Put | None = None
    meet: bool = False
    common: tuple[Entry, bytes] | None = field(default=None, repr=False)
    intent: Intent | None = None

    def refused(self, why: str) -> Crossing:
        return Crossing(self.path, self.word, "refused", why)


def plan_sync(
    outgoing: Changes,
    incoming: Changes,
    host: Host,
    *,
    ways: Ways = "both",
    chosen: Callable[[str], bool] = lambda path: True,
    named: Iterable[str] = (),
    obeyed: Iterable[str] = (),
    hidden: Callable[[str], bool] = lambda path: False,
    unfinished: Mapping[str, Intent] | None = None,
) -> list[Crossing]:
    """What becomes of each file that one of the sides has changed, by path.

    `outgoing` is what the clone has changed, `incoming` what the host has. `named` and `obeyed` are as for
    `plan_apply`. Of what is `hidden` nothing comes out. `unfinished` is what a sync before this one was to merge.
    """
    out = {change.path: change for change in outgoing.found if chosen(change.path)}
    hides = [path for path in out if hidden(path)]
    steps = plan_apply(outgoing, host, [out[path] for path in out if path not in hides], named, obeyed)
    found = [Crossing(path, out[path].word, "refused", "it is hidden from the sandbox") for path in hides]
    for step in steps:
        intent = (unfinished or {}).get(step.change.path)
        step = _finish(outgoing, host, step, intent) if intent is not None else step
        found.append(_of_clone(outgoing, host, step, ways))
    alone = [one for one in incoming.found if chosen(one.path) and one.path not in out]
    found += _of_host(incoming, outgoing, alone, tuple(named))
    if ways == "to host":
        found = [one for one in found if one.path in out]
    elif ways == "from host":
        theirs = {change.path for change in incoming.found}
        found = [one for one in found if one.path in theirs and one.action != "to host"]
    return sorted(found, key=lambda one: one.path)


def check_not_emptied(changes: Changes, side: str) -> None:
    """Raises EngineError where all that was copied is gone, which is an accident more often than a wish."""
    gone = sum(change.after is None for change in changes.found)
    if gone > 1 and gone == len(changes.base.entries):
        raise EngineError(
            f"nothing was synced: all {gone} files that were copied are gone {side}",
            hint="name the paths if that is what you want",
        )


def _finish(outgoing: Changes, host: Host, step: Step, intent: Intent) -> Step:
    """The merge of a sync that was killed: where one side has it already, and the other is as it was, it is the same
    merge, which merging once more may not find."""
    after, merged = step.change.after, intent.after
    if step.action not in ("merge", "conflict") or after is None or merged is None:
        return step
    seen = host.look(step.change.path)
    here, content = seen if seen is not None else (None, b"")
    if here is not None and here.same_as(merged) and after.same_as(intent.copy):
        return Step(step.change, "merge", "", here, here, content)
    if after.same_as(merged) and here is not None and here.same_as(intent.here):
        return Step(step.change, "merge", "", here, after, outgoing.after(step.change))
    return step


def _of_clone(outgoing: Changes, host: Host, step: Step, ways: Ways) -> Crossing:
    change, after = step.change, step.change.after
    one = Crossing(change.path, change.word, "same", step.why, meet=True)
    if after is not None:
        one = replace(one, common=(after, outgoing.after(change)))
    if step.action == "merge":
        return _merged(one, step, host, ways)
    if step.action == "same":
        return one
    if step.action == "write" or step.action == "remove":
        return replace(one, action="to host", step=step)
    return Crossing(change.path, change.word, step.action, step.why)


def _merged(one: Crossing, step: Step, host: Host, ways: Ways) -> Crossing:
    after, here, merged = step.change.after, step.here, step.entry
    assert after is not None and here is not None and merged is not None, "what is merged is there on both sides"
    merged = merged._replace(mtime_ns=0)
    to_host = step if not merged.same_as(here) else None
    put = Put(step.change.path, after, merged, step.content) if not merged.same_as(after) else None
    if ways == "to host":  # the copy stays as it is, and the base is what it has
        return replace(one, action="merge", step=to_host)
    if ways == "from host":  # the reverse
        seen = host.look(step.change.path)
        if seen is None or not seen[0].same_as(here):
            return one.refused("it was changed meanwhile on this host")
        return replace(one, action="merge", put=put, common=seen)
    intent = Intent(one.path, here, after, merged)
    return replace(one, action="merge", step=to_host, put=put, common=(merged, step.content), intent=intent)


def _of_host(incoming: Changes, outgoing: Changes, alone: Sequence[Change], named: tuple[str, ...]) -> list[Crossing]:
    """What the host alone has changed. Where a file and a directory have one name, all of it stays as it is."""
    files = outgoing.base.entries.keys() | {one.path for one in outgoing.found if one.after is not None}
    files -= {one.path for one in outgoing.found if one.after is None}
    above = {up for path in files for up in _above(path)}
    refused = {
        change.path
        for change in alone
        if change.after is not None and (change.path in above or not files.isdisjoint(_above(change.path)))
    }
    refused_above = {up for path in refused for up in _above(path)}
    found = []
    for change in alone:
        one = Crossing(change.path, change.word, "to copy", meet=True)
        if change.path in refused or change.path in refused_above or not refused.isdisjoint(_above(change.path)):
            found.append(one.refused(_COLLISION))
            continue
        if change.before is None and _is_withheld(incoming.base, change.path, named):
            found.append(Crossing(change.path, change.word, "held back", _IGNORED))
            continue
        content = incoming.after(change)
        common = None if change.after is None else (change.after._replace(mtime_ns=0), content)
        put = Put(change.path, change.before, change.after, content)
        found.append(replace(one, put=put, common=common))
    return found


def _is_withheld(base: Base, path: str, named: tuple[str, ...]) -> bool:
    """Whether git ignored the file when the copy was made, and the user has named neither it nor what was ignored
    around it: another branch that is checked out may have another `.gitignore`."""
    names = [name for name in named if path == name or path.startswith(f"{name}/")]
    return base.was_ignored(path) and not any(map(base.was_ignored, names))


def _above(path: str) -> list[str]:
    found = []
    while path := posixpath.dirname(path):
        found.append(path)
    return found
