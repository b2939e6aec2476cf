"""`extends: {file: ..., service: ...}`: services of other Compose files of the project."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from sandboxfile import Inputs, SandboxfileError, load
from sandboxfile.writing.dump import origins

COMMON = """
services:
  base:
    image: base:${TAG:-1}
    environment: [A=1, B=2]
    volumes: [./data:/data]
    ports: ["80"]
    command: [serve]
    build: .
  web: {extends: base, environment: {B: 3}, labels: {x: y}}
  far: {extends: {file: ../elsewhere.yaml, service: there}, restart: always}
"""


@pytest.fixture
def project(tmp_path: Path) -> Path:
    project = tmp_path / "project"
    (project / "sub").mkdir(parents=True)
    (project / "sub/common.yaml").write_text(COMMON)
    (project / "elsewhere.yaml").write_text("services: {there: {image: there, env_file: .env}}\n")
    return project


def services(project: Path, body: str, **environment: str) -> dict[str, Any]:
    (project / "Sandboxfile.yaml").write_text(f'version: "1"\nservices:\n{body}\n')
    return dict(load(project / "Sandboxfile.yaml", Inputs(environment=environment)).sandbox.services)


def problems(project: Path, body: str) -> str:
    with pytest.raises(SandboxfileError) as caught:
        services(project, body)
    return str(caught.value)


def test_a_service_of_another_file_lies_under_the_one_that_extends_it(project: Path) -> None:
    found = services(
        project,
        "  a: {extends: {file: sub/common.yaml, service: base}, environment: {C: 4}, ports: ['81'], command: [other]}",
        TAG="7",
    )
    assert found["a"] == {
        "image": "base:7",
        "environment": {"A": "1", "B": "2", "C": 4},
        "volumes": ["./sub/data:/data"],
        "ports": ["80", "81"],
        "command": ["other"],
        "build": "sub",
    }


def test_what_that_service_extends_comes_along(project: Path) -> None:
    found = services(
        project,
        "  a: {extends: {file: sub/common.yaml, service: web}}\n  b: {extends: {file: sub/common.yaml, service: far}}",
    )
    assert found["a"]["environment"] == {"A": "1", "B": 3} and found["a"]["labels"] == {"x": "y"}
    assert found["b"] == {"image": "there", "env_file": ".env", "restart": "always"}


def test_a_service_of_the_same_file_is_left_to_compose(project: Path) -> None:
    found = services(project, "  a: {extends: {file: sub/common.yaml, service: web}}\n  b: {extends: a}")
    assert found["b"] == {"extends": "a"}


def test_an_included_file_may_extend_others(project: Path) -> None:
    (project / "sub/compose.yaml").write_text(
        "services: {a: {extends: {file: common.yaml, service: base}, secrets: [pw]}}\nsecrets: {pw: {file: pw.txt}}\n"
    )
    found = services(project, "  include: sub/compose.yaml\n  a: {image: mine}")
    assert found["a"]["image"] == "mine" and found["a"]["build"] == "sub"
    assert found["a"]["configs"] == [{"source": "secret_pw", "target": "/run/secrets/pw"}]


def test_a_local_layer_may_change_what_is_extended(project: Path) -> None:
    (project / "Sandboxfile.local.yaml").write_text("services: {a: {extends: {service: web}}}\n")
    found = services(project, "  a: {extends: {file: sub/common.yaml, service: base}}")
    assert found["a"]["labels"] == {"x": "y"}


def test_every_value_keeps_its_place(project: Path) -> None:
    services(project, "  a: {extends: {file: sub/common.yaml, service: web}, restart: always}")
    loaded = load(project / "Sandboxfile.yaml")
    found = origins(loaded.sandbox, loaded.document(), loaded.variables)
    places = {origin.path[2:]: origin.source for origin in found if origin.path[0] == "services"}
    assert places["image",] == "sub/common.yaml:4"
    assert places["environment", "B"] == "sub/common.yaml:10"
    assert places["restart",] == "Sandboxfile.yaml:3"


def test_problems_are_shown_where_they_are(project: Path) -> None:
    (project / "x.yaml").write_text("services:\n  a:\n    image: a\n    prots: []\n")
    assert "x.yaml:4:5: services.a.prots: unknown key" in problems(
        project, "  b: {extends: {file: x.yaml, service: a}}"
    )


@pytest.mark.parametrize(
    ("extends", "message"),
    [
        ("{file: gone.yaml, service: a}", "services.a.extends.file: 'gone.yaml' does not exist"),
        ("{file: ../outside.yaml, service: a}", "'../outside.yaml' is outside the project"),
        ("{file: /etc/passwd, service: a}", "'/etc/passwd' is outside the project"),
        ("{file: sub/../../outside.yaml, service: a}", "'../outside.yaml' is outside the project"),
        ("{file: link.yaml, service: a}", "'link.yaml' is outside the project"),
        ("{file: fifo.yaml, service: a}", "cannot be read: this is not a regular file"),
        ("{file: sub/common.yaml, service: wbe}", "services.a.extends.service: there is no service 'wbe' in"),
        ("{file: sub/common.yaml, service: wbe}", "did you mean 'web'?"),
        ("{file: list.yaml, service: a}", "there is no service 'a' in list.yaml"),
        ("{file: loop.yaml, service: a}", "extends itself: a -> b -> a"),
        ("{file: self.yaml, service: a}", "extends itself: a -> a"),
        ("{file: long.yaml, service: s0}", "extends more than 20 others: s0 -> s1 -> "),
        ("{file: broken.yaml, service: a}", "broken.yaml:1:"),
        ("{file: 3, service: a}", "services.a.extends"),
        ("{file: x.yaml}", "services.a.extends"),
        ("{service: a, file: ''}", "services.a.extends"),
    ],
)
def test_what_cannot_be_extended(project: Path, extends: str, message: str) -> None:
    (project.parent / "outside.yaml").write_text("services: {a: {image: a}}\n")
    (project / "link.yaml").symlink_to("../outside.yaml")
    os.mkfifo(project / "fifo.yaml")
    (project / "list.yaml").write_text("services: [a]\n")
    (project / "loop.yaml").write_text("services: {a: {extends: {service: b}}, b: {extends: a}}\n")
    (project / "self.yaml").write_text("services: {a: {extends: {service: a, file: self.yaml}}}\n")
    long = "".join(f"  s{n}: {{extends: s{n + 1}}}\n" for n in range(500))
    (project / "long.yaml").write_text(f"services:\n{long}  s500: {{image: a}}\n")
    (project / "broken.yaml").write_text("a: [")
    assert message in problems(project, f"  a: {{extends: {extends}}}")


def test_copies_without_end_are_refused(project: Path) -> None:
    many = ", ".join(f"K{n}: 1" for n in range(9_000))
    (project / "big.yaml").write_text(f"services: {{big: {{image: a, environment: {{{many}}}}}}}\n")
    body = "\n".join(
        f"  s{n}: {{extends: {{file: big.yaml, service: big}}, environment: {{A: 1}}}}" for n in range(900)
    )
    said = problems(project, body)
    assert said.count("the extended services have together more than 100000 values") == 1
