"""The second half of `up`: start a supervisor, send it its Launch, and listen to it until the sandbox is ready."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from engine.build.blueprint import Built
from engine.build.image.initramfs import INITRAMFS
from engine.build.image.recipe import ROOT
from engine.errors import EngineError
from engine.files import make_private
from engine.gateway.proxies import Proxies, host_variables
from engine.guest.guest import Identity
from engine.lifecycle.agent import Dressed, dress
from engine.lifecycle.credentials import Credentials
from engine.lifecycle.ssh import write_alias
from engine.resolve.endpoints import Registries, client_files, endpoint_places
from engine.resolve.mounts_and_ports import wanted_clones, wanted_forwards, wanted_mounts, working_directory
from engine.state.configuration import Running, save_running
from engine.state.evidence import keep_evidence
from engine.state.instance_paths import InstancePaths
from engine.state.instances import Instance, forget_instance, load_instance, save_instance
from engine.state.layout import Layout
from engine.state.processes import describe_process
from engine.supervisor.launch import Launch
from engine.trust.unnamed import note_start
from vmm.carrier import CARRIER_VARIABLE
from vmm.disk import make_overlay
from vmm.private import private
from vmm.process import clean_environment
from vmm.snapshot import load_snapshot
from vmm.tools import load_tools

# Where sockets may be, which Python this is, what carries packets, and whom the user trusts: the gateway verifies
# servers as the user does.
PASSED_ON = ("XDG_RUNTIME_DIR", "VIRTUAL_ENV", "SSL_CERT_FILE", "SSL_CERT_DIR")  # paths
STOP_S = 15.0  # a supervisor that lost its `up` takes its machine down and ends


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
) -> Started:
    """Start a supervisor for the sandbox `name` and wait until the sandbox is ready.

    Raises EngineError, which says what went wrong, and where console, journal and log of the failed start are. With
    `keep_failed` a failed sandbox stays, in the state "failed". With `for_task` nothing of its agent outlives it, and
    no port is published.
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
            # The supervisor loads its modules while this process asks the package clients and makes the disk.
            launch, _ = await asyncio.gather(
                asyncio.to_thread(_launch, built, name, credentials, dressed, unconfined_mounts, not for_task),
                _make_disk(built, paths.disk),
            )
            record = _record(built, launch, dressed, supervisor.pid)
            record = record._replace(keeps=None) if for_task else record
            image = str(built.entries["image"])
            policy = launch.policy()
            names = tuple(f"{host}:{port}" for host, port in policy.raw_endpoints())
            running = Running(
                blueprint.configuration, policy.ports(), image, gateway_names=names, kinds=credentials.forms()
            )
            save_running(layout, name, running)
            save_instance(layout, record)
            try:
                write_alias(layout, name)
            except (EngineError, OSError) as error:  # an editor's comfort is no reason to have no sandbox
                on_event(f"ssh finds no alias for {name}: {error}")
            await supervisor.send(launch)
            services = await supervisor.ready(on_event)
        return Started(load_instance(layout, name) or record, time.monotonic() - began, services)
    except EngineError as error:
        look = _keep_as_failed(layout, name, error) if keep_failed else None
        look = look or _leave_evidence(layout, name)
        raise EngineError(
            error.brief, error.details, "; ".join(filter(None, (error.hint, look))), error.exit_code
        ) from error
    except BaseException:
        with contextlib.suppress(EngineError):
            forget_instance(layout, name)
        raise


def _keep_as_failed(layout: Layout, name: str, error: EngineError) -> str | None:
    """Keep the sandbox in the state "failed". Returns a hint about it, None where it has no record yet."""
    with contextlib.suppress(EngineError):
        if (record := load_instance(layout, name)) is not None:
            save_instance(layout, record._replace(state="failed", error=error.brief))
            where = layout.instance(name).directory
            return (
                f"it is kept in {where}: `sandbox console {name}` shows its console, `sandbox down {name}` removes it"
            )
    return None


def _leave_evidence(layout: Layout, name: str) -> str | None:
    """Remove the sandbox, except for its logs. Returns a hint about those, None where there are none."""
    kept = None
    with contextlib.suppress(OSError):  # the start may have failed because the disk is full
        kept = keep_evidence(layout, name)
    with contextlib.suppress(EngineError):
        forget_instance(layout, name)
    return (
        f"console, journal and log of this start are in {kept}; `sandbox console {name}` shows the first"
        if kept
        else None
    )


