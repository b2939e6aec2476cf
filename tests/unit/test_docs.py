"""What the documents point at exists: a claim whose test was renamed or removed is no claim."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGES = sorted([ROOT / "README.md", *(ROOT / "docs").glob("*.md")])
REFERENCE = re.compile(
    r"`(?P<file>(?:tests|engine|vmm|sandboxfile|docs|examples|scripts|bench)/[\w/.-]+)(?:::(?P<name>\w+))?`"
)
NAMES = re.compile(r"`(?P<file>test_\w+\.py)(?:::(?P<name>\w+))?`")
LINK = re.compile(r"\]\((?!https?:|#)(?P<target>[^)#]+)")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_named_files_and_tests_exist(page: Path) -> None:
    text = page.read_text()
    for match in REFERENCE.finditer(text):
        path = ROOT / match["file"]
        assert path.exists(), match[0]
        assert match["name"] is None or f"def {match['name']}(" in path.read_text(), match[0]
    for match in NAMES.finditer(text):
        found = list((ROOT / "tests").rglob(match["file"]))
        assert found, match[0]
        assert match["name"] is None or any(f"def {match['name']}(" in path.read_text() for path in found), match[0]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    for match in LINK.finditer(page.read_text()):
        assert (page.parent / match["target"]).exists(), match[0]
