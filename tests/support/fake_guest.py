"""A guest for fast tests: it records what it is asked and answers from a table.

It stands at the end of a real GuestChannel and speaks in frames, so everything of the host up to the wire is the real
thing: credit, time-outs, the end of a block. `tests/contract/channel/test_both_guests.py` holds it to what guestd does.
"""

from __future__ import annotations

import asyncio
import io
import json
import posixpath
import shlex
import tarfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple, cast

from vmm.channel.errors import GuestError
from vmm.channel.greeting import Hello
from vmm.channel.guest import GuestChannel
from vmm.guest.guestd.wire import (
    CLOSE,
    CONTROL,
    CREDIT,
    DATA,
    EOF,
    MAX_PAYLOAD,
    MORE,
    OPEN,
    PROTOCOL,
    RESULT,
    STDERR,
    STDOUT,
    VERSION,
    Assembly,
    Decoder,
    Frame,
    ReceiveWindow,
    SendWindow,
    credit_of,
    decode_object,
)

USERS = ("root", "agent", "0", "1000")


@dataclass(frozen=True)
class Answer:
    """What a command prints and how it ends. One that `hangs` ends when it is signalled or nobody wants it any more."""

    code: int = 0
    stdout: bytes = b""
    stderr: bytes = b""
    hangs: bool = False


class Sent(NamedTuple):
    """A file, directory or link that a tar put into the guest."""

    kind: str
    content: bytes
    mode: int
    owner: tuple[int, int]


@dataclass
class Asked:
    """One request; of a command also what it was given as input, and whether the host ended it."""

    op: str
    request: dict[str, Any]
    stdin: bytearray = field(default_factory=bytearray)
    given_up: bool = False

    @property
    def argv(self) -> list[str]:
        return list(self.request.get("argv") or ())

    @property
    def command(self) -> str:
        return shlex.join(self.argv)

    @property
    def user(self) -> str:
        return str(self.request.get("user"))

    @property
    def cwd(self) -> str | None:
        return cast("str | None", self.request.get("cwd"))

    @property
    def env(self) -> Mapping[str, str]:
        return cast("Mapping[str, str]", self.request.get("env") or {})


Reply = Answer | GuestError | Callable[[Asked], Answer | GuestError]
Result = dict[str, Any] | GuestError | Callable[[Asked], dict[str, Any] | GuestError]


class FakeGuest(GuestChannel):
    """A GuestChannel whose guest is in this process. To be made and used within a running loop.

    Commands end with 0 and print nothing unless `answer` says otherwise; operations answer as on a healthy machine.
    `asked` is all that was asked, in order; `files` what was copied into it.
    """

    def __init__(self) -> None:
        super().__init__(cast("asyncio.StreamReader", None), cast("asyncio.StreamWriter", None))
        self.asked: list[Asked] = []
        self.files: dict[str, Sent] = {}
        self._answers: list[tuple[str, Reply]] = []
        self._results: dict[str, Result] = {
            "ping": {"protocol": PROTOCOL, "version": VERSION},
            "identity": {"time_ns": 1},
            "mount": {},
            "wait_unit": {},
            "stat": self._stat,
            "health": _all_healthy,
            "freeze": {"groups": 1, "frozen": True},
            "thaw": {},
            "trim": {"meminfo": {"MemTotal": 1 << 20, "MemAvailable": 1 << 19}, "notes": []},
        }
        self._frames = Decoder()
        self._running: dict[int, Running] = {}
        self._lost = None
        self.peer = Hello(VERSION, PROTOCOL, "boot", "kernel", "fake")

    # what a test says and asks

    def answer(self, words: str, reply: Reply) -> None:
        """Commands that have `words` in them get this reply; of several that match, the one said last."""
        self._answers.insert(0, (words, reply))

    def answer_call(self, op: str, result: Result) -> None:
        """The operation gets this result."""
        self._results[op] = result

    @property
    def commands(self) -> list[str]:
        """The commands that were run, as a shell would read them."""
        return [asked.command for asked in self.asked if asked.op == "exec"]

    def of(self, words: str) -> Asked:
        """The one command with `words` in it."""
        (found,) = [asked for asked in self.asked if asked.op == "exec" and words in asked.command]
        return found

    def die(self) -> None:
        """The guest is gone, and all that ran in it."""
        self._gone(GuestError("the guest is gone"))

    # the place of the connection

    def start(self) -> None:
        pass

    async def hello(self, timeout_s: float = 10.0, *, flush: bool = True) -> Hello:
        if self._ended:
            raise self._ended
        assert self.peer
        self._lose(GuestError("the channel was reset"))
        self._lost = None
        return self.peer

    async def close(self) -> None:
        self._lose(GuestError("the channel was closed"))

    def write(self, frames: bytes) -> None:
        if self._lost:
            return
        for frame in self._frames.feed(frames):
            if frame.kind == OPEN:
                self._running.setdefault(frame.stream, Running(self, frame.stream)).open(frame)
            elif running := self._running.get(frame.stream):
                running.accept(frame)

    async def drain(self) -> None:
        await asyncio.sleep(0)

    # for what runs

    def deliver(self, frame: Frame) -> None:
        """To the host: in the loop's next turn, since nobody answers while he is still being spoken to."""
        asyncio.get_running_loop().call_soon(self._dispatch, frame)

    def finish(self, number: int) -> None:
        self._running.pop(number, None)

    def reply(self, asked: Asked) -> Answer | GuestError:
        if asked.user not in USERS:
            return GuestError(f"no user {asked.user!r} in this machine")
        for words, reply in self._answers:
            if words in asked.command:
                return reply(asked) if callable(reply) else reply
        return Answer()

    def result(self, asked: Asked) -> dict[str, Any] | GuestError:
        if asked.op not in self._results:
            return GuestError(f"guestd knows no operation {asked.op!r}")
        result = self._results[asked.op]
        return result(asked) if callable(result) else result

    def unpack(self, directory: str, archive: bytes) -> None:
        kinds = {tarfile.DIRTYPE: "directory", tarfile.REGTYPE: "file", tarfile.SYMTYPE: "symlink"}
        with tarfile.open(fileobj=io.BytesIO(archive), mode="r|") as tar:
            for member in tar:
                file = tar.extractfile(member) if member.isreg() else None
                content = file.read() if file else member.linkname.encode()
                path = posixpath.normpath(posixpath.join(directory, member.name))
                self.files[path] = Sent(kinds[member.type], content, member.mode, (member.uid, member.gid))

    def _stat(self, asked: Asked) -> dict[str, Any]:
        path = posixpath.normpath(asked.request["path"])
        if sent := self.files.get(path):
            return {"kind": sent.kind, "directory": sent.kind == "directory"}
        within = path == "/" or any(known.startswith(f"{path}/") for known in self.files)
        return {"kind": "directory" if within else "missing", "directory": within}


