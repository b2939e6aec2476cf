"""What a mount's `hide` means: the patterns are git's, which is the judge here."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from engine.workspaces.hiding import hidden_rules
from vmm.fileserver.hiding import Hiding

PATTERNS = (
    ".env", "*.pem", "!public.pem", ".git2/hooks", "config/*.key", "**/private/notes", "build/", "/top", "a/**/z",
    "logs/**", "!logs/keep", "doc?/[a-c]*", "[!x]yz", r"\#sharp", r"\!loud", "secrets/", "!secrets/open", "*/one/*/two",
    "**/deep/**/end", "x**y",
)  # fmt: skip
FILES = (
    ".env", "d/.env", "a.pem", "public.pem", "d/public.pem", ".git2/hooks/h", "d/.git2/hooks/h", "config/a.key",
    "config/d/a.key", "d/config/a.key", "private/notes", "d/private/notes", "build/o", "d/build/o", "e/build", "top",
    "d/top", "a/z", "a/b/z", "a/b/c/z", "z", "logs/one", "logs/keep", "logs/d/two", "docs/a", "docs/d", "doc1/b",
    "doc/a",
    "ayz", "xyz", "#sharp", "!loud", "secrets/open", "secrets/shut", "p/one/q/two", "one/q/two", "p/one/two",
    "deep/end",
    "deep/1/2/end", "u/deep/1/end", "xy", "xaby", "xa/y",
)  # fmt: skip


@pytest.fixture
def hiding(tmp_path: Path) -> Hiding:
    own = os.open("/proc/self/fd", os.O_RDONLY)
    return Hiding(hidden_rules(PATTERNS), os.open(tmp_path, os.O_RDONLY), own)


def test_git_ignores_what_is_hidden(tmp_path: Path, hiding: Hiding) -> None:
    subprocess.run(["git", "init", "-q", tmp_path], check=True)
    (tmp_path / ".git" / "info" / "exclude").write_text("\n".join(PATTERNS) + "\n")
    for name in FILES:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("")
    argv = ["git", "-C", str(tmp_path), "-c", "core.excludesFile=/dev/null", "check-ignore", "--stdin"]
    ran = subprocess.run(argv, input="\n".join(FILES), capture_output=True, text=True)
    ignored = {name.strip('"') for name in ran.stdout.splitlines()}
    assert {name for name in FILES if hiding.hides(name, directory=False)} == ignored
    assert 15 < len(ignored) < len(FILES) - 10


def test_a_long_way_down_is_judged_without_a_deep_recursion(hiding: Hiding) -> None:
    below = "/".join(["d"] * 2000)
    assert hiding.hides(f"{below}/.env", directory=False) and not hiding.hides(f"{below}/x", directory=False)


@pytest.mark.parametrize("pattern", ["[z-a]"])
def test_what_is_no_pattern_is_refused(pattern: str) -> None:
    with pytest.raises(ValueError, match="is not a pattern"):
        hidden_rules([pattern])
