"""The starter file of each project of tests/projects, and its plan. tests/e2e/test_projects.py starts them."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from cli_world import CommandLine
from own_projects import FOLDER, PROJECTS, STARTED, as_worktree, write_project


def test_each_kind_is_there() -> None:
    assert {path.name for path in FOLDER.iterdir()} == set(PROJECTS)
    assert len(PROJECTS) >= 20 and len(STARTED) >= 12


def test_each_that_starts_has_its_turn() -> None:
    turns = re.findall(r"of\(OWN, ([^)]+)\)", (FOLDER.parent / "e2e/conftest.py").read_text())
    named = [re.findall('"([a-z0-9-]+)"', turn) for turn in turns]
    assert all(len(names) == 3 for names in named)
    assert {name for names in named for name in names} == set(STARTED)


@pytest.mark.parametrize("name", PROJECTS)
def test_the_plan(name: str, sandbox: CommandLine, tmp_path: Path) -> None:
    own, project = PROJECTS[name], tmp_path / name
    write_project(name, project)
    if name == "worktree":
        as_worktree(project, tmp_path / "repository")
    argv = ("--from", own.source) if own.source else ()
    begun = sandbox("init", "--yes", *argv, cwd=project)
    assert begun.code == 0, begun.err
    ran = sandbox("config", "--json", cwd=project)
    assert ran.code == 0 and "warning" not in ran.err, ran.err
    file: dict[str, Any] = json.loads(ran.out)
    named = [one if isinstance(one, str) else str(one.get("host") or one) for one in file["endpoints"]]
    for endpoint in own.endpoints:
        assert any(endpoint in one for one in named), (endpoint, named)
    steps = [step["run"] for step in file.get("setup", ())]
    assert len(steps) == len(own.steps), steps
    assert all(step.startswith(wanted) for step, wanted in zip(steps, own.steps, strict=True)), steps
    assert set(own.packages) <= set(file.get("packages", ()))
    assert set(own.services) == set(file.get("services", ()))
    commented = [line for line in (project / "Sandboxfile.yaml").read_text().splitlines() if re.match(" *#", line)]
    for step in own.offered:
        assert any(step in line for line in commented), (step, commented)
    plan = sandbox("plan", cwd=project)
    assert plan.code == 0 and "refuse" not in plan.out, (plan.out, plan.err)
    assert all(step[:30] in plan.out for step in steps)
    assert not own.packages or re.search("[0-9]+ Debian package", plan.out), plan.out
    assert all(service in plan.out for service in own.services)
