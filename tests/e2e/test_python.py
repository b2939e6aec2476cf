"""A program does what the commands do: the script of docs/python.md, as it stands there."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

from world import UP_S, World

PAGE = Path(__file__).parents[2] / "docs" / "python.md"
NO_CLICK = "\nimport sys\nassert 'click' not in sys.modules, 'the command line has been loaded'\n"


def test_the_script_of_the_page_runs(world: World) -> None:
    script = re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)[0]
    project = world.project("name: scripted\nmounts: [.:/workspace]\n")
    (project / "script.py").write_text(script + NO_CLICK)
    done = subprocess.run([sys.executable, "script.py"], cwd=project, capture_output=True, text=True, timeout=UP_S)
    assert done.returncode == 0, done.stderr
    started, kernel, refused = done.stdout.splitlines()
    assert re.fullmatch(r"scripted started after \d+\.\d s", started)
    assert re.fullmatch(r"kernel 6\.\S+ code 0", kernel)
    assert refused.startswith("refused example.com 443 ")
    assert world.listed(project) == []
