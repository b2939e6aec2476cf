"""`sandbox add`."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from engine.cli.options import json_option
from engine.cli.suggestions import complete_agents, complete_hosts, complete_secrets, complete_services

if TYPE_CHECKING:
    from sandboxfile.writing.additions import Addition

F = TypeVar("F", bound=Callable[..., Any])


def _options(of_agent: bool = True) -> Callable[[F], F]:
    """The options that all commands of this group share."""
    options = [
        click.option(
            "--file",
            "path",
            metavar="FILE",
            type=click.Path(path_type=Path),
            help="The file to change, such as Sandboxfile.local.yaml; default: the nearest Sandboxfile.yaml upwards.",
        ),
        click.option("--dry-run", is_flag=True, help="Print the change as a diff and write nothing."),
        json_option("Machine-readable: `file`, `added`, `present`."),
    ]
    if of_agent:
        text = "Add it to this entry of `agents`, and not for all of them."
        options.insert(0, click.option("--agent", metavar="NAME", help=text, shell_complete=complete_agents))

    def decorate(function: F) -> F:
        return functools.reduce(lambda decorated, option: option(decorated), reversed(options), function)

    return decorate


@click.group(
    "add",
    invoke_without_command=True,
    epilog="""\b
Examples:
  sandbox add endpoint api.example.com
  sandbox add package ripgrep jq
  sandbox add service redis --image redis:7 --port 6379
  sandbox add mount ../docs:/docs:ro --file Sandboxfile.local.yaml
  sandbox add endpoint npm --dry-run
""",
)
@click.pass_context
def command(ctx: click.Context) -> None:
    """Add an entry to the Sandboxfile, in place: comments, order and everything else stay as they are.

    What is there already is left alone. A file that would not be valid afterwards is not written.
    """
    if ctx.invoked_subcommand is None:
        click.echo(ctx.get_help())


@command.command(
    "endpoint",
    epilog="""\b
Examples:
  sandbox add endpoint npm api.example.com db.example.com:5432
  sandbox add endpoint api.github.com --method GET --path '/repos/acme/**' --secret github
  sandbox add endpoint localhost --port 11434 --as ollama
  sandbox add endpoint github:acme/shop --push 'agent/*' --secret github
  sandbox add endpoint ads.example.com --deny
""",
)
@click.argument("hosts", metavar="HOST...", nargs=-1, required=True, shell_complete=complete_hosts)
@click.option("--port", type=click.IntRange(1, 65535), help="Port; default: 443 and 80.")
@click.option("--protocol", type=click.Choice(["https", "http", "tcp"]), help="tcp is anything that is not HTTP.")
@click.option("--method", "methods", multiple=True, help="Allow this HTTP method only; may be given several times.")
@click.option("--path", "paths", multiple=True, metavar="PATTERN", help="Allow these paths only, such as /v1/**.")
@click.option("--access", multiple=True, metavar="WORD", help="What a group or repository is for, such as read.")
@click.option("--push", multiple=True, metavar="REF", help="Branches of a repository to push to, such as 'agent/*'.")
@click.option("--secret", metavar="NAME", help="The secret that requests carry.", shell_complete=complete_secrets)
@click.option("--secret-in", multiple=True, metavar="PLACE", help="Where they carry it: header, query or body.")
@click.option("--foreign-credentials", is_flag=True, help="Let requests carry other credentials, too.")
@click.option("--as", "as_", metavar="NAME", help="The guest's name for a service of this host.")
@click.option("--private", is_flag=True, help="The name may lead into your private network.")
@click.option("--intercept", is_flag=True, help="Look inside TLS although nothing else needs it.")
@click.option("--bypass", is_flag=True, help="Never look inside TLS: for clients that pin certificates.")
@click.option("--deny", is_flag=True, help="Refuse instead of allow.")
@_options()
def add_endpoint(hosts: tuple[str, ...], agent: str | None, path: Path | None, **rest: Any) -> None:
    """Let the guest reach HOST: a name, HOST:PORT, *.DOMAIN, a group such as npm, or github:OWNER/REPOSITORY."""
    from engine.cli.entries import endpoint_entry
    from sandboxfile.names import NAMED

    rules = {"port": rest["port"], "protocol": rest["protocol"], "as": rest["as_"], "secret": rest["secret"]}
    methods = [method.upper() for method in rest["methods"]]
    rules |= {"methods": methods, "paths": list(rest["paths"]), "deny": rest["deny"]}
    rules |= {"access": list(rest["access"]), "push": list(rest["push"]), "secret_in": list(rest["secret_in"])}
    rules |= {key: rest[key] for key in ("private", "intercept", "bypass")}
    rules |= {"foreign_credentials": "allow" if rest["foreign_credentials"] else None}
    values = [endpoint_entry(host, groups=NAMED, **rules) for host in hosts]
    _add(_listed("endpoints", agent, values), path, rest)


@command.command(
    "mount",
    epilog="""\b
Examples:
  sandbox add mount ../docs:/docs:ro
  sandbox add mount .:/workspace --hide .env --local node_modules
