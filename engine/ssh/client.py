"""What the host's ssh is told about sandboxes: one `Host` block for each, with names and paths written out.

There is no token of ssh's, such as %h, in a command: what a user or a repository makes ssh connect to never reaches a
shell. The guest is hostile, so nothing of this host is offered to it: no agent, no display, no variable.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from engine.errors import EngineError

DOMAIN = "sandbox"
# ssh's configuration has quotes, escapes and tokens of its own, each different: such a path could be read two ways.
_PLAIN = re.compile(r"[A-Za-z0-9/._+@,=-]+")

_HELD = """\
  IdentitiesOnly yes
  IdentityAgent none
  AddKeysToAgent no
  PreferredAuthentications publickey
  PubkeyAuthentication yes
  PasswordAuthentication no
  KbdInteractiveAuthentication no
  HostbasedAuthentication no
  GSSAPIAuthentication no
  GSSAPIDelegateCredentials no
  StrictHostKeyChecking yes
  HostKeyAlgorithms ssh-ed25519
  GlobalKnownHostsFile /dev/null
  UpdateHostKeys no
  VerifyHostKeyDNS no
  CheckHostIP no
  CanonicalizeHostname no
  ForwardAgent no
  ForwardX11 no
  ForwardX11Trusted no
  Tunnel no
  PermitLocalCommand no
  ControlMaster no
  ControlPath none
  SendEnv -*
"""


def alias_of(name: str) -> str:
    """What ssh calls the sandbox `name`."""
    return f"{name}.{DOMAIN}"


def known_hosts(name: str, public: str) -> str:
    """The file that pins the guest's key."""
    return f"{alias_of(name)} {public}\n"


def host_block(
    name: str, *, user: str, identity: Path, known: Path, program: Sequence[str], environment: Mapping[str, str]
) -> str:
    """The block for one sandbox; `program` and `environment` start our `ssh-proxy`.

    `name` is a sandbox's name, which has no character that ssh or a shell would read as anything else. Raises
    EngineError for a path that has one.
    """
    alias = alias_of(name)
    proxy = [*program, "ssh-proxy", "--user", user, "--", name]
    words = ["env", *(f"{key}={value}" for key, value in sorted(environment.items())), *proxy]
    lines = [
        f"Host {alias}",
        f"  HostName {alias}",
        f"  HostKeyAlias {alias}",
        f"  User {_plain(user)}",
        f"  ProxyCommand {' '.join(map(_plain, words))}",
        f"  IdentityFile {_plain(str(identity))}",
        f"  UserKnownHostsFile {_plain(str(known))}",
    ]
    return "\n".join(lines) + "\n" + _HELD


def include_file(instances: Path, program: Sequence[str]) -> str:
    """The file that ~/.ssh/config includes: the blocks of all sandboxes, and what becomes of every other alias.

    Without the last part ssh would ask the network's DNS for the name of a sandbox that has gone. Raises EngineError as
    `host_block` does.
    """
    say = " ".join(map(_plain, (*program, "ssh-proxy")))  # without a name it says that there is none
    return f"Include {_plain(str(instances))}/*/ssh/config\n\nHost *.{DOMAIN}\n  ProxyCommand {say}\n" + _HELD


def include_line(file: Path) -> str:
    """The line for ~/.ssh/config. Raises EngineError as `host_block` does."""
    return f"Include {_plain(str(file))}"


def with_line(text: str, line: str) -> str:
    """A configuration that has our line before its first block: further down it would be part of the block there."""
    before = re.split(r"(?im)^[ \t]*(?:host|match)[ \t=]", text, maxsplit=1)[0]
    return text if line in before.splitlines() else f"{line}\n{without_line(text, line)}"


def without_line(text: str, line: str) -> str:
    """A configuration without our line."""
    return "".join(each for each in text.splitlines(keepends=True) if each.rstrip("\r\n") != line)


def _plain(text: str) -> str:
    if not _PLAIN.fullmatch(text):
        raise EngineError(
            f"ssh's configuration cannot name {text!r}",
            details="it may have letters, digits and / . _ + @ , = - alone: all else can be read in two ways there",
            hint="SANDBOX_STATE_DIR and SANDBOX_RUNTIME_DIR choose other directories",
        )
    return text
