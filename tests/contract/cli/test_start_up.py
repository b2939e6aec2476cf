"""What each command does not import: somebody waits for it."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest
from cli_world import DEADLINE_S, CommandLine

# Whatever only building, checking the file or drawing needs.
HEAVY = {"compose_spec", "h11", "jsonschema", "keyring", "mitmproxy", "networkx", "pydantic", "pydantic_core", "qemu"}
HEAVY |= {"rich", "ruamel", "sandboxfile", "textual"}
# Not even these, where nothing is talked to: 30 to 60 ms on a slow machine.
CHANNEL = frozenset({"asyncio", "ssl", "vmm"})
# `exec` shall take 60 ms of its own on such a machine before it has connected: click and asyncio are 40 each,
# dataclasses (for its `inspect`) 14, and every other one 2 to 8.
SLOW = {
    "asyncio",
    "click",
    "concurrent",
    "dataclasses",
    "difflib",
    "email",
    "filelock",
    "hashlib",
    "inspect",
    "logging",
}
SLOW |= {
    "platformdirs",
    "random",
    "secrets",
    "shutil",
    "ssl",
    "subprocess",
    "tempfile",
    "threading",
    "traceback",
    "uuid",
}
# Nor these, each 3 ms where Python alone takes 11: the record of a sandbox is found and read without them.
LIGHT = {
    "engine.decoding",
    "engine.files",
    "engine.lifecycle",
    "engine.state.instances",
    "engine.state.layout",
    "pathlib",
    "typing",
    "urllib",
    "vmm.channel.screen",
}

PROGRAM = """
import atexit, sys
arguments, sys.argv, before = sys.argv[1:], ["sandbox"], set(sys.modules)
atexit.register(lambda: print("IMPORTED", *sorted(set(sys.modules) - before), file=sys.stderr))
from engine.cli.main import main
main(arguments)
"""


def imported(sandbox: CommandLine, argv: Sequence[str], **env: str) -> tuple[int, set[str]]:
    """Exit code and modules of one command; of packages, their own names as well."""
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, *argv],
        cwd=sandbox.project,
        env=sandbox.environment(**env),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=DEADLINE_S,
    )
    words = done.stderr.splitlines()[-1].split()
    assert words[0] == "IMPORTED", done.stderr
    return done.returncode, {*words[1:], *(word.split(".")[0] for word in words[1:])}


@pytest.mark.parametrize(
    "argv", [("--help",), ("--version",), (), ("exec", "--help"), ("up", "--help"), ("completion", "zsh")], ids=" ".join
)
def test_help(sandbox: CommandLine, argv: tuple[str, ...]) -> None:
    code, modules = imported(sandbox, argv)
    assert code == 0 and not modules & (HEAVY | CHANNEL | {"filelock", "platformdirs"})


@pytest.mark.usefixtures("fake")
def test_commands_that_talk(sandbox: CommandLine, me: str) -> None:
    for argv in (
        ("exec", "-u", me, "--", "true"),
        ("exec", "-i", "-u", me, "-e", "A=b", "-w", "/", "shop", "--", "true"),
    ):
        code, modules = imported(sandbox, argv)
        assert code == 0 and modules & (HEAVY | SLOW | LIGHT) == set()
        assert "vmm.channel.attach" in modules
    code, modules = imported(sandbox, ("exec", "-u", me, "true"))
    assert code == 0 and not modules & (HEAVY | CHANNEL - {"vmm"})
    code, modules = imported(sandbox, ("cp", "shop:/no/such/file", "."))
    assert code == 1 and not modules & HEAVY
    assert "asyncio" in modules


@pytest.mark.usefixtures("fake")
def test_completion(sandbox: CommandLine) -> None:
    for line in ("sandbox ", "sandbox exec -n s", "sandbox logs w"):
        variables = {
            "COMP_WORDS": line,
            "COMP_CWORD": str(len(line.split(" ")) - 1),
            "_SANDBOX_COMPLETE": "bash_complete",
        }
        code, modules = imported(sandbox, (), **variables)
        assert code == 0 and not modules & (HEAVY | CHANNEL | {"filelock", "platformdirs"})
        assert len([name for name in modules if name.startswith("engine.cli.commands.")]) == (line != "sandbox ")


@pytest.mark.usefixtures("fake")
@pytest.mark.parametrize("argv", [("ls",), ("ls", "--json"), ("console",), ("journal",)], ids=" ".join)
def test_commands_that_look(sandbox: CommandLine, argv: tuple[str, ...]) -> None:
    code, modules = imported(sandbox, argv)
    assert code == 0 and not modules & HEAVY
    assert "vmm" not in modules


def test_logs_and_down(sandbox: CommandLine) -> None:
    for argv in (("logs",), ("down",)):
        _, modules = imported(sandbox, argv)
        assert not modules & HEAVY


def test_this_would_notice(sandbox: CommandLine) -> None:
    sandbox.file('version: "1"\n')
    code, modules = imported(sandbox, ("validate",))
    assert code == 0 and {"pydantic", "ruamel"} <= modules
    assert not modules & {"networkx", "rich", "compose_spec", "asyncio", "click", "email"}


def test_a_call_that_only_the_parser_of_options_reads(sandbox: CommandLine) -> None:
    sandbox.file('version: "1"\n')
    for argv in (("validate", "."), ("validate", "Sandboxfile.yaml"), ("validate",)):
        fast, slow = sandbox(*argv), sandbox("validate", "--set", "machine.cpus=2", *argv[1:])
        assert fast.code == slow.code == 0 and fast.out == slow.out, argv
    fast, slow = sandbox("validate", "gone"), sandbox("validate", "--set", "machine.cpus=2", "gone")
    assert fast.code == slow.code == 2 and fast.err == slow.err
    assert "unexpected extra argument" in sandbox("validate", "a", "b").err
    assert "no such option" in sandbox("validate", "--jsn").err.lower()
    assert "Usage: sandbox validate" in sandbox("validate", "-h").out


DEFERRED = """
import sys
from engine.cli.deferred import defer_metadata
defer_metadata()
import pydantic, importlib
class Model(pydantic.BaseModel):
    number: int
assert Model(number="1").number == 1 and "email" not in sys.modules
import importlib.metadata
assert "email" not in sys.modules
from importlib.metadata import entry_points, version
assert version("click") and [*entry_points(group="console_scripts")]
assert sys.modules["importlib.metadata"].PackageNotFoundError and "email" in sys.modules
"""


def test_a_deferred_module_is_there_when_it_is_wanted() -> None:
    done = subprocess.run([sys.executable, "-c", DEFERRED], capture_output=True, text=True, timeout=DEADLINE_S)
    assert done.returncode == 0, done.stderr


def test_a_refused_file_costs_no_more_than_reading_it(sandbox: CommandLine) -> None:
    sandbox.file('version: "1"\nmounts: [./nowhere:/workspace]\n')
    for command in ("up", "plan"):
        code, modules = imported(sandbox, (command,))
        assert code == 2 and not modules & {"networkx", "rich", "h11", "compose_spec"}


def test_an_interrupt_while_code_is_made_of_text_has_its_exit_code(tmp_path: Path) -> None:
    """Python remembers that one, and `python -m` would end by the signal although it was caught."""
    script = """
import engine.cli.main as program
program._run_light = lambda arguments: exec("raise KeyboardInterrupt")
program.main()
"""
    (tmp_path / "interrupted_program.py").write_text(script)
    command = [sys.executable, "-m", "interrupted_program"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=DEADLINE_S)
    assert (done.returncode, done.stderr) == (130, "interrupted\n")
