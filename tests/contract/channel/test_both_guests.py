"""What the host may rely on, of guestd and of the fake that stands for it in fast tests alike."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from fake_guest import Answer, Asked, FakeGuest

from vmm.channel.copy import send_tree
from vmm.channel.errors import GuestError
from vmm.channel.guest import GuestChannel
from vmm.guest.guestd.wire import WINDOW
from vmm.walk import walk

T = 20.0
ME = os.geteuid()
as_root = pytest.mark.skipif(ME != 0, reason="the guest's tar runs as root")

# What these shell scripts do, for the one that runs none.
SAYS = "echo out; echo err >&2; exit 3"
TABLE: dict[str, Answer | Callable[[Asked], Answer]] = {
    SAYS: Answer(3, b"out\n", b"err\n"),
    "cat": lambda asked: Answer(0, bytes(asked.stdin)),
    'echo "$WORD" $(pwd)': lambda asked: Answer(0, f"{asked.env['WORD']} {asked.cwd}\n".encode()),
    "/dev/zero": Answer(0, bytes(3 * WINDOW)),
    "sleep 1000": Answer(stdout=b"going\n", hangs=True),
}


@contextlib.asynccontextmanager
async def fake() -> AsyncIterator[tuple[GuestChannel, Callable[[], None]]]:
    async with FakeGuest() as guest:
        for words, reply in TABLE.items():
            guest.answer(words, reply)
        yield guest, guest.die


@pytest.fixture(params=["fake", "guestd"])
def with_guest(request: pytest.FixtureRequest, harness: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Runs `scenario(channel, die)` with the one or the other."""
    monkeypatch.setattr("fake_guest.USERS", ("root", "agent", str(ME)))

    @contextlib.asynccontextmanager
    async def real() -> AsyncIterator[tuple[GuestChannel, Callable[[], None]]]:
        async with harness.start_guestd() as process:
            yield process.channel, process.process.kill

    def play(scenario: Callable[[GuestChannel, Callable[[], None]], Awaitable[None]]) -> None:
        async def body() -> None:
            async with asyncio.timeout(T), real() if request.param == "guestd" else fake() as (channel, die):
                await scenario(channel, die)

        asyncio.run(body())

    return play


def test_a_command_prints_on_two_streams_and_ends_with_its_code(with_guest: Any) -> None:
    async def scenario(channel: GuestChannel, die: object) -> None:
        seen: list[tuple[str, bytes]] = []
        done = await channel.run(
            ["sh", "-c", SAYS], user=ME, timeout_s=T, on_output=lambda name, data: seen.append((name, data))
        )
        assert done == (3, b"out\n", b"err\n")
        assert sorted(seen) == [("stderr", b"err\n"), ("stdout", b"out\n")]

    with_guest(scenario)


@pytest.mark.parametrize("size", [0, 5, 3 * WINDOW])
def test_input_comes_in_whole(with_guest: Any, size: int) -> None:
    async def scenario(channel: GuestChannel, die: object) -> None:
        sent = os.urandom(size)
        done = await channel.run(["cat"], user=ME, stdin=sent, timeout_s=T)
        assert (done.code, done.stdout == sent) == (0, True)

    with_guest(scenario)


def test_output_above_the_window_comes_out_whole_and_its_end_is_kept(with_guest: Any) -> None:
    async def scenario(channel: GuestChannel, die: object) -> None:
        argv = ["head", "-c", str(3 * WINDOW), "/dev/zero"]
        assert len((await channel.run(argv, user=ME, timeout_s=T)).stdout) == 3 * WINDOW
        assert len((await channel.run(argv, user=ME, timeout_s=T, keep=1000)).stdout) == 1000

    with_guest(scenario)


def test_environment_and_directory(with_guest: Any, tmp_path: Path) -> None:
    async def scenario(channel: GuestChannel, die: object) -> None:
        argv = ["sh", "-c", 'echo "$WORD" $(pwd)']
        done = await channel.run(argv, user=ME, env={"WORD": "two  words"}, cwd=str(tmp_path), timeout_s=T)
        assert done.stdout == f"two  words {tmp_path}\n".encode()

    with_guest(scenario)


