"""`services: {include: ...}`: Compose files of the project as services."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from sandboxfile import Inputs, Loaded, SandboxfileError, load


def write(directory: Path, body: str, **files: str) -> Path:
    for name, text in files.items():
        path = directory / name.replace("__", "/").replace("_", ".")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    (directory / "Sandboxfile.yaml").write_text(f'version: "1"\n{body}\n')
    return directory / "Sandboxfile.yaml"


def include(directory: Path, compose: str, **environment: str) -> Loaded:
    return load(
        write(directory, "services: {include: compose.yaml}", compose_yaml=compose), Inputs(environment=environment)
    )


def problems(path: Path) -> str:
    with pytest.raises(SandboxfileError) as caught:
        load(path)
    return str(caught.value)


def test_all_sections_come_along_and_the_rest_is_left(tmp_path: Path) -> None:
    text = """
name: other
version: "3.8"
x-common: &common {restart: always}
services: {a: {image: a, <<: *common, volumes: [d:/d], networks: [n], configs: [c]}}
volumes: {d: }
networks: {n: }
configs: {c: {content: hello}}
"""
    sandbox = include(tmp_path, text).sandbox
    assert sandbox.services["a"]["restart"] == "always"
    assert (sandbox.volumes, sandbox.networks, list(sandbox.configs)) == ({"d": None}, {"n": None}, ["c"])
    assert sandbox.name != "other"


def test_entries_of_the_file_itself_lie_over_the_included_ones(tmp_path: Path) -> None:
    path = write(
        tmp_path,
        "services:\n  include: compose.yaml\n  a: {environment: {X: 2}}\n  b: {image: b}\n",
        compose_yaml="services: {a: {image: a, environment: [X=1, Y=1]}, c: {image: c}}",
    )
    services = load(path).sandbox.services
    assert sorted(services) == ["a", "b", "c"]
    assert services["a"]["environment"] == {"X": 2, "Y": "1"}


def test_several_files_and_files_that_include_files(tmp_path: Path) -> None:
    path = write(
        tmp_path,
        "services: {include: [one.yaml, {path: [two.yaml, three.yaml]}]}",
        one_yaml="include: [deep/four.yaml]\nservices: {a: {image: a}}",
        two_yaml="services: {b: {image: b}}",
        three_yaml="services: {b: {image: later}}",
        deep__four_yaml="services: {d: {build: .}}",
    )
    services = load(path).sandbox.services
    assert {name: service.get("image", service.get("build")) for name, service in services.items()} == {
        "a": "a", "b": "later", "d": "deep",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("service", "key", "expected"),
    [
        ("build: .", "build", "sub"),
        ("build: ./web", "build", "sub/web"),
        ("build: ../web", "build", "web"),
        ("build: {dockerfile: D}", "build", {"dockerfile": "D", "context": "sub"}),
        ("build: 'https://example.com/x.git'", "build", "https://example.com/x.git"),
        ("image: a, env_file: .env", "env_file", "sub/.env"),
        (
            "image: a, env_file: [x, {path: y, required: false}]",
            "env_file",
            ["sub/x", {"path": "sub/y", "required": False}],
        ),
        ("image: a, volumes: ['./x:/x:ro', '/abs:/y', n:/z]", "volumes", ["./sub/x:/x:ro", "/abs:/y", "n:/z"]),
        (
            "image: a, develop: {watch: [{action: sync, path: ./src, target: /x}]}",
            "develop",
            {"watch": [{"action": "sync", "path": "sub/src", "target": "/x"}]},
        ),
        (
            "image: a, volumes: [{type: bind, source: ../x, target: /x}]",
            "volumes",
            [{"type": "bind", "source": "./x", "target": "/x"}],
        ),
    ],
)
def test_paths_start_at_the_included_files_directory(tmp_path: Path, service: str, key: str, expected: Any) -> None:
    text = f"services: {{a: {{{service}}}}}\nvolumes: {{n: }}"
    path = write(tmp_path, "services: {include: sub/compose.yaml}", sub__compose_yaml=text)
    assert load(path).sandbox.services["a"][key] == expected


def test_a_secret_that_is_a_file_of_the_project_becomes_a_config(tmp_path: Path) -> None:
    text = """
services:
  a: {image: a, secrets: [pw, {source: key, target: /etc/key}]}
