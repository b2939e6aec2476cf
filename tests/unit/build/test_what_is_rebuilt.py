"""Changing one line rebuilds only what follows it: changes against the nodes that get another key.

No more: each node costs from half a minute to ten. No less: a node that keeps its key is taken from the cache, so a
result that depends on something that is not in the key would be that of another file.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from engine.build.accelerator import Verdict
from engine.build.chain import make_chain
from engine.build.toolchain import recipe
from sandboxfile import Inputs, load

FILE = """\
version: "1"
name: shop
agent: {use: claude-code, version: 2.1.0, args: [--verbose], env: {A: b}}
machine: {cpus: 2, memory: 2GiB, disk: 20GiB, idle: 8h}
packages: [ripgrep, jq]
setup:
  - npm ci
  - {run: make, user: root, inputs: [src, lock], env: {LEVEL: low}}
mounts:
  - .:/workspace
  - {source: data, target: /data, mode: ro}
endpoints: [npm, api.example.com, {host: keyed.example.com, secret: key}]
secrets: {key: {env: KEY}, other: {env: OTHER}}
ports: [8080]
services:
  web:
    build: {context: ./web, args: {FLAVOUR: sweet}}
    environment: {MODE: fast}
    depends_on: [db]
  db:
    image: "db:1"
    env_file: [db.env]
    configs: [site]
    volumes: ["kept:/var/lib/db"]
    healthcheck: {test: "true"}
  seen:
    image: "seen:1"
    environment: {LATE: early}
    volumes: [".:/code"]
  inside:
    image: "inside:1"
    volumes: ["/opt/made:/made"]
  extra:
    image: "extra:1"
    profiles: [more]
