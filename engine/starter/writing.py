"""New files of a project: whole or not there, and never in the place of another by accident."""

from __future__ import annotations

import os
import secrets
from pathlib import Path

from sandboxfile.reading.regular_file import read_regular_file

LOCAL_LAYER = "Sandboxfile.local.yaml"
MOST_IGNORE = 1024 * 1024


def write_new(path: Path, text: str, *, replace: bool) -> None:
    """Write the file in one step. Raises FileExistsError when there is one and it is not to be replaced, OSError."""
    beside = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    try:
        with beside.open("x", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        if not replace and _link(beside, path):
            return
        beside.replace(path)
    finally:
        beside.unlink(missing_ok=True)


def _link(source: Path, path: Path) -> bool:
    """Give the file a second name, which unlike a rename fails when somebody was quicker; False where there are no
    links. Raises FileExistsError."""
    try:
        os.link(source, path)
    except FileExistsError:
        raise
    except OSError:
        if path.exists():
            raise FileExistsError(path) from None
        return False
    return True


def ignores_local_layer(project: Path) -> bool | None:
    """Whether the project's .gitignore names the local layer; None when there is no such file to write to."""
    path = project / ".gitignore"
    if path.is_symlink() or not path.is_file():
        return None
    try:
        text = read_regular_file(path, MOST_IGNORE).decode("utf-8")
    except (OSError, ValueError):
        return None
    wanted = (LOCAL_LAYER, f"/{LOCAL_LAYER}", "*.local.yaml", "Sandboxfile.local.*", "*.local.*")
    return any(line.strip() in wanted for line in text.splitlines())


def ignore_local_layer(project: Path) -> None:
    """Add the local layer to .gitignore. Raises OSError."""
    path = project / ".gitignore"
    text = path.read_bytes().decode("utf-8")  # with its line ends as they are
    ending = "\r\n" if "\r\n" in text else "\n"
    with path.open("a", encoding="utf-8", newline="") as file:
        file.write(f"{'' if text.endswith(ending) or not text else ending}{LOCAL_LAYER}{ending}")
