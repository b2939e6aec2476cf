"""What a mount hides is not copied into the guest by a build, a config or a step of set-up either."""

from __future__ import annotations

from pathlib import Path

import pytest

from engine.build.chain import make_chain
from engine.decoding import decode
from engine.project.digest import TreeDigest
from engine.project.inputs import input_piece
from engine.project.pieces import Piece
from engine.project.tree import PathError, ProjectTree, opened
from engine.resolve.compose import Compose
from engine.resolve.copied_paths import check_copied
from engine.resolve.paths import hidden_in_mounts
from sandboxfile import Inputs, Loaded, parse

FILES = (".env", "Dockerfile", "src/.ENV", "src/a.py", "src/key.pem", "secrets/deep/x", "sub/top", "sub/src/top", "top")


@pytest.fixture
def project(tmp_path: Path) -> Path:
    project = tmp_path.resolve() / "work" / "shop"
    for name in FILES:
        (project / name).parent.mkdir(parents=True, exist_ok=True)
        (project / name).write_text(name)
    return project


def read(project: Path, text: str) -> Loaded:
    return parse(f'version: "1"\n{text}\n', project / "Sandboxfile.yaml", Inputs(environment={}))


def copied(tree: ProjectTree, piece: Piece) -> list[str]:
    return [found.name for found in tree.entries(piece, TreeDigest(piece.path))]


SUB = ["sub", "sub/src", "sub/src/top", "sub/top"]


@pytest.mark.parametrize(
    ("mount", "left"),
    [
        ("{source: ., target: /w, hide: [.env, '*.pem', secrets/]}", ["Dockerfile", "src", "src/a.py", *SUB, "top"]),
        ("{source: ., target: /w, hide: ['*', '!*/', '!*.py']}", ["src", "src/a.py"]),
        ("{source: .., target: /w, mode: ro, hide: [/shop/s*, .env]}", ["Dockerfile", "top"]),
        ("{source: ., target: /w, mode: clone, hide: [/s*, .env]}", ["Dockerfile", "top"]),
        ("{source: ./sub, target: /w, hide: [/top, src/top]}",
         [".env", "Dockerfile", "secrets", "secrets/deep", "secrets/deep/x", "src", "src/.ENV", "src/a.py",
          "src/key.pem", "sub", "sub/src", "top"]),
        ("{source: ./sub, target: /w, hide: [src]}, {source: ., target: /v, hide: [/src, .env, Docker*, secrets]}",
         ["sub", "sub/top", "top"]),
    ],
)  # fmt: skip
def test_what_is_hidden_is_left_out(project: Path, mount: str, left: list[str]) -> None:
    loaded = read(project, f"mounts: [{mount}]\nservices: {{a: {{build: .}}}}")
    tree = opened(project)
    (piece,) = Compose.of(loaded, tree).pieces()
    assert [name for name in copied(tree, piece) if name] == left
    assert [name for name in copied(tree, input_piece(tree, ".", "/w", hidden_in_mounts(loaded))) if name] == left
    assert decode(Piece, {**vars(piece), "hidden": [vars(one) for one in piece.hidden]}) == piece, "for the supervisor"


def test_a_pattern_of_inputs_does_not_match_it(project: Path) -> None:
    loaded, tree = read(project, "mounts: [{source: ., target: /w, hide: ['*.pem']}]"), opened(project)
    piece = input_piece(tree, "src/*", "/w", hidden_in_mounts(loaded))
    assert copied(tree, piece)[1:] == [".ENV", "a.py"]


def test_the_key_is_that_of_what_is_left(project: Path) -> None:
    text = "mounts: [{source: ., target: /w, hide: [.env]}]\nsetup: [{run: 'true', inputs: [.]}]\n"
    keys = []
    for name, content in ((".env", "one"), (".env", "two"), ("top", "three")):
        (project / name).write_text(content)
        chain = make_chain(read(project, text), None)
        keys.append(chain.graph.nodes["setup[0]"].key)
    assert keys[0] == keys[1] != keys[2]


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("setup: [{run: 'true', inputs: [top, .env]}]", "setup[0].inputs[1]"),
        ("setup: [{run: 'true', inputs: [secrets/deep]}]", "setup[0].inputs[0]"),
        ("setup: [{run: 'true', inputs: ['secrets/*']}]", "setup[0].inputs[0]"),
        ("services: {a: {image: a, configs: [c]}}\nconfigs: {c: {file: src/key.pem}}", "configs.c.file"),
        ("services: {a: {build: ./secrets/deep}}", "services.a.build"),
    ],
)
def test_what_is_named_by_itself_is_refused(project: Path, text: str, place: str) -> None:
    loaded = read(project, f"mounts: [.:/v:ro, {{source: ., target: /w, hide: [.env, '*.pem', secrets]}}]\n{text}")
    (problem, *_) = check_copied(loaded)
    assert "is hidden by mounts[1].hide" in problem.message and place in str(problem)


def test_it_is_refused_while_it_is_copied_too(project: Path) -> None:
    loaded, tree = read(project, "mounts: [{source: ., target: /w, hide: [.env]}]"), opened(project)
    with pytest.raises(PathError, match=r"hidden by mounts\[0\]"):
        tree.key(input_piece(tree, ".env", "/w", hidden_in_mounts(loaded)))


def test_an_env_file_gives_its_values(project: Path) -> None:
    text = "mounts: [{source: ., target: /w, hide: [.env]}]\nservices: {a: {image: a, env_file: .env}}"
    loaded = read(project, text)
    (piece,) = Compose.of(loaded, opened(project)).pieces()
    assert not [*check_copied(loaded)] and copied(opened(project), piece) == [""]
