"""The note that an agent finds in its home: where it is, and what it can reach. Pure.

It is written in Markdown, which all of them read. It names no place of the host and no secret.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from sandboxfile import Sandbox
from sandboxfile.compose.services import published_ports
from sandboxfile.diagnostics import printable
from sandboxfile.presets.expansion import hosts_of
from sandboxfile.sections.endpoints import Endpoint

MOST = 60  # entries of a list: agents pay for each word of their context
ASK = "sandbox-ask"


def note_for(sandbox: Sandbox, workspace: str) -> str:
    """What the agent of this sandbox should know; `workspace` is its working directory in the guest."""
    parts = [_machine(sandbox, workspace), _services(sandbox), _network(sandbox)]
    return "\n\n".join("\n".join(part) for part in parts if part) + "\n"


def _machine(sandbox: Sandbox, workspace: str) -> list[str]:
    found = [
        "# This machine",
        "",
        "You work in a sandbox: a virtual machine of your own, in which everything is allowed. `sudo` needs no"
        " password, and Debian packages can be installed where the network below has their archive.",
        f"- Your working directory is {_code(workspace)}.",
    ]
    for mount in sandbox.mounts[:MOST]:
        how = {
            "rw": "a directory of the user, live: what you change there stays",
            "ro": "a directory of the user, read-only",
            "clone": "a private copy, of which the user takes over what they want: changed files, and commits",
        }[mount.mode]
        found.append(f"- {_code(mount.target)} is {how}.")
    if any(mount.mode == "rw" and mount.protect for mount in sandbox.mounts):
        found.append(
            "- In live directories git's hooks and configuration, and settings of editors and agents, are read-only:"
            " commits, branches and pushes work, `git init`, `git config` and `git remote add` do not."
            " `git config --global` does."
        )
    return [*found, "- Everything else on this machine's disk is gone when the user ends the sandbox."]


def _services(sandbox: Sandbox) -> list[str]:
    found = ["- Docker runs here, for you alone: `docker` and `docker compose` work."]
    published = published_ports(sandbox.services)
    for name in list(sandbox.services)[:MOST]:
        ports = [port for port in published if port.service == name and port.host_port is not None]
        here = [
            f"{_code(f'localhost:{port.host_port}')} (its port {port.guest_port}/{port.protocol})" for port in ports
        ]
        words = f"from here at {', '.join(here)}, and " if here else ""
        found.append(f"- The service {_code(name)} runs: {words}from containers of its project by that name.")
    for port in sandbox.ports[:MOST]:
        found.append(f"- What listens on port {port.guest} here is published to the user.")
    return found


def _network(sandbox: Sandbox) -> list[str]:
    found = [
        "## Network",
        "",
        "Only these names can be reached, from containers and builds, too. Everything else is refused at once.",
    ]
    allowed = [endpoint for endpoint in sandbox.endpoints if not endpoint.deny]
    found += [f"- {line}" for line in _lines(allowed)] or ["- none"]
    denied = [endpoint.host for endpoint in sandbox.endpoints if endpoint.deny and endpoint.host]
    if denied:
        found.append(f"- never: {', '.join(map(_code, denied[:MOST]))}")
    if any(endpoint.secret for endpoint in allowed):
        found.append(
            "- Credentials that you find here are placeholders; the real ones are put into requests outside, for these"
            " names alone. There is no use in printing or changing them."
        )
    found.append(f"- To ask the user for another name: {_code(f'{ASK} HOST --why TEXT')}. Only the user can allow it.")
    return found


def _lines(endpoints: Sequence[Endpoint]) -> Iterator[str]:
    for endpoint in endpoints[:MOST]:
        yield _endpoint(endpoint)
    if len(endpoints) > MOST:
        yield f"and {len(endpoints) - MOST} more"


def _endpoint(endpoint: Endpoint) -> str:
    narrow = [*([", ".join(endpoint.methods)] if endpoint.methods else []), *map(_code, endpoint.paths[:MOST])]
    only = f", only {' '.join(narrow)}" if narrow else ""
    if endpoint.github:
        words = ", ".join(endpoint.access) or "read"
        pushes = f", push to {', '.join(map(_code, endpoint.push))}" if endpoint.push else ""
        return f"{', '.join(_code(f'github.com/{name}') for name in endpoint.github)}: {words}{pushes}"
    if endpoint.group is not None:
        hosts = hosts_of(endpoint)
        words = f" ({', '.join(endpoint.access)})" if endpoint.access else ""
        return f"the group {endpoint.group}{words}{': ' + ', '.join(map(_code, hosts)) if hosts else ''}"
    name = endpoint.as_ or endpoint.host or ""
    port = f":{endpoint.port}" if endpoint.port is not None else ""
    what = " (a service of the user's computer)" if endpoint.host == "localhost" else ""
    protocol = f" ({endpoint.protocol})" if endpoint.protocol == "tcp" else ""
    return f"{_code(f'{name}{port}')}{protocol}{what}{only}"


def _code(text: str) -> str:
    """As code, on one line: what a file says is neither a mark of Markdown nor a line of its own."""
    return f"`{printable(text).replace('`', '')}`"
