"""Endpoints, mounts and secrets that have no effect beside the others."""

from __future__ import annotations

from pathlib import Path

import pytest

from sandboxfile import Loaded, SandboxfileError, parse
from sandboxfile.sections.machine import Idle
from sandboxfile.writing.dump import to_text

HEAD = 'version: "1"\nsecrets: {s: {env: S}}\n'


def load(body: str) -> Loaded:
    return parse(HEAD + body, Path("/project/Sandboxfile.yaml"))


@pytest.mark.parametrize(
    ("endpoints", "message"),
    [
        ("[a.b, {host: a.b, deny: true}]", "endpoints[0]: can never match: endpoints[1] denies all of it"),
        ("[{host: a.b, deny: true}, a.b]", "endpoints[1]: can never match: endpoints[0] denies all of it"),
        ("[x.a.b, {host: '*.a.b', deny: true}]", "endpoints[0]: can never match"),
        ("['*.x.a.b', {host: '*.a.b', deny: true}]", "endpoints[0]: can never match"),
        ("[npm, {group: npm, deny: true}]", "endpoints[0]: can never match"),
        ("['a.b:443', {host: a.b, deny: true}]", "endpoints[0]: can never match"),
        ("[{host: a.b, methods: [GET]}, {host: a.b, deny: true}]", "endpoints[0]: can never match"),
        (
            "[{host: a.b, methods: [GET]}, {host: a.b, methods: [GET, POST], deny: true}]",
            "endpoints[0]: can never match",
        ),
        ("[{host: a.b, secret: s, paths: [/x]}, {host: a.b, paths: [/x, /y], deny: true}]", "endpoints[0]: can never"),
        ("[a.b, a.b]", "endpoints[1]: is the same as endpoints[0]"),
        ("[a.b, A.B.]", "endpoints[1]: is the same as endpoints[0]"),
        ("[npm, {group: npm}]", "endpoints[1]: is the same as endpoints[0]"),
        (
            "[a.b, {host: a.b, methods: [GET]}]",
            "endpoints[1].methods: restricts nothing: endpoints[0] allows all of it",
        ),
        (
            "[{host: x.a.b, paths: [/y]}, '*.a.b']",
            "endpoints[0].paths: restricts nothing: endpoints[1] allows all of it",
        ),
    ],
)
def test_a_rule_without_effect_is_a_problem(endpoints: str, message: str) -> None:
    with pytest.raises(SandboxfileError) as caught:
        load(f"endpoints: {endpoints}\n")
    assert message in str(caught.value)


@pytest.mark.parametrize(
    "endpoints",
    [
        "['*.a.b', {host: x.a.b, deny: true}]",
        "[a.b, '*.a.b']",
        "[a.b, {host: a.b, port: 8443, deny: true}, 'a.b:8443']".replace(", 'a.b:8443'", ""),
        "[{host: a.b, port: 8443}, {host: a.b, deny: true}, a.b.c]",
        "[a.b, {host: a.b, methods: [POST], deny: true}]",
        "[a.b, {host: a.b, paths: [/admin/**], deny: true}]",
        "[{host: a.b, protocol: http}, {host: a.b, protocol: https, deny: true}]",
        "[{host: a.b, methods: [GET]}, {host: a.b, methods: [POST], paths: [/x]}]",
        "[{host: a.b, methods: [GET]}, {host: a.b, paths: [/x]}]",
        "[debian, {host: a.b, deny: true}]",
        "['*.a.b', x.a.b]",
    ],
)
def test_rules_that_add_up_are_none(endpoints: str) -> None:
    load(f"endpoints: {endpoints}\n")


def warnings(body: str) -> list[str]:
    return [warning.render().splitlines()[0] for warning in load(body).warnings]


def test_a_denial_of_what_nothing_allows_is_a_warning() -> None:
    text = "endpoints: [{host: a.b, secret: s}, {host: c.d, deny: true}]\n"
    assert warnings(text) == ["Sandboxfile.yaml:3:37: warning: endpoints[1]: denies what nothing allows"]


def test_a_secret_that_goes_nowhere_is_a_warning() -> None:
    assert warnings("") == ["Sandboxfile.yaml:2:11: warning: secrets.s: is used by no endpoint"]
    assert warnings("endpoints: [{host: a.b, secret: s}]\n") == []


@pytest.mark.parametrize(
    ("mounts", "message"),
    [
        ("[./a:/w/sub, .:/w]", "mounts[0].target: is hidden by mounts[1], which is mounted over it later"),
        ("[./a:/w/x/y, ./b:/z, .:/w]", "mounts[0].target: is hidden by mounts[2]"),
        ("[.:/w, ./b:/w]", "mounts[1].target: is mounted on '/w', as mounts[0].target is"),
    ],
)
def test_a_hidden_mount_is_a_problem(mounts: str, message: str) -> None:
    with pytest.raises(SandboxfileError) as caught:
        load(f"mounts: {mounts}\n")
    assert message in str(caught.value)


def test_mounts_inside_of_earlier_ones_are_none() -> None:
    load("mounts: [.:/w, ./a:/w/sub, ./b:/w-other]\n")


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("1m", 60), ("30m", 1800), ("8h", 28800), ("1h30m", 5400), ("2d", 172800), ("90s", 90), ("1d1h1m1s", 90061)],
)
def test_idle_times(text: str, seconds: int) -> None:
    idle = load(f"machine: {{idle: {text}}}\n").sandbox.machine.idle
    assert idle is not None and (idle.after, idle.do) == (seconds, "stop")


def test_an_idle_one_can_be_paused_instead() -> None:
    loaded = load("machine: {idle: {after: 90m, do: pause}}\n")
    assert loaded.sandbox.machine.idle == Idle(after="90m", do="pause")
    assert 'idle:\n    after: "1h30m"\n    do: pause\n' in to_text(loaded.sandbox)
    assert "idle: 8h\n" in to_text(load("machine: {idle: {after: 8h}}\n").sandbox)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{after: 30}", "machine.idle.after: has no unit, got 30"),
        ("{do: pause}", "machine.idle.after: "),
        ("{after: 30m, do: sleep}", "machine.idle.do: "),
        ("{after: 30m, then: pause}", "machine.idle.then: "),
        ("[30m]", "machine.idle: must be a time such as 30m or 8h"),
    ],
)
def test_bad_ways_to_be_idle(text: str, message: str) -> None:
    with pytest.raises(SandboxfileError) as caught:
        load(f"machine: {{idle: {text}}}\n")
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("30", "has no unit, got 30"),
        ("30 minutes", "must be a time such as 30m or 8h, got '30 minutes'"),
        ("''", "must be a time such as 30m or 8h"),
        ("1m1h", "must be a time"),
        ("1s", "must be between 1m and 30d, got '1s'"),
        ("31d", "must be between 1m and 30d"),
        ("true", "must be a time"),
        ("~", "must be a time such as 30m or 8h, got None"),
        ("9999999999999d", "must be a time"),
    ],
)
def test_bad_idle_times(text: str, message: str) -> None:
    with pytest.raises(SandboxfileError) as caught:
        load(f"machine: {{idle: {text}}}\n")
    assert f"machine.idle: {message}" in str(caught.value)
