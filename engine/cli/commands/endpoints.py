"""`sandbox endpoints`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from engine.cli.options import json_option
from engine.cli.suggestions import complete_presets

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sandboxfile.presets.definition import Access, Preset, Requests

_BODIES = {"push": "the body is judged by `push` and `changes`", "lfs-download": "the body must be a download"}


@click.group(
    "endpoints",
    invoke_without_command=True,
    epilog="""\b
Examples:
  sandbox endpoints ls
  sandbox endpoints show github
  sandbox endpoints show npm --json | jq -r '.hosts[]'
""",
)
@click.pass_context
def command(ctx: click.Context) -> None:
    """List the groups and presets that an endpoint can name, and show what each stands for."""
    if ctx.invoked_subcommand is None:
        click.echo(ctx.get_help())


@command.command("ls")
@json_option("Machine-readable: an array of objects.")
def list_command(as_json: bool) -> None:
    """List groups and presets: how each is written, and the words that its `access` has."""
    from engine.lifecycle.endpoints import list_presets
    from engine.report.columns import align

    found = list_presets()
    if as_json:
        import json
        from dataclasses import asdict

        click.echo(json.dumps([asdict(listed) for listed in found], indent=2))
        return
    rows = [(one.written, ", ".join(one.access), one.summary) for one in found]
    click.echo(align([("ENDPOINT", "ACCESS", "WHAT IT IS"), *rows]))


@command.command("show")
@click.argument("name", shell_complete=complete_presets)
@json_option("Machine-readable: everything of the preset's file, and the hosts of a group.")
def show_command(name: str, as_json: bool) -> None:
    """Show every request that a group or preset allows, for each access, and where each fact is from."""
    from engine.lifecycle.endpoints import described, find_preset

    preset = find_preset(name)
    data = described(preset)
    if as_json:
        import json

        click.echo(json.dumps(data, indent=2))
        return
    click.echo("\n".join(_page(preset, data.get("hosts"), data.get("origin"))))


def _page(preset: Preset, hosts: list[str] | None, origin: str | None) -> Iterator[str]:
    from engine.lifecycle.endpoints import accesses, written

    yield f"{preset.title}: {preset.summary}"
    yield f"  - {written(preset)}"
    if hosts is not None:
        yield f"\nIts hosts, from the {origin}: {', '.join(hosts) or 'not known here'}"
        yield "Without `access` everything may be asked of them."
    for heading, access in accesses(preset):
        yield f"\n{heading}: {access.summary}"
        yield from _access(access)
    if preset.limits:
        yield "\nNot allowed, or not told apart:"
        yield from (f"  - {limit}" for limit in preset.limits)
    yield "\nSources:"
    for name, evidence in preset.sources.items():
        yield f"  {name} ({evidence.date}): {evidence.url or evidence.seen}"


def _access(access: Access) -> Iterator[str]:
    for requests in access.requests:
        yield from (f"  {line}" for line in _lines(requests))
        yield f"      {requests.why}{_marks(requests)} [{requests.source}]"
    if access.note:
        yield f"  note: {access.note}"


def _lines(requests: Requests) -> Iterator[str]:
    yield from (f"{', '.join(requests.methods)} {requests.host}{path}" for path in requests.paths or ("/**",))


def _marks(requests: Requests) -> str:
    marks = ["with the secret"] if requests.secret else []
    marks += [_BODIES[requests.body]] if requests.body else []
    return f" ({'; '.join(marks)})" if marks else ""
