"""`sandbox ssh-config` and what OpenSSH makes of it, with the real client and the real server."""

from __future__ import annotations

import contextlib
import os
import secrets
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pexpect
import pytest
from cli_world import DEADLINE_S, CommandLine
from ssh_world import ALIAS, OpenSsh, skip_if_missing, start_guest

from engine.state.layout import Layout


@pytest.fixture
def ssh(sandbox: CommandLine, layout: Layout, tmp_path: Path) -> Iterator[OpenSsh]:
    skip_if_missing()
    with start_guest() as (project, pid):
        ran = sandbox("ssh-config", "shop")
        assert ran.code == 0, ran.err
        config = tmp_path / "ssh.conf"
        config.write_text(ran.out)
        yield OpenSsh(config, project, pid)


def test_a_command_has_its_code_streams_directory_and_environment(ssh: OpenSsh) -> None:
    ran = ssh(ALIAS, 'pwd; echo "$SAID"; echo err >&2; exit 7')
    assert (ran.returncode, ran.stdout.decode(), ran.stderr) == (7, f"{ssh.project}\nwith \\ and spaces\n", b"err\n")
    told = ssh(ALIAS, "env").stdout.decode()
    assert "SANDBOX_SSH" not in told and "PRIVATE KEY" not in told
    assert ssh(ALIAS, "kill -KILL $$").returncode != 0


def test_bytes_are_the_same_in_both_directions(ssh: OpenSsh) -> None:
    data = secrets.token_bytes(3_000_000)
    assert ssh(ALIAS, "cat", stdin=data).stdout == data


def test_two_at_once_have_a_server_each_and_leave_none(ssh: OpenSsh) -> None:
    with contextlib.ExitStack() as stack:
        running = [stack.enter_context(talking(ssh)) for _ in range(2)]
        assert len([words for words in ssh.servers() if "agent@" in words]) == 2
        running[0].kill()  # no farewell: its server sees the end of its pipe
        running[0].wait()
        assert running[1].stdin is not None and running[1].stdout is not None
        running[1].stdin.write(b"more\n")
        running[1].stdin.flush()
        assert running[1].stdout.readline() == b"more\n"
    assert until(lambda: not ssh.servers()), ssh.servers()


def test_a_terminal(ssh: OpenSsh) -> None:
    argv = ssh.argv("-tt", ALIAS)
    with pexpect.spawn(argv[0], argv[1:], timeout=DEADLINE_S, dimensions=(31, 97), encoding="utf-8") as terminal:
        terminal.sendline("stty size; pwd; exit 5")
        terminal.expect_exact("31 97")
        terminal.expect_exact(str(ssh.project))
        terminal.expect(pexpect.EOF)
        terminal.close()
        assert terminal.exitstatus == 5


def test_scp_and_sftp_both_ways(ssh: OpenSsh, tmp_path: Path) -> None:
    data = secrets.token_bytes(300_000)
    (tmp_path / "in").write_bytes(data)
    assert ssh(str(tmp_path / "in"), f"{ALIAS}:there", program="scp").returncode == 0
    assert (ssh.project / "there").read_bytes() == data, "it starts where `exec` does"
    assert ssh(f"{ALIAS}:there", str(tmp_path / "out"), program="scp").returncode == 0
    assert (tmp_path / "out").read_bytes() == data
    listed = ssh("-b", "-", ALIAS, program="sftp", stdin=b"pwd\nls\n")
    assert listed.returncode == 0 and b"there" in listed.stdout and str(ssh.project).encode() in listed.stdout


def test_a_port_of_the_guest_on_the_host(ssh: OpenSsh, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        threading.Thread(target=answer_one, args=[server], daemon=True).start()
        near = tmp_path / "near"
        forward = f"{near}:127.0.0.1:{server.getsockname()[1]}"
        with ended(subprocess.Popen(ssh.argv("-N", "-L", forward, ALIAS))):
            assert until(near.exists)
            with socket.socket(socket.AF_UNIX) as client:
                client.settimeout(DEADLINE_S)
                client.connect(str(near))
                assert client.recv(100) == b"from the guest\n"


def test_nothing_of_the_host_goes_in(ssh: OpenSsh, tmp_path: Path) -> None:
    """Asked for on the command line, without what the printed configuration says: the server refuses it, too."""
    agent, bare = tmp_path / "agent", tmp_path / "bare.conf"
    open_all = "".join(line for line in ssh.config.read_text().splitlines(keepends=True) if "SendEnv" not in line)
    bare.write_text(open_all.replace("IdentityAgent none", f"IdentityAgent {agent}"))
    asking = OpenSsh(bare, ssh.project, ssh.guest)
    with ended(subprocess.Popen(["ssh-agent", "-D", "-a", str(agent)], stdout=subprocess.DEVNULL)):
        assert until(agent.exists)
        env = {**os.environ, "SSH_AUTH_SOCK": str(agent), "LC_SECRET": "value", "DISPLAY": ":0"}
        look = 'echo "[$SSH_AUTH_SOCK$DISPLAY$LC_SECRET]"'
        argv = asking.argv("-A", "-X", "-o", "SendEnv=LC_SECRET", ALIAS, look)
        done = subprocess.run(argv, env=env, capture_output=True, timeout=DEADLINE_S)
        assert done.stdout == b"[]\n", done
        for back in ("127.0.0.1:0:127.0.0.1:9", f"{ssh.project}/back:{agent}"):
            refused = ssh("-o", "ExitOnForwardFailure=yes", "-R", back, ALIAS, "true")
            assert refused.returncode == 255 and b"forwarding failed" in refused.stderr, refused
    assert b"unnel forwarding" in ssh("-o", "Tunnel=yes", "-w", "any", ALIAS, "true").stderr


def test_only_its_own_key_and_user_get_in(ssh: OpenSsh, tmp_path: Path, sandbox: CommandLine) -> None:
    other = tmp_path / "other"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(other)], check=True)
    wrong = tmp_path / "wrong.conf"
    wrong.write_text(replaced(ssh.config.read_text(), "IdentityFile", str(other)))
    assert b"Permission denied" in OpenSsh(wrong, ssh.project, ssh.guest)(ALIAS, "true").stderr
    assert b"Permission denied" in ssh(f"root@{ALIAS}", "true").stderr


