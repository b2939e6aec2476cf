"""Completion in the shells themselves: what is offered when Tab is pressed."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pexpect
import pytest
from cli_world import DEADLINE_S, CommandLine, write_instance

from engine.cli.names import COMMANDS
from engine.state.layout import Layout
from sandboxfile.names import NAMED

FILE = """\
version: "1"
agents:
  front: {command: a}
  back: {command: b}
secrets: {github: {env: GH_TOKEN}}
services: {db: {image: postgres:17}, cache: {image: "redis:7"}}
"""
# What completes while a command line is typed; the shell's script calls the program, as in real life.
BASH = """
eval "$(sandbox completion bash)"
COMP_WORDS=({words}) COMP_CWORD={last}
_sandbox_completion sandbox
printf '%s\\n' "${{COMPREPLY[@]}}"
"""


@pytest.fixture
def shell_environment(sandbox: CommandLine, tmp_path: Path) -> dict[str, str]:
    """An environment in which `sandbox` is this one."""
    (programs := tmp_path / "bin").mkdir()
    (program := programs / "sandbox").write_text(f'#!/bin/sh\nexec {sys.executable} -m engine.cli.main "$@"\n')
    program.chmod(0o755)
    return sandbox.environment(PATH=f"{programs}{os.pathsep}{os.environ['PATH']}", TERM="dumb")


def bash(line: str, cwd: Path, environment: dict[str, str]) -> set[str]:
    words = line.split(" ")
    quoted = " ".join(f"'{word}'" for word in words)
    script = BASH.format(words=quoted, last=len(words) - 1)
    done = subprocess.run(
        ["bash", "--norc", "-c", script], cwd=cwd, env=environment, capture_output=True, text=True, timeout=DEADLINE_S
    )
    assert done.returncode == 0 and done.stderr == "", done.stderr
    return set(done.stdout.split())


def fish(line: str, cwd: Path, environment: dict[str, str]) -> set[str]:
    script = f"sandbox completion fish | source; complete -C '{line}'"
    done = subprocess.run(
        ["fish", "--no-config", "-c", script],
        cwd=cwd,
        env=environment,
        capture_output=True,
        text=True,
        timeout=DEADLINE_S,
    )
    assert done.returncode == 0 and done.stderr == "", done.stderr
    return {row.split("\t")[0] for row in done.stdout.splitlines()}


def zsh(line: str, cwd: Path, environment: dict[str, str]) -> set[str]:
    """A terminal: only there zsh completes. `^X?` prints all that is offered, in place of a menu."""
    prepare = [
        "PS1='READY> '",
        "autoload -U compinit && compinit -u -d $HOME/.zcompdump",
        'eval "$(sandbox completion zsh)"',
        "unsetopt auto_menu; zstyle ':completion:*' list-packed no; LISTMAX=0; setopt no_list_packed",
        # what is found is printed instead of inserted
        "compadd() { local -a found; if [[ ${@[(I)-[OAD]]} -gt 0 ]]; then builtin compadd $@; return; fi;"
        " builtin compadd -O found $@; print -rl -- ${(@)found/#/OFFERED:} >> $HOME/offered; builtin compadd $@ }",
    ]
    (home := Path(environment["HOME"])).mkdir(exist_ok=True)
    (home / ".zshrc").write_text("\n".join([*prepare, ""]))
    env = {**environment, "ZDOTDIR": str(home), "COLUMNS": "200"}
    offered = home / "offered"
    offered.unlink(missing_ok=True)
    child = pexpect.spawn("zsh", ["-i"], cwd=str(cwd), env=env, timeout=DEADLINE_S, dimensions=(60, 200))
    try:
        child.expect_exact("READY> ")
        child.send(f"{line}\t")
        child.send("\x15print DO''NE\r")  # the rest of the line is forgotten
        child.expect_exact("DONE\r\n")
    finally:
        child.close(force=True)
    words = offered.read_text().splitlines() if offered.exists() else []
    return {word.removeprefix("OFFERED:") for word in words} - {""}


Shell = Callable[[str, Path, dict[str, str]], set[str]]
SHELLS = [
    pytest.param(shell, marks=pytest.mark.skipif(shutil.which(shell.__name__) is None, reason="it is not installed"))
    for shell in (bash, fish, zsh)
]


@pytest.mark.parametrize("shell", SHELLS)
def test_in_the_shell(shell: Shell, sandbox: CommandLine, layout: Layout, shell_environment: dict[str, str]) -> None:
    sandbox.file(FILE)
    write_instance(layout, "shop", project=str(sandbox.project))
    refused = {"verdict": "refused", "port": 443}
    lines = [{**refused, "host": "new.example.com"}, {**refused, "host": "db.example.com", "port": 5432}]
    lines += [{**refused, "host": "$(touch x).example"}, {**refused, "verdict": "allowed", "host": "old.example.com"}]
    (layout.instance("shop").journal).write_text("".join(f"{json.dumps(line)}\n" for line in lines))

    def offers(line: str) -> set[str]:
        return shell(line, sandbox.project, shell_environment)

    assert offers("sandbox ") == set(COMMANDS)
    assert offers("sandbox co") == {"config", "console", "completion"}
    assert offers("sandbox down ") >= {"shop"}
    assert offers("sandbox add s") == {"secret", "service"}
    assert offers("sandbox add endpoint ") == {"new.example.com", "db.example.com:5432", *NAMED}
    assert offers("sandbox endpoints show gi") == {"github"}
    assert offers("sandbox add endpoint x --secret ") == {"github"}
    assert offers("sandbox add port 1 --agent f") == {"front"}
    assert offers("sandbox add service x --depends-on ") == {"db", "cache"}
    assert offers("sandbox graph --format m") == {"mermaid"}
    assert offers("sandbox graph --f") == {"--format", "--file"}
    assert {"claude-code", "shell", "default"} <= offers("sandbox init ")


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_the_script(sandbox: CommandLine, shell: str) -> None:
    ran = sandbox("completion", shell)
    assert ran.code == 0 and "_SANDBOX_COMPLETE" in ran.out
