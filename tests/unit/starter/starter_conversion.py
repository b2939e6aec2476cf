"""One conversion of another tool's file, for tests."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from engine.starter.proposals import Findings
from engine.starter.starting import Choices, Start, look, write
from sandboxfile import Inputs, Loaded, load


class Converted:
    """One conversion in `tmp_path`: the findings, the new file as it loads, and what was listed."""

    def __init__(self, source: Path, output: Path | None = None, unset: list[str] | None = None) -> None:
        self.start: Start = look(output, source)
        self.found: Findings = self.start.found
        self.text = write(self.start, Choices(self.start.suggestion, self.found.mount))
        self.start.path.write_text(self.text)
        self.loaded: Loaded = load(self.start.path, Inputs(environment=dict.fromkeys(unset or [], "1")))
        self.sandbox = self.loaded.sandbox
        self.listed = {item.path: item.reason for item in self.found.left_out}

    def place(self, path: str) -> tuple[int, int]:
        [position] = [item.position for item in self.found.left_out if item.path == path]
        assert position is not None
        return position

    def setup(self) -> list[Any]:
        return [step.model_dump(exclude_defaults=True, exclude_unset=True) for step in self.sandbox.setup]


def written(root: Path, files: dict[str, Any], source: str) -> Path:
    for name, content in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content if isinstance(content, str) else json.dumps(content))
    return root / source


# --- Compose
