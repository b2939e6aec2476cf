"""What the groups and presets stand for, as values for people and programs."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from engine.errors import EngineError
from engine.resolve.clients import RegistryError
from engine.resolve.registries import resolve_group
from sandboxfile.diagnostics import did_you_mean, one_of, quote
from sandboxfile.names import GROUPS, NAMED, PARAMETERISED, PRESETS
from sandboxfile.presets.definition import Access, Preset, load_preset, words_of

KNOWN = tuple(sorted({*NAMED, *PARAMETERISED}))


@dataclass(frozen=True)
class Listed:
    """One line of the list. `written` is the shortest endpoint."""

    name: str
    written: str
    access: tuple[str, ...]
    summary: str


def list_presets() -> tuple[Listed, ...]:
    """All of them, by name. Raises SandboxfileError for a file that is broken."""
    presets = map(load_preset, KNOWN)
    return tuple(Listed(each.name, written(each), _words(each), each.summary) for each in presets)


def find_preset(name: str) -> Preset:
    """The preset called `name`. Raises EngineError (exit code 2) when there is none."""
    if name not in PRESETS:
        hint = did_you_mean(name, KNOWN) or f"there are {one_of(KNOWN)}"
        raise EngineError(f"there is no group or preset {quote(name)}", hint=hint, exit_code=2)
    return load_preset(name)


def written(preset: Preset) -> str:
    """The shortest endpoint that stands for it."""
    if preset.name in PARAMETERISED:
        return f"{{{preset.name}: OWNER/REPOSITORY}}"
    return preset.name


def described(preset: Preset) -> dict[str, Any]:
    """Everything of its file as plain data, and the registries that the hosts of a group are now."""
    data = preset.model_dump(mode="json", exclude_none=True)
    if preset.name in GROUPS:
        data["hosts"], data["origin"] = _registries(preset.name)
    return data


def accesses(preset: Preset) -> Iterator[tuple[str, Access]]:
    """(how it is written in an endpoint, what it allows)."""
    for word, access in preset.accesses():
        if word == "push":
            yield "push: [REF, ...]", access
        else:
            yield f"access: {word}" + (" (the default)" if word == preset.default else ""), access


def _registries(group: str) -> tuple[list[str], str]:
    """Where the group's hosts are on this host. Without a client here, the guest image's is asked, later."""
    try:
        found = resolve_group(group, guest_clients=None)
    except RegistryError:
        return [], "the guest image's own client, as this host has none"
    return [host if port in (80, 443) else f"{host}:{port}" for host, port in found.hosts], found.origin


def _words(preset: Preset) -> tuple[str, ...]:
    return (*words_of(preset), *(["push"] if preset.push else []))
