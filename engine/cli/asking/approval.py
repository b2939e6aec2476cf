"""Asking the person at the terminal about what a file asks of this host, and about replacing a machine."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from engine.lifecycle.audience import Replacement
    from engine.lifecycle.sign_in import MissingCredential
    from engine.plan.changes import Change
    from engine.trust.agreement import HostAccess
    from engine.trust.asks import Ask


def ask_host_access(question: HostAccess) -> bool | None:
    """Show what the file asks of this host and ask; None where there is no terminal."""
    _show(question)
    if not (sys.stdin.isatty() and sys.stderr.isatty()):
        return None
    try:
        return click.confirm("Allow this?", err=True)
    except click.Abort:
        click.echo(err=True)
        return False


def ask_replacement(question: Replacement) -> bool | None:
    """Show why the sandbox needs a new machine, and ask. Where there is no terminal, show nothing and return None."""
    from engine.lifecycle.up import LOST

    if not sys.stdin.isatty():
        return None
    show_changes(question.name, question.changes)
    return click.confirm(f"This needs a new machine; {LOST}. Replace {question.name}?", err=True)


def show_changes(name: str, changes: tuple[Change, ...]) -> None:
    """Show what a running sandbox has to change to be what its file says now."""
    from engine.plan.changes import render

    click.echo(f"{name} runs, and its file asks for something else now:", err=True)
    click.echo(render(changes), nl=False, err=True)


def warn_of_credential(ask: Ask) -> None:
    """Show the credential that `--yes` has just agreed to: the file does not name it, so its reader cannot know."""
    from sandboxfile.diagnostics import printable

    credential = f"{printable(ask.subject)} ({ask.note}): {ask.warning}"
    hint = "give the client a URL without it, or list the registry's host instead of the group"
    click.echo(f"warning: {credential}\n  hint: {hint}", err=True)


def ask_without(missing: MissingCredential) -> bool | None:
    """Whether to start although the agent cannot sign in. Without a terminal, show nothing and return None."""
    if not (sys.stdin.isatty() and sys.stderr.isatty()):
        return None
    warn_of_missing(missing)
    try:
        return click.confirm(f"Start {missing.sandbox} without it?", default=True, err=True)
    except click.Abort:
        click.echo(err=True)
        return False


def warn_of_missing(missing: MissingCredential) -> None:
    """Show what the agent lacks, where it was looked for, and what sets it."""
    from sandboxfile.diagnostics import printable

    click.echo(f"warning: {printable(missing.brief)}", err=True)
    for place in missing.looked:
        click.echo(f"  {printable(place)}", err=True)
    click.echo(f"  hint: {printable(missing.hint)}", err=True)


def _show(question: HostAccess) -> None:
    from engine.cli.showing.asks import MOST, render
    from sandboxfile.diagnostics import printable

    record = question.record
    if record is not None and record.note is not None:
        click.echo(f"note: {printable(record.note)}: it counts as not approved", err=True)
    more = record is not None and record.approval is not None
    asked = "asks more of this host than you approved (+)" if more else "asks this host for"
    click.echo(f"{printable(str(question.loaded.path))} {asked}:", err=True)
    click.echo(render(question.asks, frozenset(question.new), MOST), err=True)
