"""What the guest is asked to do for its services, in which order, and what its failures become."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from fake_guest import Answer, FakeGuest

from engine.errors import EngineError
from engine.guest.compose_project import ComposeProject
from engine.guest.services import (
    KEPT,
    TAIL_LINES,
    get_images,
    look_at_services,
    put_contexts,
    put_project,
    remove_services,
    run_logged,
    start_services,
    wait_healthy,
    write_compose,
)
from engine.project.pieces import Piece
from engine.project.tree import ContentChanged, ProjectTree
from vmm.channel.errors import GuestError

BUILD = "/var/lib/sandbox/build"
UP = "docker compose -f /compose.yaml --progress plain up -d --no-build --remove-orphans --wait"


@pytest.fixture
def tree(tmp_path: Path) -> Iterator[ProjectTree]:
    (tmp_path / "web/src").mkdir(parents=True)
    (tmp_path / "web/src/a.py").write_text("print()")
    (tmp_path / "e.env").write_text("A=1")
    with ProjectTree.open(tmp_path) as tree:
        yield tree


@pytest.fixture
def shop(tree: ProjectTree) -> ComposeProject:
    """A service that is built, two that are pulled, and a file that one of them is configured with."""
    context, file = Piece("web", f"{BUILD}/web"), Piece("e.env", "/var/lib/sandbox/files/e.env")
    return ComposeProject(
        name="shop",
        text='{"name": "shop"}',
        pulled=("cache", "db"),
        built=("web",),
        contexts={"web": (replace(context, key=tree.key(context)),)},
        files=(replace(file, key=tree.key(file)),),
        root=str(tree.path),
        identity=tree.identity,
    )


def play(scenario: Callable[[FakeGuest, list[str]], Awaitable[None]]) -> FakeGuest:
    """Runs `scenario(guest, log)`; the guest is for a look at what it was asked."""

    async def body() -> FakeGuest:
        async with FakeGuest() as guest:
            await scenario(guest, [])
            return guest

    return asyncio.run(body())


def test_a_context_takes_the_place_of_the_one_before(tree: ProjectTree, shop: ComposeProject) -> None:
    async def scenario(guest: FakeGuest, log: list[str]) -> None:
        await put_contexts(guest, tree, shop, ["web", "db"], log.append)
        assert log == ["copying the build context of web: web"]

    guest = play(scenario)
    *before, copy = guest.commands
    assert before == [f"mkdir -p {BUILD}", f"rm -rf -- {BUILD}/web"]
    assert copy.startswith("tar -x ") and copy.endswith(f" -C {BUILD}")
    assert {asked.user for asked in guest.asked} == {"root"}
    assert guest.files[f"{BUILD}/web/src/a.py"].content == b"print()"
    assert guest.files[f"{BUILD}/web"].owner == (1000, 1000)


def test_a_context_that_changed_since_is_told(tree: ProjectTree, shop: ComposeProject) -> None:
    (tree.path / "web/src/a.py").write_text("other()")

    async def scenario(guest: FakeGuest, log: list[str]) -> None:
        with pytest.raises(ContentChanged) as caught:
            await put_contexts(guest, tree, shop, ["web"], log.append)
        assert caught.value.path == "web"

    play(scenario)


def test_the_compose_file_comes_after_what_it_names(tree: ProjectTree, shop: ComposeProject) -> None:
    async def scenario(guest: FakeGuest, log: list[str]) -> None:
        await put_project(guest, tree, shop, log.append)

    guest = play(scenario)
    assert guest.files["/var/lib/sandbox/files/e.env"].content == b"A=1"
    assert [asked.argv[0] for asked in guest.asked] == ["mkdir", "tar", "sh"]
    written = guest.asked[-1]
    assert bytes(written.stdin) == b'{"name": "shop"}\n'
    assert written.argv[2].endswith("mv /compose.yaml.new /compose.yaml"), "a reader sees the old or the new one"


def test_a_compose_file_that_cannot_be_written() -> None:
    async def scenario(guest: FakeGuest, log: list[str]) -> None:
        guest.answer("compose.yaml", Answer(1, stderr=b"No space left on device\n"))
        with pytest.raises(EngineError, match="the Compose file could not be written") as caught:
            await write_compose(guest, "{}")
        assert caught.value.details == "No space left on device\n"

    play(scenario)


@pytest.mark.parametrize(
    ("names", "asked"),
    [
        (["db"], ["pull --quiet --ignore-buildable --policy missing db"]),
        (["web"], ["--progress plain build web"]),
        (
            ["web", "db"],
            ["pull --quiet --ignore-buildable --policy missing db", "--progress plain build web"],
        ),
        (
            ["web", "db", "cache"],  # all: without names, so that Compose takes what they extend, too
            ["pull --quiet --ignore-buildable --policy missing", "--progress plain build"],
        ),
        ([], []),
    ],
)
def test_images_are_pulled_and_built_by_name(shop: ComposeProject, names: list[str], asked: list[str]) -> None:
    async def scenario(guest: FakeGuest, log: list[str]) -> None:
        await get_images(guest, shop, names, log.append)

    assert play(scenario).commands == [f"docker compose -f /compose.yaml {words}" for words in asked]


def test_nothing_is_built_when_a_pull_failed(shop: ComposeProject) -> None:
    async def scenario(guest: FakeGuest, log: list[str]) -> None:
        guest.answer(" pull ", Answer(18, stderr=b"pulling\rdenied: no such image\n"))
        with pytest.raises(EngineError, match="pulling images failed with code 18") as caught:
            await get_images(guest, shop, shop.services, log.append)
        assert caught.value.details == "pulling\ndenied: no such image"
        assert caught.value.hint and caught.value.hint.startswith("the command was: docker compose -f /compose.yaml")
        assert log == ["pulling", "denied: no such image"]

    assert len(play(scenario).commands) == 1


def test_services_are_started_by_name() -> None:
    async def scenario(guest: FakeGuest, log: list[str]) -> None:
        await start_services(guest, ["web", "db"], log.append)

    assert play(scenario).commands == [f"{UP} web db"]


def test_services_that_do_not_start_show_what_they_printed() -> None:
    async def scenario(guest: FakeGuest, log: list[str]) -> None:
        guest.answer(" up ", Answer(1, stderr=b"dependency failed to start: db is unhealthy\n"))
        guest.answer(" logs ", Answer(0, b"db | no such table\n"))
        with pytest.raises(EngineError, match="starting services failed with code 1") as caught:
            await start_services(guest, ["web"], log.append)
        assert caught.value.details == "dependency failed to start: db is unhealthy\ndb | no such table\n"
        assert "fix the service" in (caught.value.hint or "")

    assert play(scenario).commands[1] == "docker compose -f /compose.yaml logs --no-color --tail 30 web"


def test_removed_services_leave_no_file_behind() -> None:
    async def scenario(guest: FakeGuest, log: list[str]) -> None:
        await remove_services(guest, "shop", log.append)

    down = "docker compose -p shop --progress plain down --remove-orphans"
    assert play(scenario).commands == [down, "rm -f /compose.yaml"]


def test_the_file_stays_while_services_cannot_be_removed() -> None:
    async def scenario(guest: FakeGuest, log: list[str]) -> None:
        guest.answer(" down ", Answer(1))
        with pytest.raises(EngineError, match="removing services failed"):
            await remove_services(guest, "shop", log.append)

    assert len(play(scenario).commands) == 1


def test_health_in_the_order_that_was_asked_for() -> None:
    async def scenario(guest: FakeGuest, log: list[str]) -> None:
        expected = [{"name": name, "state": "running", "health": None} for name in ("web", "db")]
        assert await wait_healthy(guest, "shop", ["web", "db"]) == expected
        assert await look_at_services(guest, "shop", ["web", "db"]) == expected
        assert {asked.request["project"] for asked in guest.asked} == {"shop"}

    play(scenario)


def test_services_that_are_not_healthy() -> None:
    sick = {
        "state": "running",
        "health": "unhealthy",
        "exit_code": 0,
        "log": "curl: refused",
        "container": "shop-web-1",
    }

    async def scenario(guest: FakeGuest, log: list[str]) -> None:
        guest.answer_call("health", {"ready": False, "failed": True, "services": {"web": sick}})
        with pytest.raises(EngineError, match="services are not healthy") as caught:
            await wait_healthy(guest, "shop", ["web"])
        name, _, shown = (caught.value.details or "").partition(": ")
        assert (name, json.loads(shown)) == ("web", sick)
        assert await look_at_services(guest, "shop", ["web"]) == [
            {"name": "web", "state": "running", "health": "unhealthy"}
        ]

    play(scenario)


@pytest.mark.parametrize("answer", [GuestError("no Docker"), {}, {"services": {}}, {"services": {"web": {}}}])
def test_a_look_at_services_never_fails(answer: Any) -> None:
    async def scenario(guest: FakeGuest, log: list[str]) -> None:
        guest.answer_call("health", answer)
        assert await look_at_services(guest, "shop", ["web"]) == [{"name": "web", "state": "unknown", "health": None}]
        with pytest.raises(GuestError):
            await wait_healthy(guest, "shop", ["web"])

    play(scenario)


def test_a_look_at_a_guest_that_is_gone() -> None:
    async def scenario(guest: FakeGuest, log: list[str]) -> None:
        guest.die()
        assert await look_at_services(guest, "shop", ["web"]) == [{"name": "web", "state": "unknown", "health": None}]

    play(scenario)


def test_a_command_runs_as_and_where_it_is_told() -> None:
    async def scenario(guest: FakeGuest, log: list[str]) -> None:
        guest.answer("make", Answer(0, b"one\ntw", b"err\n"))
        options = {"user": "agent", "cwd": "/workspace", "env": {"A": "1"}}
        await run_logged(guest, log.append, ["make", "all"], title="making", timeout_s=5, **options)
        asked = guest.of("make")
        assert (asked.argv, asked.user, asked.cwd, asked.env) == (["make", "all"], "agent", "/workspace", {"A": "1"})
        assert log == ["one", "err", "tw"], "each stream in lines of its own, and the last without an end"

    play(scenario)


def test_of_a_long_output_the_end_is_in_the_error() -> None:
    async def scenario(guest: FakeGuest, log: list[str]) -> None:
        guest.answer("make", Answer(2, b"".join(b"line %d\n" % number for number in range(KEPT))))
        with pytest.raises(EngineError, match="making failed with code 2") as caught:
            await run_logged(guest, log.append, ["make"], title="making", timeout_s=5)
        assert (caught.value.details or "").splitlines() == log[-TAIL_LINES:]
        assert len(log) == KEPT

    play(scenario)


def test_a_command_that_never_ends_is_ended() -> None:
    async def scenario(guest: FakeGuest, log: list[str]) -> None:
        guest.answer("make", Answer(stdout=b"working\n", hangs=True))
        with pytest.raises(GuestError, match="make: not done within"):
            await run_logged(guest, log.append, ["make"], title="making", timeout_s=0.5)
        assert guest.of("make").given_up
        assert log == ["working"]

    play(scenario)
