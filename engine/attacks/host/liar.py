"""A guestd of root's in the place of ours: it says hello as it should, and answers every question wrongly.

The host's commands end with a word, nothing grows, and when our guestd is back they work again. The liar says when it
has lied to a command of the host's: what was asked of the honest one proves nothing.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from functools import partial

from engine.attacks.host.channel import anew, size_of
from engine.attacks.host.check import Check
from engine.attacks.trial import Trial

_UP_S, _END_S = 90.0, 60.0
# It waits for the first command so long; then it ends when nobody has asked for so many seconds, and at the latest after
# so many after the first lie, before `_END_S`: a command without an answer ends as ours is started again.
_WAITS_S, _QUIET_S, _LIES_S = 180, 15, 40
_LIE = r"""
import json, os, socket, subprocess, sys, threading, time
what, word = sys.argv[1:3]
waits_s, quiet_s, lies_s = map(float, sys.argv[3:])
port = "/dev/virtio-ports/org.sandbox.agent"
sys.path.insert(0, "/usr/lib/sandbox")
from guestd import wire
from guestd.loop import Loop
time.sleep(1)
subprocess.run(["systemctl", "stop", "sandbox-guestd"], check=True)
RESULT, DATA, EOF = wire.RESULT, wire.DATA, wire.EOF
def answer(loop, stream, *messages):
    for message in messages:
        loop.out += wire.encode_message(stream, RESULT, message)
def endless(loop, stream):
    loop.out += wire.encode_frame(stream, DATA, 0, b"x" * 60000)
    if len(loop.out) < 1 << 22:
        loop.call_later(0.01, lambda: endless(loop, stream))
LIES = {
    "other types": lambda loop, stream: answer(loop, stream, json.dumps({"ok": {key: [[{"code": key}]] for key in ("code", "size", "kind", "pid", "ready", "services", "session", "time_ns", "mode", "kernel")}}).encode()),
    "numbers": lambda loop, stream: answer(loop, stream, b'{"ok": {"code": 1e999, "size": -1, "time_ns": ' + b"9" * 4000 + b', "mode": NaN, "ready": Infinity}}'),
    "a number without end": lambda loop, stream: answer(loop, stream, b'{"ok": {"code": ' + b"9" * 900000 + b"}}"),
    "deep": lambda loop, stream: answer(loop, stream, b'{"ok": {"code": ' + b"[" * 400000 + b"]" * 400000 + b"}}"),
    "errors that control a terminal": lambda loop, stream: answer(loop, stream, json.dumps({"error": {"brief": "\ud800\x1b]52;c;QUFB\x07\u202e", "details": "\x1b[2J\udfff" * 9000, "hint": "\x9b31m\r\n"}}).encode()),
    "two answers": lambda loop, stream: answer(loop, stream, b'{"ok": {"code": 0}}', b'{"ok": {"code": 1}}', b'{"error": {}}'),
    "an answer before the words": lambda loop, stream: (answer(loop, stream, b'{"ok": {"code": 0}}'), [loop.send(stream, kind, 0, b"x" if kind == DATA else b"") for kind in (DATA, EOF, DATA, EOF)]),
    "words without end": lambda loop, stream: endless(loop, stream),
    "nothing": lambda loop, stream: None,
}
def say(name):
    gateway = socket.create_connection(("10.0.2.100", 80), 30)
    gateway.sendall(f"GET / HTTP/1.1\r\nHost: {name}.bookmark.invalid\r\n\r\n".encode())
    gateway.recv(1)
began, asked, lied = time.monotonic(), 0.0, 0.0
commands = set()
start = Loop._start
def note(loop, stream, name, request):
    if name == "exec":
        commands.add(stream)
    start(loop, stream, name, request)
def lie(loop, stream, result):
    global asked, lied
    asked = time.monotonic()
    LIES[what](loop, stream)
    if stream in commands and not lied:
        lied = asked
        threading.Thread(target=say, args=("told-" + word,)).start()
def look(loop):
    now = time.monotonic()
    if (now - asked > quiet_s or now - lied > lies_s) if lied else now - began > waits_s:
        os._exit(0)
    loop.call_later(0.5, lambda: look(loop))
if os.fork():
    os.wait()
    subprocess.run(["systemctl", "start", "sandbox-guestd"])
    say("over-" + word)
    os._exit(0)
Loop.send_result, Loop._start = lie, note
send = Loop.send
# It does not say that it is another one, and needs no greeting: the host believes that it speaks with ours.
Loop.send = lambda loop, stream, kind, *more: None if kind == wire.RESTARTED else send(loop, stream, kind, *more)
liar = Loop(os.open(port, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC), is_port=True)
liar._epoch = b"liar"
say(word)
look(liar)
liar.run()
os._exit(0)
"""
KINDS = tuple(line.split('"')[1] for line in _LIE.splitlines() if line.startswith('    "'))
_START = "cat > /run/lie.py; systemd-run --quiet --collect python3 /run/lie.py 'WHAT' WORD TIMES"
# The first is one that asks the guest: the liar waits for it.
_COMMANDS = (("exec", "--", "true"), ("ls", "--json"), ("stats",), ("diff", "--stat"), ("exec", "--", "true"))


def lies(what: str, trial: Trial) -> Iterator[str]:
    supervisor, word = trial.supervisor(), f"lies-{os.urandom(8).hex()}"
    script = _START.replace("WHAT", what).replace("WORD", word)
    script = script.replace("TIMES", f"{_WAITS_S} {_QUIET_S} {_LIES_S}")
    trial.root(script, stdin=_LIE).ok()
    if not trial.await_word(word, _UP_S):
        yield f"the guest's own guestd did not run after {_UP_S:.0f} s"
    for command in _COMMANDS:
        ran = trial.call(*command, timeout_s=_END_S)
        if ran.code is None:
            yield f"`{command[0]}` does not end in {_END_S:.0f} s"
        elif ran.code == 3 or "Traceback" in ran.err:
            yield f"`{command[0]}` ended as by a bug: {ran.err[-300:]!r}"
        if controls := sorted({letter for letter in ran.out + ran.err if ord(letter) < 32 and letter not in "\n\t\r"}):
            yield f"`{command[0]}` prints the control characters {controls}"
        if command[0] == "ls" and ran.code != 0:
            yield f"`ls` says {ran.code}"
    if not trial.await_word(f"told-{word}", _END_S):
        yield "the control: no command of the host's was lied to"
    yield from size_of(supervisor)
    if not trial.await_word(f"over-{word}", _UP_S):  # until then the liar may answer, and kindly
        yield f"the lies did not end in {_UP_S:.0f} s"
    if not trial.wait_for(lambda: trial.call("exec", "--", "true", timeout_s=_END_S).code == 0, _END_S):
        yield from anew(trial)


CHECKS = tuple(
    Check("channel", "a guestd that lies", "Whatever the guest answers, the host's commands end with a word, nothing grows, and the sandbox can be made anew.", partial(lies, what), variant=what)
    for what in KINDS
)  # fmt: skip
