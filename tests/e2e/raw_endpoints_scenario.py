"""What a user and an agent do with other protocols and services of the host, beside far_network.py. Prints JSON."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from far_network import NEW, SSH

project = Path(sys.argv[1])
FILE = project / "Sandboxfile.yaml"
CLIENT = """
import socket, sys
host, port, words, end = sys.argv[1], int(sys.argv[2]), bytes.fromhex(sys.argv[3]), sys.argv[4:]
try:
    with socket.create_connection((host, port), 30) as connection:
        connection.sendall(words)
        if end:
            connection.shutdown(socket.SHUT_WR)
        got = b""
        while data := connection.recv(65536):
            got += data
            if not end and b"\\n" in got:
                break
    print(got)
except OSError as error:
    print(type(error).__name__)
"""
# SSLRequest, StartupMessage, Query, Terminate
POSTGRES = "0000000804d2162f000000110003000075736572006d650000510000000e73656c656374203432005800000004"


def sandbox(*argv: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "engine.cli.main", *argv]
    return subprocess.run(command, cwd=project, capture_output=True, text=True, stdin=subprocess.DEVNULL)


def guest(script: str, *options: str) -> dict[str, object]:
    ran = sandbox("exec", *options, "--", "sh", "-c", script)
    return {"code": ran.returncode, "out": ran.stdout, "err": ran.stderr}


def ask(host: str, port: int, words: str = "", *, end: bool = False, within: str = "") -> str:
    """What a client in the guest (`within`: a container there) gets."""
    said = guest(f"{within} python3 /tmp/client.py {host} {port} '{words}' {'end' if end else ''}")
    return f"{said['out']}{said['err']}".strip()


def main() -> None:
    up = sandbox("up", "-d", "--yes", "--progress", "plain")
    found: dict[str, object] = {"up": [up.returncode, up.stderr]}
    try:
        guest(f"cat > /tmp/client.py <<'EOF'\n{CLIENT}\nEOF")
        found["names"] = guest("getent ahostsv4 db.example.com ollama ssh.example.com other.example.com | grep STREAM")
        found["database"] = ask("db.example.com", 5432, POSTGRES, end=True)
        found["git"] = guest("cd /tmp && git clone -q git://git.example.com/repo.git && cat repo/hello")
        found["ssh"] = guest("ssh -v -o BatchMode=yes -o ConnectTimeout=30 ssh.example.com 2>&1 | grep -i version")
        found["ollama"] = guest("curl -sS -m 60 -w '%{http_code}' http://ollama:11434/api/tags")
        found["cache"] = ask("cache", 6379, b"PING\r\n".hex())
        container = "docker run --rm -v /usr:/usr:ro -v /tmp:/tmp:ro localhost/debian:13"
        found["container"] = ask("db.example.com", 5432, POSTGRES, end=True, within=container)
        found["undeclared"] = {
            "another port of the host": ask("ollama", 9999),
            "its loopback by name": guest("curl -sS -m 20 -H 'Host: localhost:9999' http://ollama:11434/")["out"],
            "the side of the user network": ask("10.0.2.2", 9999),
            "another port of the name": ask("db.example.com", 9999),
            "another name at its port": ask("other.example.com", 5432),
            "the gateway's own address": ask("10.0.2.100", 5432),
            "a name of the private network": ask("inner.example.com", 22),
        }
        found["live"] = change()
        found["journal"] = sandbox("journal", "--json").stdout
    finally:
        found["down"] = sandbox("down").returncode
    print(json.dumps(found))


def change() -> dict[str, object]:
    """The endpoint for ssh goes, with a connection open, and comes back; then one comes that was never there."""
    text = FILE.read_text()
    argv = [sys.executable, "-m", "engine.cli.main", "exec", "--", "python3", "-c", OPEN]
    with subprocess.Popen(argv, cwd=project, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as opened:
        assert opened.stdout is not None
        found: dict[str, object] = {"open": opened.stdout.readline()}
        FILE.write_text(text.replace(SSH, ""))
        removed = sandbox("up", "-d", "--yes", "--progress", "plain")
        found["removed"] = [removed.returncode, removed.stderr]
        found["cut"] = opened.stdout.read()
    found["after"] = [ask("ssh.example.com", 22), guest("getent ahostsv4 ssh.example.com | head -1")["out"]]
    FILE.write_text(text)
    again = sandbox("up", "-d", "--yes", "--progress", "plain")
    found["again"] = [again.returncode, again.stderr, ask("ssh.example.com", 22)]
    FILE.write_text(text + NEW)
    plan = json.loads(sandbox("plan", "--json").stdout)["running"]["changes"]
    found["new"] = [[row["path"], row["how"], row["what"]] for row in plan]
    FILE.write_text(text)
    return found


OPEN = """
import socket
connection = socket.create_connection(("ssh.example.com", 22), 30)
print(connection.recv(100), flush=True)
connection.settimeout(120)
print("the end", connection.recv(1))
"""


if __name__ == "__main__":
    main()
