"""`up`: a checked file becomes a running sandbox: decide, build what is missing, start a supervisor, listen to it."""

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
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from engine.accelerator import Verdict
from engine.build.chain import Chain, machine_shape, make_chain
from engine.build.compose import Compose
from engine.build.foundation import GUEST_NEEDS, load_verdict, tool_nodes
from engine.build.steps import Session
from engine.content import content_key
from engine.errors import EngineError
from engine.graph import Graph
from engine.guests import Identity
from engine.instances import Instance, forget_instance, load_instance, save_instance
from engine.launch import Launch, MountPoint
from engine.layout import Layout
from engine.loopback import pick_port
from engine.network import Registries, client_files
from engine.plan import Plan, load_made, make_plan, save_made
from engine.processes import describe_process
from engine.report import Reporter
from engine.scheduler import execute
from engine.store import Store
from sandboxfile import Loaded
from sandboxfile.services import published_ports
from vmm.disk import make_overlay
from vmm.process import clean_environment
from vmm.spec import HostForward
from vmm.tools import from_json

JOBS = 4  # nodes at once: most wait for the network or for one emulated CPU


@dataclass
class Project:
    """One checked file with everything that deciding about it needs."""

    loaded: Loaded
    layout: Layout
    store: Store
    session: Session

    @classmethod
    def of(cls, loaded: Loaded, layout: Layout, **options: Any) -> Project:
        return cls(loaded, layout, Store(layout), Session(layout, loaded, **options))

    def verdict(self) -> Verdict | None:
        """The accelerator that was seen to boot a guest, None before anything was probed."""
        return load_verdict(self.store)

    def chain(self) -> Chain:
        verdict = self.verdict()
        self.session.shape = machine_shape(self.loaded, verdict)
        return make_chain(self.loaded, verdict, self.session)

    def plan(self) -> Plan:
        return make_plan(self.chain().graph, self.store, load_made(self.layout.project_plan(self.loaded.project)))

    def instance_key(self) -> str:
        """Changes when a running sandbox is no longer what the file asks for."""
        chain = self.chain()
        sandbox = self.loaded.sandbox
        running = sandbox.model_dump(mode="json", include={"agent", "mounts", "endpoints", "ports", "services"})
        return content_key(chain.graph.nodes[chain.ready].key, running)


@dataclass(frozen=True)
class Built:
    """The cache entries that a sandbox is started from."""

    entries: Mapping[str, Path]
    ready: str


async def build(project: Project, reporter: Reporter) -> Built:
    """Make everything that the plan calls for. Raises EngineError with the failed node's last lines."""
    memory = project.layout.project_plan(project.loaded.project)
    if project.verdict() is None:
        tools = Graph(tool_nodes())
        await execute(tools, make_plan(tools, project.store, load_made(memory)), project.store, reporter, JOBS)
    chain = project.chain()
    plan = make_plan(chain.graph, project.store, load_made(memory))
    done = await execute(chain.graph, plan, project.store, reporter, JOBS)
    save_made(memory, chain.graph, chain.graph.nodes)
    entries = dict(done)
    for name in (*GUEST_NEEDS, chain.ready):
        node = chain.graph.nodes[name]
        path = entries.get(name) or project.store.find(node.kind, node.key)
        if path is None:
            raise EngineError(f"the cache entry of {name} has gone away", hint="run `sandbox up` again")
        entries[name] = path
    return Built(entries, chain.ready)


@dataclass
class Started:
    """What the supervisor said when the sandbox was ready. `seconds` is from its start to ready."""

    instance: Instance
    seconds: float
    services: list[dict[str, Any]] = field(default_factory=list)


async def start(project: Project, built: Built, name: str, on_event: Callable[[str], None]) -> Started:
    """Start a supervisor for the sandbox `name` and wait until it is ready.

    Raises EngineError with what went wrong; cancellation (^C) ends the half-started sandbox and forgets it.
    """
    layout, loaded = project.layout, project.loaded
    paths = layout.instance(name)
    forget_instance(layout, name)
    launch = _launch(project, built, name)
    record = Instance(
        name=name,
        project=str(loaded.project),
        file=str(loaded.path),
        plan_key=project.instance_key(),
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        state="starting",
        ports=[{"host": forward.host_port, "guest": forward.guest_port} for forward in launch.forwards],
        mounts=[{"source": m.source, "target": m.target, "read_only": m.read_only} for m in launch.mounts],
        summary={"working_directory": project.session.working_directory(), **_agent(loaded)},
    )
    save_instance(layout, record)
    try:
        tools = from_json((built.entries["toolchain"] / "tools.json").read_text(), built.entries["toolchain"])
        await make_overlay(tools, paths.disk, built.entries[built.ready] / "disk.qcow2", "qcow2")
        return await _supervised(layout, record, launch, on_event)
    except BaseException:
        with contextlib.suppress(EngineError):
            forget_instance(layout, name)
        raise


