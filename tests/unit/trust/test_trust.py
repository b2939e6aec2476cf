"""What a file asks of the host: everything that reaches beyond the machine, by its real name, and nothing else."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from engine.resolve.capacity import Capacity
from engine.trust.asks import Ask, Surroundings, asks_of, digest, widened
from engine.trust.places import Places
from sandboxfile import Inputs, Loaded, load

Load = Callable[..., Loaded]
GIB = 1024**3


@pytest.fixture
def home(tmp_path: Path) -> Path:
    home = tmp_path.resolve() / "home"
    (home / ".ssh").mkdir(parents=True)
    return home


@pytest.fixture
def project(home: Path) -> Path:
    project = home / "src" / "shop"
    project.mkdir(parents=True)
    return project


@pytest.fixture
def places(home: Path) -> Surroundings:
    return Surroundings(Places((home,), {home / "state": "our own state"}), Capacity(16 * GIB, 8, 100 * GIB))


@pytest.fixture
def read(project: Path) -> Load:
    def read(text: str, environment: Mapping[str, str] | None = None) -> Loaded:
        (project / "Sandboxfile.yaml").write_text(f'version: "1"\n{text}')
        return load(project / "Sandboxfile.yaml", Inputs(environment=environment or {}))

    return read


def short(asks: tuple[Ask, ...]) -> list[tuple[str, str, str]]:
    return [(ask.kind, ask.subject, ask.detail) for ask in asks]


EVERYDAY = """
agent: {command: [run]}
packages: [ripgrep]
setup: [npm ci]
mounts: [.:/workspace:ro, './sub:/copy:clone']
endpoints: [npm, pypi, api.example.com, 'db.example.com:5432', {host: '*.example.org', deny: true}]
services: {db: {image: 'postgres:17', ports: ['5432', '53:53/udp']}}
"""


def test_what_stays_in_the_machine_and_the_project_is_not_asked_for(read: Load, places: Surroundings) -> None:
    assert asks_of(read(EVERYDAY), places) == ()
    assert digest(()) == digest(asks_of(read(""), places))


def test_each_kind(read: Load, places: Surroundings, project: Path, home: Path) -> None:
    (project / "link").symlink_to(home / "docs")
    asks = asks_of(
        read(
            """
mounts:
  - .:/workspace
  - {source: ./sub, target: /sub}
  - ../docs:/docs:ro
  - ~/other:/other:clone
  - ./link:/link
endpoints:
  - '*.example.com'
  - {host: '*.example.net', port: 8443}
  - {host: api.example.com, secret: one}
  - {host: api.example.org, port: 444, secret: one}
  - {host: '*.example.info', secret: two, protocol: http}
  - {host: a.example.com, secret: three}
  - {host: localhost, port: 11434, as: ollama}
  - {host: db.example.com, port: 5432, as: db}
  - {host: localhost, port: 6379, as: cache, protocol: tcp}
  - {host: db.corp.example, port: 5432, protocol: tcp, private: true}
  - {host: cdn.example.com, ech: allow}
secrets: {one: {env: GH_TOKEN}, two: {file: ../key}, three: {}, unused: {env: UNUSED}}
ports: ['3000:80', 9000, 443]
services: {web: {image: x, ports: ['8000-8001:80-81', '127.0.0.1:8002:82', '90']}}
machine: {cpus: '${CPUS}'}
name: '${MY_TOKEN}'
""",
            {"CPUS": "2", "MY_TOKEN": "abc", "UNREAD": "x"},
        ),
        places,
    )
    assert short(asks) == [
        ("wildcard", "*.example.com", ""),
        ("wildcard", "*.example.info (http)", ""),
        ("wildcard", "*.example.net:8443", ""),
        ("private", "db.corp.example:5432 (tcp)", ""),
        ("hidden", "cdn.example.com", ""),
        ("port", "any free port", "for port 443"),
        ("port", "any free port", "for port 9000"),
        ("port", "3000", ""),
        ("port", "8000", ""),
        ("port", "8001", ""),
        ("port", "8002", ""),
        ("service", "localhost:11434", ""),
        ("service", "localhost:6379 (tcp)", ""),
        ("variable", "CPUS", ""),
        ("variable", "MY_TOKEN", ""),
        ("directory", str(home / "docs"), "rw"),
        ("directory", str(home / "other"), "clone"),
        ("directory", str(home / "src" / "docs"), "ro"),
        ("directory", str(project), "rw"),
        ("directory", str(project / "sub"), "rw"),
        ("secret", f"file {home / 'src' / 'key'}, else keyring entry two", "*.example.info (http)"),
        ("secret", "keyring entry three", "a.example.com"),
        ("secret", "variable GH_TOKEN, else keyring entry one", "api.example.com"),
        ("secret", "variable GH_TOKEN, else keyring entry one", "api.example.org:444"),
    ]
    notes = {ask.subject: ask.note for ask in asks}
    assert notes[str(project)] == "this project, as /workspace"
    assert notes[str(project / "sub")] == "in this project, as /sub"
    assert notes[str(home / "src" / "docs")] == "OUTSIDE, as /docs"
    assert notes[str(home / "docs")] == "OUTSIDE, through the link ./link, as /link"
    assert notes["8001"] == "for port 81 of the service web"
    warnings = {ask.subject: ask.warning for ask in asks if ask.warning}
    assert set(warnings) == {"MY_TOKEN", f"file {home / 'src' / 'key'}, else keyring entry two"}
    assert "every host below example.info gets it; it goes to *.example.info (http) unencrypted" in warnings.values()
    # Neither of a variable nor of a secret is the value anywhere.
    assert "abc" not in repr(asks)


AGENTS = """
mounts: [.:/workspace]
agents:
  front: {command: [run], ports: ['3000:3000'], mounts: ['../docs:/docs:ro']}
  back: {command: [run], endpoints: ['*.example.com'], mounts: ['../docs:/docs:ro']}
