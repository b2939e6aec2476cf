"""Plain `init` and `init --from devcontainer.json` see the same: the project, and its dev container."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from starter_conversion import Converted, written

from engine.starter.starting import Choices, look, write

PACKAGE = {"package.json": {"engines": {"node": ">=22"}}, "package-lock.json": "{}"}
DEV = ".devcontainer/devcontainer.json"
NPM = "npm ci && mkdir -p node_modules && sudo mv node_modules /"


def both(root: Path, files: dict[str, Any], source: str = DEV) -> Converted:
    """The conversion, after a check that plain `init` makes the same of the project."""
    root = root / "shop"
    path = written(root, files, source)
    plain = look(root, None)
    done = Converted(path)
    assert write(plain, Choices(plain.suggestion, plain.found.mount)) == done.text
    assert plain.found.left_out == done.found.left_out and plain.found.notes == done.found.notes
    assert plain.container == path and plain.source is None and done.start.source == path
    return done


def test_the_project_and_its_container_are_one(tmp_path: Path) -> None:
    data = {"forwardPorts": [3000], "postCreateCommand": "./.devcontainer/post.sh", "containerEnv": {"A": "b"}}
    done = both(tmp_path, {**PACKAGE, DEV: data, ".devcontainer/post.sh": ""})
    assert [step["run"] for step in done.setup()] == [NPM, "./.devcontainer/post.sh"]
    assert {end.group for end in done.sandbox.endpoints} == {"debian", "npm"}
    assert [port.guest for port in done.sandbox.ports] == [3000] and "node@22" in done.text
    assert done.sandbox.agent is not None and done.sandbox.agent.env == {"A": "b"}


@pytest.mark.parametrize("source", [DEV, ".devcontainer.json", ".devcontainer/api/devcontainer.json"])
def test_wherever_the_container_is(tmp_path: Path, source: str) -> None:
    done = both(tmp_path, {**PACKAGE, source: {"postCreateCommand": "npm run build"}}, source)
    assert [step["run"] for step in done.setup()] == [NPM, "npm run build"]


@pytest.mark.parametrize(
    ("command", "kept"),
    [
        ("npm ci", False),
        ("npm install --legacy-peer-deps", False),
        ("npm install left-pad", True),
        ("npm ci && cd sub && npm run build", True),
        ("echo ready", True),
        (["npm", "install"], False),
    ],
)
def test_what_only_installs_the_same_is_not_done_twice(tmp_path: Path, command: Any, kept: bool) -> None:
    done = both(tmp_path, {**PACKAGE, DEV: {"postCreateCommand": command}})
    assert len(done.setup()) == (2 if kept else 1) and done.setup()[0]["run"] == NPM


@pytest.mark.parametrize(
    ("command", "left"),
    [
        ("npm ci && npx playwright install", "npx playwright install"),
        ("npm run a && npm ci --no-audit && npm run b", "npm run a && npm run b"),
        ("echo 'a && npm ci' && npm ci", "echo 'a && npm ci'"),
        ("cd sub && npm ci", "cd sub && npm ci"),
        ("echo 'a && npm ci", "echo 'a && npm ci"),
        ("npm ci; npm ci && true", "npm ci; npm ci && true"),
        ("pip install -r requirements.txt && pip install -r more.txt", "pip install -r more.txt"),
    ],
)
def test_the_part_that_installs_the_same_is_not_done_twice(tmp_path: Path, command: str, left: str) -> None:
    files = {**PACKAGE, "requirements.txt": "", "more.txt": "", DEV: {"postCreateCommand": command}}
    assert [step["run"] for step in both(tmp_path, files).setup()][2:] == [left]


def test_the_container_s_services_and_mounts_are_the_project_s(tmp_path: Path) -> None:
    data = {"dockerComposeFile": "compose.yaml", "service": "app", "workspaceFolder": "/workspaces/shop"}
    files = {
        DEV: data,
        ".devcontainer/compose.yaml": "services: {app: {image: a}, db: {image: 'postgres:17'}}",
        "compose.yaml": "services: {other: {image: 'quay.io/a/b'}}",
    }
    done = both(tmp_path, {**PACKAGE, **files})
    assert set(done.sandbox.services) == {"db"}
    assert [mount.target for mount in done.sandbox.mounts] == ["/workspaces/shop"]
    assert {end.group for end in done.sandbox.endpoints} == {"debian", "npm", "docker-hub"}


def test_what_setup_needs_stays_without_the_services_that_need_it_too(tmp_path: Path) -> None:
    files = {
        DEV: {"dockerComposeFile": "compose.yml"},
        ".devcontainer/compose.yml": "services: {web: {build: .}}",
        ".devcontainer/Dockerfile": "FROM docker.io/library/node:22\nRUN npm ci\n",
    }
    path = written(tmp_path, {**PACKAGE, **files}, DEV)
    start = look(None, path)
    text = write(start, Choices("shell", parts={"services": False}))
    assert f'run: "{NPM}"' in text and "\n  - npm " in text and "docker-hub" not in text


def test_a_container_without_services_leaves_those_of_the_project(tmp_path: Path) -> None:
    done = both(tmp_path, {DEV: {"image": "x"}, "compose.yaml": "services: {db: {image: 'postgres:17'}}"})
    assert set(done.sandbox.services) == {"db"} and set(done.listed) == {"image"}


@pytest.mark.parametrize(
    ("files", "said"),
    [
        ({DEV: "{"}, "its dev container was not looked at: "),
        (
            {".devcontainer/a/devcontainer.json": {}, ".devcontainer/b/devcontainer.json": {}},
            "there are several; choose one: --from .devcontainer/a/devcontainer.json",
        ),
    ],
)
def test_a_container_that_cannot_be_read_leaves_the_project(tmp_path: Path, files: dict[str, Any], said: str) -> None:
    written(tmp_path, {**PACKAGE, **files}, "")
    start = look(tmp_path, None)
    assert any(said in note for note in start.found.notes) and start.container is None
    assert NPM in write(start, Choices("shell"))


def test_a_link_out_of_the_project_is_not_read(tmp_path: Path) -> None:
    written(tmp_path, {"elsewhere.json": {"forwardPorts": [3000]}, "shop/package.json": {}}, "")
    (tmp_path / "shop" / ".devcontainer.json").symlink_to(tmp_path / "elsewhere.json")
    start = look(tmp_path / "shop", None)
    assert any("is a link that leads to" in note for note in start.found.notes)
    assert not any(proposal.section == "ports" for proposal in start.found.proposals)
