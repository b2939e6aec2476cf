"""Installing an agent: what the step asks of the guest, what it may reach, and which disk it plugs in."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import pytest
from fake_guest import Answer, FakeGuest

from engine.agents import load_agent
from engine.agents.installation import NpmInstall
from engine.agents.packages import wanted_package
from engine.build.context import BuildContext
from engine.build.nodes.agent import Action, InstallAgent, action_of
from engine.build.nodes.agent_layer import LAYER, PACKAGE, PROGRAMS
from engine.errors import EngineError
from engine.guest.guest import Guest
from engine.state.instance_paths import Sockets
from vmm.spec import DISK_SLOT, Drive


class FakeMachine:
    """Remembers the disks that it is given."""

    def __init__(self) -> None:
        self.plugged: list[Drive] = []

    async def plug_drive(self, drive: Drive) -> None:
        self.plugged.append(drive)


def install(name: str, version: str | None = None) -> InstallAgent:
    definition = load_agent(name)
    steps = [step for step in definition.install.steps if step.unpack is None]
    packages = [wanted_package(definition, step, version, "amd64") for step in steps]
    actions = tuple(
        action_of(step, f"package[{index}]" if packages[index] else None) for index, step in enumerate(steps)
    )
    layer = "layer" if len(steps) < len(definition.install.steps) else None
    return InstallAgent(version or definition.install.version, "amd64", definition.install.packages, actions, layer)


def act(
    step: InstallAgent, tmp_path: Path, prepare: Callable[[FakeGuest], None] = lambda guest: None
) -> tuple[FakeGuest, FakeMachine]:
    parents = {name: tmp_path / name for name in ("layer", "package[0]", "package[1]")}
    for directory in parents.values():
        directory.mkdir(exist_ok=True)
        (directory / PACKAGE).write_bytes(b"a package")
    links = {"/opt/it": "/opt/.agent/it", "/usr/local/bin/it": "/opt/.agent/it/package/it"}
    (parents["layer"] / PROGRAMS).write_text(json.dumps(links))
    machine = FakeMachine()

    async def body() -> FakeGuest:
        async with FakeGuest() as channel:
            prepare(channel)
            guest = Guest(cast("Any", machine), channel, cast("Any", None), -1, cast("Any", None))
            await step.act(guest, BuildContext(tmp_path, parents, lambda line: None, Sockets(tmp_path / "run")))
            return channel

    return asyncio.run(body()), machine


def test_the_layer_is_plugged_in_and_mounted(tmp_path: Path) -> None:
    guest, machine = act(install("claude-code"), tmp_path)
    assert machine.plugged == [Drive(tmp_path / "layer" / LAYER, "agent", "raw", read_only=True, slot=DISK_SLOT)]
    (asked,) = guest.asked[-1:]
    assert (asked.argv[:3], asked.user) == (["python3", "-I", "-c"], "root")
    told = json.loads(asked.argv[-1])
    assert told["place"] == "/opt/.agent" and told["links"]["/usr/local/bin/it"] == "/opt/.agent/it/package/it"
    assert install("claude-code").endpoints == ()


def test_npm_runs_no_script_but_those_that_are_named(tmp_path: Path) -> None:
    step = install("openclaw", "2026.10.1")
    guest, machine = act(step, tmp_path)
    npm = [command for command in guest.commands if command.startswith("npm")]
    package = "/var/lib/sandbox/agent/package.tgz"
    assert npm == [f"npm install --global --prefix /usr/local --no-audit --no-fund --ignore-scripts {package}"]
    action = Action(NpmInstall(package="small", optional=False), "package[0]")
    assert "--omit=optional" in act(replace(step, actions=(action,)), tmp_path)[0].of("npm install").command
    assert [one.group for one in step.endpoints] == ["npm"]
    assert len(machine.plugged) == 1, "its Node is in a layer"


def test_a_download_reaches_its_hosts_alone(tmp_path: Path) -> None:
    step = install("docker-agent")
    assert [one.host for one in step.endpoints] == ["github.com", "*.githubusercontent.com"]
    guest, machine = act(step, tmp_path)
    curl = guest.of("curl")
    assert "--proto =https" in curl.command and "/v1.141.0/docker-agent-linux-amd64" in curl.command
    assert "-o /opt/docker-agent/docker-agent-linux-amd64" in curl.command
    assert machine.plugged == [], "nothing of it is a package of npm"


def test_scripts_run_as_the_agents_user_and_packages_come_first(tmp_path: Path) -> None:
    step = install("copilot")
    guest, _ = act(step, tmp_path)
    assert guest.commands[0] == "apt-get -qq update"
    script = guest.of("copilot --version")
    assert (script.user, script.cwd) == ("agent", "/home/agent")
    assert [one.group for one in step.endpoints] == ["debian"]


def test_a_guest_that_does_not_see_the_disk_says_so(tmp_path: Path) -> None:
    late = Answer(1, stderr=b"the disk agent was not there within 60 s")
    with pytest.raises(EngineError, match="mounting the layer failed") as caught:
        act(install("claude-code"), tmp_path, lambda guest: guest.answer("python3", late))
    assert "was not there" in str(caught.value.details)
