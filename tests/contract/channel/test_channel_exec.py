from __future__ import annotations

import asyncio
import os
import signal
from typing import Any

import pytest

from vmm.channel.errors import GuestError
from vmm.channel.guest import GuestChannel
from vmm.guest.guestd.loop import MAX_STREAMS
from vmm.guest.guestd.wire import WINDOW

T = 20.0


async def run(channel: GuestChannel, *argv: str, **options: Any) -> Any:
    return await channel.run(argv, timeout_s=T, user=os.geteuid(), **options)


def script(channel: GuestChannel, text: str, **options: Any) -> Any:
    return run(channel, "sh", "-c", text, **options)


def test_output_comes_on_separate_streams_with_the_exact_code(harness: Any) -> None:
    async def scenario() -> None:
        async with harness.start_guestd() as guestd:
            seen: list[tuple[str, bytes]] = []
            done = await script(
                guestd.channel,
                "echo out; echo err >&2; exit 42",
                on_output=lambda name, data: seen.append((name, data)),
            )
            assert done == (42, b"out\n", b"err\n")
            assert sorted(seen) == [("stderr", b"err\n"), ("stdout", b"out\n")]

    asyncio.run(scenario())


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("exit 0", 0),
        ("exit 255", 255),
        ("kill -9 $$", 137),
        ("kill -TERM $$", 143),
        ("nosuchcommand", 127),
    ],
)
def test_codes_of_a_shell(harness: Any, text: str, code: int) -> None:
    async def scenario() -> None:
        async with harness.start_guestd() as guestd:
            assert (await script(guestd.channel, text)).code == code

    asyncio.run(scenario())


@pytest.mark.parametrize("tty", [False, True])
def test_a_command_that_cannot_start(harness: Any, tmp_path: Any, tty: bool) -> None:
    async def attempt(channel: GuestChannel, argv: list[str], cwd: str | None = None) -> tuple[int, bytes]:
        async with channel.open_exec(argv, user=os.geteuid(), tty=tty, cwd=cwd) as command:
            text = b"".join([data async for _, data in command])
            return await command.wait(), text

    async def scenario() -> None:
        plain = tmp_path / "plain"
        plain.write_text("no program")
        async with harness.start_guestd() as guestd:
            code, text = await attempt(guestd.channel, ["nosuchcommand"])
            assert code == 127
            assert b"nosuchcommand: command not found" in text
            code, text = await attempt(guestd.channel, ["/nosuch/command"])
            assert code == 127
            code, text = await attempt(guestd.channel, [str(plain)])
            assert code == 126
            assert b"Permission denied" in text
            code, text = await attempt(guestd.channel, ["true"], cwd="/nosuch")
            assert code == 126
            assert b"/nosuch" in text

    asyncio.run(scenario())


def test_unknown_user_is_an_error(harness: Any) -> None:
    async def scenario() -> None:
        async with harness.start_guestd() as guestd:
            with pytest.raises(GuestError, match="no user 'nosuchuser'"):
                await guestd.channel.run(["true"], user="nosuchuser", timeout_s=T)

    asyncio.run(scenario())


def test_environment_and_directory_are_those_of_a_login(harness: Any, tmp_path: Any) -> None:
    async def scenario() -> None:
        async with harness.start_guestd() as guestd:
            text = 'echo "$HOME|$USER|$SHELL|$PATH|$X|$PWD|$NOTIFY_SOCKET"'
            done = await script(guestd.channel, text, env={"X": "a b"}, cwd=str(tmp_path))
            home, user, shell, path, x, cwd, rest = done.stdout.decode().strip().split("|")
            assert home and user and shell.startswith("/") and "/usr/bin" in path
            assert (x, cwd, rest) == ("a b", str(tmp_path), "")
            done = await script(guestd.channel, "pwd; cat /proc/self/oom_score_adj; ps -o sid= -p $$; echo $$")
            where, oom, session, pid = done.stdout.decode().split()
            assert where == home
            assert oom == "0"
            assert session == pid

    asyncio.run(scenario())


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")
def test_another_user_gets_its_ids_and_groups(harness: Any) -> None:
    async def scenario() -> None:
        async with harness.start_guestd() as guestd:
            for user in ("nobody", 65534, "65534"):
                done = await guestd.channel.run(["sh", "-c", "id -u; id -g; id -G"], user=user, timeout_s=T)
                uid, gid, *groups = done.stdout.split()
                assert uid == b"65534"
                assert groups == [gid]

    asyncio.run(scenario())


