"""Asking the user about what a file wants of this host, once, and again when it wants more."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from pathlib import PurePath
from typing import TYPE_CHECKING

import click

from engine.errors import EngineError

if TYPE_CHECKING:
    from engine.state.layout import Layout
    from engine.trust.approvals import Record
    from engine.trust.asks import Ask
    from engine.trust.unnamed import Past
    from sandboxfile import Loaded

ENV_FILE = ".env"


def approve(loaded: Loaded, layout: Layout, yes: bool, *, unconfined: bool = False) -> bool:
    """Return when the file asks for nothing, or for nothing new, or the user agrees; then that is remembered.

    True where mounts may be served although nothing confines their server: `unconfined` asks for it, once.

    One call for a whole file covers all its sandboxes (`each`). `yes` agrees for this run and remembers nothing, but it
    does not agree to what a guest may have written. Raises EngineError when the user does not agree, and (exit code 2)
    where nobody can be asked.
    """
    from engine.cli.showing.asks import around
    from engine.trust.approvals import find_approval, identity, save_approval
    from engine.trust.asks import UNCONFINED, asks_of, widened

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
        _warn_of_credentials(new)
        return unconfined
    if not new:
        return unconfined
    _show(loaded, record, asks, new)
    if not (sys.stdin.isatty() and sys.stderr.isatty()):
        _refuse_a_guests_files(new, surroundings.past)
        hint = "`sandbox up` on a terminal asks you and remembers; `--yes` approves this run"
        raise EngineError("nobody is here to approve that: nothing was started", hint=hint, exit_code=2)
    if not _agrees():
        raise EngineError("not approved: nothing was started")
    # One sandbox of several asks for less than the file does.
    kept = widened(before, asks) if loaded.agent_name is not None else ()
    save_approval(layout, file, dict.fromkeys((*asks, *kept, *((UNCONFINED,) if unconfined else ()))))
    return unconfined


def _refuse_a_guests_files(new: Iterable[Ask], past: Past) -> None:
    """Raises EngineError (exit code 2) for a file that nobody named or approved, and that a guest may have written."""
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


def _warn_of_credentials(new: Iterable[Ask]) -> None:
    """The file has not named them, so that who reads it before `--yes` does not know."""
    from sandboxfile.diagnostics import printable

    for ask in new:
        if ask.kind == "registry credential":
            said = f"{printable(ask.subject)} ({ask.note}): {ask.warning}"
            hint = "give the client a URL without it, or list the registry's host instead of the group"
            click.echo(f"warning: {said}\n  hint: {hint}", err=True)


def _show(loaded: Loaded, record: Record | None, asks: tuple[Ask, ...], new: tuple[Ask, ...]) -> None:
    from engine.cli.showing.asks import MOST, render
    from sandboxfile.diagnostics import printable

    if record is not None and record.note is not None:
        click.echo(f"note: {printable(record.note)}: it counts as not approved", err=True)
    more = record is not None and record.approval is not None
    asked = "asks more of this host than you approved (+)" if more else "asks this host for"
    click.echo(f"{printable(str(loaded.path))} {asked}:", err=True)
    click.echo(render(asks, frozenset(new), MOST), err=True)


def _agrees() -> bool:
    try:
        return click.confirm("Allow this?", err=True)
    except click.Abort:
        click.echo(err=True)
        return False
