"""Keep pydantic from importing `importlib.metadata` before anything uses it.

Pydantic imports that module to look for plugins among the installed packages. We switch plugins off, with pydantic's
own variable, but pydantic imports the module all the same, and with it half of the `email` package. That takes a tenth
of the time in which a command starts, so a stand-in takes the module's place until somebody uses it.
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
    """Stands for the module in `sys.modules`; imports the real one at the first use of any of its names."""

    def __getattr__(self, attribute: str) -> Any:
        # importlib's LazyLoader cannot be used: it loads the module at the first look at `__spec__`, and every `import`
        # looks at that.
        if attribute.startswith("__") and attribute != "__all__":
            raise AttributeError(attribute)
        return getattr(self._load(), attribute)

    def entry_points(self, **parameters: Any) -> Any:
        """Pydantic imports this function by its name, which must not load the module, and calls it for plugins only."""
        return self._load().entry_points(**parameters)

    def _load(self) -> Any:
        if sys.modules.get(NAME) is self:
            del sys.modules[NAME]
        return importlib.import_module(NAME)


def defer_metadata() -> None:
    """Switch pydantic's plugins off, and put the stand-in in the module's place, unless that is already imported."""
    os.environ.setdefault("PYDANTIC_DISABLE_PLUGINS", "__all__")
    if NAME not in sys.modules and (spec := PathFinder.find_spec(NAME, importlib.__path__)) is not None:
        stand_in = _Deferred(NAME)
        stand_in.__spec__ = spec
        sys.modules[NAME] = stand_in
        importlib.metadata = stand_in
