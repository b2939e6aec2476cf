"""How the sandbox comes into each state, and what must be so on the way there."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Callable, Mapping

from engine.attacks.project import REAL, ROTATED, file_text
from engine.attacks.room import END_S, UP_S
from engine.attacks.trial import Trial, set_values
from engine.attacks.value_search import forms, in_files

# It holds a connection, which a change of the endpoints must cut.
_HOLD = """
import socket, ssl
context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
with context.wrap_socket(socket.create_connection(("10.0.2.100", 443)), server_hostname="taken.example.com") as held:
    print("open", flush=True)
    try:
        held.recv(1)
    except OSError:
        pass
"""
# It draws from the kernel's pool all the time, also when it is forked: a line for each number, with the machine's time.
_DRAW = """
import os, time
with open("/dev/shm/drawn", "w", buffering=1) as file:
    for number in range(5000):
        file.write(f"{time.monotonic_ns()} {os.getrandom(16).hex()}\\n")
        time.sleep(0.05 if number < 3000 else 1)
"""
# It holds a connection of TLS 1.2 to a name that is allowed, and its session, also when it is forked. It resumes the
# session at once. Whoever connects to its socket is told what is still open: the connection, the session with a name
# that is closed, and, as control, the session with the name that is allowed.
_SESSION = r"""
import os, socket, ssl, sys
from http.client import HTTPException, HTTPResponse
allowed, path, held, closed, address, port, place = sys.argv[1:]
context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
context.maximum_version = ssl.TLSVersion.TLSv1_2
def connect(name, session=None):
    outer = socket.create_connection((address, int(port)), 15)
    return context.wrap_socket(outer, server_hostname=name, session=session)
def ask(connection, name, path):
    credential = f"Authorization: Bearer {held}\r\n" if name == allowed else ""
    connection.sendall(f"GET {path} HTTP/1.1\r\nHost: {name}\r\n{credential}\r\n".encode())
    answer = HTTPResponse(connection)
    answer.begin()
    answer.read()
    return f"HTTP/1.1 {answer.status}"
def attempt(what):
    try:
        return what()
    except (OSError, HTTPException) as error:
        return f"nothing ({type(error).__name__})"
first = connect(allowed)
said = ask(first, allowed, path)
session = first.session
with connect(allowed, session) as again:
    said = f"{said}, has a session: {session is not None}, resumed: {again.session_reused}"
with socket.socket(socket.AF_UNIX) as listener:
    listener.bind(place)
    listener.listen()
    with open(place + ".said", "w") as file:
        file.write(said)
    os.rename(place + ".said", place + ".ready")
    while True:
        asker, _ = listener.accept()
        with asker:
            lines = [said, "held: " + attempt(lambda: ask(first, allowed, path))]
            for name, where in ((closed, "/"), (allowed, path)):
                lines.append(attempt(lambda: ask(connect(name, session), name, where)))
            asker.sendall("\n".join(lines).encode())
"""
SESSION_SAYS = "HTTP/1.1 200, has a session: True, resumed: True"
START_SESSION = """
cat > /run/session.py; rm -f /run/session.ready /run/session
systemd-run --quiet --collect python3 /run/session.py ALLOWED /repos/acme/a HELD CLOSED 10.0.2.100 443 /run/session
timeout 120 sh -c 'until test -e /run/session.ready; do sleep 0.1; done'; cat /run/session.ready
"""
START_DRAWING = "cat > /run/draw.py; systemd-run --quiet --collect python3 /run/draw.py"


def enter_state(trial: Trial, state: str) -> None:
    """From whatever state there is. Raises EngineError if there is no way there."""
    ways: Mapping[str, Callable[[Trial], None]] = {
        "fresh": Trial.up, "resumed": _resume, "started": _start, "restored": _restore, "restarted": _restart,
        "live-changed": _change, "revoked": _revoke, "forked": _fork,
    }  # fmt: skip
    for note in ("tools", "not set"):  # traps are set anew
        trial.notes.pop(note, None)
    ways[state](trial)


def _resume(trial: Trial) -> None:
    machine = trial.boot_id()
    trial.plant()
    trial.call("pause").ok()
    needles = {f"{name} {form}": data for name, value in REAL.items() for form, data in forms(value).items()}
    paused = in_files([trial.instance], needles | {"planted": trial.word.encode()})
    trial.paused = set().union(*paused.values())
    trial.call("resume", timeout_s=UP_S).ok()
    trial.expect(trial.boot_id() == machine, "it was not the same machine after `resume`")


def _start(trial: Trial) -> None:
    machine = trial.boot_id()
    trial.plant()
    trial.call("stop", timeout_s=UP_S).ok()
    trial.expect(not trial.room.left(), "after `stop` something of it runs")
    trial.call("start", "--yes", timeout_s=UP_S).ok()
    trial.expect(trial.boot_id() != machine, "it was the same machine after `start`")
    trial.expect(trial.root("cat /srv/planted").out.strip() == trial.word, "what was on its disk is gone")


def _restore(trial: Trial) -> None:
    trial.down()
    trial.up()


def _restart(trial: Trial) -> None:
    os.kill(trial.supervisor(), signal.SIGKILL)
    if left := trial.room.left():
        trial.problems.append(f"after its supervisor was killed there are {left[:5]}")
    trial.up()


def _change(trial: Trial) -> None:
    """Take a name away while a connection to it is open."""
    if trial.loose:
        return
    machine = trial.boot_id()
    file = trial.project / "Sandboxfile.yaml"
    holding = trial.room.start(*trial.words(("exec", "--", "python3", "-c", _HOLD)), cwd=trial.project)
    with holding:
        assert holding.stdout is not None
        trial.expect(holding.stdout.readline() == b"open\n", "the name to be taken away was not reached before")
        file.write_text(file.read_text().replace("  - taken.example.com\n", ""))
        trial.up()
        try:
            trial.expect(holding.wait(END_S) == 0, "the connection to it was not cut")
        except subprocess.TimeoutExpired:
            holding.kill()
            trial.problems.append("the connection to it was not cut")
    reasons = [line["reason"] for line in trial.journal()]
    trial.expect("no longer allowed; cut off" in reasons, "the journal does not say that the connection was cut")
    trial.expect(trial.boot_id() == machine, "the change was not live")


def _revoke(trial: Trial) -> None:
    if not trial.loose:
        trial.call("secret", "set", "github", stdin=f"{ROTATED}\n").ok()
        trial.call("secret", "rm", "openai").ok()


def _fork(trial: Trial) -> None:
    """The sandbox as it was is refused; a clone is made of one that is like it, but for the live mounts."""
    refused = trial.call("fork")
    trial.expect(refused.code == 1 and "live mounts" in refused.err, "a sandbox with live mounts was forked")
    trial.down()
    (trial.project / "Sandboxfile.yaml").write_text(file_text(trial.planted, loose=trial.loose, live=False))
    set_values(trial)
    trial.up()
    if not trial.loose:
        trial.call("deny", "taken.example.com").ok()
    names = {"ALLOWED": trial.names["second"], "HELD": trial.names["held_second"], "CLOSED": trial.names["taken"]}
    script = START_SESSION
    for word, name in names.items():
        script = script.replace(word, name)
    said = trial.root(script, stdin=_SESSION).out
    trial.expect(said == SESSION_SAYS, f"no session of TLS was resumed in the source: {said!r}")
    trial.root(START_DRAWING, stdin=_DRAW).ok()
    trial.root("echo the source > /srv/whose; sync").ok()
    trial.clone()
