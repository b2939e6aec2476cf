"""Pydantic looks for plugins among all installed packages when its first model is made.

We want none of them in our process, and it has a switch for that. What it would look with, `importlib.metadata` and
half of the `email` package, it imports all the same; that takes a tenth of a command's start, so it waits until
somebody uses it.
"""

from __future__ import annotations

import importlib
import os
import sys
from importlib.machinery import PathFinder
from types import ModuleType
from typing import Any

NAME = "importlib.metadata"


class _Deferred(ModuleType):
    """Stands in `sys.modules` for the module, which takes its place when it is asked for anything."""

    def __getattr__(self, attribute: str) -> Any:
        # Not importlib's LazyLoader: it loads at the first look at `__spec__`, which `import` itself takes.
        if attribute.startswith("__") and attribute != "__all__":
            raise AttributeError(attribute)
        return getattr(self._load(), attribute)

    def entry_points(self, **wanted: Any) -> Any:
        """What pydantic imports by its name, and calls only where the switch is off."""
        return self._load().entry_points(**wanted)

    def _load(self) -> Any:
        if sys.modules.get(NAME) is self:
            del sys.modules[NAME]
        return importlib.import_module(NAME)


def defer_metadata() -> None:
    """Do so, unless it is too late for it."""
    os.environ.setdefault("PYDANTIC_DISABLE_PLUGINS", "__all__")
    if NAME not in sys.modules and (spec := PathFinder.find_spec(NAME, importlib.__path__)) is not None:
        stand_in = _Deferred(NAME)
        stand_in.__spec__ = spec
        sys.modules[NAME] = stand_in
        importlib.metadata = stand_in
