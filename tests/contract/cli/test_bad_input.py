"""Every bad input: a message that says what and where, exit code 2, and nothing has begun."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from cli_world import CommandLine

from engine.state.layout import Layout

HEAD = 'version: "1"\n'
TIB_IN_GIB = 1024


@dataclass(frozen=True)
class Bad:
    """`text` of the file (None: there is none), and what must be said about it. PORT stands for a port in use."""

    id: str
    text: str | None
    said: tuple[str, ...]
    argv: tuple[str, ...] = ()


FILES = (
    Bad("no-file", None, ("there is no Sandboxfile.yaml in", "or any directory above it", "hint: `sandbox init`")),
    Bad("empty-file", "", ("Sandboxfile.yaml", "empty")),
    Bad("only-a-comment", "# nothing\n", ("Sandboxfile.yaml", "empty")),
    Bad("tab", HEAD + "machine:\n\tcpus: 2\n", ("Sandboxfile.yaml:3:1: ", "tab", "^")),
    Bad(
        "duplicate-key",
        HEAD + "name: a\nname: b\n",
        ("Sandboxfile.yaml:3:1: ", "duplicate key, the first one is in line 2", "^"),
    ),
    Bad("unknown-key", HEAD + "mount: [.:/workspace]\n", ("Sandboxfile.yaml:2:1: ", "did you mean 'mounts'?", "^")),
    Bad("unknown-nested-key", HEAD + "machine: {memroy: 4GiB}\n", ("Sandboxfile.yaml:2:", "did you mean 'memory'?")),
    Bad(
        "mount-source-missing",
        HEAD + "mounts:\n  - ./nowhere:/workspace\n",
        ("Sandboxfile.yaml:3:5: mounts[0].source: './nowhere' does not exist on this host", "hint: make it first"),
    ),
    Bad("mount-of-nobody", HEAD + "mounts: ['~nobody-of-that-name/x:/workspace']\n", ("mounts[0].source", "cannot be")),
    Bad(
        "first-mount-of-a-file",
        HEAD + "mounts: [./Sandboxfile.yaml:/workspace]\n",
        ("mounts[0].source", "is a file, and in the first mount's directory commands are run"),
    ),
    Bad(
        "copy-of-a-file",
        HEAD + "mounts: ['.:/w', './Sandboxfile.yaml:/f:clone']\n",
        ("mounts[1].mode: './Sandboxfile.yaml' is a file, and a clone is of a directory",),
    ),
    Bad(
        "file-with-hide",
        HEAD + "mounts: ['.:/w', {source: ./Sandboxfile.yaml, target: /f, mode: ro, hide: [x]}]\n",
        ("mounts[1].hide: './Sandboxfile.yaml' is a file: there is nothing in it to name here",),
    ),
    Bad(
        "writable-sandboxfile",
        HEAD + "mounts: ['.:/w', './Sandboxfile.yaml:/f']\n",
        ("Sandboxfile.yaml, which decides what the sandbox is", "mount it with mode ro"),
    ),
    Bad(
        "target-not-absolute",
        HEAD + "mounts:\n  - .:workspace\n",
        ("Sandboxfile.yaml:3:", "mounts[0].target: must be absolute, got 'workspace'"),
    ),
    Bad(
        "two-mounts-on-one-target",
        HEAD + "mounts:\n  - .:/workspace\n  - ./other:/workspace\n",
        ("Sandboxfile.yaml:4:", "is mounted on '/workspace', as mounts[0]"),
    ),
    Bad(
        "port-taken",
        HEAD + 'ports: ["PORT:80"]\n',
        ("Sandboxfile.yaml:2:", "ports[0]: port PORT of this host is in use", "hint: choose another"),
    ),
    Bad(
        "published-port-taken",
        HEAD + 'services: {web: {image: "localhost/debian:13", ports: ["PORT:80"]}}\n',
        ("services.web.ports: port PORT of this host is in use",),
    ),
    Bad(
        "bad-image-name", HEAD + "services: {db: {image: Not An Image}}\n", ("Sandboxfile.yaml:2:", "services.db.image")
    ),
    Bad(
        "cycle",
        HEAD + "services:\n  a: {image: a, depends_on: [b]}\n  b: {image: b, depends_on: [a]}\n",
        ("Sandboxfile.yaml:", "depends_on", "a", "b"),
    ),
    Bad(
        "too-much-memory",
        HEAD + f"machine: {{memory: {TIB_IN_GIB}GiB}}\n",
        ("Sandboxfile.yaml:2:", "machine.memory: 1024.0 GiB is more than this host has"),
    ),
    Bad("build-context-missing", HEAD + "services: {web: {build: ./web}}\n", ("services.web.build", "does not exist")),
    Bad(
        "build-context-outside-through-a-link",
        HEAD + "services: {web: {build: {context: ./outside}}}\n",
        ("services.web.build.context", "'outside' is a link (to "),
    ),
    Bad(
        "dockerfile-missing",
        HEAD + "services:\n  web:\n    build: {context: ., dockerfile: Dockerfile.prod}\n",
        ("Sandboxfile.yaml:4:37: services.web.build.dockerfile: there is no Dockerfile.prod", "hint: "),
    ),
    Bad(
        "dockerfile-of-a-context-missing",
        HEAD + "services: {web: {build: .}}\n",
        ("Sandboxfile.yaml:2:25: services.web.build: there is no Dockerfile",),
    ),
    Bad(
        "dockerfile-beside-the-context-missing",
        HEAD + "services: {web: {build: {context: other, dockerfile: ../gone}}}\n",
        ("services.web.build.dockerfile: there is no gone",),
    ),
    Bad(
        "additional-context-missing",
        HEAD + "services: {web: {build: {context: ., dockerfile_inline: FROM a, additional_contexts: {a: ./gone}}}}\n",
        ("services.web.build.additional_contexts.a: 'gone' does not exist in the project",),
    ),
    Bad(
        "env-file-missing",
        HEAD + "services:\n  web:\n    image: a\n    env_file:\n      - gone.env\n",
        ("Sandboxfile.yaml:6:9: services.web.env_file[0]: 'gone.env' does not exist in the project", "^"),
    ),
    Bad(
        "config-missing",
        HEAD + "services: {web: {image: a, configs: [c]}}\nconfigs: {c: {file: gone.conf}}\n",
        ("Sandboxfile.yaml:3:21: configs.c.file: 'gone.conf' does not exist",),
    ),
    Bad(
        "bind-of-no-mount",
        HEAD + "services: {web: {image: a, volumes: ['./data:/data']}}\n",
        ("Sandboxfile.yaml:2:", "services.web.volumes", "no mount brings into the sandbox"),
    ),
    Bad(
        "inputs-match-nothing",
        HEAD + "setup:\n  - run: 'true'\n    inputs: ['*.nothing']\n",
        ("Sandboxfile.yaml:4:14: setup[0].inputs[0]: '*.nothing' matches no file of the project",),
    ),
    Bad("inputs-missing", HEAD + "setup: [{run: 'true', inputs: [lock]}]\n", ("setup[0].inputs[0]", "does not exist")),
    Bad(
        "local-in-nothing",
        HEAD + "mounts: [{source: ., target: /w, local: [x/y]}]\n",
        ("Sandboxfile.yaml:2:42: mounts[0].local[0]: 'x/y': lies in 'x', which does not exist in",),
    ),
    Bad(
        "local-file",
        HEAD + "mounts: [{source: ., target: /w, local: [Sandboxfile.yaml]}]\n",
        ("mounts[0].local[0]: 'Sandboxfile.yaml': 'Sandboxfile.yaml' is a file on this host",),
    ),
    Bad("agent-use", HEAD + "agent: {use: claud-code}\n", ("Sandboxfile.yaml:2:", "agent.use", "claude-code")),
    Bad("tcp-port", HEAD + "endpoints: [{host: a.example.com, protocol: tcp}]\n", ("endpoints[0].protocol", "a port")),
    Bad("path-missing", HEAD, ("../elsewhere does not exist",), ("../elsewhere",)),
    Bad("path-without-a-file", HEAD, ("there is no Sandboxfile.yaml in", "other"), ("other",)),
    Bad("invalid-name", HEAD, ("'Not a Name' is not a sandbox name", "hint: a name has"), ("--name", "Not a Name")),
    Bad("empty-name", HEAD, ("'' is not a sandbox name",), ("--name", "")),
    Bad("name-that-climbs", HEAD, ("'../../x' is not a sandbox name",), ("--name", "../../x")),
    Bad(
        "mount-outside-without-a-terminal",
        HEAD + "mounts: [../hooks:/hooks:ro]\n",
        ("live, read only  OUTSIDE, as /hooks", "error: nobody is here to approve that", "--yes"),
    ),
    Bad(
        "mount-outside-through-a-link",
        HEAD + "mounts: [./outside:/hooks]\n",
        ("OUTSIDE, through the link ./outside, as /hooks", "nobody is here to approve that"),
    ),
    Bad("unknown-option", HEAD, ("No such option", "--detach"), ("--detatch",)),
    Bad("two-paths", HEAD, ("unexpected extra argument",), (".", "other")),
)


@pytest.fixture
def port() -> Iterator[int]:
    """A port of the host that somebody has."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        yield taken.getsockname()[1]


