"""Installing an agent: what the step asks of the guest, what it may reach, and what a hostile package cannot do."""

from __future__ import annotations

import asyncio
import io
import tarfile
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
from engine.build.nodes.agent import PACKAGE, Action, InstallAgent, action_of
from engine.build.nodes.package_tree import repack
from engine.errors import EngineError
from engine.guest.guest import Guest
from engine.state.instance_paths import Sockets
from vmm.channel.errors import GuestError


def install(name: str, version: str | None = None) -> InstallAgent:
    definition = load_agent(name)
    steps = definition.install.steps
    packages = [wanted_package(definition, step, version, "amd64") for step in steps]
    actions = tuple(
        action_of(step, f"package[{index}]" if packages[index] else None) for index, step in enumerate(steps)
    )
    return InstallAgent(version or definition.install.version, "amd64", definition.install.packages, actions)


def tarball(path: Path, *entries: tuple[tarfile.TarInfo, bytes]) -> Path:
    with tarfile.open(path, "w:gz") as tar:
        for member, content in entries:
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return path


def entry(name: str, content: bytes = b"", **fields: Any) -> tuple[tarfile.TarInfo, bytes]:
    member = tarfile.TarInfo(name)
    for field, value in fields.items():
        setattr(member, field, value)
    return member, content


def act(step: InstallAgent, tmp_path: Path, prepare: Callable[[FakeGuest], None] = lambda guest: None) -> FakeGuest:
    parents = {}
    for index in range(len(step.actions)):
        parents[f"package[{index}]"] = tmp_path / str(index)
        parents[f"package[{index}]"].mkdir(exist_ok=True)
        program = entry("package/claude", b"program", mode=0o755, uid=501, uname="somebody")
        tarball(tmp_path / str(index) / PACKAGE, program, entry("package/README.md", b"text", mode=0o600))

    async def body() -> FakeGuest:
        async with FakeGuest() as channel:
            prepare(channel)
            guest = Guest(cast("Any", None), channel, cast("Any", None), -1)
            await step.act(guest, BuildContext(tmp_path, parents, lambda line: None, Sockets(tmp_path / "run")))
            return channel

    return asyncio.run(body())


def test_a_package_is_unpacked_as_roots_and_linked(tmp_path: Path) -> None:
    guest = act(install("claude-code"), tmp_path)
    assert guest.commands[0] == "mkdir -p /opt/claude-code"
    sent = guest.files["/opt/claude-code/package/claude"]
    assert (sent.content, sent.mode & 0o777, sent.owner) == (b"program", 0o755, (0, 0))
    assert guest.files["/opt/claude-code/package/README.md"].mode & 0o777 == 0o644
    assert guest.commands[-1].endswith("bash /opt/claude-code package/claude claude")
    assert install("claude-code").endpoints == ()


def test_npm_runs_no_script_but_those_that_are_named(tmp_path: Path) -> None:
    step = install("openclaw")
    guest = act(step, tmp_path)
    npm = [command for command in guest.commands if command.startswith("npm")]
    package = "/var/lib/sandbox/agent/package.tgz"
    assert npm == [
        f"npm install --global --no-audit --no-fund --ignore-scripts {package}",
        "npm rebuild --global openclaw",
    ]
    action = Action(NpmInstall(package="small", optional=False), "package[0]")
    assert "--omit=optional" in act(replace(step, actions=(action,)), tmp_path).of("npm install").command
    assert [one.group for one in step.endpoints] == ["npm"]


def test_a_download_reaches_its_hosts_alone(tmp_path: Path) -> None:
    step = install("docker-agent")
    assert [one.host for one in step.endpoints] == ["github.com", "*.githubusercontent.com"]
    curl = act(step, tmp_path).of("curl")
    assert "--proto =https" in curl.command and "/v1.141.0/docker-agent-linux-amd64" in curl.command
    assert "-o /opt/docker-agent/docker-agent-linux-amd64" in curl.command


def test_scripts_run_as_the_agents_user_and_packages_come_first(tmp_path: Path) -> None:
    step = install("copilot")
    guest = act(step, tmp_path)
    assert guest.commands[0] == "apt-get -qq update"
    script = guest.of("copilot --version")
    assert (script.user, script.cwd) == ("agent", "/home/agent")
    assert [one.group for one in step.endpoints] == ["debian"]


def test_a_guest_that_cannot_unpack_says_why(tmp_path: Path) -> None:
    full = Answer(2, stderr=b"tar: No space left on device")
    with pytest.raises(GuestError, match="the package in /opt/claude-code") as caught:
        act(install("claude-code"), tmp_path, lambda guest: guest.answer("tar -x", full))
    assert "No space left" in str(caught.value.details)


@pytest.mark.parametrize(
    ("bad", "words"),
    [
        (entry("../etc/passwd", b"x"), "leads out of it"),
        (entry("/etc/passwd", b"x"), "leads out of it"),
        (entry("package/../../x", b"x"), "leads out of it"),
        (entry("package/l", type=tarfile.SYMTYPE, linkname="/etc"), "link that leads out"),
        (entry("package/l", type=tarfile.SYMTYPE, linkname="../../etc"), "leads out of it"),
        (entry("package/l", type=tarfile.LNKTYPE, linkname="package/x"), "no file"),
        (entry("package/d", type=tarfile.CHRTYPE), "no file"),
        (entry("package/f", type=tarfile.FIFOTYPE), "no file"),
    ],
    ids=lambda value: value if isinstance(value, str) else value[0].name,
)
def test_what_a_package_may_not_hold(tmp_path: Path, bad: tuple[tarfile.TarInfo, bytes], words: str) -> None:
    package = tarball(tmp_path / PACKAGE, entry("package/ok", b"x"), bad)
    with pytest.raises(EngineError, match=words):
        repack(package, lambda data: None)


def test_what_is_no_package(tmp_path: Path) -> None:
    whole = tarball(tmp_path / PACKAGE, entry("package/big", b"x" * 100_000)).read_bytes()
    for data in (b"", b"no gzip at all", whole[: len(whole) // 2]):
        (tmp_path / PACKAGE).write_bytes(data)
        with pytest.raises(EngineError, match="no readable package"):
            repack(tmp_path / PACKAGE, lambda data: None)


def test_set_id_bits_do_not_come_along(tmp_path: Path) -> None:
    package = tarball(tmp_path / PACKAGE, entry("package/su", b"x", mode=0o6755))
    sent = bytearray()
    repack(package, sent.extend)
    with tarfile.open(fileobj=io.BytesIO(bytes(sent))) as tar:
        assert tar.getmember("package/su").mode == 0o755
