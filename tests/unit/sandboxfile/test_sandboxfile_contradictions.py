"""Endpoints of which each is right by itself, and which together ask for two things."""

from __future__ import annotations

from pathlib import Path

import pytest

from sandboxfile import Loaded, SandboxfileError, parse

HEAD = 'version: "1"\nsecrets: {s: {env: S}}\n'
TCP = "{host: db.a.b, port: 5432, protocol: tcp}"
PINNED = "{host: x.a.b, bypass: true}"


def load(body: str) -> Loaded:
    return parse(HEAD + body + "\n", Path("/project/Sandboxfile.yaml"))


@pytest.mark.parametrize(
    ("endpoints", "message"),
    [
        (f"{PINNED}, {{host: x.a.b, secret: s}}", "4:0: endpoints[0].bypass: contradicts endpoints[1]"),
        (f"{{host: x.a.b, intercept: true}}, {PINNED}", "endpoints[1].bypass: contradicts endpoints[0]"),
        ("{host: '*.a.b', bypass: true}, {host: x.a.b, paths: [/y]}", "endpoints[0].bypass: contradicts endpoints[1]"),
        (f"{PINNED}, {{host: x.a.b, methods: [GET]}}", "endpoints[0].bypass: contradicts endpoints[1]"),
        (f"{PINNED}, {{host: '*.a.b', paths: [/y], deny: true}}", "nobody could see what endpoints[1] denies of it"),
        ("{host: x.a.b, bypass: true, secret: s}", "endpoints[0].secret: needs a look inside TLS"),
        ("{host: x.a.b, bypass: true, intercept: true}", "endpoints[0].intercept: needs a look inside TLS"),
        ("{host: x.a.b, bypass: true, deny: true}", "endpoints[0].bypass: has no use for a host that is denied"),
        ("{group: npm, bypass: true}", "endpoints[0].bypass: belongs to a host, not to a group"),
        (f"{TCP}, 'db.a.b:5432'", "endpoints[0].protocol: contradicts endpoints[1], where the same port"),
        (f"{{host: '*.a.b', port: 5432, methods: [GET]}}, {TCP}", "endpoints[1].protocol: contradicts endpoints[0]"),
        (f"{TCP}, {{host: db.a.b, port: 5432, paths: [/y], deny: true}}", "nobody could see what endpoints[1] denies"),
        (f"{TCP}, {{host: db.a.b, port: 5432, deny: true}}", "endpoints[0]: can never match: endpoints[1] denies all"),
        (f"{TCP}, {TCP}", "endpoints[1]: is the same as endpoints[0]"),
        ("{host: '*.a.b', port: 22, protocol: tcp}", "endpoints[0].protocol: tcp needs one exact name"),
        ("{host: a.b, port: 22, protocol: tcp, intercept: true}", "endpoints[0].intercept: belongs to http and https"),
        ("{host: a.b, port: 22, protocol: tcp, ech: allow}", "endpoints[0].ech: belongs to http and https, not to tcp"),
        ("{host: a.b, protocol: http, ech: allow}", "endpoints[0].ech: belongs to https, not to http"),
        ("{host: a.b, ech: deny}", "endpoints[0].ech: must be allow, got 'deny'"),
        ("{host: a.b, ech: true}", "endpoints[0].ech: must be"),
        ("{host: a.b, foreign_credentials: allow}", "endpoints[0].foreign_credentials: belongs to a host that gets"),
        ("{host: a.b, secret: s, foreign_credentials: true}", "endpoints[0].foreign_credentials: must be"),
        ("{host: localhost, port: 1, as: db, private: true}", "endpoints[0].private: belongs to a name of the network"),
        ("{host: localhost, port: 1, as: '123'}", "endpoints[0].as: is no host's name, got '123'"),
        ("{host: localhost, port: 1, as: a-}", "endpoints[0].as: is no host's name, got 'a-'"),
        ("{host: localhost, port: 1, as: db}, {host: db, port: 2}", "endpoints[0].as: is the host of endpoints[1]"),
        (
            "{host: localhost, port: 1, as: db}, {host: localhost, port: 1, deny: true}",
            "endpoints[0]: can never match: endpoints[1] denies all of it",
        ),
    ],
)
def test_two_things_at_once(endpoints: str, message: str) -> None:
    with pytest.raises(SandboxfileError) as caught:
        load(f"endpoints: [{endpoints}]")
    assert message.removeprefix("4:0: ") in str(caught.value)
    assert "Sandboxfile.yaml:3:" in str(caught.value), "with its place"


@pytest.mark.parametrize(
    "endpoints",
    [
        f"{{host: '*.a.b', secret: s}}, {PINNED}",
        f"{{host: '*.a.b', methods: [GET]}}, {PINNED}",
        f"{PINNED}, {{host: x.a.b, port: 8443, secret: s}}",
        f"{PINNED}, x.a.b",
        f"{TCP}, db.a.b",
        f"{TCP}, 'db.a.b:5433'",
        f"{TCP}, {{host: db.a.b, port: 5433, protocol: tcp}}",
        f"{TCP}, {{host: '*.a.b', port: 5432, protocol: https}}",
        f"{TCP}, {{host: db.a.b, port: 5432, as: db, protocol: tcp}}",
        "{group: npm, intercept: true}",
        "{host: a.b, secret: s, foreign_credentials: allow}",
        "{host: a.b, ech: allow, private: true}",
    ],
)
def test_what_goes_together(endpoints: str) -> None:
    found = load(f"endpoints: [{endpoints}]")
    assert [warning.message for warning in found.warnings if warning.path[0] == "endpoints"] == []


def test_a_name_is_that_of_a_service_or_of_the_host() -> None:
    with pytest.raises(SandboxfileError, match="is the name of a service: 'db' would be two things"):
        load("endpoints: [{host: localhost, port: 1, as: db}]\nservices: {db: {image: localhost/x}}")


def test_a_port_that_is_known_for_another_protocol_is_warned_about() -> None:
    found = load("endpoints: [{host: a.b, port: 5432}, {host: a.b, port: 8443}]").warnings
    (warning,) = (one for one in found if one.path[0] == "endpoints")
    assert "is a port of PostgreSQL, which names no host" in str(warning) and "protocol: tcp" in str(warning)


def test_there_are_as_many_names_as_addresses() -> None:
    names = [f"{{host: h{number}.a.b, port: 22, protocol: tcp}}" for number in range(100)]
    load(f"endpoints: [{', '.join(names[:99])}]")
    with pytest.raises(SandboxfileError, match="has 100 names with protocol tcp, and there are 99 addresses"):
        load(f"endpoints: [{', '.join(names)}]")
