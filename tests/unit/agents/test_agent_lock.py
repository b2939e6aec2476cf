"""Lock files of agents: which packages of them a machine gets, and which lock files are refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from engine.agents import list_agents, load_agent
from engine.agents.lock import Locked, read_lock
from engine.agents.packages import locked_packages
from engine.errors import EngineError

DIGEST = "sha512-" + "A" * 86 + "=="


def lock(tmp_path: Path, **packages: Any) -> Path:
    path = tmp_path / "package-lock.json"
    entries = {"": {"dependencies": {"it": "1.0.0"}}} | packages
    path.write_text(json.dumps({"lockfileVersion": 3, "packages": entries}))
    return path


def entry(**more: Any) -> dict[str, Any]:
    return {"version": "1.0.0", "integrity": DIGEST} | more


@pytest.mark.parametrize(
    ("more", "taken"),
    [
        ({}, True),
        ({"os": ["linux"], "cpu": ["x64"], "libc": ["glibc"], "optional": True}, True),
        ({"os": ["darwin"]}, False),
        ({"os": ["!win32"]}, True),
        ({"os": ["!linux"]}, False),
        ({"cpu": ["arm64"]}, False),
        ({"libc": ["musl"]}, False),
        ({"os": "linux"}, True),
        ({"dev": True}, False),
        ({"inBundle": True}, False),
    ],
)
def test_what_npm_would_install(tmp_path: Path, more: dict[str, Any], taken: bool) -> None:
    found = read_lock(lock(tmp_path, **{"node_modules/it": entry(**more)}), "amd64")
    assert found == ((Locked("node_modules/it", "it", "1.0.0", DIGEST),) if taken else ())


def test_a_name_may_differ_from_its_place(tmp_path: Path) -> None:
    more = {"name": "@real/one", "bin": {"one": "cli.js"}}
    (found,) = read_lock(lock(tmp_path, **{"node_modules/a/node_modules/@b/c": entry(**more)}), "amd64")
    assert (found.name, found.where) == ("@real/one", "node_modules/a/node_modules/@b/c")
    assert found.programs == (("one", "cli.js"),)


@pytest.mark.parametrize(
    ("packages", "words"),
    [
        ({"node_modules/it": {"version": "1.0.0"}}, "no sha512 digest"),
        ({"node_modules/it": entry(integrity="sha1-x")}, "no sha512 digest"),
        ({"node_modules/../it": entry()}, "no package of a registry"),
        ({"../it": entry()}, "no package of a registry"),
        ({"node_modules/it": entry(version="file:../x")}, "no package of a registry"),
        ({"node_modules/it": entry(name="../../x")}, "no package of a registry"),
        ({"node_modules/it": 3}, "no lock file"),
    ],
)
def test_a_lock_that_cannot_be_used(tmp_path: Path, packages: dict[str, Any], words: str) -> None:
    with pytest.raises(EngineError, match=words):
        read_lock(lock(tmp_path, **packages), "amd64")


def test_a_file_that_is_no_lock(tmp_path: Path) -> None:
    path = tmp_path / "package-lock.json"
    with pytest.raises(EngineError, match="No such file"):
        read_lock(path, "amd64")
    path.write_text(json.dumps({"lockfileVersion": 1, "packages": {}}))
    with pytest.raises(EngineError, match="must be 3"):
        read_lock(path, "amd64")
    path.write_text("[]")
    with pytest.raises(EngineError, match="no lock file"):
        read_lock(path, "amd64")


@pytest.mark.parametrize("architecture", ["amd64", "arm64"])
def test_each_lock_file_is_for_the_version_of_its_definition(architecture: str) -> None:
    locks = 0
    for definition in list_agents():
        for step in definition.install.steps:
            if step.npm is not None and step.npm.lock is not None:
                assert locked_packages(definition, step.npm, None, architecture)
                assert locked_packages(definition, step.npm, "0.0.1", architecture) == ()
                locks += 1
    assert locks


def test_a_lock_file_of_another_version_is_refused() -> None:
    definition = load_agent("openclaw")
    newer = definition.model_copy(update={"install": definition.install.model_copy(update={"version": "9.9.9"})})
    (what,) = (step.npm for step in definition.install.steps if step.npm is not None)
    with pytest.raises(EngineError, match=r"openclaw/package-lock\.json is not for openclaw 9\.9\.9"):
        locked_packages(newer, what, None, "amd64")
