"""A live change step by step: what is in force, what is written down, and what a failure leaves."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import pytest
from fake_guest import Answer, Asked, FakeGuest

from engine.gateway.policy import Policy
from engine.gateway.rules import Injection, Rule
from engine.guest.compose_project import ComposeProject
from engine.guest.guest import Guest
from engine.plan.changes import sections_of
from engine.project.pieces import Piece
from engine.project.tree import ProjectTree
from engine.secrets.places import SecretPlaces
from engine.secrets.sources import Source
from engine.state.configuration import Configuration, Part, Running, load_running, save_running
from engine.state.instances import AgentCall, Instance, load_instance, save_instance
from engine.state.layout import Layout
from engine.supervisor.adjuster import Adjuster, Weigh
from engine.supervisor.adjustment import Adjustment
from engine.supervisor.held_lines import LIMIT
from engine.supervisor.ports import OpenPorts
from vmm.channel.errors import GuestError
from vmm.channel.guest import Completed
from vmm.channel.stream import LocalStream
from vmm.errors import VmmError
from vmm.guest.guestd.wire import CREDIT, WINDOW, Decoder, Frame
from vmm.spec import HostForward

OLD = {"endpoints": [], "ports": [], "services": {"web": {"image": "old"}}, "agent": None, "machine": {}}
NEW = {
    "endpoints": ["a"],
    "ports": [80],
    "services": {"web": {"image": "new"}},
    "agent": {"x": 1},
    "machine": {"network_rate": 4096},
}
ROOT = Path("/").stat()
WEB = ComposeProject("shop", "{}", ("web",), (), {}, (), "/", (ROOT.st_dev, ROOT.st_ino))


class Fake(FakeGuest):
    """Machine, gateway, ports and guest in one. `broken` names what fails; `said` is what was asked, in order."""

    def __init__(self, broken: Iterable[str] = (), unnamed: Iterable[tuple[str, int]] = ()) -> None:
        super().__init__()
        self.broken = set(broken)
        self.said: list[str] = []
        self.policy: Policy | None = None
        self.authority: Any = None
        self.secret_of: Callable[[str], str | None] = lambda name: None
        self.names = {"db.example.com": "10.0.2.101"}
        self.identities: list[dict[str, Any]] = []
        self.unnamed = list(unnamed)
        self.forwards: list[HostForward] = []
        self.reached = asyncio.Event()

    async def change(self, wanted: Iterable[HostForward]) -> None:
        """As OpenPorts: what could be opened is in `forwards`, whatever happens."""
        for forward in wanted:
            self.said.append(f"open {forward.host_port}")
            if "ports" in self.broken:
                raise VmmError("taken", "by somebody", "choose another")
            self.forwards.append(forward)

    def set_policy(self, policy: Policy) -> tuple[int, ...]:
        self.policy = policy
        return tuple(port for port in policy.ports() if port not in (80, 443))

    def arm(
        self, *, authority: Any = None, secrets: Callable[[str], str | None] | None = None, keep: Any = None
    ) -> None:
        self.authority = authority or self.authority
        self.secret_of = secrets or self.secret_of
        self.said.append("arm")

    def pace(self, rate: int | None) -> None:
        self.said.append(f"pace {rate}")

    def take_unnamed(self) -> list[tuple[str, int]]:
        found, self.unnamed = self.unnamed, []
        return found

    def result(self, asked: Asked) -> dict[str, Any] | GuestError:
        self.said.append(asked.op)
        if asked.op == "identity":
            self.identities.append(asked.request)
        return GuestError(f"{asked.op} failed") if asked.op in self.broken else super().result(asked)

    def reply(self, asked: Asked) -> Answer | GuestError:
        self.said.append(" ".join(word for word in asked.argv if not word.startswith("-")))
        if "refused" in self.broken:
            self.unnamed.append(("registry-1.docker.io", 443))
        starts = " up" in asked.command
        if starts and "hangs" in self.broken:
            self.reached.set()
            return Answer(hangs=True)
        return Answer(1 if starts and "services" in self.broken else 0, f"out of {asked.argv[0]}\n".encode())


@pytest.fixture
def layout() -> Layout:
    layout = Layout.from_environment(os.environ)
    record = Instance("shop", "/src", "/src/Sandboxfile.yaml", "0", "2026-01-01T00:00:00+00:00", "running")
    save_instance(layout, record._replace(working_directory="/w", agent=AgentCall(["old"], "agent")))
    save_running(layout, "shop", Running(configuration(OLD), (80, 443), "/cache/image"))
    return layout


def configuration(sandbox: dict[str, Any]) -> Configuration:
    return Configuration(sandbox, (), {}, {})


def request(*parts: Part, **changes: Any) -> dict[str, Any]:
    values: dict[str, Any] = {
        "configuration": configuration(NEW),
        "parts": {part: sections_of(part) for part in parts},
        "rules": (Rule("a.example.com"),),
        "files": (("/etc/npmrc", 0o644, "x"),),
        "forwards": (HostForward(40123, 80),),
        "project_name": "shop",
        "project": WEB,
        "agent": AgentCall(["new"], "agent"),
    }
    return cast("dict[str, Any]", json.loads(json.dumps(Adjustment(**{**values, **changes}).to_json())))


def adjust(
    layout: Layout, fake: Fake, *requests: dict[str, Any], weigh: Weigh = lambda weight: None
) -> tuple[list[dict[str, Any]], list[str]]:
    """The answers, and the lines that the client got."""
    sent = bytearray()

    async def drain() -> None: ...

    async def main() -> list[dict[str, Any]]:
        guest = cast("Guest", type("", (), {"channel": fake, "gateway": fake, "machine": fake}))
        adjuster = Adjuster(layout, "shop", guest, cast("OpenPorts", fake), weigh=weigh)
        return [await adjuster.handle(one, LocalStream(1, sent.extend, drain)) for one in requests]

    answers = asyncio.run(main())
    decoder = Decoder()
    data = b"".join(frame.payload for frame in decoder.feed(bytes(sent)))
    return answers, [json.loads(line)["text"] for line in data.splitlines()]


def running(layout: Layout) -> Running:
    found = load_running(layout, "shop")
    assert found is not None
    return found


def test_everything(layout: Layout) -> None:
    fake = Fake()
    ((answer,), lines) = adjust(layout, fake, request("endpoints", "ports", "services", "record"))
    assert answer == {"applied": ["endpoints", "ports", "services", "record"], "failed": None}
    assert fake.policy is not None and fake.policy.decide("a.example.com", 443).allowed
    assert fake.said[:2] == ["identity", "open 40123"], "endpoints come first: images are pulled by them"
    assert "docker compose /compose.yaml plain up web" in fake.said
    assert "pace 4096" in fake.said
    assert lines[0] == "changing what it may reach" and "out of mkdir" in lines
    assert running(layout) == Running(configuration(NEW), (80, 443), "/cache/image")
    record = load_instance(layout, "shop")
    assert record is not None and record.plan_key == configuration(NEW).key()
    assert record.ports == [{"host": 40123, "guest": 80}]
    assert record.services == {"web": {"name": "web", "state": "running", "health": None}}
    assert (record.working_directory, record.agent) == ("/w", AgentCall(["new"], "agent"))


def test_what_looks_inside_comes_after_the_guest_trusts_it(layout: Layout) -> None:
    fake = Fake()
    inside = Rule("api.anthropic.com", injections=(Injection("anthropic", "x-api-key", "raw"),))
    places = SecretPlaces({"anthropic": (Source("env", "KEY"),)}, {"KEY": "sk-ant-of-the-user"})
    changes = {"rules": (inside,), "secrets": places, "environment": {"ANTHROPIC_API_KEY": "proxy-managed"}}
    first, second = request("endpoints", **changes), request("endpoints", **changes)
    answers, _ = adjust(layout, fake, first, second)
    assert [answer["failed"] for answer in answers] == [None, None]
    assert fake.said[:2] == ["identity", "arm"], "nothing is intercepted before"
    given = [one["certificate"] for one in fake.identities if "certificate" in one]
    assert len(given) == 1 and given[0] == fake.authority.certificate, "one authority for the life of a sandbox"
    assert fake.identities[1]["environment"] == {"ANTHROPIC_API_KEY": "proxy-managed"}
    assert fake.secret_of("anthropic") == "sk-ant-of-the-user"
    assert fake.policy is not None and fake.policy.looks_inside


def test_what_the_agent_holds_and_is_told_follows(layout: Layout) -> None:
    fake = Fake()
    seed, note = ("/home/agent/.claude/settings.json", 0o600, "{}"), ("/home/agent/.claude/CLAUDE.md", "new")
    adjust(layout, fake, request("endpoints", seeds=[seed], note=note, kinds={"anthropic": "oauth"}))
    files = [file for one in fake.identities for file in one["files"] if file["path"].startswith("/home")]
    held = {"path": seed[0], "mode": 0o600, "content": "{}", "owner": "agent"}
    told = {"path": note[0], "mode": 0o600, "content": "new", "owner": "agent", "part": True}
    assert files == [held, told]
    assert running(layout).kinds == {"anthropic": "oauth"}


def test_a_credential_that_is_gone_changes_nothing(layout: Layout) -> None:
    fake = Fake()
    places = SecretPlaces({"anthropic": (Source("env", "KEY"),)}, {})
    ((answer,), _) = adjust(layout, fake, request("endpoints", secrets=places))
    assert answer["applied"] == [] and "the secret anthropic has no value" in answer["failed"]["brief"]
    assert fake.policy is None


def test_a_weight_is_had_at_once_and_said_where_it_is_not(layout: Layout) -> None:
    weights: list[int] = []

    def weigh(weight: int) -> str | None:
        weights.append(weight)
        return "it needs a new machine" if weight == 200 else None

    changed = [replace(configuration(NEW), sandbox={**NEW, "machine": {"cpu_weight": weight}}) for weight in (50, 200)]
    requests = [request("record", configuration=one) for one in changed]
    _, lines = adjust(layout, Fake(), request("record"), *requests, request("ports"), weigh=weigh)
    assert weights == [100, 50, 200], "a file of an older version names none"
    assert "it needs a new machine" in lines


def test_an_agent_that_is_gone_is_gone_from_the_record(layout: Layout) -> None:
    adjust(layout, Fake(), request("record", agent=None))
    record = load_instance(layout, "shop")
    assert record is not None and (record.working_directory, record.agent) == ("/w", None)


def test_only_what_is_asked_for(layout: Layout) -> None:
    fake = Fake()
    adjust(layout, fake, request("ports"))
    assert fake.said == ["open 40123"] and fake.policy is None
    adjust(layout, fake, request("services", project=None))
    assert fake.said[1:] == ["docker compose shop plain down", "rm /compose.yaml"]


@pytest.mark.parametrize(
    ("broken", "part", "applied", "brief"),
    [
        ("identity", "endpoints", [], "identity failed"),
        ("ports", "ports", ["endpoints"], "taken"),
        ("services", "services", ["endpoints", "ports"], "starting services failed with code 1"),
        ("health", "services", ["endpoints", "ports"], "health failed"),
    ],
)
def test_a_failure_says_what_is_in_force_and_is_tried_again(
    layout: Layout, broken: str, part: str, applied: list[str], brief: str
) -> None:
    everything = request("endpoints", "ports", "services", "record")
    ((answer,), _) = adjust(layout, Fake({broken}), everything)
    assert answer["applied"] == applied
    assert (answer["failed"]["part"], answer["failed"]["brief"]) == (part, brief)
    left = running(layout)
    assert left.unfinished == (part,)
    for one in ("endpoints", "ports", "services", "agent"):
        expected = NEW if one in applied else OLD
        assert left.configuration.sandbox[one] == expected[one], one
    ((answer,), _) = adjust(layout, Fake(), everything)
    assert answer["failed"] is None and running(layout).unfinished == ()
    assert running(layout).configuration == configuration(NEW)


def test_a_failure_for_want_of_an_endpoint_names_it(layout: Layout) -> None:
    fake = Fake({"refused", "services"}, unnamed=[("of.an.earlier.time", 443)])
    ((answer,), _) = adjust(layout, fake, request("services"))
    hint = answer["failed"]["hint"]
    assert "sandbox add endpoint docker-hub" in hint and "earlier" not in hint


def test_services_that_fail_can_be_asked_for_by_name(layout: Layout) -> None:
    adjust(layout, Fake({"services", "health"}), request("services"))
    record = load_instance(layout, "shop")
    assert record is not None and record.services["web"]["state"] == "unknown"


def test_a_port_without_a_listener_is_refused(layout: Layout) -> None:
    ((answer,), _) = adjust(layout, Fake(), request("endpoints", rules=(Rule("a.example.com", 8443),)))
    assert "cannot reach port 8443" in answer["failed"]["brief"] and "--recreate" in answer["failed"]["hint"]


def test_a_client_that_goes_away_leaves_the_part_unfinished(layout: Layout) -> None:
    fake = Fake({"hangs"})

    async def drain() -> None: ...

    async def main() -> None:
        guest = cast("Guest", type("", (), {"channel": fake, "gateway": fake, "machine": fake}))
        adjuster = Adjuster(layout, "shop", guest, cast("OpenPorts", fake))
        ignore: Callable[[bytes], None] = lambda data: None  # noqa: E731
        task = asyncio.create_task(adjuster.handle(request("ports", "services"), LocalStream(1, ignore, drain)))
        await fake.reached.wait()
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        assert task.cancelled()
        assert fake.of(" up ").given_up, "the guest is told, too"

    asyncio.run(main())
    assert running(layout).unfinished == ("services",)
    assert running(layout).configuration.sandbox["ports"] == NEW["ports"]


def test_a_client_that_reads_nothing_gets_fewer_lines(layout: Layout) -> None:
    sent = bytearray()

    class Chatty(Fake):
        async def run(self, argv: Sequence[str], **options: Any) -> Completed:
            for _ in range(2000):  # at once, however busy we are: the client is not asked in between
                options.get("on_output", lambda *_: None)("stdout", b"x" * 1000 + b"\n")
            return Completed(0, b"", b"")

    async def drain() -> None: ...

    async def main() -> dict[str, Any]:
        guest = cast("Guest", type("", (), {"channel": (fake := Chatty()), "gateway": fake, "machine": fake}))
        stream = LocalStream(1, sent.extend, drain)
        adjusting = asyncio.create_task(
            Adjuster(layout, "shop", guest, cast("OpenPorts", fake)).handle(request("services"), stream)
        )
        done: set[asyncio.Task[Any]] = set()
        while not done:  # it gives credit for what was there, never for what piles up
            done, _ = await asyncio.wait({adjusting}, timeout=0.05)
            assert len(sent) < 3 * WINDOW
            stream.accept(Frame(1, CREDIT, 0, WINDOW.to_bytes(4, "big")))
        return adjusting.result()

    assert asyncio.run(main())["failed"] is None
    data = b"".join(frame.payload for frame in Decoder().feed(bytes(sent)))
    lines = [json.loads(line)["text"] for line in data.splitlines()]
    assert len(data) < 2 * LIMIT + 10_000
    assert any("lines left out" in line for line in lines)


def test_what_is_not_known_any_more_is_not_changed(layout: Layout) -> None:
    layout.instance("shop").configuration.unlink()
    fake = Fake()
    with pytest.raises(Exception, match="not known any more"):
        adjust(layout, fake, request("ports"))
    assert fake.said == []


def test_content_that_is_not_what_was_decided_about_is_refused_and_named(layout: Layout, tmp_path: Path) -> None:
    """The supervisor opens the project by itself, and compares what it sends with the keys of the request."""
    (tmp_path / "web").mkdir()
    (tmp_path / "web/Dockerfile").write_text("clean")
    with ProjectTree.open(tmp_path) as tree:
        piece = Piece("web", "/var/lib/sandbox/build/web")
        piece = replace(piece, key=tree.key(piece))
        project = ComposeProject("shop", "{}", (), ("web",), {"web": (piece,)}, (), str(tmp_path), tree.identity)
    wanted = request("services", project=project, images=("web",))
    fake = Fake()
    ((answer,), _) = adjust(layout, fake, wanted)
    assert answer["failed"] is None
    assert fake.files["/var/lib/sandbox/build/web/Dockerfile"].content == b"clean"
    (tmp_path / "web/Dockerfile").write_text("EVIL")
    fake = Fake()
    ((answer,), _) = adjust(layout, fake, wanted)
    assert (answer["failed"]["changed"], answer["applied"]) == ("web", [])
    assert answer["failed"]["brief"] == "web changed while it was copied"
    assert not any("build" in command and "compose" in command for command in fake.said), "nothing is made of it"
    assert running(layout).unfinished == ("services",)
    (tmp_path / "web").rename(tmp_path / "away")
    (tmp_path / "web").symlink_to("away")
    ((answer,), _) = adjust(layout, Fake(), wanted)
    assert "'web' is a link" in answer["failed"]["brief"] and answer["failed"]["changed"] is None
    wanted["project"]["identity"] = [1, 2]
    ((answer,), _) = adjust(layout, Fake(), wanted)
    assert "another directory than `up` saw" in answer["failed"]["brief"]
