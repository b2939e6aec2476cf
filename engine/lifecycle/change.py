"""The `up` of a running sandbox: what is different, and asking the supervisor to change just that."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from engine.build.blueprint import Blueprint
from engine.errors import EngineError
from engine.gateway.rules import Rule
from engine.lifecycle.agent import Dressed, dress
from engine.lifecycle.credentials import Credentials
from engine.plan.changes import Change, compare, needs_new_machine, sections_of
from engine.project.tree import ATTEMPTS, keeps_changing, opened
from engine.resolve.endpoints import Registries, client_files, endpoint_places
from engine.resolve.mounts_and_ports import wanted_forwards
from engine.state.configuration import PARTS, Configuration, Running, load_running
from engine.state.instances import Instance, load_instance
from engine.state.layout import Layout
from engine.supervisor.adjustment import Adjustment
from engine.trust.unnamed import note_start
from sandboxfile import Loaded
from sandboxfile.positions import render_path
from vmm.channel.client import connect
from vmm.spec import HostForward

_OF_IMAGE = ("image", "build", "platform", "pull_policy")


@dataclass(frozen=True)
class Comparison:
    """A running sandbox compared with its file. `running` is None when nobody knows what it was started with."""

    blueprint: Blueprint
    running: Running | None
    changes: tuple[Change, ...]


def compare_running(blueprint: Blueprint, name: str) -> Comparison:
    """Compare the running sandbox `name` with the blueprint; changes nothing.

    Asks the host's package clients when a named group is new, which takes seconds. Raises EngineError.
    """
    running = load_running(blueprint.layout, name)
    if running is None:
        return Comparison(blueprint, None, (Change("sandbox", None, "what it was started with is not known"),))
    without_listener = _ports_without_listener(blueprint, running)
    changes = compare(
        running.configuration, blueprint.configuration, without_listener=without_listener, unfinished=running.unfinished
    )
    return Comparison(blueprint, running, changes)


async def apply_changes(
    instance: Instance, comparison: Comparison, on_line: Callable[[str], None], credentials: Credentials | None = None
) -> Instance:
    """Have the running sandbox changed, each line of progress to `on_line`; returns its new record.

    All changes must be live ones. Waits as long as images and health checks take. Raises EngineError, which says which
    parts are changed and which are not. The machine runs on then, and the next call tries the rest again.
    """
    layout = comparison.blueprint.layout
    note_start(layout, comparison.blueprint.loaded)
    for left in reversed(range(ATTEMPTS)):
        adjustment = await asyncio.to_thread(_adjustment, instance, comparison, credentials or Credentials())
        result = await _ask(layout, instance.name, adjustment, on_line)
        instance = load_instance(layout, instance.name) or instance
        if not (failed := result["failed"]):
            return instance
        if not left or not failed.get("changed"):
            raise _failure(instance.name, adjustment, result)
        on_line(f"{failed['brief']}: once more with what is there now")
        comparison = await asyncio.to_thread(_compare_again, comparison, instance.name)
        if needs_new_machine(comparison.changes):
            raise EngineError(
                f"{failed['brief']}, and {instance.name} needs a new machine now", hint="run `sandbox up` again"
            )
    raise AssertionError("the last attempt returns or raises")


def _compare_again(comparison: Comparison, name: str) -> Comparison:
    return compare_running(comparison.blueprint.again(), name)


async def _ask(layout: Layout, name: str, adjustment: Adjustment, on_line: Callable[[str], None]) -> dict[str, Any]:
    """Send one request to the supervisor and return its answer; `on_line` gets the lines that come before that."""
    rest = b""
    async with await connect(layout.instance(name).sockets.control) as client:
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
    summary = f"changed: {applied}; not changed, or only in part: {left}"
    hint = "the machine runs on, and `sandbox up` tries again what is left"
    return EngineError(
        f"{name} could not be changed: {why.brief if why else failed['brief']}",
        "\n".join(filter(None, (summary, failed["details"]))),
        "; ".join(filter(None, (why.hint if why else failed["hint"], hint))),
    )


def _adjustment(instance: Instance, comparison: Comparison, credentials: Credentials) -> Adjustment:
    blueprint, running = comparison.blueprint, comparison.running
    loaded, sandbox, compose = blueprint.loaded, blueprint.loaded.sandbox, blueprint.chain.compose
    dressed = dress(loaded, credentials)
    assert running is not None, "without it every change needs a new machine"
    was_dressed = dress(loaded, credentials.of_forms(running.kinds))
    before = [HostForward(port["host"], port["guest"]) for port in instance.ports]
    forwards = wanted_forwards(loaded, before)
    due = {change.part for change in comparison.changes}
    if set(forwards) != set(before):  # a change of `services` can change the ports, since services publish ports
        due.add("ports")
    if dressed != was_dressed:  # a credential of another kind: the agent is started another way
        due.add("record")
    return Adjustment(
        configuration=blueprint.configuration,
        parts={part: sections_of(part) for part in PARTS if part in due},
        rules=_rules(loaded, running, credentials) if "endpoints" in due else (),
        files=client_files(sandbox.endpoints) if "endpoints" in due else (),
        forwards=forwards,
        project_name=sandbox.name,
        project=compose.project(opened(loaded.project)) if compose else None,
        images=_changed_images(running, blueprint.configuration),
        agent=dressed.call,
        environment=dressed.environment,
        secrets=credentials.places,
        seeds=_changed_seeds(was_dressed, dressed),
        user=dressed.user,
        note=dressed.note,
        keeps=dressed.keeps,
        kinds=credentials.forms(),
    )


def _changed_seeds(before: Dressed, now: Dressed) -> tuple[tuple[str, int, str], ...]:
    """The agent's files that are others for another kind of credential. Those that are as they were are the agent's by
    now: it keeps its own settings and sessions there.
    """
    paths = {path for path, _, _ in now.files}
    gone = [(path, mode) for path, mode, _ in before.files if path not in paths]
    emptied = ((path, mode, "{}\n" if path.endswith(".json") else "") for path, mode in gone)
    return (*(file for file in now.files if file not in before.files), *emptied)


def _rules(loaded: Loaded, running: Running, credentials: Credentials) -> tuple[Rule, ...]:
    policy = _registries(running).policy(loaded.sandbox.endpoints, credentials.kinds, endpoint_places(loaded))
    return tuple(policy.rules)


def _ports_without_listener(blueprint: Blueprint, running: Running) -> set[int | str]:
    """The ports that new endpoints need, and the names (NAME:PORT) that need an address of their own, that the machine
    was not started with: QEMU cannot add any later.
    """
    known = running.configuration.sandbox.get("endpoints", ())
    endpoints = blueprint.loaded.sandbox.endpoints
    added = [one for one in endpoints if one.model_dump(mode="json", by_alias=True) not in known]
    if not added:
        return set()
    policy = _registries(running).policy(added)
    names = {f"{host}:{port}" for host, port in policy.raw_endpoints()}
    return {*set(policy.ports()).difference(running.gateway_ports), *names.difference(running.gateway_names)}


def _registries(running: Running) -> Registries:
    image = Path(running.image)
    return Registries.of_image(image) if image.is_dir() else Registries()


def _changed_images(running: Running, new: Configuration) -> tuple[str, ...]:
    """The services whose image in the guest may be out of date."""
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