secrets: {pw: {file: ./pw.txt}, key: {file: ./key.pem}}
"""
    path = write(tmp_path, "services: {include: sub/compose.yaml}", sub__compose_yaml=text)
    sandbox = load(path).sandbox
    assert sandbox.services["a"]["configs"] == [
        {"source": "secret_pw", "target": "/run/secrets/pw"},
        {"source": "secret_key", "target": "/etc/key"},
    ]
    assert sandbox.configs["secret_pw"] == {"file": "sub/pw.txt"}


def test_a_secret_of_the_environment_stays_refused(tmp_path: Path) -> None:
    text = "services: {a: {image: a, secrets: [pw]}}\nsecrets: {pw: {environment: PW}}"
    path = write(tmp_path, "services: {include: compose.yaml}", compose_yaml=text)
    assert "compose.yaml:1:26: services.a.secrets: secrets cannot be given to a service" in problems(path)


def test_problems_are_shown_in_the_included_file(tmp_path: Path) -> None:
    text = "services:\n  a:\n    image: a\n    prots: []\n    depends_on: [gone]\n  b: {image: 'x y'}\n"
    path = write(tmp_path, "services: {include: sub/compose.yaml}\nmachine: {cpus: 0}", sub__compose_yaml=text)
    shown = problems(path)
    assert "sub/compose.yaml:4:5: services.a.prots: unknown key" in shown
    assert "sub/compose.yaml:6:14: services.b.image: is no image name" in shown
    assert "Sandboxfile.yaml:3:17: machine.cpus" in shown


def test_variables_of_an_included_file(tmp_path: Path) -> None:
    loaded = include(tmp_path, "services: {a: {image: 'localhost/a:${TAG}', command: echo $$HOME $GONE}}", TAG="7")
    assert loaded.sandbox.services["a"] == {"image": "localhost/a:7", "command": "echo $HOME "}
    assert [warning.file for warning in loaded.warnings] == ["compose.yaml"]
    assert loaded.variables == {"TAG": "environment"}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("services: {include: sub/compose.yaml}", "shop"),
        ("name: other\nservices: {include: sub/compose.yaml}", "other"),
    ],
)
def test_the_name_of_the_project_is_a_variable_of_included_files(tmp_path: Path, text: str, expected: str) -> None:
    project = tmp_path / "shop"
    project.mkdir()
    service = "services: {a: {image: localhost/a, labels: {of: '${COMPOSE_PROJECT_NAME}'}}}"
    path = write(project, text, sub__compose_yaml=service, sub___env="COMPOSE_PROJECT_NAME=elsewhere\n")
    loaded = load(path, Inputs(environment={"COMPOSE_PROJECT_NAME": "shell"}))
    assert loaded.sandbox.services["a"]["labels"] == {"of": expected}
    assert loaded.warnings == () and loaded.variables == {}


def test_several_agents_have_several_names_of_the_project(tmp_path: Path) -> None:
    text = "agents: {a: {command: [x]}, b: {command: [x]}}\nservices: {include: compose.yaml}"
    path = write(tmp_path, text, compose_yaml="services: {a: {image: a, command: '$COMPOSE_PROJECT_NAME'}}")
    assert any("COMPOSE_PROJECT_NAME is not set" in warning.message for warning in load(path).warnings)


@pytest.mark.parametrize("device", ["./data", "../data", "''"])
def test_a_volume_that_is_a_directory_of_the_project_is_refused(tmp_path: Path, device: str) -> None:
    text = f"""
services: {{a: {{image: a, volumes: [d:/d]}}}}
volumes:
  d:
    driver_opts:
      type: none
      o: bind
      device: {device}
"""
    path = write(tmp_path, "services: {include: sub/compose.yaml}", sub__compose_yaml=text)
    assert "sub/compose.yaml:8:15: volumes.d.driver_opts.device: a volume cannot be a directory of" in problems(path)


def test_a_volume_of_the_machine_keeps_its_path(tmp_path: Path) -> None:
    text = "services: {a: {image: a, volumes: [d:/d]}}\nvolumes: {d: {driver_opts: {o: bind, device: /srv}}}"
    assert include(tmp_path, text).sandbox.volumes["d"]["driver_opts"] == {"o": "bind", "device": "/srv"}


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("services: {include: gone.yaml}", "'gone.yaml' does not exist"),
        ("services: {include: ../outside.yaml}", "'../outside.yaml' is outside the project"),
        ("services: {include: /etc/passwd}", "'/etc/passwd' is outside the project"),
        ("services: {include: a/../../outside.yaml}", "outside the project"),
        ("services: {include: link.yaml}", "'link.yaml' is outside the project"),
        ("services: {include: fifo.yaml}", "cannot be read: this is not a regular file"),
        ("services: {include: directory}", "cannot be read"),
        ("services: {include: []}", "names no file"),
        ("services: {include: [3]}", "must be the path of a Compose file"),
        ("services: {include: {path: ~}}", "must be the path of a Compose file"),
        ("services: {include: self.yaml}", "self.yaml includes itself: self.yaml -> self.yaml"),
        ("services: {include: many.yaml}", "more than 20 files are included"),
        ("services: {include: broken.yaml}", "broken.yaml:1:"),
        ("services: {include: swarm.yaml}", "swarm.yaml:1:1: models: is not a section"),
    ],
)
def test_what_cannot_be_included(tmp_path: Path, body: str, message: str) -> None:
    inner = tmp_path / "project"
    inner.mkdir()
    (tmp_path / "outside.yaml").write_text("services: {}\n")
    path = write(
        inner,
        body,
        self_yaml="include: self.yaml",
        many_yaml="include: [" + ", ".join(f"f{number}.yaml" for number in range(30)) + "]",
        broken_yaml="a: [",
        swarm_yaml="models: {}\nservices: {a: {image: a}}",
        **{f"f{number}_yaml": "services: {}" for number in range(30)},
    )
    (inner / "link.yaml").symlink_to("../outside.yaml")
    (inner / "directory").mkdir()
    os.mkfifo(inner / "fifo.yaml")
    assert message in problems(path)


def test_a_service_may_be_called_include(tmp_path: Path) -> None:
    assert list(load(write(tmp_path, "services: {include: {image: a}}")).sandbox.services) == ["include"]
