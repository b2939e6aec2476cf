"""git on this host, as a tool that looks: of a repository that somebody else may have written, nothing is run.

Hooks, file system monitors, filters, text conversions, external diffs, pagers and prompts are off, and no transport is
allowed, so that no missing object is fetched. The environment says it for each command, because a repository's own
configuration has less to say than that.
"""

from __future__ import annotations

import os
import subprocess
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from engine.errors import EngineError

GIT_S = 120.0
# What git may not run, whatever a configuration says. core.pager and diff.external have options of their own.
_OFF = {
    "core.hooksPath": os.devnull,
    "core.fsmonitor": "false",
    "core.sshCommand": "false",
    "core.alternateRefsCommand": "true",
    "protocol.allow": "never",
}
_KEPT = ("PATH", "HOME", "XDG_CONFIG_HOME", "LANG", "LC_ALL", "TMPDIR")


class NoGit(EngineError):
    """There is no git on this host."""

    def __init__(self) -> None:
        super().__init__(
            "git is not installed on this host", hint="install it: changes are compared and merged with it"
        )


def environment(own: bool) -> dict[str, str]:
    """The environment of a git command. `own`: of a repository of ours, which the user's settings do not concern."""
    given = {name: os.environ[name] for name in _KEPT if name in os.environ}
    given |= {"GIT_TERMINAL_PROMPT": "0", "GIT_OPTIONAL_LOCKS": "0", "GIT_NO_LAZY_FETCH": "1", "GIT_PAGER": "cat"}
    given |= {"GIT_ALLOW_PROTOCOL": "", "GIT_ASKPASS": "false", "SSH_ASKPASS": "false", "GIT_ADVICE": "0"}
    # A fetch writes down who it was. Where no configuration says that, git asks the network's DNS for this host's name.
    given["EMAIL"] = os.environ.get("EMAIL") or "sandbox@localhost"
    given["GIT_CONFIG_COUNT"] = str(len(_OFF))
    for number, (key, value) in enumerate(_OFF.items()):
        given |= {f"GIT_CONFIG_KEY_{number}": key, f"GIT_CONFIG_VALUE_{number}": value}
    if own:
        given |= {"GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_NOSYSTEM": "1", "GIT_ATTR_NOSYSTEM": "1"}
        given["GIT_CEILING_DIRECTORIES"] = tempfile.gettempdir()
    return given


def run_git(
    arguments: Sequence[str],
    directory: Path,
    *,
    own: bool = False,
    stdin: bytes = b"",
    more: Mapping[str, str] | None = None,
    codes: Iterable[int] = (0,),
) -> subprocess.CompletedProcess[bytes]:
    """Run git in `directory`, for GIT_S seconds at most. Raises NoGit, and EngineError for a code not in `codes`."""
    env = environment(own) | dict(more or {})
    try:
        ran = subprocess.run(
            ["git", "-C", str(directory), *arguments], input=stdin, capture_output=True, env=env, timeout=GIT_S
        )
    except FileNotFoundError:
        raise NoGit from None
    except subprocess.TimeoutExpired as error:
        raise EngineError(f"git {_name(arguments)} took longer than {GIT_S:.0f} s", hint="try again") from error
    if ran.returncode not in set(codes):
        said = ran.stderr.decode(errors="replace").strip()
        raise EngineError(f"git {_name(arguments)} failed", details=said or f"it ended with code {ran.returncode}")
    return ran


def _name(arguments: Sequence[str]) -> str:
    """Which command of git it is; `-c KEY=VALUE` may stand before it."""
    return next(word for word in arguments if not word.startswith("-") and "=" not in word)