class Supervisor:
    """A supervisor that has been started and waits for its Launch."""

    def __init__(self, pid: int, log: Path, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.pid = pid
        self._log = log
        self._reader = reader
        self._writer = writer

    async def send(self, launch: Launch) -> None:
        """Tell the supervisor what to start. If it has ended already, `ready` raises the reason."""
        self._writer.write(launch.to_json().encode() + b"\n")
        with contextlib.suppress(ConnectionError):  # the supervisor has ended: `ready` raises the reason
            await self._writer.drain()

    async def ready(self, on_event: Callable[[str], None]) -> list[dict[str, Any]]:
        """Wait until the sandbox is up; returns its services. Raises EngineError with the supervisor's reason."""
        with contextlib.suppress(ConnectionError):
            async for line in self._reader:
                event = json.loads(line)
                match event["event"]:
                    case "step":
                        on_event(event["title"])
                    case "line":
                        on_event(event["text"])
                    case "failed":
                        raise EngineError(event["brief"], event["details"], event["hint"])
                    case "ready":
                        return list(event["services"])
        raise EngineError("the supervisor ended before the sandbox was ready", details=_tail(self._log))


@contextlib.asynccontextmanager
async def start_supervisor(layout: Layout, paths: InstancePaths) -> AsyncIterator[Supervisor]:
    """Start a supervisor process. It outlives the block; when the block fails, it ends with everything it owns."""
    make_private(paths.directory)
    ours, theirs = socket.socketpair()
    with ours, theirs, open(paths.supervisor_log, "ab", opener=private) as log:
        process = subprocess.Popen(  # noqa: ASYNC220 - it must outlive this loop and this process
            [sys.executable, "-m", "engine.supervisor"],
            stdin=theirs.fileno(),
            stdout=log,
            stderr=log,
            cwd="/",
            env=_environment(layout),
            start_new_session=True,
        )
        theirs.close()
        reader, writer = await asyncio.open_connection(sock=ours, limit=16 * 1024 * 1024)
        try:
            yield Supervisor(process.pid, paths.supervisor_log, reader, writer)
        except BaseException:
            # The supervisor stops when this socket is closed.
            writer.close()
            await asyncio.shield(asyncio.to_thread(_wait, process))
            raise
        finally:
            writer.close()


async def _make_disk(built: Built, disk: Path) -> None:
    parent = load_snapshot(built.snapshot)
    await make_overlay(load_tools(built.entries["toolchain"]), disk, parent.disk, "qcow2")


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


def _launch(
    built: Built, name: str, credentials: Credentials, dressed: Dressed, unconfined_mounts: bool, publish: bool
) -> Launch:
    loaded, sandbox = built.blueprint.loaded, built.blueprint.loaded.sandbox
    registries = Registries.of_image(built.entries["image"])
    compose = built.blueprint.chain.compose
    return Launch(
        name=name,
        roots=built.blueprint.layout.to_environment(),
        toolchain=str(built.entries["toolchain"]),
        root=str(built.entries["image"] / ROOT),
        initrd=str(built.entries["initramfs"] / INITRAMFS),
        shape=built.blueprint.chain.shape,
        snapshot=str(built.snapshot),
        mounts=wanted_mounts(loaded),
        rules=tuple(registries.policy(sandbox.endpoints, credentials.kinds, endpoint_places(loaded)).rules),
        forwards=wanted_forwards(loaded) if publish else (),
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
    )


def _wait(process: subprocess.Popen[bytes]) -> None:
    try:
        process.wait(STOP_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def host_proxies() -> dict[str, str]:
    """Raises EngineError for a variable that the gateway could not use."""
    variables = host_variables(os.environ)
    Proxies(variables)
    return variables


def _environment(layout: Layout) -> dict[str, str]:
    """The supervisor sees no more of the user's environment than programs need; secrets in it stay out."""
    # The supervisor works in another directory.
    variables = {name: str(Path(os.environ[name]).absolute()) for name in PASSED_ON if os.environ.get(name)}
    if carrier := os.environ.get(CARRIER_VARIABLE):
        variables[CARRIER_VARIABLE] = carrier
    environment = clean_environment({**variables, **layout.to_environment()})
    # Proxies come with the Launch: others may read the environment of a process, and those may hold credentials.
    return {name: value for name, value in environment.items() if not name.lower().endswith("_proxy")}


def _tail(path: Path, lines: int = 20) -> str:
    with contextlib.suppress(OSError):
        return "\n".join(path.read_text(errors="replace").splitlines()[-lines:])
    return ""
