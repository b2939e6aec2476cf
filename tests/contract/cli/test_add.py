"""`sandbox add`: the file is changed in place, whole or not at all."""

from __future__ import annotations

import json
import stat
from pathlib import Path

import pytest
from cli_world import CommandLine, FakeSandbox, write_instance

from engine.state.layout import Layout

FILE = """\
# our shop
version: "1"
name: shop  # short

mounts:
    - .:/workspace   # live

services:
  db:
    image: postgres:17
    healthcheck: {test: pg_isready}
"""


def test_each_kind_of_entry(sandbox: CommandLine) -> None:
    path = sandbox.file(FILE)
    for words in (
        "endpoint npm api.example.com:8443",
        "endpoint localhost --port 11434 --as ollama",
        "secret github --env GH_TOKEN",
        "endpoint api.github.com --method get --path /repos/acme/** --secret github",
        "endpoint ads.example.com --deny",
        "endpoint db.example.com --port 5432 --protocol tcp",
        "mount ../docs:/docs:ro ./more:/more",
        "mount ./copy:/copy --mode clone --hide .env --local node_modules",
        "package ripgrep jq",
        "port 3000:3000 4000",
        "service redis --image redis:7 --port 6379 --env K=V --volume data:/data --depends-on db",
        "service web --build ./web --port 8080:80 --healthcheck true --command serve",
    ):
        ran = sandbox("add", *words.split())
        assert (ran.code, "added" in ran.out) == (0, True), ran
    assert (
        path.read_text()
        == """\
# our shop
version: "1"
name: shop  # short

packages: [ripgrep, jq]

mounts:
    - .:/workspace   # live
    - ../docs:/docs:ro
    - ./more:/more
    - {source: ./copy, target: /copy, mode: clone, hide: [.env], local: [node_modules]}

endpoints:
    - npm
    - api.example.com:8443
    - {host: localhost, port: 11434, as: ollama}
    - {host: api.github.com, methods: [GET], paths: [/repos/acme/**], secret: github}
    - {host: ads.example.com, deny: true}
    - {host: db.example.com, port: 5432, protocol: tcp}

secrets:
  github: {env: GH_TOKEN}

services:
  db:
    image: postgres:17
    healthcheck: {test: pg_isready}
  redis:
    image: redis:7
    environment: {K: V}
    volumes: [data:/data]
    depends_on: {db: {condition: service_healthy}}
    ports: ["6379:6379"]
  web:
    build: ./web
    command: serve
    ports: ["8080:80"]
    healthcheck: {test: "true"}

volumes:
  data: {}

ports: ["3000:3000", 4000]
"""
    )
    assert sandbox("validate").code == 0


def test_it_says_what_it_did(sandbox: CommandLine) -> None:
    sandbox.file(FILE)
    ran = sandbox("add", "endpoint", "npm", "pypi")
    assert ran.out == "Sandboxfile.yaml:9: added endpoints: npm\nSandboxfile.yaml:10: added endpoints: pypi\n"
    ran = sandbox("add", "service", "cache", "--image", "redis:7")
    assert ran.out == "Sandboxfile.yaml:16: added services.cache\n"


def test_what_is_there_is_left_alone(sandbox: CommandLine) -> None:
    path = sandbox.file(FILE)
    before = path.stat()
    ran = sandbox("add", "mount", ".:/workspace")
    assert (ran.code, ran.out) == (0, "Sandboxfile.yaml:6: already there: mounts: .:/workspace\n")
    assert (path.read_text(), path.stat().st_ino) == (FILE, before.st_ino)


def test_a_name_that_is_something_else_already(sandbox: CommandLine) -> None:
    path = sandbox.file(FILE)
    ran = sandbox("add", "service", "db", "--image", "redis:7")
    assert ran.code == 2 and "Sandboxfile.yaml:9:3: services.db: is there already" in ran.err
    assert path.read_text() == FILE