def assert_nothing_has_begun(sandbox: CommandLine, layout: Layout) -> None:
    assert sandbox.effects() == []
    assert not layout.instances.exists() or list(layout.instances.iterdir()) == []
    assert [path.name for path in layout.runtime.iterdir()] == ["README"]
    assert [path.name for path in layout.cache.iterdir()] == ["README"]


@pytest.mark.parametrize("case", FILES, ids=lambda case: case.id)
def test_up_refuses(case: Bad, sandbox: CommandLine, layout: Layout, port: int) -> None:
    (sandbox.project / "other").mkdir()
    (sandbox.project / "outside").symlink_to("../hooks")
    if case.id == "too-much-memory" and os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") > TIB_IN_GIB << 30:
        pytest.skip("this host has more")
    if case.text is not None:
        sandbox.file(case.text.replace("PORT", str(port)))
    ran = sandbox("up", "-d", *case.argv)
    for words in case.said:
        assert words.replace("PORT", str(port)) in ran.err
    assert (ran.code, ran.out) == (2, "")
    assert_nothing_has_begun(sandbox, layout)


def test_a_credential_that_is_missing_is_told_before_anything_begins(sandbox: CommandLine, layout: Layout) -> None:
    sandbox.file(
        HEAD + "secrets: {anthropic: {env: NO_SUCH_KEY}}\nendpoints: [{host: api.anthropic.com, secret: anthropic}]\n"
    )
    ran = sandbox("up", "-d", "--yes")
    assert ran.code != 0 and ran.out == ""
    assert "the secret anthropic has no value" in ran.err and "variable NO_SUCH_KEY is not set" in ran.err
    assert "sandbox secret set anthropic" in ran.err
    assert_nothing_has_begun(sandbox, layout)


