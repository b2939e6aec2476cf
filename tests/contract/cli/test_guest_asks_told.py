"""`sandbox-ask` in the guest, and what the user is shown of it, beside a gateway with real sockets."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from cli_world import DEADLINE_S, CommandLine, FakeSandbox, start_fake
from test_allow import RULES, fetch, journal
from test_ask import terminal

from engine.state.layout import Layout

SCRIPT = Path(__file__).parents[3] / "vmm/guest/rootfs/usr/local/bin/sandbox-ask"
# The guest's way to the gateway is a socket here.
RUN = """
import runpy, socket, sys
class Way(socket.socket):
    def setsockopt(self, *of_tcp): ...
def connect(address, *rest):
    assert address == ("ask.sandbox.invalid", 80), address
    one = Way(socket.AF_UNIX)
    one.connect(path)
    return one
socket.create_connection = connect
_, path, script, *given = sys.argv
sys.argv[:] = ["sandbox-ask", *given]
runpy.run_path(script, run_name="__main__")
"""


@pytest.fixture
def shop(sandbox: CommandLine, layout: Layout) -> Iterator[FakeSandbox]:
    sandbox.file('version: "1"\nname: shop\nendpoints: [api.example.com]\n')
    with start_fake(sandbox.forks, layout, sandbox.project, "shop", f"--gateway={json.dumps(RULES)}") as fake:
        yield fake


def start_ask(layout: Layout, *argv: str) -> subprocess.Popen[str]:
    socket = layout.instance("shop").sockets.directory / "gw-80.sock"
    command = [sys.executable, "-c", RUN, str(socket), str(SCRIPT), *argv]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def ask(layout: Layout, *argv: str) -> tuple[int, str, str]:
    process = start_ask(layout, *argv)
    out, err = process.communicate(timeout=DEADLINE_S)
    return process.returncode, out, err


@pytest.mark.usefixtures("shop")
def test_the_user_sees_what_is_asked_for_and_only_they_allow_it(sandbox: CommandLine, layout: Layout) -> None:
    assert sandbox("journal", "--asks", "shop").out == "shop asks for nothing that you have not decided about\n"
    code, out, _ = ask(layout, "new.example.com", "--why", "its API \x1b[31m")
    assert code == 0 and out.startswith("The user has been asked for new.example.com.")
    assert fetch(layout, "new.example.com").startswith("HTTP/1.1 403 "), "asking allows nothing"
    line = "shop: asks for new.example.com (its API ): `sandbox allow new.example.com -n shop`\n"
    assert sandbox("journal", "--asks").out == line.replace("API )", "API)")
    assert sandbox("ls").out.endswith(line.replace("API )", "API)"))
    answer = json.loads(sandbox("journal", "--asks", "--json").out)
    (row,) = answer["asks"]
    assert (row["host"], row["port"], row["why"]) == ("new.example.com", 443, "its API")
    assert json.loads(sandbox("ls", "--json").out)[0]["asks"] == [row]
    (told,) = [each for each in journal(layout) if each["verdict"] == "asked"]
    assert (told["host"], told["port"], told["reason"]) == ("new.example.com", 443, "its API")
    assert "asked     new.example.com:443  its API" in sandbox("journal").out
    assert "asked" not in sandbox("journal", "--refused").out
    assert sandbox("allow", "new.example.com").code == 0
    assert sandbox("journal", "--asks", "shop").out == "shop asks for nothing that you have not decided about\n"
    assert json.loads(sandbox("ls", "--json").out)[0]["asks"] == []
    code, out, _ = ask(layout, "new.example.com")
    assert code == 0 and "new.example.com:443 is allowed" in out


@pytest.mark.usefixtures("shop")
def test_what_is_denied_or_is_no_name_is_said(layout: Layout, sandbox: CommandLine) -> None:
    code, out, err = ask(layout, "ads.example.com")
    assert (code, out) == (1, "") and "the user has decided that" in err
    code, _, err = ask(layout, "localhost")
    assert code == 1 and "no name that can be allowed" in err
    assert json.loads(sandbox("ls", "--json").out)[0]["asks"] == []


@pytest.mark.usefixtures("shop")
def test_one_who_sits_there_is_asked_at_once_and_told_why(sandbox: CommandLine, layout: Layout) -> None:
    with terminal(sandbox, "journal", "--ask") as child:
        with start_ask(layout, "new.example.com", "--why", "its API") as process:
            child.expect_exact("shop wants to reach new.example.com:443 (its API). [o]nce")
            child.sendline("o")
            out, _ = process.communicate(timeout=DEADLINE_S)
    assert process.returncode == 0 and "new.example.com:443 is allowed" in out


@pytest.mark.usefixtures("shop")
def test_options_that_mean_different_things(sandbox: CommandLine) -> None:
    assert sandbox("journal", "--asks", "--summary").code == 2


def test_where_no_user_can_allow_anything_the_name_is_one_like_others() -> None:
    """A build's gateway, for one: nobody is asked there."""
    import asyncio

    sys.path.append(str(Path(__file__).parents[1] / "gateway"))
    from gateway_world import world

    async def scenario() -> bytes:
        async with world() as w:
            return await w.ask(80, b"POST /?host=a.example.com HTTP/1.1\r\nHost: ask.sandbox.invalid\r\n\r\n")

    assert asyncio.run(scenario()).startswith(b"HTTP/1.1 403 ")
