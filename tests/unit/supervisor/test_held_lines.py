"""Output of the guest on its way to a log or to somebody who does not read it."""

from __future__ import annotations

import asyncio
import json
import socket
import traceback
from pathlib import Path
from typing import Any, cast

import pytest

from engine.errors import EngineError
from engine.guest.services import look_at_services, run_logged, wait_healthy
from engine.secrets.redaction import hold
from engine.supervisor.events import LINES_QUEUED, Events
from engine.supervisor.held_lines import LIMIT, LONGEST, HeldLines
from engine.supervisor.log import LogStream
from vmm.channel.errors import GuestError
from vmm.channel.guest import Completed, GuestChannel


def drained(lines: HeldLines) -> list[str]:
    found = []
    while (line := lines.take()) is not None:
        found.append(line)
    return found


def test_lines_are_kept_in_order_and_those_without_room_counted() -> None:
    lines = HeldLines(limit=100)
    for word in ("1" * 50, "2" * 40, "3" * 20, "4"):
        lines.put(word)
    assert lines.size <= 100
    assert lines.take() == "1" * 50
    lines.put("5")
    assert drained(lines) == ["2" * 40, "... 2 lines left out", "5"]
    lines.put("x" * 101)
    assert drained(lines) == ["... 1 line left out"] and lines.size == 0


def test_a_long_line_is_cut() -> None:
    lines = HeldLines()
    lines.put("x" * 1_000_000)
    assert drained(lines) == ["x" * LONGEST]


def test_the_supervisors_log_is_bounded(tmp_path: Path) -> None:
    directory = tmp_path / "shop"
    directory.mkdir()
    path = directory / "supervisor.log"
    path.write_text("said before we knew of which sandbox we are\n")
    with LogStream(path, limit=10_000) as stream:
        for number in range(5000):
            print(f"line {number} \udcff", file=stream)
    assert path.read_text().splitlines()[-1] == "line 4999 \\udcff"
    assert sum(file.stat().st_size for file in directory.iterdir()) <= 20_000
    assert sorted(file.name for file in directory.iterdir()) == ["supervisor.log", "supervisor.old.log"]


def test_the_supervisors_log_has_no_value_of_a_secret(tmp_path: Path) -> None:
    value = hold("a-value-of-the-supervisors")
    with LogStream(tmp_path / "supervisor.log") as stream:
        try:
            raise ValueError(f"bad header: {value!r}")
        except ValueError:
            traceback.print_exc(file=stream)
    assert value not in (tmp_path / "supervisor.log").read_text()
    assert "bad header: '•••'" in (tmp_path / "supervisor.log").read_text()


def test_no_event_has_a_value_of_a_secret(capsys: pytest.CaptureFixture[str]) -> None:
    value = hold('another-"value"-of-the-supervisors')
    written: list[bytes] = []

    class Writer:
        def write(self, data: bytes) -> None:
            written.append(data)

    events = Events(cast(Any, Writer()))
    events.warn(f"no {value}")
    events.send("failed", brief=f"no {value}", details=None)
    said = [json.loads(line) for line in written]
    assert [line.get("text") or line["brief"] for line in said] == ["no •••", "no •••"]
    assert events.warnings == ["no •••"] and "of-the-supervisors" not in capsys.readouterr().out


def test_a_log_that_cannot_be_written_costs_nobody_his_life() -> None:
    for path in ("/dev/full", "/no/such/directory/log"):
        with LogStream(Path(path)) as stream:
            print("something", file=stream)


def test_lines_of_late_services_are_not_logged_and_not_piled_up(capsys: pytest.CaptureFixture[str]) -> None:
    """`up` stands still while a guest prints 100 MB; then it reads."""

    async def main() -> list[dict[str, Any]]:
        ours, theirs = socket.socketpair()
        theirs.setblocking(False)
        with theirs:
            _, writer = await asyncio.open_connection(sock=ours)
            events = Events(writer)
            events.step("starting late")
            for _ in range(100_000):
                events.line("x" * 1000)
            transport = cast("asyncio.WriteTransport", writer.transport)
            assert transport.get_write_buffer_size() < LINES_QUEUED + 2000
            assert events._lines.size <= LIMIT
            events.step("checking")
            events.send("ready", services=[])
            events.release()
            received = bytearray()
            while data := await asyncio.get_running_loop().sock_recv(theirs, 1 << 20):
                received += data
            return [json.loads(line) for line in received.splitlines()]

    seen = asyncio.run(main())
    assert [event["event"] for event in seen if event["event"] != "line"] == ["step", "step", "ready"]
    lines = [event["text"] for event in seen if event["event"] == "line"]
    assert seen[-3]["text"] == lines[-1] == f"... {100_000 - len(lines) + 1} lines left out"
    logged = capsys.readouterr().out.splitlines()
    assert [json.loads(line)["event"] for line in logged] == ["step", "step", "ready"]


