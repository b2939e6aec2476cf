"""docs/cli.md says what the help says."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from cli_world import DEADLINE_S, CommandLine

from engine.cli.names import COMMANDS

PAGE = Path(__file__).parents[3] / "docs" / "cli.md"


def test_the_page_is_the_generated_one(sandbox: CommandLine) -> None:
    for columns in ("40", "200"):
        argv = [sys.executable, "-m", "engine.cli.manual"]
        env = sandbox.environment(COLUMNS=columns)
        done = subprocess.run(argv, env=env, capture_output=True, text=True, timeout=DEADLINE_S)
        assert done.returncode == 0, done.stderr
        assert done.stdout == PAGE.read_text(encoding="utf-8"), "python -m engine.cli.manual > docs/cli.md"


def test_it_has_every_command() -> None:
    text = PAGE.read_text(encoding="utf-8")
    assert all(f"\n### sandbox {name}\n" in text for name in COMMANDS)
    assert "\n#### sandbox add endpoint\n" in text