def _agent(loaded: Loaded) -> dict[str, Any]:
    agent = loaded.sandbox.agent
    if agent is None:
        return {}
    return {"agent": [*(agent.command or ()), *agent.args], "agent_env": dict(agent.env), "agent_user": agent.user}


def _launch(project: Project, built: Built, name: str) -> Launch:
    loaded, sandbox = project.loaded, project.loaded.sandbox
    registries = Registries.of_image(built.entries["image"])
    compose = Compose.of(loaded) if sandbox.services else None
    assert project.session.shape is not None
    return Launch(
        name=name,
        roots=project.layout.to_environment(),
        toolchain=str(built.entries["toolchain"]),
        root=str(built.entries["image"] / "root.erofs"),
        initrd=str(built.entries["initramfs"] / "initramfs"),
        shape=project.session.shape,
        snapshot=str(built.entries[built.ready]),
        mounts=tuple(
            MountPoint(str((loaded.project / Path(m.source).expanduser()).resolve()), m.target, m.mode == "ro")
            for m in sandbox.mounts
        ),
        rules=tuple(registries.policy(sandbox.endpoints).rules),
        forwards=_forwards(loaded),
        identity=Identity(
            hostname=name,
            environment={"SANDBOX": "1", "SANDBOX_NAME": name},
            files=client_files(sandbox.endpoints),
        ),
        services=tuple(sorted(sandbox.services)),
        late=compose.late if compose else (),
        project_name=sandbox.name,
        compose=compose.configuration() if compose else None,
    )


def _forwards(loaded: Loaded) -> tuple[HostForward, ...]:
    wanted = [(port.host, port.guest) for port in loaded.sandbox.ports]
    # A service's published port is a port of the guest; the host gets the same number.
    for _, host_port, _, protocol in published_ports(loaded.sandbox.services):
        if protocol == "tcp" and host_port is not None and host_port not in [host for host, _ in wanted]:
            wanted.append((host_port, host_port))
    return tuple(HostForward(host or pick_port(), guest) for host, guest in wanted)


async def _supervised(layout: Layout, record: Instance, launch: Launch, on_event: Callable[[str], None]) -> Started:
    paths = layout.instance(record.name)
    ours, theirs = socket.socketpair()
    with ours, theirs, paths.supervisor_log.open("ab") as log:
        began = time.monotonic()
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
        # The record names its supervisor before anything can go wrong, so that `ls` can always tell.
        record = dataclasses.replace(record, pid=process.pid, process=describe_process(process.pid))
        save_instance(layout, record)
        reader, writer = await asyncio.open_connection(sock=ours, limit=16 * 1024 * 1024)
        try:
            writer.write(launch.to_json().encode() + b"\n")
            await writer.drain()
            async for line in reader:
                event = json.loads(line)
                if event["event"] == "step":
                    on_event(event["title"])
                elif event["event"] == "line":
                    on_event(event["text"])
                elif event["event"] == "failed":
                    raise EngineError(event["brief"], event["details"], event["hint"])
                elif event["event"] == "ready":
                    current = load_instance(layout, record.name) or record
                    return Started(current, time.monotonic() - began, event["services"])
            raise EngineError("the supervisor ended before the sandbox was ready", details=_tail(paths.supervisor_log))
        except BaseException:
            # The closed socket tells it to stop; what it owns goes with it.
            writer.close()
            await asyncio.shield(asyncio.to_thread(_wait, process))
            raise
        finally:
            writer.close()


def _wait(process: subprocess.Popen[bytes]) -> None:
    try:
        process.wait(15)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _environment(layout: Layout) -> dict[str, str]:
    """The supervisor sees no more of the user's environment than programs need; secrets in it stay out."""
    variables = {name: os.environ[name] for name in ("XDG_RUNTIME_DIR", "VIRTUAL_ENV") if name in os.environ}
    return clean_environment({**variables, **layout.to_environment()})


def _tail(path: Path, lines: int = 20) -> str:
    with contextlib.suppress(OSError):
        return "\n".join(path.read_text(errors="replace").splitlines()[-lines:])
    return ""
