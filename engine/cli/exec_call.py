"""Reading the arguments of `sandbox exec`, and running the command.

`exec` is called all day, and importing click would be half of its start. So this module reads calls of the usual form
by itself, with getopt; `commands/exec.py` has the same options for click, which reads every other call.
"""

from __future__ import annotations

import getopt
import os
import sys

from engine.cli.attached import run_attached
from engine.state.awake import Awake, find_awake

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

USER = "agent"
_LONG = ["interactive", "tty", "name=", "workdir=", "env=", "user="]
_KNOWN = {f"--{name.rstrip('=')}" for name in _LONG}


class ExecCall:
    """The options and the command of one call. `variables` are `K=V`, or `K` for the value of K in our environment."""

    def __init__(
        self,
        command: tuple[str, ...],
        name: str | None = None,
        interactive: bool = False,
        tty: bool = False,
        workdir: str | None = None,
        variables: tuple[str, ...] = (),
        user: str = USER,
    ) -> None:
        self.command = command
        self.name = name
        self.interactive = interactive
        self.tty = tty
        self.workdir = workdir
        self.variables = variables
        self.user = user

    def __eq__(self, other: object) -> bool:
        return isinstance(other, ExecCall) and vars(self) == vars(other)


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
                call.interactive = True
            case "-t" | "--tty":
                call.tty = True
            case "-n" | "--name":
                call.name = value
            case "-w" | "--workdir":
                call.workdir = value
            case "-e" | "--env":
                call.variables += (value,)
            case "-u" | "--user":
                call.user = value
    if len(words) > 1 or (words and call.name):
        return None
    if words:
        call.name = words[0]
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
    sandbox = find_awake(os.environ, call.name) or _choose(call.name)
    return run_attached(
        sandbox.control,
        call.command,
        tty=call.tty,
        interactive=call.interactive,
        user=call.user,
        cwd=call.workdir or sandbox.working_directory,
        env=dict(_variable(text) for text in call.variables),
    )


def _choose(name: str | None) -> Awake:
    """By all that is known: it is woken, or what keeps it from running a command is said. Raises EngineError."""
    from engine.cli.waking import choose_awake
    from engine.lifecycle.selection import open_layout

    instance, control = choose_awake(open_layout(), name)
    return Awake(str(control), instance.working_directory)


def _variable(text: str) -> tuple[str, str]:
    key, equals, value = text.partition("=")
    return key, value if equals else os.environ[key]
