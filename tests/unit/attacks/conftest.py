"""The sandbox that is attacked, without one."""

from __future__ import annotations

from pathlib import Path

import pytest
from attack_room import FakeRoom

from engine.attacks.project import file_text, write_files
from engine.attacks.room import Stage
from engine.attacks.trial import Trial


@pytest.fixture
def trial(tmp_path: Path) -> Trial:
    trial = Trial(FakeRoom(tmp_path), Stage(tmp_path), tmp_path / "host/project", tmp_path / "host/outside")
    write_files(trial.project, file_text("", loose=False))
    (tmp_path / "heard").touch()
    return trial
