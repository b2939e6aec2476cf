"""A program: what `up` does until the user has agreed, and no more. `approve_only.py [--yes] [--agent NAME]`."""

from __future__ import annotations

import os
import sys

from engine.cli.approval import approve
from engine.cli.boundary import guarded
from engine.cli.project_file import load_file
from engine.layout import Layout


def agree() -> None:
    loaded = load_file(None)
    if "--agent" in sys.argv:
        name = sys.argv[sys.argv.index("--agent") + 1]
        loaded = next(one for one in loaded.each() if one.agent_name == name)
    approve(loaded, Layout.from_environment(os.environ), "--yes" in sys.argv)
    print("agreed")


if __name__ == "__main__":
    sys.exit(guarded(agree))
