"""Agents that only their vendors have: a stand-in for the vendor's server, real curl, and programs that are stubs.

The commands that would run in the guest run here, with its directories in a temporary one, and with a curl that asks
the stand-in whatever the name. So it is seen which URL is asked for, what is checked, and what is on the PATH after it.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import io
import os
import subprocess
import tarfile
import threading
from collections.abc import Coroutine, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, cast

import pytest
from fake_guest import Answer, Asked, FakeGuest
from server_certificates import Signer

from engine import resources
from engine.agents import FILE, load_agent
from engine.agents.definition import AgentDefinition, read_definition
from engine.agents.headless import headless_command
from engine.build.context import BuildContext
from engine.build.nodes.agent import InstallAgent, action_of
from engine.errors import EngineError

STUB = b"#!/bin/sh\necho stub of $0: $@\n"
DOCKER_AGENT = "/docker/docker-agent/releases/download/v1.141.0/docker-agent-linux-amd64"
KIRO = "/stable/latest/kirocli-x86_64-linux.tar.gz"


def packed(*names: str) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as tar:
        for name in names:
            entry = tarfile.TarInfo(name)
            entry.size, entry.mode = len(STUB), 0o644
            tar.addfile(entry, io.BytesIO(STUB))
    return buffer.getvalue()


@dataclass
class Vendor:
    """`files` are (body, length that is announced) by path, `asked` the hosts and paths in their order."""

    port: int
    files: dict[str, tuple[bytes, int]] = field(default_factory=dict)
    asked: list[tuple[str, str]] = field(default_factory=list)

    def has(self, path: str, body: bytes, announced: int | None = None) -> None:
        self.files[path] = body, len(body) if announced is None else announced


@pytest.fixture
def vendor(tmp_path: Path) -> Iterator[Vendor]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            found.asked.append((self.headers["host"], self.path))
            if self.path not in found.files:
                self.send_error(404)
                return
            body, announced = found.files[self.path]
            self.send_response(200)
            self.send_header("content-length", str(announced))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *words: object) -> None: ...

    signer = Signer("vendors")
    (tmp_path / "ca.crt").write_text(signer.text)
    context = signer.server("github.com", "prod.download.cli.kiro.dev")
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.socket = context.wrap_socket(server.socket, server_side=True)
        found = Vendor(server.server_port)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield found
        server.shutdown()


@dataclass
class Place:
    """The guest's directories, below `root`."""

    root: Path
    port: int

    def here(self, word: str) -> str:
        for directory in ("/opt/", "/usr/local/bin/", "/home/agent"):
            word = word.replace(directory, f"{self.root}{directory}")
        return word

    def run(self, asked: Asked) -> Answer:
        argv = [self.here(word) for word in asked.argv]
        if argv[0] == "curl":
            argv[1:1] = ["--connect-to", f"::127.0.0.1:{self.port}", "--cacert", str(self.root / "ca.crt")]
        done = subprocess.run(argv, capture_output=True, stdin=subprocess.DEVNULL, env={"PATH": os.environ["PATH"]})
        return Answer(done.returncode, done.stdout, done.stderr)

    def says(self, program: str, *argv: str) -> str:
        ran = subprocess.run([self.root / "usr/local/bin" / program, *argv], capture_output=True, text=True)
        assert ran.returncode == 0, ran
        return ran.stdout


@pytest.fixture
def place(tmp_path: Path, vendor: Vendor) -> Place:
    (tmp_path / "usr/local/bin").mkdir(parents=True)
    return Place(tmp_path, vendor.port)


def install(definition: AgentDefinition, place: Place, *, known: bool = True) -> None:
    async def scenario() -> None:
        guest = FakeGuest()
        guest.answer("", place.run)
        actions = tuple(action_of(step, None, "amd64" if known else None) for step in definition.install.steps)
        work = InstallAgent(definition.install.version, "amd64", definition.install.packages, actions)
        holder = cast("Any", type("Holder", (), {"channel": guest}))
        context = BuildContext(place.root, {}, lambda line: None, cast("Any", None))
        await work.act(holder, context)

    in_loop(scenario())


def in_loop(work: Coroutine[Any, Any, None]) -> None:
    asyncio.run(work)


@pytest.fixture
def with_digest(tmp_path: Path) -> AgentDefinition:
    """Docker Agent, with the digest of the stub."""
    text = (resources.templates() / "docker-agent" / FILE).read_text()
    digest, before = hashlib.sha256(STUB).hexdigest(), "        into: /opt/docker-agent\n"
    assert before in text
    file = tmp_path / "definitions" / "docker-agent" / FILE
    file.parent.mkdir(parents=True)
    file.write_text(text.replace(before, f"        sha256: {{amd64: {digest}}}\n{before}"))
    return read_definition(file)


def test_docker_agent_is_one_program(vendor: Vendor, place: Place, with_digest: AgentDefinition) -> None:
    vendor.has(DOCKER_AGENT, STUB)
    install(with_digest, place)
    assert vendor.asked == [("github.com", DOCKER_AGENT)]
    command = headless_command(with_digest, "say hello")
    assert place.says(*command).endswith(": run --exec agent.yaml --yolo --json say hello\n")