def test_nothing_is_written_when_the_file_would_be_bad(sandbox: CommandLine) -> None:
    path = sandbox.file(FILE)
    ran = sandbox("add", "endpoint", "pypi", "https://example.com/x")
    assert (ran.code, ran.out) == (2, "")
    assert "Sandboxfile.yaml:10:7: endpoints[1].host: must be a host's name, not a URL" in ran.err
    assert "    - https://example.com/x\n" in ran.err
    ran = sandbox("add", "endpoint", "x.example.com", "--secret", "nope")
    assert ran.code == 2 and "the secret 'nope' is not declared" in ran.err
    assert path.read_text() == FILE
    assert [each.name for each in path.parent.iterdir()] == [path.name]


def test_a_file_that_is_bad_already(sandbox: CommandLine) -> None:
    path = sandbox.file("version: '1'\nname: No\n")
    ran = sandbox("add", "package", "jq")
    assert ran.code == 2 and "Sandboxfile.yaml:2:7: name: must be" in ran.err
    assert path.read_text() == "version: '1'\nname: No\n"


def test_dry_run(sandbox: CommandLine) -> None:
    path = sandbox.file(FILE)
    ran = sandbox("add", "package", "jq", "--dry-run")
    assert ran.out.splitlines()[:2] == ["--- Sandboxfile.yaml", "+++ Sandboxfile.yaml"]
    assert [line for line in ran.out.splitlines()[2:] if line[0] in "+-"] == ["+", "+packages: [jq]"]
    assert path.read_text() == FILE
    assert sandbox("add", "mount", ".:/workspace", "--dry-run").out == ""


def test_json(sandbox: CommandLine) -> None:
    path = sandbox.file(FILE)
    told = json.loads(sandbox("add", "mount", ".:/workspace", "./b:/b", "--json").out)
    assert told == {
        "file": str(path),
        "written": True,
        "added": [{"path": ["mounts", 1], "line": 7, "value": "./b:/b"}],
        "present": [{"path": ["mounts", 0], "line": 6, "value": ".:/workspace"}],
    }
    assert json.loads(sandbox("add", "package", "jq", "--json", "--dry-run").out)["written"] is False


def test_bytes_that_nobody_asked_to_change(sandbox: CommandLine) -> None:
    path = sandbox.project / "Sandboxfile.yaml"
    path.write_bytes(b"\xef\xbb\xbfversion: '1'\r\nports:\r\n- '1:1'")
    path.chmod(0o640)
    assert sandbox("add", "port", "2:2").code == 0
    assert path.read_bytes() == b"\xef\xbb\xbfversion: '1'\r\nports:\r\n- '1:1'\r\n- '2:2'"
    assert stat.S_IMODE(path.stat().st_mode) == 0o640


def test_a_link_stays_a_link(sandbox: CommandLine, tmp_path: Path) -> None:
    (sandbox.project / "files").mkdir()
    (real := sandbox.project / "files" / "real.yaml").write_text(FILE)
    (link := sandbox.project / "Sandboxfile.yaml").symlink_to("files/real.yaml")
    assert sandbox("add", "package", "jq").code == 0
    assert link.is_symlink() and "packages: [jq]" in real.read_text()


@pytest.mark.parametrize("there", [True, False])
@pytest.mark.parametrize("name", ["Sandboxfile.yaml", "Sandboxfile.local.yaml", "ci.yaml"])
def test_a_link_that_leads_out_is_neither_shown_nor_written(
    sandbox: CommandLine, tmp_path: Path, name: str, there: bool
) -> None:
    outside = tmp_path / "outside.yaml"
    if there:
        outside.write_text("hunter2: 1\n")
    sandbox.file(FILE)
    (sandbox.project / name).unlink(missing_ok=True)
    (sandbox.project / name).symlink_to("../outside.yaml")
    for options in ((), ("--dry-run",)):
        ran = sandbox("add", "package", "jq", "--file", name, *options)
        assert ran.code == 2 and ran.out == "" and "hunter2" not in ran.err
    assert outside.exists() == there and (not there or outside.read_text() == "hunter2: 1\n")


def test_from_a_directory_below(sandbox: CommandLine) -> None:
    sandbox.file(FILE)
    (below := sandbox.project / "src").mkdir()
    assert sandbox("add", "package", "jq", cwd=below).out == "../Sandboxfile.yaml:5: added packages: jq\n"


