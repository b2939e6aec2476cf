"""What the steps of Dockerfiles and the commands of dev containers fetch, and from where."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from starter_conversion import Converted, written
from starter_world import look

from engine.starter.programs import programs_in
from engine.starter.registries import REGISTRIES

DOCKERFILES = {
    "FROM localhost/debian:13\nRUN apt-get update \\\n  # a remark\n  && apt-get install -y curl\n": ["debian"],
    "FROM localhost/ubuntu:24.04\nRUN apt-get update\n": list(REGISTRIES["ubuntu"].hosts),
    "FROM localhost/a\nRUN --mount=type=cache,target=/x npm ci\nRUN npm run build\n": ["npm"],
    "FROM localhost/a\nrun apk add --no-cache git && /venv/bin/python3 -m pip --no-cache-dir install x\n": [
        "pypi",
        *REGISTRIES["alpine"].hosts,
    ],
    "FROM localhost/a\nRUN CGO_ENABLED=0 go build ./...\n": ["go"],
    'FROM localhost/a\n# RUN npm ci\nCOPY npm /npm\nRUN echo npm ci && mkdir npm\nCMD ["npm", "install"]\n': [],
}


@pytest.mark.parametrize("text", DOCKERFILES)
def test_a_dockerfile_of_a_service(text: str, tmp_path: Path) -> None:
    (tmp_path / "compose.yaml").write_text("services: {web: {build: ./web}}\n")
    (tmp_path / "web").mkdir()
    (tmp_path / "web/Dockerfile").write_text(text)
    proposals = [proposal for proposal in look(tmp_path).proposals if proposal.section == "endpoints"]
    assert [proposal.value for proposal in proposals] == DOCKERFILES[text]
    assert all(proposal.parts == {"services"} for proposal in proposals)


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("yarn", "yarn"), ("yarn --immutable", "yarn"), ("sudo -E npm --prefix web ci", "npm"), ("(uv sync)", "uv"),
        ('system("bundle check") || x', "bundle"), ("./mvnw -B package", "mvnw"), ("npx --yes a", "npx"),
        ("x; cargo  fetch", "cargo"), ("A=1 B=2 poetry install", "poetry"), ("yarn run build", ""), ("bundler", ""),
        ("echo go build", ""), ("cd /usr/local/go && ls", ""), ("git add npm", ""), ("", ""), ("= =", ""), ("-m", ""),
    ],
)  # fmt: skip
def test_what_is_called(text: str, name: str) -> None:
    called = programs_in(text)
    assert [name in program.names for program in called] == ([True] if name else [])


GEMFILE = "source 'https://gems.example.com'\ngem 'rails'\n"


def test_a_step_that_works_with_the_whole_project_is_left_to_the_user(tmp_path: Path) -> None:
    """As in a new project of Rails: what can be installed is, and the machine has what the step will need."""
    script = '#!/usr/bin/env ruby\nsystem("bundle check") || system("bundle install")\nsystem("bin/rails db:prepare")\n'
    path = ".devcontainer/devcontainer.json"
    data = json.dumps({"postCreateCommand": "bin/setup --skip-server"})
    done = Converted(written(tmp_path, {path: data, "bin/setup": script, "Gemfile": GEMFILE}, path))
    assert [step["run"] for step in done.setup()] == ["bundle install"]
    assert (
        "  #- run: bin/setup --skip-server        # from postCreateCommand; bin/rails works with all of the project"
        in done.text
    )
    assert {"ruby-dev", "ruby-bundler", "build-essential"} <= set(done.sandbox.packages)
    assert "rubygems" in {end.group for end in done.sandbox.endpoints}


def test_a_script_that_installs_has_what_it_reads(tmp_path: Path) -> None:
    path = ".devcontainer/devcontainer.json"
    files = {"dev/start.sh": "#!/bin/sh\nset -e\nnpm ci\n", "package.json": "{}", "package-lock.json": "{}"}
    done = Converted(written(tmp_path, {path: '{"postCreateCommand": "bash dev/start.sh"}', **files}, path))
    assert done.setup()[-1] == {
        "run": "bash dev/start.sh",
        "inputs": ("dev/start.sh", "package.json", "package-lock.json"),
    }
    assert {"npm"} <= {end.group for end in done.sandbox.endpoints}
