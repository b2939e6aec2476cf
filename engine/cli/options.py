"""Arguments and options that several commands share, with their shell completion."""

from __future__ import annotations

import functools
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from engine.cli.json_errors import note_json
from engine.cli.suggestions import complete_hosts

F = TypeVar("F", bound=Callable[..., Any])


def complete_names(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[str]:
    """The names of all sandboxes."""
    from engine.errors import EngineError
    from engine.lifecycle.selection import names_of_sandboxes, open_layout

    try:
        return [name for name in names_of_sandboxes(open_layout()) if name.startswith(incomplete)]
    except (EngineError, OSError):
        return []  # an error cannot be shown while the user types a line


def complete_services(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[str]:
    """The services of the sandbox that the command line names so far, or of this project's sandbox."""
    from engine.errors import EngineError
    from engine.lifecycle.selection import choose, open_layout

    try:
        instance = choose(open_layout(), ctx.params.get("name")).instance
    except (EngineError, OSError):
        return []
    return [name for name in sorted(instance.services) if name.startswith(incomplete)] if instance else []


def name_argument(function: F) -> F:
    """The argument [NAME]: the sandbox."""
    return click.argument("name", required=False, shell_complete=complete_names)(function)


def name_option(function: F) -> F:
    """The option -n NAME: the sandbox, for commands whose arguments mean something else."""
    text = "The sandbox; default: the one of this project."
    return click.option("-n", "--name", metavar="NAME", help=text, shell_complete=complete_names)(function)


def path_argument(function: F) -> F:
    """The argument [PATH]: a Sandboxfile or its directory."""
    return click.argument("path", required=False, type=click.Path(path_type=Path))(function)


def detach_keys_option(function: F) -> F:
    """The option --detach-keys; the command gets `detach_keys`."""
    return click.option(
        "--detach-keys",
        metavar="KEYS",
        help="The keys that detach this terminal, such as ctrl-p,ctrl-q; none for none. Default: what the variable"
        " SANDBOX_DETACH_KEYS says, else detach_keys in your config.yaml (docs/state.md), else ctrl-\\,ctrl-d.",
    )(function)


def json_option(text: str, note: Callable[..., bool] = note_json) -> Callable[[F], F]:
    """The option --json, with `text` as its help; `note` remembers that it was given."""
    # It is read before the other options: their mistakes are errors for whoever reads JSON, too.
    return click.option("--json", "as_json", is_flag=True, is_eager=True, callback=note, help=text)


def follow_option(function: F) -> F:
    """The option -f: wait for more output."""
    return click.option("-f", "--follow", is_flag=True, help="Wait for more, until ^C.")(function)


def file_options(function: F) -> F:
    """The options -f FILE, --set PATH=VALUE and --profile NAME, which override the file.

    The command gets `files` and `assignments`; a profile is an assignment, too.
    """
    over = click.option(
        "-f",
        "--file",
        "files",
        multiple=True,
        metavar="FILE",
        type=click.Path(path_type=Path),
        help="Lay FILE over the Sandboxfile; may be given several times.",
    )
    return over(assignment_option(_profile_option(function)))


def _profile_option(function: F) -> F:
    """The option --profile NAME, as what it stands for: `--set profiles+=NAME`."""

    @functools.wraps(function)
    def with_profiles(*args: Any, assignments: tuple[str, ...], profiles: tuple[str, ...], **others: Any) -> Any:
        added = tuple(f"profiles+={json.dumps(name)}" for name in profiles)
        return function(*args, assignments=(*assignments, *added), **others)

    text = "Also run the services of this profile; may be given several times. COMPOSE_PROFILES counts, too."
    return click.option("--profile", "profiles", multiple=True, metavar="NAME", help=text)(with_profiles)  # type: ignore[return-value]


def assignment_option(function: F) -> F:
    """The option --set PATH=VALUE, which overrides values of the file. The command gets `assignments`."""
    return click.option(
        "--set",
        "assignments",
        multiple=True,
        metavar="PATH=VALUE",
        help="Set one value, such as machine.memory=8GiB; `endpoints+=npm` adds to a list.",
    )(function)


def build_in_option(function: F) -> F:
    """The option --build-in; the command gets `build_in`."""
    return click.option(
        "--build-in",
        type=click.Choice(["auto", "native", "builder"]),
        default="auto",
        show_default=True,
        help="Where the guest image is built: on this host, or in a machine that needs no privilege.",
    )(function)


def progress_option(function: F) -> F:
    """The option --progress; the command gets `progress`."""
    return click.option(
        "--progress",
        type=click.Choice(["auto", "plain", "quiet", "json"]),
        default="auto",
        show_default=True,
        help="How progress is shown on standard error; auto: live on a terminal, else plain lines.",
    )(function)


def saying_options(verb: str) -> Callable[[F], F]:
    """What `allow` and `deny` are told: hosts, for how long, which requests, and whether it is kept."""
    doing = verb.capitalize()
    options = (
        click.argument("hosts", metavar="HOST...", nargs=-1, required=True, shell_complete=complete_hosts),
        click.option("--for", "time", metavar="TIME", help="End it by itself after this time, such as 30m or 1h."),
        click.option(
            "--method", "methods", multiple=True, help=f"{doing} this HTTP method only; may be given several times."
        ),
        click.option(
            "--path", "paths", multiple=True, metavar="PATTERN", help=f"{doing} these paths only, such as /v1/**."
        ),
        click.option("--save", is_flag=True, help="Write it into the sandbox's file as well; comments and order stay."),
        click.option("--end", is_flag=True, help=f"Take back what `{verb}` said about HOST: the file decides again."),
        name_option,
        json_option("Machine-readable: `sandbox`, `said`, `temporary`."),
    )

    def decorate(function: F) -> F:
        for option in reversed(options):
            function = option(function)
        return function

    return decorate
