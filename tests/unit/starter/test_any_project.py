"""Whatever a project's files say: a starter file that loads, and nothing of theirs that a terminal would obey."""

from __future__ import annotations

import json
import re
import tempfile
from pathlib import Path
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from starter_world import look, starter

from engine.errors import EngineError
from engine.starter.starting import Choices, write
from engine.starter.starting import look as begin
from engine.starter.templates import REFERENCE, template_names
from sandboxfile import SandboxfileError, load

FILES = """
    package.json package-lock.json pnpm-lock.yaml .npmrc .nvmrc .tool-versions pyproject.toml uv.lock poetry.lock
    requirements.txt Cargo.toml .cargo/config.toml go.mod Gemfile compose.yaml Dockerfile .env CLAUDE.md GEMINI.md
"""
CONTROLS = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]")

# Text as an attacker would have it: pieces of formats, of YAML, of terminals.
BREAKING = ["\x1b[2J", "\r", "\n", "\n- x", "\t", "\0", "\u202e", "\ud83d", ": ", "#", "'", '"', "|", "&a", "*a", "!!x"]
MEANING = ["${A}", "$(id)", "{{x}}", "../", "/", "0", "é", "a.b.example", "https://a.example/x", "node 99", "services"]
LINES = ["-r other.txt", "--index-url https://i.example/", "source 'https://g.example'", "FROM a.example/b AS c"]
pieces = st.sampled_from([*BREAKING, *MEANING, *LINES, "registry=https://n.example/"])
texts = st.lists(pieces | st.text(max_size=10), max_size=12).map("".join)
KEYS = "dependencies scripts prepare engines node packageManager pnpm@9.1.0 workspaces image build context ports"
words = texts | st.sampled_from(
    [*KEYS.split(), "dockerfile", "8099:80", "volumes", "secrets", "depends_on", ".", "./x"]
)
data = st.recursive(
    st.none() | st.booleans() | st.integers() | words,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(words, inner, max_size=5),
    max_leaves=12,
)
package = st.fixed_dictionaries(
    {},
    optional={
        "packageManager": words, "workspaces": data, "scripts": data, "engines": data, "dependencies": data,
    },
)  # fmt: skip
services = st.fixed_dictionaries(
    {"services": st.dictionaries(words, st.dictionaries(words, data, max_size=5) | data, max_size=4)}
)
contents = texts | data.map(json.dumps) | package.map(json.dumps) | services.map(json.dumps)


def make(root: Path, files: dict[str, str]) -> None:
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(text.encode("utf-8", "surrogatepass"))


@settings(max_examples=max(8, settings.default.max_examples // 6))  # each one loads several files
@given(
    st.dictionaries(st.sampled_from(FILES.split()), contents, max_size=6),
    st.sampled_from(template_names()),
    st.sampled_from(["rw", "ro", "none"]),
)
def test_it_loads(files: dict[str, str], template: str, mode: str) -> None:
    with tempfile.TemporaryDirectory() as directory:
        root = Path(directory)
        make(root, files)
        if template == REFERENCE:
            return
        loaded, _ = starter(root, look(root), template, mode)
        assert not CONTROLS.search(loaded.path.read_text(encoding="utf-8"))


DEV_CONTAINER = """
    name image features forwardPorts appPort mounts workspaceFolder containerEnv remoteEnv remoteUser postCreateCommand
    onCreateCommand hostRequirements dockerComposeFile customizations
"""
SBXENV = """
    name agent args kits workspace additionalWorkspaces env sandboxOptions secrets bindings registries mcp ports
    lifecycle
"""


def objects(keys: str) -> st.SearchStrategy[dict[str, Any]]:
    return st.dictionaries(st.sampled_from(keys.split()), data, max_size=6)


foreign = {
    "compose.yaml": services | data,
    ".devcontainer/devcontainer.json": objects(DEV_CONTAINER),
    "sbxenv.yaml": objects(SBXENV).map(lambda value: {"schemaVersion": "1", **value}),
}


@settings(max_examples=max(8, settings.default.max_examples // 6))  # each one loads several files
@given(st.sampled_from(sorted(foreign)).flatmap(lambda name: st.tuples(st.just(name), foreign[name])))
def test_conversions_load(case: tuple[str, Any]) -> None:
    name, value = case
    with tempfile.TemporaryDirectory() as directory:
        root = Path(directory)
        make(root, {name: json.dumps(value)})
        try:
            start = begin(None, root / name)
        except (EngineError, SandboxfileError):
            return  # told, with exit code 2
        text = write(start, Choices(start.suggestion, start.found.mount))
        assert not CONTROLS.search(text)
        start.path.write_text(text, encoding="utf-8")
        load(start.path)