def test_the_local_file_is_made_and_checked_with_the_one_below(sandbox: CommandLine) -> None:
    sandbox.file(FILE)
    local = sandbox.project / "Sandboxfile.local.yaml"
    ran = sandbox("add", "port", "3000:3000", "--file", local.name)
    assert ran.code == 0 and "keep it out of version control" in ran.out
    assert local.read_text() == 'ports:\n  - "3000:3000"\n'
    ran = sandbox("add", "endpoint", "x.example.com", "--secret", "nope", "--file", local.name)
    assert ran.code == 2 and "Sandboxfile.local.yaml:4:35: endpoints[0].secret: the secret 'nope'" in ran.err
    assert sandbox("add", "package", "jq", "--file", local.name).code == 0
    assert local.read_text() == 'ports:\n  - "3000:3000"\npackages: [jq]\n'


def test_any_other_layer(sandbox: CommandLine) -> None:
    sandbox.file(FILE)
    layer = sandbox.file("machine: {cpus: 1}\n", "ci.yaml")
    assert sandbox("add", "package", "jq", "--file", "ci.yaml").code == 0
    assert layer.read_text() == "machine: {cpus: 1}\npackages: [jq]\n"


def test_a_file_of_its_own(sandbox: CommandLine) -> None:
    other = sandbox.file("version: '1'\n", "other.yaml")
    assert sandbox("add", "package", "jq", "--file", "other.yaml").code == 0
    assert other.read_text() == "version: '1'\npackages: [jq]\n"
    ran = sandbox("add", "package", "jq", "--file", "nowhere.yaml")
    assert ran.code == 2 and "nowhere.yaml does not exist" in ran.err


def test_one_agent_of_several(sandbox: CommandLine) -> None:
    path = sandbox.file("version: '1'\nagents:\n  one: {command: a}\n  two:\n    command: b\n")
    assert sandbox("add", "endpoint", "npm", "--agent", "two").code == 0
    assert path.read_text().endswith("    command: b\n    endpoints:\n      - npm\n")
    ran = sandbox("add", "endpoint", "npm", "--agent", "three")
    assert ran.code == 2 and "there is no agents.three in the file" in ran.err


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("endpoint", "Missing argument 'HOST...'"),
        ("endpoint a.b --port 70000", "70000 is not in the range"),
        ("service x --image y --env NOVALUE", "--env takes NAME=VALUE"),
        ("frob x", "No such command 'frob'"),
    ],
)
def test_bad_usage(sandbox: CommandLine, words: str, said: str) -> None:
    sandbox.file(FILE)
    ran = sandbox("add", *words.split())
    assert ran.code == 2 and said in ran.err


def test_without_a_file(sandbox: CommandLine) -> None:
    ran = sandbox("add", "package", "jq")
    assert ran.code == 2 and "there is no Sandboxfile.yaml" in ran.err


def test_somebody_else_writes_meanwhile(tmp_path: Path) -> None:
    from engine.errors import EngineError
    from engine.files import rewrite

    path = tmp_path / "file"
    path.write_bytes(b"theirs")
    with pytest.raises(EngineError, match="was changed meanwhile"):
        rewrite(path, b"before", b"after")
    assert path.read_bytes() == b"theirs" and not list(tmp_path.glob(".file*"))


APPLIES = "`sandbox up` applies it to the running sandbox\n"


def test_a_running_sandbox_is_told_of(sandbox: CommandLine, fake: FakeSandbox) -> None:
    sandbox.file(FILE)
    assert sandbox("add", "package", "jq").out.endswith(APPLIES)


@pytest.mark.parametrize("state", ["running", "starting", "failed", "stopped"])
def test_one_that_does_not_run_takes_nothing_over(sandbox: CommandLine, layout: Layout, state: str) -> None:
    """`running` without a process is what a killed supervisor leaves."""
    sandbox.file(FILE)
    write_instance(layout, "shop", project=str(sandbox.project), state=state)
    ran = sandbox("add", "package", "jq")
    assert ran.code == 0 and "added packages: jq" in ran.out and APPLIES not in ran.out
