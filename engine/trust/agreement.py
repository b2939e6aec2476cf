"""Whether the user agrees to what a file asks of this host. The user is asked once, and again when it asks for more."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import PurePath

from engine.errors import EngineError
from engine.state.layout import Layout
from engine.trust.approvals import Record, find_approval, identity, save_approval
from engine.trust.asks import UNCONFINED, Ask, asks_of, widened
from engine.trust.surroundings import around
from engine.trust.unnamed import Past
from sandboxfile import Loaded

ENV_FILE = ".env"


@dataclass(frozen=True)
class HostAccess:
    """The question to the user: may the file `loaded` have all of `asks`?

    `new` are those of them that the user has not agreed to yet. `record` is the approval on record, None without one.
    """

    loaded: Loaded
    asks: tuple[Ask, ...]
    new: tuple[Ask, ...]
    record: Record | None


def agree(
    loaded: Loaded,
    layout: Layout,
    ask: Callable[[HostAccess], bool | None],
    *,
    yes: bool = False,
    unconfined: bool = False,
    tell: Callable[[Ask], None] = lambda ask: None,
) -> bool:
    """Return when the file asks for nothing new, or when the user agrees; an agreement is remembered.

    Returns True where mounts may be served by a process that nothing confines; `unconfined` asks the user for that, and
    the answer is remembered, too. One call for a whole file covers all of its sandboxes (`each`).

    `ask` puts the question, and returns None where nobody is there to answer. `yes` agrees in the user's place, for
    this run only, and never to a file that a guest may have written; `tell` is then called for each new credential of a
    registry, because the file does not name those. Raises EngineError when the user does not agree, with exit code 2
    where nobody could be asked.
    """
    surroundings = around(layout, loaded, unconfined=unconfined)
    asks = asks_of(loaded, surroundings)
    if not asks:
        return False
    file = identity(loaded)
    record = find_approval(layout, file)
    before = record.approval.asks if record is not None and record.approval is not None else ()
    unconfined = unconfined or UNCONFINED in before
    new = widened(asks, before)
    if yes:
        _refuse_a_guests_files(new, surroundings.past)
        for one in new:
            if one.kind == "registry credential":
                tell(one)
        return unconfined
    if not new:
        return unconfined
    answer = ask(HostAccess(loaded, asks, new, record))
    if answer is None:
        _refuse_a_guests_files(new, surroundings.past)
        hint = "`sandbox up` on a terminal asks you and remembers; `--yes` approves this run"
        raise EngineError("nobody is here to approve that: nothing was started", hint=hint, exit_code=2)
    if not answer:
        raise EngineError("not approved: nothing was started")
    # One sandbox asks for less than all sandboxes of the file together: what was approved for the others is kept.
    kept = widened(before, asks) if loaded.agent_name is not None else ()
    save_approval(layout, file, dict.fromkeys((*asks, *kept, *((UNCONFINED,) if unconfined else ()))))
    return unconfined


def _refuse_a_guests_files(new: Iterable[Ask], past: Past) -> None:
    """Raises EngineError (exit code 2) for an unnamed file that is not approved and that a guest may have written."""
    for ask in new:
        if ask.kind != "input" or not (change := past.change(ask.subject, ask.detail)):
            continue
        name = PurePath(ask.subject).name
        named = f"name it: -f {name}" if name != ENV_FILE else f"set in the environment what it sets ({ask.note})"
        raise EngineError(
            f"{name} {change}, and a sandbox of this project could have written it: nothing was started",
            details=f"{ask.subject}, which {ask.note}\n`--yes` is not for what a guest may have written",
            hint=f"look at it, then {named}; or approve it: `sandbox up` on a terminal asks",
            exit_code=2,
        )
