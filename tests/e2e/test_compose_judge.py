"""The last word on services has the Compose in the guest: it takes all that the corpus calls good."""

from __future__ import annotations

import json
from pathlib import Path

from world import World

from engine.resolve.compose import escape_dollars
from sandboxfile import parse
from sandboxfile.names import SECTIONS

CORPUS = Path(__file__).parents[1] / "contract" / "sandboxfile" / "good"
JUDGE_S = 900.0

# Reads {name: Compose file}, answers {name: what Compose says against it}. Files of the environment must exist for it.
PROGRAM = """
import json, os, pathlib, re, subprocess, sys, tempfile

def judge(text):
    pathlib.Path("compose.yaml").write_text(text)
    while True:
        done = subprocess.run(
            ["docker", "compose", "-p", "judge", "--profile", "*", "-f", "compose.yaml", "config", "--quiet"],
            stdin=subprocess.DEVNULL, capture_output=True, text=True,
        )
        missing = re.search("env file ([^ ]+) not found", done.stderr)
        if not missing:
            return done.stderr.strip() if done.returncode else ""
        file = pathlib.Path(missing.group(1))
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text("")

os.chdir(tempfile.mkdtemp())
print(json.dumps({name: judge(text) for name, text in json.load(sys.stdin).items()}))
"""


def compose_files() -> dict[str, str]:
    """The services of every good file, resolved, as Compose files."""
    files = {}
    for path in sorted(CORPUS.glob("*.yaml")):
        for number, one in enumerate(parse(path.read_bytes(), Path("/project", path.name)).each()):
            sections = {name: value for name in SECTIONS if (value := getattr(one.sandbox, name))}
            if "services" in sections:
                files[f"{path.stem} {number}"] = json.dumps(escape_dollars(sections))
    return files


def test_compose_in_the_guest_takes_every_good_file(world: World) -> None:
    files = compose_files()
    assert len(files) >= 25
    files["a mistake"] = json.dumps({"services": {"a": {"imgae": "a"}}})
    project = world.project("name: judge\nmounts: [.:/workspace]\n")
    world.up(project)
    ran = world.sandbox(
        "exec", "-i", "--", "python3", "-c", PROGRAM, cwd=project, stdin=json.dumps(files), timeout_s=JUDGE_S
    )
    said = {name: words for name, words in json.loads(ran.ok().out).items() if words}
    assert "imgae" in said.pop("a mistake")
    assert said == {}
