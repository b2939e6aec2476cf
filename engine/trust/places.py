"""Directories of a host that the user must not share unknowingly: homes, credentials, the system, our own state."""

from __future__ import annotations

import os
import pwd
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

# Path below a home directory -> what is there.
CREDENTIALS: Mapping[str, str] = {
    ".ssh": "your SSH keys",
    ".gnupg": "your GnuPG keys",
    ".aws": "your AWS credentials",
    ".azure": "your Azure credentials",
    ".config/gcloud": "your Google Cloud credentials",
    ".kube": "your Kubernetes credentials",
    ".docker": "your logins to registries",
    ".config/containers": "your logins to registries",
    ".config/gh": "your GitHub login",
    ".config/glab-cli": "your GitLab login",
    ".config/op": "your 1Password settings",
    ".password-store": "your passwords",
    ".local/share/keyrings": "your keyrings",
    ".local/share/kwalletd": "your wallets",
    ".local/share/python_keyring": "your keyring",
    "Library/Keychains": "your keychains",
    ".mozilla": "your browser's passwords and cookies",
    ".config/google-chrome": "your browser's passwords and cookies",
    ".config/chromium": "your browser's passwords and cookies",
    ".config/BraveSoftware": "your browser's passwords and cookies",
    "Library/Application Support/Google/Chrome": "your browser's passwords and cookies",
    "Library/Application Support/Firefox": "your browser's passwords and cookies",
    ".thunderbird": "your mail and its passwords",
    ".cargo": "your login to the crate registry",
    ".m2": "your logins to Maven repositories",
    ".gradle": "your logins to repositories",
    ".terraform.d": "your Terraform credentials",
    ".claude": "your login to Claude",
    ".codex": "your login to Codex",
    ".gemini": "your login to Gemini",
    ".config": "the settings and logins of your programs",
}

# Files in a home directory that hold credentials, for secrets that name a file.
CREDENTIAL_FILES = (".netrc", ".git-credentials", ".npmrc", ".pypirc", ".vault-token", ".pgpass", ".my.cnf")

# Directories of the system. For those in _SYSTEM, everything below them is as sensitive as they are.
_ROOT = {"/": "everything on this host"}
_HOMES = {"/home": "everybody's home directories", "/Users": "everybody's home directories"}
_SYSTEM = {
    "/root": "root's home directory",
    "/etc": "this host's configuration, with its keys and passwords",
    "/proc": "all your processes, with their environments and memory",
    "/sys": "this host's devices and settings",
    "/dev": "this host's devices",
    "/run": "the sockets and run-time secrets of this host's services",
    "/var/run": "the sockets and run-time secrets of this host's services",
    "/boot": "this host's kernel and boot loader",
    "/var/lib/docker": "the containers of this host",
}


@dataclass(frozen=True)
class Places:
    """The sensitive places of a host: the `homes` of this user, and our `own` directories with what is in them."""

    homes: tuple[Path, ...]
    own: Mapping[Path, str]

    @classmethod
    def of_user(cls, own: Mapping[Path, str]) -> Places:
        """The places of the user who runs this process. Both homes count: $HOME and the one that the system names."""
        homes = [os.environ.get("HOME", ""), _home_of_user()]
        return cls(tuple(dict.fromkeys(Path(home).resolve() for home in homes if home.startswith("/"))), own)

    def why_sensitive(self, path: Path) -> str:
        """Why sharing the real path `path` deserves a warning; "" for most paths."""
        for place, what in _ROOT.items():
            if _same(path, Path(place)):
                return f"this is {place}: {what}"
        for home in self.homes:
            if home != Path("/") and (path == home or home.is_relative_to(path) or _same(path, home)):
                where = "this is" if path == home or _same(path, home) else f"it contains {home},"
                return f"{where} your home directory: your keys, your logins, and what runs when you log in"
        reasons = [*self._below_homes(path), *self._of_system(path), *self._own(path)]
        return "; ".join(dict.fromkeys(reasons))

    def _below_homes(self, path: Path) -> Iterator[str]:
        for home in self.homes:
            for name, what in CREDENTIALS.items():
                place = home / name
                # ~/.config as a whole is sensitive; any single directory below it, such as a project, is not.
                below = name != ".config" and path.is_relative_to(place)
                if below or path == place or (place.is_relative_to(path) and place.exists()) or _same(path, place):
                    yield f"{what} ({place})"
            for name in CREDENTIAL_FILES:
                if path == home / name:
                    yield f"a file with credentials ({path})"

    def _of_system(self, path: Path) -> Iterator[str]:
        for name, what in {**_HOMES, **_SYSTEM}.items():
            place = Path(name)
            if any(home == place for home in self.homes):
                continue
            below = name in _SYSTEM and path.is_relative_to(place)
            if below or path == place or _same(path, place):
                yield f"{what} ({place})"

    def _own(self, path: Path) -> Iterator[str]:
        for place, what in self.own.items():
            if path.is_relative_to(place) or place.is_relative_to(path):
                yield f"{what} ({place})"


def _home_of_user() -> str:
    try:
        return pwd.getpwuid(os.getuid()).pw_dir
    except KeyError:  # a container's user may have no entry
        return ""


def _same(one: Path, other: Path) -> bool:
    """Whether both paths are the same directory, which may have two names through a bind mount."""
    try:
        return one.samefile(other)
    except OSError:
        return False
