"""The sections: what their short and long forms mean."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from sandboxfile import Endpoint, Loaded, Mount, Port, Sandbox, SandboxfileError, parse
from sandboxfile.quantities import GIB, MIB

FILE = Path("/project/My Shop!/Sandboxfile.yaml")


def loaded(body: str) -> Loaded:
    return parse(f'version: "1"\n{body}\n', FILE)


def sandbox(body: str) -> Sandbox:
    return loaded(body).sandbox


def problems(body: str) -> dict[str, str]:
    with pytest.raises(SandboxfileError) as caught:
        loaded(body)
    return {".".join(map(str, found.path)): found.message for found in caught.value.diagnostics}


def test_defaults() -> None:
    value = sandbox("")
    assert value.agent is None
    assert (value.machine.cpus, value.machine.memory, value.machine.disk) == (2, 2 * GIB, 20 * GIB)
    assert not any((value.packages, value.setup, value.mounts, value.endpoints, value.ports))
    assert not any((value.secrets, value.services, value.volumes, value.networks, value.configs))


@pytest.mark.parametrize(
    ("directory", "name"),
    [
        ("shop", "shop"),
        ("My Shop!", "my-shop"),
        ("--x--", "x"),
        ("Überweisung", "berweisung"),
        ("日本", "sandbox"),
        ("a" * 60, "a" * 40),
        ("a" * 39 + ".b", "a" * 39),
        ("", "sandbox"),
    ],
)
def test_the_name_comes_from_the_directory(directory: str, name: str) -> None:
    assert parse('version: "1"', Path("/", directory, "Sandboxfile.yaml")).sandbox.name == name


def test_agent() -> None:
    agent = sandbox('agent: {command: "claude --print \'a b\'", args: [-x], env: {PORT: 3000, A: ""}}').agent
    assert agent is not None
    assert agent.command == ("claude", "--print", "a b")
    assert agent.args == ("-x",)
    assert agent.env == {"PORT": "3000", "A": ""}
    assert agent.user == "agent"
    assert sandbox("agent: {use: claude-code, version: '2'}").agent.use == "claude-code"  # type: ignore[union-attr]


def test_machine() -> None:
    machine = sandbox("machine: {cpus: 4, memory: 512m, disk: 1.5t}").machine
    assert (machine.cpus, machine.memory, machine.disk) == (4, 512 * MIB, 1536 * GIB)


def test_setup() -> None:
    first, second = sandbox("setup: [npm ci, {run: make, inputs: [./src//a.py, '**/*.c'], user: root}]").setup
    assert (first.run, first.inputs, first.env, first.user) == ("npm ci", (), {}, "agent")
    assert (second.run, second.inputs, second.user) == ("make", ("src/a.py", "**/*.c"), "root")


@pytest.mark.parametrize(
    ("text", "mount"),
    [
        (".:/workspace", (".", "/workspace", "rw")),
        ("../docs:/docs:ro", ("../docs", "/docs", "ro")),
        ("~/x:/x//y/./z/:rw", ("~/x", "/x/y/z", "rw")),
        ("{source: '.', target: //srv, mode: clone}", (".", "/srv", "clone")),
        (".:/runner", (".", "/runner", "rw")),
        (".:/etc/app", (".", "/etc/app", "rw")),
    ],
)
def test_mounts(text: str, mount: tuple[str, str, str]) -> None:
    (found,) = sandbox(f"mounts: [{text}]").mounts
    assert (found.source, found.target, found.mode) == mount


@pytest.mark.parametrize(
    "target",
    ["/", "//", "/.", "/proc", "/proc/1", "/sys", "/dev/shm", "/run/x", "/etc", "/usr", "/usr/bin", "/var/run/a",
     "/boot", "/home", "/tmp", "/var/lib/docker", "/a/../etc", "/..", "relative", "./x", "~"],
)  # fmt: skip
def test_targets_that_would_break_the_guest(target: str) -> None:
    assert set(problems(f"mounts: [{{source: ., target: {target!r}}}]")) == {"mounts.0.target"}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("npm", {"group": "npm"}),
        ("api.example.com", {"host": "api.example.com"}),
        ("api.example.com:8443", {"host": "api.example.com", "port": 8443}),
        ("gitlab:443", {"host": "gitlab", "port": 443}),
        ("'*.Example.COM.'", {"host": "*.example.com"}),
        ("münchen.example", {"host": "xn--mnchen-3ya.example"}),
        ("{host: debian}", {"host": "debian"}),
        ("{host: localhost, port: 1, as: me}", {"host": "localhost", "port": 1, "as_": "me"}),
        ("{group: npm, deny: true}", {"group": "npm", "deny": True}),
        ("{host: a.b, methods: [GET], paths: [/x/**]}", {"host": "a.b", "methods": ("GET",), "paths": ("/x/**",)}),
    ],
)
def test_endpoints(text: str, expected: dict[str, Any]) -> None:
    (found,) = sandbox(f"endpoints: [{text}]").endpoints
    assert found.model_dump(exclude_unset=True) == expected


@pytest.mark.parametrize(
    "host",
    ["127.0.0.1", "127.1", "0x7f000001", "0177.0.0.1", "2130706433", "1.2.3", "::1", "[::1]", "a..b", ".a.b", "a b.c",
     "-a.b", "a-.b", "*", "*.", "*.com", "a.*.b", "**.a.b", "a/b.c", "user@a.b", "a.b?c", "a.b#c", "", "x" * 254,
     "http://a.b", "a,b.c", "a.localhost", "localhost.", "LOCALHOST", "a%2eb.c", "a\\\\b.c", "..",
     "１２７.0.0.1", "a／b.c", "ｌocalhost", "1。1。1。1"],
)  # fmt: skip
def test_no_hosts(host: str) -> None:
    assert problems(f'endpoints: [{{host: "{host}"}}]')


@pytest.mark.parametrize(
    ("text", "port"),
    [("3000", (None, 3000)), ("'3000'", (None, 3000)), ("'80:81'", (80, 81)), ("{guest: 5, host: 6}", (6, 5))],
)
def test_ports(text: str, port: tuple[int | None, int]) -> None:
    (found,) = sandbox(f"ports: [{text}]").ports
    assert (found.host, found.guest) == port


def test_parts_can_be_made_in_code_as_well() -> None:
    assert Port.model_validate("80:81") == Port(host=80, guest=81)
    assert Mount.model_validate(".:/w") == Mount(source=".", target="/w")
    assert Endpoint.model_validate("npm") == Endpoint(group="npm")
    assert Sandbox(version="1").name == "sandbox"


@pytest.mark.parametrize("section", ["agent", "machine", "packages", "setup", "mounts", "endpoints", "secrets",
                                     "services", "volumes", "networks", "configs", "ports", "name"])  # fmt: skip
def test_a_key_without_a_value_is_a_mistake(section: str) -> None:
    assert "is empty" in problems(f"{section}:")[section]


def test_sections_have_a_limit() -> None:
    for section, entry in (("mounts", ".:/w"), ("endpoints", "npm"), ("packages", "jq"), ("ports", "80")):
        assert "must have at most" in problems(f"{section}: [{', '.join([entry] * 1001)}]")[section]


def test_the_value_of_a_secret_is_not_repeated() -> None:
    for body in ("secrets: {a: hunter2}", "secrets: {a: [hunter2]}", "secrets: {a: {value: hunter2}}"):
        with pytest.raises(SandboxfileError) as caught:
            loaded(body)
        assert "hunter2" not in str(caught.value)


def test_what_is_local_is_named_by_plain_paths_that_do_not_lie_in_each_other() -> None:
    def refused(paths: str) -> dict[str, str]:
        return problems(f"mounts: [{{source: ., target: /w, local: {paths}}}]")

    for path in (".", "./", "packages/*/node_modules", "a?", "[ab]", "/x", "../x", "a/../.."):
        assert "mounts.0.local.0" in refused(f'["{path}"]'), path
    assert "is there twice" in refused("[a/b, ./a/b]")["mounts.0.local.1"]
    assert "lie in each other" in refused("[a/b, c, a]")["mounts.0.local.2"]
    assert sandbox("mounts: [{source: ., target: /w, local: [a/b, a/c, a.b]}]").mounts[0].local == ("a/b", "a/c", "a.b")