@pytest.mark.skipif(os.geteuid() == 0, reason="root can read everything")
def test_an_unreadable_file(sandbox: CommandLine, layout: Layout) -> None:
    sandbox.file(HEAD).chmod(0)
    ran = sandbox("up", "-d")
    assert ran.code == 2 and "Permission denied" in ran.err
    assert_nothing_has_begun(sandbox, layout)


def test_a_path_that_leads_nowhere(sandbox: CommandLine) -> None:
    """What is said of services is said of what could be one."""
    for path in ("nope.yaml", "docs/x", "./db.yml"):
        ran = sandbox("validate", path)
        assert ran.code == 2 and "does not exist" in ran.err and "service" not in ran.err, ran.err
    assert "a service of the file is no PATH" in sandbox("plan", "db").err


@pytest.mark.parametrize("kind", ["directory", "fifo", "loop"])
def test_something_else_under_the_files_name(kind: str, sandbox: CommandLine, layout: Layout) -> None:
    path = sandbox.project / "Sandboxfile.yaml"
    if kind == "directory":
        path.mkdir()
    elif kind == "fifo":
        os.mkfifo(path)
    else:
        path.symlink_to(path)
    ran = sandbox("up", "-d", "Sandboxfile.yaml")
    assert ran.code == 2 and "Sandboxfile.yaml" in ran.err
    assert_nothing_has_begun(sandbox, layout)


