"""The live `up`: what is different about a running sandbox, and having its supervisor change just that."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from engine.build.blueprint import Project
from engine.errors import EngineError
from engine.plan.changes import Change, compare, needs_new_machine, sections_of
from engine.project.tree import ATTEMPTS, keeps_changing
from engine.resolve.compose import Compose
from engine.resolve.endpoints import Registries, client_files
from engine.resolve.mounts_and_ports import agent_summary, wanted_forwards
from engine.state.configuration import PARTS, Configuration, Running, load_running
from engine.state.instances import Instance, load_instance
from engine.supervisor.adjustment import Adjustment
from engine.trust.unnamed import note_start
from sandboxfile.positions import render_path
from vmm.channel.client import connect
from vmm.spec import HostForward

_OF_IMAGE = ("image", "build", "platform", "pull_policy")


@dataclass(frozen=True)
class Comparison:
    """A running sandbox beside its file. `running` is None when it is not known what it was started with."""

    running: Running | None
    configuration: Configuration
    changes: tuple[Change, ...]
    compose: Compose | None = None


def compare_running(project: Project, name: str) -> Comparison:
    """What about the running sandbox `name` is not as the project's file says now; changes nothing.

    May ask the host's package clients, which takes seconds, when a named group is new. Raises EngineError.
    """
    running, chain = load_running(project.layout, name), project.chain()
    configuration = project.configuration(chain)
    if running is None:
        return Comparison(None, configuration, (Change("sandbox", None, "what it was started with is not known"),))
    unheard = _unheard_ports(project, running)
    changes = compare(running.configuration, configuration, unheard=unheard, unfinished=running.unfinished)
    return Comparison(running, configuration, changes, chain.compose)


async def apply_changes(
    project: Project, instance: Instance, comparison: Comparison, on_line: Callable[[str], None]
) -> Instance:
    """Have the running sandbox changed, each line of progress to `on_line`; returns its new record.

    All changes must be live ones. Waits as long as images and health checks take. Raises EngineError that says which
    parts are changed and which are not; the machine runs on, and the next call tries what is left again.
    """
    note_start(project.layout, project.loaded)
    for left in reversed(range(ATTEMPTS)):
        adjustment = await asyncio.to_thread(_adjustment, project, instance, comparison)
        result = await _ask(project, instance.name, adjustment, on_line)
        instance = load_instance(project.layout, instance.name) or instance
        if not (failed := result["failed"]):
            return instance
        if not left or not failed.get("changed"):
            raise _failure(instance.name, adjustment, result)
        on_line(f"{failed['brief']}: once more with what is there now")
        comparison = await asyncio.to_thread(compare_running, project, instance.name)
        if needs_new_machine(comparison.changes):
            raise EngineError(
                f"{failed['brief']}, and {instance.name} needs a new machine now", hint="run `sandbox up` again"
            )
    raise AssertionError("the last attempt returns or raises")


async def _ask(project: Project, name: str, adjustment: Adjustment, on_line: Callable[[str], None]) -> dict[str, Any]:
    """One request to the supervisor, and its answer."""
    rest = b""
    async with await connect(project.layout.instance(name).sockets.control) as client:
        async with client.open("apply", **adjustment.to_json()) as stream:
            async for _, data in stream:
                *lines, rest = (rest + data).split(b"\n")
                for line in lines:
                    on_line(json.loads(line)["text"])
            return await stream.result()


def _failure(name: str, adjustment: Adjustment, result: Mapping[str, Any]) -> EngineError:
    failed = result["failed"]
    why = keeps_changing(failed["changed"]) if failed.get("changed") else None
    applied = ", ".join(result["applied"]) or "nothing"
    left = ", ".join(part for part in adjustment.parts if part not in result["applied"])
    said = f"changed: {applied}; not changed, or only in part: {left}"
    hint = "the machine runs on, and `sandbox up` tries again what is left"
    return EngineError(
        f"{name} could not be changed: {why.brief if why else failed['brief']}",
        "\n".join(filter(None, (said, failed["details"]))),
        "; ".join(filter(None, (why.hint if why else failed["hint"], hint))),
    )


def _adjustment(project: Project, instance: Instance, comparison: Comparison) -> Adjustment:
    loaded, sandbox, running = project.loaded, project.loaded.sandbox, comparison.running
    assert running is not None, "without it every change needs a new machine"
    before = [HostForward(port["host"], port["guest"]) for port in instance.ports]
    forwards = wanted_forwards(loaded, before)
    due = {change.part for change in comparison.changes}
    if set(forwards) != set(before):  # services publish ports, too
        due.add("ports")
    return Adjustment(
        configuration=comparison.configuration,
        parts={part: sections_of(part) for part in PARTS if part in due},
        rules=tuple(_registries(running).policy(sandbox.endpoints).rules) if "endpoints" in due else (),
        files=client_files(sandbox.endpoints) if "endpoints" in due else (),
        forwards=forwards,
        project_name=sandbox.name,
        project=comparison.compose.project(project.session.tree) if comparison.compose else None,
        images=_changed_images(running, comparison.configuration),
        agent=agent_summary(loaded),
    )


def _unheard_ports(project: Project, running: Running) -> set[int]:
    """Ports that new endpoints need and that were not known when the machine started: QEMU takes no others later."""
    known = running.configuration.sandbox.get("endpoints", ())
    added = [one for one in project.loaded.sandbox.endpoints if one.model_dump(mode="json", by_alias=True) not in known]
    if not added:
        return set()
    return set(_registries(running).policy(added).ports()).difference(running.gateway_ports)


def _registries(running: Running) -> Registries:
    image = Path(running.image)
    return Registries.of_image(image) if image.is_dir() else Registries()


def _changed_images(running: Running, new: Configuration) -> tuple[str, ...]:
    """The services whose image may not be the one that the guest has."""
    old, services = running.configuration, new.sandbox["services"]
    extends = any("extends" in service for service in services.values())
    if extends or "services" in running.unfinished:
        return tuple(services)

    def image(configuration: Configuration, name: str) -> object:
        service = configuration.sandbox["services"].get(name)
        place = render_path(("services", name, "build"))
        pieces = {at: key for at, key in configuration.contents.items() if at == place or at.startswith(f"{place}.")}
        return service and ([service.get(key) for key in _OF_IMAGE], pieces)

    return tuple(name for name in services if image(old, name) != image(new, name))
