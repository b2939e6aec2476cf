"""What each kind of step asks of the guest: commands, users, directories, environments and files, in their order."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import pytest
from fake_guest import Answer, FakeGuest

from engine.build.context import BuildContext, BuildSession
from engine.build.nodes.packages import Packages
from engine.build.nodes.services import Images, Services
from engine.build.nodes.setup import Setup
from engine.build.step import Step
from engine.errors import EngineError
from engine.guest.guest import Guest
from engine.project.inputs import input_piece
from engine.project.tree import ContentChanged, ProjectTree, opened
from engine.resolve.compose import Compose
from engine.resolve.mounts_and_ports import working_directory
from engine.state.instance_paths import Sockets
from sandboxfile import Loaded, parse
from vmm.channel.errors import GuestError

APT = {"DEBIAN_FRONTEND": "noninteractive"}
COMPOSE = "docker compose -f /compose.yaml"


def load(tmp_path: Path, text: str = "") -> Loaded:
    return parse(f'version: "1"\nname: shop\n{text}', tmp_path / "Sandboxfile.yaml")


class Played(FakeGuest):
    """A guest that one step has acted in; `log` is what the step said."""

    log: list[str]


def act(step: Step, loaded: Loaded, prepare: Callable[[FakeGuest], None] = lambda guest: None) -> Played:
    """Raises what the step raises."""

    async def body() -> Played:
        async with Played() as channel:
            channel.log = []
            prepare(channel)
            guest = Guest(cast("Any", None), channel, cast("Any", None), -1, cast("Any", None))
            directory = loaded.project / "entry"
            session = BuildSession(opened(loaded.project))
            context = BuildContext(directory, {}, channel.log.append, Sockets(directory / "run"), session)
            await step.act(guest, context)
            return channel

    return asyncio.run(body())


# packages


def test_packages_are_installed_by_apt_as_root(tmp_path: Path) -> None:
    guest = act(Packages(("jq", "tree")), load(tmp_path))
    update, install, clean = guest.asked
    assert update.command == "apt-get -qq update"
    assert install.command == "apt-get -y -o Dpkg::Use-Pty=0 install --no-install-recommends -- jq tree"
    assert "rm -rf /var/lib/apt/lists/*" in clean.command, "a snapshot carries no lists"
    assert [asked.user for asked in guest.asked] == ["root"] * 3
    assert (update.env, install.env) == (APT, APT)


@pytest.mark.parametrize(
    ("fails", "brief", "ran"),
    [("update", "apt-get update failed with code 100", 1), (" install ", "installing jq failed with code 100", 2)],
)
def test_packages_that_cannot_be_installed(tmp_path: Path, fails: str, brief: str, ran: int) -> None:
    seen: list[FakeGuest] = []

    def prepare(guest: FakeGuest) -> None:
        guest.answer(fails, Answer(100, stderr=b"E: Unable to locate package jq\n"))
        seen.append(guest)

    with pytest.raises(EngineError, match=brief) as caught:
        act(Packages(("jq",)), load(tmp_path), prepare)
    assert caught.value.details == "E: Unable to locate package jq"
    assert len(seen[0].asked) == ran, "nothing runs after what failed"


# setup


def setup(loaded: Loaded, index: int = 0) -> Setup:
    """As the chain makes it."""
    tree = opened(loaded.project)
    entry = loaded.sandbox.setup[index]
    directory = working_directory(loaded)
    pieces = [input_piece(tree, name, directory) for name in entry.inputs]
    return Setup(entry, index, directory, tuple(replace(piece, key=tree.key(piece)) for piece in pieces))


def test_a_step_runs_in_the_working_directory_as_its_user(tmp_path: Path) -> None:
    loaded = load(
        tmp_path,
        'mounts: [".:/w"]\n'
        "setup:\n"
        '  - run: |\n      echo "$TOKEN"\n      make\n    env: {TOKEN: t0ken}\n'
        "  - {run: apt list, user: root}\n",
    )
    make, run = act(setup(loaded), loaded).asked
    assert make.command == "install -d -o agent -g agent /w" and make.user == "root"
    assert run.argv == ["bash", "-c", 'echo "$TOKEN"\nmake\n']
    assert (run.user, run.cwd, run.env) == ("agent", "/w", {"TOKEN": "t0ken"})
    assert act(setup(loaded, 1), loaded).asked[-1].user == "root"


def test_without_mounts_it_is_the_home_directory(tmp_path: Path) -> None:
    loaded = load(tmp_path, "setup: [{run: make}]\n")
    guest = act(setup(loaded), loaded)
    assert guest.of("make").cwd == "/home/agent"
    assert guest.commands[0] == "install -d -o agent -g agent /home/agent"


def test_inputs_are_there_before_the_command_and_belong_to_the_user(tmp_path: Path) -> None:
    (tmp_path / "deep/in").mkdir(parents=True)
    (tmp_path / "deep/in/x").write_text("x")
    (tmp_path / "package.json").write_text("{}")
    loaded = load(tmp_path, 'mounts: [".:/w"]\nsetup: [{run: npm ci, inputs: [package.json, deep/in]}]\n')
    guest = act(setup(loaded), loaded)
    kinds = [asked.argv[0] for asked in guest.asked]
    assert kinds == ["install", "tar", "install", "tar", "bash"]
    assert guest.commands[2] == "install -d -o agent -g agent /w/deep", "what is around it belongs to the user, too"
    assert guest.log[:2] == ["copying package.json", "copying deep/in"]
    assert {path: sent.content for path, sent in guest.files.items() if sent.kind == "file"} == {
        "/w/package.json": b"{}",
        "/w/deep/in/x": b"x",
    }
    assert {sent.owner for sent in guest.files.values()} == {(1000, 1000)}


def test_a_failed_command_is_named_by_its_first_line(tmp_path: Path) -> None:
    loaded = load(tmp_path, "setup:\n  - run: |\n      npm ci\n      npm test\n")
    with pytest.raises(EngineError, match=r"setup\[0\]: npm ci failed with code 7") as caught:
        act(setup(loaded), loaded, lambda guest: guest.answer("npm ci", Answer(7, b"1 failing\n")))
    assert caught.value.details == "1 failing"


def test_a_user_who_is_not_there(tmp_path: Path) -> None:
    loaded = load(tmp_path, "setup: [{run: make, user: nosuchuser}]\n")
    with pytest.raises(GuestError, match="no user 'nosuchuser'"):
        act(setup(loaded), loaded)


def test_the_command_does_not_run_with_inputs_that_changed(tmp_path: Path) -> None:
    (tmp_path / "in").write_text("before")
    loaded = load(tmp_path, "setup: [{run: make, inputs: [in]}]\n")
    step = setup(loaded)
    (tmp_path / "in").write_text("after")
    seen: list[FakeGuest] = []
    with pytest.raises(ContentChanged):
        act(step, loaded, seen.append)
    assert not any("make" in command for command in seen[0].commands)


# images, services

SHOP = """
mounts: [".:/w"]
services:
  web: {build: web, env_file: e.env}
  db: {image: postgres}
  late: {image: redis, volumes: [".:/data"]}
