"""Projects below the root, beside one in the root."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from starter_conversion import written
from starter_world import look, starter

TOOLS = {"package.json": {"devDependencies": {"prettier": "3"}}, "package-lock.json": "{}"}
APPLICATION = {"package.json": {"dependencies": {"express": "5"}}, "package-lock.json": "{}"}
BELOW = {
    "backend/requirements.txt": "django\n",
    "frontend/package.json": {"devDependencies": {"vite": "6"}},
    "frontend/package-lock.json": "{}",
}
MOVED = "npm ci && mkdir -p node_modules && sudo mv node_modules /"


def active(root: Path) -> list[str]:
    """What the steps of the starter file run, after a check that it is valid."""
    found = look(root)
    loaded, refused = starter(root, found)
    assert refused == []
    return [step.run for step in loaded.sandbox.setup]


def test_tools_in_the_root_do_not_hide_the_projects_below(tmp_path: Path) -> None:
    written(tmp_path, {**TOOLS, **BELOW}, "")
    steps = active(tmp_path)
    assert any(step.startswith("cd backend && pip install") for step in steps)
    assert f"cd frontend && {MOVED}" in steps and MOVED not in steps
    assert any("the tools of the root's package.json" in note for note in look(tmp_path).notes)


def test_an_application_in_the_root_keeps_its_packages(tmp_path: Path) -> None:
    written(tmp_path, {**APPLICATION, **BELOW}, "")
    steps = active(tmp_path)
    assert MOVED in steps and f"cd frontend && {MOVED}" not in steps
    assert {"node_modules", "frontend/node_modules"} <= set(look(tmp_path).local)
    assert any("the packages of frontend" in note for note in look(tmp_path).notes)


@pytest.mark.parametrize(
    "files",
    [
        {"package.json": {"workspaces": ["a"]}, "a/package.json": {}, "b/package.json": {"dependencies": {"x": "1"}}},
        {"package.json": {"name": "r"}, "pnpm-workspace.yaml": "", "a/package.json": {"dependencies": {"x": "1"}}},
        {"package.json": {"dependencies": {"x": "file:./lib"}}, "lib/package.json": {"dependencies": {"y": "1"}}},
        {"Cargo.toml": "[workspace]\nmembers = ['a']\n", "a/Cargo.toml": "[package]\nname = 'a'\n"},
        {"requirements.txt": "-r a/requirements.txt\n", "a/requirements.txt": "flask\n"},
        {"pom.xml": "<modules><module>a</module></modules>", "a/pom.xml": ""},
        {"settings.gradle": "", "a/build.gradle": ""},
    ],
)
def test_what_the_root_installs_is_not_installed_again(files: dict[str, Any], tmp_path: Path) -> None:
    written(tmp_path, files, "")
    assert not [item for item in look(tmp_path).proposals if str(item.value).startswith("{'run': 'cd ")]


def test_what_is_for_documentation_or_tests_is_named(tmp_path: Path) -> None:
    written(tmp_path, {**APPLICATION, "docs/requirements.txt": "mkdocs\n", "tests/app/package.json": {}}, "")
    found = look(tmp_path)
    assert not [item for item in found.proposals if "cd docs" in str(item.value)]
    assert found.notes == [
        "setup does not install what these need: docs, tests/app; `sandbox init --print docs` shows it for one"
    ]
