"""Reading the arguments of `sandbox exec`, and running the command.

`exec` is called all day, and importing click would be half of its start. So this module reads calls of the usual form
by itself, with getopt; `commands/exec.py` has the same options for click, which reads every other call.
"""

from __future__ import annotations

import getopt
import os
import sys
from collections.abc import Sequence
from typing import NamedTuple

from engine.cli.attached import run_attached
from engine.cli.waking import choose_awake
from engine.lifecycle.selection import open_layout

USER = "agent"
_LONG = ["interactive", "tty", "name=", "workdir=", "env=", "user="]
_KNOWN = {f"--{name.rstrip('=')}" for name in _LONG}


class ExecCall(NamedTuple):
    """The options and the command of one call. `variables` are `K=V`, or `K` for the value of K in our environment."""

    command: tuple[str, ...]
    name: str | None = None
    interactive: bool = False
    tty: bool = False
    workdir: str | None = None
    variables: tuple[str, ...] = ()
    user: str = USER


def read_call(arguments: Sequence[str]) -> ExecCall | None:
    """The call, if it has the form `[OPTIONS] [NAME] -- COMMAND...` and no mistake; else None.

    For None the caller lets click read the arguments: click prints the help and the messages. Whatever this function
    reads, click would read in the same way.
    """
    if "--" not in arguments:
        return None
    at = arguments.index("--")
    # getopt accepts abbreviated long options, and click does not.
    if any(word.startswith("--") and word.partition("=")[0] not in _KNOWN for word in arguments[:at]):
        return None
    try:
        options, words = getopt.gnu_getopt(list(arguments[:at]), "itn:w:e:u:", _LONG)
    except getopt.GetoptError:
        return None
    call = ExecCall(tuple(arguments[at + 1 :]))
    for option, value in options:
        match option:
            case "-i" | "--interactive":
                call = call._replace(interactive=True)
            case "-t" | "--tty":
                call = call._replace(tty=True)
            case "-n" | "--name":
                call = call._replace(name=value)
            case "-w" | "--workdir":
                call = call._replace(workdir=value)
            case "-e" | "--env":
                call = call._replace(variables=(*call.variables, value))
            case "-u" | "--user":
                call = call._replace(user=value)
    if len(words) > 1 or (words and call.name):
        return None
    if words:
        call = call._replace(name=words[0])
    return None if find_mistake(call) else call


def find_mistake(call: ExecCall) -> tuple[str, str | None] | None:
    """What is wrong with a call, and the option that the mistake is in; None for a good call."""
    if not call.command:
        return "no command is given, such as: sandbox exec -- ls -l", None
    for text in call.variables:
        key, equals, _ = text.partition("=")
        if not key:
            return f"{text!r} is not NAME=VALUE", "-e"
        if not equals and key not in os.environ:
            return f"{key!r} has no value here: write {key}=VALUE", "-e"
    if call.tty and not (sys.stdin.isatty() if call.interactive else sys.stdout.isatty()):
        return "-t needs a terminal; leave it out in scripts", None
    return None


def run_call(call: ExecCall) -> int:
    """Run the command of a call that has no mistakes; return its exit code. Raises EngineError and GuestError."""
    instance, control = choose_awake(open_layout(), call.name)
    return run_attached(
        control,
        call.command,
        tty=call.tty,
        interactive=call.interactive,
        user=call.user,
        cwd=call.workdir or instance.working_directory,
        env=dict(_variable(text) for text in call.variables),
    )


def _variable(text: str) -> tuple[str, str]:
    key, equals, value = text.partition("=")
    return key, value if equals else os.environ[key]
