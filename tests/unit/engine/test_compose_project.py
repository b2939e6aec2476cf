"""The Compose project as the guest sees it."""

from __future__ import annotations

import json
from pathlib import Path

from engine.nodes.compose import Compose
from engine.project_tree import opened
from sandboxfile import Inputs, parse


def test_the_guests_compose_replaces_no_variable_again(tmp_path: Path) -> None:
    text = 'version: "1"\nservices: {a: {image: a, command: "$$HOME $A", labels: {$x: 1}}}\n'
    loaded = parse(text, tmp_path / "Sandboxfile.yaml", Inputs(environment={"A": "${B}"}))
    service = json.loads(Compose.of(loaded, opened(tmp_path)).configuration())["services"]["a"]
    assert service["command"] == "$$HOME $${B}"
    assert service["labels"] == {"$x": 1}, "keys are not interpolated, so nothing is escaped in them"
