"""The Compose project as the guest sees it."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from engine.build.blueprint import Blueprint
from engine.project.digest import TreeDigest
from engine.project.tree import opened
from engine.resolve.compose import Compose
from engine.state.layout import Layout
from sandboxfile import Inputs, Loaded, SandboxfileError, parse


def test_the_guests_compose_replaces_no_variable_again(tmp_path: Path) -> None:
    text = 'version: "1"\nservices: {a: {image: a, command: "$$HOME $A", labels: {$x: 1}}}\n'
    loaded = parse(text, tmp_path / "Sandboxfile.yaml", Inputs(environment={"A": "${B}"}))
    service = json.loads(Compose.of(loaded, opened(tmp_path)).configuration())["services"]["a"]
    assert service["command"] == "$$HOME $${B}"
    assert service["labels"] == {"$x": 1}, "keys are not interpolated, so nothing is escaped in them"


BUILD = "/var/lib/sandbox/build"


@pytest.fixture
def project(tmp_path: Path) -> Path:
    project = tmp_path / "project"
    files = (
        "web/src/a",
        "web/.env",
        "web/Dockerfile",
        "web/docker/prod",
        "docker/prod",
        "docker/other",
        "shared/b/c",
        "e.env",
    )
    for name in (*files, "shared/b/c", "e.env"):
        (project / name).parent.mkdir(parents=True, exist_ok=True)
        (project / name).write_text(name)
    (project / "web/.dockerignore").write_text("*\n!src\n")
    return project


def load(project: Path, text: str) -> Loaded:
    return parse(f'version: "1"\n{text}', project / "Sandboxfile.yaml")


def images_key(project: Path, text: str) -> str:
    """The key of the images, as `up` makes it."""
    layout = Layout.from_environment(os.environ)
    return Blueprint.of(load(project, text), layout).chain.graph.nodes["images"].key


@pytest.mark.parametrize(
    ("build", "copied", "dockerfile"),
    [
        ("./web", {f"{BUILD}/web": [".dockerignore", "Dockerfile", "src/a"]}, None),
        (
            "{context: web, dockerfile: docker/prod}",
            {f"{BUILD}/web": [".dockerignore", "docker/prod", "src/a"]},
            "docker/prod",
        ),
        (
            "{context: web, dockerfile: ../docker/prod}",
            {f"{BUILD}/web": [".dockerignore", "src/a"], f"{BUILD}/web+dockerfile": ["prod"]},
            f"{BUILD}/web+dockerfile/prod",
        ),
        ("{context: web, dockerfile_inline: FROM a}", {f"{BUILD}/web": [".dockerignore", "src/a"]}, None),
        (
            "{context: shared, dockerfile_inline: A, additional_contexts: {more: ./web, far: 'https://x', at: /guest}}",
            {f"{BUILD}/web": ["b/c"], f"{BUILD}/web+0": [".dockerignore", "src/a"]},
            None,
        ),
        (
            "{context: shared, dockerfile_inline: FROM a, additional_contexts: [far=https://x, more=./web]}",
            {f"{BUILD}/web": ["b/c"], f"{BUILD}/web+0": [".dockerignore", "src/a"]},
            None,
        ),
    ],
)
def test_what_of_a_build_is_copied(
    project: Path, build: str, copied: dict[str, list[str]], dockerfile: str | None
) -> None:
    tree = opened(project)
    compose = Compose.of(load(project, f"services: {{web: {{build: {build}}}}}\n"), tree)
    found = {}
    for piece in compose.pieces():
        entries = tree.entries(piece, TreeDigest(piece.path))
        found[piece.target] = [found.name for found in entries if found.kind != "directory"]
    assert found == copied
    document = compose.document["services"]["web"]["build"]
    assert (document["context"], document.get("dockerfile")) == (f"{BUILD}/web", dockerfile)
    further = document.get("additional_contexts")
    if isinstance(further, dict):
        assert further == {"more": f"{BUILD}/web+0", "far": "https://x", "at": "/guest"}
    elif further:
        assert further == ["far=https://x", f"more={BUILD}/web+0"]


def test_the_ignore_file_of_a_dockerfile_comes_first(project: Path) -> None:
    tree = opened(project)
    text = "services: {web: {build: {context: web, dockerfile: ../docker/prod}}}\n"
    (project / "docker/prod.dockerignore").write_text("src\n")
    context, dockerfile = Compose.of(load(project, text), tree).pieces()
    names = [found.name for found in tree.entries(context, TreeDigest("web")) if found.kind != "directory"]
    assert names == [".dockerignore", ".env", "Dockerfile", "docker/prod"]
    names = [found.name for found in tree.entries(dockerfile, TreeDigest("docker")) if found.kind != "directory"]
    assert names == ["prod", "prod.dockerignore"], "the builder in the guest reads it, too"


@pytest.mark.parametrize(
    ("build", "file"),
    [
        ("{context: web, dockerfile: docker/prod}", "web/docker/prod"),
        ("{context: web, dockerfile: docker/prod}", "web/docker/prod.dockerignore"),
        ("{context: web, dockerfile: ../docker/prod}", "docker/prod"),
        ("{context: web, additional_contexts: {more: ./shared}}", "shared/b/c"),
        ("./web", "web/Dockerfile"),
        ("./web", "web/src/a"),
    ],
)
def test_what_an_image_is_built_by_is_in_its_key(project: Path, build: str, file: str) -> None:
    text = f"services: {{web: {{build: {build}}}}}\n"
    before = images_key(project, text)
    (project / "web/.env").write_text("other")
    (project / "docker/other").write_text("other")
    assert images_key(project, text) == before, "what is left out is neither copied nor in the key"
    (project / file).write_text("changed\n")
    assert images_key(project, text) != before


def test_images_that_are_named_after_the_project_are_keyed_by_its_name(project: Path) -> None:
    """Without that, a renamed project finds the images of its old name: "No such image: NEW-web"."""
    built, named = "services: {web: {build: ./web}}\n", "services: {web: {build: ./web, image: mine}}\n"
    assert images_key(project, f"name: one\n{built}") != images_key(project, f"name: two\n{built}")
    assert images_key(project, f"name: one\n{named}") == images_key(project, f"name: two\n{named}")


def test_an_env_file_that_may_be_missing(project: Path) -> None:
    def files(text: str) -> Any:
        compose = Compose.of(load(project, f"services: {{a: {{image: a, env_file: {text}}}}}\n"), opened(project))
        return compose.document["services"]["a"]["env_file"], [piece.path for piece in compose.files]

    optional = "[e.env, {path: ./gone.env, required: false}]"
    assert files(optional) == (["/var/lib/sandbox/files/a.0.env"], ["e.env"])
    (project / "gone.env").touch()
    assert files(optional)[1] == ["e.env", "gone.env"]
    assert files("gone2.env") == (["/var/lib/sandbox/files/a.0.env"], ["gone2.env"]), "it is for the checks to refuse"


def test_a_bind_that_no_mount_covers_has_its_place(project: Path) -> None:
    text = "services:\n  a:\n    image: a\n    volumes: ['./web:/w']\n"
    with pytest.raises(SandboxfileError) as caught:
        Compose.of(load(project, text), opened(project))
    (problem,) = caught.value.diagnostics
    assert problem.position == (5, 14) and "no mount brings into the sandbox" in problem.message