def test_an_up_that_stands_still_does_not_hold_up_the_sandbox() -> None:
    async def main() -> None:
        ours, theirs = socket.socketpair()
        with theirs:
            _, writer = await asyncio.open_connection(sock=ours)
            events = Events(writer)
            for _ in range(1000):
                events.line("x" * 1000)
            events.release()  # returns at once
            writer.transport.abort()

    asyncio.run(main())


class Channel:
    """A guest that answers what a test wants."""

    def __init__(self, answer: Any = None, output: list[tuple[str, bytes]] | None = None, code: int = 0) -> None:
        self.answer, self.output, self.code = answer, output or [], code

    async def call(self, op: str, timeout_s: float, **request: Any) -> Any:
        return self.answer

    async def run(self, argv: list[str], **options: Any) -> Completed:
        for stream, data in self.output:
            options["on_output"](stream, data)
        return Completed(self.code, b"", b"")


def channel(*args: Any, **kwargs: Any) -> GuestChannel:
    return cast("GuestChannel", Channel(*args, **kwargs))


def test_the_two_streams_of_a_step_are_told_apart() -> None:
    output = [("stdout", b"progress 10%"), ("stderr", b"warning: x\nerr"), ("stdout", b"\rdone"), ("stderr", b"or\n")]
    lines: list[str] = []
    with pytest.raises(EngineError) as caught:
        asyncio.run(run_logged(channel(output=output, code=1), lines.append, ["x"], title="x", timeout_s=1))
    assert lines == ["warning: x", "progress 10%", "error", "done"]
    assert str(caught.value.details).splitlines() == lines


def test_the_end_of_a_steps_output_is_kept_within_bounds() -> None:
    output = [("stdout", b"x" * 65536) for _ in range(100)] + [("stdout", b"\n" + b"y" * 65000 + b"\n")] * 100
    lines: list[str] = []
    with pytest.raises(EngineError) as caught:
        asyncio.run(run_logged(channel(output=output, code=1), lines.append, ["x"], title="x", timeout_s=1))
    assert len(str(caught.value.details)) < 70_000 and max(map(len, lines)) <= 4096


@pytest.mark.parametrize(
    "answer",
    [
        {},
        {"ready": True},
        {"ready": True, "services": []},
        {"ready": True, "services": {}},
        {"ready": True, "services": {"web": None}},
        {"ready": True, "services": {"web": {"health": None}}},
        {"ready": True, "services": {"web": {"state": 7, "health": None}}},
        {"ready": True, "services": {"web": {"state": "running", "health": {}}}},
        {"ready": "yes", "services": {"web": {"state": "running", "health": None}}},
        {"ready": 1, "services": {"web": {"state": "running", "health": None}}},
        {"services": {"web": {"state": "running", "health": None}}},
        {"ready": True, "services": {"web": {"state": "x" * 70_000, "health": None}}},
    ],
)
def test_answers_about_services_may_be_anything(answer: Any) -> None:
    with pytest.raises(GuestError, match="the guest's answer lacks"):
        asyncio.run(wait_healthy(channel(answer), "shop", ["web"]))
    seen = asyncio.run(look_at_services(channel(answer), "shop", ["web"]))
    assert seen[0]["name"] == "web" and isinstance(seen[0]["state"], str)


def test_what_services_say_is_kept_short() -> None:
    row = {"state": "s" * 1000, "health": "h" * 1000, "log": "l" * 60_000, "exit_code": 1, "secret": "x"}
    rows = asyncio.run(wait_healthy(channel({"ready": True, "services": {"web": row, "other": 1}}), "shop", ["web"]))
    assert rows == [{"name": "web", "state": "s" * 64, "health": "h" * 64}]
    with pytest.raises(EngineError, match="not healthy") as caught:
        asyncio.run(wait_healthy(channel({"ready": False, "services": {"web": row}}), "shop", ["web"]))
    assert len(str(caught.value.details)) < 5000
