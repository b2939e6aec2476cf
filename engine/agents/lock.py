"""An npm lock file beside an `agent.yaml`: every package that an agent is made of, with its digest.

The format is that of npm's package-lock.json, version 3 (`npm help package-lock.json`), without the addresses of
the packages: they come from the registry that this host's npm is configured with.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from engine.errors import EngineError

LOCK_VERSION = 3
_WHERE = re.compile(
    r"node_modules/(@[a-z0-9~-][\w.~-]*/)?[\w~-][\w.~-]*(/node_modules/(@[\w~-][\w.~-]*/)?[\w~-][\w.~-]*)*"
)
_NAME = re.compile(r"(@[a-z0-9~-][\w.~-]*/)?[\w~-][\w.~-]*")
_VERSION = re.compile(r"[0-9][0-9A-Za-z.+-]{0,99}")
_INTEGRITY = re.compile(r"sha512-[A-Za-z0-9+/]{86}==")
_PROGRAM = re.compile(r"[\w][\w.-]*")
CPU = {"amd64": "x64", "arm64": "arm64"}  # Debian's names of architectures -> Node's
OS, LIBC = "linux", "glibc"


@dataclass(frozen=True)
class Locked:
    """One package of a list. `where` is its directory, from node_modules/ on; `programs` are (name, path in it)."""

    where: str
    name: str
    version: str
    integrity: str
    programs: tuple[tuple[str, str], ...] = ()


def read_lock(path: Path, architecture: str) -> tuple[Locked, ...]:
    """The packages that npm would install by this lock file on Linux, for Debian's `architecture`.

    Raises EngineError (exit code 2) for a file that cannot be read, and for a package without a digest.
    """
    shown = f"{path.parent.name}/{path.name}"
    try:
        lock = json.loads(path.read_text())
        if lock["lockfileVersion"] != LOCK_VERSION:
            raise _broken(shown, f"its lockfileVersion is {lock['lockfileVersion']}, and must be {LOCK_VERSION}")
        entries: Mapping[str, Mapping[str, Any]] = lock["packages"]
        chosen = {where: entry for where, entry in entries.items() if where and _is_for(entry, architecture)}
        # What comes in the archive of another package has no digest of its own.
        return tuple(_locked(where, entry, shown) for where, entry in chosen.items() if not entry.get("inBundle"))
    except OSError as error:
        raise _broken(shown, f"{error.strerror}") from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise _broken(shown, "it is no lock file of npm") from error


def _is_for(entry: Mapping[str, Any], architecture: str) -> bool:
    """Whether a package is for this system. npm's lists of systems may say which one it is not for: `!win32`."""
    here = {"os": OS, "cpu": CPU.get(architecture, architecture), "libc": LIBC}
    if entry.get("dev") or entry.get("devOptional"):
        return False
    return all(_allows(entry[key], value) for key, value in here.items() if key in entry)


def _allows(listed: list[str] | str, value: str) -> bool:
    names = [listed] if isinstance(listed, str) else listed
    wanted = [name for name in names if not name.startswith("!")]
    return f"!{value}" not in names and (not wanted or value in wanted or "any" in wanted)


def _locked(where: str, entry: Mapping[str, Any], shown: str) -> Locked:
    name = entry.get("name") or where.rpartition("node_modules/")[2]
    version, integrity, programs = entry["version"], entry.get("integrity", ""), entry.get("bin", {})
    if not (_WHERE.fullmatch(where) and _NAME.fullmatch(name) and _VERSION.fullmatch(version)):
        raise _broken(shown, f"{where[:200]} is no package of a registry")
    if not _INTEGRITY.fullmatch(integrity):
        raise _broken(shown, f"{where} has no sha512 digest")
    known = tuple((program, path) for program, path in programs.items() if _PROGRAM.fullmatch(program))
    return Locked(where, name, version, integrity, known)


def _broken(shown: str, why: str) -> EngineError:
    return EngineError(f"{shown}: {why}", hint="`python scripts/lock_agent.py NAME` makes one", exit_code=2)
