"""`journal --suggest` of a sandbox: its journal, beside what it runs with; and writing the result into its file."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from engine.errors import EngineError
from engine.lifecycle.suggestion import Suggestion, allows_all, suggest

if TYPE_CHECKING:
    from engine.gateway.rules import Rule
    from engine.lifecycle.edit import Edit, Edited
    from engine.lifecycle.traffic import Traffic
    from engine.resolve.endpoints import Registries
    from engine.state.instance_paths import InstancePaths
    from engine.state.instances import Instance
    from engine.state.layout import Layout


@dataclass(frozen=True)
class Suggesting:
    """A suggestion for the file of `instance`, which is None where the sandbox has left no record."""

    suggestion: Suggestion
    instance: Instance | None
    registries: Registries


def suggest_endpoints(layout: Layout, paths: InstancePaths) -> Suggesting:
    """For the sandbox with these files. Asks the host's package clients, which takes seconds. Raises EngineError."""
    from engine.lifecycle.journal import journal_lines
    from engine.lifecycle.traffic import traffic_of
    from engine.resolve.endpoints import Registries
    from engine.state.configuration import load_running
    from engine.state.instances import read_record

    name = paths.directory.name
    instance = None
    with contextlib.suppress(EngineError):
        instance = read_record(paths.record, name)
    running = load_running(layout, name)
    registries, filed = Registries(), []
    if running is not None:
        filed = list(running.configuration.sandbox.get("endpoints", ()))
        if Path(running.image).is_dir():
            registries = Registries.of_image(Path(running.image))
    traffic = traffic_of(journal_lines(paths.journal))
    groups = _groups(registries, traffic)
    return Suggesting(suggest(traffic, filed, groups), instance, registries)


def save(suggesting: Suggesting) -> tuple[Edited, Edit]:
    """Add to the sandbox's file what it does not allow yet. Nothing is taken out: another run may need it.

    Raises EngineError and SandboxfileError; the file is as it was then.
    """
    from engine.lifecycle.edit import Edited
    from engine.lifecycle.members import pick
    from engine.lifecycle.project_file import load_file
    from engine.lifecycle.temporary import endpoint_additions

    instance = suggesting.instance
    if instance is None:
        raise EngineError("it is not known which file this sandbox came from", hint="paste the lines by hand")
    loaded = load_file(Path(instance.file))
    if instance.agent_name:
        loaded = pick(loaded, instance.agent_name)
    allowed = suggesting.registries.policy(loaded.sandbox.endpoints)
    wanted = [one.value for one in suggesting.suggestion.endpoints if not allows_all(allowed, one.asked)]
    edited = Edited.choose(Path(instance.file))
    return edited, edited.add(endpoint_additions(instance, wanted))


def _groups(registries: Registries, traffic: list[Traffic]) -> Mapping[str, tuple[Rule, ...]]:
    """What the groups stand for, where the journal has hosts that may belong to one."""
    from engine.resolve.clients import RegistryError
    from sandboxfile import Endpoint
    from sandboxfile.names import GROUPS

    found = {}
    if any(one.is_needed for one in traffic):
        for group in GROUPS:
            with contextlib.suppress(RegistryError):  # this host has no such client, so its name would mean nothing
                found[group] = tuple(registries.policy([Endpoint(group=group)]).rules)
    return found
