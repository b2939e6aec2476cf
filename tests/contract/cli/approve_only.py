"""A program: what `up` does until the user has agreed, and no more.

`approve_only.py [--yes] [--agent NAME] [-f FILE] [--start]`; with --start it notes what a start notes, too.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

from engine.cli.asking.approval import ask_host_access, warn_of_credential
from engine.cli.boundary import guarded
from engine.lifecycle.project_file import load_file
from engine.state.layout import Layout
from engine.trust import agreement as trust
from engine.trust.unnamed import note_start


def agree() -> None:
    loaded = load_file(None, [Path(sys.argv[sys.argv.index("-f") + 1])] if "-f" in sys.argv else [])
    if "--agent" in sys.argv:
        name = sys.argv[sys.argv.index("--agent") + 1]
        loaded = next(one for one in loaded.each() if one.agent_name == name)
    layout = Layout.from_environment(os.environ)
    trust.agree(loaded, layout, ask_host_access, yes="--yes" in sys.argv, tell=warn_of_credential)
    if "--start" in sys.argv:
        note_start(layout, loaded)
    print("agreed")


if __name__ == "__main__":
    sys.exit(guarded(agree))
