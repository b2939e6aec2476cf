"""Which file a command needs that the project does not have."""

from __future__ import annotations

from pathlib import Path

import pytest

from engine.starter.missing_files import missing_file
from engine.starter.project_tree import Project


@pytest.mark.parametrize(
    ("command", "missing"),
    [
        ("npm ci", "package-lock.json"),
        ("npm install", None),
        ("npm install -g typescript", None),
        ("yarn && make", "Makefile"),
        ("make -C sub", None),
        ("bash .devcontainer/gone.sh", ".devcontainer/gone.sh"),
        ("sudo -E ./gone --x", None),
        ("sudo ./gone --x", "gone"),
        ("A=1 bin/gone", "bin/gone"),
        ("bin/there && bin/gone", "bin/gone"),
        ("cd sub && ./gone", None),
        ("git clone https://example.com/a && a/run", None),
        ("python -m venv .venv", None),
        ("bash -c './gone'", None),
        ("python gone.py", "gone.py"),
        ("pip install -r gone.txt", "gone.txt"),
        ("pip install -r there.txt", None),
        ("/usr/bin/true; ~/.local/bin/x; $HOME/y; echo 'unfinished", None),
        ("curl https://example.com/x.sh | bash", None),
        ("", None),
    ],
)
def test_missing_file(tmp_path: Path, command: str, missing: str | None) -> None:
    (tmp_path / "bin").mkdir()
    for name in ("bin/there", "package.json", "there.txt"):
        (tmp_path / name).write_text("{}")
    assert missing_file(Project(tmp_path, lambda note: None), command) == missing