"""


@pytest.fixture
def shop(tmp_path: Path) -> tuple[Loaded, Compose]:
    (tmp_path / "web").mkdir()
    (tmp_path / "web/Dockerfile").write_text("FROM scratch\n")
    (tmp_path / "e.env").write_text("A=1\n")
    loaded = load(tmp_path, SHOP)
    with ProjectTree.open(tmp_path) as tree:
        return loaded, Compose.of(loaded, tree).keyed(tree)


def test_images_are_built_from_contexts_that_are_there(shop: tuple[Loaded, Compose]) -> None:
    loaded, compose = shop
    guest = act(Images(compose), loaded)
    pull, build = guest.commands[-2:]
    assert pull == f"{COMPOSE} pull --quiet --ignore-buildable --policy missing"
    assert build == f"{COMPOSE} --progress plain build"
    sent = {sent.content for sent in guest.files.values()}
    assert {b"FROM scratch\n", b"A=1\n"} <= sent
    text = bytes(guest.of("/compose.yaml.new").stdin)
    assert text == compose.configuration().encode() + b"\n"
    assert guest.commands.index(guest.of("/compose.yaml.new").command) == len(guest.commands) - 3


def test_only_services_that_need_no_mount_are_started_in_a_step(shop: tuple[Loaded, Compose]) -> None:
    loaded, compose = shop
    guest = act(Services(compose), loaded)
    *put, up = guest.commands
    assert up == f"{COMPOSE} --progress plain up -d --no-build --remove-orphans --wait {' '.join(compose.early)}"
    assert set(compose.early) == {"web", "db"}
    assert not any("/var/lib/sandbox/build" in command for command in put), "contexts are for images alone"
    assert any(sent.content == b"A=1\n" for sent in guest.files.values())


def test_a_service_that_does_not_start_ends_the_step(shop: tuple[Loaded, Compose]) -> None:
    loaded, compose = shop

    def prepare(guest: FakeGuest) -> None:
        guest.answer(" up ", Answer(1, stderr=b"web is unhealthy\n"))
        guest.answer(" logs ", Answer(0, b"web | Traceback\n"))

    with pytest.raises(EngineError, match="starting services failed") as caught:
        act(Services(compose), loaded, prepare)
    assert caught.value.details == "web is unhealthy\nweb | Traceback\n"
