"""Files as an attacker would commit them: each is refused, or what it wants of this host is shown for approval.

Every row runs the real command where nobody can be asked. An audit hook sees that no process was started and no
connection opened, and a value that nobody may see is in the environment.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from cli_world import CommandLine, Ran, write_instance

from engine.state.layout import Layout

HEAD = 'version: "1"\n'
VALUE = "hunter2-hunter2"  # of every variable that a row may read
UP, SHOW, VALIDATE = ("up", "-d"), ("trust", "show"), ("validate",)
ASKED = "error: nobody is here to approve that: nothing was started"
MIB = 1024 * 1024


@dataclass(frozen=True)
class Hostile:
    """`text` of the file, what must be said (PROJECT and HOME stand for the real directories), how the command ends.

    `prepare` gets the project's directory. What is `shown` for approval ends with ASKED; the rest is refused.
    """

    id: str
    text: str | Callable[[], str]
    said: tuple[str, ...] = ()
    shown: tuple[str, ...] = ()
    prepare: Callable[[Path], object] = lambda project: None
    argv: tuple[str, ...] = UP
    code: int = 2
    env: dict[str, str] = field(default_factory=dict)


def mounts(*sources: str) -> str:
    return (
        HEAD + "mounts:\n" + "".join(f"  - {{source: '{source}', target: /m{n}}}\n" for n, source in enumerate(sources))
    )


def link(name: str, target: str) -> Callable[[Path], object]:
    return lambda project: (project / name).symlink_to(target)


def fifo(name: str) -> Callable[[Path], object]:
    return lambda project: os.mkfifo(project / name)


def bind_socket(project: Path) -> None:
    with socket.socket(socket.AF_UNIX) as server:
        here = os.open(project, os.O_PATH)
        server.bind(f"/proc/self/fd/{here}/docker.sock")  # the project's own path may be too long
        os.close(here)


def directory_that_steers(project: Path) -> None:
    name = "x\x1b[2J\x1b]0;owned\x07\u202e\n  and nothing else"
    (project.parent / name).mkdir()
    (project / "link").symlink_to(f"../{name}")


def many(section: str, line: Callable[[int], str]) -> Callable[[], str]:
    """A file with 10,000 entries in one section."""
    return lambda: "\n".join([f"{HEAD}{section}:", *map(line, range(10_000))])


# What a mount asks for is said with its real path, and what is there.
MOUNTS = (
    Hostile("home", mounts("~"), shown=("HOME  live, read and write  OUTSIDE", "! HOME: this is your home directory")),
    Hostile("home-above", mounts("~/.."), shown=("it contains HOME, your home directory",)),
    Hostile("root", mounts("/"), shown=("/  live, read and write  OUTSIDE", "! /: this is /: everything on this host")),
    Hostile("root-by-dots", mounts("./../../../../../../../../../../../.."), shown=("everything on this host",)),
    Hostile("root-by-a-link", mounts("./link"), prepare=link("link", "/"), shown=("everything on this host",)),
    Hostile(
        "root-by-a-link-in-the-middle", mounts("./link/.."), prepare=link("link", "/etc"), shown=("everything on",)
    ),
    Hostile("proc", mounts("/proc"), shown=("! /proc: all your processes, with their environments and memory",)),
    Hostile("proc-of-ours", mounts("/proc/self/root"), shown=("everything on this host",)),
    Hostile("dev", mounts("/dev"), shown=("! /dev: this host's devices",)),
    Hostile("run", mounts("/run"), shown=("! /run: the sockets and run-time secrets",)),
    Hostile("etc", mounts("/etc"), shown=("! /etc: this host's configuration, with its keys and passwords",)),
    Hostile("ssh", mounts("~/.ssh"), shown=("! HOME/.ssh: your SSH keys",)),
    Hostile(
        "ssh-by-a-link",
        mounts("./assets"),
        prepare=link("assets", "../home/.ssh"),
        shown=("HOME/.ssh  live, read and write  OUTSIDE, through the link ./assets", "your SSH keys"),
    ),
    Hostile("our-own-state", mounts("../state"), shown=("where `sandbox` keeps what you approved",)),
    Hostile("parent", mounts(".."), shown=("OUTSIDE, as /m0",)),
    Hostile("the-project-itself", mounts("."), shown=("PROJECT  live, read and write  this project, as /m0",)),
    Hostile(
        "a-name-that-steers-the-terminal",
        mounts("./link"),
        prepare=directory_that_steers,
        shown=(r"/x\x1b[2J\x1b]0;owned\x07\u202e\x0a  and nothing else  live",),
    ),
    Hostile("docker-socket", mounts("./docker.sock"), ("is neither a directory nor a file",), prepare=bind_socket),
    Hostile("password-file", mounts("/etc/passwd"), ("'/etc/passwd' is a file, and in the first mount's",)),
    Hostile("fifo", mounts("./pipe"), ("is neither a directory nor a file",), prepare=fifo("pipe")),
    Hostile("loop", mounts("./loop"), ("mounts[0].source",), prepare=link("loop", "loop")),
    Hostile("nobody", mounts("~nobody-of-that-name"), ("cannot be used",)),
    Hostile("control-characters", HEAD + 'mounts: ["./a\\e[2J:/m"]\n', (r"./a\x1b[2J", "control characters")),
    Hostile("over-the-guests-own", HEAD + "mounts: ['.:/etc']\n", ("would hide the guest's own '/etc'",)),
    Hostile("target-with-dots", HEAD + "mounts: ['.:/m/../etc']\n", ("must not contain '..'",)),
    Hostile("hide-with-dots", HEAD + "mounts: [{source: ., target: /m, hide: [../../x]}]\n", ("must stay inside",)),
    Hostile("local-with-dots", HEAD + "mounts: [{source: ., target: /m, local: [../x]}]\n", ("must stay inside",)),
    Hostile("10000-mounts", many("mounts", lambda n: f"  - .:/m{n}"), ("mounts",)),
)

# What is copied into the guest lies in the project.
COPIES = (
    *(
        Hostile(f"inputs-{number}", HEAD + f"setup: [{{run: 'true', inputs: ['{name}']}}]\n", (words,))
        for number, (name, words) in enumerate(
            [
                ("../../.ssh/id_rsa", "must stay inside the project"),
                ("a/../../x", "must stay inside the project"),
                ("/etc/passwd", "must be relative to the project"),
                ("~/.ssh/id_rsa", "must be relative to the project"),
            ]
        )
    ),
    Hostile(
        "inputs-by-a-link",
        HEAD + "setup: [{run: 'true', inputs: [key]}]\n",
        ("setup[0].inputs[0]: 'key' is a link (to ../home/.ssh)",),
        prepare=link("key", "../home/.ssh"),
    ),
    *(
        Hostile(f"context-{number}", HEAD + f"services: {{web: {{build: '{name}'}}}}\n", (words,))
        for number, (name, words) in enumerate(
            [("../..", "must be inside the project"), ("/", "must be relative"), ("~/.ssh", "must be relative")]
        )
    ),
    Hostile(
        "context-by-a-link",
        HEAD + "services: {web: {build: ./src}}\n",
        ("Sandboxfile.yaml:2:", "services.web.build: 'src' is a link (to ../home/.ssh)"),
        prepare=link("src", "../home/.ssh"),
    ),
    Hostile(
        "dockerfile",
        HEAD + "services: {web: {build: {context: ., dockerfile: ../../x}}}\n",
        ("must be inside the project",),
    ),
    Hostile(
        "additional-context",
        HEAD + "services: {web: {build: {context: ., additional_contexts: {keys: ../home/.ssh}}}}\n",
        ("services.web.build.additional_contexts.keys: the context must be inside the project",),
    ),
    Hostile(
        "additional-context-by-a-link",
        HEAD + "services: {web: {build: {context: ., additional_contexts: ['keys=link/deep']}}}\n",
        ("services.web.build.additional_contexts[0]: 'link/deep' leads through the link 'link' (to ../home/.ssh)",),
        prepare=link("link", "../home/.ssh"),
    ),
    Hostile("env-file", HEAD + "services: {web: {image: a, env_file: ../../x}}\n", ("must be inside the project",)),
    Hostile(
        "env-file-by-a-link",
        HEAD + "services: {web: {image: a, env_file: env}}\n",
        ("services.web.env_file: 'env' is a link (to ../home/.ssh/config)",),
        prepare=link("env", "../home/.ssh/config"),
    ),
    Hostile("config", HEAD + "configs: {c: {file: ../../x}}\n", ("must be inside the project",)),
    Hostile("config-absolute", HEAD + "configs: {c: {file: /etc/passwd}}\n", ("must be relative",)),
    Hostile(
        "config-by-a-link",
        HEAD + "services: {web: {image: a, configs: [c]}}\nconfigs: {c: {file: conf}}\n",
        ("configs.c.file: 'conf' is a link (to /etc/passwd)",),
        prepare=link("conf", "/etc/passwd"),
    ),
    Hostile(
        "volume-of-a-service",
        HEAD + "services: {web: {image: a, volumes: ['../../:/x']}}\n",
        ("must be inside the project",),
    ),
    Hostile(
        "extends", HEAD + "services: {web: {extends: {file: /etc/passwd, service: a}}}\n", ("is outside the project",)
    ),
    Hostile(
        "extends-a-secret",
        HEAD + "services: {web: {extends: {file: ../home/.ssh/config, service: a}}}\n",
        ("is outside the project",),
    ),
    Hostile("include", HEAD + "services: {include: ../../compose.yaml}\n", ("services.include",)),
    Hostile(
        "include-by-a-link",
        HEAD + "services: {include: compose.yaml}\n",
        ("services.include",),
        prepare=link("compose.yaml", "../home/.ssh/config"),
    ),
    Hostile(
        "include-a-fifo",
        HEAD + "services: {include: compose.yaml}\n",
        ("services.include",),
        prepare=fifo("compose.yaml"),
    ),
    Hostile(
        "dotenv-by-a-link",
        HEAD + "name: '${NAME}'\n",
        (".env: cannot be used: it is a link that leads out of the project",),
        prepare=link(".env", "../home/.ssh/config"),
    ),
    Hostile("dotenv-a-fifo", HEAD + "name: '${NAME}'\n", (".env: cannot be used",), prepare=fifo(".env")),
    Hostile(
        "dotenv-a-device", HEAD + "name: '${NAME}'\n", (".env: cannot be used",), prepare=link(".env", "/dev/zero")
    ),
    Hostile(
        "dotenv-large",
        HEAD + "name: '${NAME}'\n",
        (".env: cannot be used: it is larger than",),
        prepare=lambda project: (project / ".env").write_bytes(b"A=" + b"a" * 10 * MIB),
    ),
    Hostile("local-layer-a-fifo", HEAD, ("not a regular file",), prepare=fifo("Sandboxfile.local.yaml")),
    Hostile(
        "local-layer-a-device",
        HEAD,
        ("Sandboxfile.local.yaml: was not read: it is a link that leads out of the project, to /dev/zero",),
        prepare=link("Sandboxfile.local.yaml", "/dev/zero"),
    ),
    *(
        Hostile(
            f"local-layer-by-a-link-{number}",
            HEAD,
            (f"Sandboxfile.local.yaml: was not read: it is a link that leads out of the project, to {shown}",),
            prepare=link("Sandboxfile.local.yaml", target),
            argv=VALIDATE,
        )
        for number, (target, shown) in enumerate(
            [("../home/.ssh/id_rsa", "HOME/.ssh/id_rsa"), ("/proc/self/environ", "/proc/")]
        )
    ),
    Hostile(
        "included-by-two-links",
        HEAD + "services: {include: a/compose.yaml}\n",
        ("the link b/compose.yaml leads out of the project, to HOME/.ssh/config",),
        prepare=lambda project: (
            link("a", "b")(project),
            (project / "b").mkdir(),
            link("b/compose.yaml", "../../home/.ssh/config")(project),
        ),
        argv=VALIDATE,
    ),
)

# What leaves, and what is let in.
SECRET = "endpoints: [{{host: {host}, secret: github}}]\nsecrets: {{github: {source}}}\n"
NETWORK = (
    Hostile(
        "secret-to-a-foreign-host",
        HEAD + SECRET.format(host="evil.example", source="{env: GH_TOKEN}"),
        (
            "variable GH_TOKEN, else keyring entry github  to evil.example  called github",
            "not approved: `sandbox up` asks",
        ),
        argv=SHOW,
        code=0,
    ),
    Hostile(
        "secret-to-every-host",
        HEAD + SECRET.format(host="'*.evil.example'", source="{env: GH_TOKEN}"),
        ("! variable GH_TOKEN, else keyring entry github: every host below evil.example gets it",),
        argv=SHOW,
        code=0,
    ),
    Hostile(
        "secret-unencrypted",
        HEAD + SECRET.format(host="evil.example, protocol: http", source="{env: GH_TOKEN}"),
        ("it goes to evil.example (http) unencrypted",),
        argv=SHOW,
        code=0,
    ),
    Hostile(
        "secret-from-a-key-file",
        HEAD + SECRET.format(host="evil.example", source="{file: ~/.ssh/id_rsa}"),
        (
            "file HOME/.ssh/id_rsa, else keyring entry github  to evil.example",
            "! file HOME/.ssh/id_rsa, else keyring entry github: your SSH keys",
        ),
        argv=SHOW,
        code=0,
    ),
    Hostile("secret-in-the-file", HEAD + "secrets: {github: ghp_abcdef}\n", ("never the value itself",)),
    Hostile(
        "secret-by-a-variable",
        HEAD + SECRET.format(host="evil.example", source="{env: '${GH_TOKEN}'}"),
        ("secrets are not interpolated",),
    ),
    Hostile(
        "credentials-of-the-environment",
        HEAD + "agent: {command: run, env: {X: '${AWS_SECRET_ACCESS_KEY}', Y: '${HOME}'}}\n",
        shown=(
            "whose values become part of the file\n     AWS_SECRET_ACCESS_KEY\n     HOME",
            "! AWS_SECRET_ACCESS_KEY: by its name a credential",
        ),
    ),
    Hostile(
        "a-credential-as-a-name-that-is-looked-up",
        HEAD + "endpoints: ['${GH_TOKEN}.evil.example']\n",
        shown=("! GH_TOKEN: by its name a credential",),
    ),
    Hostile(
        "wildcard", HEAD + "endpoints: ['*.evil.example']\n", shown=("every name below a domain\n     *.evil.example",)
    ),
    Hostile("everything", HEAD + "endpoints: ['*']\n", ("endpoints[0]",)),
    Hostile("every-com", HEAD + "endpoints: ['*.com']\n", ("is too wide",)),
    Hostile("address", HEAD + "endpoints: [169.254.169.254]\n", ("the gateway decides by name",)),
    Hostile("address-as-a-number", HEAD + "endpoints: ['2852039166']\n", ("endpoints[0]",)),
    Hostile("this-host", HEAD + "endpoints: [localhost]\n", ("a service of the host itself needs",)),
    Hostile(
        "service-of-this-host",
        HEAD + "endpoints: [{host: localhost, port: 2375, as: docker}]\n",
        ("services of this host\n     localhost:2375  as docker",),
        argv=SHOW,
        code=0,
    ),
    Hostile(
        "port-below-1024",
        HEAD + "ports: ['443:443']\n",
        ("! port 443: programs of this host expect a service of this host there",),
        argv=SHOW,
        code=0,
    ),
    Hostile(
        "ports",
        HEAD + "ports: ['21234:80', 9000]\n",
        shown=("21234          for port 80", "any free port  for port 9000"),
    ),
    Hostile(
        "ports-of-a-service",
        HEAD + "services: {web: {image: a, ports: ['21000-21999:1000-1999']}}\n",
        shown=("21000 to 21999  1000 ports",),
    ),
    Hostile("port-of-another-address", HEAD + "ports: ['0.0.0.0:80:80']\n", ("always the host's loopback",)),
    Hostile(
        "another-name-in-the-guest",
        HEAD
        + "services: {web: {image: a, privileged: true, network_mode: host, volumes: ['/var/run/docker.sock:/s']}}\n",
        ("asks this host for nothing that needs approval",),
        argv=SHOW,
        code=0,
    ),
    Hostile(
        "a-flood-before-the-home-directory",
        lambda: mounts("~") + "endpoints:\n" + "".join(f"  - '*.d{n}.example'\n" for n in range(999)),
        shown=("... and 979 more; `sandbox trust show` lists all", "! HOME: this is your home directory"),
    ),
    Hostile(
        "what-the-guest-may-have-made",
        mounts("."),
        prepare=lambda project: (project / "Sandboxfile.local.yaml").write_text("endpoints: [evil.example]\n"),
        shown=("PROJECT/Sandboxfile.local.yaml  lies over Sandboxfile.yaml",),
    ),
)

# What is too much for a reader.
SIZES = (
    Hostile("cpus", HEAD + "machine: {cpus: 999999999999}\n", ("machine.cpus",)),
    Hostile("cpus-of-5000-digits", HEAD + f"machine: {{cpus: {'9' * 5000}}}\n", ("machine.cpus",)),
    Hostile("memory", HEAD + "machine: {memory: 99999999999999999999TiB}\n", ("machine.memory",)),
    Hostile("memory-of-5000-digits", HEAD + f"machine: {{memory: {'9' * 5000}GiB}}\n", ("machine.memory",)),
    Hostile("disk", HEAD + "machine: {disk: 1e999GiB}\n", ("machine.disk",)),
    Hostile("not-a-number", HEAD + "machine: {cpus: .nan, memory: -.inf}\n", ("machine.cpus",)),
    Hostile("port", HEAD + "ports: [65536]\n", ("ports[0]",)),
    Hostile("port-negative", HEAD + "ports: [-1]\n", ("ports[0]",)),
    Hostile("port-of-5000-digits", HEAD + f"ports: [{'1' * 5000}]\n", ("ports[0]",)),
    Hostile("every-port", HEAD + "services: {web: {image: a, ports: ['1-65535:1-65535']}}\n", ("at most 1000 ports",)),
    Hostile("10000-services", many("services", lambda n: f"  s{n}: {{image: a}}"), ("more than 20000 values",)),
    Hostile("10000-endpoints", many("endpoints", lambda n: f"  - h{n}.example"), ("endpoints",)),
    Hostile("10000-secrets", many("secrets", lambda n: f"  s{n}: {{env: X}}"), ("more than 20000 values",)),
    Hostile("10000-packages", many("packages", lambda n: f"  - p{n}"), ("packages",)),
    Hostile("deep", HEAD + "x-a: " + "[" * 20_000, ("Sandboxfile.yaml",)),
    Hostile("deep-mappings", HEAD + "x-a:\n" + "".join(" " * n + "a:\n" for n in range(1, 900)), ("Sandboxfile.yaml",)),
    Hostile(
        "laughs",
        HEAD + "x-a: &a0 [lol]\n" + "".join(f"x-{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]\n" for n in range(1, 20)),
        ("Sandboxfile.yaml",),
    ),
    Hostile(
        "laughs-by-variables",
        HEAD + "agent: {command: a, env: {" + "X: '" + "${BIG}" * 9000 + "'}}\n",
        env={"BIG": "x" * 9999},
    ),
    Hostile("a-line-of-10-MB", lambda: HEAD + "name: " + "a" * 10 * MIB, ("Sandboxfile.yaml",)),
    Hostile("python", HEAD + 'name: !!python/object/apply:os.system ["touch owned"]\n', ("Sandboxfile.yaml:2",)),
    Hostile("name-that-climbs", HEAD + "name: ../../x\n", ("name: must be 1 to 40 lower-case letters",)),
    Hostile("name-that-steers", HEAD + 'name: "a\\e]0;owned\\a"\n', (r"a\x1b]0;owned\x07",)),
    Hostile("name-that-hides", HEAD + 'name: "a\\u202Eb"\n', (r"a\u202eb",)),
    Hostile("service-that-steers", HEAD + 'services: {"a\\e[2J": {image: a}}\n', (r"a\x1b[2J",)),
    Hostile("host-that-hides", HEAD + 'endpoints: ["evil.example\\u202E"]\n', (r"\u202e",)),
    Hostile("key-that-steers", HEAD + '"mou\\e[2Jnts": []\n', (r"mou\x1b[2Jnts",)),
    Hostile(
        "shell-in-a-step", HEAD + "setup: ['$(touch owned)', '`touch owned`']\n", ("valid",), argv=VALIDATE, code=0
    ),
)

ROWS = (*MOUNTS, *COPIES, *NETWORK, *SIZES)


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Path]:
    """The test's own $HOME, with something to steal."""
    keys = tmp_path / "home" / ".ssh"
    keys.mkdir()
    for name in ("id_rsa", "config"):
        (keys / name).write_text(f"{VALUE}\n")
    yield keys.parent


