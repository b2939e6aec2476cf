"""How long it takes until an agent takes a prompt: `sandbox up` of what was built before, beside the agent alone.

    python bench/agent_starts.py claude-code codex --runs 3

For each agent three times are measured by turns, each until its prompt is on the screen:

- `sandbox up`, a new machine each time, from the start of the command;
- the agent alone in a machine like that, which runs already: `sandbox attach` starts it there;
- the agent alone on this host, unpacked from the same packages, with the same settings, variables and words. It runs in
  namespaces of its own, without a network, as an ordinary user.

What `up` takes beside the agent's own start in a machine is the surplus. Nothing is sent to a vendor: keys are made up.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "support"))

from cold_boot import known_accelerator
from series import Comparison, Series, load_average, machine_facts, run_command
from terminal_screen import READY, TerminalScreen

from engine import resources
from engine.agents import load_agent
from engine.agents.definition import AgentDefinition
from engine.agents.outfit import Held, outfit_for
from engine.build.chain import make_chain
from engine.build.foundation import load_verdict
from engine.build.nodes.agent import PACKAGE
from engine.cache.store import Store
from engine.state.layout import Layout
from sandboxfile import load
from sandboxfile.sections.agent import home_of

BUILD_S = 3600.0
START_S = 600.0
CALL_S = 300.0
NAME = "bench"
# An ordinary user without a network: some agents refuse to work as root.
ALONE = ("unshare", "--user", "--map-user=1000", "--map-group=1000", "--net", "--pid", "--fork", "--kill-child")


@dataclass
class Project:
    """A project with the starter file of one agent, and with directories of its own."""

    agent: str
    directory: Path
    env: dict[str, str]

    def sandbox(self, *argv: str) -> list[str]:
        return [sys.executable, "-c", "from engine.cli.main import main; main()", *argv]

    def call(self, *argv: str, timeout_s: float = CALL_S) -> None:
        run_command(self.sandbox(*argv), cwd=self.directory, env=self.env, timeout_s=timeout_s)

    def until_prompt(self, argv: Sequence[str], env: Mapping[str, str]) -> float:
        """Seconds from the start of a command until the agent takes a prompt; its terminal is closed then."""
        began = time.perf_counter()
        with contextlib.closing(TerminalScreen(argv, self.directory, env)) as screen:
            screen.wait_for_text(READY[self.agent], START_S)
            return time.perf_counter() - began

    def up(self) -> float:
        try:
            return self.until_prompt(self.sandbox("up", "--yes", "--progress", "quiet", "--name", NAME), self.env)
        finally:
            self.call("down", NAME)

    def attach(self) -> float:
        self.call("up", "-d", "--yes", "--progress", "quiet", "--name", NAME)
        try:
            return self.until_prompt(self.sandbox("attach", NAME), self.env)
        finally:
            self.call("down", NAME)


@contextlib.contextmanager
def open_project(agent: str) -> Iterator[Project]:
    """Everything is taken down and removed at the end, but for what is in the user's cache."""
    with tempfile.TemporaryDirectory(prefix="sb-") as scratch:
        base = Path(scratch)
        directory = base / "project"
        directory.mkdir()
        text = (resources.templates() / agent / "Sandboxfile.yaml").read_text()
        (directory / "Sandboxfile.yaml").write_text(text)
        env = {**os.environ, "SANDBOX_STATE_DIR": str(base / "state"), "SANDBOX_RUNTIME_DIR": str(base / "run")}
        for credential in load_agent(agent).credentials.values():
            env.setdefault(credential.source.env[0], credential.placeholder)
        project = Project(agent, directory, env)
        try:
            yield project
        finally:
            if any((base / "state").glob("instances/*/instance.json")):
                project.call("down", "--all", "--yes")


