"""What is allowed for now, beside a file that changes."""

from __future__ import annotations

import asyncio
import errno
import os
from collections.abc import Awaitable, Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from fake_guest import FakeGuest

from engine.errors import EngineError
from engine.gateway.journal import Journal, JournalLine
from engine.gateway.policy import Policy
from engine.gateway.rules import Injection, Rule
from engine.gateway.server import Gateway, start_gateway
from engine.guest.guest import Guest
from engine.state.instances import Instance, load_instance, save_instance
from engine.state.layout import Layout
from engine.supervisor import asking, temporary
from engine.supervisor.asking import Asking
from engine.supervisor.temporary import MOST, TemporaryRules, temporary_endpoint, to_request
from vmm.channel.stream import LocalStream

STREAM = cast("LocalStream", None)
FILED = Policy([Rule("filed.example", place="Sandboxfile.yaml:3")])


def with_rules(
    tmp_path: Path, scenario: Callable[[TemporaryRules, Gateway, FakeGuest], Awaitable[None]], policy: Policy = FILED
) -> None:
    layout = Layout.from_environment(os.environ)
    save_instance(layout, Instance("shop", "/src", "/src/f", "0", "2026-01-01T00:00:00+00:00", "running"))

    async def main() -> None:
        guest = FakeGuest()
        with Journal(tmp_path / "journal") as journal:
            async with start_gateway(policy, tmp_path, journal) as gateway:
                armed = 0

                async def arm() -> None:
                    nonlocal armed
                    armed += 1
                    gateway.arm(authority=cast("Any", object()))

                machine = cast("Guest", type("", (), {"channel": guest, "gateway": gateway}))
                await scenario(TemporaryRules(layout, "shop", machine, arm), gateway, guest)

    asyncio.run(main())


def ask(name: str, *rules: Rule, **rest: Any) -> dict[str, Any]:
    return dict(to_request(temporary_endpoint(name, rules or [Rule(name)], **rest)))


def names(rules: TemporaryRules) -> list[tuple[str, bool]]:
    return [(row["name"], row["deny"]) for row in rules.rows()]


def test_the_file_speaks_for_what_was_saved_and_denies_what_it_denies(tmp_path: Path) -> None:
    async def scenario(rules: TemporaryRules, gateway: Gateway, guest: FakeGuest) -> None:
        await rules.handle(ask("saved.example", saved=True), STREAM)
        await rules.handle(ask("once.example"), STREAM)
        await rules.handle(ask("later.example"), STREAM)
        gateway.set_policy(Policy([Rule("*.example.com"), Rule("later.example", deny=True, place="f:9")]))
        rules.revise()
        assert names(rules) == [("once.example", False)]
        assert not gateway.policy.decide("saved.example", 443).allowed, "the user has taken it out of the file again"
        record = load_instance(Layout.from_environment(os.environ), "shop")
        assert record is not None and [row["name"] for row in record.temporary] == ["once.example"]
        lines = (tmp_path / "journal").read_text()
        assert "f:9 denies it now" in lines and "the file speaks for it now" in lines

    with_rules(tmp_path, scenario)


def test_conditions_need_a_certificate_that_the_guest_trusts(tmp_path: Path) -> None:
    async def scenario(rules: TemporaryRules, gateway: Gateway, guest: FakeGuest) -> None:
        rule = Rule("a.example", methods=("GET",))
        await rules.handle(ask("a.example", rule, methods=("GET",)), STREAM)
        assert gateway.authority is not None
        assert gateway.policy.judge("a.example", 443, "GET", "/").allowed
        assert not gateway.policy.judge("a.example", 443, "POST", "/").allowed
        # One more is one more; without a condition it is both.
        rule = Rule("a.example", methods=("POST",))
        await rules.handle(ask("a.example", rule, methods=("POST",)), STREAM)
        assert gateway.policy.judge("a.example", 443, "POST", "/").allowed and len(rules.rows()) == 2
        await rules.handle(ask("a.example", deny=True), STREAM)
        assert names(rules) == [("a.example", True)]
        with pytest.raises(EngineError, match=r"denied for now by `sandbox deny a\.example`"):
            await rules.handle(ask("a.example", rule, methods=("POST",)), STREAM)

    with_rules(tmp_path, scenario)


def test_running_containers_would_not_trust_a_first_certificate(tmp_path: Path) -> None:
    async def scenario(rules: TemporaryRules, gateway: Gateway, guest: FakeGuest) -> None:
        layout = Layout.from_environment(os.environ)
        record = load_instance(layout, "shop")
        assert record is not None
        save_instance(layout, record._replace(services={"web": {}}))
        request = ask("a.example", Rule("a.example", methods=("GET",)), methods=("GET",))
        with pytest.raises(EngineError, match="containers trust from their start on only"):
            await rules.handle(request, STREAM)
        assert gateway.authority is None and rules.rows() == []
        await rules.handle(ask("a.example"), STREAM)

    with_rules(tmp_path, scenario)