def test_binary_stdin_is_echoed_and_its_end_is_seen(harness: Any) -> None:
    data = bytes(range(256)) * 12000  # 3 MB, many windows

    async def scenario() -> None:
        async with harness.start_client() as (_, client):
            done = await run(client, "cat", stdin=data)
            assert done.code == 0
            assert done.stdout == data
            assert (await run(client, "cat")).stdout == b""  # without stdin it is empty, not ours

    asyncio.run(scenario())


def test_a_command_that_does_not_read_its_input_does_not_hang(harness: Any) -> None:
    async def scenario() -> None:
        async with harness.start_guestd() as guestd:
            done = await script(guestd.channel, "exec <&-; echo done; exit 3", stdin=bytes(5 * WINDOW))
            assert done[:2] == (3, b"done\n")

    asyncio.run(scenario())


def test_a_stalled_reader_blocks_nobody_and_grows_nothing(harness: Any) -> None:
    size = 50_000_000

    async def scenario() -> None:
        async with harness.start_client() as (guestd, client):
            command = f"head -c {size} /dev/zero"
            async with client.open_exec(["sh", "-c", command], user=os.geteuid()) as big:
                for _ in range(20):  # while nobody reads the big one
                    await client.call("ping", T)
                    assert (await run(client, "echo", "x")).stdout == b"x\n"
                got = since = 0
                async for _, data in big:
                    assert not any(data)
                    got += len(data)
                    since += len(data)
                    if since > 2_500_000:
                        await client.call("ping", T)
                        since = 0
                    assert big._stream.held <= WINDOW
                assert got == size
                assert await big.wait() == 0
            assert guestd.peak_memory() < 40_000_000

    asyncio.run(scenario())


def test_fifty_commands_at_once(harness: Any) -> None:
    async def scenario() -> None:
        async with harness.start_client() as (_, client):
            async with asyncio.TaskGroup() as group:
                tasks = [
                    group.create_task(script(client, f"cat; echo {n} >&2; exit {n}", stdin=b"%d" % n))
                    for n in range(50)
                ]
            for n, task in enumerate(tasks):
                assert task.result() == (n, b"%d" % n, b"%d\n" % n)

    asyncio.run(scenario())


def test_more_streams_than_the_limit_are_refused_clearly(harness: Any) -> None:
    async def scenario() -> None:
        async with harness.start_guestd() as guestd:
            streams = [guestd.channel.open_stream("exec", {"argv": ["cat"], "stdin": True}) for _ in range(1000)]
            results = await asyncio.gather(
                *(stream.result() for stream in streams[MAX_STREAMS:]), return_exceptions=True
            )
            assert all(isinstance(r, GuestError) and "too many operations" in r.brief for r in results)
            for stream in streams[:MAX_STREAMS]:
                stream.send_eof()
            assert [r["code"] for r in await asyncio.gather(*(s.result() for s in streams[:MAX_STREAMS]))] == [
                0
            ] * MAX_STREAMS
            assert (await run(guestd.channel, "true")).code == 0

    asyncio.run(scenario())


def test_terminal_with_resize_and_keys(harness: Any) -> None:
    async def scenario() -> None:
        async with harness.start_client() as (_, client):
            text = "stty size; tty; test -t 2 && echo isatty; read x; stty size; echo got $x; read y"
            async with client.open_exec(
                ["sh", "-c", text], user=os.geteuid(), tty=True, stdin=True, rows=33, cols=101
            ) as command:
                output = b""
                resized = interrupted = False
                async for fd, data in command:
                    assert fd == 1
                    output += data
                    if b"isatty" in output and not resized:
                        resized = True
                        command._stream.control(resize=[10, 20])
                        await command.write_stdin(b"hello\n")
                    if b"got hello" in output and not interrupted:
                        interrupted = True
                        await command.write_stdin(b"\x03")
                assert b"33 101\r\n" in output
                assert b"/dev/pts/" in output
                assert b"10 20\r\n" in output
                assert await command.wait() == 128 + signal.SIGINT

    asyncio.run(scenario())


