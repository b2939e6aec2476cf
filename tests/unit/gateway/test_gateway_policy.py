from __future__ import annotations

import json
from dataclasses import asdict
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.decoding import decode
from engine.gateway.addresses import forbidden_kind
from engine.gateway.errors import GatewayError
from engine.gateway.names import BadName, canonical_name
from engine.gateway.policy import Decision, Policy
from engine.gateway.rules import Injection, Rule


def test_nothing_is_allowed_by_default() -> None:
    assert Policy().decide("a.example.com", 443) == Decision(False, None, "no endpoint names a.example.com:443")


@pytest.mark.parametrize(
    ("rule", "host", "port", "allowed"),
    [
        (Rule("a.example.com"), "a.example.com", 443, True),
        (Rule("a.example.com"), "A.Example.COM.", 80, True),
        (Rule("A.Example.com."), "a.example.com", 443, True),
        (Rule("a.example.com"), "a.example.com", 8443, False),
        (Rule("a.example.com", port=8443), "a.example.com", 8443, True),
        (Rule("a.example.com", port=8443), "a.example.com", 443, False),
        (Rule("a.example.com"), "b.a.example.com", 443, False),
        (Rule("a.example.com"), "xa.example.com", 443, False),
        (Rule("a.example.com"), "a.example.com.evil.test", 443, False),
        (Rule("*.example.com"), "a.example.com", 443, True),
        (Rule("*.example.com"), "a.b.example.com", 443, True),
        (Rule("*.example.com"), "example.com", 443, False),
        (Rule("*.example.com"), "evilexample.com", 443, False),
        (Rule("*.example.com"), ".example.com", 443, False),
        (Rule("bücher.example"), "xn--bcher-kva.example", 443, True),
        (Rule("xn--bcher-kva.example"), "BÜCHER.example", 443, True),
        (Rule("under_score.example.com"), "under_score.example.com", 443, True),
    ],
)
def test_matching(rule: Rule, host: str, port: int, allowed: bool) -> None:
    decision = Policy([rule]).decide(host, port)
    assert decision.allowed is allowed
    assert decision.rule == (rule if allowed else None)


def test_deny_beats_allow_in_any_order() -> None:
    allow = Rule("a.example.com", origin="endpoints[0]")
    deny = Rule("*.example.com", deny=True, origin="endpoints[1]")
    for rules in ([allow, deny], [deny, allow]):
        decision = Policy(rules).decide("a.example.com", 443)
        assert decision == Decision(False, deny, "a.example.com:443 is denied by endpoints[1]")


@pytest.mark.parametrize(
    "host",
    [
        "203.0.113.1",
        "[2001:db8::1]",
        "2001:db8::1",
        "127.1",
        "2130706433",
        "0x7f000001",
        "a.0x1",
        "1.2.3.4.",
        "fe80::1%1",
    ],
)
def test_an_address_is_refused_whatever_the_rules_say(host: str) -> None:
    decision = Policy([Rule("*.example.com")]).decide(host, 443)
    assert not decision.allowed and "IP address" in decision.reason
    with pytest.raises(GatewayError):
        Rule(host)


@pytest.mark.parametrize(
    "host",
    ["", ".", "*", "*.", "*.com", "a*.example.com", "a..example", "-a.example", "a b", "a/b", "faß.example", "a" * 64],
)
def test_a_rule_that_makes_no_sense(host: str) -> None:
    with pytest.raises(GatewayError, match=r"endpoints\[4\]: "):
        Rule(host, origin="endpoints[4]")


@pytest.mark.parametrize("port", [0, -1, 65536])
def test_a_port_out_of_range(port: int) -> None:
    with pytest.raises(GatewayError, match="port"):
        Rule("a.example.com", port=port)


def test_ports_that_need_a_listener() -> None:
    rules = [Rule("a.example"), Rule("b.example", port=8443), Rule("c.example", port=22, deny=True)]
    assert Policy(rules).ports() == (80, 443, 8443)
    assert Policy().ports() == (80, 443)


KEY = Injection("key", "authorization", "bearer", placeholders=("held-by-the-guest",))


