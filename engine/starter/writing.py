"""Keeping the local layer, which is the user's own, out of version control."""

from __future__ import annotations

from pathlib import Path

from sandboxfile.reading.regular_file import read_regular_file

LOCAL_LAYER = "Sandboxfile.local.yaml"
MOST_IGNORE = 1024 * 1024


def ignores_local_layer(project: Path) -> bool | None:
    """Whether the project's .gitignore names the local layer; None when there is no .gitignore that can be used."""
    path = project / ".gitignore"
    if path.is_symlink() or not path.is_file():
        return None
    try:
        text = read_regular_file(path, MOST_IGNORE).decode("utf-8")
    except (OSError, ValueError):
        return None
    patterns = (LOCAL_LAYER, f"/{LOCAL_LAYER}", "*.local.yaml", "Sandboxfile.local.*", "*.local.*")
    return any(line.strip() in patterns for line in text.splitlines())


def ignore_local_layer(project: Path) -> None:
    """Add the local layer to .gitignore. Raises OSError."""
    path = project / ".gitignore"
    text = path.read_bytes().decode("utf-8")  # `read_text` would change the line ends
    ending = "\r\n" if "\r\n" in text else "\n"
    with path.open("a", encoding="utf-8", newline="") as file:
        file.write(f"{'' if text.endswith(ending) or not text else ending}{LOCAL_LAYER}{ending}")
