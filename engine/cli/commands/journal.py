"""`sandbox journal`."""

from __future__ import annotations

import functools
import json
from typing import TYPE_CHECKING, Any

import click

from engine.cli.options import follow_option, json_option, name_argument

if TYPE_CHECKING:
    from engine.state.instance_paths import InstancePaths


@click.command(
    "journal",
    epilog="""\b
Examples:
  sandbox journal --refused     what to add to endpoints, or to be glad about
  sandbox journal -f
  sandbox journal --summary     each host: how often, how much, what was asked
  sandbox journal --suggest     the endpoints that this run needed, to paste
  sandbox journal --asks        what the agent would like to reach, and why
  sandbox journal --ask         beside a sandbox whose agent has another terminal
  sandbox journal --json | jq -r .host | sort | uniq -c
""",
)
@follow_option
@click.option("--refused", is_flag=True, help="Only what was refused or failed.")
@click.option("--summary", is_flag=True, help="A line for each host, and what was asked of it; what was refused last.")
@click.option(
    "--suggest",
    is_flag=True,
    help="Print the narrowest endpoints that the run needed so far, as YAML; what was refused is in comments.",
)
@click.option("--save", is_flag=True, help="With --suggest: add to the sandbox's file what it does not allow yet.")
@click.option(
    "--ask",
    is_flag=True,
    help="Ask in this terminal about names that no endpoint names, while their connections wait, until ^C.",
)
@click.option("--asks", is_flag=True, help="What the guest asks for (`sandbox-ask` there) and nobody has decided.")
@json_option("The lines as they are: one JSON object each. Of --summary, --suggest and --asks, one object.")
@name_argument
def command(name: str | None, follow: bool, as_json: bool, save: bool, **how: bool) -> None:
    """Show what the network gateway decided: one line for each connection or request.

    If the last start of the sandbox failed, this shows the journal of that start.
    """
    from engine.cli.showing.words import find_words

    summary, suggest, refused = how["summary"], how["suggest"], how["refused"]
    if follow + summary + suggest + how["ask"] + how["asks"] > 1:
        raise click.UsageError("-f, --summary, --suggest, --ask and --asks are different things: use one of them.")
    if save and not suggest:
        raise click.UsageError("--save needs --suggest.")
    if how["ask"]:
        _ask(name)
        return
    if how["asks"]:
        _show_asks(name, as_json)
        return
    paths = find_words(name)
    if summary:
        _summarize(paths, refused, as_json)
    elif suggest:
        _suggest(paths, save, as_json)
    else:
        _print(paths, follow, refused, as_json)


def _print(paths: InstancePaths, follow: bool, refused: bool, as_json: bool) -> None:
    from engine.cli.showing.follow import print_file
    from engine.lifecycle.journal import journal_files

    *older, path = journal_files(paths.journal)
    shown = functools.partial(render, refused=refused, as_json=as_json)
    for file in older:
        print_file(file, shown)
    print_file(path, shown, follow=follow)


def _ask(name: str | None) -> None:
    from engine.cli.asking.names import ask_names, can_ask
    from engine.cli.running import run
    from engine.errors import EngineError
    from engine.lifecycle.selection import choose_running, open_layout

    layout = open_layout()
    instance, _ = choose_running(layout, name)
    if not can_ask():
        raise EngineError("nobody can be asked without a terminal: unknown names are refused as always", exit_code=2)
    run(ask_names(layout, [instance.name]))


def _show_asks(name: str | None, as_json: bool) -> None:
    from engine.cli.commands.ls import ask_lines, asks_of
    from engine.lifecycle.selection import choose, open_layout

    listed = choose(open_layout(), name)
    if as_json:
        click.echo(json.dumps({"version": 1, "sandbox": listed.name, "asks": asks_of(listed)}, indent=2))
        return
    for line in ask_lines(listed) or [f"{listed.name} asks for nothing that you have not decided about"]:
        click.echo(line)


def _summarize(paths: InstancePaths, refused: bool, as_json: bool) -> None:
    from engine.cli.showing import traffic as shown
    from engine.lifecycle.journal import journal_lines
    from engine.lifecycle.selection import open_layout
    from engine.lifecycle.traffic import traffic_of
    from engine.lifecycle.unneeded import unneeded_in

    unneeded = unneeded_in(open_layout(), paths.directory.name)
    found = traffic_of(journal_lines(paths.journal))
    found = [one for one in found if one.refused or (one.is_needed and not refused)]
    if as_json:
        hosts = [shown.to_json(one, unneeded) for one in found]
        click.echo(json.dumps({"version": 1, "sandbox": paths.directory.name, "hosts": hosts}, indent=2))
    elif found:
        click.echo(shown.render(found, refused_only=refused, unneeded=unneeded))


def _suggest(paths: InstancePaths, save: bool, as_json: bool) -> None:
    from engine.lifecycle import suggesting
    from engine.lifecycle.selection import open_layout

    found = suggesting.suggest_endpoints(open_layout(), paths)
    saved = suggesting.save(found) if save else None
    if as_json:
        click.echo(json.dumps({"version": 1, "sandbox": paths.directory.name, **_suggestion(found, saved)}, indent=2))
    elif saved is None:
        click.echo(found.suggestion.render(), nl=False)
    elif saved[1].outcome.added:
        from engine.cli.showing.additions import tell_entries

        tell_entries(*saved)
    else:
        click.echo(f"{saved[0].label} allows all that this run needed")


def _suggestion(found: Any, saved: Any) -> dict[str, Any]:
    def rows(entries: Any) -> list[dict[str, Any]]:
        return [{"value": one.value, "comment": one.comment} for one in entries]

    added = [entry.value for entry in saved[1].outcome.added] if saved else None
    of = found.suggestion
    return {"endpoints": rows(of.endpoints), "refused": rows(of.refused), "unused": list(of.unused), "added": added}


def render(line: str, *, refused: bool = False, as_json: bool = False) -> str | None:
    """One line of the journal as text for people, or unchanged for `as_json`; None for a line to leave out.

    The guest chose most of the words in it, so they are cleaned.
    """
    from engine.report.text import clean_line

    try:
        entry = json.loads(line)
        if refused and entry["verdict"] in ("allowed", "changed", "asked"):
            return None
        where = f"{entry['protocol'] or 'unknown'}://{entry['host'] or '?'}:{entry['port']}{entry.get('path') or ''}"
        if entry["verdict"] in ("changed", "asked"):
            where = f"{entry['host']}:{entry['port']}"
        if not entry["port"]:  # it is about the sandbox itself
            where = ""
        moved = f"{entry['bytes_in']} bytes in, {entry['bytes_out']} out" if entry["verdict"] == "allowed" else ""
        words = (entry["time"], f"{entry['verdict']:<8}", entry.get("method"), where, entry.get("reason"), moved)
    except (ValueError, KeyError, TypeError):
        return clean_line(line)
    return line if as_json else clean_line("  ".join(str(word) for word in words if word))
