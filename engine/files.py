"""JSON files that are whole or not there, whoever is killed when."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from engine.state.layout import make_private


def write_json(path: Path, value: object) -> None:
    """Replace `path` (its directory is made) in one step: a reader sees the old text or the new. Raises OSError.

    Nobody but the user can read it.
    """
    make_private(path.parent)
    beside = path.with_name(f".{path.name}.{os.urandom(4).hex()}")
    try:
        with os.fdopen(os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as file:
            json.dump(value, file, indent=1, sort_keys=True)
            file.write("\n")
            file.flush()
            os.fsync(file.fileno())
        beside.replace(path)
    finally:
        beside.unlink(missing_ok=True)


def read_json(path: Path) -> Any:
    """Raises OSError, or ValueError when the text is not JSON."""
    return json.loads(path.read_text(encoding="utf-8"))