def test_kiro_is_an_archive_with_three(vendor: Vendor, place: Place) -> None:
    vendor.has(KIRO, packed(*(f"kirocli/bin/kiro-cli{end}" for end in ("", "-chat", "-term"))))
    definition = load_agent("kiro")
    install(definition, place)
    assert vendor.asked == [("prod.download.cli.kiro.dev", KIRO)]
    assert place.says(*headless_command(definition, "x")).endswith(": chat --no-interactive --trust-all-tools x\n")
    assert all("stub" in place.says(name) for name in ("kiro-cli-chat", "kiro-cli-term"))
    assert not list(place.root.glob("opt/kiro/*.tar.gz")), "the archive is gone"


def test_another_program_is_none(vendor: Vendor, place: Place, with_digest: AgentDefinition) -> None:
    vendor.has(DOCKER_AGENT, STUB + b"# and something more\n")
    with pytest.raises(EngineError, match="is not the program that it should be") as caught:
        install(with_digest, place)
    assert hashlib.sha256(STUB).hexdigest() in str(caught.value.details) and "not installed" in str(caught.value.hint)
    assert not list(place.root.glob("opt/docker-agent/*")) and not list((place.root / "usr/local/bin").iterdir())
    install(with_digest, place, known=False)  # of another version no digest is known
    assert "stub" in place.says("docker-agent")


def test_a_download_that_is_cut_off(vendor: Vendor, place: Place) -> None:
    vendor.has(DOCKER_AGENT, STUB[:10], announced=len(STUB))
    with pytest.raises(EngineError, match=r"downloading https://github\.com/.* failed with code 18"):
        install(load_agent("docker-agent"), place)
    assert not list((place.root / "usr/local/bin").iterdir())


def test_a_version_that_the_vendor_does_not_have(vendor: Vendor, place: Place) -> None:
    with pytest.raises(EngineError, match="failed with code 22") as caught:
        install(load_agent("docker-agent"), place)
    assert "404" in str(caught.value.details)


def test_an_archive_without_the_program(vendor: Vendor, place: Place) -> None:
    vendor.has(KIRO, packed("kirocli/bin/other"))
    with pytest.raises(EngineError, match="linking kiro-cli failed") as caught:
        install(load_agent("kiro"), place)
    assert "should be one file" in str(caught.value.details)


def test_a_server_without_the_vendor_s_certificate(vendor: Vendor, place: Place) -> None:
    (place.root / "ca.crt").write_text(Signer("somebody else").text)
    with pytest.raises(EngineError, match="failed with code 60"):
        install(load_agent("docker-agent"), place)
    assert vendor.asked == []


def test_what_it_may_reach_is_the_vendor_alone() -> None:
    hosts = {}
    for name in ("docker-agent", "kiro", "nanoclaw"):
        definition = load_agent(name)
        assert definition.evidence == "documents"
        actions = tuple(action_of(step, None, "amd64") for step in definition.install.steps)
        work = InstallAgent(definition.install.version, "amd64", (), actions)
        hosts[name] = [endpoint.host for endpoint in work.endpoints]
    assert hosts == {
        "docker-agent": ["github.com", "*.githubusercontent.com"],
        "kiro": ["prod.download.cli.kiro.dev"],
        "nanoclaw": ["github.com"],
    }


def test_nanoclaw_is_a_clone(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its set-up is started where the clone is, and it has its key as its documents say."""
    repository = place.root / "nanocoai" / "nanoclaw"
    repository.mkdir(parents=True)
    (repository / "nanoclaw.sh").write_text("pwd; echo set up\n")
    git = ["git", "-C", str(repository), "-c", "user.name=x", "-c", "user.email=x@example.com"]
    for argv in (["init", "-q", "-b", "main"], ["add", "."], ["commit", "-qm", "x"]):
        subprocess.run([*git, *argv], check=True)
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", str(place.root / "gitconfig"))
    (place.root / "gitconfig").write_text(f'[url "file://{place.root}/"]\n\tinsteadOf = https://github.com/\n')
    home = place.root / "home/agent"
    home.mkdir(parents=True)
    with contextlib.ExitStack() as stack:
        stack.callback(monkeypatch.undo)

        def run(asked: Asked) -> Answer:
            env = {"PATH": os.environ["PATH"], "HOME": str(home), "GIT_CONFIG_GLOBAL": str(place.root / "gitconfig")}
            done = subprocess.run(asked.argv, capture_output=True, cwd=home, env=env)
            return Answer(done.returncode, done.stdout, done.stderr)

        monkeypatch.setattr(Place, "run", lambda self, asked: run(asked))
        definition = load_agent("nanoclaw")
        install(definition, place)
        env = {"PATH": os.environ["PATH"], "HOME": str(home)}
        started = subprocess.run(definition.commands.interactive, capture_output=True, text=True, env=env)
    assert started.stdout == f"{home}/nanoclaw\nset up\n"
