"""What ssh's configuration says about sandboxes, and what can never get into it."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.errors import EngineError
from engine.ssh.client import alias_of, host_block, include_file, include_line, with_line, without_line
from engine.ssh.server import configuration, variables
from engine.state.layout import Layout

PROGRAM = ("/opt/venv/bin/sandbox",)
LINE = include_line(Path("/home/u/.local/state/sandbox/ssh_config"))


def block(name: str = "shop", user: str = "agent", directory: str = "/state/instances/shop/ssh") -> str:
    paths = {"identity": Path(directory) / "id_ed25519", "known": Path(directory) / "known_hosts"}
    return host_block(name, user=user, **paths, program=PROGRAM, environment={"SANDBOX_STATE_DIR": "/state"})


def test_a_block() -> None:
    lines = block().splitlines()
    assert lines[:7] == [
        "Host shop.sandbox",
        "  HostName shop.sandbox",
        "  HostKeyAlias shop.sandbox",
        "  User agent",
        "  ProxyCommand env SANDBOX_STATE_DIR=/state /opt/venv/bin/sandbox ssh-proxy --user agent -- shop",
        "  IdentityFile /state/instances/shop/ssh/id_ed25519",
        "  UserKnownHostsFile /state/instances/shop/ssh/known_hosts",
    ]
    for closed in ("ForwardAgent no", "ForwardX11 no", "ControlMaster no", "StrictHostKeyChecking yes", "SendEnv -*"):
        assert f"  {closed}" in lines
    assert "%" not in block()


@pytest.mark.parametrize(
    "directory",
    [
        "/a b",
        "/a;id",
        "/a%h",
        "/$(id)",
        "/${HOME}",
        "/a\nProxyCommand id",
        '/a"',
        "/a'",
        "/a#b",
        "/a*",
        "/a\\b",
        "/a`id`",
        "/~a",
    ],
)
def test_a_path_that_ssh_or_a_shell_could_read_in_two_ways_is_refused(directory: str) -> None:
    with pytest.raises(EngineError, match="cannot name"):
        block(directory=directory)
    with pytest.raises(EngineError, match="cannot name"):
        include_line(Path(directory))
    with pytest.raises(EngineError, match="cannot name"):
        include_file(Path(directory), PROGRAM)
    with pytest.raises(EngineError, match="cannot name"):
        include_file(Path("/state"), (directory,))


@given(st.text(max_size=70) | st.text("ab-._0%$`;*\n' \"", max_size=6))
def test_no_name_of_a_sandbox_says_more_than_a_name(name: str) -> None:
    """What the layout lets be a name is one word, for ssh, for its patterns and for a shell."""
    try:
        Layout(*map(Path, ("/c", "/s", "/r"))).instance(name)
    except EngineError:
        return
    lines = block(name).splitlines()
    assert lines[0] == f"Host {name}.sandbox" and lines[4].endswith(f" -- {name}")
    assert len(lines) == len(block().splitlines())


@given(st.from_regex(r"\A[a-z0-9][a-z0-9._-]{0,63}\Z"))
def test_every_name_is_one_plain_word(name: str) -> None:
    assert block(name).splitlines()[0].split() == ["Host", alias_of(name)]
    assert not set(name) & set(" \t\r\n\"'\\$`;&|<>(){}[]*?!~#%,=")


@pytest.mark.skipif(not shutil.which("ssh"), reason="there is no OpenSSH client")
def test_ssh_reads_it_as_it_is_meant(tmp_path: Path) -> None:
    config = tmp_path / "config"
    config.write_text(block() + "Host *\n  ForwardAgent yes\n  ForwardX11 yes\n  ProxyJump elsewhere\n  User root\n")
    argv = ["ssh", "-F", config, "-G", "shop.sandbox"]
    told = subprocess.run(argv, capture_output=True, text=True, check=True).stdout.splitlines()
    for line in ("user agent", "forwardagent no", "forwardx11 no", "identityagent none", "identitiesonly yes"):
        assert line in told
    assert not any(line.startswith("proxyjump") for line in told)


USERS = [
    "",
    "# mine\nHost a\n  User b\n",
    "Host a\n  User b",
    "Match all\n  User b\n",
    "ForwardAgent no\n\nHost *\n",
]


@pytest.mark.parametrize("text", USERS)
def test_our_line_stands_before_every_block_and_goes_without_a_trace(text: str) -> None:
    changed = with_line(text, LINE)
    assert changed.splitlines()[0] == LINE
    assert with_line(changed, LINE) == changed
    assert without_line(changed, LINE) == text


def test_our_line_further_down_is_moved_up() -> None:
    assert with_line(f"Host a\n  User b\n{LINE}\n", LINE) == f"{LINE}\nHost a\n  User b\n"
    kept = f"# first\n{LINE}\nHost a\n"
    assert with_line(kept, LINE) == kept


def test_what_sshd_is_told() -> None:
    text = configuration("agent", "/srv/it's here")
    lines = text.splitlines()
    for closed in (
        "AllowUsers agent",
        "PermitRootLogin no",
        "AllowAgentForwarding no",
        "AllowTcpForwarding local",
        "PermitListen none",
        "X11Forwarding no",
        "PermitTunnel no",
        "PermitUserRC no",
        "PermitUserEnvironment no",
        "PasswordAuthentication no",
    ):
        assert closed in lines
    assert not any(line.startswith("AcceptEnv") for line in lines)
    assert "cd -- '/srv/it'\"'\"'s here' 2>/dev/null" in text
    assert "PermitRootLogin prohibit-password" in configuration("root", "/")
    assert set(variables("agent", "/", host_key="secret", client_key="public").values()) >= {"secret", "public"}
