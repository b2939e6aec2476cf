"""How many Compose files of other people the services section takes, and why it refuses the rest.

    python scripts/compose_survey.py DIRECTORY
    python scripts/compose_survey.py --judge 'docker compose' DIRECTORY

Each directory in DIRECTORY is a project: every Compose file below it is read as `services: {include: FILE}` of a
Sandboxfile at the project's top, with the variables of a `.env`, or of an example of one, that lies beside the Compose
file. With a judge, Compose's own verdict stands beside ours, and for what both take, whether Compose makes the same of
our resolved services as of the file itself. Nothing is fetched or started, and nothing is written below DIRECTORY.
"""

from __future__ import annotations

import argparse
import collections
import json
import os
import re
import shlex
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from dotenv import dotenv_values

from engine.resolve.compose import escape_dollars
from sandboxfile import Inputs, Loaded, SandboxfileError, parse
from sandboxfile.names import SECTIONS

COMPOSE_FILE = re.compile(r"(docker-)?compose[^/]*\.ya?ml")
EXAMPLES = (
    "*.env.example",
    "*.env.dist",
    "*.env.sample",
    "*.env.template",
    "*env-example",
    "example.env",
    "default.env",
)
NEUTRAL = ("HOME", "PATH", "USER")
JUDGE_S = 60


@dataclass(frozen=True)
class Verdict:
    """Of one file: `problems` are our reasons to refuse it, `judge` what Compose said against it, `differs` where what
    Compose makes of our resolved services is not what it makes of the file."""

    file: str
    problems: tuple[str, ...]
    judge: str | None = None
    differs: tuple[str, ...] = ()

    @property
    def accepted(self) -> bool:
        return not self.problems


def survey(root: Path, file: Path, judge: Sequence[str]) -> Verdict:
    project = root / file.relative_to(root).parts[0] if file.parent != root else root
    variables = find_variables(file.parent)
    name = file.relative_to(project).as_posix()
    text = f'version: "1"\nname: survey\nservices: {{include: {json.dumps(name)}}}\n'
    loaded, problems = None, ()
    try:
        variables = {"PWD": str(file.parent)} | variables  # as a shell there would
        loaded = parse(text, project / "Sandboxfile.yaml", Inputs(environment=variables))
    except SandboxfileError as error:
        problems = tuple(dict.fromkeys(found.render().partition("\n")[0] for found in error.diagnostics))
    if not judge:
        return Verdict(str(file), problems)
    wanted, said = configure(judge, file, file.parent, variables)
    differs: tuple[str, ...] = ()
    if loaded is not None and wanted is not None:
        with tempfile.TemporaryDirectory() as scratch:
            resolved = Path(scratch, "compose.yaml")
            resolved.write_text(json.dumps(escape_dollars(sections(loaded))))
            ours, refused = configure(judge, resolved, project, variables)
        differs = (refused,) if ours is None else tuple(differences(comparable(wanted), comparable(ours), ""))
    return Verdict(str(file), problems, said, differs)


def find_variables(directory: Path) -> dict[str, str]:
    """What Compose finds in the directory, else what the examples there say."""
    patterns = [".env"] if (directory / ".env").exists() else EXAMPLES
    paths = [path for pattern in patterns for path in sorted(directory.glob(pattern))]
    found = {name: value for path in paths for name, value in dotenv_values(path, interpolate=False).items()}
    return {name: value for name, value in found.items() if value is not None}


def sections(loaded: Loaded) -> dict[str, Any]:
    return {name: value for name in SECTIONS if (value := getattr(loaded.sandbox, name))}


def configure(
    judge: Sequence[str], file: Path, project: Path, variables: Mapping[str, str]
) -> tuple[dict[str, Any] | None, str]:
    """What Compose makes of a file; or None, and what it says against it."""
    options = [
        "-p",
        "survey",
        "--profile",
        "*",
        "--project-directory",
        str(project.absolute()),
        "-f",
        str(file.absolute()),
    ]
    env = {name: os.environ[name] for name in NEUTRAL if name in os.environ} | dict(variables)
    done = subprocess.run(
        [*judge, *options, "config", "--format", "json"],
        env=env,
        cwd=project,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=JUDGE_S,
        check=False,
    )
    if not done.returncode:
        return json.loads(done.stdout), ""
    said = [line for line in done.stderr.splitlines() if line.strip() and "level=warning" not in line]
    return None, " ".join(said)[:300] or f"exit code {done.returncode}"


def comparable(value: dict[str, Any]) -> dict[str, Any]:
    """Without what the two cannot have in common: sections that no service uses are in neither."""
    return {key: item for key, item in value.items() if item and (key in SECTIONS)}


def differences(wanted: Any, ours: Any, path: str) -> Iterator[str]:
    if isinstance(wanted, dict) and isinstance(ours, dict):
        for key in sorted({*wanted, *ours}):
            yield from differences(wanted.get(key), ours.get(key), f"{path}.{key}" if path else key)
    elif isinstance(wanted, list) and isinstance(ours, list) and len(wanted) == len(ours):
        for index, (one, other) in enumerate(zip(wanted, ours, strict=True)):
            yield from differences(one, other, f"{path}[{index}]")
    elif wanted != ours:
        yield f"{path}: {json.dumps(wanted)[:200]} became {json.dumps(ours)[:200]}"


def show(verdicts: Sequence[Verdict], root: Path, judged: bool) -> None:
    reasons: collections.Counter[str] = collections.Counter()
    for verdict in verdicts:
        name = Path(verdict.file).relative_to(root)
        word = "accepted" if verdict.accepted else "refused "
        odd = " <- Compose " + ("takes it" if not verdict.judge else f"refuses it: {verdict.judge}")
        print(f"{word} {name}{odd if judged and verdict.accepted == bool(verdict.judge) else ''}")
        for difference in verdict.differs:
            print(f"         differs: {difference}")
        for problem in verdict.problems:
            print(f"         {problem}")
            reasons[re.sub(r"'[^']*'|[0-9]+", "...", problem.rpartition(": ")[2] or problem)] += 1
    accepted = sum(verdict.accepted for verdict in verdicts)
    print(f"\n{len(verdicts)} files: {accepted} accepted, {len(verdicts) - accepted} refused")
    if judged:
        ours = [verdict for verdict in verdicts if not verdict.accepted and not verdict.judge]
        theirs = [verdict for verdict in verdicts if verdict.accepted and verdict.judge]
        both = sum(not verdict.accepted and bool(verdict.judge) for verdict in verdicts)
        print(f"Compose: {len(ours)} taken that we refuse, {len(theirs)} refused that we take, {both} refused by both")
        print(f"         {sum(bool(verdict.differs) for verdict in verdicts)} taken by both and not the same")
    for reason, count in reasons.most_common(25):
        print(f"{count:5}  {reason}")


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("directory", type=Path)
    parser.add_argument("--judge", default="", metavar="COMMAND", help="a Compose to compare with")
    parser.add_argument("--json", type=Path, metavar="PATH", help="write the verdicts there as well")
    options = parser.parse_args()
    root = options.directory.resolve()
    files = sorted(path for path in root.rglob("*") if COMPOSE_FILE.fullmatch(path.name) and path.is_file())
    if not files:
        parser.error(f"no Compose file below {root}")
    judge = shlex.split(options.judge)
    verdicts = [survey(root, file, judge) for file in files]
    show(verdicts, root, bool(judge))
    if options.json:
        options.json.write_text(json.dumps([asdict(verdict) for verdict in verdicts], indent=2) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