def run(row: Hostile, sandbox: CommandLine, home: Path) -> Ran:
    row.prepare(sandbox.project)
    sandbox.file(row.text() if callable(row.text) else row.text)
    return sandbox(*row.argv, GH_TOKEN=VALUE, AWS_SECRET_ACCESS_KEY=VALUE, **row.env)


def assert_nothing_was_done(sandbox: CommandLine, layout: Layout) -> None:
    assert sandbox.effects() == []
    assert not layout.instances.exists() or list(layout.instances.iterdir()) == []
    assert not layout.trust.exists()
    assert [path.name for path in layout.runtime.iterdir()] == ["README"]
    assert [path.name for path in layout.cache.iterdir()] == ["README"]
    assert not (sandbox.project / "owned").exists()


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.id)
def test_it_is_refused_or_shown(row: Hostile, sandbox: CommandLine, layout: Layout, home: Path) -> None:
    ran = run(row, sandbox, home)
    text = (ran.out + ran.err).replace(str(sandbox.project), "PROJECT").replace(str(home), "HOME")
    assert ran.code == row.code, text
    for words in (*row.said, *row.shown):
        assert words in text
    assert (ASKED in text) == bool(row.shown), text
    assert VALUE not in text
    assert all(char == "\n" or char.isprintable() for char in text), "the terminal could be steered"
    assert len(text) < 100_000, "nobody reads that"
    assert_nothing_was_done(sandbox, layout)


