"""Files that come with the program: templates and the JSON schema.

An installed program has copies of them inside its packages (setup.py puts them there), a checkout has them at its root.
Nothing is imported for this: it is asked at the start of commands and while a line is typed.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path

from engine.errors import EngineError

_PACKAGES = Path(__file__).resolve().parent.parent


def templates() -> Path:
    """The directory with one folder a template. Raises EngineError when the installation is damaged."""
    return _find("engine/_templates", "templates")


def schemas() -> Path:
    """The directory of the published JSON schema. Raises EngineError when the installation is damaged."""
    return _find("sandboxfile/_schemas", "schemas")


@cache
def _find(packaged: str, checkout: str) -> Path:
    for place in (packaged, checkout):
        if (path := _PACKAGES / place).is_dir():
            return path
    hint = "install the program again"
    raise EngineError(f"the installation is damaged: there is no {packaged} in {_PACKAGES}", hint=hint)
