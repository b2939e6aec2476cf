"""The agent's terminal from outside: `attach`, `shell`, and what `ls` says of it."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pexpect
import pytest
from cli_world import DEADLINE_S, CommandLine, FakeSandbox, start_fake

from engine.state.instances import load_instance, save_instance
from engine.state.layout import Layout

AGENT = [
    "sh",
    "-c",
    "echo at work in $PWD as $$; while read -r line; do [ $line = quit ] && exit 7; echo got $line; done",
]
KEYS = "\x1c\x04"
Opener = Callable[..., Any]


@pytest.fixture
def agent(sandbox: CommandLine, layout: Layout) -> Iterator[FakeSandbox]:
    with start_fake(sandbox.forks, layout, sandbox.project, "shop", f"--agent={json.dumps(AGENT)}") as running:
        yield running


@pytest.fixture
def terminal(sandbox: CommandLine) -> Iterator[Opener]:
    """Runs `sandbox ARGV...` in a terminal of its own."""
    opened = []

    def open_one(*argv: str, **env: str) -> Any:
        words = sandbox.argv(*argv)
        child = pexpect.spawn(
            words[0], words[1:], cwd=str(sandbox.project), env=sandbox.environment(**env), timeout=DEADLINE_S
        )
        opened.append(child)
        return child

    yield open_one
    for child in opened:
        child.close(force=True)


def ends(child: Any, code: int) -> None:
    child.expect(pexpect.EOF)
    child.wait()
    assert child.exitstatus == code, child.before


def agent_listed(sandbox: CommandLine) -> Any:
    (row,) = json.loads(sandbox("ls", "--json").out)
    return row["agent"]


def detach(child: Any, keys: str = KEYS) -> None:
    child.send(keys)
    child.expect_exact("detached; the agent goes on. `sandbox attach shop` comes back\r\n")
    ends(child, 0)


@pytest.mark.usefixtures("agent")
def test_attach_detach_and_the_end(sandbox: CommandLine, terminal: Opener) -> None:
    assert agent_listed(sandbox) == {"state": "none", "terminals": 0, "code": None}
    first = terminal("attach")
    first.expect_exact("the agent was not started yet; it is started now\r\n")
    first.expect_exact("detach with ctrl-\\ ctrl-d; `sandbox attach shop` comes back\r\n")
    first.expect(rf"at work in {sandbox.project} as (\d+)\r\n")
    pid = int(first.match.group(1))
    assert agent_listed(sandbox) == {"state": "attached", "terminals": 1, "code": None}
    assert sandbox("ls").out.splitlines()[1].split()[:3] == ["shop", "running", "attached"]
    detach(first)
    assert agent_listed(sandbox) == {"state": "detached", "terminals": 0, "code": None}
    second = terminal("attach", "shop")
    second.expect_exact(f"as {pid}\r\n")
    third = terminal("attach")
    third.expect_exact("one other terminal is attached to the agent\r\n")
    third.expect_exact(f"as {pid}\r\n")
    third.send("quit\r")
    ends(second, 7)
    ends(third, 7)
    assert agent_listed(sandbox) == {"state": "ended", "terminals": 0, "code": 7}
    again = terminal("attach")
    again.expect_exact("the agent has ended (exit code 7); it is started anew\r\n")
    again.expect(r"as (\d+)\r\n")
    assert int(again.match.group(1)) != pid


@pytest.mark.usefixtures("agent")
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGHUP])
def test_a_lost_command_line_leaves_the_agent(sandbox: CommandLine, terminal: Opener, number: signal.Signals) -> None:
    first = terminal("attach")
    first.expect(r"as (\d+)\r\n")
    pid = int(first.match.group(1))
    first.kill(number)
    first.expect(pexpect.EOF)
    second = terminal("attach")
    second.expect_exact(f"as {pid}\r\n")


@pytest.mark.usefixtures("agent")
def test_the_keys_are_chosen(sandbox: CommandLine, terminal: Opener) -> None:
    child = terminal("attach", "--detach-keys", "ctrl-p,ctrl-q", SANDBOX_DETACH_KEYS="ctrl-a,d")
    child.expect_exact("detach with ctrl-p ctrl-q;")
    child.expect_exact("at work")
    detach(child, "\x10\x11")
    child = terminal("attach", SANDBOX_DETACH_KEYS="ctrl-a,d")
    child.expect_exact("detach with ctrl-a d;")
    child.expect_exact("at work")
    detach(child, "\x01d")
    for argv, env, said in (
        (("--detach-keys", "x"), {}, "--detach-keys: the first key must be one with ctrl"),
        ((), {"SANDBOX_DETACH_KEYS": "ctrl-é"}, "SANDBOX_DETACH_KEYS: 'ctrl-é' is no key"),
    ):
        ran = sandbox("attach", *argv, **env)
        assert ran.code == 2 and said in ran.err


@pytest.mark.usefixtures("agent")
def test_the_keys_of_the_users_own_file(sandbox: CommandLine, terminal: Opener) -> None:
    file = Path(os.environ["SANDBOX_CONFIG_DIR"], "config.yaml")
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text("detach_keys: ctrl-a,d\n")
    child = terminal("attach")
    child.expect_exact("detach with ctrl-a d;")
    child.expect_exact("at work")
    detach(child, "\x01d")
    child = terminal("attach", SANDBOX_DETACH_KEYS="ctrl-p,ctrl-q")
    child.expect_exact("detach with ctrl-p ctrl-q;")
    child.expect_exact("at work")
    detach(child, "\x10\x11")
    for text, said in (
        ("detach_keys: x", f"{file}: the first key must be one with ctrl"),
        ("detach_keys: [ctrl-a, d]", f"{file}:1:14: detach_keys: must be a text"),
        ("detach-keys: ctrl-a", f"{file}:1:1: detach-keys: unknown key"),
        ("- ctrl-a", f"{file}:1:1: the file must be a mapping"),
        ("detach_keys: {", f"{file}:1:"),
    ):
        file.write_text(text)
        ran = sandbox("attach")
        assert ran.code == 2 and said in ran.err
    file.write_text("# nothing\n")
    child = terminal("attach")
    child.expect_exact("detach with ctrl-\\ ctrl-d;")


def test_the_title_says_what_is_asked_for(agent: FakeSandbox, layout: Layout, terminal: Opener) -> None:
    child = terminal("attach")
    child.expect_exact("at work")
    record = load_instance(layout, "shop")
    assert record is not None
    asks = [{"host": f"{name}.example.com", "port": 443, "why": ""} for name in ("api", "other")]
    save_instance(layout, record._replace(asks=asks))
    child.expect_exact("\x1b[22;2t\x1b]2;shop asks for api.example.com and 1 more: sandbox journal --asks\x07")
    save_instance(layout, record._replace(asks=asks[:1]))
    child.expect_exact("\x1b]2;shop asks for api.example.com: sandbox journal --asks\x07")
    save_instance(layout, record)
    child.expect_exact("\x1b[23;2t")
    save_instance(layout, record._replace(asks=asks[:1]))
    child.expect_exact("sandbox journal --asks\x07")
    child.send(KEYS)
    child.expect_exact("\x1b[23;2t")
    child.expect_exact("detached; the agent goes on.")
    ends(child, 0)


@pytest.mark.usefixtures("agent")
def test_only_looking(sandbox: CommandLine, terminal: Opener) -> None:
    look = terminal("attach", "--read-only")
    look.expect_exact("the agent of shop does not run")
    ends(look, 1)
    first = terminal("attach")
    first.expect_exact("at work")
    look = terminal("attach", "--read-only")
    look.expect_exact("you only look")
    look.expect_exact("at work")
    look.send("quit\r")
    first.send("line\r")
    look.expect_exact("got line\r\n")
    detach(look, "\x03")
    detach(first)


@pytest.mark.usefixtures("fake")
def test_a_sandbox_without_an_agent(sandbox: CommandLine, terminal: Opener) -> None:
    child = terminal("attach")
    child.expect_exact("the sandbox shop has no agent")
    child.expect_exact("`sandbox shell` opens a shell")
    ends(child, 1)
    assert agent_listed(sandbox) is None


@pytest.mark.usefixtures("agent")
def test_without_a_terminal(sandbox: CommandLine) -> None:
    for name, hint in (("attach", "`sandbox exec` runs commands, `sandbox run`"), ("shell", "`sandbox exec` runs")):
        ran = sandbox(name)
        assert ran.code == 2 and f"{name} needs a terminal" in ran.err and hint in ran.err


@pytest.mark.usefixtures("fake")
def test_a_shell_in_the_workspace(sandbox: CommandLine, terminal: Opener, me: str) -> None:
    child = terminal("shell", "-u", me)
    child.send("echo in $PWD, login $0; exit 4\r")
    child.expect(rf"in {sandbox.project}, login \S*sh\r\n")
    ends(child, 4)
    child = terminal("shell", "shop", "-u", me, "-w", "/")
    child.send("echo in $PWD.\r")
    child.expect_exact("in /.\r\n")


@pytest.mark.usefixtures("fake")
def test_a_shell_takes_no_command(sandbox: CommandLine) -> None:
    for words, hint in (
        (("npm", "test"), "exec -it -- npm test"),
        (("shop", "npm", "test"), "exec -it shop -- npm test"),
    ):
        ran = sandbox("shell", "--", *words)
        assert ran.code == 2 and "shell takes no command" in ran.err and f"`sandbox {hint}` runs one" in ran.err
