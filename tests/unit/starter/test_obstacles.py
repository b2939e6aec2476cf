"""Which commands of a dev container cannot run in setup."""

from __future__ import annotations

from pathlib import Path

import pytest
from starter_conversion import Converted, written

from engine.starter.obstacles import obstacle


@pytest.mark.parametrize(
    ("command", "of"),
    [
        ("pre-commit install --install-hooks", "pre-commit install"),
        ("pip install pre-commit && ~/.local/bin/pre-commit install", "pre-commit install"),
        ("python3 -m pre_commit install", "pre_commit install"),
        ("uv run pre-commit install", "pre-commit install"),
        ("git submodule update --init --recursive", "git submodule"),
        ("git lfs install && git lfs pull", "git lfs"),
        ("sudo apt-get install -y git-lfs; git-lfs pull", "git-lfs pull"),
        ("lefthook install", "lefthook install"),
        ("npx --yes husky", "husky"),
        ("pnpm exec husky install", "husky install"),
        ("git config core.hooksPath .githooks", "git config"),
        ("git config --global user.name x", ""),
        ("git config --global --add safe.directory /workspace", ""),
        ("git lfs install", ""),
        ("git clone https://example.com/a && cd a && git checkout v1", ""),
        ("pip install pre-commit", ""),
        ("npm install husky", ""),
        ("echo git pull", ""),
        ("npm run build", ""),
    ],
)
def test_what_needs_the_repository(command: str, of: str) -> None:
    said = obstacle([], command, "")
    assert said == (f"{of} needs the repository: run it in the machine" if of else "")
    assert obstacle([], "bash setup.sh", f"#!/bin/sh\nset -e\n# git pull\n{command}\n") == said


def test_such_a_step_is_commented_out(tmp_path: Path) -> None:
    source = ".devcontainer/devcontainer.json"
    files = {
        source: {"postCreateCommand": "pip install -r requirements.txt && pre-commit install"},
        "requirements.txt": "flask\n",
        ".pre-commit-config.yaml": "",
    }
    done = Converted(written(tmp_path, files, source))
    assert [step["run"] for step in done.setup()] == ["pip install --user --break-system-packages -r requirements.txt"]
    assert "  #- run: pre-commit install             # from postCreateCommand; pre-commit install needs" in done.text
