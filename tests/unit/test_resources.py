"""Files that come with the program, in a checkout and installed."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from engine import resources
from engine.errors import EngineError

ROOT = Path(__file__).parents[2]


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    resources.templates.cache_clear()
    monkeypatch.setattr(resources, "_PACKAGES", tmp_path)
    yield tmp_path
    resources.templates.cache_clear()


def test_in_a_checkout() -> None:
    assert resources.templates() == ROOT / "templates"


def test_installed(installed: Path) -> None:
    for folder in ("engine/_templates", "templates"):
        (installed / folder).mkdir(parents=True)
    assert resources.templates() == installed / "engine/_templates"


def test_damaged(installed: Path) -> None:
    with pytest.raises(EngineError, match="the installation is damaged"):
        resources.templates()


def test_what_is_packaged_is_what_is_looked_for() -> None:
    text = (ROOT / "setup.py").read_text()
    assert '{"templates": "engine/_templates", "schemas": "sandboxfile/_schemas"}' in text