"""


def test_a_file_with_several_agents_asks_once_for_all(read: Load, places: Surroundings, project: Path) -> None:
    whole = read(AGENTS)
    asks = asks_of(whole, places)
    docs = str(project.parent / "docs")
    assert short(asks) == [
        ("wildcard", "*.example.com", ""),
        ("port", "3000", ""),
        ("directory", docs, "ro"),
        ("directory", str(project), "rw"),
    ]
    for one in whole.each():
        assert widened(asks_of(one, places), asks) == ()


@pytest.mark.parametrize(
    ("before", "after", "more"),
    [
        ("", "mounts: [.:/workspace]", 1),
        ("mounts: [.:/workspace]", "", 0),
        ("mounts: [.:/workspace]", "mounts: [.:/elsewhere]", 0),
        ("mounts: [../d:/d]", "mounts: ['../d:/d:ro']", 0),
        ("mounts: [../d:/d]", "mounts: ['../d:/d:clone']", 0),
        ("mounts: ['../d:/d:ro']", "mounts: ['../d:/d:clone']", 0),
        ("mounts: ['../d:/d:ro']", "mounts: ['../d:/d:rw']", 1),
        ("mounts: ['../d:/d:ro']", "mounts: ['../e:/d:ro']", 1),
        ("mounts: [.:/w]", "mounts: [{source: ., target: /w, protect: false}]", 1),
        ("mounts: [{source: ., target: /w, protect: false}]", "mounts: [.:/w]", 0),
        ("mounts: [.:/w]", "mounts: [{source: ., target: /w, hide: [.env]}]", 0),
        ("mounts: [{source: ., target: /w, hide: [.env]}]", "mounts: [.:/w]", 1),
        ("mounts: [{source: ., target: /w, hide: [.env]}]", "mounts: [{source: ., target: /w, hide: [.en]}]", 1),
        ("mounts: [{source: ., target: /w, hide: [.env]}]", "mounts: [{source: ., target: /x, hide: [.env]}]", 0),
        (
            "mounts: [{source: ../d, target: /d, hide: [a]}]",
            "mounts: [{source: ../d, target: /d, hide: [a], mode: ro}]",
            0,
        ),
        ("ports: ['3000:80']", "ports: ['3000:81']", 0),
        ("ports: ['3000:80']", "ports: ['3001:80']", 1),
        ("ports: [80]", "ports: [80, 81]", 1),
        ("endpoints: ['*.a.example']", "endpoints: ['*.a.example', b.example, npm]", 0),
        ("endpoints: ['*.a.example']", "endpoints: ['*.b.example']", 1),
        ("endpoints: ['*.a.example']", "endpoints: [{host: '*.a.example', port: 8443}]", 1),
        (
            "secrets: {s: {env: S}}\nendpoints: [{host: a.example, secret: s}]",
            "secrets: {s: {env: S}}\nendpoints: [{host: a.example, secret: s}, {host: b.example, secret: s}]",
            1,
        ),
        (
            "secrets: {s: {env: S}}\nendpoints: [{host: a.example, secret: s}]",
            "secrets: {s: {env: T}}\nendpoints: [{host: a.example, secret: s}]",
            1,
        ),
        (
            "secrets: {s: {env: S}}\nendpoints: [{host: a.example, secret: s}]",
            "secrets: {t: {env: S}}\nendpoints: [{host: a.example, secret: t}]",
            1,  # where the variable is not set it is another entry of the keyring
        ),
    ],
)
def test_what_is_more_than_was_approved(read: Load, places: Surroundings, before: str, after: str, more: int) -> None:
    approved = asks_of(read(before), places)
    assert len(widened(asks_of(read(after), places), approved)) == more
    assert widened(approved, approved) == ()


def test_the_digest_is_about_what_is_asked_and_not_about_words(read: Load, places: Surroundings) -> None:
    one = asks_of(read("mounts: [.:/workspace, ../d:/d]"), places)
    assert digest(one) == digest(asks_of(read("mounts: ['../d:/e', .:/w]"), places)) == digest(reversed(one))
    assert digest(one) != digest(asks_of(read("mounts: [.:/workspace, ../e:/d]"), places))


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ("/", "everything on this host"),
        ("~", "this is your home directory"),
        ("../..", "this is your home directory"),
        ("../../..", "your home directory"),
        ("~/.ssh", "your SSH keys"),
        ("~/.ssh/deeper", "your SSH keys"),
        ("./keys", "your SSH keys"),
        ("./home", "this is your home directory"),
        ("~/state", "our own state"),
        ("~/state/trust", "our own state"),
        ("/proc", "all your processes"),
        ("/proc/1", "all your processes"),
        ("/etc", "this host's configuration"),
        ("/run", "sockets and run-time secrets"),
        ("/dev/shm", "this host's devices"),
        ("/home", "everybody's home directories"),
        ("..", ""),
        (".", ""),
        ("~/.config/some-program", ""),
    ],
)
@pytest.mark.parametrize("mode", ["rw", "ro", "clone"])
def test_some_directories_are_told_of_loudly(
    read: Load,
    places: Surroundings,
    project: Path,
    home: Path,
    source: str,
    words: str,
    mode: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("HOME", str(home))
    (project / "keys").symlink_to("../../.ssh")
    (project / "home").symlink_to(home)
    asks = asks_of(read(f"mounts: ['{source}:/m:{mode}']"), places)
    if source == "." and mode != "rw":
        assert asks == ()
        return
    [ask] = asks
    assert ask.subject == os.path.realpath(
        (project / source).expanduser() if source[0] != "~" else Path(source).expanduser()
    )
    assert (words in ask.warning) if words else (ask.warning == "")


def test_a_project_that_is_the_home_directory_is_told_of(home: Path, places: Surroundings) -> None:
    (home / "Sandboxfile.yaml").write_text('version: "1"\nmounts: [.:/workspace]\n')
    [ask] = asks_of(load(home / "Sandboxfile.yaml"), places)
    assert "this is your home directory" in ask.warning and ask.note == "this project, as /workspace"


def test_files_that_the_guest_could_have_made_are_asked_for(read: Load, places: Surroundings, project: Path) -> None:
    (project / "Sandboxfile.local.yaml").write_text("endpoints: [example.com]\n")
    (project / ".env").write_text("MEMORY=1GiB\nUNREAD=1\n")
    for mounts, expected in (
        ("[.:/workspace]", [".env", "Sandboxfile.local.yaml"]),
        ("['.:/workspace:ro']", []),
        ("['./sub:/workspace']", []),
        ("['..:/all']", [".env", "Sandboxfile.local.yaml"]),
    ):
        asks = asks_of(read(f"mounts: {mounts}\nmachine: {{memory: '${{MEMORY}}'}}\n"), places)
        found = {ask.subject: ask.note for ask in asks if ask.kind == "input"}
        assert sorted(found) == [str(project / name) for name in expected]
    assert asks_of(read("mounts: ['.:/w:ro']"), places) == ()
    assert [ask.subject for ask in asks_of(read("mounts: [.:/w]"), places) if ask.kind == "input"] == [
        str(project / "Sandboxfile.local.yaml")
    ]


@pytest.mark.parametrize(
    "name",
    [
        "GH_TOKEN",
        "TOKEN",
        "aws_secret_access_key",
        "DB_PASSWORD",
        "NPM_CONFIG__AUTH",
        "API_KEYS",
        "DATABASE_URL",
        "X_PAT",
    ],
)
def test_names_of_credentials(read: Load, places: Surroundings, name: str) -> None:
    [ask] = asks_of(read(f"agent: {{command: a, env: {{X: '${{{name}}}'}}}}", {name: "v"}), places)
    assert "by its name a credential" in ask.warning


@pytest.mark.parametrize("name", ["HOME", "USER", "PWD", "PATH", "KEYBOARD", "MONKEY", "AUTHOR", "BASE_URL", "PATTERN"])
def test_other_names(read: Load, places: Surroundings, name: str) -> None:
    [ask] = asks_of(read(f"agent: {{command: a, env: {{X: '${{{name}}}'}}}}", {name: "v"}), places)
    assert ask.warning == ""


def test_paths_that_lead_nowhere_are_no_reason_to_fail(read: Load, places: Surroundings, project: Path) -> None:
    (project / "loop").symlink_to("loop")
    asks = asks_of(read("mounts: ['~nobody-of-that-name/x:/a', './loop:/b', './none:/c']"), places)
    assert [ask.subject for ask in asks if "none" in ask.subject] == [str(project / "none")]
