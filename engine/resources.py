"""Files that come with the program: the templates.

An installed program has copies of them inside a package (setup.py puts them there), a checkout has them at its root.
Nothing is imported for this: it is asked at the start of commands and while a line is typed.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path

from engine.errors import EngineError

_PACKAGES = Path(__file__).resolve().parent.parent
_INSTALLED = "engine/_templates"


@cache
def templates() -> Path:
    """The directory with one folder a template. Raises EngineError when the installation is damaged."""
    for place in (_INSTALLED, "templates"):
        if (path := _PACKAGES / place).is_dir():
            return path
    hint = "install the program again"
    raise EngineError(f"the installation is damaged: there is no {_INSTALLED} in {_PACKAGES}", hint=hint)
