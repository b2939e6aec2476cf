"""What attempts run programs by: a shell in the guest, and one in a container of it."""

from __future__ import annotations

import hashlib
import json
import shlex
import socket
import subprocess
from http.client import HTTPConnection

_IMAGE = "localhost/debian:13"
_START_S, _ASK_S = 200.0, 60.0


def shell(command: str, timeout_s: float = 30.0) -> str:
    """Both outputs of a shell's command, and its code."""
    try:
        ran = subprocess.run(
            ["sh", "-c", command],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=timeout_s,
        )
    except subprocess.TimeoutExpired as error:
        return f"{(error.stdout or b'').decode(errors='replace')}no end"
    return f"{ran.stdout.decode(errors='replace')}code {ran.returncode}"


def inside(options: str, command: str, timeout_s: float = 200.0) -> str:
    """The same in the namespaces of a container with these options of `docker run`, which runs on for the next attempt.

    Raises RuntimeError, with what `docker` says, where it does not run.
    """
    name = "attack-" + hashlib.sha256(options.encode()).hexdigest()[:12]
    if not (process := _process_of(name)):
        argv = f"docker run -d --name {name} {options} -v /usr:/usr:ro {_IMAGE} sleep infinity"
        started = shell(f"docker rm -f {name} > /dev/null 2>&1; {argv}", _START_S)
        if not (process := _process_of(name)):
            raise RuntimeError(f"the container does not run: {started}")
    return shell(f"nsenter -t {process} -m -u -i -n -p sh -c {shlex.quote(command)}", timeout_s)


def _process_of(container: str) -> int:
    """The first process of a container, in the guest; 0 where it does not run. Raises OSError without a Docker."""
    connection = HTTPConnection("docker", timeout=_ASK_S)
    connection.sock = socket.socket(socket.AF_UNIX)
    connection.sock.settimeout(_ASK_S)
    try:
        connection.sock.connect("/var/run/docker.sock")
        connection.request("GET", f"/containers/{container}/json")
        answer = json.loads(connection.getresponse().read())
    finally:
        connection.close()
    return int(answer.get("State", {}).get("Pid", 0))
