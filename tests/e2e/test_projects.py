"""Starters that start: `init`, `up` and a test in a project of each kind, as its user would do it."""

from __future__ import annotations

import re

import pytest
from own_projects import PROJECTS, STARTED, as_worktree, write_project
from world import CALL_S, World

from engine.resolve.clients import host_npm, host_pypi

OFTEN_SLOW_S = 3 * CALL_S


@pytest.fixture(scope="session")
def urls() -> dict[str, str]:
    """What the marks in the projects stand for on this host."""
    npm, pypi = host_npm(), host_pypi()
    if npm is None or pypi is None or len(pypi.urls) != 2 or "default" not in pypi.origin:
        pytest.skip("the lock files are for registries as the clients know them")
    return {"@NPM@": npm.urls[0], "@PYPI@": pypi.urls[0], "@PYPI_FILES@": pypi.urls[1]}


@pytest.mark.parametrize("name", STARTED)
def test_it_starts(name: str, world: World, urls: dict[str, str]) -> None:
    own, project = PROJECTS[name], world.base / name
    write_project(name, project, urls)
    if name == "worktree":
        as_worktree(project, world.base / "repository")
    world.sandbox("init", "--yes", cwd=project).ok()
    world.up(project)
    ran = world.run(project, own.test, timeout_s=OFTEN_SLOW_S).ok()
    assert own.said in ran.out.splitlines(), ran  # Yarn 1 says last how long it took
    if name == "worktree":
        assert world.run(project, "git log").code != 0
        file = project / "Sandboxfile.yaml"
        file.write_text(re.sub(r"(?m)^  #(- \S+\.git:)", r"  \1", file.read_text()))  # the mount that it offers
        world.up(project)
        assert world.run(project, "git log --format=%s").ok().out == "all of it\n"
