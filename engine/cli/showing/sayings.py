"""What `allow` and `deny` did, for people and for programs."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from engine.lifecycle.temporary import Said


def parse_time(text: str | None) -> float | None:
    """Seconds of `--for`. Raises click's error for what is no time."""
    if text is None:
        return None
    from sandboxfile.quantities import parse_duration

    try:
        seconds = parse_duration(text)
    except ValueError as error:
        raise click.BadParameter(f"{error}, got {text!r}", param_hint="--for") from None
    if not seconds:
        raise click.BadParameter("no time at all", param_hint="--for")
    return float(seconds)


def say_all(
    names: Sequence[str],
    sandbox: str | None,
    *,
    deny: bool,
    methods: Sequence[str],
    paths: Sequence[str],
    time: str | None,
    save: bool,
    end: bool,
    as_json: bool,
) -> None:
    """Carry the command out, name by name, and show what became of each. Raises EngineError at the first that fails."""
    from engine.lifecycle.selection import open_layout
    from engine.lifecycle.temporary import Saying, say, take_back

    if time is not None and save:
        raise click.UsageError("--for ends by itself and --save stays in the file: use one of them.")
    if end and (methods or paths or time or save):
        raise click.UsageError("--end takes names only.")
    layout, for_s = open_layout(), parse_time(time)
    done = []
    for name in names:
        if end:
            said = asyncio.run(take_back(layout, sandbox, name, deny=deny))
        else:
            words = tuple(method.upper() for method in methods)
            saying = Saying(name, deny, words, tuple(paths), for_s, save)
            said = asyncio.run(say(layout, sandbox, saying))
        done.append(said)
        if not as_json:
            _tell(said, deny=deny, end=end, time=time)
    if as_json:
        rows = [_to_json(said) for said in done]
        click.echo(json.dumps({"sandbox": done[-1].sandbox, "said": rows, "temporary": done[-1].temporary}, indent=2))


def _tell(said: Said, *, deny: bool, end: bool, time: str | None) -> None:
    from engine.report.text import clean_line

    until = f"for {time}" if time else "until the sandbox ends, or `--end`"
    if end:
        text = f"{said.name} is not {'denied' if deny else 'allowed'} for now any more: the file decides"
    elif said.already is not None:
        text = f"{said.name} is allowed by {said.already} already"
    else:
        text = f"{said.name} is {'denied' if deny else 'allowed'} {until}"
    if said.cut:
        text += f"; {said.cut} open connection{'s were' if said.cut > 1 else ' was'} cut"
    click.echo(clean_line(f"{said.sandbox}: {text}"))
    if said.edit is not None and said.edited is not None:
        from engine.cli.showing.additions import tell_entries

        tell_entries(said.edited, said.edit)


def _to_json(said: Said) -> dict[str, Any]:
    saved = None
    if said.edit is not None and said.edited is not None:
        entries = (*said.edit.outcome.added, *said.edit.outcome.present)
        saved = {"file": str(said.edited.file), "line": entries[0].line, "added": bool(said.edit.outcome.added)}
    return {"name": said.name, "already": said.already, "cut": said.cut, "saved": saved}
