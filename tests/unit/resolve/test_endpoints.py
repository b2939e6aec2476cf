"""The endpoints of a file as the gateway's rules."""

from __future__ import annotations

from pathlib import Path

import pytest

from engine.gateway.policy import Policy
from engine.resolve import endpoints as module
from engine.resolve.endpoints import Registries, endpoint_places, looks_inside
from engine.resolve.registries import Registry
from sandboxfile import Loaded, parse

NPM = Registry("npm", ("https://npm.example",), (("npm.example", 443),), "guest image's npm configuration", False)


@pytest.fixture(autouse=True)
def npm(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "resolve_group", lambda group, **options: NPM)


def read(text: str) -> Loaded:
    return parse(f'version: "1"\nsecrets: {{anthropic: {{env: KEY}}}}\nendpoints:\n{text}', Path("/p/Sandboxfile.yaml"))


def policy(text: str, kinds: dict[str, str | None] | None = None) -> Policy:
    loaded = read(text)
    return Registries().policy(loaded.sandbox.endpoints, kinds, endpoint_places(loaded))


def test_each_rule_says_where_it_stands() -> None:
    (first, second) = policy("  - a.example.com\n  - {host: b.example.com, port: 8443}\n").rules
    assert (first.host, first.port, first.origin, first.place) == (
        "a.example.com",
        None,
        "endpoints[0]",
        "Sandboxfile.yaml:4",
    )
    assert (second.port, second.place) == (8443, "Sandboxfile.yaml:5")
    assert not first.looks_inside


def test_methods_and_paths_are_the_rules() -> None:
    one = policy("  - {host: a.example.com, methods: [GET], paths: [/v1/**]}\n")
    assert one.judge("a.example.com", 443, "GET", "/v1/x").allowed
    assert not one.judge("a.example.com", 443, "POST", "/v1/x").allowed
    assert not one.judge("a.example.com", 443, "GET", "/v2").allowed


@pytest.mark.parametrize("group", ["npm", "{group: npm, methods: [GET]}", "{group: npm, paths: [/left-pad]}"])
def test_a_group_has_the_conditions_of_its_endpoint(group: str) -> None:
    one = policy(f"  - {group}\n")
    assert one.judge("npm.example", 443, "GET", "/left-pad").allowed
    assert one.judge("npm.example", 443, "PUT", "/left-pad").allowed == ("methods" not in group)
    assert one.judge("npm.example", 443, "GET", "/other").allowed == ("paths" not in group)


def test_a_group_that_is_denied_is_denied() -> None:
    assert not policy("  - npm.example\n  - {group: npm, deny: true}\n").decide("npm.example", 443).allowed
    assert not policy("  - {group: npm, deny: true}\n").decide("npm.example", 443).allowed


def test_a_secret_is_put_into_requests_of_sandboxes_and_not_of_builds() -> None:
    text = "  - {host: api.anthropic.com, secret: anthropic}\n"
    (of_sandbox,), (of_build,) = policy(text, {"anthropic": None}).rules, policy(text).rules
    assert [one.secret for one in of_sandbox.injections] == ["anthropic"] and of_sandbox.looks_inside
    assert of_build.injections == () and not of_build.looks_inside
    assert looks_inside(read(text).sandbox.endpoints) and not looks_inside(read("  - npm\n").sandbox.endpoints)


def test_the_kind_of_the_value_decides_about_the_header() -> None:
    text = "  - {host: api.anthropic.com, secret: anthropic}\n"
    headers = {
        kind: policy(text, {"anthropic": kind}).rules[0].injections[0].header  # type: ignore[index]
        for kind in ("key", "oauth")
    }
    assert headers == {"key": "x-api-key", "oauth": "authorization"}


def test_other_protocols_and_services_of_the_host() -> None:
    tcp, local, other = policy(
        "  - {host: db.example.com, port: 5432, protocol: tcp, private: true}\n"
        "  - {host: localhost, port: 11434, as: ollama}\n"
        "  - {host: inner.example.com, port: 6379, as: cache, protocol: tcp}\n"
    ).rules
    assert (tcp.host, tcp.port, tcp.raw, tcp.private, tcp.target) == ("db.example.com", 5432, True, True, "")
    assert (local.host, local.raw, local.is_local) == ("ollama", False, True)
    assert (other.host, other.raw, other.target, other.is_local) == ("cache", True, "inner.example.com", False)


def test_what_an_endpoint_says_about_tls() -> None:
    (one,) = policy("  - {host: a.example.com, bypass: true, ech: allow}\n").rules
    assert (one.bypass, one.ech, one.looks_inside) == (True, True, False)
    text = "  - {host: a.example.com, intercept: true}\n  - {group: npm, intercept: true}\n"
    assert [rule.looks_inside for rule in policy(text).rules] == [True, True]
    assert looks_inside(read(text).sandbox.endpoints)
    text = "  - {host: api.anthropic.com, secret: anthropic, foreign_credentials: allow}\n"
    assert [rule.foreign_credentials for rule in policy(text, {"anthropic": None}).rules] == [True]


@pytest.mark.parametrize(("protocol", "port"), [("https", 443), ("http", 80)])
def test_the_port_of_a_protocol_that_is_named(protocol: str, port: int) -> None:
    one = policy(f"  - {{host: a.example.com, protocol: {protocol}}}\n")
    assert [number for number in (80, 443) if one.decide("a.example.com", number).allowed] == [port]


def test_a_secret_goes_where_the_endpoint_says() -> None:
    text = "  - {host: api.example.com, secret: anthropic, secret_in: query}\n"
    (rule,) = policy(text, {"anthropic": None}).rules
    assert rule.injections == () and rule.looks_inside and not rule.needs_bodies
    (made,) = rule.substitutions
    assert (made.secret, made.placeholder) == ("anthropic", "proxy-managed") and made.query and not made.body
    text = "  - {host: api.example.com, secret: anthropic, secret_in: [header, body]}\n"
    (rule,) = policy(text, {"anthropic": None}).rules
    assert [one.header for one in rule.injections] == ["x-api-key"] and rule.needs_bodies
    assert policy(text).rules[0].substitutions == ()  # of a build


def test_the_token_endpoint_of_a_login_comes_with_what_renews_it() -> None:
    text = "  - {host: api.anthropic.com, secret: anthropic, methods: [POST]}\n"
    rules = policy(text, {"anthropic": "oauth", "anthropic@refresh": None}).rules
    tokens = next(rule for rule in rules if rule.renewal is not None)  # type: ignore[union-attr]
    assert (tokens.host, tokens.port, tokens.methods) == ("platform.claude.com", 443, ("POST",))
    assert tokens.paths == ("/v1/oauth/token",) and tokens.label == "endpoints[0] (renews anthropic)"
    for kinds in ({"anthropic": "oauth"}, {"anthropic": "key", "anthropic@refresh": None}):
        assert all(rule.renewal is None for rule in policy(text, kinds).rules)  # type: ignore[arg-type]
