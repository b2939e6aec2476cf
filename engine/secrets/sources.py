"""Where a secret's value comes from, and reading it there.

A file from a repository may name a variable, a file or an entry that the user keeps; a command only the user's own
configuration (settings.py). Values are told to redaction.py as soon as they are read.
"""

from __future__ import annotations

import contextlib
import os
import re
import shlex
import stat
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from engine.secrets.errors import SecretError
from engine.secrets.redaction import MIN_LENGTH, hold, outdate, redact_held
from engine.secrets.store import SESSION, Store
from vmm.beneath import DIRECTORY, FILE, LinkInTheWay, open_beneath
from vmm.process import ask

SourceKind = Literal["env", "file", "keyring", "command"]

MAX_BYTES = 16 * 1024  # of a value; a header of that size is already more than most servers take
COMMAND_S = 60.0  # it may ask for a fingerprint
EVERY_S = 300.0  # how often a command is asked again, unless the user says otherwise

_UNUSABLE = re.compile(r"[^\x20-\x7e]")


@dataclass(frozen=True)
class Source:
    """One place. `where` is the variable, the file's real path, the entry's name, or the name of the program.

    `argv` and `every_s` are a command's: it is asked again after so many seconds. Its arguments are never shown.
    """

    kind: SourceKind
    where: str
    argv: tuple[str, ...] = ()
    every_s: float = EVERY_S

    @property
    def label(self) -> str:
        words = {"env": "variable", "file": "file", "keyring": "keyring entry", "command": "command"}
        return f"{words[self.kind]} {self.where}"

    @property
    def set_by(self) -> str:
        """The one command that gives it a value; nothing for what has a command of its own."""
        name = shlex.quote(self.where)
        return {"env": f"export {name}=...", "keyring": f"sandbox secret set {name}"}.get(self.kind, "")


def command_source(argv: Sequence[str], every_s: float = EVERY_S) -> Source:
    return Source("command", Path(argv[0]).name, tuple(argv), every_s)


def read_source(
    source: Source,
    environment: Mapping[str, str],
    store: Store,
    tell: Callable[[str], None] = lambda warning: None,
) -> str:
    """The value that is there now. Waits up to COMMAND_S for a command. Raises SecretError that says what is wrong.

    `environment` are the variables that are looked at, and those of a command. `tell` hears of warnings.
    """
    if source.kind == "env":
        text = environment.get(source.where)
        if text is None:
            raise SecretError(f"{source.label} is not set")
    elif source.kind == "file":
        text = _decode(read_private(source.where, tell), source.label)
    elif source.kind == "keyring":
        text = store.get(source.where)
        if text is None:
            raise SecretError(f"{source.label}: you keep nothing of that name")
    else:
        text = _decode(_ask_command(source, environment), source.label)
    return hold(check_value(text, source.label))


def read_first(
    name: str,
    sources: Sequence[Source],
    environment: Mapping[str, str],
    store: Store,
    tell: Callable[[str], None] = lambda warning: None,
) -> tuple[str, Source]:
    """The value of the secret `name` in the first of its sources that has one, and which that is.

    Raises SecretError that says what was looked for, where, and the command that sets it.
    """
    tried = []
    for source in sources:
        try:
            return read_source(source, environment, store, tell), source
        except SecretError as error:
            tried.append(error.brief + (f" ({error.details})" if error.details else ""))
    by = next((source.set_by for source in reversed(sources) if source.set_by), f"sandbox secret set {name}")
    raise SecretError(f"the secret {name} has no value", "\n".join(tried) or None, f"`{by}` gives it one")


def needed_environment(sources: Sequence[Source], environment: Mapping[str, str]) -> dict[str, str]:
    """What of `environment` a process needs that reads these sources: all of it only where there is a command."""
    if any(source.kind == "command" for source in sources):
        return dict(environment)
    names = {source.where for source in sources if source.kind == "env"}
    if any(source.kind == "keyring" for source in sources):
        names.update(SESSION)
    return {name: environment[name] for name in names if name in environment}


def check_value(text: str, label: str) -> str:
    """The text without the one line end that files and commands have; what cannot be sent in a header is refused.

    Raises SecretError, which says what is wrong and not what the text is.
    """
    value = text.removesuffix("\n").removesuffix("\r")
    hold(value)  # also what is refused is nobody's to see
    problem = None
    if not value:
        problem = "is empty"
    elif len(value.encode("utf-8", "surrogateescape")) > MAX_BYTES:
        problem = f"is longer than {MAX_BYTES // 1024} KiB"
    elif "\n" in value or "\r" in value:
        problem = "has more than one line"
    elif _UNUSABLE.search(value):
        problem = "has characters that no header may have: only printable ASCII can be sent"
    elif value != value.strip():
        problem = "begins or ends with a space"
    elif len(value) < MIN_LENGTH:
        problem = f"is shorter than {MIN_LENGTH} characters: it could not be kept out of texts"
    if problem is not None:
        outdate(value)
        raise SecretError(f"the value of {label} {problem}")
    return value


def read_private(path: str, tell: Callable[[str], None] = lambda warning: None) -> bytes:
    """At most MAX_BYTES + 3 bytes of the file at the real `path`; `tell` hears when others can read it.

    No link is followed, in no directory: a guest that can write there would choose what is read. Raises SecretError.
    """
    try:
        with contextlib.ExitStack() as stack:
            root = os.open("/", DIRECTORY)
            stack.callback(os.close, root)
            descriptor = open_beneath(root, path.lstrip("/"), FILE)
            stack.callback(os.close, descriptor)
            mode = os.fstat(descriptor).st_mode
            if not stat.S_ISREG(mode):
                raise SecretError(f"file {path} is not a regular file")
            if mode & 0o077:
                tell(f"{path} can be read by others (mode {stat.S_IMODE(mode):04o}): chmod 600 {path}")
            with os.fdopen(descriptor, "rb", closefd=False) as file:
                return file.read(MAX_BYTES + 3)  # and a line end
    except LinkInTheWay as error:
        raise SecretError(f"file {path} cannot be read: /{error.component} is a link now") from None
    except OSError as error:
        raise SecretError(f"file {path} cannot be read: {error.strerror}") from None


def real_path(path: Path) -> str:
    """What a file source's `where` is: links are followed now, and not again when it is read."""
    return str(path.expanduser().resolve())


def _decode(data: bytes, label: str) -> str:
    try:
        return data.decode()
    except UnicodeDecodeError:
        raise SecretError(f"the value of {label} is not text") from None


def _ask_command(source: Source, environment: Mapping[str, str]) -> bytes:
    done = ask(source.argv, timeout_s=COMMAND_S, env=environment)
    if done is None:
        raise CommandUnanswered(f"{source.label} cannot be started, or did not answer within {COMMAND_S:.0f} s")
    if done.code:
        last = done.stderr.decode(errors="replace").strip().splitlines()[-1:]
        raise SecretError(f"{source.label} failed with code {done.code}", redact_held(last[0]) if last else None)
    return done.stdout[: MAX_BYTES + 3]


class CommandUnanswered(SecretError):
    """A command that said neither that there is a value nor that there is none."""
