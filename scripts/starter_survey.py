"""What `sandbox init --from` makes of other people's dev containers, sbxenv.yaml and Compose files, as a table.

    python scripts/starter_survey.py DIRECTORY [--compose] [--json PATH]

Every devcontainer.json, .devcontainer.json and sbxenv.yaml below DIRECTORY is converted by `sandbox init --from FILE
--yes --print`; with --compose, every Compose file, too. For each: what was carried over, what was left out and why,
and what is wrong: a traceback, a new file that is not valid, and a service of which a part is missing. Nothing is
fetched or started, and nothing is written below DIRECTORY. The exit code is 1 when something is wrong.
"""

from __future__ import annotations

import argparse
import collections
import json
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from engine.starter.starting import Choices, Start, look, write
from sandboxfile import Inputs, SandboxfileError, parse
from sandboxfile.compose.files import rebase
from sandboxfile.names import SECTIONS
from sandboxfile.reading.source import read_source

FILES = re.compile(r"\.?devcontainer\.json|(.*\.)?sbxenv\.ya?ml")
COMPOSE = re.compile(r"(docker-)?compose[^/]*\.ya?ml")
COUNTED = ("packages", "setup", "mounts", "endpoints", "secrets", *SECTIONS, "ports")
TEMPLATE = {"endpoints": 1, "mounts": 1}  # what every starter has of its own
INIT_S = 120


@dataclass(frozen=True)
class Outcome:
    """Of one file: `carried` counts the entries of each section, `left_out` has lines `place: reason`.

    `refused` is what `init` said instead of a file, and `wrong` what must not be.
    """

    file: str
    carried: dict[str, int]
    left_out: tuple[str, ...] = ()
    refused: str = ""
    wrong: tuple[str, ...] = ()


def survey(root: Path, file: Path) -> Outcome:
    """Convert one file. The command runs in the file's directory, as a user's would."""
    name = str(file.relative_to(root))
    with tempfile.TemporaryDirectory() as home:
        shown = subprocess.run(
            [Path(sys.executable).with_name("sandbox"), "init", "--from", str(file), "--yes", "--print"],
            cwd=file.parent,
            env={"HOME": home, "PATH": "/usr/bin:/bin"},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=INIT_S,
            check=False,
        )
    lines = [line for line in shown.stderr.splitlines() if line.strip()]
    wrong = (f"traceback: {lines[-2]}",) if "Traceback (most recent call last)" in shown.stderr else ()
    if shown.returncode:
        return Outcome(name, {}, refused=lines[0] if lines else f"exit code {shown.returncode}", wrong=wrong)
    start = look(None, file)
    write(start, Choices(start.suggestion, start.found.mount))
    left_out = tuple(f"{item.path}: {item.reason}" for item in start.found.left_out)
    carried, problems = inspect(file, shown.stdout, start)
    return Outcome(name, carried, left_out, wrong=(*wrong, *problems))


def inspect(file: Path, text: str, start: Start) -> tuple[dict[str, int], tuple[str, ...]]:
    """How many entries each section has beyond those of every starter, and what is wrong with the new file."""
    try:
        demanded = dict.fromkeys(start.found.variables, "1")  # which the user is told to set
        loaded = parse(text, start.path, Inputs(environment=demanded))
    except SandboxfileError as error:
        return {}, tuple(f"invalid: {found.message}" for found in error.diagnostics[:3])
    sections = {name: getattr(loaded.sandbox, name) or () for name in COUNTED}
    carried = {name: len(value) - TEMPLATE.get(name, 0) for name, value in sections.items()}
    agent = loaded.sandbox.agent
    carried["env"] = len(agent.env) if agent else 0
    return {name: count for name, count in carried.items() if count > 0}, tuple(halves(file, loaded.sandbox.services))


def halves(file: Path, services: Mapping[str, Any]) -> Iterator[str]:
    """Services of a converted Compose file that lack a key which they have there."""
    if not COMPOSE.fullmatch(file.name):
        return
    source = read_source(file.read_bytes(), file.name, compose=True)
    data = source.data if isinstance(source.data, dict) else {}
    rebase(data, "", file.parent)
    for name, service in services.items():
        written = (data.get("services") or {}).get(name)
        ours = {*service, *(("secrets",) if "configs" in service else ())}
        if isinstance(written, dict) and (missing := sorted({*written} - ours - {"extends", "<<"})):
            yield f"half a service: {name} lacks {', '.join(missing)}"


def show(outcomes: list[Outcome]) -> None:
    """Print the table as Markdown, and below it how often each reason was given."""
    reasons: collections.Counter[str] = collections.Counter()
    print("| File | Carried | Left out, and why | Wrong |\n|---|---|---|---|")
    for one in outcomes:
        carried = ", ".join(f"{name} {count}" for name, count in one.carried.items()) or "-"
        left = "; ".join(one.left_out) or "-"
        reasons.update(line.partition(": ")[2] for line in one.left_out)
        cells = [one.file, one.refused or carried, left, "; ".join(one.wrong) or "-"]
        print("| " + " | ".join(cell.replace("|", "/").replace("\n", " ") for cell in cells) + " |")
    wrong = sum(bool(one.wrong) for one in outcomes)
    refused = sum(bool(one.refused) for one in outcomes)
    print(f"\n{len(outcomes)} files: {len(outcomes) - refused} converted, {refused} refused, {wrong} with a fault\n")
    for reason, count in reasons.most_common(40):
        print(f"{count:5}  {reason}")


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("directory", type=Path)
    parser.add_argument("--compose", action="store_true", help="convert Compose files, too")
    parser.add_argument("--json", type=Path, metavar="PATH", help="write the outcomes there as well")
    options = parser.parse_args()
    root = options.directory.resolve()
    wanted = (FILES, COMPOSE) if options.compose else (FILES,)
    files = sorted(
        path for path in root.rglob("*") if any(one.fullmatch(path.name) for one in wanted) and path.is_file()
    )
    if not files:
        parser.error(f"there is nothing to convert below {root}")
    outcomes = [survey(root, file) for file in files]
    show(outcomes)
    if options.json:
        options.json.write_text(json.dumps([asdict(one) for one in outcomes], indent=2) + "\n")
    return 1 if any(one.wrong for one in outcomes) else 0


if __name__ == "__main__":
    sys.exit(main())
