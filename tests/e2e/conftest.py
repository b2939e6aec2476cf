"""Fixtures of the scenarios, and which of the long ones have their turn."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from world import World
from xdist.remote import Producer
from xdist.scheduler import LoadScopeScheduling


def of(file: str, *parameters: str) -> list[str]:
    """The names of a file's test with each of these parameters."""
    return [f"{file}[{parameter}]" for parameter in parameters]


# All of them in each run would take it over its hour. One turn follows another, commit by commit. A name is that of a
# file, or of a file and one parameter. Of the agents Claude Code and Codex do their tasks each time.
AGENTS, STARTERS, OWN = "test_agent_tasks.py", "test_starters.py", "test_projects.py"
TURNS = (
    (
        "test_docker_matrix.py",
        "test_carried_cache.py",
        *of(AGENTS, "opencode", "pi"),
        *of(STARTERS, "pi"),
        *of(OWN, "npm", "pip", "deno"),
    ),
    ("test_recipes.py", "test_clients.py", *of(AGENTS, "gemini", "cline"), *of(OWN, "uv", "pnpm", "compose")),
    ("test_escapes.py", "test_fork.py", *of(OWN, "uv", "pip", "deno")),
    (
        *("test_copied_content.py", "test_certificate.py", "test_woken_by_a_port.py"),
        *of(AGENTS, "copilot", "qwen-code"),
        *of(OWN, "worktree", "yarn-1", "pyproject"),
    ),
    (
        *("test_agent_screens.py", "test_damaged_cache.py"),
        *of(STARTERS, "shell", "default", "copilot"),
        *of(OWN, "pip", "yarn-4", "monorepo"),
    ),
    (
        *("test_editor_panel.py", "test_agent_comfort.py", "test_agent_key_nowhere.py", "test_watched_files.py"),
        "test_chaos.py",
        *of(OWN, "pipenv", "bun", "npm-workspace"),
    ),
    (
        *("test_stop_and_start.py", "test_attack_suite.py"),
        *of(STARTERS, "claude-code", "codex", "gemini", "opencode", "cline", "qwen-code"),
        *of(OWN, "npm", "poetry", "worktree"),
    ),
)
APART = {f"{AGENTS}[openclaw]", f"{STARTERS}[openclaw]"}  # without KVM it takes up to 7 minutes to ask its model
ALL = "SANDBOX_TEST_ALL"
# Those that start the quickstart with its own port, which one sandbox at a time can have.
WITH_ITS_PORT = ("test_quickstart.py", "test_confinement.py", "test_cpu_weight.py")


@pytest.fixture
def world(isolated: None, tmp_path: Path) -> Iterator[World]:
    """A world of its own; afterwards nothing of it may be left."""
    world = World(tmp_path)
    yield world
    world.close()


class ByFile(LoadScopeScheduling):
    """The tests of one file run one after the other, and so do those that want the same port.

    pytest-xdist's own `loadgroup` writes the group into the test's name, which pytest 9.2 does not let it do: then no
    test has a group, without a word.
    """

    def _split_scope(self, nodeid: str) -> str:
        file = Path(nodeid.partition("::")[0]).name
        return "port" if file in WITH_ITS_PORT else file


def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer) -> ByFile:
    return ByFile(config, log)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Leave out those that have no turn, unless they were named: then nothing else runs."""
    here = [item for item in items if item.path.parent == Path(__file__).parent]
    in_turns = {name for names in TURNS for name in names} | APART
    if os.environ.get(ALL) or all(names_of(item) & in_turns for item in here):
        return
    turn = commits() % len(TURNS)
    for item in here:
        if names_of(item) & (in_turns - set(TURNS[turn])):
            item.add_marker(pytest.mark.skip(reason=f"in turns, commit by commit; {ALL}=1 runs all"))


def names_of(item: pytest.Item) -> set[str]:
    """What TURNS may call it."""
    parameters = item.name.partition("[")[2]
    return {item.path.name, f"{item.path.name}[{parameters}"}


def commits() -> int:
    """How many there are up to this one; 0 where nobody knows."""
    count = ["git", "rev-list", "--count", "HEAD"]
    ran = subprocess.run(count, cwd=Path(__file__).parent, capture_output=True, text=True)
    return int(ran.stdout) if ran.returncode == 0 else 0
