"""What a user says while an agent works, in the namespaces of vendor_network.py. Prints JSON for the test."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import IO

project = Path(sys.argv[1])
COMMAND = [sys.executable, "-m", "engine.cli.main"]
# Tries until it is let through, then waits for the end of the connection. The vendor's own CA is not known in here, and
# the gateway answers for a host that it refuses, to say why: whose certificate it is tells the two apart.
HOLD = """
import socket, ssl, sys, time
context = ssl._create_unverified_context()
while True:
    try:
        connection = context.wrap_socket(socket.create_connection((sys.argv[1], 443)), server_hostname=sys.argv[1])
        if b"test vendor" in connection.getpeercert(True):
            break
    except OSError:
        pass
    time.sleep(0.2)
print("open", flush=True)
try:
    connection.recv(1)
except OSError:
    pass
print("cut", flush=True)
"""
CURL = "curl -sS -o /dev/null -m 60 -w '%{http_code}\\n'"
RUN = f"""
for number in 1 2 3; do {CURL} https://api.anthropic.com/v1/items/$number; done
{CURL} -X POST -d '{{}}' 'https://api.anthropic.com/v1/messages?beta=true'
{CURL} -k https://other.example.com/
{CURL} -k https://api.github.com/
"""


def sandbox(*argv: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*COMMAND, *argv], cwd=project, capture_output=True, text=True, stdin=subprocess.DEVNULL)


def guest(script: str) -> str:
    return sandbox("exec", "--", "sh", "-c", script).stdout


@contextlib.contextmanager
def held(host: str) -> Iterator[IO[str]]:
    """A connection to the host that the guest keeps open, as soon as it may; yields what it says."""
    argv = [*COMMAND, "exec", "--", "python3", "-c", HOLD, host]
    with subprocess.Popen(argv, cwd=project, stdout=subprocess.PIPE, stdin=subprocess.DEVNULL, text=True) as process:
        assert process.stdout is not None
        try:
            yield process.stdout
        finally:
            process.terminate()


def up(found: dict[str, object], key: str) -> None:
    ran = sandbox("up", "-d", "--yes", "--progress", "plain")
    found[key] = [ran.returncode, ran.stderr]


def main() -> None:
    found: dict[str, object] = {}
    try:
        up(found, "up")
        found["refused"] = guest(f"{CURL} -k https://api.github.com/")
        with held("api.github.com") as words:
            found["for"] = sandbox("allow", "api.github.com", "--for", "20s").stdout
            found["while"] = [words.readline(), words.readline()]
        found["after"] = guest(f"{CURL} -k https://api.github.com/")
        with held("other.example.com") as words:
            opened = words.readline()
            found["deny"] = sandbox("deny", "other.example.com").stdout
            found["denied"] = [opened, words.readline()]
        found["still"] = guest(f"{CURL} -k https://other.example.com/")
        found["end"] = sandbox("deny", "--end", "other.example.com").stdout
        found["allow"] = sandbox("allow", "api.github.com").stdout
        found["ls"] = json.loads(sandbox("ls", "--json").stdout)[0]["temporary"]
        found["run"] = guest(RUN)
        found["suggested"] = sandbox("journal", "--suggest").stdout
        found["summary"] = sandbox("journal", "--summary").stdout
        sandbox("down")
        (project / "Sandboxfile.yaml").write_text(f'version: "1"\nname: lived\n{found["suggested"]}')
        up(found, "again")
        found["run again"] = guest(RUN)
        found["refused again"] = sandbox("journal", "--refused").stdout
        found["others"] = guest(f"{CURL} -X DELETE https://api.anthropic.com/v1/items/1")
    finally:
        found["down"] = sandbox("down").returncode
    print(json.dumps(found))


if __name__ == "__main__":
    main()
