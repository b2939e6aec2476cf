"""`allow` and `deny` beside a gateway with real sockets: what is said, what counts, what is cut, what is written."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from cli_world import DEADLINE_S, CommandLine, FakeSandbox, start_fake

from engine import api
from engine.state.layout import Layout

FILE = """version: "1"
name: shop

endpoints:
  # what we need every day
  - api.example.com   # the API
  - {host: ads.example.com, deny: true}
"""
RULES = [
    {"host": "api.example.com", "origin": "endpoints[0]", "place": "Sandboxfile.yaml:6"},
    {"host": "ads.example.com", "deny": True, "origin": "endpoints[1]", "place": "Sandboxfile.yaml:7"},
]


@pytest.fixture
def shop(sandbox: CommandLine, layout: Layout) -> Iterator[FakeSandbox]:
    sandbox.file(FILE)
    with start_fake(sandbox.forks, layout, sandbox.project, "shop", f"--gateway={json.dumps(RULES)}") as fake:
        yield fake


@contextmanager
def guest(layout: Layout, port: int = 80) -> Iterator[socket.socket]:
    """A connection of the guest."""
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(DEADLINE_S)
        connection.connect(str(layout.instance("shop").sockets.directory / f"gw-{port}.sock"))
        yield connection


def ask(connection: socket.socket, host: str, request: str = "GET /") -> str:
    """Send one request, and return its answer, or the part of it that the server sends."""
    connection.sendall(f"{request} HTTP/1.1\r\nHost: {host}\r\n\r\n".encode())
    answer = b""
    while not answer.endswith(b"\r\n\r\nok") and (data := connection.recv(65536)):
        answer += data
    return answer.decode()


def fetch(layout: Layout, host: str, request: str = "GET /") -> str:
    with guest(layout) as connection:
        return ask(connection, host, request)


def journal(layout: Layout) -> list[dict[str, object]]:
    return [json.loads(line) for line in layout.instance("shop").journal.read_text().splitlines()]


@pytest.mark.usefixtures("shop")
def test_it_counts_from_the_next_request_on(sandbox: CommandLine, layout: Layout) -> None:
    refused = fetch(layout, "new.example.com")
    assert refused.startswith("HTTP/1.1 403 ") and "run on the host: sandbox allow new.example.com\n" in refused
    with guest(layout) as connection:
        assert ask(connection, "api.example.com").startswith("HTTP/1.1 200 ")
        ran = sandbox("allow", "new.example.com")
        assert (ran.code, ran.out) == (0, "shop: new.example.com is allowed until the sandbox ends, or `--end`\n")
        assert ask(connection, "new.example.com").startswith("HTTP/1.1 200 "), "on a connection that was open before"
    assert sandbox("ls").out.endswith("shop: for now allowed: new.example.com, until the sandbox ends\n")
    [row] = json.loads(sandbox("ls", "--json").out)[0]["temporary"]
    assert (row["name"], row["deny"], row["until"], row["saved"]) == ("new.example.com", False, None, False)
    ran = sandbox("allow", "--end", "new.example.com")
    assert ran.out == "shop: new.example.com is not allowed for now any more: the file decides\n"
    assert fetch(layout, "new.example.com").startswith("HTTP/1.1 403 ")
    ran = sandbox("allow", "--end", "new.example.com")
    assert ran.code == 1 and "new.example.com is not allowed for now in shop" in ran.err
    assert (sandbox.project / "Sandboxfile.yaml").read_text() == FILE
    rules = [line["rule"] for line in journal(layout) if line["verdict"] == "allowed"]
    assert rules == ["endpoints[0]", "sandbox allow new.example.com"]
    changes = [(line["host"], line["reason"]) for line in journal(layout) if line["verdict"] == "changed"]
    assert changes == [
        ("new.example.com", "allowed until the sandbox ends"),
        ("new.example.com", "allowed no longer: taken back"),
    ]
    shown = sandbox("journal").out
    assert "changed   new.example.com:443  allowed until the sandbox ends" in shown
    assert "changed" not in sandbox("journal", "--refused").out


@pytest.mark.usefixtures("shop")
def test_deny_cuts_what_is_open_and_end_gives_it_back(sandbox: CommandLine, layout: Layout) -> None:
    with guest(layout) as connection:
        assert ask(connection, "api.example.com", "GET /half").startswith("HTTP/1.1 200 ")
        ran = sandbox("deny", "api.example.com", "--for", "1h")
        assert (ran.code, ran.out) == (0, "shop: api.example.com is denied for 1h; 1 open connection was cut\n")
        assert connection.recv(65536) == b""
    refused = fetch(layout, "api.example.com")
    assert "api.example.com:80 is denied by sandbox deny api.example.com" in refused
    assert journal(layout)[-1]["rule"] == "sandbox deny api.example.com"
    assert "for now denied: api.example.com, until 2" in sandbox("ls").out
    assert sandbox("deny", "--end", "api.example.com").code == 0
    assert fetch(layout, "api.example.com").startswith("HTTP/1.1 200 ")


@pytest.mark.usefixtures("shop")
def test_a_time_ends_by_itself(sandbox: CommandLine, layout: Layout) -> None:
    assert sandbox("allow", "new.example.com", "--for", "1s").out == "shop: new.example.com is allowed for 1s\n"
    with guest(layout) as connection:
        assert ask(connection, "new.example.com", "GET /half").startswith("HTTP/1.1 200 ")
        assert connection.recv(65536) == b"", "it is cut"
    assert fetch(layout, "new.example.com").startswith("HTTP/1.1 403 ")
    assert json.loads(sandbox("ls", "--json").out)[0]["temporary"] == []
    lines = [line["reason"] for line in journal(layout)]
    assert "allowed no longer: its time is over" in lines


@pytest.mark.usefixtures("shop")
def test_what_the_file_says_counts(sandbox: CommandLine, layout: Layout) -> None:
    ran = sandbox("allow", "ads.example.com", "--save")
    assert ran.code == 2 and "endpoints[2]: can never match: endpoints[1] denies all of it" in ran.err
    ran = sandbox("allow", "ads.example.com")
    assert ran.code == 1 and "ads.example.com is denied by Sandboxfile.yaml:7" in ran.err
    assert "a rule that denies beats every rule that allows" in ran.err
    assert sandbox("allow", "api.example.com").out == "shop: api.example.com is allowed by Sandboxfile.yaml:6 already\n"
    assert sandbox("allow", "*.example.com").code == 0, "wider than what is denied"
    assert fetch(layout, "ads.example.com").startswith("HTTP/1.1 403 ")
    assert fetch(layout, "other.example.com").startswith("HTTP/1.1 200 ")
    assert sandbox("deny", "*.example.com").code == 0
    ran = sandbox("allow", "other.example.com")
    assert ran.code == 1 and "denied for now by `sandbox deny *.example.com`" in ran.err
    assert (sandbox.project / "Sandboxfile.yaml").read_text() == FILE
    assert fetch(layout, "api.example.com").startswith("HTTP/1.1 403 ")
    assert sandbox("allow", "*.example.com").code == 0, "the last word about one name"
    assert fetch(layout, "api.example.com").startswith("HTTP/1.1 200 ")


@pytest.mark.usefixtures("shop")
def test_saved_it_is_in_the_file_with_its_comments(sandbox: CommandLine, layout: Layout) -> None:
    ran = sandbox("allow", "new.example.com", "-n", "shop", "--method", "get", "--path", "/v1/**", "--save")
    entry = "{host: new.example.com, methods: [GET], paths: [/v1/**]}"
    assert ran.code == 0 and ran.out.endswith(f"Sandboxfile.yaml:8: added endpoints: {entry}\n"), ran
    assert (sandbox.project / "Sandboxfile.yaml").read_text() == f"{FILE}  - {entry}\n"
    assert fetch(layout, "new.example.com", "GET /v1/a").startswith("HTTP/1.1 200 ")
    assert fetch(layout, "new.example.com", "POST /v1/a").startswith("HTTP/1.1 403 ")
    assert sandbox("ls").out.endswith("shop: for now allowed: new.example.com (GET /v1/**), until the sandbox ends\n")
    answer = json.loads(sandbox("deny", "bad.example.com", "--save", "--json").out)
    saved = {"file": str(sandbox.project / "Sandboxfile.yaml"), "line": 9, "added": True}
    assert answer["said"] == [{"name": "bad.example.com", "already": None, "cut": 0, "saved": saved}]
    assert [row["name"] for row in answer["temporary"]] == ["new.example.com", "bad.example.com"]


@pytest.mark.usefixtures("shop")
def test_a_file_that_cannot_be_written_changes_nothing(sandbox: CommandLine, layout: Layout) -> None:
    sandbox.file("version: 2\n")
    assert sandbox("allow", "new.example.com", "--save").code == 2
    assert fetch(layout, "new.example.com").startswith("HTTP/1.1 403 ")


@pytest.mark.usefixtures("shop")
@pytest.mark.parametrize(
    ("argv", "code", "words"),
    [
        (("https://x.example/",), 2, "must be a host's name, not a URL"),
        (("10.0.0.1",), 2, "must be a host's name, got the address"),
        (("localhost:11434",), 2, "a service of the host itself needs"),
        (("nmp",), 2, "unknown group"),
        (("a.example", "--method", "FETCH"), 2, "FETCH"),
        (("a.example", "--for", "soon"), 2, "must be a time such as 30m or 8h, got 'soon'"),
        (("a.example", "--for", "0s"), 2, "no time at all"),
        (("a.example", "--for", "1h", "--save"), 2, "use one of them"),
        (("a.example", "--end", "--save"), 2, "--end takes names only"),
        (("a.example:5432",), 1, "this machine was started without a way to port 5432"),
        (("a.example", "-n", "other"), 1, "there is no sandbox called other"),
    ],
)
def test_what_makes_no_sense(sandbox: CommandLine, argv: tuple[str, ...], code: int, words: str) -> None:
    ran = sandbox("allow", *argv)
    assert ran.code == code and words in ran.err, ran


def test_without_a_sandbox(sandbox: CommandLine) -> None:
    sandbox.file(FILE)
    ran = sandbox("allow", "a.example", "--save")
    assert ran.code == 1 and "no sandbox of this project runs" in ran.err
    assert (sandbox.project / "Sandboxfile.yaml").read_text() == FILE


@pytest.mark.usefixtures("shop")
def test_from_a_program(sandbox: CommandLine, layout: Layout, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(sandbox.project)
    said = api.allow("new.example.com", for_s=3600)
    assert (said.sandbox, said.already, [row["name"] for row in said.temporary]) == ("shop", None, ["new.example.com"])
    assert fetch(layout, "new.example.com").startswith("HTTP/1.1 200 ")
    assert api.deny("new.example.com").temporary[0]["deny"]
    assert fetch(layout, "new.example.com").startswith("HTTP/1.1 403 ")
    assert api.ls()[0].instance is not None and len(api.ls()[0].instance.temporary) == 1


def test_one_of_several_agents(sandbox: CommandLine, layout: Layout) -> None:
    text = 'version: "1"\nname: shop\nagents: {one: {command: a}, two: {command: b}}\n'
    path: Path = sandbox.file(text)
    with start_fake(sandbox.forks, layout, sandbox.project, "shop-one", "--member=one", "--gateway=[]"):
        assert sandbox("allow", "a.example", "--save").code == 0
    assert api.load(path).members[0].sandbox.endpoints[0].host == "a.example"
    assert api.load(path).members[1].sandbox.endpoints == ()