@pytest.mark.parametrize(
    ("rules", "method", "target", "allowed"),
    [
        ([Rule("a.example")], "GET", "/x", True),
        ([Rule("a.example")], "brew", "/a/../b", True),
        ([Rule("a.example", methods=("GET",))], "GET", "/x", True),
        ([Rule("a.example", methods=("GET",))], "HEAD", "/x", True),
        ([Rule("a.example", methods=("HEAD",))], "GET", "/x", False),
        ([Rule("a.example", methods=("GET",))], "POST", "/x", False),
        ([Rule("a.example", methods=("GET",))], "get", "/x", False),
        ([Rule("a.example", methods=("GET",))], "GET", "/x?_method=DELETE", False),
        ([Rule("a.example", methods=("GET", "DELETE"))], "GET", "/x?_method=delete", True),
        ([Rule("a.example")], "GET", "/x?_method=DELETE", True),
        ([Rule("a.example", paths=("/x/**",))], "POST", "/x/y", True),
        ([Rule("a.example", paths=("/x/**",))], "POST", "/y", False),
        ([Rule("a.example", paths=("/x/**",))], "GET", "/x/../y", False),
        ([Rule("a.example", paths=("/x/**",), methods=("GET",)), Rule("a.example", paths=("/y",))], "POST", "/y", True),
        (
            [Rule("a.example", paths=("/x/**",), methods=("GET",)), Rule("a.example", paths=("/y",))],
            "POST",
            "/x",
            False,
        ),
        ([Rule("a.example"), Rule("a.example", deny=True, paths=("/admin/**",))], "GET", "/Admin/x", False),
        ([Rule("a.example"), Rule("a.example", deny=True, paths=("/admin/**",))], "GET", "/x", True),
        ([Rule("a.example"), Rule("a.example", deny=True, methods=("DELETE",))], "POST", "/x?_method=DELETE", False),
        ([Rule("a.example"), Rule("*.example.com", deny=True)], "GET", "/x", True),
        ([Rule("a.example", paths=("/x",)), Rule("b.example")], "GET", "/y", False),
        ([Rule("a.example", deny=True, paths=("/x",))], "GET", "/y", False),
    ],
)
def test_requests(rules: list[Rule], method: str, target: str, allowed: bool) -> None:
    decision = Policy(rules).judge("a.example", 443, method, target)
    assert decision.allowed is allowed, decision
    assert Policy(reversed(rules)).judge("a.example", 443, method, target).allowed is allowed


def test_a_method_that_a_header_names_must_be_allowed_too() -> None:
    policy = Policy([Rule("a.example", methods=("GET", "POST"))])
    assert not policy.judge("a.example", 443, "POST", "/", ["delete"]).allowed
    assert policy.judge("a.example", 443, "POST", "/", [" get", ""]).allowed
    assert Policy([Rule("a.example")]).judge("a.example", 443, "POST", "/", ["DELETE"]).allowed


def test_what_a_request_decision_says() -> None:
    rule = Rule("a.example", paths=("/x/**",), methods=("GET",), origin="endpoints[2]")
    policy = Policy([rule])
    good = policy.judge("A.example.", 443, "GET", "/x/%7e?t=secret")
    assert (good.allowed, good.rule, good.target, good.path) == (True, rule, "/x/~?t=secret", "/x/~")
    bad = policy.judge("a.example", 443, "PUT", "/x/%7e?t=secret")
    assert (bad.status, bad.rule, bad.needed) == (403, rule, ("PUT", "/x/~"))
    assert bad.reason == "endpoints[2] does not allow PUT a.example:443/x/~"
    assert policy.judge("a.example", 443, "GET", "/x//y").status == 400
    assert policy.judge("b.example", 443, "GET", "/").reason == "no endpoint names b.example:443"


def test_a_target_is_spelt_anew_only_where_paths_count() -> None:
    for rule in (Rule("a.example"), Rule("a.example", methods=("GET",)), Rule("a.example", injections=(KEY,))):
        assert Policy([rule]).judge("a.example", 443, "GET", "/a%2fb/%7e//").target == "/a%2fb/%7e//"


def test_injections_belong_to_a_rule_and_to_paths() -> None:
    narrow = Injection("git", "authorization", "basic", user="x", paths=("/git/**",))
    policy = Policy([Rule("a.example", injections=(narrow, KEY)), Rule("*.example.com", injections=(KEY,))])
    assert policy.judge("a.example", 443, "GET", "/git/x").injections == (narrow,)
    assert policy.judge("a.example", 443, "GET", "/api").injections == (KEY,)
    assert policy.judge("a.example", 443, "GET", "/git%2fx").injections == (KEY,)
    read_only = Policy([Rule("a.example"), Rule("a.example", methods=("GET",), injections=(KEY,))])
    assert read_only.judge("a.example", 443, "GET", "/").injections == (KEY,)
    assert read_only.judge("a.example", 443, "POST", "/").injections == ()


