"""The second half of `up`: start a supervisor, send it its Launch, and listen to it until the sandbox is ready."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from engine.build.blueprint import Built
from engine.build.image.initramfs import INITRAMFS
from engine.build.image.recipe import ROOT
from engine.errors import EngineError, MachineSilent
from engine.files import make_private
from engine.guest.identity import Identity
from engine.guest.network import doors_of
from engine.lifecycle.agent import Dressed, dress
from engine.lifecycle.credentials import Credentials
from engine.lifecycle.failed_start import keep_as_failed, leave_evidence
from engine.lifecycle.ssh import write_alias
from engine.lifecycle.supervised import host_proxies, start_supervisor
from engine.resolve.endpoints import Registries, client_files, endpoint_places
from engine.resolve.mounts_and_ports import wanted_clones, wanted_forwards, wanted_mounts, working_directory
from engine.state.configuration import Running, save_running
from engine.state.instances import Instance, forget_instance, load_instance, save_instance
from engine.state.processes import describe_process
from engine.supervisor.launch import Launch
from engine.trust.unnamed import note_start


@dataclass
class Started:
    """What the supervisor reported when the sandbox was ready, `seconds` after the supervisor's start."""

    instance: Instance
    seconds: float
    services: list[dict[str, Any]] = field(default_factory=list)


async def start(
    built: Built,
    name: str,
    on_event: Callable[[str], None],
    *,
    credentials: Credentials | None = None,
    keep_failed: bool = False,
    unconfined_mounts: bool = False,
    for_task: bool = False,
    on_launch: Callable[[Built, Launch, Instance, Running], None] | None = None,
    on_step: Callable[[str], None] = lambda title: None,
) -> Started:
    """Start a supervisor for the sandbox `name` and wait until the sandbox is ready.

    Raises EngineError, which says what went wrong, and where console, journal and log of the failed start are. With
    `keep_failed` a failed sandbox stays, in the state "failed". With `for_task` nothing of its agent outlives it, and
    no port is published. `on_launch` is told what is about to be started, `on_step` of
    each step of the supervisor's.
    Cancellation (^C) ends and removes it.
    """
    blueprint = built.blueprint
    layout = blueprint.layout
    paths = layout.instance(name)
    credentials = credentials or Credentials()
    dressed = dress(blueprint.loaded, credentials)
    note_start(layout, blueprint.loaded)
    forget_instance(layout, name)
    try:
        began = time.monotonic()
        async with start_supervisor(layout, paths) as supervisor:
            # The supervisor loads its modules while this process asks the package clients.
            launch = await asyncio.to_thread(_launch, built, name, credentials, dressed, unconfined_mounts, for_task)
            make_private(paths.directory)
            record = _record(built, launch, dressed, supervisor.pid)
            record = record._replace(keeps=None) if for_task else record
            running = _running(built, launch, credentials)
            save_running(layout, name, running)
            save_instance(layout, record)
            if on_launch is not None:
                on_launch(built, launch, record, running)
            try:
                write_alias(layout, name)
            except (EngineError, OSError) as error:  # an editor's comfort is no reason to have no sandbox
                on_event(f"ssh finds no alias for {name}: {error}")
            await supervisor.send(launch)
            services = await supervisor.ready(on_event, on_step)
        return Started(load_instance(layout, name) or record, time.monotonic() - began, services)
    except EngineError as error:
        look = keep_as_failed(layout, name, error) if keep_failed else None
        look = look or leave_evidence(layout, name)
        kind = MachineSilent if isinstance(error, MachineSilent) else EngineError
        raise kind(error.brief, error.details, "; ".join(filter(None, (error.hint, look))), error.exit_code) from error
    except BaseException:
        with contextlib.suppress(EngineError, OSError):
            forget_instance(layout, name)
        raise


def _record(built: Built, launch: Launch, dressed: Dressed, pid: int) -> Instance:
    loaded = built.blueprint.loaded
    return Instance(
        name=launch.name,
        project=str(loaded.project),
        file=str(loaded.path),
        plan_key=built.blueprint.configuration.key(),
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        state="starting",
        pid=pid,
        process=describe_process(pid),
        ports=[{"host": forward.host_port, "guest": forward.guest_port} for forward in launch.forwards],
        mounts=[dataclasses.asdict(mount) for mount in launch.mounts],
        agent=dressed.call,
        keeps=dressed.keeps,
        clones=[dataclasses.asdict(clone) for clone in launch.clones],
        working_directory=working_directory(loaded),
        agent_name=loaded.agent_name,
    )


def _running(built: Built, launch: Launch, credentials: Credentials) -> Running:
    policy = launch.policy()
    names = tuple(f"{host}:{port}" for host, port in policy.raw_endpoints())
    image = str(built.entries["image"])
    return Running(built.blueprint.configuration, policy.ports(), image, gateway_names=names, kinds=credentials.forms())


def _launch(
    built: Built, name: str, credentials: Credentials, dressed: Dressed, unconfined_mounts: bool, for_task: bool
) -> Launch:
    loaded, sandbox = built.blueprint.loaded, built.blueprint.loaded.sandbox
    registries = Registries.of_image(built.entries["image"])
    compose = built.blueprint.chain.compose
    policy = registries.policy(sandbox.endpoints, credentials.kinds, endpoint_places(loaded))
    return Launch(
        name=name,
        roots=built.blueprint.layout.to_environment(),
        toolchain=str(built.entries["toolchain"]),
        root=str(built.entries["image"] / ROOT),
        initrd=str(built.entries["initramfs"] / INITRAMFS),
        shape=built.blueprint.chain.shape,
        snapshot=str(built.snapshot),
        mounts=wanted_mounts(loaded),
        rules=tuple(policy.rules),
        doors=tuple(doors_of(policy)),
        forwards=() if for_task else wanted_forwards(loaded),
        identity=Identity(
            hostname=name,
            environment={"SANDBOX": "1", "SANDBOX_NAME": name, **dressed.environment},
            files=client_files(sandbox.endpoints),
            seeds=dressed.files,
            user=dressed.user,
            note=dressed.note,
        ),
        services=tuple(sorted(sandbox.services)),
        late=compose.late if compose else (),
        project_name=sandbox.name,
        compose=compose.configuration() if compose else None,
        unconfined_mounts=unconfined_mounts,
        secrets=credentials.places,
        proxies=host_proxies(),
        clones=wanted_clones(loaded),
        network_rate=sandbox.machine.network_rate,
        cpu_weight=sandbox.machine.cpu_weight,
        for_task=for_task,
    )