class Native:
    """The agent on this host, out of the packages that its installation in the guest has left in the cache."""

    def __init__(self, project: Project, base: Path) -> None:
        """Raises RuntimeError where an installation is more than to unpack packages of npm."""
        definition = load_agent(project.agent)
        self._project = project
        self._home = base / "home"
        (base / "bin").mkdir()
        for index, archive in enumerate(_archives(project)):
            _unpack(definition, index, archive, base)
        loaded = load(project.directory / "Sandboxfile.yaml")
        agent = loaded.sandbox.agent
        assert agent is not None
        held = {
            credential.secret: Held(tuple(one.host for one in credential.inject), credential.placeholder)
            for credential in definition.credentials.values()
        }
        outfit = outfit_for(definition, agent, str(project.directory), held)
        for path, mode, content in outfit.files:
            file = Path(path.replace(home_of(agent), str(self._home), 1))
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(content)
            file.chmod(mode)
        self._home.mkdir(exist_ok=True)
        self._argv = [*ALONE, "--mount-proc", "--", *outfit.command]
        places = {"HOME": str(self._home), "PATH": f"{base / 'bin'}:/usr/bin:/bin", "LANG": "C.UTF-8"}
        self._env = {**outfit.environment, **places}

    def start(self) -> float:
        return self._project.until_prompt(self._argv, self._env)


def _archives(project: Project) -> list[Path]:
    store = Store(Layout.from_environment(project.env))
    chain = make_chain(load(project.directory / "Sandboxfile.yaml"), load_verdict(store))
    found = []
    for node in chain.graph.nodes.values():
        if node.kind == "agent-package":
            path = store.find(node.kind, node.key)
            if path is None:
                raise RuntimeError(f"{node.title} is not in the cache: `sandbox up` builds it")
            found.append(path / PACKAGE)
    return found


def _unpack(definition: AgentDefinition, index: int, archive: Path, base: Path) -> None:
    steps = [step for step in definition.install.steps if step.unpack is not None or step.npm is not None]
    step = steps[index].unpack
    if step is None:
        raise RuntimeError(f"{definition.title} is more than packages to unpack: it is not measured on this host")
    target = base / step.into.lstrip("/")
    target.mkdir(parents=True, exist_ok=True)
    subprocess.run(["tar", "-xzf", archive, "--no-same-owner", "-C", target], check=True)
    for name, path in step.links.items():
        (program,) = target.glob(path)
        program.chmod(program.stat().st_mode | 0o555)
        (base / "bin" / name).symlink_to(program)


def measure(agent: str, runs: int) -> list[Comparison]:
    """By turns, so that whatever else the machine does falls on all three."""
    with open_project(agent) as project, tempfile.TemporaryDirectory(prefix="sb-native-") as scratch:
        say(f"{agent}: the first `up`, which builds what is not cached")
        project.call("up", "-d", "--yes", "--progress", "plain", "--name", NAME, timeout_s=BUILD_S)
        project.call("down", NAME)
        native = Native(project, Path(scratch))
        native.start()  # once before: what it writes on its first start is part of the guest's image
        ups, alone, here = Series("sandbox up"), Series("alone in the machine"), Series("alone on this host")
        for _ in range(runs):
            here.seconds.append(native.start())
            alone.seconds.append(project.attach())
            ups.seconds.append(project.up())
            last = ", ".join(f"{one.what} {one.seconds[-1]:.2f} s" for one in (ups, alone, here))
            say(f"{agent}: {last}")
    beside = Comparison(f"{agent}, up to its prompt", ups, alone)
    return [
        beside,
        Comparison("... without its own start", beside.surplus(), alone),
        Comparison("... beside this host's", ups, here),
    ]


def say(text: str) -> None:
    print(f"... {text}", file=sys.stderr, flush=True)


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("agents", nargs="*", help=f"which ones; default: {' '.join(READY)}")
    parser.add_argument("--runs", type=int, default=3, help="how often each thing is measured (default 3)")
    parser.add_argument("--json", type=Path, metavar="PATH", help="write everything that was measured there as well")
    options = parser.parse_args()
    agents = options.agents or list(READY)
    if unknown := set(agents) - set(READY):
        parser.error(f"the screen of {', '.join(sorted(unknown))} is not known")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that what we started is taken down then, too
    facts = machine_facts()
    comparisons = [comparison for agent in agents for comparison in measure(agent, options.runs)]
    facts |= {"accelerator": known_accelerator(os.environ), "load_after": load_average()}
    from run import report

    report(facts, comparisons, options.json)
    return 0


if __name__ == "__main__":
    sys.exit(main())