def test_credentials_of_the_environment_by_way_of_dotenv(sandbox: CommandLine, home: Path) -> None:
    (sandbox.project / ".env").write_text("X=${AWS_SECRET_ACCESS_KEY}\n")
    ran = run(Hostile("", HEAD + "agent: {command: run, env: {X: '${X}'}}\n"), sandbox, home)
    assert ran.code == 2 and "! AWS_SECRET_ACCESS_KEY: by its name a credential" in ran.err


@pytest.mark.parametrize("kind", ["fifo", "device", "loop", "socket", "directory"])
def test_something_else_under_the_files_name(kind: str, sandbox: CommandLine, layout: Layout) -> None:
    path = sandbox.project / "Sandboxfile.yaml"
    if kind == "fifo":
        os.mkfifo(path)
    elif kind == "socket":
        bind_socket(sandbox.project)
        (sandbox.project / "docker.sock").rename(path)
    elif kind == "directory":
        path.mkdir()
    else:
        path.symlink_to("/dev/zero" if kind == "device" else path)
    for argv in (UP, SHOW, VALIDATE):
        ran = sandbox(*argv, "Sandboxfile.yaml")
        assert ran.code == 2 and "Sandboxfile.yaml" in ran.err and ran.out == ""
    assert_nothing_was_done(sandbox, layout)


