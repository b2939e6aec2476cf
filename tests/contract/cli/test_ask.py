"""`journal --ask` and `up --ask` on a terminal, beside a gateway with real sockets."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pexpect
import pytest
from cli_world import DEADLINE_S, CommandLine, FakeSandbox, start_fake
from test_allow import ask, fetch, guest, journal
from test_live_up import runs_with

from engine.state.layout import Layout

FILE = 'version: "1"\nname: shop\nendpoints: [api.example.com]  # all\n'
RULES = json.dumps([{"host": "api.example.com", "origin": "endpoints[0]", "place": "Sandboxfile.yaml:3"}])


@pytest.fixture
def shop(sandbox: CommandLine, layout: Layout) -> Iterator[FakeSandbox]:
    sandbox.file(FILE)
    with start_fake(sandbox.forks, layout, sandbox.project, "shop", f"--gateway={RULES}") as fake:
        yield fake


@contextmanager
def terminal(sandbox: CommandLine, *argv: str) -> Iterator[Any]:
    """The command on a terminal, when it asks."""
    program, *arguments = sandbox.argv(*argv)
    env: Any = sandbox.environment(TERM="dumb")
    child = pexpect.spawn(program, arguments, cwd=str(sandbox.project), env=env, timeout=DEADLINE_S, encoding="utf-8")
    try:
        child.expect("asking here about names that no endpoint of shop names")
        yield child
    finally:
        child.close(force=True)


def attached(layout: Layout, child: Any, host: str) -> Any:
    """A connection of the guest that waits for an answer about the host."""
    connection = guest(layout)
    held = connection.__enter__()
    held.sendall(f"GET / HTTP/1.1\r\nHost: {host}\r\n\r\n".encode())
    child.expect_exact(f"shop wants to reach {host}:80. [o]nce, [a]lways, [n]ever, or Enter for not now: ")
    return connection, held


def answer_of(connection: Any, held: Any) -> str:
    text = held.recv(65536).decode()
    connection.__exit__(None, None, None)
    return text


@pytest.mark.usefixtures("shop")
def test_the_user_is_asked(sandbox: CommandLine, layout: Layout) -> None:
    with terminal(sandbox, "journal", "--ask") as child:
        waiting = attached(layout, child, "once.example.com")
        assert fetch(layout, "api.example.com").startswith("HTTP/1.1 200 "), "others are not disturbed"
        child.sendline("o")
        child.expect_exact("once.example.com: allowed until the sandbox ends")
        assert answer_of(*waiting).startswith("HTTP/1.1 200 ")
        assert fetch(layout, "once.example.com").startswith("HTTP/1.1 200 "), "it is not asked about again"

        waiting = attached(layout, child, "always.example.com")
        child.sendline("what?")
        child.expect_exact("[n]ever, or Enter for not now: ")
        child.sendline("always")
        child.expect_exact("always.example.com: allowed, and in the file")
        assert answer_of(*waiting).startswith("HTTP/1.1 200 ")
        text = FILE.replace("[api.example.com]", "[api.example.com, always.example.com]")
        assert (sandbox.project / "Sandboxfile.yaml").read_text() == text

        waiting = attached(layout, child, "never.example.com")
        child.sendline("n")
        assert "is denied by sandbox deny never.example.com" in answer_of(*waiting)
        assert fetch(layout, "never.example.com").startswith("HTTP/1.1 403 ")

        waiting = attached(layout, child, "later.example.com")
        child.sendline("")
        assert "whoever was asked did not allow it" in answer_of(*waiting)
        assert fetch(layout, "later.example.com").startswith("HTTP/1.1 403 ")

    names = [row["name"] for row in json.loads(sandbox("ls", "--json").out)[0]["temporary"]]
    assert names == ["once.example.com", "always.example.com", "never.example.com"]


@pytest.mark.usefixtures("shop")
def test_others_may_answer_and_the_asking_has_an_end(sandbox: CommandLine, layout: Layout) -> None:
    with terminal(sandbox, "journal", "--ask") as child:
        waiting = attached(layout, child, "elsewhere.example.com")
        assert sandbox("allow", "elsewhere.example.com").code == 0
        child.expect_exact("answered elsewhere")
        assert answer_of(*waiting).startswith("HTTP/1.1 200 ")

        waiting = attached(layout, child, "left.example.com")
        child.sendintr()
        child.expect_exact("nobody is asked any more")
        child.expect(pexpect.EOF)
        assert "nobody is there any more to be asked" in answer_of(*waiting)
        child.close()
        assert child.exitstatus == 130
    assert fetch(layout, "last.example.com").startswith("HTTP/1.1 403 "), "at once"


def test_nobody_answers(sandbox: CommandLine, layout: Layout) -> None:
    sandbox.file(FILE)
    with start_fake(sandbox.forks, layout, sandbox.project, "shop", f"--gateway={RULES}", "--wait=0.5"):
        with terminal(sandbox, "journal", "--ask", "shop") as child:
            waiting = attached(layout, child, "new.example.com")
            child.expect_exact("nobody answered within 0.5 s")
            assert "nobody answered within 0.5 s" in answer_of(*waiting)
            child.sendline("o")  # too late, and an answer to nothing
            waiting = attached(layout, child, "next.example.com")
            child.expect_exact("nobody answered within 0.5 s")
            assert answer_of(*waiting).startswith("HTTP/1.1 403 ")
            reasons = [str(line["reason"]) for line in journal(layout)]
            assert sandbox("down", "shop").code == 0
            child.expect_exact("nobody is asked any more")
            child.expect(pexpect.EOF)
            child.close()
            assert child.exitstatus == 0
    assert all(reason.endswith("; nobody answered within 0.5 s") for reason in reasons) and len(reasons) == 2


@pytest.mark.usefixtures("shop")
def test_what_was_typed_before_the_question_is_no_answer(sandbox: CommandLine, layout: Layout) -> None:
    with terminal(sandbox, "journal", "--ask") as child:
        waiting = attached(layout, child, "first.example.com")
        child.sendline("n\na\na")
        second = attached(layout, child, "second.example.com")
        child.sendline("o")
        child.expect_exact("second.example.com: allowed until the sandbox ends")
        assert answer_of(*waiting).startswith("HTTP/1.1 403 ")
        assert answer_of(*second).startswith("HTTP/1.1 200 ")
    assert (sandbox.project / "Sandboxfile.yaml").read_text() == FILE


@pytest.mark.usefixtures("shop")
def test_up_asks_when_it_is_ready(sandbox: CommandLine, layout: Layout) -> None:
    runs_with(sandbox, layout, FILE)
    with terminal(sandbox, "up", "--ask") as child:
        waiting = attached(layout, child, "new.example.com")
        child.sendline("once")
        child.expect_exact("new.example.com: allowed until the sandbox ends")
        assert answer_of(*waiting).startswith("HTTP/1.1 200 ")
        child.sendeof()
        child.expect_exact("nobody is asked any more")
        child.expect(pexpect.EOF)
        child.close()
        assert child.exitstatus == 0


@pytest.mark.usefixtures("shop")
def test_without_a_terminal(sandbox: CommandLine, layout: Layout) -> None:
    runs_with(sandbox, layout, FILE)
    ran = sandbox("up", "--ask")
    assert ran.code == 0 and "nobody can be asked without a terminal" in ran.err
    ran = sandbox("journal", "--ask")
    assert ran.code == 2 and "nobody can be asked without a terminal" in ran.err
    assert sandbox("up", "--ask", "--json").code == 2
    with guest(layout) as connection:
        assert ask(connection, "new.example.com").startswith("HTTP/1.1 403 ")
