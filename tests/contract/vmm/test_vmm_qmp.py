"""Our QMP session against a scripted QEMU at the other end of a socket pair."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from vmm.errors import VmmError
from vmm.qmp import Qmp, connect_qmp

Runner = Callable[..., Any]
GREETING = {"QMP": {"version": {"qemu": {"major": 10, "minor": 0, "micro": 0}, "package": ""}, "capabilities": ["oob"]}}
END = object()  # closes the connection instead of an answer
SILENCE = object()


class ScriptedQemu:
    """Answers each command by the script's next entry; an entry is a list of messages, END or SILENCE."""

    def __init__(self, connection: socket.socket, script: dict[str, Any]) -> None:
        self.connection = connection
        lent = {"add-fd": [{"return": {"fdset-id": 7, "fd": 20}}], "remove-fd": [{"return": {}}]}
        self.script = {"qmp_capabilities": [{"return": {}}], **lent, **script}
        self.seen: list[tuple[str, Any]] = []

    async def serve(self) -> None:
        reader, writer = await asyncio.open_connection(sock=self.connection)
        try:
            writer.write(json.dumps(GREETING).encode() + b"\r\n")
            async for command in commands(reader):
                self.seen.append((command["execute"], command.get("arguments")))
                answers = self.script[command["execute"]]
                if answers is END:
                    return
                for answer in [] if answers is SILENCE else answers:
                    if answer is END:
                        await writer.drain()
                        return
                    named = answer if "event" in answer else {**answer, "id": command.get("id")}
                    writer.write(json.dumps({k: v for k, v in named.items() if v is not None}).encode() + b"\r\n")
        finally:
            writer.close()


async def commands(reader: asyncio.StreamReader) -> AsyncIterator[dict[str, Any]]:
    """The client sends its commands without anything between them."""
    text, decoder = "", json.JSONDecoder()
    while chunk := await reader.read(65536):
        text = (text + chunk.decode()).lstrip()  # a descriptor is sent with a space
        while text:
            try:
                command, end = decoder.raw_decode(text)
            except ValueError:
                break
            text = text[end:].lstrip()
            yield command


@contextlib.asynccontextmanager
async def session(script: dict[str, Any]) -> AsyncIterator[tuple[Qmp, ScriptedQemu]]:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        qemu = ScriptedQemu(theirs, script)
        task = asyncio.create_task(qemu.serve())
        try:
            async with connect_qmp(ours, timeout_s=20) as qmp:
                yield qmp, qemu
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)


def status(word: str) -> dict[str, Any]:
    return {"event": "MIGRATION", "data": {"status": word}, "timestamp": {"seconds": 1, "microseconds": 2}}


def test_commands_and_answers(run_clean: Runner) -> None:
    async def main() -> None:
        async with session({"query-status": [{"return": {"status": "running"}}], "balloon": [{"return": {}}]}) as (
            qmp,
            qemu,
        ):
            assert await qmp.execute("query-status") == {"status": "running"}
            assert await qmp.execute("balloon", value=5) == {}
            assert qemu.seen[0][0] == "qmp_capabilities"
            assert qemu.seen[1:] == [("query-status", None), ("balloon", {"value": 5})]

    run_clean(main())


def test_names_get_their_hyphens(run_clean: Runner) -> None:
    async def main() -> None:
        async with session({"human-monitor-command": [{"return": "text\r\n"}]}) as (qmp, qemu):
            assert await qmp.monitor("info version") == "text\r\n"
            assert qemu.seen[1:] == [("human-monitor-command", {"command-line": "info version"})]

    run_clean(main())


def test_a_refusal_carries_qemus_words(run_clean: Runner) -> None:
    async def main() -> None:
        error = {"error": {"class": "GenericError", "desc": "Bus 'slot9' not found"}}
        async with session({"device_add": [error], "cont": [{"return": {}}]}) as (qmp, _):
            with pytest.raises(VmmError, match=r"^QEMU refused device_add$") as caught:
                await qmp.execute("device_add", driver="x")
            assert "Bus 'slot9' not found" in (caught.value.details or "")
            await qmp.execute("cont")  # the session goes on

    run_clean(main())


def test_no_answer_has_a_deadline_and_a_late_one_is_dropped(run_clean: Runner) -> None:
    async def main() -> None:
        async with session({"stop": SILENCE, "cont": [{"return": {"late": True}, "id": None}, {"return": {}}]}) as (
            qmp,
            _,
        ):
            with pytest.raises(VmmError, match="did not answer stop within 0 s"):
                await qmp.execute("stop", timeout_s=0.05)
            assert await qmp.execute("cont") in ({}, {"late": True})

    run_clean(main())


def test_the_peers_end_answers_what_is_open_and_what_follows(run_clean: Runner) -> None:
    async def main() -> None:
        async with session({"quit": END}) as (qmp, _):
            for _ in range(2):
                with pytest.raises(VmmError, match="QEMU was gone before it answered quit"):
                    await qmp.execute("quit", timeout_s=20)

    run_clean(main())