""",
)
@click.argument("mounts", metavar="SOURCE:TARGET[:MODE]...", nargs=-1, required=True)
@click.option("--mode", type=click.Choice(["rw", "ro", "clone"]), help="rw: live; ro: read-only; clone: a copy.")
@click.option("--hide", multiple=True, metavar="PATTERN", help="Files that the guest must not see.")
@click.option("--local", multiple=True, metavar="DIR", help="A directory that lives on the guest's own disk.")
@_options()
def add_mount(mounts: tuple[str, ...], agent: str | None, path: Path | None, **rest: Any) -> None:
    """Show the guest a directory. SOURCE is relative to the file, TARGET is a path in the guest."""
    from engine.cli.entries import mount_entry

    values = [mount_entry(word, rest["mode"], rest["hide"], rest["local"]) for word in mounts]
    _add(_listed("mounts", agent, values), path, rest)


@command.command(
    "port",
    epilog="""\b
Examples:
  sandbox add port 3000:3000
  sandbox add port 8000            on a free port of this host
""",
)
@click.argument("ports", metavar="[HOST:]GUEST...", nargs=-1, required=True)
@_options()
def add_port(ports: tuple[str, ...], agent: str | None, path: Path | None, **rest: Any) -> None:
    """Offer a port of the guest on this host's loopback address."""
    from engine.cli.entries import port_entry

    _add(_listed("ports", agent, [port_entry(word) for word in ports]), path, rest)


@command.command(
    "package",
    epilog="""\b
Examples:
  sandbox add package ripgrep jq
""",
)
@click.argument("packages", metavar="NAME...", nargs=-1, required=True)
@_options()
def add_package(packages: tuple[str, ...], agent: str | None, path: Path | None, **rest: Any) -> None:
    """Install Debian packages in the guest."""
    _add(_listed("packages", agent, list(packages)), path, rest)


@command.command(
    "service",
    epilog="""\b
Examples:
  sandbox add service redis --image redis:7 --port 6379
  sandbox add service db --image postgres:17 --env POSTGRES_PASSWORD=dev \\
      --volume data:/var/lib/postgresql/data --healthcheck 'pg_isready -U postgres'
  sandbox add service web --build ./web --depends-on db --port 8080:80
""",
)
@click.argument("name")
@click.option("--image", help="The container image.")
@click.option("--build", metavar="DIR", help="Build the image from this directory of the project.")
@click.option("--command", "start", metavar="COMMAND", help="Run this instead of the image's own command.")
@click.option("--env", multiple=True, metavar="K=V", help="An environment variable.")
@click.option("--volume", "volumes", multiple=True, metavar="SOURCE:TARGET", help="A directory, or a named volume.")
@click.option(
    "--depends-on",
    multiple=True,
    metavar="SERVICE",
    help="Start after this service; if it has a health check, when it is healthy.",
    shell_complete=complete_services,
)
@click.option(
    "--port", "ports", multiple=True, metavar="[HOST:]PORT", help="Publish a port; without HOST, under its own number."
)
@click.option("--healthcheck", metavar="COMMAND", help="The command that says whether it is healthy.")
@_options(of_agent=False)
def add_service(name: str, path: Path | None, dry_run: bool, as_json: bool, **words: Any) -> None:
    """Run a service in the guest's own Docker; a named volume is declared as well."""
    from engine.cli.entries import declared_volumes, service_entry
    from sandboxfile.writing.additions import Addition

    entry = service_entry(**words, others=_services(path))
    additions = [Addition(("services",), entry, name), *declared_volumes(words["volumes"])]
    _add(additions, path, {"dry_run": dry_run, "as_json": as_json})


@command.command(
    "secret",
    epilog="""\b
Examples:
  sandbox add secret github --env GH_TOKEN
  sandbox add endpoint api.github.com --secret github
""",
)
@click.argument("name")
@click.option("--env", metavar="VARIABLE", help="Your environment's variable that holds the value.")
@click.option("--from", "file", metavar="FILE", help="Your file that holds the value.")
@click.option("--keyring", metavar="ENTRY", help="The entry of your keyring that holds it; default: the one of NAME.")
@_options(of_agent=False)
def add_secret(
    name: str, path: Path | None, env: str | None, file: str | None, keyring: str | None, **rest: Any
) -> None:
    """Declare a secret: its name, and where its value comes from. The value itself never enters the file."""
    from sandboxfile.writing.additions import Addition

    value = {key: given for key, given in (("env", env), ("file", file), ("keyring", keyring)) if given}
    _add([Addition(("secrets",), value, name)], path, rest)


def _listed(section: str, agent: str | None, values: Sequence[Any]) -> list[Addition]:
    from sandboxfile.writing.additions import Addition

    place = ("agents", agent, section) if agent else (section,)
    return [Addition(place, value) for value in values]


def _services(path: Path | None) -> dict[str, Any]:
    """The services that the file has already, as they are written."""
    from engine.lifecycle.edit import Edited
    from sandboxfile.reading.source import read_source

    edited = Edited.choose(path)
    data = read_source(edited.before or "", edited.label).data
    services = data.get("services") if isinstance(data, dict) else None
    return services if isinstance(services, dict) else {}


def _add(additions: Sequence[Addition], path: Path | None, how: dict[str, Any]) -> None:
    from engine.cli.showing.additions import add

    add(path, additions, dry_run=how["dry_run"], as_json=how["as_json"])