def test_the_name_of_another_projects_sandbox(sandbox: CommandLine, layout: Layout) -> None:
    write_instance(layout, "shop")
    sandbox.file(HEAD + "name: shop\n")
    for options in ((), ("--recreate", "--yes")):
        ran = sandbox(*UP, *options)
        assert ran.code == 1 and "the name shop is taken by /nowhere" in ran.err
    assert sandbox.effects() == []


def test_a_file_that_was_approved_cannot_grow(sandbox: CommandLine, layout: Layout, home: Path) -> None:
    """As the guest, or whoever else may write the project, would do it."""
    from engine.trust.approvals import save_approval
    from engine.trust.asks import Ask

    file = sandbox.file(mounts("."))
    save_approval(layout, file, [Ask("directory", str(sandbox.project), "rw")])
    for text, words in (
        (mounts(".", "~"), "+ HOME"),
        (mounts(".") + "ports: [1234]\n", "+ any free port"),
        (mounts(".") + "agent: {command: a, env: {X: '${GH_TOKEN}'}}\n", "+ GH_TOKEN"),
    ):
        ran = run(Hostile("", text), sandbox, home)
        assert ran.code == 2 and words in ran.err.replace(str(home), "HOME") and ASKED in ran.err
        assert "asks more of this host than you approved (+)" in ran.err
    assert sandbox.effects() == []