def test_a_guest_with_another_key_is_not_spoken_to(ssh: OpenSsh, layout: Layout) -> None:
    known = layout.instance("shop").ssh.known_hosts
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(known.with_name("fake"))], check=True)
    algorithm, key, *_ = known.with_name("fake.pub").read_text().split()
    known.write_text(f"{ALIAS} {algorithm} {key}\n")
    ran = ssh(ALIAS, "echo in")
    assert (ran.returncode, ran.stdout) == (255, b"") and b"HOST IDENTIFICATION HAS CHANGED" in ran.stderr


def test_down_leaves_no_file_and_no_process(ssh: OpenSsh, sandbox: CommandLine, layout: Layout) -> None:
    paths = layout.instance("shop").ssh
    assert {path.stat().st_mode & 0o777 for path in paths.directory.iterdir()} == {0o600}
    with talking(ssh) as process:
        assert sandbox("down", "shop").code == 0
        assert process.wait(DEADLINE_S) == 255
    assert not layout.instance("shop").directory.exists()
    gone = ssh(ALIAS, "true")
    assert gone.returncode == 255 and b"there is no sandbox called shop" in gone.stderr


def test_one_line_in_the_users_own_file_is_enough_for_good(
    ssh: OpenSsh, sandbox: CommandLine, layout: Layout, tmp_path: Path
) -> None:
    mine = tmp_path / "home" / ".ssh" / "config"
    mine.parent.mkdir()
    text = "# mine\nHost *\n  ForwardAgent yes\n  ControlMaster auto\n  ControlPath ~/.ssh/%C\n  User somebody\n"
    mine.write_text(text)
    assert sandbox("ssh-config", "--write").code == 0
    assert sandbox("ssh-config", "--write").err.endswith("is as it was\n")
    told = subprocess.run(["ssh", "-F", mine, "-G", ALIAS], capture_output=True, text=True, check=True).stdout
    for line in ("user agent", "forwardagent no", "controlmaster false", "stricthostkeychecking true"):
        assert f"{line}\n" in told, told
    assert OpenSsh(mine, ssh.project, ssh.guest)(ALIAS, "echo in").stdout == b"in\n"
    assert sandbox("down", "shop").code == 0
    gone = OpenSsh(mine, ssh.project, ssh.guest)(ALIAS, "true")
    assert gone.returncode == 255 and b"no sandbox of this name is up" in gone.stderr
    assert sandbox("ssh-config", "--remove").code == 0
    assert mine.read_text() == text and not layout.ssh_config.exists()


def test_a_connection_that_is_broken_off_leaves_nothing(ssh: OpenSsh) -> None:
    """By a kill of either process of the host."""
    with contextlib.ExitStack() as stack:
        running = [stack.enter_context(talking(ssh)) for _ in range(6)]
        for process in running[:3]:
            process.kill()
        for proxy in proxies():
            os.kill(proxy, signal.SIGTERM)
        for process in running:
            process.wait(DEADLINE_S)
    assert until(lambda: not ssh.servers()), ssh.servers()


def proxies() -> list[int]:
    """The processes of this test that ssh has started to be its connection."""
    mark = os.environ["SANDBOX_STATE_DIR"].encode()
    found = []
    for path in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if b"ssh-proxy\0" in (path / "cmdline").read_bytes() and mark in (path / "environ").read_bytes():
                found.append(int(path.name))
    return found


def answer_one(server: socket.socket) -> None:
    connection, _ = server.accept()
    with connection:
        connection.sendall(b"from the guest\n")


@contextlib.contextmanager
def ended(process: subprocess.Popen[bytes]) -> Iterator[subprocess.Popen[bytes]]:
    with process:
        try:
            yield process
        finally:
            process.kill()


@contextlib.contextmanager
def talking(ssh: OpenSsh) -> Iterator[subprocess.Popen[bytes]]:
    """A session that has echoed a line."""
    with ended(subprocess.Popen(ssh.argv(ALIAS, "cat"), stdin=subprocess.PIPE, stdout=subprocess.PIPE)) as process:
        assert process.stdin is not None and process.stdout is not None
        process.stdin.write(b"hello\n")
        process.stdin.flush()
        assert process.stdout.readline() == b"hello\n"
        yield process


def replaced(config: str, key: str, value: str) -> str:
    return "".join(f"  {key} {value}\n" if f"  {key} " in line else f"{line}\n" for line in config.splitlines())


def until(check: Callable[[], object]) -> bool:
    """Whether it comes true in time: neither a socket's appearance nor the end of a stranger's process tells us."""
    deadline, pause = time.monotonic() + DEADLINE_S, threading.Event()
    while time.monotonic() < deadline:
        if check():
            return True
        pause.wait(0.02)
    return False