volumes: {kept: {}}
configs: {site: {file: site.conf}}
"""
INSIDE = '  inside:\n    image: "inside:1"\n    volumes: ["/opt/made:/made"]\n'
EXTRA = '  extra:\n    image: "extra:1"\n    profiles: [more]\n'
FILES = {
    "src/a": "a",
    "src/sub/b": "b",
    "lock": "1",
    "web/Dockerfile": "FROM localhost/debian:13\n",
    "web/app.py": "print()\n",
    "web/.dockerignore": "notes\n",
    "web/notes": "x",
    "db.env": "X=1\n",
    "site.conf": "x",
    "data/rows": "1",
    "elsewhere": "x",
}
CHAIN = ("booted", "agent", "packages", "setup[0]", "setup[1]", "images", "services")
NOTHING: tuple[str, ...] = ()
Change = tuple[str, str]


def from_(first: str) -> tuple[str, ...]:
    """The node and everything that follows it."""
    return CHAIN[CHAIN.index(first) :]


def keys(project: Path, *, profiles: tuple[str, ...] = (), verdict: str = "tcg") -> dict[str, str]:
    inputs = Inputs(assignments=tuple(f'profiles+="{name}"' for name in profiles))
    chain = make_chain(load(project / "Sandboxfile.yaml", inputs), Verdict(verdict, ()))  # type: ignore[arg-type]
    return {node.id: node.key for node in chain.graph.order()}


def changed(before: dict[str, str], after: dict[str, str]) -> set[str]:
    return {name for name in before.keys() | after.keys() if before.get(name) != after.get(name)}


@pytest.fixture
def project(tmp_path: Path) -> Path:
    directory = tmp_path / "project"
    for name, content in FILES.items():
        (directory / name).parent.mkdir(exist_ok=True, parents=True)
        (directory / name).write_text(content)
    (directory / "Sandboxfile.yaml").write_text(FILE)
    return directory


LINES: dict[str, tuple[str, str, tuple[str, ...]]] = {
    # the machine
    "processors": ("cpus: 2", "cpus: 3", from_("booted")),
    "memory": ("memory: 2GiB", "memory: 3GiB", from_("booted")),
    "disk": ("disk: 20GiB", "disk: 21GiB", ("disk", *from_("booted"))),
    "idle": ("idle: 8h", "idle: 9h", NOTHING),
    # the agent
    "version of the agent": ("version: 2.1.0", "version: 2.1.1", ("package[0]", "layer", *from_("agent"))),
    "arguments of the agent": ("--verbose", "--quiet", NOTHING),
    "variable of the agent": ("env: {A: b}", "env: {A: c}", NOTHING),
    # packages and steps
    "one package more": ("jq]", "jq, git]", from_("packages")),
    "order of the packages": ("[ripgrep, jq]", "[jq, ripgrep]", NOTHING),
    "what a step runs": ("- npm ci", "- npm ci --omit=dev", from_("setup[0]")),
    "what the last step runs": ("run: make", "run: make all", from_("setup[1]")),
    "who runs a step": ("user: root, ", "", from_("setup[1]")),
    "variable of a step": ("LEVEL: low", "LEVEL: high", from_("setup[1]")),
    "inputs of a step": ("inputs: [src, lock]", "inputs: [src]", from_("setup[1]")),
    "order of the inputs": ("inputs: [src, lock]", "inputs: [lock, src]", NOTHING),
    # what the guest sees of the host
    "where the project is mounted": (".:/workspace", ".:/work", from_("setup[0]")),
    "a mount more": ("ports:", "  # \nports:", NOTHING),
    "mode of a mount": ("mode: ro", "mode: rw", NOTHING),
    "where another mount is": ("target: /data", "target: /rows", NOTHING),
    "what a mount hides of no input": ("target: /data", "hide: [rows], target: /data", NOTHING),
    "a mount over what a service binds": ("target: /data", "target: /opt", ("services",)),
    "a port": ("[8080]", "[8081]", NOTHING),
    # the network: what a step may reach is no part of what it makes
    "an endpoint more": ("[npm, ", "[pypi, npm, ", NOTHING),
    "an endpoint less": ("[npm, ", "[", NOTHING),
    "order of the endpoints": ("npm, api.example.com", "api.example.com, npm", NOTHING),
    "a rule for requests": ("api.example.com,", "{host: api.example.com, methods: [GET]},", NOTHING),
    "name of a credential": ("secret: key}", "secret: other}", NOTHING),
    "place of a credential": ("{env: KEY}", "{env: KEY2}", NOTHING),
    # Services that have started trust what they were given then, so a first look inside TLS starts them anew.
    "no look inside TLS": (", {host: keyed.example.com, secret: key}", "", ("services",)),
    # services
    "image of a service": ('"db:1"', '"db:2"', from_("images")),
    "image of a service that waits for a mount": ('"seen:1"', '"seen:2"', from_("images")),
    "argument of a build": ("FLAVOUR: sweet", "FLAVOUR: sour", from_("images")),
    "variable of a service that waits for a mount": ("LATE: early", "LATE: late", NOTHING),
    "variable of a service": ("MODE: fast", "MODE: slow", ("services",)),
    "health check": ('test: "true"', 'test: "false"', ("services",)),
    "dependency": ("    depends_on: [db]\n", "", ("services",)),
    "volume": ("kept:/var/lib/db", "kept:/var/db", ("services",)),
    "a service less": (INSIDE, "", from_("images")),
    "a service of a profile that is off": ('"extra:1"', '"extra:2"', NOTHING),
    # Compose names images that are built here after the project.
    "name": ("name: shop", "name: store", from_("images")),
    # nothing at all
    "a comment": ("packages:", "# what the tests need\npackages:", NOTHING),
    "formatting": ("packages: [ripgrep, jq]", "packages:\n  - ripgrep\n  - 'jq'", NOTHING),
    "order of keys": (
        "    environment: {MODE: fast}\n    depends_on: [db]\n",
        "    depends_on: [db]\n    environment: {MODE: fast}\n",
        NOTHING,
    ),
    "order of services": (INSIDE + EXTRA, EXTRA + INSIDE, NOTHING),
    "long form of a build": (
        "{context: ./web, args: {FLAVOUR: sweet}}",
        "{args: {FLAVOUR: sweet}, context: web}",
        NOTHING,
    ),
}


@pytest.mark.parametrize("name", LINES)
def test_a_line_of_the_file(project: Path, name: str) -> None:
    before, (old, new, expected) = keys(project), LINES[name]
    assert FILE.count(old) == 1, "the change is one place"
    (project / "Sandboxfile.yaml").write_text(FILE.replace(old, new))
    assert changed(before, keys(project)) == set(expected)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("src/a", from_("setup[1]")),
        ("src/sub/b", from_("setup[1]")),
        ("src/new", from_("setup[1]")),
        ("lock", from_("setup[1]")),
        ("web/app.py", from_("images")),
        ("web/Dockerfile", from_("images")),
        ("web/new", from_("images")),
        ("web/notes", NOTHING),  # .dockerignore leaves it out
        ("db.env", ("services",)),
        ("site.conf", ("services",)),
        ("data/rows", NOTHING),  # it is mounted, and not copied
        ("elsewhere", NOTHING),
    ],
)
def test_a_file_of_the_project(project: Path, name: str, expected: tuple[str, ...]) -> None:
    before = keys(project)
    (project / name).write_text("changed\n" if name != "db.env" else "X=2\n")
    assert changed(before, keys(project)) == set(expected)


Touch = Callable[[Path], object]


@pytest.mark.parametrize(
    ("touch", "expected"),
    [
        (lambda project: (project / "src/a").touch(), NOTHING),
        (lambda project: (project / "src/a").chmod(0o755), from_("setup[1]")),
        (lambda project: (project / "src/a").unlink(), from_("setup[1]")),
        (lambda project: (project / "src/a").rename(project / "src/z"), from_("setup[1]")),
        (lambda project: (project / "src/link").symlink_to("a"), from_("setup[1]")),
        (lambda project: (project / "src/empty").mkdir(), from_("setup[1]")),
    ],
    ids=["time", "executable", "removed", "renamed", "link", "empty directory"],
)
def test_what_is_not_content(project: Path, touch: Touch, expected: tuple[str, ...]) -> None:
    before = keys(project)
    touch(project)
    assert changed(before, keys(project)) == set(expected)


def test_a_profile_brings_its_services(project: Path) -> None:
    assert changed(keys(project), keys(project, profiles=("more",))) == set(from_("images"))


def test_another_accelerator_is_another_machine(project: Path) -> None:
    assert changed(keys(project), keys(project, verdict="kvm")) == set(from_("booted"))


def test_other_tools_are_the_beginning_of_everything(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = keys(project)
    from engine.build.toolchain import build

    monkeypatch.setattr(build, "RECIPE_VERSION", recipe.RECIPE_VERSION + 1)
    # The package is what the registry has, whatever tools there are.
    assert changed(before, keys(project)) == before.keys() - {"package[0]"}


def test_the_order_of_the_steps_counts(project: Path) -> None:
    before = keys(project)
    first, second = "  - npm ci\n", "  - {run: make, user: root, inputs: [src, lock], env: {LEVEL: low}}\n"
    (project / "Sandboxfile.yaml").write_text(FILE.replace(first + second, second + first))
    assert changed(before, keys(project)) == set(from_("setup[0]"))


def test_files_of_services_that_all_wait_for_a_mount_are_in_the_last_node(project: Path) -> None:
    """No service starts before the mounts: what Compose reads then is what the images' snapshot has."""
    late = """\
version: "1"
name: shop
mounts: [.:/workspace]
services:
  seen: {image: "seen:1", env_file: [db.env], volumes: [".:/code"]}
"""
    (project / "Sandboxfile.yaml").write_text(late)
    before = keys(project)
    assert "services" not in before
    (project / "db.env").write_text("X=2\n")
    assert changed(before, keys(project)) == {"images"}


def test_the_steps_of_a_build_see_the_same_host_name_in_every_project(project: Path) -> None:
    """It is no part of a key, so it must not be part of a result."""
    from engine.build.step import HOST_NAME, build_identity

    assert build_identity(()).hostname == HOST_NAME == "sandbox"