def test_a_user_who_is_not_there(with_guest: Any) -> None:
    async def scenario(channel: GuestChannel, die: object) -> None:
        with pytest.raises(GuestError, match="no user 'nosuchuser' in this machine"):
            await channel.run(["true"], user="nosuchuser", timeout_s=T)

    with_guest(scenario)


def test_what_takes_too_long_is_an_error_with_its_last_words(with_guest: Any) -> None:
    async def scenario(channel: GuestChannel, die: object) -> None:
        with pytest.raises(GuestError, match=r"sh: not done within 3 s") as caught:
            await channel.run(["sh", "-c", "echo going; sleep 1000"], user=ME, timeout_s=3)
        assert caught.value.details == "going\n"
        assert channel.streams == 0
        assert (await channel.run(["cat"], user=ME, stdin=b"on", timeout_s=T)).stdout == b"on"

    with_guest(scenario)


def test_a_signal_ends_a_command(with_guest: Any) -> None:
    async def scenario(channel: GuestChannel, die: object) -> None:
        async with channel.open_exec(["sh", "-c", "echo going; exec sleep 1000"], user=ME) as command:
            assert await anext(aiter(command)) == (1, b"going\n")
            assert not command.ended
            command.signal(15)
            assert await command.wait() == 128 + 15
            assert command.ended

    with_guest(scenario)


def test_a_guest_that_dies_takes_all_with_it(with_guest: Any) -> None:
    async def scenario(channel: GuestChannel, die: Callable[[], None]) -> None:
        async with channel.open_exec(["sh", "-c", "echo going; exec sleep 1000"], user=ME) as command:
            await anext(aiter(command))
            assert channel.lost is None
            die()
            with pytest.raises(GuestError, match="the guest is gone"):
                await command.wait()
        assert channel.lost
        with pytest.raises(GuestError, match="the guest is gone"):
            await channel.run(["true"], user=ME, timeout_s=T)
        with pytest.raises(GuestError, match="the guest is gone"):
            await channel.hello(T)

    with_guest(scenario)


def test_a_new_hello_ends_what_ran(with_guest: Any) -> None:
    async def scenario(channel: GuestChannel, die: object) -> None:
        async with channel.open_exec(["sh", "-c", "echo going; exec sleep 1000"], user=ME) as command:
            await anext(aiter(command))
            assert (await channel.hello(T)).protocol == 1
            with pytest.raises(GuestError, match="reset"):
                await command.wait()
        assert (await channel.run(["cat"], user=ME, stdin=b"on", timeout_s=T)).stdout == b"on"

    with_guest(scenario)


def test_operations(with_guest: Any, tmp_path: Path) -> None:
    async def scenario(channel: GuestChannel, die: object) -> None:
        assert (await channel.call("ping", T))["protocol"] == 1
        assert await channel.call("stat", T, path="/") == {"kind": "directory", "directory": True}
        assert await channel.call("stat", T, path=str(tmp_path / "x")) == {"kind": "missing", "directory": False}
        with pytest.raises(GuestError, match="guestd knows no operation 'nonsense'"):
            await channel.call("nonsense", T)

    with_guest(scenario)


@as_root
def test_a_tree_arrives(with_guest: Any, tmp_path: Path) -> None:
    (tmp_path / "from/in").mkdir(parents=True)
    (tmp_path / "to").mkdir()
    (tmp_path / "from/in/big").write_bytes(bytes(5 * WINDOW))
    (tmp_path / "from/link").symlink_to("in")

    async def scenario(channel: GuestChannel, die: object) -> None:
        descriptor = os.open(tmp_path, os.O_RDONLY)
        try:
            copied = await send_tree(channel, walk(descriptor, "from"), str(tmp_path / "to"), "name")
        finally:
            os.close(descriptor)
        assert (copied.files, copied.size, copied.skipped) == (1, 5 * WINDOW, ())
        kinds = {}
        for path in ("", "in", "in/big", "link", "other"):
            kinds[path] = (await channel.call("stat", T, path=str(tmp_path / "to/name" / path)))["kind"]
        assert kinds == {"": "directory", "in": "directory", "in/big": "file", "link": "symlink", "other": "missing"}

    with_guest(scenario)