def test_a_group_brings_the_settings_of_its_clients(tmp_path: Path) -> None:
    async def scenario(rules: TemporaryRules, gateway: Gateway, guest: FakeGuest) -> None:
        request = ask("npm", Rule("registry.example", private=True), files=(("/etc/npmrc", 0o644, "x"),))
        await rules.handle(request, STREAM)
        assert guest.asked[-1].request["files"] == [{"path": "/etc/npmrc", "mode": 0o644, "content": "x"}]
        assert gateway.policy.decide("registry.example", 443).reason.endswith("is allowed by sandbox allow npm")

    with_rules(tmp_path, scenario)


def test_the_same_word_again_begins_its_time_anew(tmp_path: Path) -> None:
    async def scenario(rules: TemporaryRules, gateway: Gateway, guest: FakeGuest) -> None:
        await rules.handle(ask("a.example", for_s=0.01), STREAM)
        await rules.handle(ask("a.example"), STREAM)
        await rules.handle(ask("b.example", for_s=0.02), STREAM)
        async with asyncio.timeout(20):
            while len(rules.rows()) > 1:  # noqa: ASYNC110 - nobody but a test waits for that
                await asyncio.sleep(0.005)
        assert names(rules) == [("a.example", False)]
        assert gateway.policy.decide("a.example", 443).allowed and not gateway.policy.decide("b.example", 443).allowed

    with_rules(tmp_path, scenario)


@pytest.mark.parametrize(
    "request_",
    [
        {},
        {"endpoint": {"name": "x"}},
        ask("a.example", for_s=-1.0),
        ask("a.example", for_s=1e12),
        ask("a.example", for_s=float("nan")),
        ask("a.example", Rule("a.example", injections=(Injection("key", "authorization", "raw"),))),
        {"endpoint": {**ask("a.example")["endpoint"], "rules": []}},
        {"endpoint": {**ask("a.example")["endpoint"], "deny": True}},
    ],
    ids=range(8),
)
def test_what_is_no_temporary_endpoint(tmp_path: Path, request_: dict[str, Any]) -> None:
    async def scenario(rules: TemporaryRules, gateway: Gateway, guest: FakeGuest) -> None:
        with pytest.raises((EngineError, ValueError)):
            await rules.handle(request_, STREAM)
        assert rules.rows() == [] and gateway.policy == FILED

    with_rules(tmp_path, scenario)


def test_there_is_a_bound(tmp_path: Path) -> None:
    async def scenario(rules: TemporaryRules, gateway: Gateway, guest: FakeGuest) -> None:
        for number in range(MOST):
            await rules.handle(ask(f"a{number}.example"), STREAM)
        with pytest.raises(EngineError, match=f"{MOST} endpoints"):
            await rules.handle(ask("one.more.example"), STREAM)
        await rules.handle(ask("a0.example"), STREAM)
        assert len(rules.rows()) == MOST

    with_rules(tmp_path, scenario)


def test_what_a_rule_forbids_is_cut_also_where_the_record_cannot_be_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """For want of descriptors: `ls` is behind then, and the gateway is not. A guest decides when it asks for a name."""
    cut: list[str] = []

    def load(layout: Layout, name: str) -> None:
        raise OSError(errno.EMFILE, "Too many open files")

    async def scenario(rules: TemporaryRules, gateway: Gateway, guest: FakeGuest) -> None:
        Asking(Layout.from_environment(os.environ), "shop", gateway)
        assert gateway.asks.hear("POST", "/?host=new.example&why=it", gateway.policy).status == 202
        line = JournalLine(port=443, verdict="allowed", host="filed.example")
        gateway._context.live[line] = cast("Any", SimpleNamespace(cancel=lambda: cut.append("filed.example")))
        monkeypatch.setattr(temporary, "load_instance", load)
        monkeypatch.setattr(asking, "load_instance", load)
        await rules.handle(ask("new.example"), STREAM)
        assert gateway.policy.decide("new.example", 443).allowed and cut == []
        await rules.handle(ask("filed.example", deny=True), STREAM)
        assert cut == ["filed.example"] and gateway.asks.open == ()
        gateway._context.live.clear()

    with_rules(tmp_path, scenario)


def test_connections_are_cut_before_anybody_is_told(tmp_path: Path) -> None:
    """Whatever goes wrong with that, what is forbidden is cut."""
    cut: list[str] = []

    def fail() -> None:
        raise RuntimeError("nobody can be told")

    async def scenario(rules: TemporaryRules, gateway: Gateway, guest: FakeGuest) -> None:
        assert gateway.asks.hear("POST", "/?host=new.example&why=it", gateway.policy).status == 202
        gateway.asks.on_change = fail
        line = JournalLine(port=443, verdict="allowed", host="filed.example")
        gateway._context.live[line] = cast("Any", SimpleNamespace(cancel=lambda: cut.append("filed.example")))
        with pytest.raises(RuntimeError):
            gateway.set_policy(Policy([Rule("new.example")]))
        assert cut == ["filed.example"]
        gateway._context.live.clear()

    with_rules(tmp_path, scenario)