@pytest.mark.parametrize("said", [b"", b"hello\r\n", b'{"not": "a greeting"}\r\n', b"\xff\xfe"])
def test_no_greeting(run_clean: Runner, said: bytes) -> None:
    async def main() -> None:
        ours, theirs = socket.socketpair()
        with ours, theirs:
            theirs.sendall(said)
            theirs.close()
            with pytest.raises(VmmError, match="QEMU did not greet"):
                async with connect_qmp(ours, timeout_s=20):
                    raise AssertionError

    run_clean(main())


def test_a_silent_peer_is_waited_for_with_a_deadline(run_clean: Runner) -> None:
    async def main() -> None:
        ours, theirs = socket.socketpair()
        with ours, theirs:
            with pytest.raises(VmmError, match="QEMU did not greet"):
                async with connect_qmp(ours, timeout_s=0.05):
                    raise AssertionError

    run_clean(main())


def test_refused_capabilities(run_clean: Runner) -> None:
    async def main() -> None:
        refusal = {"error": {"class": "CommandNotFound", "desc": "no"}}
        with pytest.raises(VmmError, match="QEMU did not greet"):
            async with session({"qmp_capabilities": [refusal]}):
                raise AssertionError

    run_clean(main())


@pytest.mark.parametrize("early", [True, False])
def test_migration_completes(run_clean: Runner, early: bool, tmp_path: Path) -> None:
    """The events may come before the command's own answer. QEMU opens what it was given, which is not there before."""
    events = [status("setup"), status("active"), {"event": "RESUME"}, status("completed")]
    answers = [*events, {"return": {}}] if early else [{"return": {}}, *events]

    async def main() -> None:
        async with session({"migrate": answers}) as (qmp, qemu):
            await qmp.migrate("migrate", tmp_path / "state", timeout_s=20)
            assert qemu.seen[1:] == [
                ("add-fd", {"opaque": str(tmp_path / "state")}),
                ("migrate", {"uri": "file:/dev/fdset/7"}),
                ("remove-fd", {"fdset-id": 7}),
            ]
        assert (tmp_path / "state").stat().st_mode & 0o777 == 0o600

    run_clean(main())


@pytest.mark.parametrize("word", ["failed", "cancelled"])
def test_migration_fails_with_qemus_reason(run_clean: Runner, word: str, tmp_path: Path) -> None:
    reason = [{"return": {"status": "failed", "error-desc": "No space left on device"}}]

    async def main() -> None:
        async with session({"migrate": [{"return": {}}, status("active"), status(word)], "query-migrate": reason}) as (
            qmp,
            _,
        ):
            with pytest.raises(VmmError, match=rf"^migrate {word}$") as caught:
                await qmp.migrate("migrate", tmp_path / "state", timeout_s=20)
            assert caught.value.details == "No space left on device"

    run_clean(main())


def test_migration_refused(run_clean: Runner, tmp_path: Path) -> None:
    refusal = {"error": {"class": "GenericError", "desc": "State blocked by non-migratable device"}}

    async def main() -> None:
        async with session({"migrate": [refusal]}) as (qmp, _):
            with pytest.raises(VmmError, match="QEMU refused migrate") as caught:
                await qmp.migrate("migrate", tmp_path / "state", timeout_s=20)
            assert "non-migratable" in (caught.value.details or "")

    run_clean(main())


def test_qemu_ends_during_migration(run_clean: Runner, tmp_path: Path) -> None:
    """The deadline is an hour: the end itself must be seen."""
    state = tmp_path / "state"
    state.touch()

    async def main() -> None:
        async with session({"migrate-incoming": [{"return": {}}, status("active"), END]}) as (qmp, _):
            with pytest.raises(VmmError, match=r"QEMU (ended during|was gone)"):
                await qmp.migrate("migrate-incoming", state, timeout_s=3600)

    run_clean(main())


def test_migration_has_a_deadline(run_clean: Runner, tmp_path: Path) -> None:
    async def main() -> None:
        async with session({"migrate": [{"return": {}}, status("active")], "stop": [{"return": {}}]}) as (qmp, _):
            with pytest.raises(VmmError, match="migrate was not done after 0 s"):
                await qmp.migrate("migrate", tmp_path / "state", timeout_s=0.05)
            await qmp.execute("stop")

    run_clean(main())


def test_events_that_nobody_waits_for_are_not_kept(run_clean: Runner) -> None:
    async def main() -> None:
        async with session({"stop": [*[status("active")] * 100, {"return": {}}]}) as (qmp, _):
            await qmp.execute("stop")
            assert qmp._client.events.empty()
            assert not qmp._client.events.history

    run_clean(main())


@pytest.mark.parametrize("rounds", [0, 1, 2, 3, 5, 8, 13, 21])
def test_cancelled_at_any_moment_nothing_is_left(run_clean: Runner, rounds: int) -> None:
    """While it connects, negotiates, executes."""

    async def use() -> None:
        async with session({"stop": SILENCE}) as (qmp, _):
            await qmp.execute("stop", timeout_s=60)

    async def main() -> None:
        task = asyncio.create_task(use())
        for _ in range(rounds):
            await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    run_clean(main())
