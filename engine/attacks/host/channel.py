"""Frames that no guestd sends: each time guestd is stopped, something else is written to its port, and it starts again.

After each the host's commands end, and nothing has grown. Where no command runs any more, and once at the end, the
sandbox is taken down and made anew.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from engine.attacks.host.check import Check
from engine.attacks.project import NAME
from engine.attacks.trial import Trial

_MOST = 200 << 20  # bytes of memory that the supervisor may ever have had
_SPOKEN_S, _END_S = 90.0, 60.0
_SPEAK = """
import importlib, os, socket, subprocess, sys, time
sys.path.insert(0, "/usr/lib/sandbox")
wire = importlib.import_module("guestd.wire")
time.sleep(1)
subprocess.run(["systemctl", "stop", "sandbox-guestd"], check=True)
MB = 1 << 20
def frame(kind, stream=1, payload=b"", sub=0):
    return wire.encode_frame(stream, kind, sub, payload)
def raw(length, stream=1, kind=wire.DATA):
    head = wire._HEAD.pack(wire.MAGIC, length, stream, kind, 0)
    return head + wire._U32.pack(__import__("zlib").crc32(head))
what = {
    "noise": lambda: os.urandom(8 * MB),
    "lengths beyond the limit": lambda: b"".join(raw(length) + b"x" * 100 for length in (65537, 1 << 24, 1 << 31, (1 << 32) - 1)) * 100,
    "streams that there are not": lambda: b"".join(frame(kind, stream, b"x" * 100) for kind in (wire.DATA, wire.RESULT, wire.CREDIT, wire.EOF) for stream in range(0, 60000, 7)),
    "unknown kinds": lambda: b"".join(frame(kind, 1, b"x" * 1000) for kind in range(11, 250)) * 20,
    "a hello that nobody asked for": lambda: b"".join(frame(wire.HELLO_OK, 0, os.urandom(16) + b"{}") for _ in range(20000)),
    "restarts without end": lambda: frame(wire.RESTARTED, 0) * 100000,
    "requests to the host": lambda: b"".join(frame(wire.OPEN, stream, b'exec\\n{"argv": ["touch", "OUT/ran"]}') for stream in range(20000)),
    "deep answers": lambda: wire.encode_message(1, wire.RESULT, b"[" * 4 * MB),
    "credit without end": lambda: frame(wire.CREDIT, 1, b"\\xff" * 4) * 200000,
    "endless answers": lambda: frame(wire.RESULT, 1, b"x" * 65536, wire.MORE) * 500,
}[sys.argv[1]]()
port = os.open("/dev/virtio-ports/org.sandbox.agent", os.O_RDWR | os.O_NONBLOCK)
end, view = time.monotonic() + 20, memoryview(what)
while view and time.monotonic() < end:
    try:
        view = view[os.write(port, view[:65536]):]
    except BlockingIOError:
        time.sleep(0.01)
os.close(port)
subprocess.run(["systemctl", "start", "sandbox-guestd"], check=True)
gateway = socket.create_connection(("10.0.2.100", 80), 30)
gateway.sendall(f"GET / HTTP/1.1\\r\\nHost: {sys.argv[2]}.bookmark.invalid\\r\\n\\r\\n".encode())
gateway.recv(1)
"""
_START = "cat > /run/speak.py; systemd-run --quiet --collect python3 /run/speak.py 'WHAT' WORD"
KINDS = tuple(line.split('"')[1] for line in _SPEAK.splitlines() if line.startswith('    "'))
_FLOOD_S = 5.0


def frames(what: str, trial: Trial) -> Iterator[str]:
    supervisor, word = trial.supervisor(), f"spoken-{os.urandom(8).hex()}"
    script = _START.replace("WHAT", what).replace("WORD", word)
    trial.root(script, stdin=_SPEAK.replace("OUT", str(trial.outside))).ok()
    if not trial.await_word(word, _SPOKEN_S):
        yield f"the guest had not written its frames after {_SPOKEN_S:.0f} s"
    ran = trial.call("ls", "--json", timeout_s=30)
    if ran.code != 0 or NAME not in ran.out:
        yield f"`ls` says {ran.code} {(ran.out + ran.err)[:200]!r}"
    ran = trial.call("exec", "--", "true", timeout_s=_END_S)
    if ran.code is None:
        yield f"`exec` does not end in {_END_S:.0f} s"
    elif ran.code == 3 or "Traceback" in ran.err:
        yield f"`exec` ended as by a bug: {ran.err[-300:]!r}"
    yield from size_of(supervisor)
    if ran.code != 0:
        yield from anew(trial)


def anew(trial: Trial) -> Iterator[str]:
    if trial.call("down", "--yes", timeout_s=_END_S).code != 0:
        yield "`down` fails"
    if left := trial.room.left():
        yield f"after `down` there is left {left[:5]}"
    trial.renew()


def size_of(pid: int) -> Iterator[str]:
    with contextlib.suppress(FileNotFoundError):
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
        most = next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM"))
        if most > _MOST:
            yield f"the supervisor had {most >> 20} MiB of memory"


def unread(trial: Trial) -> Iterator[str]:
    """A command prints without end, and whoever asked for it does not read."""
    running = trial.room.start(*trial.words(("exec", "--", "yes", "x" * 1000)), cwd=trial.project)
    with running, contextlib.suppress(subprocess.TimeoutExpired):
        try:
            running.wait(_FLOOD_S)
        finally:
            running.kill()
            if running.stdout:
                running.stdout.close()
    if trial.call("exec", "--", "true", timeout_s=60).code != 0:
        yield "no other command runs afterwards"
    yield from size_of(trial.supervisor())


CHECKS = (
    Check("channel", "output that nobody reads", "A command that prints without end costs a window, and keeps no other from running.", unread),
    *(
        Check("channel", "frames", "Whatever comes over the channel, commands end, nothing grows, and the host's own commands go on.", partial(frames, what), variant=what)
        for what in KINDS
    ),
    Check("channel", "frames, and after them", "After frames that no guestd sends the sandbox ends whole, and is made anew.", anew, ("fresh", "restored", "forked")),
)  # fmt: skip