def test_signals_reach_the_whole_group(harness: Any) -> None:
    async def scenario() -> None:
        async with harness.start_client() as (_, client):
            text = "trap 'kill $! 2>/dev/null; echo caught; exit 9' USR1; sleep 1000 & echo ready; wait"
            async with client.open_exec(["sh", "-c", text], user=os.geteuid()) as command:
                output = b""
                async for _, data in command:
                    output += data
                    if output == b"ready\n":
                        command.signal(signal.SIGUSR1)
                assert output.startswith(b"ready\n") and output.endswith(b"caught\n")
                assert await command.wait() == 9

    asyncio.run(scenario())


def test_a_background_child_that_holds_stdout_does_not_hold_the_exec(harness: Any) -> None:
    async def scenario() -> None:
        async with harness.start_guestd() as guestd:
            done = await script(guestd.channel, "sleep 1000 & echo $!")
            assert done.code == 0
            pid = int(done.stdout)
            assert harness.is_alive(pid)  # it was started on purpose and goes on
            os.kill(pid, signal.SIGKILL)
            # One that never stops writing, too; what was there when the shell ended arrives.
            async with guestd.channel.open_exec(["sh", "-c", "yes & echo $! >&2"], user=os.geteuid()) as command:
                chunks = [chunk async for chunk in command]
                assert await command.wait() == 0
            pid = int(b"".join(data for fd, data in chunks if fd == 2))
            os.kill(pid, signal.SIGKILL)

    asyncio.run(scenario())


def test_all_output_of_an_ended_command_arrives_however_late_it_is_read(harness: Any) -> None:
    async def scenario() -> None:
        async with harness.start_guestd() as guestd:
            size = WINDOW + 60_000  # the last part waits in the pipe when the process ends
            async with guestd.channel.open_exec(["head", "-c", str(size), "/dev/zero"], user=os.geteuid()) as command:
                for _ in range(10):
                    assert (await run(guestd.channel, "true")).code == 0
                assert sum([len(data) async for _, data in command]) == size

    asyncio.run(scenario())


@pytest.mark.parametrize("tty", [False, True])
def test_leaving_the_block_ends_the_process_group(harness: Any, tty: bool) -> None:
    async def scenario() -> None:
        async with harness.start_guestd() as guestd:
            async with guestd.channel.open_exec(
                ["sh", "-c", "sleep 1000 & echo $$ $!; wait"], user=os.geteuid(), tty=tty
            ) as command:
                async for _, data in command:
                    pids = [int(pid) for pid in data.split()]
                    break
            await harness.wait_until(lambda: not any(harness.is_alive(pid) for pid in pids))

    asyncio.run(scenario())


def test_who_ignores_term_is_killed(harness: Any) -> None:
    async def scenario() -> None:
        async with harness.start_guestd(KILL_AFTER_S=0.3) as guestd:
            text = "trap '' TERM HUP; echo $$; while :; do sleep 1; done"
            for timeout_s in (0.3, 1, 5, 20):  # on a busy machine it may not get to say anything in a short time
                with pytest.raises(GuestError, match="not done within") as caught:
                    await guestd.channel.run(["sh", "-c", text], user=os.geteuid(), timeout_s=timeout_s)
                if caught.value.details:
                    break
            pid = int(str(caught.value.details))
            await harness.wait_until(lambda: not harness.is_alive(pid))

    asyncio.run(scenario())


def test_cancellation_ends_the_command(harness: Any) -> None:
    async def scenario() -> None:
        async with harness.start_client() as (_, client):
            pid: asyncio.Future[int] = asyncio.get_running_loop().create_future()
            task = asyncio.create_task(
                script(client, "echo $$; exec sleep 1000", on_output=lambda _, data: pid.set_result(int(data)))
            )
            await pid
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            await harness.wait_until(lambda: not harness.is_alive(pid.result()))

    asyncio.run(scenario())
