"""Which files of a project are suggested for `hide`."""

from __future__ import annotations

import subprocess
from pathlib import Path

from starter_conversion import written
from starter_world import look, starter


def test_keys_and_environments_below_the_root(tmp_path: Path) -> None:
    files = dict.fromkeys(
        [
            "config/master.key",
            "config/credentials/production.key",
            "config/credentials/production.yml.enc",
            "backend/.env",
            "backend/.env.example",
            "apps/web/.env.local",
        ],
        "x",
    )
    written(tmp_path, files, "")
    found = look(tmp_path)
    wanted = ["config/master.key", "config/credentials/production.key", "backend/.env", "apps/web/.env.local"]
    assert found.hide == wanted
    path = starter(tmp_path, found)[0].path
    path.write_text(path.read_text().replace("    #hide:", "    hide:"))
    assert starter(tmp_path, found)[1] == []


def test_what_a_step_reads_is_not_hidden(tmp_path: Path) -> None:
    written(tmp_path, {"package.json": {"dependencies": {"a": "1"}}, ".npmrc": "save-exact=true\n", ".env": ""}, "")
    assert look(tmp_path).hide == [".env"]


def test_what_git_tracks_is_not_hidden(tmp_path: Path) -> None:
    written(tmp_path, dict.fromkeys([".env", ".env.local", "a.pem", "b.pem", "c.key", "web/.env"], "x"), "")
    for command in (["init", "-q"], ["add", "-f", ".env", "a.pem", "web/.env"]):
        subprocess.run(["git", *command], cwd=tmp_path, check=True)
    assert look(tmp_path).hide == [".env.local", "b.pem", "*.key"]


def test_a_repository_that_is_none(tmp_path: Path) -> None:
    written(tmp_path, {".env": "x", ".git/HEAD": "?"}, "")
    assert look(tmp_path).hide == [".env"]
