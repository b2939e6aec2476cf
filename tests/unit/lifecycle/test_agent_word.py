"""What the one word of `up` means: a path, or one of the file's agents."""

from __future__ import annotations

from pathlib import Path

import pytest

from engine.errors import EngineError
from engine.lifecycle.agent_word import load_for

TEXT = 'version: "1"\nname: shop\nagents: {writer: {command: [a]}, reviewer: {command: [b]}}\n'


@pytest.fixture(autouse=True)
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    directory = tmp_path / "project"
    directory.mkdir()
    (directory / "Sandboxfile.yaml").write_text(TEXT)
    monkeypatch.chdir(directory)
    return directory


def meant(word: str | None, agent: str | None = None) -> tuple[str, str | None]:
    loaded, named = load_for(Path(word) if word is not None else None, agent, (), ())
    return loaded.path.parent.name, named


def test_an_agent_a_path_or_neither(project: Path) -> None:
    (project / "other").mkdir()
    (project / "other" / "Sandboxfile.yaml").write_text('version: "1"\n')
    assert meant(None) == ("project", None)
    assert meant("writer") == ("project", "writer")
    assert meant(None, "reviewer") == meant(".", "reviewer") == ("project", "reviewer")
    assert meant("other") == meant("./other") == ("other", None)
    assert meant("Sandboxfile.yaml") == ("project", None)
    with pytest.raises(EngineError, match="no agent called painter") as raised:
        meant("painter")
    assert raised.value.hint == "there are: writer, reviewer"


def test_what_could_be_both_is_refused(project: Path) -> None:
    (project / "writer").mkdir()
    (project / "writer" / "Sandboxfile.yaml").write_text('version: "1"\n')
    with pytest.raises(EngineError, match="writer is a path here and an agent of the file"):
        meant("writer")
    assert meant(str(project / "writer")) == ("writer", None)
    assert meant(None, "writer") == ("project", "writer")


def test_a_path_beside_a_bad_file(project: Path) -> None:
    (project / "other").mkdir()
    (project / "other" / "Sandboxfile.yaml").write_text('version: "1"\n')
    (project / "Sandboxfile.yaml").write_text("nonsense")
    assert meant("other") == ("other", None)
