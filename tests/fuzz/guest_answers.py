"""What this host reads of a guest's answers: guestd's JSON, and what commands print there."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Coroutine, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeVar, cast

from engine.agents.definition import Answer, Commands
from engine.agents.definition import Place as Where
from engine.agents.headless import read_answer
from engine.clones.commits import count_unnamed, pull_commits
from engine.clones.putting import Put, put_into_guest
from engine.errors import EngineError
from engine.guest.services import LONGEST_KEPT, TAIL_LINES, look_at_services, run_logged, wait_healthy
from engine.lifecycle.stats import read_counters, usage_between
from engine.lifecycle.task_end import _memory_kills
from vmm.channel.answers import LARGEST, LONGEST, exit_code, read, read_mapping
from vmm.channel.errors import LONGEST as LONGEST_BRIEF
from vmm.channel.errors import LONGEST_DETAILS, GuestError
from vmm.channel.greeting import read_hello
from vmm.channel.guest import Completed
from vmm.guest.guestd.wire import PROTOCOL, decode_object

T = TypeVar("T")
NAMES = ("web", "db")


class Channel:
    """A guest that gives one answer to whatever it is asked."""

    def __init__(self, answer: Mapping[str, Any] | None = None, output: bytes = b"", code: int = 0) -> None:
        self._answer, self._output, self._code = answer, output, code
        self.piece = len(output) or 1

    async def call(self, op: str, timeout_s: float, **args: Any) -> Mapping[str, Any]:
        if self._answer is None:
            raise GuestError("it refuses")
        return self._answer

    async def run(
        self, argv: Sequence[str], *, on_output: Callable[[str, bytes], None] | None = None, **more: Any
    ) -> Completed:
        for at in range(0, len(self._output) if on_output else 0, self.piece):
            assert on_output
            on_output(("stdout", "stderr")[self._code & 1], self._output[at : at + self.piece])
        return Completed(self._code, self._output[-more.get("keep", 1 << 20) :], self._output[-100:])


def at_once(work: Coroutine[Any, Any, T]) -> T:
    """What it returns, as it waits for nothing."""
    try:
        work.send(None)
    except StopIteration as done:
        return cast(T, done.value)
    raise AssertionError("it waits")


def asked(work: Coroutine[Any, Any, T]) -> T | None:
    """The same; None where it says that the guest is at fault, in a few words."""
    try:
        return at_once(work)
    except (GuestError, EngineError) as error:
        assert error.brief and len(error.brief) < 1000
        return None


# guestd


def _parsed(data: bytes) -> Any:
    try:
        return json.loads(data)
    except (ValueError, RecursionError):
        return None


def greeting(data: bytes) -> None:
    """Who answers is known, or an error says that it is nonsense."""
    value = _parsed(data)
    try:
        hello = read_hello(data)
    except GuestError as error:
        assert len(error.brief) < 200
        texts = [value.get(key) for key in ("version", "boot_id", "kernel", "hostname")] if type(value) is dict else []
        right = texts and type(value.get("protocol")) is int and value["protocol"] == PROTOCOL
        assert not (right and all(isinstance(text, str) and len(text) <= LONGEST for text in texts))
        return
    for key in ("version", "boot_id", "kernel", "hostname"):
        assert getattr(hello, key) == value[key][:200]
    assert hello.protocol == PROTOCOL == value["protocol"] and value["protocol"] is not True


def answers(data: bytes) -> None:
    """A field is what was asked for, in its bounds; an error crosses the wire and comes out short, and the same."""
    try:
        answer = decode_object(data)
    except ValueError:
        assert type(_parsed(data)) is not dict
        return
    for name in ("kind", "code", "x"):
        value = answer.get(name)
        for kind in (str, bool, int):
            found = _or_none(lambda name=name, kind=kind: read(answer, name, kind))  # type: ignore[misc]
            fits = type(value) is kind and (len(value) <= LONGEST if kind is str else 0 <= value <= LARGEST)
            assert (found is value) if fits else found is None
        mapping = _or_none(lambda name=name: read_mapping(answer, name))  # type: ignore[misc]
        assert mapping is (value if isinstance(value, dict) else None)
    code = _or_none(lambda: exit_code(answer))
    assert code == (answer["code"] if code is not None else None) and (code is None or code in range(256))
    error = GuestError.from_json(answer.get("error"))
    assert error.brief and all(len(each or "") <= LONGEST_BRIEF for each in (error.brief, error.hint))
    assert len(error.details or "") <= LONGEST_DETAILS
    again = GuestError.from_json(json.loads(json.dumps(error.to_json()))["error"])
    assert (again.brief, again.details, again.hint) == (error.brief, error.details, error.hint)


def _or_none(work: Callable[[], T]) -> T | None:
    try:
        return work()
    except GuestError:
        return None


def services(data: bytes) -> None:
    """States are short words, and details of a failure are bounded. What commands print is the same in any pieces."""
    answer = _parsed(data)
    channel = cast(Any, Channel(answer if isinstance(answer, dict) else None))
    rows = at_once(look_at_services(channel, "p", NAMES))
    waited = asked(wait_healthy(channel, "p", NAMES))
    assert waited is None or waited == rows
    assert [row["name"] for row in rows] == list(NAMES)
    for row in rows:
        assert isinstance(row["state"], str) and len(row["state"]) <= 64
        assert row["health"] is None or (isinstance(row["health"], str) and len(row["health"]) <= 64)
    code, output = (data[0] & 3, data[1:]) if data else (0, b"")
    told: list[tuple[list[str], str | None]] = []
    for piece in (len(output) or 1, 7, 1):
        printing, lines = Channel(output=output, code=code), list[str]()
        printing.piece = piece
        details = None
        try:
            at_once(run_logged(cast(Any, printing), lines.append, ["x"], title="x", timeout_s=1))
        except EngineError as error:
            details = error.details or ""
            assert code and details.count("\n") < TAIL_LINES and len(details) <= TAIL_LINES * (LONGEST_KEPT + 1)
        told.append((lines, details))
    assert told[0] == told[1] == told[2], "pieces change it"
    slow = [line.decode(errors="replace").rstrip() for line in output.replace(b"\r", b"\n").split(b"\n")]
    assert len(output) > 4096 or told[0][0] == [line for line in slow if line]


# Commands

COMMANDS = {
    kind: Commands(
        interactive=("x",),
        headless=("x", "{{prompt}}"),
        output=kind,
        answer=Answer(
            text=Where(where={"type": "result"} if kind == "jsonl" else {}, at="result.-1.text"),
            usage=Where(at="usage"),
            session=Where(at="session"),
            failed=Where(at="failed"),
        ),
    )
    for kind in ("json", "jsonl")
}


def vitals(data: bytes) -> None:
    """Numbers of a guest are within bounds, or there are none; of files it names those that it was asked about."""
    text = data.decode(errors="replace")
    with suppress(EngineError):
        counters = read_counters(text)
        assert all(isinstance(number, int) and abs(number) < 2**80 for number in counters)
        usage = usage_between(counters._replace(busy=0, total=0), counters)
        assert math.isfinite(usage.cpu) and 0 <= usage.cpu <= 100 * usage.processors
    channel = cast(Any, Channel(output=data))
    kills = asked(_memory_kills(channel))
    assert kills is None or 0 <= kills < 10**18
    commits = asked(count_unnamed(channel, "/x", ()))
    assert commits is None or (type(commits) is int and commits >= 0)
    if not re.search(rb'"commits": *"?[ +_]*[0-9.]', data):  # else it would be fetched
        pulled = asked(pull_commits(channel, "/x", Path(), None, "b", Path()))
        assert pulled is None or (pulled.commits == 0 and type(pulled.left) is int)
    left = asked(put_into_guest(channel, "/x", [Put("a", None, None), Put("b", None, None)]))
    assert left is None or (left.keys() <= {"a", "b"} and all(len(why) < 100 for why in left.values()))
    for commands in COMMANDS.values():
        said = read_answer(commands, text)
        written = json.dumps([said.text, said.usage, said.session], indent=2, allow_nan=False)
        assert json.loads(written) == [said.text, said.usage, said.session] and type(said.failed) is bool


HELLO = b'{"version": "1", "protocol": 1, "boot_id": "b", "kernel": "6.1", "hostname": "shop"}'
GREETING_SEEDS = (HELLO, HELLO.replace(b"1,", b"2,"), HELLO.replace(b"1,", b"true,"), b"[" * 500, b'{"version": 1e999}')
ANSWER_SEEDS = (
    b'{"kind": "file", "code": 3, "x": true, "error": {"brief": "no", "details": "why", "hint": "so"}}',
    b'{"kind": {"a": []}, "code": -1, "x": 9223372036854775808, "error": {"brief": ["x"], "details": 1.5, "hint": 7}}',
    b'{"code": true, "x": 1e999, "error": "gone"}',
)
SERVICE_SEEDS = (
    b'{"ready": true, "services": {"web": {"state": "running", "health": "healthy"}, "db": {"state": "exited"}}}',
    b'{"ready": false, "services": {"web": {"state": "\\u001b", "health": null, "log": "no"}, "db": {"state": ""}}}',
    b'{"ready": 1, "services": {"web": {"state": 1}, "db": []}}',
    b'{"ready": true, "services": {"web": {"state": "x", "health": 7}, "db": {"state": "x"}}}',
    b'{"ready": true, "services": {"web": {"state": "%s"}, "db": {"state": "x", "health": "%s"}}}'
    % (b"s" * 70, b"h" * 70),
    b"\1one\ntwo\r\nthree\rfour \xff\xc3\n\n  \nfive",
)
STATS = b"""5.11 9.99
cpu  10 2 3 400 5 0 1 0 0 0
cpu0 10 2 3 400 5 0 1 0 0 0
MemTotal: 2048 kB
MemAvailable: 1024 kB
  eth0: 10 1 0 0 0 0 0 0 20 1 0 0
Filesystem 1024-blocks Used Available Capacity Mounted on
/dev/vda 100 50 50 50% /
"""
VITAL_SEEDS = (
    STATS,
    b"a 1\noom_kill 3\n",
    b"17\n",
    b'{"commits": 0, "left": 3}',
    b'{"commits": "x", "left": 1e999}',
    b'{"left": {"a": "kind", "b": ["x"]}}',
    b'{"changed": "a"}',
    b'x {"result": [1, {"text": "done"}], "usage": {"in": 1.5}, "session": "s", "failed": false} y',
    b'{"type": "result", "result": [{"text": {"a": NaN}}], "usage": 1e999}\n{"type": "x"}\n',
    b'{"result":' + b"[" * 990,
)
WORDS = tuple(
    b'"services" "state" "health" "ready" "brief" "details" "protocol" null true 1e999 NaN -1 "\\ud800" [[[[ {"a": '
    b'"left" "commits" "result" "usage" "type" "session/update" "path" "uri" "cwd" "file:///w/" "/w/" "_meta"'.split()
)
