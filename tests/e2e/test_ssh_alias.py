"""`ssh NAME.sandbox` into a real machine: Debian's sshd of the guest image, which nothing there starts by itself."""

from __future__ import annotations

import secrets
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
from world import World, wait_until

pytestmark = pytest.mark.skipif(not shutil.which("ssh"), reason="there is no OpenSSH client")
SESSION_S = 120.0
ALIAS = "by-ssh.sandbox"
FILE = """
name: by-ssh
mounts: [".:/workspace"]
"""


def test_openssh_and_a_machine(world: World, tmp_path: Path) -> None:
    project = world.project(FILE)
    world.up(project)
    config = tmp_path / "ssh.conf"
    config.write_text(world.sandbox("ssh-config", cwd=project).ok().out)

    def ssh(*words: str, program: str = "ssh", stdin: bytes = b"") -> subprocess.CompletedProcess[bytes]:
        argv = [program, "-F", str(config), *words]
        return subprocess.run(argv, input=stdin, capture_output=True, timeout=SESSION_S)

    listening = world.run(project, "ss -Hltnx; ls /etc/ssh/ssh_host_* 2>/dev/null", "-u", "root").out
    assert ":22 " not in listening and "ssh" not in listening, "no sshd listens, and none has a key"

    # A command has what `exec` gives it, and its exit code.
    ran = ssh(ALIAS, "pwd; id -un; touch made; exit 7")
    assert (ran.returncode, ran.stdout) == (7, b"/workspace\nagent\n"), ran
    assert (project / "made").exists()
    wanted = environment(world.run(project, "env").out)
    found = environment(ssh(ALIAS, "env").stdout.decode())
    assert {name: found.get(name) for name in wanted} == wanted
    assert {"CURL_CA_BUNDLE", "PATH", "SANDBOX_NAME"} <= set(found)

    # Bytes are the same both ways; scp starts in the same directory.
    data = secrets.token_bytes(1_000_000)
    assert ssh(ALIAS, "cat", stdin=data).stdout == data
    (tmp_path / "in").write_bytes(data)
    assert ssh(str(tmp_path / "in"), f"{ALIAS}:copied", program="scp").returncode == 0
    assert (project / "copied").read_bytes() == data
    assert ssh(f"{ALIAS}:copied", str(tmp_path / "out"), program="scp").returncode == 0
    assert (tmp_path / "out").read_bytes() == data

    # A port of the guest on the host; the agent stays outside, and nobody else gets in.
    through_a_port(world, project, config, tmp_path)
    assert ssh("-A", ALIAS, 'echo "[$SSH_AUTH_SOCK]"').stdout == b"[]\n"
    assert b"Permission denied" in ssh(f"root@{ALIAS}", "true").stderr

    # A session that nobody ends leaves no sshd.
    left = subprocess.Popen(["ssh", "-F", str(config), ALIAS, "echo in; cat"], stdin=subprocess.PIPE, stdout=-1)
    with left:
        assert left.stdout is not None and left.stdout.readline() == b"in\n"
        left.kill()
    look = "ps -eo args | grep '[s]shd' || true"
    wait_until(lambda: world.run(project, look).out, lambda out: not out, "an sshd is left", SESSION_S)
    world.sandbox("down", cwd=project).ok()
    assert ssh(ALIAS, "true").returncode == 255


def environment(text: str) -> dict[str, Any]:
    """Variables, but for those that a shell sets for itself."""
    pairs = (line.partition("=") for line in text.splitlines())
    return {name: value for name, _, value in pairs if name not in ("PWD", "OLDPWD", "SHLVL", "_")}


def through_a_port(world: World, project: Path, config: Path, directory: Path) -> None:
    import socket

    (project / "index.html").write_text("served in the guest\n")
    serve = "nohup python3 -m http.server 8123 --bind 127.0.0.1 >/dev/null 2>&1 </dev/null & "
    world.run(project, f"{serve} until curl -fs http://127.0.0.1:8123/ >/dev/null; do :; done").ok()
    near = directory / "near"
    argv = ["ssh", "-F", str(config), "-N", "-L", f"{near}:127.0.0.1:8123", ALIAS]
    with subprocess.Popen(argv) as forwarding:
        try:
            wait_until(near.exists, bool, "nothing is forwarded", SESSION_S)
            with socket.socket(socket.AF_UNIX) as client:
                client.settimeout(SESSION_S)
                client.connect(str(near))
                client.sendall(b"GET /index.html HTTP/1.0\r\n\r\n")
                answer = b"".join(iter(lambda: client.recv(4096), b""))
            assert answer.endswith(b"served in the guest\n")
        finally:
            forwarding.kill()
