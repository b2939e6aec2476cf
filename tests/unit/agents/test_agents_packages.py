"""Which package an installation wants, and whose word its digest is."""

from __future__ import annotations

import pytest

from engine.agents import load_agent
from engine.agents.packages import Wanted, wanted_package
from engine.errors import EngineError


def wanted(name: str, version: str | None = None, architecture: str = "amd64") -> list[Wanted | None]:
    definition = load_agent(name)
    return [wanted_package(definition, step, version, architecture) for step in definition.install.steps]


def test_the_usual_version_has_the_digest_of_the_definition() -> None:
    package, adapter = wanted("codex")
    assert package is not None
    assert package.name == "@openai/codex" and package.version == "0.169.0-linux-x64"
    assert package.integrity is not None and package.integrity.startswith("sha512-")
    arm, same = wanted("codex", architecture="arm64")
    assert same == adapter
    assert arm is not None and arm.version == "0.169.0-linux-arm64" and arm.integrity != package.integrity


def test_another_version_has_the_digest_that_the_registry_says() -> None:
    package, adapter = wanted("codex", "0.170.0")
    assert adapter == wanted("codex")[1]
    assert package == Wanted("@openai/codex", "0.170.0-linux-x64", None)
    package, _ = wanted("codex", "0.169.0")
    assert package is not None and package.integrity is not None
    # What has a version of its own is the same package in any version of the agent.
    node, openclaw = wanted("openclaw", "2026.10.1")
    assert node is not None and node.version == "24.21.0" and node.integrity is not None
    assert openclaw == Wanted("openclaw", "2026.10.1", None)


def test_a_step_without_a_package() -> None:
    assert wanted("kiro") == [None]
    assert [one is None for one in wanted("copilot")] == [False, True]


def test_an_architecture_that_its_makers_do_not_offer() -> None:
    with pytest.raises(EngineError, match="Claude Code cannot be installed on riscv64"):
        wanted("claude-code", architecture="riscv64")
