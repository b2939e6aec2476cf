"""`sandbox`: the console script, and the list of its commands."""

from __future__ import annotations

import gc
import os
import sys
from typing import Any, NoReturn

PROGRAM = "sandbox"
COMPLETE = "_SANDBOX_COMPLETE"  # set by the shell while a line is typed: click's protocol

# Section -> name -> what it does; one module of this package for each, with a `command` in it.
SECTIONS = {
    "Commands": {
        "init": "Write a first Sandboxfile.yaml.",
        "up": "Start the sandbox that Sandboxfile.yaml describes.",
        "exec": "Run a command in a sandbox.",
        "cp": "Copy files into or out of a sandbox.",
        "ls": "List sandboxes.",
        "down": "Stop sandboxes and remove everything they left.",
    },
    "The file": {
        "add": "Add an endpoint, mount, service, port or package.",
        "validate": "Check a Sandboxfile.yaml.",
        "config": "Show the resolved file, and where each value came from.",
        "plan": "Show what `up` would do, and why.",
        "graph": "Draw what is built from what.",
        "trust": "List and revoke what files may ask of this host.",
    },
    "Looking closer": {
        "logs": "Show what services printed.",
        "journal": "Show what the network gateway allowed and refused.",
        "console": "Show the guest's serial console.",
        "doctor": "Show tools, accelerator and directories.",
        "completion": "Print shell completion for bash, zsh or fish.",
    },
}
COMMANDS = {name: text for section in SECTIONS.values() for name, text in section.items()}


def main(arguments: list[str] | None = None) -> NoReturn:
    """The console script: runs one command and ends the process with its exit code."""
    # Imports make many objects and hardly any garbage: searching them all for it again and again is 5 % of a start.
    gc.set_threshold(100_000, 20, 100)
    from engine.cli.boundary import guarded

    code = guarded(lambda: _run(sys.argv[1:] if arguments is None else arguments))
    gc.freeze()  # nor need the last search of all, at exit, look at them
    sys.exit(code)


def _run(arguments: list[str]) -> Any:
    if arguments[:1] == ["exec"] and not os.environ.get(COMPLETE):
        # A command that people and scripts call all day: its usual forms do without click, which is half of its start.
        from engine.cli.exec_call import read_call, run_call

        if call := read_call(arguments[1:]):
            return run_call(call)
    from engine.cli.group import run

    return run(arguments)


if __name__ == "__main__":
    main()
