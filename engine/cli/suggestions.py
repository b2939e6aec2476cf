"""What `sandbox add` suggests while the user types a line: names of the file, and hosts that the gateway refused."""

from __future__ import annotations

import contextlib
import json
import os
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import click

_LOOKED_AT = 256 * 1024  # bytes at the end of the journal
_HOST = re.compile(r"[a-z0-9_.-]{1,253}")  # the guest chose the name, so no character that is special to a shell
_WEB_PORTS = (80, 443)


def complete_hosts(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[str]:
    """The hosts that the gateway refused to this project's sandbox, the latest first, and the groups."""
    from sandboxfile.names import NAMED

    return _beginning([*_refused(), *NAMED], incomplete)


def complete_presets(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[str]:
    """The groups and presets."""
    from sandboxfile.names import PRESETS

    return _beginning(PRESETS, incomplete)


def complete_secrets(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[str]:
    """The secrets that the file declares."""
    return _beginning(_section(ctx, "secrets"), incomplete)


def complete_services(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[str]:
    """The file's services."""
    return _beginning(_section(ctx, "services"), incomplete)


def complete_agents(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[str]:
    """The file's agents."""
    return _beginning(_section(ctx, "agents"), incomplete)


def _beginning(words: Iterable[str], incomplete: str) -> list[str]:
    return [word for word in dict.fromkeys(words) if word.startswith(incomplete)]


def _section(ctx: click.Context, name: str) -> list[str]:
    """The keys of one section of the Sandboxfile that the line names, without what lies over it."""
    from engine.errors import EngineError
    from engine.lifecycle.project_file import locate
    from sandboxfile.reading.regular_file import read_within
    from sandboxfile.reading.source import MAX_BYTES, read_source

    try:
        path = locate(ctx.params.get("path"))
        data: Any = read_source(read_within(path.parent, path, MAX_BYTES), path.name).data
    except (EngineError, OSError, ValueError):
        return []  # an error cannot be shown while the user types a line
    section = data.get(name) if isinstance(data, dict) else None
    return list(section) if isinstance(section, dict) else []


def _refused() -> list[str]:
    """HOST or HOST:PORT of each refusal in the journal of this project's sandbox, the latest first."""
    from engine.errors import EngineError
    from engine.lifecycle.selection import find, open_layout

    try:
        layout = open_layout()
        listed = find(layout, None)
        lines = _tail(layout.instance(listed.name).journal) if listed else []
    except (EngineError, OSError):
        return []
    hosts = []
    for line in reversed(lines):
        with contextlib.suppress(ValueError, KeyError, TypeError):
            entry = json.loads(line)
            if entry["verdict"] in ("refused", "asked") and _HOST.fullmatch(entry["host"]):
                port = entry["port"]
                hosts.append(entry["host"] if port in _WEB_PORTS else f"{entry['host']}:{int(port)}")
    return hosts


def _tail(path: Path) -> list[bytes]:
    with path.open("rb") as file:
        size = file.seek(0, os.SEEK_END)
        file.seek(max(0, size - _LOOKED_AT))
        return file.read().splitlines()
