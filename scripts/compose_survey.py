"""How many Compose files of other people the services section takes, and why it refuses the rest.

    python scripts/compose_survey.py DIRECTORY
    python scripts/compose_survey.py --judge 'docker compose' DIRECTORY

Each directory in DIRECTORY is a project: every Compose file below it is read as `services: {include: FILE}` of a
Sandboxfile at the project's top, with the variables of the `.env` that lies beside it, or of an example of one. A file
with an override beside it is also read together with that, as Compose does by itself. With a judge, Compose's own
verdict stands beside ours, and for what both take, whether Compose makes the same of our resolved services as of the
file itself: with no profile, with each that the file has, and with all. A judge needs no Docker: the program in
Debian's package docker-compose is one. Nothing is fetched or started, and nothing is written below DIRECTORY.
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
from sandboxfile.compose.secrets import PREFIX
from sandboxfile.compose.services import env_files
from sandboxfile.names import SECTIONS

COMPOSE_FILE = re.compile(r"(docker-)?compose[^/]*\.ya?ml")
WITH_OVERRIDE = re.compile(r"((?:docker-)?compose)\.ya?ml")
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
class Stack:
    """Files that lie over each other, and the project at whose top a Sandboxfile would name them."""

    files: tuple[Path, ...]
    project: Path

    @property
    def directory(self) -> Path:
        return self.files[0].parent

    def names(self, root: Path) -> str:
        return " + ".join([str(self.files[0].relative_to(root)), *(file.name for file in self.files[1:])])


@dataclass(frozen=True)
class Verdict:
    """Of one stack: `problems` are our reasons to refuse it, `judge` what Compose said against it, `differs` where what
    Compose makes of our resolved services is not what it makes of the files. `profiles` were compared one by one."""

    file: str
    problems: tuple[str, ...]
    judge: str | None = None
    differs: tuple[str, ...] = ()
    profiles: tuple[str, ...] = ()

    @property
    def accepted(self) -> bool:
        return not self.problems


def find_stacks(root: Path) -> list[Stack]:
    """Every Compose file below `root`; a file with an override beside it counts alone, and with that."""
    stacks = []
    for file in sorted(path for path in root.rglob("*") if COMPOSE_FILE.fullmatch(path.name) and path.is_file()):
        project = root / file.relative_to(root).parts[0] if file.parent != root else root
        stacks.append(Stack((file,), project))
        if match := WITH_OVERRIDE.fullmatch(file.name):
            over = [file.with_name(f"{match[1]}.override.{ending}") for ending in ("yml", "yaml")]
            stacks += [Stack((file, each), project) for each in over if each.is_file()][:1]
    return stacks


def survey(root: Path, stack: Stack, judge: Sequence[str]) -> Verdict:
    variables = find_variables(stack.directory)
    compose = Compose(judge, variables)
    profiles = compose.profiles(stack) if judge else ()
    chosen = [(), *((name,) for name in profiles), *([profiles] if len(profiles) > 1 else [])]
    differs: list[str] = []
    problems: tuple[str, ...] = ()
    said = None
    for active in chosen:
        loaded, found = read(stack, active, variables)
        problems = problems or found
        if not judge:
            continue
        wanted, refused = compose.configure(stack.files, stack.directory, active)
        said = said or refused
        if loaded is not None and wanted is not None:
            label = f"with {', '.join(active)}: " if active else ""
            differs += [label + each for each in compare(compose, stack, loaded, wanted, active)]
    return Verdict(stack.names(root), problems, said, tuple(differs), profiles)


def read(stack: Stack, active: tuple[str, ...], variables: Mapping[str, str]) -> tuple[Loaded | None, tuple[str, ...]]:
    """Our reading; or None, and the problems, the first line of each."""
    names = [file.relative_to(stack.project).as_posix() for file in stack.files]
    include = json.dumps([{"path": names}])
    text = f'version: "1"\nname: survey\nprofiles: {json.dumps(active)}\nservices: {{include: {include}}}\n'
    environment = {"PWD": str(stack.directory)} | dict(variables)  # as a shell there would
    try:
        loaded = parse(text, stack.project / "Sandboxfile.yaml", Inputs(environment=environment))
        return loaded, tuple(missing(loaded))
    except SandboxfileError as error:
        return None, tuple(dict.fromkeys(found.render().partition("\n")[0] for found in error.diagnostics))


def missing(loaded: Loaded) -> Iterator[str]:
    """What `plan` would refuse: the files of `env_file` that are not there."""
    for name, paths in env_files(loaded.sandbox.services).items():
        entries = loaded.sandbox.services[name]["env_file"]
        for index, (entry, path) in enumerate(
            zip([entries] if isinstance(entries, str) else entries, paths, strict=True)
        ):
            optional = isinstance(entry, Mapping) and entry.get("required") is False
            if not optional and not (loaded.project / path).exists():
                found = loaded.diagnostic(("services", name, "env_file", index), f"{path} does not exist")
                yield found.render().partition("\n")[0]


def compare(
    compose: Compose, stack: Stack, loaded: Loaded, wanted: dict[str, Any], active: tuple[str, ...]
) -> list[str]:
    """Where Compose makes something else of our services than `wanted`."""
    if not loaded.sandbox.services:  # which Compose would call an empty file
        return list(differences(comparable(as_configs(wanted)), {}, ""))
    with tempfile.TemporaryDirectory() as scratch:
        resolved = Path(scratch, "compose.yaml")
        resolved.write_text(json.dumps(escape_dollars(sections(loaded))))
        ours, refused = compose.configure((resolved,), stack.project, active)
    return [refused] if ours is None else list(differences(comparable(as_configs(wanted)), comparable(ours), ""))


def find_variables(directory: Path) -> dict[str, str]:
    """What the examples in the directory say. Where there is a `.env`, both find that by themselves."""
    if (directory / ".env").exists():
        profiles = dotenv_values(directory / ".env").get("COMPOSE_PROFILES")  # which count where the user is
        return {"COMPOSE_PROFILES": profiles} if profiles else {}
    paths = [path for pattern in EXAMPLES for path in sorted(directory.glob(pattern))]
    found = {name: value for path in paths for name, value in dotenv_values(path, interpolate=False).items()}
    return {name: value for name, value in found.items() if value is not None}


def sections(loaded: Loaded) -> dict[str, Any]:
    return {name: value for name in SECTIONS if (value := getattr(loaded.sandbox, name))}


@dataclass(frozen=True)
class Compose:
    """The judge: a command, and the variables that it sees."""

    command: Sequence[str]
    variables: Mapping[str, str]

    def configure(
        self, files: Sequence[Path], project: Path, active: tuple[str, ...]
    ) -> tuple[dict[str, Any] | None, str]:
        """What Compose makes of files; or None, and what it says against them."""
        done = self._run(files, project, active, ["--format", "json"])
        if not done.returncode:
            return json.loads(done.stdout), ""
        said = [line for line in done.stderr.splitlines() if line.strip() and "level=warning" not in line]
        return None, " ".join(said)[:300] or f"exit code {done.returncode}"

    def profiles(self, stack: Stack) -> tuple[str, ...]:
        """The profiles that the files have; none where Compose refuses them."""
        done = self._run(stack.files, stack.directory, (), ["--profiles"])
        return tuple(sorted(done.stdout.split())) if not done.returncode else ()

    def _run(
        self, files: Sequence[Path], project: Path, active: tuple[str, ...], further: Sequence[str]
    ) -> subprocess.CompletedProcess[str]:
        options = ["-p", "survey", "--project-directory", str(project.absolute())]
        options += [word for name in active for word in ("--profile", name)]
        options += [word for file in files for word in ("-f", str(file.absolute()))]
        env = {name: os.environ[name] for name in NEUTRAL if name in os.environ} | dict(self.variables)
        return subprocess.run(
            [*self.command, *options, "config", *further],
            env=env,
            cwd=project,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=JUDGE_S,
            check=False,
        )


def as_configs(wanted: dict[str, Any]) -> dict[str, Any]:
    """The same with secrets that are files as configs: ours become these, as a machine sees such a file anyway."""
    files = {name: entry for name, entry in (wanted.get("secrets") or {}).items() if "file" in entry}
    configs, services = dict(wanted.get("configs") or {}), {}
    for name, service in (wanted.get("services") or {}).items():
        entries = service.get("secrets") or []
        if entries and all(entry["source"] in files for entry in entries):
            service = {key: value for key, value in service.items() if key != "secrets"}
            moved = [{**entry, "source": PREFIX + entry["source"]} for entry in entries]
            service["configs"] = [*(service.get("configs") or []), *moved]
            for entry in entries:
                file = files[entry["source"]]["file"]
                configs[PREFIX + entry["source"]] = {"name": f"survey_{PREFIX}{entry['source']}", "file": file}
        services[name] = service
    return {**wanted, "services": services, "configs": configs}


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


def show(verdicts: Sequence[Verdict], judged: bool) -> None:
    reasons: collections.Counter[str] = collections.Counter()
    for verdict in verdicts:
        name = verdict.file
        word = "accepted" if verdict.accepted else "refused "
        odd = " <- Compose " + ("takes it" if not verdict.judge else f"refuses it: {verdict.judge}")
        print(f"{word} {name}{odd if judged and verdict.accepted == bool(verdict.judge) else ''}")
        for difference in verdict.differs:
            print(f"         differs: {difference}")
        for problem in verdict.problems:
            print(f"         {problem}")
            reasons[re.sub(r"'[^']*'|[0-9]+", "...", problem.rpartition(": ")[2] or problem)] += 1
    accepted = sum(verdict.accepted for verdict in verdicts)
    refused = len(verdicts) - accepted
    print(f"\n{len(verdicts)} files, or files with their override: {accepted} accepted, {refused} refused")
    if judged:
        ours = [verdict for verdict in verdicts if not verdict.accepted and not verdict.judge]
        theirs = [verdict for verdict in verdicts if verdict.accepted and verdict.judge]
        both = sum(not verdict.accepted and bool(verdict.judge) for verdict in verdicts)
        print(f"Compose: {len(ours)} taken that we refuse, {len(theirs)} refused that we take, {both} refused by both")
        print(f"         {sum(bool(verdict.differs) for verdict in verdicts)} taken by both and not the same")
        print(f"         {sum(bool(verdict.profiles) for verdict in verdicts)} have profiles, active and not")
    for reason, count in reasons.most_common(25):
        print(f"{count:5}  {reason}")


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("directory", type=Path)
    parser.add_argument("--judge", default="", metavar="COMMAND", help="a Compose to compare with")
    parser.add_argument("--json", type=Path, metavar="PATH", help="write the verdicts there as well")
    options = parser.parse_args()
    root = options.directory.resolve()
    stacks = find_stacks(root)
    if not stacks:
        parser.error(f"no Compose file below {root}")
    judge = shlex.split(options.judge)
    verdicts = [survey(root, stack, judge) for stack in stacks]
    show(verdicts, bool(judge))
    if options.json:
        options.json.write_text(json.dumps([asdict(verdict) for verdict in verdicts], indent=2) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