def _all_healthy(asked: Asked) -> dict[str, Any]:
    state = {"state": "running", "health": None, "exit_code": 0, "log": ""}
    names = asked.request["services"]
    return {"ready": True, "failed": False, "services": {name: {**state, "container": name} for name in names}}


class Running:
    """The guest's end of one stream."""

    def __init__(self, guest: FakeGuest, number: int) -> None:
        self._guest, self._number = guest, number
        self._request = Assembly()
        self._asked: Asked | None = None
        self._answer = Answer()
        self._sending, self._receiving = SendWindow(), ReceiveWindow()
        self._output: list[tuple[int, bytes]] = []
        self._ended = False  # the command; its output may still wait for credit

    def open(self, frame: Frame) -> None:
        message = self._request.add(frame)
        if message is None:
            return
        op, _, body = message.partition(b"\n")
        self._asked = Asked(op.decode(), decode_object(body))
        self._guest.asked.append(self._asked)
        if op != b"exec":
            self._conclude(self._guest.result(self._asked))
        elif not self._asked.request.get("stdin"):
            self._run()

    def accept(self, frame: Frame) -> None:
        assert self._asked
        if frame.kind == DATA:
            self._receiving.arrive(len(frame.payload))
            self._asked.stdin += frame.payload
            credit = self._receiving.consume(len(frame.payload), now=True)
            self._guest.deliver(Frame(self._number, CREDIT, 0, credit.to_bytes(4, "big")))
        elif frame.kind == EOF:
            self._run()
        elif frame.kind == CREDIT:
            self._sending.grant(credit_of(frame))
            self._print()
        elif frame.kind == CONTROL and "signal" in (request := decode_object(frame.payload)):
            self._end(128 + request["signal"])
        elif frame.kind == CLOSE:
            self._asked.given_up = True
            self._guest.finish(self._number)

    def _run(self) -> None:
        assert self._asked
        answer = self._guest.reply(self._asked)
        if isinstance(answer, GuestError):
            self._conclude(answer)
            return
        argv = self._asked.argv
        if argv[:2] == ["tar", "-x"] and answer.code == 0:
            self._guest.unpack(argv[argv.index("-C") + 1], bytes(self._asked.stdin))
        self._answer = answer
        for sub, data in ((STDOUT, answer.stdout), (STDERR, answer.stderr)):
            self._output += [(sub, data[at : at + MAX_PAYLOAD]) for at in range(0, len(data), MAX_PAYLOAD)]
        if answer.hangs:
            self._print()
        else:
            self._end(answer.code)

    def _end(self, code: int) -> None:
        self._answer = Answer(code)
        self._ended = True
        self._print()

    def _print(self) -> None:
        while self._output and (room := self._sending.room):
            sub, data = self._output.pop(0)
            if data[room:]:
                self._output.insert(0, (sub, data[room:]))
            self._sending.spend(len(data[:room]))
            self._guest.deliver(Frame(self._number, DATA, sub, data[:room]))
        if self._ended and not self._output:
            code = self._answer.code
            self._conclude({"code": code, "signal": code - 128 if code > 128 else None})

    def _conclude(self, result: dict[str, Any] | GuestError) -> None:
        message = json.dumps(result.to_json() if isinstance(result, GuestError) else {"ok": result}).encode()
        for at in range(0, len(message), MAX_PAYLOAD):
            more = MORE if at + MAX_PAYLOAD < len(message) else 0
            self._guest.deliver(Frame(self._number, RESULT, more, message[at : at + MAX_PAYLOAD]))
        self._guest.finish(self._number)