def test_who_looks_inside() -> None:
    assert not Rule("a.example").looks_inside and not Rule("a.example", deny=True).looks_inside
    for rule in (
        Rule("a.example", methods=("GET",)),
        Rule("a.example", paths=("/x",)),
        Rule("a.example", injections=(KEY,)),
        Rule("a.example", intercept=True),
    ):
        assert rule.looks_inside
        policy = Policy([Rule("a.example"), rule])
        assert policy.looks_inside and policy.looks_into("a.example", 443)
        assert not policy.looks_into("a.example", 8443) and not policy.looks_into("b.example", 443)


def test_a_placeholder_is_foreign_to_every_host_but_its_own() -> None:
    policy = Policy([Rule("a.example", injections=(KEY,)), Rule("b.example")])
    assert policy.foreign_placeholders("a.example", 443) == frozenset()
    assert policy.foreign_placeholders("b.example", 443) == {"held-by-the-guest"}
    assert policy.foreign_placeholders("a.example", 8443) == {"held-by-the-guest"}


@pytest.mark.parametrize(
    "rule",
    [
        {"methods": ("get",)},
        {"methods": ("",)},
        {"paths": ("x",)},
        {"paths": ("/a/../b",)},
        {"injections": (Injection("k", "Authorization", "raw"),)},
        {"injections": (Injection("k", "x", "raw", drop=("a b",)),)},
        {"injections": (Injection("k", "x", "raw", paths=("/..",)),)},
    ],
)
def test_a_condition_that_makes_no_sense(rule: dict[str, Any]) -> None:
    with pytest.raises(GatewayError, match=r"endpoints\[4\]: "):
        Rule("a.example", origin="endpoints[4]", **rule)


def test_a_rule_travels_as_json() -> None:
    rule = Rule("a.example", methods=("GET",), paths=("/x",), injections=(KEY,), place="Sandboxfile.yaml:3")
    assert decode(Rule, json.loads(json.dumps(asdict(rule)))) == rule


@given(st.text())
def test_any_text_is_a_name_or_is_not(text: str) -> None:
    try:
        name = canonical_name(text)
    except BadName:
        return
    assert name.isascii() and name == name.lower() == canonical_name(name)


@pytest.mark.parametrize(
    ("address", "kind"),
    [
        ("127.0.0.1", "loopback"),
        ("127.255.255.254", "loopback"),
        ("0.0.0.0", "unspecified"),
        ("0.1.2.3", "unspecified"),
        ("10.0.0.1", "private"),
        ("172.31.0.1", "private"),
        ("192.168.0.1", "private"),
        ("100.127.0.1", "shared (carrier-grade NAT)"),
        ("169.254.1.1", "link-local"),
        ("169.254.169.254", "cloud metadata"),
        ("100.100.100.200", "cloud metadata"),
        ("224.0.0.1", "multicast"),
        ("255.255.255.255", "reserved"),
        ("198.18.0.1", "reserved"),
        ("::", "unspecified"),
        ("::1", "loopback"),
        ("fe80::1", "link-local"),
        ("fe80::1%eth0", "link-local"),
        ("2001:db8::1%eth0", "link-local"),
        ("fd00::1", "private"),
        ("fd00:ec2::254", "cloud metadata"),
        ("ff02::1", "multicast"),
        ("::ffff:127.0.0.1", "loopback"),
        ("::ffff:169.254.169.254", "cloud metadata"),
        ("::127.0.0.1", "loopback"),
        ("64:ff9b::10.0.0.1", "private"),
        ("64:ff9b:1::1", "locally translated (NAT64)"),
        ("2002:0a00:0001::1", "private"),
        ("2002:7f00:0001::1", "loopback"),
        ("2001:0:0a00:1::1", "private"),
        ("example.com", "malformed"),
        ("172.32.0.1", None),
        ("100.128.0.1", None),
        ("192.0.2.1", None),
        ("198.51.100.1", None),
        ("203.0.113.1", None),
        ("2001:db8::1", None),
        ("::ffff:203.0.113.1", None),
        ("64:ff9b::203.0.113.1", None),
        ("2002:cb00:7101::1", None),
    ],
)
def test_addresses(address: str, kind: str | None) -> None:
    assert forbidden_kind(address) == kind


@pytest.mark.parametrize("address", ["10.0.0.1", "fd00::1", "100.64.0.1", "64:ff9b::10.0.0.1"])
def test_a_private_rule_opens_private_networks(address: str) -> None:
    assert forbidden_kind(address, private=True) is None


@pytest.mark.parametrize(
    "address", ["127.0.0.1", "::1", "169.254.169.254", "100.100.100.200", "fd00:ec2::254", "fe80::1"]
)
def test_a_private_rule_opens_nothing_else(address: str) -> None:
    assert forbidden_kind(address, private=True) is not None
