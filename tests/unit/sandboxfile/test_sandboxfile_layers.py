"""Files over files, assignments over those, and what each section does with a second entry."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from sandboxfile import Inputs, Loaded, SandboxfileError, load
from sandboxfile.writing.dump import to_data


def project(directory: Path, **files: str) -> Path:
    for name, text in {"Sandboxfile": 'version: "1"\nname: p\n', **files}.items():
        (directory / f"{name.replace('_', '.')}.yaml").write_text(text)
    return directory / "Sandboxfile.yaml"


def layered(directory: Path, base: str, over: str) -> dict[str, Any]:
    path = project(directory, Sandboxfile=f'version: "1"\nname: p\n{base}\n', over=over + "\n")
    return to_data(load(path, Inputs(files=(directory / "over.yaml",))).sandbox)


def problems(path: Path, *files: Path, assignments: tuple[str, ...] = ()) -> str:
    with pytest.raises(SandboxfileError) as caught:
        load(path, Inputs(files, assignments))
    return str(caught.value)


@pytest.mark.parametrize(
    ("base", "over", "section", "expected"),
    [
        ("machine: {cpus: 1, memory: 1GiB}", "machine: {memory: 4GiB}", "machine", {"cpus": 1, "memory": "4GiB"}),
        ("packages: [jq, vim]", "packages: [vim, git]", "packages", ["jq", "vim", "git"]),
        ("setup: [a]", "setup: [b, a]", "setup", [{"run": "a"}, {"run": "b"}, {"run": "a"}]),
        (
            "mounts: [.:/w, ./d:/d]",
            "mounts: ['.:/w:ro', ./e:/e]",
            "mounts",
            [
                {"source": ".", "target": "/w", "mode": "ro"},
                {"source": "./d", "target": "/d"},
                {"source": "./e", "target": "/e"},
            ],
        ),
        (
            "endpoints: [npm, a.b.c]",
            "endpoints: [{host: A.b.c, methods: [GET]}, {host: a.b.c, port: 8443}]",
            "endpoints",
            [{"group": "npm"}, {"host": "a.b.c", "methods": ["GET"]}, {"host": "a.b.c", "port": 8443}],
        ),
        ("ports: ['3000:3000']", "ports: ['3001:3000', 80]", "ports", [{"guest": 3000, "host": 3001}, {"guest": 80}]),
        (
            "agent: {command: [sh, -c, x], args: [a, b]}",
            "agent: {args: [c]}",
            "agent",
            {"command": ["sh", "-c", "x"], "args": ["c"]},
        ),
        (
            "agent: {command: sh, env: {A: 1, B: 2}}",
            "agent: {env: {B: 3, C: 4}}",
            "agent",
            {"command": ["sh"], "env": {"A": "1", "B": "3", "C": "4"}},
        ),
        (
            "agent: {command: sh, env: {A: 1, B: 2}}",
            "agent: {env: {B: ~}}",
            "agent",
            {"command": ["sh"], "env": {"A": "1"}},
        ),
        ("packages: [jq]\nsetup: [x]", "packages: ~", "setup", [{"run": "x"}]),
        (
            "secrets: {a: {env: A}}\nendpoints: [{host: x.y, secret: a}]",
            "secrets: {a: {env: ~, file: ~/.a}}",
            "secrets",
            {"a": {"file": "~/.a"}},
        ),
    ],
)
def test_sections_of_our_own(tmp_path: Path, base: str, over: str, section: str, expected: Any) -> None:
    assert layered(tmp_path, base, over)[section] == expected


@pytest.mark.parametrize(
    ("base", "over", "expected"),
    [
        ("image: a", "image: b", {"image": "b"}),
        ("image: a, command: [x, y]", "command: [z]", {"image": "a", "command": ["z"]}),
        ("image: a, entrypoint: x", "entrypoint: [y]", {"image": "a", "entrypoint": ["y"]}),
        (
            "image: a, healthcheck: {test: [CMD, x], interval: 1s}",
            "healthcheck: {test: [CMD, y]}",
            {"image": "a", "healthcheck": {"test": ["CMD", "y"], "interval": "1s"}},
        ),
        (
            "image: a, environment: [A=1, B]",
            "environment: {A: 2, C: 3}",
            {"image": "a", "environment": {"A": 2, "B": None, "C": 3}},
        ),
        ("image: a, environment: {A: 1}", "environment: [A=2]", {"image": "a", "environment": {"A": "2"}}),
        ("image: a, labels: [x=1]", "labels: [y=2]", {"image": "a", "labels": {"x": "1", "y": "2"}}),
        ("image: a, ports: ['80:80']", "ports: ['80:80', '81:80']", {"image": "a", "ports": ["80:80", "81:80"]}),
        ("image: a, volumes: [x:/d, y:/e]", "volumes: [z:/d]", {"image": "a", "volumes": ["z:/d", "y:/e"]}),
        ("image: a, dns: 1.1.1.1", "dns: [8.8.8.8]", {"image": "a", "dns": ["1.1.1.1", "8.8.8.8"]}),
        ("image: a, cap_add: [A]", "cap_add: [A, B]", {"image": "a", "cap_add": ["A", "B"]}),
        ("image: a, depends_on: [b]", "depends_on: [c]", {"image": "a", "depends_on": ["b", "c"]}),
        (
            "image: a, depends_on: [b]",
            "depends_on: {b: {condition: service_healthy}}",
            {"image": "a", "depends_on": {"b": {"condition": "service_healthy"}}},
        ),
        (
            "image: a, networks: [n]",
            "networks: {n: {aliases: [q]}}",
            {"image": "a", "networks": {"n": {"aliases": ["q"]}}},
        ),
        (
            "image: a, extra_hosts: ['x:1.1.1.1']",
            "extra_hosts: [x=2.2.2.2]",
            {"image": "a", "extra_hosts": {"x": "2.2.2.2"}},
        ),
        ("image: a, command: x", "command: ~", {"image": "a"}),
        ("image: a, build: ./x", "build: {context: ./y}", {"image": "a", "build": {"context": "./y"}}),
    ],
)
def test_services_are_merged_as_compose_merges_them(tmp_path: Path, base: str, over: str, expected: Any) -> None:
    others = "b: {image: b}, c: {image: c}"
    rest = "volumes: {x: , y: , z: }\nnetworks: {n: }"
    merged = layered(tmp_path, f"services: {{web: {{{base}}}, {others}}}\n{rest}", f"services: {{web: {{{over}}}}}")
    assert merged["services"]["web"] == expected


def test_null_removes_a_service_and_declares_a_volume(tmp_path: Path) -> None:
    base = "services: {a: {image: a}, b: {image: b}}\nvolumes: {x: {driver: local}}"
    merged = layered(tmp_path, base, "services: {b: }\nvolumes: {x: , y: }")
    assert list(merged["services"]) == ["a"]
    assert merged["volumes"] == {"x": {"driver": "local"}, "y": None}


def test_the_local_file_lies_between_the_file_and_f_and_set(tmp_path: Path) -> None:
    path = project(
        tmp_path,
        Sandboxfile='version: "1"\nmachine: {cpus: 1, memory: 1GiB, disk: 10GiB, idle: 1h}\n',
        Sandboxfile_local="machine: {memory: 2GiB, disk: 20GiB, idle: 2h}\n",
        ci="machine: {disk: 30GiB, idle: 3h}\n",
    )
    loaded = load(path, Inputs((tmp_path / "ci.yaml",), ("machine.idle=4h",)))
    assert to_data(loaded.sandbox)["machine"] == {"cpus": 1, "memory": "2GiB", "disk": "30GiB", "idle": "4h"}
    assert [layer.name for layer in loaded.layers] == ["Sandboxfile.yaml", "Sandboxfile.local.yaml", "ci.yaml"]


def test_the_local_file_of_a_file_with_another_name(tmp_path: Path) -> None:
    (tmp_path / "box.yaml").write_text('version: "1"\n')
    (tmp_path / "box.local.yaml").write_text("machine: {cpus: 7}\n")
    assert load(tmp_path / "box.yaml").sandbox.machine.cpus == 7


def test_a_problem_is_shown_where_it_is_written(tmp_path: Path) -> None:
    path = project(tmp_path, Sandboxfile_local="# mine\nmounts:\n  - x:y\nmachine: {cpus: 99}\n", extra="prots: []\n")
    text = problems(path, tmp_path / "extra.yaml", assignments=("machine.disk=1",))
    assert "Sandboxfile.local.yaml:3:5: mounts[0].target: must be absolute" in text
    assert "Sandboxfile.local.yaml:4:17: machine.cpus: must be at most 64" in text
    assert "extra.yaml:1:1: prots: unknown key" in text
    assert "did you mean 'ports'" in text
    assert "--set machine.disk=1: machine.disk: has no unit" in text


def test_an_index_in_a_message_is_that_of_its_own_file(tmp_path: Path) -> None:
    path = project(tmp_path, Sandboxfile='version: "1"\nmounts: [.:/a, .:/b]\n', Sandboxfile_local="mounts: [.:c]\n")
    assert "Sandboxfile.local.yaml:1:10: mounts[0].target" in problems(path)


def test_a_broken_layer_is_told_alone(tmp_path: Path) -> None:
    path = project(tmp_path, Sandboxfile='version: "2"\n', Sandboxfile_local="a: [\n")
    text = problems(path)
    assert "Sandboxfile.local.yaml:1:4" in text
    assert "version" not in text


def test_a_missing_layer(tmp_path: Path) -> None:
    assert "gone.yaml: there is no such file" in problems(project(tmp_path), tmp_path / "gone.yaml")


@pytest.mark.parametrize(
    ("assignment", "path", "expected"),
    [
        ("machine.cpus=4", ("machine", "cpus"), 4),
        ("machine.memory = 8GiB", ("machine", "memory"), "8GiB"),
        ("packages=[jq]", ("packages",), ["jq"]),
        ("packages+=jq", ("packages",), ["vim", "jq"]),
        ("endpoints+=npm", ("endpoints",), [{"host": "a.b"}, {"group": "npm"}]),
        ("endpoints+={host: a.b, methods: [GET]}", ("endpoints",), [{"host": "a.b", "methods": ["GET"]}]),
        ("mounts+=./x:/x:ro", ("mounts", 1), {"source": "./x", "target": "/x", "mode": "ro"}),
        ("mounts[0]=./y:/w", ("mounts", 0, "source"), "./y"),
        ("services.db.image=postgres:16", ("services", "db", "image"), "postgres:16"),
        ("services.db.environment['A.B']=1", ("services", "db", "environment", "A.B"), 1),
        ("services.new={image: x}", ("services", "new"), {"image": "x"}),
        ("agent.env.X=${NOT_READ}", ("agent", "env", "X"), "${NOT_READ}"),
        ("agent.env.X='1'", ("agent", "env", "X"), "1"),
        ("agent.env.X=a=b+=c", ("agent", "env", "X"), "a=b+=c"),
        ("agent.env.X=", ("agent", "env"), {}),
        ("agent.args+=--fast", ("agent", "args"), ["--slow", "--fast"]),
        ("services.db.command+=x", ("services", "db", "command"), ["x"]),
    ],
)
def test_assignments(tmp_path: Path, assignment: str, path: tuple[Any, ...], expected: Any) -> None:
    text = (
        'version: "1"\nagent: {command: sh, args: [--slow], env: {X: 0}}\npackages: [vim]\nmounts: [.:/w]\n'
        "endpoints: [a.b]\nservices: {db: {image: postgres}}\n"
    )
    data: Any = to_data(load(project(tmp_path, Sandboxfile=text), Inputs((), (assignment,))).sandbox)
    for key in path:
        data = data.get(key) if isinstance(data, dict) else data[key]
    assert data == expected


@pytest.mark.parametrize(
    ("assignment", "message"),
    [
        ("machine.cpus", "--set machine.cpus: must be PATH=VALUE"),
        ("=1", "must be PATH=VALUE"),
        ("", "must be PATH=VALUE"),
        ("[0]=1", "must be PATH=VALUE"),
        ("a..b=1", "must be PATH=VALUE"),
        ("machine.cpus=[", "the value '[' cannot be read"),
        ("machine.cpus=a: b: c", "cannot be read"),
        ("machine.cpus=1\nname: x", "cannot be read"),
        ("mounts[3]=x:/y", "there is no entry [3]"),
        ("mounts.x=1", "is a list"),
        ("machine.cpus.more+=1", "has no keys: what is there is 2"),
        ("nonsense=1", "nonsense: unknown key"),
        ("version='2'", "version: must be \"1\", got '2'"),
    ],
)
def test_bad_assignments(tmp_path: Path, assignment: str, message: str) -> None:
    path = project(tmp_path, Sandboxfile='version: "1"\nmounts: [.:/w]\nmachine: {cpus: 2}\n')
    text = problems(path, assignments=(assignment,))
    assert message in text
    assert "--set" in text


def test_loading_twice_gives_the_same(tmp_path: Path) -> None:
    path = project(tmp_path, Sandboxfile_local="machine: {cpus: 3}\n")
    one: Loaded = load(path)
    assert one == load(path)