def test_all_problems_at_once(sandbox: CommandLine, layout: Layout, port: int) -> None:
    sandbox.file(
        HEAD + f"machine: {{memory: 1TiB}}\nmounts: [./nowhere:/a, './x:/b:clone']\nports: ['{port}:80']\n"
        "agent: {use: claud-code}\n"
    )
    ran = sandbox("up", "-d")
    lines = [line.split(":")[1] for line in ran.err.splitlines() if line.startswith("Sandboxfile.yaml:")]
    assert ran.code == 2
    assert lines == sorted(lines) and set(lines) == {"2", "3", "4", "5"}
    assert_nothing_has_begun(sandbox, layout)


@pytest.mark.parametrize("command", ["validate", "plan"])
def test_the_other_readers_of_the_file_refuse_alike(command: str, sandbox: CommandLine) -> None:
    sandbox.file(HEAD + "nmae: x\n")
    ran = sandbox(command)
    assert (ran.code, ran.out) == (2, "") and "did you mean 'name'?" in ran.err
    assert sandbox(command, "elsewhere").code == 2


@pytest.mark.parametrize("new", [True, False])
def test_the_hook_sees(sandbox: CommandLine, new: bool) -> None:
    if new:
        code = "import sitecustomize; sitecustomize.reach_out()"
        subprocess.run([sys.executable, "-c", code], env=sandbox.environment(), check=True)
    else:
        assert sandbox(main="audit_hook:reach_out").code == 0
    seen = "\n".join(sandbox.effects())
    assert "subprocess.Popen" in seen and "127.0.0.1" in seen


def test_a_file_elsewhere_is_named_as_one_would_open_it(sandbox: CommandLine, tmp_path: Path) -> None:
    (sandbox.project / "deep" / "er").mkdir(parents=True)
    sandbox.file(HEAD + "nmae: x\n")
    assert "../../Sandboxfile.yaml:2:1: " in sandbox("up", cwd=sandbox.project / "deep" / "er").err
    assert "project/Sandboxfile.yaml:2:1: " in sandbox("validate", "project", cwd=tmp_path).err


def test_what_is_to_be_copied_and_is_not_there_is_told_by_validate_too(sandbox: CommandLine) -> None:
    """As a warning: it may be made later, so the file is valid."""
    sandbox.file(HEAD + "services:\n  web:\n    build: ./web\n    env_file: [gone.env]\n")
    (sandbox.project / "web").mkdir()
    (sandbox.project / "web/Dockerfile").touch()
    (sandbox.project / "web/.dockerignore").write_text("fine\n[z-a]\n")
    ran = sandbox("validate", "--json")
    document = json.loads(ran.out)
    assert ran.code == 0 and document["valid"]
    rows = [(row["file"], row["line"], row["column"], row["severity"]) for row in document["diagnostics"]]
    assert rows[-2:] == [("web/.dockerignore", 2, 1, "warning"), ("Sandboxfile.yaml", 5, 16, "warning")]
    assert "does not exist in the project" in document["diagnostics"][-1]["message"]
    ran = sandbox("up", "-d")
    assert ran.code == 2 and "web/.dockerignore:2:1: '[z-a]' is not a pattern\n  [z-a]\n  ^\n" in ran.err
