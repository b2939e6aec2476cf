"""Writing a first file: never over another, and never half."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from engine.files import write_new
from engine.starter.writing import LOCAL_LAYER, ignore_local_layer, ignores_local_layer


def names(path: Path) -> list[str]:
    return sorted(entry.name for entry in path.iterdir() if entry.name != "home")


def test_a_new_file(tmp_path: Path) -> None:
    write_new(tmp_path / "a.yaml", "x\n", replace=False)
    assert (tmp_path / "a.yaml").read_text() == "x\n" and names(tmp_path) == ["a.yaml"]


def test_not_over_another(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text("mine")
    with pytest.raises(FileExistsError):
        write_new(tmp_path / "a.yaml", "x\n", replace=False)
    assert (tmp_path / "a.yaml").read_text() == "mine" and names(tmp_path) == ["a.yaml"]
    write_new(tmp_path / "a.yaml", "x\n", replace=True)
    assert (tmp_path / "a.yaml").read_text() == "x\n"


def test_a_link_is_replaced_and_not_followed(tmp_path: Path) -> None:
    (tmp_path / "other").write_text("mine")
    (tmp_path / "a.yaml").symlink_to("other")
    with pytest.raises(FileExistsError):
        write_new(tmp_path / "a.yaml", "x\n", replace=False)
    write_new(tmp_path / "a.yaml", "x\n", replace=True)
    assert (tmp_path / "other").read_text() == "mine" and not (tmp_path / "a.yaml").is_symlink()


def test_where_there_are_no_links(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError("no links here")

    monkeypatch.setattr(os, "link", refuse)
    write_new(tmp_path / "a.yaml", "x\n", replace=False)
    with pytest.raises(FileExistsError):
        write_new(tmp_path / "a.yaml", "y\n", replace=False)
    assert (tmp_path / "a.yaml").read_text() == "x\n" and names(tmp_path) == ["a.yaml"]


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("", f"{LOCAL_LAYER}\n"),
        ("a\n", f"a\n{LOCAL_LAYER}\n"),
        ("a", f"a\n{LOCAL_LAYER}\n"),
        ("a\r\n", f"a\r\n{LOCAL_LAYER}\r\n"),
    ],
)
def test_gitignore(tmp_path: Path, before: str, after: str) -> None:
    path = tmp_path / ".gitignore"
    path.write_bytes(before.encode())
    assert ignores_local_layer(tmp_path) is False
    ignore_local_layer(tmp_path)
    assert path.read_bytes().decode() == after and ignores_local_layer(tmp_path) is True


def test_no_gitignore_to_write_to(tmp_path: Path) -> None:
    assert ignores_local_layer(tmp_path) is None
    (tmp_path / "elsewhere").write_text("")
    (tmp_path / ".gitignore").symlink_to("elsewhere")
    assert ignores_local_layer(tmp_path) is None
